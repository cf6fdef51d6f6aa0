"""Checks of single settings: value -> normalised value, or ValueError(what was expected)."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path


def real(low: float, high: float = math.inf, *, above: bool = False) -> Callable:
    """A finite number in [low, high], or in (low, high] if `above`."""
    bounds = [f"{'above' if above else 'of at least'} {low:g}"] if low > -math.inf else []
    bounds += [f"at most {high:g}"] if high < math.inf else []
    text = "a finite number " + " and ".join(bounds)

    def check(value):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(text)
        try:
            value = float(value)
        except OverflowError:                               # a whole number of 400 digits
            raise ValueError(text) from None
        if not low <= value <= high or (above and value == low) or not math.isfinite(value):
            raise ValueError(text)
        return value
    return check


def integer(low: int, high: float = math.inf) -> Callable:
    text = f"a whole number of at least {low}" + (f" and at most {high}" if high < math.inf else "")

    def check(value):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(text)
        return value
    return check


def integers(low: int) -> Callable:
    """A list of whole numbers; one number stands for a list of one."""
    item = integer(low)

    def check(value):
        try:
            values = tuple(item(v) for v in (value if isinstance(value, (list, tuple)) else (value,)))
        except ValueError:
            values = ()
        if not values:
            raise ValueError(f"a list of whole numbers of at least {low}, such as [16]")
        return values
    return check


def betas(value):
    """Adam's two decay rates, each in [0, 1)."""
    item = real(0.0)
    try:
        pair = tuple(item(v) for v in value)
    except (TypeError, ValueError):
        pair = ()
    if len(pair) != 2 or max(pair) >= 1.0:
        raise ValueError("two numbers of at least 0 and below 1, such as [0.9, 0.999]")
    return pair


def choice(*names: str) -> Callable:
    def check(value):
        if not isinstance(value, str) or value not in names:
            near = difflib.get_close_matches(str(value), names, 1)
            hint = f" (nearest: {near[0]})" if near else ""
            raise ValueError("one of " + ", ".join(json.dumps(n) for n in names) + hint)
        return value
    return check


def boolean(value):
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def name(value):
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError("a name of letters, digits, _ and -")
    return value


def plain(text):
    """Whether a text is the name of a folder, not a path."""
    return text == Path(text).name and text not in ("", ".", "..")


def eta(value):
    """None, written "lr" in TOML, means the learning rate of w."""
    if value is None or value == "lr":
        return None
    try:
        return real(0.0)(value)
    except ValueError as error:
        raise ValueError(f'"lr" or {error}') from None


def partition(value):
    """"official", "ab", or "resample-<n>", "valid-<n>" with n from 1."""
    if not isinstance(value, str) or not re.fullmatch(r"official|ab|(resample|valid)-[1-9][0-9]{0,5}", value):
        raise ValueError("official, ab, resample-<number> or valid-<number>, the number from 1")
    return value


def partitions(text):
    """"official resample-1..4", commas allowed -> list of different names, not checked one by one."""
    found = []
    for part in text.replace(",", " ").split():
        drawn = re.fullmatch(r"([a-z]+-)([0-9]{1,6})\.\.([0-9]{1,6})", part)
        found += [f"{drawn[1]}{n}" for n in range(int(drawn[2]), int(drawn[3]) + 1)] if drawn else [part]
    if not found:
        raise ValueError("partitions, such as official or resample-1..4")
    return list(dict.fromkeys(found))


def seeds(text):
    """"0", "0-4" or "0,2,5" -> list of different ints."""
    found = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last if dash else first) + 1) or [-1]
    except ValueError:
        found = [-1]
    if min(found) < 0:
        raise ValueError("a seed, a range or a list, such as 0, 0-4 or 0,2,5")
    return list(dict.fromkeys(found))


def argument(check: Callable) -> Callable:
    """A check as a type of argparse, whose message says what was expected and found."""
    def typed(text):
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {error}; found {text!r}") from None
    return typed
