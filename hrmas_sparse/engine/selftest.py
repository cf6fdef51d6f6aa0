"""Whether a GPU computes what the CPU computes: a test of some seconds, to be passed before ``auto`` takes the GPU.

And what others have computed: the folder golden has two small cases of tests/golden, without what is not compared here.
"""

import sys
from pathlib import Path

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.backends import cuda, get_backend
from hrmas_sparse.engine.backends.cuda.verdict import alone, keep, verdict
from hrmas_sparse.engine.layers import LIF, Feedforward, Motifs, Recurrent, Supernet
from hrmas_sparse.engine.network import Network, Plasticity
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.recurrence import Free
from hrmas_sparse.process import stop_behind
from hrmas_sparse.storage import npy
from hrmas_sparse.storage.errors import InputError

W1 = 78, 800, 26, 50, 100   # inputs, neurons, outputs, samples, steps: the bench's first workload
SMALL = 40, 120, 7, 4, 40
CASES = {  # name: sizes, hidden layers of so many neurons, dtype, SpiKL-IP
    "a step of W1": (W1, lambda n: [Motifs(n, size=16, seed=0)], "float64", False),
    "a step of W1 in float32": (W1, lambda n: [Motifs(n, size=16, seed=0)], "float32", False),
    "a supernet over a feedforward layer, SpiKL-IP": (
        SMALL, lambda n: [Feedforward(n // 2), Supernet(n, sizes=(5, 8))], "float64", True),
}
GOLDEN = Path(__file__).with_name("golden")
NUMBERS = "recurrent_const", "supernet"    # files there
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
    tests = {name: (_compare, *case) for name, case in CASES.items()} | {
        f"golden numbers, {name}": (_compare_golden, name) for name in NUMBERS}
    for name, (compare, *case) in tests.items():
        try:
            problem = compare(backend, *case)
        except Exception as error:  # whatever it is, such a GPU is not for use
            if stop_behind(error):
                raise  # somebody ended the program, which says nothing of the device
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
        if where is backend:    # with nothing recorded, as in training, the output layer has a kernel of its own
            gradients = net.gradients(net.init(seed=1), events, plasticity).gradients
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
    return _apart(here.gradients, other.gradients) or _apart(gradients, other.gradients)


def _apart(gradients, expected):
    """How gradients differ from those expected; empty if they hardly do."""
    found = gradients.flatten()
    errors = {name: np.abs(found[name] - value).max() / np.abs(value).max()
              for name, value in expected.flatten().items() if value.size and value.any()}
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    return "" if errors[worst] <= CLOSE else f"the gradient of {worst} differs by {errors[worst]:.1e}"


def _compare_golden(backend, name):
    """What a backend computes otherwise than an implementation that shares nothing with this one."""
    file = npy.load(GOLDEN / f"{name}.npz")
    weights, tau_s = file["W_in"], float(file["tau_s"])
    if "sizes" in file:
        layer = Supernet(len(weights), tuple(file["sizes"].tolist()), w_inh=float(file["w_inh"]))
        links = layer.recurrence()
    else:
        links = Free(len(weights), *np.nonzero(file["W_rec"].T))
        layer = Recurrent(links)
    neuron = LIF(float(file["tau_m"]), tau_s, float(file["v_th"]) / tau_s, slope_cap=float(file.get("slope_cap", 8)),
                 surrogate_width=float(file.get("surrogate_width", 0.2)))
    net = Network(channels=weights.shape[1], classes=len(file["W_out"]), hidden=[layer], neuron=neuron,
                  backend=backend, dtype="float64")
    intrinsic = Parameters([{name: file[name] for name in ("R", "tau") if name in file}, {}])
    parameters = _golden(file, links).replaced(net.initial_intrinsic()).replaced(intrinsic)
    found = net.gradients(parameters, Events.from_dense(file["X"], file["Y"].astype(np.int64)))
    if not abs(found.loss / float(file["loss"]) - 1) <= CLOSE:
        return f"the loss is {found.loss}, not {float(file['loss'])}"
    return _apart(found.gradients, _golden(file, links, "d"))


def _golden(file, links, d=""):
    """The parameters of a file but R and tau; with ``d`` their gradients."""
    arrays = {"w": file[f"{d}W_in"].T}
    if "sizes" in file:
        arrays |= {"w_exc": file[f"{d}w_exc"][links.target, links.source], "alpha_size": file[f"{d}alpha_size"]}
        arrays |= {f"alpha_{v}": np.concatenate([file[f"{d}alpha_{part}_{v}"].reshape(-1, 3)
                                                 for part in ("intra", "inter")]) for v in links.sizes}
    else:
        arrays["w_rec"] = file[f"{d}W_rec"][links.target, links.source]
    return Parameters([arrays, {"w": file[f"{d}W_out"].T}]).map(np.ascontiguousarray)


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
            if stop_behind(error):
                raise
            keep(gpu, [f"{type(error).__name__}: {error}".splitlines()[0]])


def tested_backend(name="auto", threads=None):
    """Return a backend as :func:`get_backend` does; a GPU that "auto" might take is tested on its first use."""
    examine_at_first(name)
    return get_backend(name, threads)
