"""Augmented batches against a slow rule on dense arrays."""

import dataclasses

import numpy as np
import pytest

from data_prep import nmnist
from hrmas_sparse.data.augmentation import augmented
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.settings.schema import AugmentationConfig
from hrmas_sparse.data.events import Events

STEPS = 7


def batch(channels, samples=5, seed=0, density=0.2):
    """A random batch and its dense form (samples, steps, channels)."""
    dense = np.random.default_rng(seed).random((samples, STEPS, channels)) < density
    sample, step, channel = np.nonzero(dense)
    indptr = np.searchsorted(sample, np.arange(samples + 1))
    return Events(indptr, step.astype(np.uint16), channel.astype(np.uint16), np.ones(step.size, np.uint8),
                  np.arange(samples), STEPS, channels), dense


def to_dense(events):
    dense = np.zeros((len(events), events.steps, events.channels), bool)
    for s in range(len(events)):
        for e in range(events.indptr[s], events.indptr[s + 1]):
            assert not dense[s, events.step[e], events.channel[e]]
            dense[s, events.step[e], events.channel[e]] = True
    return dense


def moved(array, shift, axis):
    """An array shifted along an axis, zeros coming in."""
    result, length = np.zeros_like(array), array.shape[axis]
    for k in range(length):
        if 0 <= k + shift < length:
            result[(slice(None),) * axis + (k + shift,)] = array[(slice(None),) * axis + (k,)]
    return result


def test_nothing_asked_for_changes_nothing_and_draws_nothing():
    events, rng = batch(9)[0], np.random.default_rng(1)
    assert augmented(events, (1, 1, events.channels), AugmentationConfig(), rng) is events
    assert rng.integers(1 << 60) == np.random.default_rng(1).integers(1 << 60)


@pytest.mark.parametrize("samples", [0, 1, 6])
def test_shifts_in_time_and_channel(samples):
    events, dense = batch(9, samples)
    found = to_dense(augmented(events, (1, 1, events.channels), AugmentationConfig(shift_steps=3, shift_channels=2),
                               np.random.default_rng(1)))
    seen = set()
    for one, was in zip(found, dense):
        fits = [(t, c) for t in range(-3, 4) for c in range(-2, 3) if (moved(moved(was, t, 0), c, 1) == one).all()]
        assert fits
        seen.add(fits[0])
    assert samples < 6 or len(seen) > 2


def test_images_shift_along_rows_and_columns():
    grid = nmnist.GRID
    events, dense = batch(int(np.prod(grid)), 3, density=0.01)
    found = to_dense(augmented(events, grid, AugmentationConfig(shift_channels=2), np.random.default_rng(4)))
    for one, was in zip(found.reshape(3, STEPS, *grid), dense.reshape(3, STEPS, *grid)):
        assert any((moved(moved(was, r, 2), c, 3) == one).all() for r in range(-2, 3) for c in range(-2, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("samples, density", [(0, 0.5), (1, 0.0), (6, 0.5)])
def test_time_is_stretched_sample_by_sample(samples, density, dtype):
    events = batch(9, samples, density=density)[0]
    strength = np.random.default_rng(8).integers(1, 6, events.step.size).astype(dtype)
    events = dataclasses.replace(events, value=strength)
    found = augmented(events, (1, 1, 9), AugmentationConfig(stretch=0.6), np.random.default_rng(5))
    factor = 0.4 + 1.2 * np.random.default_rng(5).random(samples)
    wanted = np.zeros((samples, STEPS, 9))
    for s in range(samples):
        for e in range(events.indptr[s], events.indptr[s + 1]):
            step = int(events.step[e] * factor[s])
            if step < STEPS:
                wanted[s, step, events.channel[e]] += events.value[e]
    wanted = np.minimum(wanted, strength.max(initial=0))
    dense = np.zeros_like(wanted)
    dense[np.repeat(np.arange(samples), np.diff(found.indptr)), found.step, found.channel] = found.value
    assert (dense == wanted).all() and found.value.dtype == dtype
    found.check()


def test_a_bin_of_0_or_1_stays_one_when_time_is_pressed():
    events = batch(9, 20, density=0.8)[0]
    found = augmented(events, (1, 1, 9), AugmentationConfig(stretch=0.9), np.random.default_rng(5))
    assert set(found.value.tolist()) == {1} and found.step.size < events.step.size


def test_all_events_may_leave_when_time_is_drawn_out():
    events = Events.from_arrays([0], [STEPS - 1], [3], [0], steps=STEPS, channels=9)
    found = [augmented(events, (1, 1, 9), AugmentationConfig(stretch=0.9), np.random.default_rng(n)) for n in range(20)]
    for each in found:
        each.check()
    assert {each.step.size for each in found} == {0, 1} and all(len(each) == 1 for each in found)


def test_dropping_keeps_a_share_and_the_order():
    events, dense = batch(40, 20, density=0.5)
    thin = augmented(events, (1, 1, events.channels), AugmentationConfig(drop=0.25), np.random.default_rng(2))
    kept = to_dense(thin)
    assert not (kept & ~dense).any() and 0.7 < kept.sum() / dense.sum() < 0.8
    key = thin.step.astype(int) * 100 + thin.channel
    assert all((np.diff(key[a:b]) > 0).all() for a, b in zip(thin.indptr, thin.indptr[1:]))
    assert augmented(events, (1, 1, 40), AugmentationConfig(drop=1.0), np.random.default_rng(2)).step.size == 0


@pytest.mark.parametrize("dtype, kinds", [(np.uint8, {1, 2, 3, 4}), (np.float32, {4})])
def test_a_count_loses_single_spikes_and_an_intensity_goes_whole(dtype, kinds):
    events = dataclasses.replace(batch(40, 20, density=0.5)[0])
    events = dataclasses.replace(events, value=np.full(events.step.size, 4, dtype))
    thin = augmented(events, (1, 1, 40), AugmentationConfig(drop=0.5), np.random.default_rng(3))
    assert set(thin.value.tolist()) == kinds and thin.value.dtype == dtype
    assert 0.45 < thin.value.sum() / events.value.sum() < 0.55


def test_shifts_beyond_every_sample_are_refused():
    for key in ("shift_steps", "shift_channels"):
        with pytest.raises(InputError, match=f"augmentation.{key}: expected a whole number .* at most 65536"):
            AugmentationConfig(**{key: 10**20})


def test_the_draw_is_the_generators_alone():
    events, wanted = batch(9)[0], AugmentationConfig(shift_steps=3, drop=0.1)
    first, second = (augmented(events, (1, 1, events.channels), wanted, np.random.default_rng(7)) for _ in range(2))
    assert all((getattr(first, name) == getattr(second, name)).all() for name in ("indptr", "step", "channel", "value"))
