"""Where data and results lie: below the folder HRMAS_HOME if that is set, else below the working directory."""

import os
from pathlib import Path

from hrmas_sparse import environment
from hrmas_sparse.storage.errors import InputError


def home() -> Path:
    """The folder that holds ``data/`` and ``runs/out/``.

    Raises
    ------
    InputError
        HRMAS_HOME begins with a ``~`` that stands for no known folder, or is a file.
    """
    text = os.environ.get("HRMAS_HOME") or "."
    try:
        path = environment.user_path(text)
    except ValueError as error:
        raise InputError(f"HRMAS_HOME: expected {error}, found {text!r}") from None
    if path.exists() and not path.is_dir():
        raise InputError(f"HRMAS_HOME: expected a folder, found the file {text!r}")
    return path


def out() -> Path:
    """The folder of runs and experiments, ``runs/out``."""
    return home() / "runs" / "out"


def cache() -> Path:
    """The folder of spike caches, ``data/cache``."""
    return home() / "data" / "cache"


def raw(dataset: str) -> Path:
    """The folder where the recordings of a data set are looked for, ``data/raw/<data set>``."""
    return home() / "data" / "raw" / dataset
