"""Whether a GPU computes what the CPU computes: a test of some seconds, to be passed before ``auto`` takes the GPU."""

import sys

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.backends import cuda, get_backend
from hrmas_sparse.engine.backends.cuda.verdict import alone, keep, verdict
from hrmas_sparse.engine.layers import LIF, Feedforward, Motifs, Supernet
from hrmas_sparse.engine.network import Network, Plasticity
from hrmas_sparse.storage.errors import InputError

W1 = 78, 800, 26, 50, 100   # inputs, neurons, outputs, samples, steps: the bench's first workload
SMALL = 40, 120, 7, 4, 40
CASES = {  # name: sizes, hidden layers of so many neurons, dtype, SpiKL-IP
    "a step of W1": (W1, lambda n: [Motifs(n, size=16, seed=0)], "float64", False),
    "a step of W1 in float32": (W1, lambda n: [Motifs(n, size=16, seed=0)], "float32", False),
    "a supernet over a feedforward layer, SpiKL-IP": (
        SMALL, lambda n: [Feedforward(n // 2), Supernet(n, sizes=(5, 8))], "float64", True),
}
CLOSE = 1e-9    # of the largest number of an array, float64: sums may be taken in another order, spikes stay
ALIKE = 0.2     # float32: share of samples in which a spike may be elsewhere, and of the loss


def test(backend) -> list[str]:
    """Return what a backend computes otherwise than the CPU, a line each; nothing if all is well.

    Raises
    ------
    InputError
        The device's memory is full, which says nothing of the device.
    """
    failed = []
    for name, case in CASES.items():
        try:
            problem = _compare(backend, *case)
        except Exception as error:  # whatever it is, such a GPU is not for use
            if isinstance(error, MemoryError) or "memory is full" in str(error):
                raise InputError(f"self-test: {error}") from error
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
        if problem:
            failed.append(f"{name}: {problem}")
    return failed


def _compare(backend, sizes, hidden, dtype, plastic):
    inputs, neurons, outputs, samples, steps = sizes
    rng, outcomes = np.random.default_rng(0), []
    events = Events.from_dense(rng.random((samples, steps, inputs)) < 0.1, rng.integers(0, outputs, samples))
    plasticity = Plasticity(tau_cal=16.0, gamma=0.02, mu=0.1) if plastic else None
    for where in (backend, get_backend("cpu")):
        net = Network(channels=inputs, classes=outputs, hidden=hidden(neurons), neuron=LIF(v_th=1, v_th_out=0.5),
                      backend=where, dtype=dtype)
        outcomes.append(net.gradients(net.init(seed=1), events, plasticity, record=True))
    here, other = outcomes
    if not min(other.rates) > 0:
        return "nothing spikes, so nothing was tested"
    moved = np.any([(a != b).any(axis=(1, 2)) for a, b in zip(here.spikes, other.spikes)], axis=0)
    if dtype == "float32":
        apart = abs(here.loss / other.loss - 1)
        return "" if moved.mean() <= ALIKE and apart <= ALIKE else (
            f"spikes differ in {moved.sum()} of {samples} samples, the loss by {100 * apart:.2g} %")
    if moved.any():
        return f"spikes differ in {moved.sum()} of {samples} samples"
    errors = {name: np.abs(value - expected).max() / np.abs(expected).max()
              for (name, value), expected in zip(here.gradients.flatten().items(), other.gradients.flatten().values())
              if value.size and expected.any()}
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    return "" if errors[worst] <= CLOSE else f"the gradient of {worst} differs by {errors[worst]:.1e}"


def examine(gpu, backend) -> list[str]:
    """Test the device of a :class:`Probe` and keep the verdict, which is returned."""
    failed = test(backend)
    keep(gpu, failed)
    return failed


def examine_at_first(name) -> None:
    """Test the GPU that a backend of this name might be, if it never was; "auto" alone asks for that.

    A device is tested once for each driver, version of the packages and of our sources, by one process at a time: some
    seconds, and most of a minute where its kernels are compiled.
    """
    gpu = cuda.probe() if name == "auto" else None
    if gpu is None or gpu.reason or gpu.simulated or verdict(gpu) is not None:
        return
    with alone(gpu):
        if verdict(gpu) is not None:
            return
        print(f"testing {gpu.device}, once: most of a minute", file=sys.stderr, flush=True)
        try:
            examine(gpu, get_backend("cuda"))
        except InputError as error:  # others use it; the next process tests it
            print(error, file=sys.stderr)
        except Exception as error:   # packages that do not even load
            keep(gpu, [f"{type(error).__name__}: {error}".splitlines()[0]])


def tested_backend(name="auto", threads=None):
    """Return a backend as :func:`get_backend` does; a GPU that "auto" might take is tested on its first use."""
    examine_at_first(name)
    return get_backend(name, threads)
