"""One fresh process: measure one entrant on one problem, or check its gradients; the result is a line of JSON.

    python -m runs.bench.worker ours.make problem.npz --threads 2
    python -m runs.bench.worker peers.tssl.dense check.npz --check

Run from the root of the checkout, in the environment the entrant needs.
"""

import argparse
import functools
import importlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import numpy as np

from runs.bench import measure
from runs.bench import workloads as w

MARK = "RESULT "
PACKAGES = ("numpy", "numba", "llvmlite", "cupy", "torch", "snntorch", "spikingjelly", "norse", "jax", "spyx",
            "brainevent")


def versions():
    """Versions of Python and of what is loaded."""
    numbers = {"python": platform.python_version()}
    for name in PACKAGES:
        if name in sys.modules:
            numbers[name] = getattr(sys.modules[name], "__version__", None) or importlib.metadata.version(name)
    return numbers


def relative_error(gradients, wanted):
    """Norm of the difference over the norm of what was wanted, the worst of all arrays of ``wanted``."""
    errors = {}
    for name, value in wanted.items():
        norm = np.linalg.norm(value)
        errors[name] = float(np.linalg.norm(np.asarray(gradients[name], np.float64) - value) / (norm or 1.0))
    return max(errors.values()), errors


def check(make, problem):
    """Gradients in float64 against the reference the problem carries under ``g.<parameter>``."""
    gradients = make(problem, dtype="float64").gradients()
    wanted = {key[2:]: value for key, value in problem.items() if key.startswith("g.")}
    worst, errors = relative_error(gradients, wanted)
    return {"error": worst, "errors": errors}


def run(arguments):
    """Carry out the command line; returns the result."""
    module, function = arguments.entrant.rsplit(".", 1)
    make = getattr(importlib.import_module(f"runs.bench.{module}"), function)
    make, device = functools.partial(make, threads=arguments.threads, compiled=arguments.compiled), measure.Host()
    if arguments.device != "cpu":
        make, device = _on_gpu(make, arguments)
    problem = w.load(arguments.problem)
    if arguments.check:
        record = check(make, problem)
    elif arguments.kernels:
        from runs.bench.gpu import kernels
        record = kernels(make, problem)
    else:
        record = measure.measure(make, problem, w.shortened(problem, measure.WARM_STEPS), arguments.seconds,
                                arguments.least, arguments.most, device)
    return record | {"versions": versions()}


def _on_gpu(make, arguments):
    """An entrant on the GPU, as a CUDA graph if wanted, and the GPU as its framework sees it."""
    gpu = importlib.import_module({"": "runs.bench.gpu", "torch": "runs.bench.peers.gpu",
                                   "jax": "runs.bench.peers.jax_gpu"}[arguments.framework])
    there = functools.partial(make, device=arguments.device)
    if not arguments.graph:
        return there, gpu.Device()
    return lambda *problem, **options: gpu.Captured(there(*problem, **options)), gpu.Device()


def main(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(description="Run one problem of the bench.")
    parser.add_argument("entrant", help="module.function under runs.bench")
    parser.add_argument("problem", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--framework", default="", help="on a GPU: torch or jax; ours has none")
    parser.add_argument("--graph", action="store_true", help="a step as one CUDA graph")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--kernels", action="store_true", help="ours on a GPU: time each kernel")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--least", type=int, default=3)
    parser.add_argument("--most", type=int, default=30)
    print(MARK + json.dumps(run(parser.parse_args(argv))), flush=True)


if __name__ == "__main__":
    main()
