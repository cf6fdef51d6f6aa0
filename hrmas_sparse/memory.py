"""How much memory a run takes, and how much there is: asked before the start, not found out in the night."""

import os
import resource
from pathlib import Path

import numpy as np

from hrmas_sparse.errors import InputError

PROGRAM = 450 << 20      # Python, NumPy, Numba, and compiling the kernels the first time
LANES = 16               # samples a worker simulates together
EVALUATION_BATCH = 256   # samples scored together
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


def estimate(settings, cache, threads):
    """Bytes a run needs at its peak, by what they are for.

    Parameters
    ----------
    settings : :class:`hrmas_sparse.schema.Config`
    cache : :class:`hrmas_sparse.spikes.SpikeCache`
    threads : worker threads
    """
    channels, classes = cache.meta.channels, cache.meta.classes
    events, bins = len(cache.train.step), len(cache.train) * settings.data.steps * channels
    # Such input goes into the simulation as an array of numbers, else as one bit a sample (backends/cpu/chunks.py).
    dense = cache.train.value.dtype.kind == "f" or settings.data.value == "count" or events > 0.3 * bins
    net, real = settings.network, np.dtype(settings.network.dtype).itemsize
    batch, steps = settings.training.batch, settings.data.steps
    senders = [channels, *net.neurons]
    forward = sum(a * b for a, b in zip(senders, [*net.neurons, classes]))
    links = alphas = index = 0
    if net.recurrence == "motif":
        for n in net.neurons:
            per_size = [n * (v + 2 * net.inter) for v in net.motif_sizes]
            links += min(n * n, sum(per_size))
            index += 80 * sum(per_size)                     # sorting them takes ten integers a connection
            alphas += sum(3 * (v * v + 2 * v if net.tied else c) for v, c in zip(net.motif_sizes, per_size))
    elif net.recurrence == "full":
        links, index = sum(n * n for n in net.neurons), 28 * sum(n * n for n in net.neurons)
    weights = forward + links
    chunks = -(-batch // LANES)
    # A worker's buffers of a layer: v, errors, and as many again for plasticity's trajectory in online mode.
    online = settings.plasticity.mode == "online"
    wide = sum(net.neurons) + classes
    worker = wide * steps * (LANES * real * (6 if online else 2) + 4) + classes * steps * LANES * (real + 16)
    chunk = channels * steps * (LANES * real if dense else 2)
    return {
        "the program": PROGRAM,
        "weights, alpha and Adam's moments": 3 * real * (weights + alphas),
        "steps of the bi-level gradient": 8 * real * (weights + alphas),
        "gradients": (min(threads, chunks) + 1) * real * weights,
        "the list of connections": index,
        f"simulation, {threads} threads": threads * worker,
        "input of a batch": chunk * max(chunks, EVALUATION_BATCH // LANES),
        "a checkpoint while it is written": 9 * real * (weights + alphas),
    }


def simulation(samples, steps, layers, links, itemsize):
    """Bytes a GPU needs to simulate a batch forward and back.

    Parameters
    ----------
    samples, steps : of the batch, all networks together
    layers : (senders, neurons) of each layer
    links : recurrent links of all layers
    itemsize : bytes of a number
    """
    rows = samples * steps
    # v, errors, spikes as numbers for a GEMM; spikes and silent as bits
    neurons = sum(rows * (3 * itemsize + 1) * n for _, n in layers)
    # psc of the output, its loss gradient in float64 and as errors
    output = rows * (2 * itemsize + 16) * (layers[-1][1] if layers else 0)
    weights = sum(4 * itemsize * senders * n for senders, n in layers)
    return neurons + output + weights + links * (4 * itemsize + 36)


def require(needed):
    """Refuse what cannot fit.

    Raises
    ------
    InputError
        With all the numbers, if the sum of ``needed``, see :func:`estimate`, is more than is available.
    """
    total, free = sum(needed.values()), available()
    if total > free:
        parts = ", ".join(f"{what} {text(size)}" for what, size in sorted(needed.items(), key=lambda x: -x[1]))
        raise InputError(f"this run needs about {text(total)} of memory and {text(free)} are free: {parts}. Fewer "
                         "network.neurons, a smaller training.batch, fewer threads (NUMBA_NUM_THREADS) or another "
                         "machine would do")
