"""A user's own network: single entries of its gradients against central differences of its loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.network import Network
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.storage.errors import InputError


class GradientRow(NamedTuple):
    """One entry of one parameter's gradient.

    layer, name : the parameter, layer from 0 (R and tau stand for their logarithms); index : of the entry
    by_hand : what :meth:`Network.gradients` says; by_difference : what the loss says
    error : their difference, in units of the parameter's largest gradient
    """

    layer: int
    name: str
    index: tuple[int, ...]  # type: ignore[assignment]  # tuple has a method of that name
    by_hand: float
    by_difference: float
    error: float


def check_gradients(net: Network, params: Parameters, events: Events, eps: float = 1e-5,
                    entries: int = 5, intrinsic: bool = False) -> list[GradientRow]:
    """Compare the gradients of a smooth network with central differences of its loss (mathematics 12).

    Parameters
    ----------
    net : Network
        With ``smooth=True`` and ``dtype="float64"``: the loss of a spiking network is piecewise constant.
    params : Parameters
        Left as they are.
    events : Events
    eps : float
        Step to either side, above 0.
    entries : int
        Of each parameter, drawn with a fixed seed; all of them where there are no more.
    intrinsic : bool
        Also the gradients of ln R and ln tau; see :meth:`Network.gradients`.

    Returns
    -------
    list of GradientRow

    Raises
    ------
    InputError
        The network is not smooth, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> net = hs.Network(channels=4, classes=2, hidden=[hs.Dense(6)], neuron=hs.LIF(v_th=1), backend="cpu",
    ...                  dtype="float64", smooth=True)
    >>> events = hs.Events.from_dense(np.ones((3, 10, 4), bool), labels=[0, 1, 1])
    >>> rows = hs.check_gradients(net, net.init(seed=0), events)
    >>> len(rows), max(row.error for row in rows) < 1e-6
    (15, True)
    """
    if not isinstance(net, Network) or not net.smooth or net.dtype != np.float64:
        raise InputError('net: expected a Network with smooth=True and dtype="float64": the loss of a spiking network '
                         "is piecewise constant and has no differences")
    if not isinstance(eps, (int, float)) or not np.isfinite(eps) or eps <= 0:
        raise InputError(f"eps: expected a finite number above 0, found {eps!r}")
    if not isinstance(entries, (int, np.integer)) or isinstance(entries, bool) or entries < 1:
        raise InputError(f"entries: expected a whole number of at least 1, found {entries!r}")
    gradients = net.gradients(params, events, intrinsic=intrinsic).gradients
    shifted, rng, rows = params.copy(), np.random.default_rng(0), []
    assert gradients is not None
    for n, (layer, arrays) in enumerate(zip(gradients.layers, shifted.layers)):
        for name, gradient in layer.items():
            largest, array = float(np.abs(gradient).max(initial=0.0)) or 1.0, arrays[name]
            for place in np.sort(rng.permutation(array.size)[:entries]):
                index = tuple(int(i) for i in np.unravel_index(place, array.shape))
                start, losses = array[index], []
                for side in (1, -1):
                    array[index] = start * np.exp(side * eps) if name in INTRINSIC else start + side * eps
                    losses.append(net.loss(shifted, events))
                array[index] = start
                slope, by_hand = (losses[0] - losses[1]) / (2 * eps), float(gradient[index])
                rows.append(GradientRow(n, name, index, by_hand, slope, abs(by_hand - slope) / largest))
    return rows
