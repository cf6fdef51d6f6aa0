"""Networks as NIR, the Neuromorphic Intermediate Representation, and back (docs/howto/export.md).

A layer is a Linear node, a CubaLIF node and, with recurrence, a second Linear node in a loop:

    input -> w1 -> layer1.lif -> ... -> w_out -> layer_out.lif -> output
                   layer1.lif -> layer1.w_rec -> layer1.lif

NIR describes neurons by differential equations. Ours is their forward Euler step of `dt`; with time in steps,

    tau_syn = tau_s dt     w_in = tau_s      so that  I[t] = (1 - 1/tau_s) I[t-1] + S[t]         = c[t]
    tau_mem = tau dt       r = R             so that  v[t] = (1 - 1/tau) v[t-1] + R/tau I[t]

Writing needs the package `nir` (extra nir), which checks the graph. Reading does not: files come from others, so sizes,
links and kinds are checked here before anything is read.
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.environment import install
from hrmas_sparse.export.description import Description, LayerDescription, Topology
from hrmas_sparse.export.graph import GraphFile, chain
from hrmas_sparse.storage import hdf5, records
from hrmas_sparse.storage.atomic import write_bytes
from hrmas_sparse.storage.errors import InputError

DT = 1e-4  # seconds of a step unless said otherwise: what the NIR paper uses, and what snnTorch takes for granted
LARGEST_DENSE = 16384  # neurons: NIR has no sparse matrix
_KINDS = ("Input", "Output", "Linear", "Affine", "CubaLIF")
_DISCRETISATION = (
    "forward Euler with step dt; in each step, synapses first: I = (1 - dt/tau_syn) I + dt/tau_syn w_in S, then "
    "v = (1 - dt/tau_mem) v + dt/tau_mem r I, then spike = v > v_threshold (strictly), then v = 0 where it spiked; "
    "feedforward spikes arrive in the same step, recurrent ones in the next")
_DECISION = "filter the output spikes, a = (1 - dt/tau_syn) a + spike, sum a over all steps, take the largest"


def write(path: str | Path, description: Description, dt: float = DT) -> None:
    """Write a network as NIR, atomically.

    Parameters
    ----------
    description : Description
    dt : seconds of a step
        Only scales the time constants; the network is the same.

    Raises
    ------
    InputError
        The package `nir` is missing, a recurrent layer is too large for a dense matrix, or the file cannot be written.
    """
    try:
        import nir
    except ImportError:
        raise InputError(f"{path}: the package nir is not installed; {install('nir')}, or export .npz") from None
    if not 0 < dt < 1e3:
        raise InputError(f"dt: expected the seconds of a step, found {dt}")
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([description.channels])})}
    edges, below, topology = [], "input", {}
    for key, layer in description.named():
        if layer.recurrent and layer.size > LARGEST_DENSE:
            raise InputError(f"{path}: layer {key}: NIR has dense matrices only, expected at most {LARGEST_DENSE:,} "
                             f"recurrent neurons, found {layer.size:,}; export .npz or .h")
        lif, w = f"layer{key}.lif", f"w{key}"
        nodes |= {w: nir.Linear(np.ascontiguousarray(layer.w.T)), lif: _neurons(nir, layer, description.tau_s, dt)}
        edges += [(below, w), (w, lif)]
        if layer.recurrent:
            nodes[f"layer{key}.w_rec"] = nir.Linear(layer.dense())
            edges += [(lif, f"layer{key}.w_rec"), (f"layer{key}.w_rec", lif)]
        if layer.topology is not None:
            t = layer.topology
            topology[key] = {"motif_size": t.motif_size, "inter": int(t.inter), "tied": int(t.tied), "types": t.types}
        below = lif
    nodes["output"] = nir.Output({"output": np.array([description.classes])})
    edges.append((below, "output"))
    metadata = {"program": "hrmas_sparse", "name": description.name, "dt": dt, "discretisation": _DISCRETISATION,
                "decision": _DECISION, "class_names": json.dumps(description.class_names)}
    if topology:
        metadata["topology"] = topology
    image = io.BytesIO()
    nir.write(image, nir.NIRGraph(nodes, edges, metadata))
    write_bytes(path, image.getbuffer())


def _neurons(nir: Any, layer: LayerDescription, tau_s: float, dt: float) -> Any:
    """The CubaLIF node of a layer, float64."""
    ones = np.ones(layer.size)
    return nir.CubaLIF(tau_syn=tau_s * dt * ones, tau_mem=layer.tau.astype(np.float64) * dt, r=layer.R * ones,
                       v_leak=0 * ones, v_threshold=layer.v_th * ones, v_reset=0 * ones, w_in=tau_s * ones)


def read(path: str | Path, dt: float | None = None) -> Description:
    """Read a network of Linear and CubaLIF nodes.

    Parameters
    ----------
    dt : seconds of a step
        By default what the file's metadata say, as ours do.

    Raises
    ------
    InputError
        The file is missing, no NIR file, or has nodes, edges or shapes that our networks do not have. The message
        names the node, what was expected, what was found and what to do.
    """
    path = Path(path)
    try:
        with hdf5.opened(path) as file:
            return _description(GraphFile(file), path, dt)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None
    except hdf5.BROKEN as error:
        raise InputError(f"{path}: expected a NIR file (HDF5), could not read it ({str(error)[:200]}); export the "
                         "network again") from None


def _description(file: GraphFile, path: Path, dt: float | None) -> Description:
    kinds = _kinds(file)
    if dt is None:
        dt = _scalar(file, "node/metadata/dt")
    if dt is None or not 0 < dt < 1e3:
        raise InputError(f"node/metadata/dt: expected the seconds of a step, found {dt}; give dt=")
    pairs = [_layer(file, *names, dt) for names in chain(kinds, file.pairs("node/edges"))]
    layers, tau_s = [layer for layer, _ in pairs], pairs[0][1]
    for n, (_, other) in enumerate(pairs):
        if not np.isclose(other, tau_s, rtol=1e-6):
            raise InputError(f"layer {n + 1}: tau_syn: expected that of the first layer, {tau_s} steps, found {other}; "
                             "our layers share one synaptic time constant")
    for kind, size in (("Input", layers[0].w.shape[0]), ("Output", layers[-1].size)):
        name = next(name for name in kinds if kinds[name] == kind)
        shape = file.array(f"node/nodes/{name}/shape", 1)
        if shape is not None and shape.tolist() != [size]:
            raise InputError(f"node {name!r}: shape: expected ({size},) as its neighbour has, found {shape.tolist()}; "
                             "only layers of one dimension can be read")
    dtype = np.result_type(*(layer.w for layer in layers), *(layer.data for layer in layers))
    layers = [_with_dtype(_with_topology(file, key, layer), dtype)
              for key, layer in zip([*map(str, range(1, len(layers))), "_out"], layers)]
    return Description(tuple(layers), tau_s, file.text("node/metadata/name") or path.stem, _class_names(file))


def _kinds(file: GraphFile) -> dict[str, str]:
    """Kind of every node, all of them known."""
    names, kind = file.group("node/nodes"), file.text("node/type")
    if kind != "NIRGraph" or names is None:
        raise InputError(f"node: expected a NIRGraph with nodes, found {kind}; export the whole graph")
    kinds = {name: file.text(f"node/nodes/{name}/type") or "nothing" for name in names}
    for name, kind in kinds.items():
        if kind not in _KINDS:
            raise InputError(f"node {name!r}: expected one of {', '.join(_KINDS)}, found {kind}; our neurons are "
                             "current-based LIF neurons: export the network with CubaLIF nodes in a flat graph")
    return kinds


def _layer(file: GraphFile, w: str, lif: str, rec: str | None, dt: float) -> tuple[LayerDescription, float]:
    """A layer, and its synaptic time constant in steps."""
    feedforward = _weights(file, w)
    size = feedforward.shape[0]
    tau_syn, tau_mem, r, v_th = (_neuron(file, lif, name, size) for name in ("tau_syn", "tau_mem", "r", "v_threshold"))
    for name in ("v_leak", "v_reset"):
        if _neuron(file, lif, name, size, default=0).any():
            raise InputError(f"node {lif!r}: {name}: expected 0, found other numbers; our neurons leak and reset to 0")
    for name, values, positive in (("tau_syn", tau_syn, True), ("tau_mem", tau_mem, True), ("r", r, False),
                                   ("v_threshold", v_th, True)):
        if not np.isfinite(values).all() or positive and (values <= 0).any():
            raise InputError(f"node {lif!r}: {name}: expected {'positive' if positive else 'finite'} numbers, found "
                             f"{values[~np.isfinite(values) | (values <= 0)][0]}; export the network again")
    for name, values in (("tau_syn", tau_syn), ("v_threshold", v_th)):
        if not np.allclose(values, values[0], rtol=1e-6, atol=0):
            raise InputError(f"node {lif!r}: {name}: expected the same of all neurons, found {values.min()} to "
                             f"{values.max()}; our layers have one{': scale the weights' if name[0] == 'v' else ''}")
    tau_s = _steps(tau_syn[:1], dt)[0]
    links = np.zeros((size, size), feedforward.dtype) if rec is None else _weights(file, rec)
    if links.shape != (size, size):
        raise InputError(f"node {rec!r}: weight: expected {(size, size)}, as {w!r} has {size} receivers, found "
                         f"{links.shape}; export the network again")
    scale = _neuron(file, lif, "w_in", size, default=1) / tau_s
    if not np.allclose(scale, 1, rtol=1e-6):  # not ours: what it multiplies goes into the weights
        feedforward, links = feedforward * scale[:, None], links * scale[:, None]
    senders, receivers = np.nonzero(links.T)
    return LayerDescription(np.ascontiguousarray(feedforward.T),
                            np.searchsorted(senders, np.arange(size + 1)).astype(np.int64), receivers.astype(np.int64),
                            links[receivers, senders], r, _steps(tau_mem, dt), float(v_th[0])), tau_s


def _weights(file: GraphFile, name: str) -> np.ndarray:
    """Weights (receivers, senders) of a node."""
    weight, bias = file.array(f"node/nodes/{name}/weight", 2), file.array(f"node/nodes/{name}/bias", 1)
    if weight is None or not weight.size:
        raise InputError(f"node {name!r}: weight: expected a matrix, found nothing; export the network again")
    if bias is not None and bias.any():
        raise InputError(f"node {name!r}: bias: expected none, found numbers other than 0; our neurons have no bias")
    return weight


def _neuron(file: GraphFile, lif: str, name: str, size: int, default: float | None = None) -> np.ndarray:
    """One number for each neuron of a node, float64."""
    values = file.array(f"node/nodes/{lif}/{name}", 1)
    if values is None and default is not None:
        return np.full(size, default, np.float64)
    if values is None or values.shape != (size,):
        raise InputError(f"node {lif!r}: {name}: expected {size} numbers, one a neuron, found "
                         f"{'nothing' if values is None else values.shape}; export the network again")
    return values.astype(np.float64)


def _steps(seconds: np.ndarray, dt: float) -> np.ndarray:
    """Time constants in steps, to 15 digits: 8e-4 s of 1e-4 s are 8 steps and not 8.000000000000002."""
    return np.array([float(f"{x:.15g}") for x in seconds / dt])


def _with_dtype(layer: LayerDescription, dtype: np.dtype) -> LayerDescription:
    arrays = {name: getattr(layer, name).astype(dtype) for name in ("w", "data", "R", "tau")}
    return dataclasses.replace(layer, **arrays)


def _with_topology(file: GraphFile, key: str, layer: LayerDescription) -> LayerDescription:
    """The layer with the motif that our own files name."""
    place = f"node/metadata/topology/{key}"
    if file.group(place) is None:
        return layer
    size, inter, tied = (_scalar(file, f"{place}/{name}") for name in ("motif_size", "inter", "tied"))
    types = file.array(f"{place}/types", 1)
    if size is None or types is None or size != int(size) or not np.isin(types, (0, 1, 2)).all():
        raise InputError(f"{place}: expected a motif's size and types, found others; export the network again")
    return dataclasses.replace(layer, topology=Topology(int(size), bool(inter), bool(tied), types.astype(np.int8)))


def _scalar(file: GraphFile, name: str) -> float | None:
    value = file.array(name, 0)
    return None if value is None or not np.isfinite(value) else float(value)


def _class_names(file: GraphFile) -> tuple[str, ...]:
    text, place = file.text("node/metadata/class_names"), "node/metadata/class_names"
    if text is None:
        return ()
    names = records.parsed_json(text, place)
    if not records.fits(names, [str]):
        raise InputError(f"{place}: expected a JSON list of texts, found {text[:60]!r}; export the network again")
    return tuple(names)
