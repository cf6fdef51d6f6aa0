"""From spikes in raw time, or a cochleagram, to the events of a cache.

`notes` is a Counter: what was dropped, merged or saturated, told to the user when the cache is built.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from data_prep.bsa import GAIN, STEPS_PER_BIN, bsa
from hrmas_sparse.data.binning import Sample, binned


def bin_spikes(step: np.ndarray, channel: np.ndarray, data, channels: int, notes: Counter) -> Sample:
    """Gather spikes into bins of one step and channel.

    Parameters
    ----------
    step, channel : (E,) integers, not negative, in any order
        The bin of each spike; a step past the last one, ``data.steps``, drops the spike.
    data : DataConfig
        ``value = "binary"`` makes every occupied bin 1, ``"count"`` its number of spikes, at most 255.

    Returns
    -------
    step (K,) int64, channel (K,) int64, value (K,) uint8 : the occupied bins, sorted by step, then channel
    """
    return binned(step, channel, data.steps, channels, data.value, notes)


def encode_cochleagram(cochleagram: np.ndarray, data, notes: Counter) -> Sample:
    """Spikes or intensities of one utterance.

    Parameters
    ----------
    cochleagram : (channels, frames) float64, not negative
    data : DataConfig
        ``encoding = "bsa"``: spikes, seven BSA steps to a bin.  ``"intensity"``: frame by frame, times 2,000.

    Returns
    -------
    step, channel : (K,) int64 ; value : (K,) uint8 for "bsa", float32 for "intensity"
    """
    channels, frames = cochleagram.shape
    if data.encoding == "bsa":
        channel, step = np.nonzero(bsa(cochleagram))
        return bin_spikes(step // STEPS_PER_BIN, channel, data, channels, notes)
    notes["frames dropped, past the last step"] += max(0, frames - data.steps)
    value = (GAIN * cochleagram[:, : data.steps].T).astype(np.float32)
    step, channel = np.nonzero(value)
    return step, channel, value[step, channel]
