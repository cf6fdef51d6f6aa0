"""A network as a :class:`~hrmas_sparse.export.description.Description`, for files of other programs, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hrmas_sparse.engine.recurrence import Motif
from hrmas_sparse.export.description import Description, LayerDescription, Topology
from hrmas_sparse.storage.errors import InputError


def describe(network: Any, params: Any, name: str = "network", class_names: Sequence[str] = ()) -> Description:
    """Describe a network and its parameters.

    Parameters
    ----------
    network : Network
    params : Parameters
        R and tau (N,).
    name : str
    class_names : sequence of str

    Raises
    ------
    InputError
        The network is smooth, or R and tau are trajectories.
    """
    if network.neurons.smooth:
        raise InputError("network: expected spiking neurons, found the smooth variant, which is for checks of "
                         "gradients; build the network with smooth=False")
    host, layers = network.backend.to_host, []
    for n, (layer, own, synapses) in enumerate(zip(network.layers, params.layers, network.synapses(params)), start=1):
        R, tau = (host(own[key]) if key in own else np.full(layer.size, network.neurons.tau_m, network.dtype)
                  for key in ("R", "tau"))
        for key, values in (("R", R), ("tau", tau)):
            if values.ndim != 1:
                raise InputError(f"{key}{n}: expected one number a neuron, ({layer.size},), found a trajectory "
                                 f"{values.shape}; give the mean over its steps")
        links, topology = synapses.links, None
        if isinstance(layer.recurrence, Motif):
            a = layer.recurrence.architecture
            topology = Topology(a.motif_size, a.inter, a.tied, a.types)
        layers.append(LayerDescription(host(synapses.w), np.asarray(host(links.indptr), np.int64),
                                       np.asarray(host(links.indices), np.int64), host(links.data), R, tau,
                                       float(layer.v_th), topology))
    return Description(tuple(layers), float(network.neurons.tau_s), name, tuple(class_names))
