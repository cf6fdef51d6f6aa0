"""A network as a :class:`~hrmas_sparse.export.description.Description`, for files of other programs, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hrmas_sparse.engine.architecture import Architecture
from hrmas_sparse.engine.checks import check_parameters
from hrmas_sparse.engine.layers import LIF, Dense, Feedforward, Motifs, Recurrent
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.engine.recurrence import Discrete, Free
from hrmas_sparse.export.description import Description, LayerDescription, Topology
from hrmas_sparse.storage.errors import InputError


def describe(network: Any, params: Parameters, name: str, class_names: Sequence[str]) -> Description:
    """Describe a network and its parameters; see :meth:`Network.describe`."""
    if network.smooth:
        raise InputError("smooth: expected a network of spiking neurons, found the smooth variant, which is for checks "
                         "of gradients; build it with smooth=False")
    if not network.spiking_output:
        raise InputError("readout: expected output neurons that spike, found integrators, which no file format has; "
                         "train one with readout=None (settings: network.readout=spiking network.windows=1)")
    for n, arrays in enumerate(getattr(params, "layers", [])):
        for key in INTRINSIC:
            if getattr(arrays.get(key), "ndim", 1) != 1:
                raise InputError(f"parameters: layer {n}, {key}: expected one number a neuron, found a trajectory "
                                 f"{arrays[key].shape}; give the mean over its steps")
    check_parameters(params, network.shapes(), network.dtype, 0, 0)
    host, layers = network.backend.to_host, []
    for layer, arrays, synapses in zip(network.layers, params.layers, network.stack.synapses(params)):
        R, tau = (host(arrays[key]) if key in arrays else np.full(layer.size, network.neuron.tau_m, network.dtype)
                  for key in INTRINSIC)
        links, topology = synapses.links, None
        if isinstance(layer.recurrence, Discrete):
            a = layer.recurrence.architecture
            topology = Topology(a.motif_size, a.linked, a.tied, a.types.astype(np.int8))
        layers.append(LayerDescription(host(synapses.w), np.asarray(host(links.indptr), np.int64),
                                       np.asarray(host(links.indices), np.int64), host(links.data), R, tau,
                                       float(layer.v_th), topology))
    return Description(tuple(layers), float(network.neuron.tau_s), name, tuple(class_names))


def built(network_class: Any, path: Any, description: Description, **options: Any) -> tuple[Any, Parameters]:
    """Build the network of a description, which was read from ``path``; options as of :class:`Network`.

    A layer with a topology becomes one of motifs, another with links one whose pattern of links is free. The output
    layer of a :class:`Network` has one time constant and R = tau: a gain goes into its weights.

    Raises
    ------
    InputError
        The output neurons have different time constants, or links are not those of the topology.
    """
    out, tau_s = description.layers[-1], description.tau_s
    if (out.tau != out.tau[0]).any():
        raise InputError(f"{path}: tau_out: expected one time constant of all output neurons, found {out.tau.min()} to "
                         f"{out.tau.max()}; export the network with the same for all")
    gain = out.R / out.tau
    w_out = out.w if (gain == 1).all() else out.w * gain
    hidden, params = [], []
    for n, layer in enumerate(description.layers[:-1], start=1):
        kind, weights = _layer(layer, layer.v_th / tau_s, f"{path}: topology of layer {n}")
        hidden.append(kind)
        params.append({"w": layer.w, **weights, "R": layer.R, "tau": layer.tau})
    neuron = LIF(tau_m=float(out.tau[0]), tau_s=tau_s, v_th_out=out.v_th / tau_s)
    network = network_class(description.channels, description.classes, hidden, neuron, dtype=str(description.dtype),
                            **options)
    return network, Parameters([*params, {"w": w_out}]).copy()


def _layer(layer: LayerDescription, v_th: float, where: str) -> tuple[Any, dict]:
    """The kind of a hidden layer, and the parameters of its links."""
    if layer.topology is not None:
        return _motifs(layer, layer.topology, v_th, where)
    if not layer.recurrent:
        return Feedforward(layer.size, v_th=v_th), {}
    if layer.data.size == layer.size**2:
        return Dense(layer.size, v_th=v_th), {"w_rec": layer.data}
    return Recurrent(Free(layer.size, layer.senders, layer.indices), v_th=v_th), {"w_rec": layer.data}


def _motifs(layer: LayerDescription, a: Topology, v_th: float, where: str) -> tuple[Any, dict]:
    try:
        architecture = Architecture(layer.size, a.motif_size, a.inter, a.types, a.tied)
    except InputError as error:
        raise InputError(f"{where}: {error}; export the network again") from None
    pattern = Discrete(architecture)
    # A link whose weight is 0 may be missing: dense matrices do not know it.
    keys, there = (source * layer.size + target for source, target in (
        (pattern.source, pattern.target), (layer.senders, layer.indices)))
    places = np.minimum(np.searchsorted(keys, there), max(keys.size - 1, 0))
    if there.size and not (keys.size and np.array_equal(keys[places], there)):
        raise InputError(f"{where}: expected links where its motif has connections, found others; export the network "
                         "again")
    data = np.zeros(keys.size, layer.data.dtype)
    data[places] = layer.data
    inhibitory = np.unique(data[~pattern.excitatory])
    if inhibitory.size > 1:
        raise InputError(f"{where}: expected one weight of all inhibitory links, found {inhibitory.min()} to "
                         f"{inhibitory.max()}; export the network again")
    weights: dict[str, Any] = {"w_inh": float(inhibitory[0])} if inhibitory.size else {}
    return Motifs(layer.size, architecture=architecture, v_th=v_th, **weights), {"w_exc": data[pattern.excitatory]}
