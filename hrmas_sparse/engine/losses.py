"""Losses: what the output layer should do. The settings name them, in the order of ``LOSSES`` here.

A loss is an object that is called with (psc, labels, tau_s) and returns (loss (b,), gradient (b, T, O)).
``from_settings`` builds it from the section [loss].
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hrmas_sparse.settings import schema
from hrmas_sparse.storage.errors import InputError


class Loss(Protocol):
    """The loss of each sample and its gradient."""

    def __call__(self, psc: Any, labels: Any, tau_s: float) -> tuple[Any, Any]:
        """Return loss (b,) and its gradient with respect to psc (b, T, O).

        psc (b, T, O) and labels (b,) lie where the backend computes; tau_s is in steps.
        """


@dataclass(frozen=True)
class PscLoss:
    """The paper's loss [29, 30]: half the squared distance to the psc of the desired spike train (mathematics 4).

    Parameters
    ----------
    period : int
        The true class should spike at steps period - 1, 2 period - 1, ...; the others never.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradient = PscLoss()(np.zeros((1, 2, 3)), np.array([1]), tau_s=2.0)
    >>> loss
    array([1.625])
    >>> gradient[0, :, 1]
    array([-1. , -1.5])
    """

    period: int = 1

    @classmethod
    def from_settings(cls, section: Any) -> PscLoss:
        """Build the loss from the settings' section [loss]."""
        return cls(section.target_period)

    def __call__(self, psc: Any, labels: Any, tau_s: float) -> tuple[Any, Any]:
        desired = desired_psc(psc.shape[1], self.period, tau_s)
        error = psc.astype(np.float64) - np.asarray(desired, like=psc)[:, None] * _true(labels, psc)[:, None]
        return 0.5 * (error**2).sum(axis=(1, 2)), error


@dataclass(frozen=True)
class CrossEntropyLoss:
    """Cross entropy on softmax(scale * sum_t psc).

    Parameters
    ----------
    scale : float
        Factor of the summed psc.
    smoothing : float
        Share of the target that is spread over all classes alike.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradient = CrossEntropyLoss()(np.zeros((1, 2, 4)), np.array([1]), tau_s=2.0)
    >>> float(loss[0]) == float(np.log(4))
    True
    """

    scale: float = 0.02
    smoothing: float = 0.0

    @classmethod
    def from_settings(cls, section: Any) -> CrossEntropyLoss:
        """Build the loss from the settings' section [loss]."""
        return cls(section.softmax_scale, section.smoothing)

    def __call__(self, psc: Any, labels: Any, tau_s: float) -> tuple[Any, Any]:
        logits = self.scale * psc.sum(axis=1, dtype=np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        target = self.smoothing / psc.shape[2] + (1 - self.smoothing) * _true(labels, psc)
        error = np.exp(log_probability) - target
        gradient = np.repeat(self.scale * error[:, None], psc.shape[1], axis=1)
        return -(target * log_probability).sum(axis=1), gradient


LOSSES: dict[str, Any] = dict(zip(schema.LOSSES, (PscLoss, CrossEntropyLoss), strict=True))


def make_loss(loss: str | Loss) -> Loss:
    """Return a loss by its name, with its defaults, or the loss that is given.

    Raises
    ------
    InputError
        There is no loss of that name.
    """
    if not isinstance(loss, str):
        if not callable(loss):
            raise InputError(f"loss: expected a name or a loss object, found {loss!r}")
        return loss
    if loss not in LOSSES:
        raise InputError(f"loss: expected one of {', '.join(LOSSES)}, found {loss!r}")
    made: Loss = LOSSES[loss]()
    return made


@functools.lru_cache(maxsize=8)
def desired_psc(steps: int, period: int, tau_s: float) -> np.ndarray:
    """Return the psc of a neuron that spikes at steps period - 1, 2 period - 1, ...; (T,) float64, read only."""
    desired, trace = np.zeros(steps), 0.0
    for t in range(steps):
        trace = (1 - 1 / tau_s) * trace + ((t + 1) % period == 0)
        desired[t] = trace
    desired.flags.writeable = False
    return desired


def _true(labels: Any, psc: Any) -> Any:
    """1 for the class of each sample, 0 for the others, (b, O); beside psc."""
    return (labels[:, None] == np.arange(psc.shape[2], like=psc)).astype(np.float64)
