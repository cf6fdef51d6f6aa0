"""Checks of every gradient, as a library and a command (mathematics 12).

A spiking forward pass is piecewise constant, so finite differences of its loss are zero or infinite, and
TSSL-BP is a rule, not a derivative. Each thing is therefore checked against what it can be held to:

    differences   the smooth variant, every parameter, against central differences of its loss
    spiking       the spiking pass against the double sums that define it, in plain loops
    adjoint       the linear pieces against their transposes
    rules         SpiKL-IP and the second-order gradient of alpha against the losses they descend
    golden        everything against stored numbers of independent implementations (``--golden DIR``)

All problems are small and seeded; the same checks run on every machine and backend.
"""

from __future__ import annotations

from pathlib import Path

from hrmas_sparse.engine.selftest import tested_backend
from hrmas_sparse.gradcheck import adjoint, differences, rules, spiking
from hrmas_sparse.gradcheck.entries import GradientRow, check_gradients
from hrmas_sparse.gradcheck.golden import BOUNDS, run_golden
from hrmas_sparse.gradcheck.lines import Line, table

__all__ = ["GradientRow", "Line", "check_gradients", "gradcheck", "main", "run", "run_golden", "table"]

PARTS = (differences, spiking, adjoint, rules)


def gradcheck(golden: str | Path | None = None, backend: str = "cpu") -> list[Line]:
    """Run every check of the gradients: what ``hrmas gradcheck`` prints, as rows.

    Parameters
    ----------
    golden : path, optional
        Folder of golden numbers to compare with too.
    backend : str
        "auto", "cpu" or "cuda".

    Returns
    -------
    list of Line
        ``what`` was checked ``against`` what; the relative ``error``, its ``bound`` and ``ok`` (None: not checked).

    Raises
    ------
    InputError
        The backend cannot be used, or the golden numbers cannot be read.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> rows = hs.gradcheck(backend="cpu")
    >>> all(row.ok for row in rows if row.ok is not None)
    True
    """
    if golden is None:
        stored = [Line("golden numbers", "hrmas gradcheck --golden DIR compares with them")]
    else:
        both = [line for dtype in BOUNDS for line in run_golden(golden, dtype, backend)]
        stored = list(dict.fromkeys(both))  # what is not checked, in neither: said once
    return run(backend) + stored


def run(backend: str = "auto") -> list[Line]:
    """Check a backend against what needs no stored numbers.

    Parameters
    ----------
    backend : name, see :func:`hrmas_sparse.engine.backends.get_backend`

    Returns
    -------
    list of Line
    """
    backend = tested_backend(backend)
    return [line for part in PARTS for line in part.lines(backend)]


def main(golden: str | Path | None = None, backend: str = "auto") -> int:
    """Run all checks and print them as a table.

    Parameters
    ----------
    golden : folder of golden numbers, or None
    backend : name

    Returns
    -------
    int, exit status: 0 if every error is within its bound, else 1
    """
    rows = gradcheck(golden, backend)
    over, checked = sum(row.ok is False for row in rows), sum(row.ok is not None for row in rows)
    print(table(rows), f"{over} of {checked} checks over their bound" if over else
          f"all {checked} checks within their bounds", sep="\n\n")
    return int(over > 0)
