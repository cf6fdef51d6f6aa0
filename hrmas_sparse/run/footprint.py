"""How much memory a run needs; checked before it starts."""

from typing import NamedTuple

import numpy as np

from hrmas_sparse.engine.backends import cpu, cuda
from hrmas_sparse.engine.backends.base import EVALUATION_BATCH
from hrmas_sparse.engine.backends.cuda.footprint import simulation
from hrmas_sparse.storage import memory

PROGRAM = 450 << 20      # Python, NumPy, Numba, and compiling the kernels the first time


def require(backend, settings, data, networks):
    """Refuse so many runs of a configuration at a time if they do not fit the memory.

    Raises
    ------
    InputError
        With all the numbers.
    """
    memory.require(estimate(settings, data, backend.threads))
    free = backend.free_memory()
    if free is not None:
        memory.require(estimate_on_device(settings, data, networks, cuda.TOGETHER, cuda.DENSE, free), free,
                       "the GPU's memory", "fewer seeds at once or a larger GPU")


class _Sizes(NamedTuple):
    """How much there is of what, of one network."""

    forward: int    # feedforward weights
    links: int      # recurrent links
    alphas: int     # architecture parameters
    listing: int    # bytes of making the list of links
    events: int     # of the training set
    layers: list    # (senders, neurons) of each layer

    @classmethod
    def of(cls, settings, data):
        """Those of a configuration and a data set."""
        net = settings.network
        senders = [data.meta.channels, *net.neurons[:-1], net.neurons[-1] * net.windows]
        layers = list(zip(senders, [*net.neurons, data.meta.classes]))
        links = alphas = listing = 0
        if net.recurrence == "motif":
            for n in net.neurons:
                per_size = [n * (v + 2 * net.inter) for v in net.motif_sizes]
                links += min(n * n, sum(per_size))
                listing += 80 * sum(per_size)                 # sorting them takes ten integers a connection
                alphas += sum(3 * (v * v + 2 * v if net.tied else c) for v, c in zip(net.motif_sizes, per_size))
        elif net.recurrence == "full":
            links, listing = sum(n * n for n in net.neurons), 28 * sum(n * n for n in net.neurons)
        return cls(sum(a * b for a, b in layers), links, alphas, listing, len(data.train.step), layers)


def estimate(settings, data, threads):
    """Bytes a run needs at its peak, by what they are for.

    Parameters
    ----------
    settings : :class:`hrmas_sparse.settings.schema.Config`
    data : :class:`hrmas_sparse.data.dataset.Dataset`
    threads : worker threads
    """
    sizes, net = _Sizes.of(settings, data), settings.network
    channels, classes, real = data.meta.channels, data.meta.classes, np.dtype(net.dtype).itemsize
    batch, steps = settings.training.batch, settings.data.steps
    # Such input goes into the simulation as an array of numbers, else as one bit a sample (backends/cpu/chunks.py).
    dense = (data.train.value.dtype.kind == "f" or settings.data.value == "count"
             or sizes.events > cpu.DENSE * len(data.train) * steps * channels)
    weights = sizes.forward + sizes.links
    learnt = real * (weights + sizes.alphas)
    chunks = -(-batch // cpu.LANES)
    # A worker's buffers of a layer: v, errors, as many again for plasticity's trajectory in online mode, and what is
    # kept where R or tau are trained.
    online, kept = settings.plasticity.mode == "online", bool(settings.training.trains)
    wide = sum(net.neurons) + classes
    sums = 2 * cpu.LANES * real * net.windows * net.neurons[-1] if net.readout == "integrator" else 0
    worker = (wide * steps * (cpu.LANES * real * (2 + 4 * online + kept) + 4)
              + classes * steps * cpu.LANES * (real + 16) + sums)
    chunk = channels * steps * (cpu.LANES * real if dense else 2)
    return {
        "the program": PROGRAM,
        "weights, alpha and Adam's moments": 3 * learnt,
        "steps of the bi-level gradient": 8 * learnt,
        "gradients": (min(threads, chunks) + 1) * real * weights,
        "the list of connections": sizes.listing,
        # A number and a weight each, in bundles that are at least half full (backends/cpu/bundles.py).
        "connections going back": min(threads, chunks) * 2 * sizes.links * (8 + real),
        f"simulation, {threads} threads": threads * worker,
        "input of a batch": chunk * max(chunks, EVALUATION_BATCH // cpu.LANES),
        "a checkpoint while it is written": 9 * learnt,
    }


def estimate_on_device(settings, data, networks, together, density, free):
    """Bytes of a GPU's memory that runs side by side need at their peak, by what they are for.

    Parameters
    ----------
    settings, data : as of :func:`estimate`
    networks : runs side by side
    together : samples that are simulated in one launch at most
    density : share of non-zero input above which it is an array of numbers there
    free : bytes
    """
    sizes, real, steps = _Sizes.of(settings, data), np.dtype(settings.network.dtype).itemsize, settings.data.steps
    learnt = networks * real * (sizes.forward + sizes.links + sizes.alphas)
    # Every network twice, at w+ and at w-, or as many of its samples as are scored together.
    batch = max(2 * settings.training.batch, EVALUATION_BATCH)
    samples = max(batch, min(networks * batch, together))
    bins, events = samples * steps * data.meta.channels, sizes.events * samples // max(1, len(data.train))
    # R and tau of every step and what is made of them; errors at v where R or tau are trained
    kept = 4 * (settings.plasticity.mode == "online") + bool(settings.training.trains)
    resident = sizes.events * (4 + data.train.value.itemsize)
    return {
        "weights, alpha and Adam's moments": 3 * learnt,
        "steps of the bi-level gradient": 8 * learnt,
        f"simulation, {samples} samples": real * kept * samples * steps * sum(settings.network.neurons) + simulation(
            samples, steps, sizes.layers, 2 * networks * sizes.links, real, 2 * networks),
        "input of a batch": 100 * events + (real * bins if events > density * bins else 0),
        "the spike cache": resident if resident < cuda.RESIDENT * free else 0,
    }
