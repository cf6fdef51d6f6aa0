"""JSON and TOML that may come from anybody: the one place where they are read and held against a form.

What is read is data, not to be trusted: nothing nested deeper than `DEEPEST`, no text that cannot be written out again,
no number that is none. A form says what must be there; see :func:`fits`.
"""

import json
import math
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import Damaged, InputError

LARGEST_JSON = 1 << 28  # bytes; an architecture in which every connection has its own type is the largest we write
LARGEST_TOML = 1 << 20
COPIES = 12             # a list of small numbers takes so many times the memory of its text
DEEPEST = 16            # objects in objects


class NotToml(InputError):
    """A text that is no TOML."""


def read_json(path: str | Path, form: Any = None) -> dict:
    """Read a JSON object from a file of our own.

    Parameters
    ----------
    path : the file
    form : what it must look like, see :func:`fits`, or None

    Raises
    ------
    InputError
        The file is missing or no regular file.
    Damaged
        It is too large, does not hold a JSON object, or not one of that form.
    """
    value = parsed_json(read_text(path, LARGEST_JSON, COPIES), path)
    if not isinstance(value, dict):
        raise Damaged(f"{path}: expected a JSON object, found {type(value).__name__}")
    for key, wanted in (form or {}).items():
        if not fits(value, {key: wanted}):
            raise Damaged(f"{path}: {key.rstrip('?')}: missing or not what belongs there")
    return value


def parsed_json(text: str | bytes, where: object) -> Any:
    """The value that a text of JSON stands for; Damaged, naming ``where``, if it is none that we would write."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError, MemoryError) as error:
        raise Damaged(f"{where}: not JSON ({str(error)[:100] or type(error).__name__})") from error
    problem = _problem(value)
    if problem:
        raise Damaged(f"{where}: {problem}")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _problem(value: Any, finite: bool = True) -> str:
    """What is wrong with a value of JSON or TOML, whatever form it should have; empty if nothing."""
    level = [value]
    for _ in range(DEEPEST):
        below: list = []
        for entry in level:
            if isinstance(entry, dict):
                below += entry.keys()
                below += entry.values()
            elif isinstance(entry, list):
                if not (entry and all(type(x) is int for x in entry)):  # a million types of connections
                    below += entry
            elif isinstance(entry, str):
                if not entry.isascii() and any("\ud800" <= c <= "\udfff" for c in entry):
                    return "text that is no Unicode"
            elif finite and isinstance(entry, float) and not math.isfinite(entry):
                return "a number that is not finite"
        if not below:
            return ""
        level = below
    return f"nested deeper than {DEEPEST} levels"


def read_toml(path: str | Path, shown: object = None) -> dict:
    """Read a TOML file of the user's.

    Parameters
    ----------
    path : the file
    shown : what it is called in messages, default ``path``

    Raises
    ------
    InputError
        It is missing, no regular file, too large, or not TOML.
    """
    where = shown or path
    try:
        return parsed_toml(read_text(path, LARGEST_TOML, own=False), where)
    except Damaged as error:
        raise NotToml(f"{where}: not a TOML file ({error})") from error


def parsed_toml(text: str, where: object) -> dict:
    """The table that a text of TOML stands for; InputError, naming ``where``, if it is none that can be used."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(f"{where}: not a TOML file: {str(error)[:200]}") from None
    except (RecursionError, MemoryError):
        raise InputError(f"{where}: nested too deeply") from None
    except ValueError:
        raise InputError(f"{where}: a number has too many digits") from None
    problem = _problem(value, finite=False)
    if problem:
        raise InputError(f"{where}: {problem}")
    return value


def read_text(path: str | Path, largest: int, copies: int = 2, own: bool = True) -> str:
    """Read a text file of at most ``largest`` bytes; other parameters as of :func:`hrmas_sparse.storage.files.read`."""
    try:
        return files.read(path, own, largest, copies).decode("utf-8-sig")  # editors of Windows put a mark first
    except UnicodeDecodeError as error:
        raise Damaged(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start})") from error


def fits(value: Any, form: Any) -> bool:
    """Whether a value read from JSON or TOML has a form.

    A form is None, bool, int, float, str, a set of allowed values, [form] of every entry of a list,
    {"key": form, ...} of an object's keys, others allowed, "key?" where it may be missing, {str: form} of any
    object, or a tuple of alternatives. Numbers are finite and of moderate size and text is printable.
    """
    if isinstance(form, tuple):
        return any(fits(value, kind) for kind in form)
    if isinstance(form, set):
        return isinstance(value, (str, int)) and not isinstance(value, bool) and value in form
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(entry, form[0]) for entry in value)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        if str in form:
            return all(key.isprintable() and fits(entry, form[str]) for key, entry in value.items())
        return all(fits(value[name], wanted) if (name := key.rstrip("?")) in value else name != key
                   for key, wanted in form.items())
    if form is None or form is bool:
        return value is None if form is None else isinstance(value, bool)
    if form is str:
        return isinstance(value, str) and value.isprintable()
    if form is float and isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
