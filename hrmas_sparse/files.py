"""Text and JSON files: written whole or not at all, checked when read."""

import json
from pathlib import Path

from hrmas_sparse.atomic import atomic_write
from hrmas_sparse.errors import InputError


def write_text(path, text):
    """Write a text file atomically."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write a JSON file atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path):
    """Read a JSON object.

    Raises
    ------
    InputError
        The file is missing or does not hold a JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
