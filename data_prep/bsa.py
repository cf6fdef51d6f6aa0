"""Ben's spiker algorithm (BSA): spikes whose filtered sum follows a non-negative signal."""

from __future__ import annotations

import numpy as np

from hrmas_sparse.storage.kernels import Kernels

KERNELS = Kernels([__file__], nogil=True)
REPEAT = 10  # BSA steps a frame
GAIN = 2000.0
THRESHOLD = 0.6
TAPS = 24
STEPS_PER_BIN = 7

_KERNEL = np.exp(-((np.arange(TAPS) - 12.0) ** 2) / 25.0)
_KERNEL /= _KERNEL.sum()


def bsa(frames: np.ndarray) -> np.ndarray:
    """Encode every channel of a cochleagram.

    Each frame is repeated 10 times and scaled by 2,000; zeros follow, so that every step is decided.  Step i spikes if
    the kernel h explains what comes: ``sum_j |x[i + j] - h[j]| < sum_j |x[i + j]| - 0.6``; then h is taken out of x.

    Parameters
    ----------
    frames : (channels, frames) float64, not negative

    Returns
    -------
    (channels, 10 * frames) bool
    """
    return _bsa(np.ascontiguousarray(frames, dtype=np.float64), _KERNEL)


@KERNELS.jit
def _bsa(frames, kernel):
    channels, length = frames.shape
    taps = len(kernel)
    spikes = np.zeros((channels, REPEAT * length), dtype=np.bool_)
    x = np.empty(REPEAT * length + taps)
    for c in range(channels):
        for i in range(REPEAT * length):
            x[i] = GAIN * frames[c, i // REPEAT]
        x[REPEAT * length :] = 0.0
        for i in range(REPEAT * length):
            with_spike, without = 0.0, 0.0
            for j in range(taps):
                with_spike += abs(x[i + j] - kernel[j])
                without += abs(x[i + j])
            if with_spike < without - THRESHOLD:
                spikes[c, i] = True
                for j in range(taps):
                    x[i + j] -= kernel[j]
    return spikes
