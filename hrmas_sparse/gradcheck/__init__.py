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

from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.gradcheck import adjoint, differences, rules, spiking
from hrmas_sparse.gradcheck.golden import BOUNDS, run_golden
from hrmas_sparse.gradcheck.lines import Line, table

__all__ = ["Line", "main", "run", "run_golden", "table"]

PARTS = (differences, spiking, adjoint, rules)


def run(backend="auto"):
    """Check a backend against what needs no stored numbers.

    Parameters
    ----------
    backend : name, see :func:`hrmas_sparse.engine.backends.get_backend`

    Returns
    -------
    list of Line
    """
    backend = get_backend(backend)
    return [line for part in PARTS for line in part.lines(backend)]


def main(golden=None, backend="auto"):
    """Run all checks and print them as a table.

    Parameters
    ----------
    golden : folder of golden numbers, or None
    backend : name

    Returns
    -------
    int, exit status: 0 if every error is within its bound, else 1
    """
    if golden is None:
        stored = [Line("golden numbers", "hrmas gradcheck --golden DIR compares with them")]
    else:
        both = [line for dtype in BOUNDS for line in run_golden(golden, dtype, backend)]
        stored = list(dict.fromkeys(both))  # what is not checked, in neither: said once
    found = run(backend) + stored
    over, checked = sum(line.ok is False for line in found), sum(line.ok is not None for line in found)
    print(table(found), f"{over} of {checked} checks over their bound" if over else
          f"all {checked} checks within their bounds", sep="\n\n")
    return int(over > 0)
