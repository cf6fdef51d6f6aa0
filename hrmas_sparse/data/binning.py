"""Spikes in bins of one step and channel."""

from __future__ import annotations

from collections import Counter

import numpy as np

VALUES = ("binary", "count")
Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def binned(step: np.ndarray, channel: np.ndarray, steps: int, channels: int, value: str, notes: Counter) -> Sample:
    """Gather spikes into bins of one step and channel.

    Parameters
    ----------
    step, channel : (E,) integers, not negative, in any order
        The bin of each spike; a step past the last one, `steps`, drops the spike.
    value : "binary" or "count"
        Every occupied bin is 1, or its number of spikes, at most 255.
    notes : Counter
        What was dropped, merged or saturated.

    Returns
    -------
    step (K,) int64, channel (K,) int64, value (K,) uint8 : the occupied bins, sorted by step, then channel
    """
    inside = step < steps
    notes["spikes dropped, past the last step"] += int(step.size - inside.sum())
    key = step[inside].astype(np.int64) * channels + channel[inside]
    key, count = np.unique(key, return_counts=True)
    if value == "count":
        notes["bins saturated at 255"] += int((count > 255).sum())
        strength = np.minimum(count, 255).astype(np.uint8)
    else:
        notes["spikes merged, a bin being 0 or 1"] += int((count - 1).sum())
        strength = np.ones(len(key), dtype=np.uint8)
    return key // channels, key % channels, strength
