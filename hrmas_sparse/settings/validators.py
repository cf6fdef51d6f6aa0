"""Checks of single settings: value -> normalised value, or ValueError(what was expected)."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from hrmas_sparse.storage.errors import InputError

Check = Callable[[Any], Any]      # value -> normalised value, or ValueError(what was expected)

# Whole numbers end here (or where a setting says). What is larger is a slip: it would take for ever, or overflow.
LARGEST = 10**9
LARGEST_REAL = 1e9
SMALLEST_REAL = 1e-12             # what is nearer to 0, and is not 0, is lost in rounding, or its inverse overflows
LONGEST = 1e6                     # steps, of a time constant: a sample has 65,536 at most
MOST_LAYERS = 1000
MOST_SEEDS = 10_000
LAST_SEED = 2**53 - 1             # larger ones are no exact numbers in JSON readers that use doubles
MOST_PARTITIONS = 1000
LONGEST_NAME = 200                # bytes, of a folder: a file system takes 255, and endings are added (-s0)


def shown(value: Any, width: int = 60) -> str:
    """A value as an error message shows it: its repr, shortened, also where Python refuses to make one."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):                    # an int of thousands of digits, brackets in brackets
        return f"a value too long to be shown ({type(value).__name__})"
    return text if len(text) <= width else f"{text[:width - 20]}... ({len(text)} characters)"


def brief(text: object, width: int = 60) -> str:
    """A name as an error message shows it: shortened, without quotes."""
    return text if isinstance(text, str) and len(text) <= width else shown(text, width).strip("'")


def nearest(word: object, known: Collection[str], cutoff: float = 0.6) -> list[str]:
    """The name among `known` that is most like a word, if any is."""
    return difflib.get_close_matches(word, known, 1, cutoff) if isinstance(word, str) and len(word) < 60 else []


def real(low: float, high: float = LARGEST_REAL, *, above: bool = False) -> Check:
    """A finite number in [low, high], or in (low, high] if `above`."""
    text = f"a finite number {'above' if above else 'of at least'} {low:g} and at most {high:g}"

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(text)
        try:
            value = float(value)
        except OverflowError:                               # a whole number of 400 digits
            raise ValueError(text) from None
        if not low <= value <= high or (above and value == low) or not math.isfinite(value):
            raise ValueError(text)
        if 0 < abs(value) < SMALLEST_REAL:
            raise ValueError(f"{text}, no nearer to 0 than {SMALLEST_REAL:g}")
        return value
    return check


def integer(low: int, high: int = LARGEST) -> Check:
    """A whole number in [low, high]."""
    text = f"a whole number of at least {low} and at most {high}"

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(text)
        return value
    return check


def integers(low: int) -> Check:
    """A list of whole numbers; one number stands for a list of one."""
    item = integer(low)

    def check(value: Any) -> Any:
        values = value if isinstance(value, (list, tuple)) else (value,)
        try:
            values = tuple(item(v) for v in values) if len(values) <= MOST_LAYERS else ()
        except ValueError:
            values = ()
        if not values:
            raise ValueError(f"a list of whole numbers of at least {low} and at most {LARGEST}, such as [16]")
        return values
    return check


def betas(value: Any) -> tuple[float, ...]:
    """Adam's two decay rates, each in [0, 1)."""
    item = real(0.0)
    try:
        pair = tuple(item(v) for v in value) if isinstance(value, (list, tuple)) and len(value) == 2 else ()
    except ValueError:
        pair = ()
    if not pair or max(pair) >= 1.0:
        raise ValueError("two numbers of at least 0 and below 1, such as [0.9, 0.999]")
    return pair


def choice(*names: str) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in names:
            near = nearest(value, names)
            hint = f" (nearest: {near[0]})" if near else ""
            raise ValueError("one of " + ", ".join(json.dumps(n) for n in names) + hint)
        return value
    return check


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError("a name of letters, digits, _ and -")
    return value


def plain(text: str) -> bool:
    """Whether a text is the name of a folder, not a path, of at most ``LONGEST_NAME`` bytes."""
    return (text == Path(text).name and text not in ("", ".", "..") and "\0" not in text
            and len(os.fsencode(text)) <= LONGEST_NAME)


def check_name(text: str | None, option: str) -> None:
    """Raise InputError, naming the option it was given by, unless a text is plain; None stands for the default."""
    if text is not None and not plain(text):
        raise InputError(f"{option}: expected a plain name of at most {LONGEST_NAME} bytes, found {shown(text)}")


def word(none: str, check: Check) -> Check:
    """None, written as the word `none` in files, or what passes `check`."""
    def checked(value: Any) -> Any:
        if value is None or value == none:
            return None
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f"{json.dumps(none)} or {error}") from None
    return checked


def partition(value: Any) -> str:
    """"official", "ab", or "resample-<n>", "valid-<n>" with n from 1."""
    if not isinstance(value, str) or not re.fullmatch(r"official|ab|(resample|valid)-[1-9][0-9]{0,5}", value):
        raise ValueError("official, ab, resample-<number> or valid-<number>, the number from 1")
    return value


def partitions(text: str) -> list[str]:
    """"official resample-1..4", commas allowed -> list of different names, not checked one by one."""
    expanded: list[str] = []
    for part in text.replace(",", " ").split():
        drawn = re.fullmatch(r"([a-z]+-)([0-9]{1,6})\.\.([0-9]{1,6})", part)
        numbers = range(int(drawn[2]), int(drawn[3]) + 1) if drawn else ()
        if len(expanded) + len(numbers) > MOST_PARTITIONS:
            raise ValueError(f"at most {MOST_PARTITIONS} partitions")
        expanded += [f"{drawn[1]}{n}" for n in numbers] if drawn else [part]
    if not expanded:
        raise ValueError("partitions, such as official or resample-1..4")
    return list(dict.fromkeys(expanded))


seed = integer(0, LAST_SEED)


def seeds(text: str) -> list[int]:
    """"0", "0-4" or "0,2,5" -> list of different ints."""
    listed: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,20})(?:\s*-\s*([0-9]{1,20}))?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last <= LAST_SEED or last - first >= MOST_SEEDS - len(listed):
            raise ValueError(f"a seed, a range or a list, such as 0, 0-4 or 0,2,5 (at most {MOST_SEEDS} seeds, "
                             f"none above {LAST_SEED})")
        listed += range(first, last + 1)
    return list(dict.fromkeys(listed))


def count(text: str) -> int:
    """"4" -> 4."""
    if not re.fullmatch("[0-9]{1,9}", text, re.ASCII) or int(text) < 1:
        raise ValueError("a whole number of at least 1")
    return int(text)


def hours(text: str) -> float:
    """"0.5" -> 0.5."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text, re.ASCII) or not float(text):
        raise ValueError("a number of hours above 0, such as 8 or 0.5")
    return float(text)


def whole_numbers(text: str) -> list[int]:
    """"800 1600" or "800,1600" -> list of ints."""
    words = text.replace(",", " ").split()
    if not words or not all(re.fullmatch("[0-9]{1,10}", word, re.ASCII) for word in words):
        raise ValueError("whole numbers, such as 800 1600")
    return [int(word) for word in words]


def argument(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """A check as a type of argparse, whose message says what was expected and found."""
    def typed(text: str) -> Any:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {error}; found {shown(text)}") from None
    return typed
