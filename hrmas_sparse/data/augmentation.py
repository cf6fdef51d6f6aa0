"""Training samples changed a little each time they are drawn, so that a small set goes further (not in the paper)."""

import numpy as np

from hrmas_sparse.data.events import Events


def augmented(events, grid, settings, rng):
    """A batch with every sample stretched, shifted and thinned at random; the batch itself where nothing is asked for.

    Parameters
    ----------
    events : :class:`hrmas_sparse.data.events.Events`
    grid : (polarities, rows, columns) of the channels; an image is shifted along rows and columns, channels in a row,
        (1, 1, channels), along their order
    settings : :class:`hrmas_sparse.settings.schema.AugmentationConfig`
    rng : numpy Generator

    Returns
    -------
    Events; what is stretched or shifted out of the sample is gone
    """
    if not (settings.shift_steps or settings.shift_channels or settings.drop or settings.stretch):
        return events
    if settings.stretch:
        events = _stretched(events, settings.stretch, rng)
    samples = len(events)
    owner = np.repeat(np.arange(samples), np.diff(events.indptr))

    def shifts(most):
        return rng.integers(-most, most + 1, samples)[owner]

    step = events.step + shifts(settings.shift_steps)
    plane, row, column = np.unravel_index(events.channel, grid)
    column = column + shifts(settings.shift_channels)
    if grid[1] > 1:
        row = row + shifts(settings.shift_channels)
    kept = (step >= 0) & (step < events.steps) & (column >= 0) & (column < grid[2]) & (row >= 0) & (row < grid[1])
    value = _thinned(events.value, settings.drop, rng)
    kept &= value > 0
    channel = ((plane * grid[1] + row) * grid[2] + column)[kept]
    return _with(events, owner[kept], step[kept], channel, value[kept])


def _with(events, owner, step, channel, value):
    """The same samples with other events, in their order; ``owner``: the sample of each."""
    indptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(events)))]).astype(np.int64)
    return Events._of(indptr=indptr, step=step.astype(np.uint16), channel=channel.astype(np.uint16), value=value,
                      labels=events.labels, steps=events.steps, channels=events.channels)


def _stretched(events, most, rng):
    """Time of every sample multiplied by a factor of its own, uniform in 1 - most .. 1 + most.

    What falls into one bin adds up, to no more than the fullest bin of the batch held: a bin of 0 or 1 stays one.
    """
    samples = len(events)
    owner = np.repeat(np.arange(samples), np.diff(events.indptr))
    factor = 1 + most * (2 * rng.random(samples) - 1)
    step = (events.step * factor[owner]).astype(np.int64)
    inside = step < events.steps
    key = ((owner * events.steps + step) * events.channels + events.channel)[inside]
    order = np.argsort(key, kind="stable")      # quick, for the steps are in order
    key = key[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    value = events.value[inside][order]
    if value.size:
        total = np.add.reduceat(value, first, dtype=np.float64 if value.dtype.kind == "f" else np.int64)
        value = np.minimum(total, events.value.max()).astype(value.dtype)
    key = key[first]
    owner, step = key // (events.steps * events.channels), key // events.channels % events.steps
    return _with(events, owner, step, key % events.channels, value)


def _thinned(value, drop, rng):
    """Every spike left out with the chance ``drop``: counts lose single spikes, an intensity goes or stays."""
    if value.dtype.kind == "f":
        return value * (rng.random(value.size) >= drop)
    return rng.binomial(value, 1 - drop).astype(value.dtype)
