"""The GPU as our engine's bench sees it, through CuPy: time, memory, and what the device can do at best."""

import statistics

import cupy

from runs.bench import measure, roofline
from runs.bench.launches import by_kernel, recorded

COPY_BYTES = 1 << 30
GEMM = 8192
REPEATS = 20


class Device(measure.Gpu):
    """See :class:`measure.Gpu`."""

    def wait(self):
        cupy.cuda.runtime.deviceSynchronize()

    def free(self):
        return cupy.cuda.runtime.memGetInfo()

    def release(self):
        cupy.get_default_memory_pool().free_all_blocks()

    def mark(self):
        event = cupy.cuda.Event()
        event.record()
        return event

    def between(self, start, end):
        return cupy.cuda.get_elapsed_time(start, end)

    def launches(self, entrant):
        with recorded() as launches:
            entrant.step()
        return {"calls": len(launches), "kernels": len(launches)}


def best(function):
    """Shortest time of a call, in seconds between events."""
    device, seconds = Device(), []
    for _ in range(REPEATS):
        start = device.mark()
        function()
        end = device.mark()
        device.wait()
        seconds.append(device.between(start, end) / 1e3)
    return min(seconds)


def ceilings():
    """Measure.

    Returns
    -------
    dict: ``bytes`` read and written a second when copying 1 GiB, ``flops`` a second of a float32 GEMM of 8,192 rows
    and columns
    """
    source, target = cupy.ones(COPY_BYTES, "u1"), cupy.zeros(COPY_BYTES, "u1")
    rng = cupy.random.default_rng(0)
    a, b, c = (rng.standard_normal((GEMM, GEMM), "f4") for _ in range(3))
    return {"bytes": 2 * COPY_BYTES / best(lambda: cupy.copyto(target, source)),
            "flops": 2 * GEMM**3 / best(lambda: cupy.matmul(a, b, out=c))}


def kernels(make, problem):
    """Time of each kernel in a step, with what it has to do and what the device can; see :mod:`.roofline`."""
    device, entrant, links = Device(), make(problem), problem.get("source", ())
    for _ in range(measure.DROPPED):
        entrant.step()
    runs, whole = [], []
    for _ in range(REPEATS):
        device.wait()
        start = device.mark()
        with recorded(device.mark) as launches:
            entrant.step()
        end = device.mark()
        device.wait()
        runs.append(by_kernel(launches, device.between))
        whole.append(device.between(start, end))
    names = {name: {"launches": row["launches"], "ms": statistics.median(run[name]["ms"] for run in runs)}
             for name, row in runs[0].items()}
    work = roofline.work(problem["meta"], len(links), len(problem["step"]), entrant.rates[0],
                         "feedforward" not in names)
    return {"kernels": names, "work": work, "ms": statistics.median(whole), "ceilings": ceilings()}
