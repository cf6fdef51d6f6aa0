"""Checks of arrays that come from outside: what passes may reach a kernel, which checks nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.memory import require_room

MOST = 65536         # steps, channels: an event has 16 bits for each
MOST_CLASSES = 65536
LARGE = 1 << 24      # entries
LARGEST_COUNT = 255  # spikes of one step and channel: 8 bits


def extent(name: str, size: Any) -> int:
    """A number of steps or channels."""
    if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer)) or not 1 <= size <= MOST:
        raise InputError(f"{name}: expected a whole number, 1 to {MOST}, found {str(size)[:40]!r}")
    return int(size)


def seed(value: Any) -> int:
    """A seed of random numbers."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InputError(f"seed: expected a whole number of at least 0, found {str(value)[:40]!r}")
    return int(value)


def array(name: str, values: Any, kinds: str, what: str, dimensions: int = 1) -> np.ndarray:
    """An array of as many dimensions, its dtype of one of the `kinds`; no entries at all are of any kind."""
    try:
        checked = np.asarray(values)
    except (ValueError, TypeError, RuntimeError, MemoryError) as error:  # ragged lists, tensors on a device
        raise InputError(f"{name}: expected an array of {what}, found {type(values).__name__} ({error})") from None
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):  # else it would be read as it lies there
        raise InputError(f"{name}: expected an array without masked entries, found {int(np.ma.count_masked(values))}; "
                         "leave them out, or fill them with .filled(...)")
    if checked.ndim != dimensions:
        raise InputError(f"{name}: expected an array of {dimensions} dimension{'s' * (dimensions > 1)}, "
                         f"found shape {checked.shape}")
    if checked.dtype.kind not in kinds:
        if not checked.size:
            return np.zeros(checked.shape, np.uint8)
        raise InputError(f"{name}: expected {what}, found dtype {checked.dtype}; convert it, for example with "
                         ".astype(...)")
    return checked


def whole(name: str, values: Any, high: int, dtype: type, where: Callable[[int], str] = lambda entry: "") -> np.ndarray:
    """Whole numbers 0 .. high - 1 as a vector of `dtype`; `where` says more about an entry."""
    numbers = array(name, values, "iu", "whole numbers")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= high):
        entry = int(np.argmax((numbers < 0) | (numbers >= high)))
        raise InputError(f"{name}[{entry}]{where(entry)}: expected 0 to {high - 1}, found {numbers[entry]}")
    return numbers.astype(dtype, copy=False)


def strength(name: str, values: Any, dimensions: int = 1, zeros: bool = False) -> np.ndarray:
    """Spike counts as uint8, or intensities as they are: float32 or float64, finite and above 0 (or 0, if `zeros`)."""
    strengths = array(name, values, "biuf", "counts or intensities", dimensions)
    if strengths.size > LARGE:  # a view may claim more than there is
        require_room(name, strengths.size, copies=4)
    if strengths.dtype.kind != "f":
        high = LARGEST_COUNT
        good = (strengths <= high) & ((strengths >= 0) if zeros else (strengths > 0))
        expected = f"a count of {0 if zeros else 1} to {high}"
    else:
        strengths = strengths.astype(np.float32, copy=False) if strengths.dtype.itemsize < 4 else strengths
        good = np.isfinite(strengths) & ((strengths >= 0) if zeros else (strengths > 0))
        expected = f"a finite number {'of at least' if zeros else 'above'} 0"
    if not good.all():
        entry = np.unravel_index(int(np.argmin(good)), good.shape)
        refuse(name, entry, expected, strengths[entry])
    return strengths if strengths.dtype.kind == "f" else strengths.astype(np.uint8, copy=False)


def single(name: str, values: np.ndarray) -> np.ndarray:
    """Intensities in single precision; too large or too small ones are refused."""
    if values.dtype.kind != "f" or values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        narrowed = values.astype(np.float32)
    bad = ~np.isfinite(narrowed) | ((narrowed == 0) & (values != 0))
    if bad.any():
        entry = np.unravel_index(int(np.argmax(bad)), bad.shape)
        refuse(name, entry, "a number that single precision can hold", values[entry])
    return narrowed


def refuse(name: str, entry: tuple, expected: str, found: Any) -> NoReturn:
    """Raise the InputError of one bad entry."""
    raise InputError(f"{name}[{', '.join(str(int(n)) for n in entry)}]: expected {expected}, found {found}")
