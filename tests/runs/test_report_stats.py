"""Means, differences and intervals of a report, and numbers in words; its page is in test_experiment_report.py."""

import math
import statistics
from types import SimpleNamespace

import pytest
import toys

from runs.report import collect, figures, stats, tables

T_975 = {1: 12.706205, 3: 3.182446}   # Student's t, from a printed table


def test_only_pairs_that_both_have_are_compared():
    base = {(0, "official"): 0.5, (1, "official"): 0.6, (2, "official"): 0.0}
    found = stats.difference(base, {(0, "official"): 0.6, (1, "official"): 0.9, (3, "official"): 1.0}, 0.5)
    half = T_975[1] * statistics.stdev([0.1, 0.3]) / math.sqrt(2)
    assert (found.n, found.better, found.equal, found.worse, found.corrected) == (2, 2, 0, 0, None)
    assert found.mean == pytest.approx(0.2) and found.interval == pytest.approx((0.2 - half, 0.2 + half), rel=1e-6)
    assert stats.difference(base, {(9, "official"): 1.0}, 0.5) is None
    assert stats.difference(base, {(0, "official"): 0.5}, 0.5).interval is None


def test_one_run_has_no_spread():
    assert stats.summarise([0.25]) == (1, 0.25, 0.25, None)
    assert stats.intervals({(0, "official"): 0.25}, 0.5) == (None, None)


def test_the_corrected_interval_lies_around_the_mean_also_with_unequal_seeds():
    base = {(seed, "official"): 0.0 for seed in range(3)} | {(0, "resample-1"): 0.0}
    other = {(0, "official"): 0.1, (1, "official"): 0.2, (2, "official"): 0.3, (0, "resample-1"): 0.8}
    found = stats.difference(base, other, 0.4)
    assert found.mean == pytest.approx(0.35)
    half = T_975[1] * statistics.stdev([0.2, 0.8]) * math.sqrt(0.75**2 + 0.25**2 + 0.4)
    assert found.corrected == pytest.approx((0.35 - half, 0.35 + half), rel=1e-6)
    half = T_975[3] * statistics.stdev([0.1, 0.2, 0.3, 0.8]) / 2
    assert found.interval == pytest.approx((0.35 - half, 0.35 + half), rel=1e-6)


def test_the_figure_of_accuracies_knows_that_partitions_share_samples():
    def runs(accuracies):
        return [SimpleNamespace(pair=pair, accuracy=x, test_over_train=0.4) for pair, x in accuracies.items()]
    several = {(0, "official"): 0.5, (1, "official"): 0.7, (0, "resample-1"): 0.8, (1, "resample-1"): 0.8}
    half = T_975[1] * statistics.stdev([60, 80]) * math.sqrt(1 / 2 + 0.4)
    assert figures.per_cent_interval(runs(several)) == pytest.approx((70 - half, 70 + half), rel=1e-6)
    one = {(0, "official"): 0.5, (1, "official"): 0.7}
    half = T_975[1] * statistics.stdev([50, 70]) / math.sqrt(2)
    assert figures.per_cent_interval(runs(one)) == pytest.approx((60 - half, 60 + half), rel=1e-6)
    assert figures.per_cent_interval(runs({(0, "official"): 0.5})) is None


def test_each_partition_counts_once_in_the_baseline():
    runs = [SimpleNamespace(partition=p, result={"counts_baseline": x})
            for p, x in (("official", 0.2), ("official", 0.2), ("resample-1", 0.8))]
    assert tables.counts_baseline(SimpleNamespace(runs=runs)) == pytest.approx(0.5)
    none = SimpleNamespace(partition="official", result={"counts_baseline": None})
    assert tables.counts_baseline(SimpleNamespace(runs=[none])) is None


def test_a_partition_is_no_difference_in_settings():
    base = toys.settings()
    assert not collect.settings_differ(base, toys.settings("data.partition=valid-1"))
    assert collect.settings_differ(base, toys.settings("training.lr=0.125", "data.partition=valid-1"))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wilson_at_the_ends(share):
    low, high = stats.wilson(share, 10)
    assert 0 - 1e-12 <= low < high <= 1 + 1e-12 and high - low == pytest.approx(0.2775, abs=1e-4)


@pytest.mark.parametrize("numbers, text", [([0, 1, 2, 5], "0\N{EN DASH}2, 5"), ([3], "3"), ([4, 0, 4], "0, 4")])
def test_numbers_in_words(numbers, text):
    assert collect.numbers_in_words(numbers) == text
