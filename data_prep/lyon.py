"""Lyon's passive ear: 78 channels of auditory nerve activity from a waveform of 12,500 Hz.

After Slaney's Apple Technical Report 13 and the toolbox that goes with it, with the settings of the paper's authors.
A cascade of second-order sections stands for the cochlea, high frequencies first; each section's output is a channel.
A channel is rectified, compressed by four stages of automatic gain control (AGC) that listen to their neighbours,
reduced by its neighbour, smoothed, and read once in 16 ms.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from hrmas_sparse.storage.kernels import Kernels

KERNELS = Kernels([__file__], nogil=True)
RATE = 12500  # samples a second
CHANNELS = 78
DECIMATION = 200  # samples a frame

# What a cache of Lyon features depends on.  The golden numbers hold everything else.
SETTINGS: dict[str, Any] = {"ear": "Lyon, passive", "rate": RATE, "ear_q": 8, "step_factor": 0.25, "tau_factor": 3,
                            "frame_ms": 16}

_Q = SETTINGS["ear_q"]
_STEP = SETTINGS["step_factor"]
_BREAK = 1000.0  # Hz: below, bandwidths hardly change
_ZERO_OFFSET = 1.5
_SHARPNESS = 5.0
_PREEMPHASIS = 300.0  # Hz
_AGC_TARGET = np.array([0.0032, 0.0016, 0.0008, 0.0004])
_AGC_EPS = 1 - np.exp(-1 / (np.array([0.64, 0.16, 0.04, 0.01]) * RATE))  # from seconds
_AGC_LIMIT = 0.9
_SMOOTH_EPS = 1 - np.exp(-1 / (DECIMATION * SETTINGS["tau_factor"]))
_FRONT = 2  # sections before the cascade, which are no channels
_TINY = 1e-200  # below, filter states become 0: their decay into denormal numbers would take a hundred times as long


def lyon(wave: np.ndarray) -> np.ndarray:
    """Cochleagram of a waveform; an incomplete last frame is dropped.

    Parameters
    ----------
    wave : (samples,) float64 at `RATE`, full scale [-1, 1)
        The scale matters a little: gain control evens out what is loud, not what is silent.

    Returns
    -------
    (78, samples // 200) float64, not negative; below 5e-4 for speech of full scale
    """
    frames = np.zeros((len(wave) // DECIMATION, _FRONT + CHANNELS))
    _listen(np.ascontiguousarray(wave, dtype=np.float64), *_cascade(), frames)
    return np.ascontiguousarray(frames[:, _FRONT:].T)


# ---- design of the cascade ---------------------------------------------------------------------------


@cache
def _cascade() -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators, (80, 3) each, of all sections: two front filters and 78 stages."""
    centre = _centres()
    zero = centre + _bandwidth(centre) * _STEP * _ZERO_OFFSET
    top = _top()
    b = _section(zero, _SHARPNESS * zero / _bandwidth(centre))
    a = _section(centre, centre / _bandwidth(centre))
    dc_gain = centre[:-1] / centre[1:]
    b *= (np.concatenate([dc_gain[:1], dc_gain]) * a.sum(axis=1) / b.sum(axis=1))[:, None]

    front_b = np.array([[0.0, 1.0, -np.exp(-2 * np.pi * _PREEMPHASIS / RATE)], [1.0, 0.0, -1.0]])
    front_a = np.array([[1.0, 0.0, 0.0], _section(top, centre[0] / _bandwidth(centre[0]))])
    quarter = np.exp(-0.5j * np.pi * np.arange(3))  # z^0, z^-1, z^-2 at a quarter of the rate
    front_b /= np.abs(front_b @ quarter / (front_a @ quarter))[:, None]
    return np.vstack([front_b, b]), np.vstack([front_a, a])


def _bandwidth(frequency):
    return np.hypot(frequency, _BREAK) / _Q


def _top() -> float:
    width = _bandwidth(RATE / 2) * _STEP
    return RATE / 2 - width * _ZERO_OFFSET + width


def _centres() -> np.ndarray:
    """Centre frequencies of the stages, falling.  On the scale E(f), whose logarithm is the place, they are even."""
    top, low = (f + np.hypot(f, _BREAK) for f in (_top(), _BREAK / np.sqrt(4 * _Q**2 - 1)))
    stages = int(_Q * (np.log(top) - np.log(low)) / _STEP)
    place = np.exp(np.arange(1, stages + 1) * _STEP / _Q)
    return (top / place - _BREAK**2 * place / top) / 2


def _section(frequency, quality) -> np.ndarray:
    """(..., 3) polynomial with a pair of roots at `frequency`."""
    radius = np.exp(-np.pi * frequency / (quality * RATE))
    angle = 2 * np.pi * frequency / RATE * np.sqrt(1 - 1 / (4 * quality**2))
    return np.stack([np.ones_like(radius), -2 * radius * np.cos(angle), radius**2], axis=-1)


# ---- the sample loop ---------------------------------------------------------------------------------


@KERNELS.jit
def _listen(wave, b, a, frames):
    """Fill frames (F, 80), the front sections' channels first."""
    sections = len(b)
    memory = np.zeros((2, sections))
    y = np.zeros(sections)
    gain_state = np.zeros((len(_AGC_TARGET), sections + 2))  # with a copy of the state at either edge
    smooth = np.zeros((4, sections))  # the last two inputs and outputs of the decimation filter
    for t in range(len(frames) * DECIMATION):
        _filter(wave[t], b, a, memory, y)
        if t % DECIMATION == 0:
            y[:_FRONT] = 0.0  # a quirk of the original, which the published features inherit
        for stage in range(len(_AGC_TARGET)):
            _control_gain(y, gain_state[stage], _AGC_EPS[stage], _AGC_TARGET[stage])
        for c in range(sections - 1, 0, -1):
            y[c] = max(0.0, y[c - 1] - y[c])
        _smooth(y, smooth)
        if t % DECIMATION == DECIMATION - 1:
            frames[t // DECIMATION] = smooth[2]


@KERNELS.jit
def _filter(x, b, a, memory, y):
    """One sample through the cascade, each section (transposed direct form II) fed by the one before; rectified."""
    for c in range(len(y)):
        out = b[c, 0] * x + memory[0, c]
        memory[0, c] = b[c, 1] * x - a[c, 1] * out + memory[1, c]
        memory[1, c] = b[c, 2] * x - a[c, 2] * out
        if abs(out) < _TINY:
            out = 0.0
        x = out
        y[c] = max(0.0, out)


@KERNELS.jit
def _control_gain(y, state, eps, target):
    """One stage of gain control in place: y (N,) and its state (N + 2,)."""
    fill, spread = eps / target, (1 - eps) / 3
    last = len(y)
    left = state[0]
    for c in range(last):
        middle, right = state[c + 1], state[c + 2]
        y[c] *= 1 - middle
        state[c + 1] = min(_AGC_LIMIT, y[c] * fill + spread * (left + middle + right))
        left = middle
    state[0], state[last + 1] = state[1], state[last]


@KERNELS.jit
def _smooth(y, state):
    """The decimation filter: two equal poles, gain 1, the input delayed by two samples."""
    pole, gain = 1 - _SMOOTH_EPS, _SMOOTH_EPS**2
    for c in range(len(y)):
        out = gain * state[1, c] + 2 * pole * state[2, c] - pole**2 * state[3, c]
        state[0, c], state[1, c] = y[c], state[0, c]
        state[2, c], state[3, c] = out, state[2, c]
