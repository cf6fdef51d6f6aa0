"""Runs an exported network in another program that reads NIR; a process of its own, in that program's environment.

    python peers.py PROGRAM NET.nir INPUT.npz OUTPUT.npz

INPUT has `x` (B, T, C) float32. OUTPUT gets the spikes of every layer, `s0`, `s1`, ... (B, T, N) bool, or where a
program does not show them those of the output layer, `out`; and `version`, `seconds`.
"""

import contextlib
import io
import sys
import time
import warnings
from importlib import metadata

import numpy as np

DT = 1e-4  # what the files are written with


def norse(path, x):
    """One call a time step, with the state of the step before."""
    import nir
    import torch
    from norse.torch import from_nir
    net = from_nir(nir.read(path), dt=DT)
    return _stepped(net, torch.from_numpy(x), ("CubaLIF",))


def snntorch(path, x):
    """`import_from_nir`, one call a time step; its neurons keep their state."""
    import nir
    import torch
    from snntorch.import_nir import import_from_nir
    return _stepped(import_from_nir(nir.read(path)), torch.from_numpy(x), ("Synaptic", "RSynaptic"))


def snntorch_nodes(path, x):
    """snnTorch's own conversion of each node, run in their order by us: its RSynaptic has the recurrence inside."""
    import nir
    import snntorch.import_nir as reader
    import torch
    graph = reader._replace_rnn_subgraph_with_nirgraph(nir.read(path))
    place, nodes = "input", []
    while place != "output":
        nodes.append(reader._nir_to_snntorch_module(graph.nodes[place], init_hidden=False))
        place = dict(graph.edges)[place]
    state, size = {}, x.shape[2]
    for n, node in enumerate(nodes):
        size = node.out_features if isinstance(node, torch.nn.Linear) else size
        if type(node).__name__ in ("Synaptic", "RSynaptic"):  # (spikes,) current, potential
            state[n] = (torch.zeros(len(x), size),) * (2 + (type(node).__name__ == "RSynaptic"))
    sent = {n: [] for n in state}
    with torch.no_grad():
        for t in range(x.shape[1]):
            signal = torch.from_numpy(x[:, t])
            for n, node in enumerate(nodes):
                if n in state:
                    output = node(signal, *state[n])
                    signal, state[n] = output[0], output if type(node).__name__ == "RSynaptic" else output[1:]
                    sent[n].append(signal.numpy() > 0)
                elif node is not None:
                    signal = node(signal)
    return {f"s{n}": np.stack(spikes, 1) for n, spikes in enumerate(sent.values())}


def rockpool(path, x):
    """All steps in one call; recurrence as rockpool expects it, a graph in the graph."""
    import nir
    import torch
    from rockpool.nn.modules.torch.nir import from_nir
    net, seen = from_nir(_nested(nir, nir.read(path))), []
    for module in net.modules():
        if type(module).__name__ == "LIFTorch":
            module.register_forward_hook(lambda module, given, output: seen.append(_first(output).numpy() > 0))
    with torch.no_grad():
        net.float()(torch.from_numpy(x))
    return {f"s{n}": spikes for n, spikes in enumerate(seen)}


def spyx(path, x):
    """All steps in one call."""
    import nir
    from spyx.nir import from_nir
    model, out = from_nir(nir.read(path), np.ascontiguousarray(x.transpose(1, 0, 2)), dt=DT)
    return {"out": np.asarray(out).transpose(1, 0, 2) > 0}


def _nested(nir, graph):
    """The graph with each recurrent layer as a graph of its own."""
    nodes, edges = dict(graph.nodes), list(graph.edges)
    for rec in [name for name in nodes if name.endswith(".w_rec")]:
        layer, lif = rec.split(".")[0], rec.replace(".w_rec", ".lif")
        inner = {"input": nir.Input(nodes[lif].input_type), "lif": nodes.pop(lif), "w_rec": nodes.pop(rec),
                 "output": nir.Output(graph.nodes[lif].output_type)}
        nodes[layer] = nir.NIRGraph(inner, [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")])
        edges = [tuple(layer if name == lif else name for name in edge) for edge in edges if rec not in edge]
    return nir.NIRGraph(nodes, edges)


def _stepped(net, x, kinds):
    """Spikes of all neurons of some kinds of modules, one call a time step."""
    import torch
    watched = {name: module for name, module in net.named_modules() if type(module).__name__ in kinds}
    seen, state = {name: [] for name in watched}, None
    for name, module in watched.items():
        module.register_forward_hook(lambda module, given, output, name=name: seen[name].append(
            _first(output).numpy() > 0))
    with torch.no_grad():
        for t in range(x.shape[1]):
            output = net(x[:, t]) if state is None else net(x[:, t], state)
            state = output[1] if isinstance(output, tuple) else None
    return {f"s{n}": np.stack(seen[name], 1) for n, name in enumerate(sorted(seen))}


def _first(output):
    return output[0] if isinstance(output, tuple) else output


def main(program, path, given, to):
    x = np.load(given)["x"]
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = globals()[program](path, x)
    np.savez_compressed(to, version=metadata.version(program.split("_")[0]), seconds=time.perf_counter() - started,
                        **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
