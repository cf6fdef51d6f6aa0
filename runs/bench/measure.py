"""How one process measures one entrant: warm up, note the memory, build again, drop steps, time the others.

Memory is what the steps need beyond what importing and compiling cost, and it is measured the same way for
everybody. The process imports and compiles on a warm-up problem, the same one but for fewer steps in time. Then
that is thrown away, free memory is handed back to the system, and the resident set is the baseline. Now the
problem itself is built, the kernel's high-water mark of the resident set is set back to the present, and the
steps run. Peak memory is the high-water mark at the end less the baseline: input, weights, tapes and gradients.
"""

import ctypes
import gc
import os
import statistics
import sys
import time

WARM_STEPS = 20     # steps in time of the warm-up problem
DROPPED = 2         # training steps not timed
SLOW = 2.0          # seconds a step from which on one is dropped and two are timed


def trim():
    """Give free memory back to the system."""
    gc.collect()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)


def status(field):
    """A field of /proc/self/status in MB, such as VmRSS or VmHWM; NaN where there is no such file."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(field + ":")) / 1024
    except (OSError, StopIteration):
        return float("nan")


def reset_peak():
    """Set VmHWM back to the present; return whether the kernel let us."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        return True
    except OSError:
        return False


def measure(make, problem, shortened, seconds=1.5, least=3, most=30):
    """Time and memory of an entrant.

    Parameters
    ----------
    make : function problem -> object with step()
    problem, shortened : the problem, and the one to warm up on
    seconds, least, most : how long to time, and how many steps at least and at most

    Returns
    -------
    dict: ``ms`` median, ``all_ms``, ``cpu_ms`` processor time of a step, ``mb``, ``baseline_mb``, ``built_s``,
    ``peak_reset``, ``load`` of the machine before, and ``rates`` if the entrant knows them
    """
    load = os.getloadavg()[0]
    started = time.perf_counter()
    warm = make(shortened)
    for _ in range(DROPPED):
        warm.step()
    del warm
    trim()
    baseline = status("VmRSS")
    entrant = make(problem)
    trim()
    was_reset = reset_peak()
    built = time.perf_counter() - started
    times, cpu = _timed(entrant, seconds, least, most)
    return {"ms": 1e3 * statistics.median(times), "all_ms": [round(1e3 * t, 2) for t in times],
            "cpu_ms": 1e3 * statistics.median(cpu), "mb": status("VmHWM") - baseline, "baseline_mb": baseline,
            "built_s": round(built, 2), "peak_reset": was_reset, "load": load,
            "rates": getattr(entrant, "rates", None)}


def _timed(entrant, seconds, least, most):
    """Wall and processor seconds of the steps that count."""
    times, cpu, drop = [], [], DROPPED
    while True:
        wall, used = time.perf_counter(), time.process_time()
        entrant.step()
        wall, used = time.perf_counter() - wall, time.process_time() - used
        if drop:
            drop -= 1
            if wall > SLOW:
                drop, least = 0, min(least, 2)
            continue
        times.append(wall)
        cpu.append(used)
        if len(times) >= most or (len(times) >= least and sum(times) >= seconds):
            return times, cpu
