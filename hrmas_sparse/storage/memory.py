"""How much memory a run takes, and how much there is: asked before the start, not found out in the night."""

import os
import resource
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hrmas_sparse.storage.errors import InputError

PROGRAM = 450 << 20      # Python, NumPy, Numba, and compiling the kernels the first time
LANES = 16               # samples a worker of the CPU simulates together
EVALUATION_BATCH = 256   # samples scored together
RESIDENT = 0.25          # share of a GPU's free memory a spike cache may take; a larger one is carried there in batches
GIB = 1 << 30


def text(size):
    """Bytes for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.1f} MiB"


def available():
    """Bytes this process may still take: what the machine has free, control groups and limits on processes."""
    return max(0, min(_machine(), _control_group(), _own_limit()))


def _machine():
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _control_group(root=Path("/sys/fs/cgroup")):
    """What a container or batch system leaves; the cache of files counts as free."""
    for limit, used, kind in (("memory.max", "memory.current", "file"),
                              ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_cache")):
        try:
            stat = dict(line.split() for line in (root / limit).with_name("memory.stat").read_text().splitlines())
            return int((root / limit).read_text()) - int((root / used).read_text()) + int(stat.get(kind, 0))
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
    return 1 << 62


def _own_limit():
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return 1 << 62
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        taken = 0
    return limit - taken


class _Sizes(NamedTuple):
    """How much there is of what, of one network."""

    forward: int    # feedforward weights
    links: int      # recurrent links
    alphas: int     # architecture parameters
    index: int      # bytes of making the list of links
    events: int     # of the training set
    layers: list    # (senders, neurons) of each layer

    @classmethod
    def of(cls, settings, cache):
        """Those of a configuration on a cache."""
        net = settings.network
        layers = list(zip([cache.meta.channels, *net.neurons], [*net.neurons, cache.meta.classes]))
        links = alphas = index = 0
        if net.recurrence == "motif":
            for n in net.neurons:
                per_size = [n * (v + 2 * net.inter) for v in net.motif_sizes]
                links += min(n * n, sum(per_size))
                index += 80 * sum(per_size)                 # sorting them takes ten integers a connection
                alphas += sum(3 * (v * v + 2 * v if net.tied else c) for v, c in zip(net.motif_sizes, per_size))
        elif net.recurrence == "full":
            links, index = sum(n * n for n in net.neurons), 28 * sum(n * n for n in net.neurons)
        return cls(sum(a * b for a, b in layers), links, alphas, index, len(cache.train.step), layers)


def estimate(settings, cache, threads):
    """Bytes a run needs at its peak, by what they are for.

    Parameters
    ----------
    settings : :class:`hrmas_sparse.settings.schema.Config`
    cache : :class:`hrmas_sparse.data.dataset.Dataset`
    threads : worker threads
    """
    sizes, net = _Sizes.of(settings, cache), settings.network
    channels, classes, real = cache.meta.channels, cache.meta.classes, np.dtype(net.dtype).itemsize
    batch, steps = settings.training.batch, settings.data.steps
    # Such input goes into the simulation as an array of numbers, else as one bit a sample (backends/cpu/chunks.py).
    dense = (cache.train.value.dtype.kind == "f" or settings.data.value == "count"
             or sizes.events > 0.3 * len(cache.train) * steps * channels)
    weights = sizes.forward + sizes.links
    learnt = real * (weights + sizes.alphas)
    chunks = -(-batch // LANES)
    # A worker's buffers of a layer: v, errors, and as many again for plasticity's trajectory in online mode.
    online = settings.plasticity.mode == "online"
    wide = sum(net.neurons) + classes
    worker = wide * steps * (LANES * real * (6 if online else 2) + 4) + classes * steps * LANES * (real + 16)
    chunk = channels * steps * (LANES * real if dense else 2)
    return {
        "the program": PROGRAM,
        "weights, alpha and Adam's moments": 3 * learnt,
        "steps of the bi-level gradient": 8 * learnt,
        "gradients": (min(threads, chunks) + 1) * real * weights,
        "the list of connections": sizes.index,
        f"simulation, {threads} threads": threads * worker,
        "input of a batch": chunk * max(chunks, EVALUATION_BATCH // LANES),
        "a checkpoint while it is written": 9 * learnt,
    }


def estimate_on_device(settings, cache, networks, together, density, free):
    """Bytes of a GPU's memory that runs side by side need at their peak, by what they are for.

    Parameters
    ----------
    settings, cache : as of :func:`estimate`
    networks : runs side by side
    together : samples that are simulated in one launch at most
    density : share of non-zero input above which it is an array of numbers there
    free : bytes
    """
    sizes, real, steps = _Sizes.of(settings, cache), np.dtype(settings.network.dtype).itemsize, settings.data.steps
    learnt = networks * real * (sizes.forward + sizes.links + sizes.alphas)
    # Every network twice, at w+ and at w-, or as many of its samples as are scored together.
    batch = max(2 * settings.training.batch, EVALUATION_BATCH)
    samples = max(batch, min(networks * batch, together))
    bins, events = samples * steps * cache.meta.channels, sizes.events * samples // max(1, len(cache.train))
    trajectory = 4 * samples * steps * sum(settings.network.neurons) if settings.plasticity.mode == "online" else 0
    resident = sizes.events * (4 + cache.train.value.itemsize)
    return {
        "weights, alpha and Adam's moments": 3 * learnt,
        "steps of the bi-level gradient": 8 * learnt,
        f"simulation, {samples} samples": real * trajectory + simulation(
            samples, steps, sizes.layers, 2 * networks * sizes.links, real, 2 * networks),
        "input of a batch": 100 * events + (real * bins if events > density * bins else 0),
        "the spike cache": resident if resident < RESIDENT * free else 0,
    }


def simulation(samples, steps, layers, links, itemsize, networks=1):
    """Bytes a GPU needs to simulate a batch forward and back.

    Parameters
    ----------
    samples, steps : of the batch, all networks together
    layers : (senders, neurons) of each layer
    links : recurrent links of all layers and networks
    itemsize : bytes of a number
    networks : that run together
    """
    rows = samples * steps
    # v, errors, spikes as numbers for a GEMM; spikes and silent as bits
    neurons = sum(rows * (3 * itemsize + 1) * n for _, n in layers)
    # psc of the output, its loss gradient in float64 and as errors
    output = rows * (2 * itemsize + 16) * (layers[-1][1] if layers else 0)
    weights = networks * sum(4 * itemsize * senders * n for senders, n in layers)
    return neurons + output + weights + links * (4 * itemsize + 36)


def require_room(what, size, copies=1):
    """Refuse to take memory that is not free for ``what``, a file or a data set of ``size`` bytes, ``copies`` times.

    Raises
    ------
    InputError
        With both numbers.
    """
    free = available()
    if copies * size > free:
        raise InputError(f"{what}: {text(size)} do not fit into the {text(free)} of memory that are free")


def require(needed, free=None, of="memory", others="fewer threads (NUMBA_NUM_THREADS) or another machine"):
    """Refuse what cannot fit.

    Parameters
    ----------
    needed : bytes by what they are for, see :func:`estimate`
    free : bytes, default what this process may still take
    of, others : what is short, and what would do beside a smaller network and batch; for the message

    Raises
    ------
    InputError
        With all the numbers, if the sum of ``needed`` is more than is free.
    """
    total, free = sum(needed.values()), available() if free is None else free
    if total > free:
        parts = ", ".join(f"{what} {text(size)}" for what, size in sorted(needed.items(), key=lambda x: -x[1]))
        raise InputError(f"this run needs about {text(total)} of {of} and {text(free)} are free: {parts}. Fewer "
                         f"network.neurons, a smaller training.batch, {others} would do")
