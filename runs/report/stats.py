"""Means, intervals and paired differences of test accuracies (fractions, not per cent)."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95


class Summary(NamedTuple):
    """Of a row: number of runs, best, mean, sample standard deviation (None for one run)."""

    n: int
    best: float
    mean: float
    std: float | None


class Difference(NamedTuple):
    """Between two rows over the pairs they share.

    n : pairs; mean : of the differences; interval : t interval of the mean, or None;
    corrected : the same, corrected for partitions that share samples, or None;
    better, equal, worse : numbers of pairs
    """

    n: int
    mean: float
    interval: tuple | None
    corrected: tuple | None
    better: int
    equal: int
    worse: int


def summarise(values):
    """:class:`Summary` of at least one value."""
    values = np.asarray(values, float)
    return Summary(values.size, float(values.max()), float(values.mean()),
                   float(values.std(ddof=1)) if values.size > 1 else None)


def t_interval(values, variance_factor=None):
    """Interval of the mean by Student's t; None for fewer than two values.

    Parameters
    ----------
    values : 1-D
    variance_factor : the variance of the mean in units of the values' variance; by default 1/n, independent values
    """
    values = np.asarray(values, float)
    if values.size < 2:
        return None
    factor = 1 / values.size if variance_factor is None else variance_factor
    half = t.ppf(0.5 + LEVEL / 2, values.size - 1) * math.sqrt(values.var(ddof=1) * factor)
    return float(values.mean() - half), float(values.mean() + half)


def wilson(share, n):
    """Wilson's score interval of a share of n independent trials."""
    z = norm.ppf(0.5 + LEVEL / 2)
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def difference(base, other, test_over_train):
    """:class:`Difference` other - base over the keys both have, or None if there is none.

    Repeated splits of the same samples are not independent: where there are several, the differences of each are
    averaged over seeds and the variance of the mean over J splits is taken as (1/J + test_over_train) times theirs
    (Nadeau and Bengio, Machine Learning 52, 2003).

    Parameters
    ----------
    base, other : dict (seed, partition) -> accuracy
    test_over_train : size of the part that is tested in units of the part trained on
    """
    keys = sorted(base.keys() & other.keys())
    if not keys:
        return None
    found = np.array([other[key] - base[key] for key in keys])
    partitions = {partition for _, partition in keys}
    corrected = None
    if len(partitions) > 1:
        means = [np.mean([d for d, key in zip(found, keys) if key[1] == partition]) for partition in sorted(partitions)]
        corrected = t_interval(means, 1 / len(partitions) + test_over_train)
    return Difference(found.size, float(found.mean()), t_interval(found), corrected,
                      int((found > 0).sum()), int((found == 0).sum()), int((found < 0).sum()))
