"""Fixtures of the engine's tests; the helpers around them are in dense.py."""

import pytest

from hrmas_sparse.backends import get_backend


@pytest.fixture(scope="session")
def backend():
    """One backend for all tests, on purpose: whatever an earlier test left in its buffers must not matter."""
    return get_backend("cpu")
