"""Means, intervals and paired differences of test accuracies (fractions, not per cent)."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95


class Summary(NamedTuple):
    """The accuracies of a row: number of runs, best, mean, sample standard deviation (None for one run)."""

    n: int
    best: float
    mean: float
    std: float | None


class Difference(NamedTuple):
    """Between two rows over the pairs they share.

    n : pairs; mean : of the differences; interval, corrected : see :func:`intervals`;
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


def intervals(values, test_over_train):
    """Two intervals of the mean over runs, both around that mean.

    Parameters
    ----------
    values : dict (seed, partition) -> number
    test_over_train : size of the part that is scored in units of the part trained on

    Returns
    -------
    interval : Student's t, the values taken as independent; None for fewer than two
    corrected : for several partitions, else None. Repeated splits of the same samples are not independent: the values
        of each are averaged over seeds, and the variance of the mean is taken as (sum of squared shares +
        test_over_train) times theirs. A partition's share is its part of the values, 1/J for each of J partitions with
        equally many seeds (Nadeau and Bengio, Machine Learning 52, 2003).
    """
    differences = np.array(list(values.values()), float)
    if differences.size < 2:
        return None, None
    by_partition = {}
    for (_, partition), value in values.items():
        by_partition.setdefault(partition, []).append(value)
    plain = _around(differences.mean(), differences, 1 / differences.size)
    if len(by_partition) < 2:
        return plain, None
    shares = np.array([len(group) for group in by_partition.values()]) / differences.size
    means = np.array([np.mean(group) for group in by_partition.values()])
    return plain, _around(differences.mean(), means, (shares**2).sum() + test_over_train)


def _around(middle, values, variance_factor):
    """Student's t interval of a mean whose variance is so many times the values'."""
    half = t.ppf(0.5 + LEVEL / 2, values.size - 1) * math.sqrt(values.var(ddof=1) * variance_factor)
    return float(middle - half), float(middle + half)


def wilson(share, n):
    """Wilson's score interval of a share of n independent trials."""
    z = norm.ppf(0.5 + LEVEL / 2)
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def difference(base, other, test_over_train):
    """:class:`Difference` other - base over the keys both have, or None if there is none.

    Parameters
    ----------
    base, other : dict (seed, partition) -> accuracy
    test_over_train : as in :func:`intervals`
    """
    pairs = {key: other[key] - base[key] for key in sorted(base.keys() & other.keys())}
    if not pairs:
        return None
    differences = np.array(list(pairs.values()))
    return Difference(differences.size, float(differences.mean()), *intervals(pairs, test_over_train),
                      int((differences > 0).sum()), int((differences == 0).sum()), int((differences < 0).sum()))
