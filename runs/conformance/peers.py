"""Runs an exported network in another program that reads NIR; a process of its own, in that program's environment.

    python peers.py PROGRAM NET.nir INPUT.npz OUTPUT.npz

INPUT has `x` (B, T, C) float32. OUTPUT gets the spikes `s0`, `s1`, ... of every layer that can be looked into,
(B, T, N) bool, of the output layer at least (`out`); what was loaded (`loaded`), `version` and `seconds`.
"""

import contextlib
import io
import sys
import time
import warnings
from importlib import metadata

import numpy as np

DT = 1e-4


def norse(path, x):
    """One call a time step; state goes from step to step."""
    import nir
    import torch
    from norse.torch import from_nir
    net = from_nir(nir.read(path), dt=DT)
    return _stepped(net, torch.from_numpy(x), {name: module for name, module in net.named_modules()
                                               if type(module).__name__ == "CubaLIF"}), ""


def snntorch(path, x):
    import nir
    import torch
    from snntorch.import_nir import import_from_nir
    net = import_from_nir(nir.read(path))
    for module in net.modules():
        if hasattr(module, "init_hidden"):
            module.init_hidden = True
    return _stepped(net, torch.from_numpy(x), {name: module for name, module in net.named_modules()
                                               if type(module).__name__ in ("Synaptic", "RSynaptic")}), ""


def rockpool(path, x):
    import nir
    import torch
    from rockpool.nn.modules.torch.nir import from_nir
    torch.set_default_dtype(torch.float32)
    net = from_nir(nir.read(path))
    return _stepped(net.float(), torch.from_numpy(x), {}), ""


def spyx(path, x):
    import nir
    from spyx.nir import from_nir
    model, out = from_nir(nir.read(path), x.transpose(1, 0, 2), dt=DT)
    return {"out": np.asarray(out).transpose(1, 0, 2) > 0}, ""


def sinabs(path, x):
    import nir
    from sinabs.nir import from_nir
    net = from_nir(nir.read(path), batch_size=len(x))
    return {"out": net(x)}, ""


def _stepped(net, x, watched):
    """Spikes of the watched modules and of the output."""
    import torch
    seen = {name: [] for name in watched}
    for name, module in watched.items():
        module.register_forward_hook(lambda module, given, found, name=name: seen[name].append(
            (found[0] if isinstance(found, tuple) else found).detach().numpy() > 0))
    sent, state = [], None
    with torch.no_grad():
        for t in range(x.shape[1]):
            found = net(x[:, t]) if state is None else net(x[:, t], state)
            out, state = found if isinstance(found, tuple) else (found, None)
            sent.append(out.numpy() > 0)
    return {"out": np.stack(sent, 1), **{name: np.stack(spikes, 1) for name, spikes in seen.items() if spikes}}


def main(program, path, given, to):
    x = np.load(given)["x"]
    started, loaded = time.perf_counter(), io.StringIO()
    with contextlib.redirect_stdout(loaded), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = globals()[program](path, x)
    np.savez(to, version=metadata.version(program), seconds=time.perf_counter() - started, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
