"""Training samples changed a little each time they are drawn, so that a small set goes further (not in the paper)."""

import numpy as np

from hrmas_sparse.data.events import Events


def augmented(events, grid, settings, rng):
    """A batch with every sample shifted and thinned at random; the batch itself where nothing is asked for.

    Parameters
    ----------
    events : :class:`hrmas_sparse.data.events.Events`
    grid : (polarities, rows, columns) of the channels; an image is shifted along rows and columns, channels in a row,
        (1, 1, channels), along their order
    settings : :class:`hrmas_sparse.settings.schema.AugmentationConfig`
    rng : numpy Generator

    Returns
    -------
    Events; what is shifted out of the sample is gone
    """
    if not (settings.shift_steps or settings.shift_channels or settings.drop):
        return events
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
    return Events._of(
        indptr=np.concatenate([[0], np.cumsum(np.bincount(owner[kept], minlength=samples))]).astype(np.int64),
        step=step[kept].astype(np.uint16), channel=channel.astype(np.uint16), value=value[kept],
        labels=events.labels, steps=events.steps, channels=events.channels)


def _thinned(value, drop, rng):
    """Every spike left out with the chance ``drop``: counts lose single spikes, an intensity goes or stays."""
    if value.dtype.kind == "f":
        return value * (rng.random(value.size) >= drop)
    return rng.binomial(value, 1 - drop).astype(value.dtype)
