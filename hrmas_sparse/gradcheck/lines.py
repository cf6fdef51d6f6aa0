"""What a check found, and how it is printed."""

from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    """One check.

    what : what was checked; against : what it was held to
    error : the worst relative error, None where nothing was checked; bound : the largest allowed
    """

    what: str
    against: str
    error: float | None = None
    bound: float | None = None

    @property
    def ok(self):
        """True or False, None if nothing was checked. An error that is not a number is over any bound."""
        return None if self.error is None else bool(self.error <= self.bound)

    @property
    def verdict(self):
        """The last column of the table."""
        return {True: "ok", False: "FAIL", None: "not checked"}[self.ok]


def relative_error(value, expected):
    """max|value - expected| / max|expected|; absolute where all that is expected is 0.

    NaN and Inf stay what they are, and another shape is an infinite error.
    """
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    if value.shape != expected.shape:
        return np.inf
    if not value.size:
        return 0.0
    scale = np.abs(expected).max()
    return float(np.abs(value - expected).max() / (scale if scale != 0 else 1.0))


def table(lines):
    """The lines as text, aligned."""
    head = ("what", "against", "error", "bound", "")
    rows = [head] + [(line.what, line.against, *("-" if x is None else f"{x:.1e}" for x in (line.error, line.bound)),
                      line.verdict) for line in lines]
    widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([text[0], "-" * (sum(widths) + 2 * len(widths) - 2), *text[1:]])
