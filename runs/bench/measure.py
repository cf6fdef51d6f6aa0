"""How one process measures one entrant: warm up, note the memory, build again, drop steps, time the others.

Memory is what the steps need beyond what importing and compiling cost, and it is measured the same way for
everybody. The process imports and compiles on a warm-up problem, the same one but for fewer steps in time. Then
that is thrown away, free memory is handed back to the system, and the resident set is the baseline. Now the
problem itself is built, the kernel's high-water mark of the resident set is set back to the present, and the
steps run. Peak memory is the high-water mark at the end less the baseline: input, weights, tapes and gradients.

On a GPU the same is done with the device's memory: what is taken of it. Allocators there keep what they have taken
until they are told to give it back, so what is taken after the steps is the peak; only the warm-up's is given back.
A step is over when the device says so; the time between two events on it is noted as well.
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


class Host:
    """What measuring asks of where an entrant computes: here the processor."""

    trim, wait = staticmethod(trim), staticmethod(lambda: None)

    def used(self):
        """MB taken now."""
        return status("VmRSS")

    def peak(self):
        """MB taken at most since :meth:`reset`."""
        return status("VmHWM")

    def reset(self):
        """Forget the peak; return whether that was possible."""
        return reset_peak()

    def mark(self):
        """A point in the device's time; None on the processor."""

    def between(self, start, end):
        """Milliseconds from one point to another, once both are over."""

    def launches(self, entrant):
        """What a step asks the device to do, ``{"calls": from the processor, "kernels": run}``; None: no device."""


class Gpu(Host):
    """A GPU. Subclasses know how to ask: ``free()`` -> (bytes free, bytes in all), ``release()`` and the times."""

    def trim(self):
        self.wait()
        trim()
        self.release()

    def used(self):
        free, total = self.free()
        return (total - free) / 2**20

    def peak(self):
        return self.used()

    def reset(self):
        return True


def measure(make, problem, shortened, seconds=1.5, least=3, most=30, device=None):
    """Time and memory of an entrant.

    Parameters
    ----------
    make : function problem -> object with step()
    problem, shortened : the problem, and the one to warm up on
    seconds, least, most : how long to time, and how many steps at least and at most
    device : :class:`Host` or another, default the processor

    Returns
    -------
    dict: ``ms`` median, ``all_ms``, ``cpu_ms`` processor time of a step, ``device_ms`` time between events on a GPU,
    ``mb``, ``baseline_mb``, ``built_s``, ``peak_reset``, ``load`` of the machine before, ``launches``, and ``rates``
    if the entrant knows them
    """
    device = device or Host()
    load = os.getloadavg()[0]
    started = time.perf_counter()
    warm = make(shortened)
    for _ in range(DROPPED):
        warm.step()
    del warm
    device.trim()
    baseline = device.used()
    entrant = make(problem)
    device.trim()
    was_reset = device.reset()
    built = time.perf_counter() - started
    times, cpu, events = _timed(entrant, seconds, least, most, device)
    mb = device.peak() - baseline
    return {"ms": 1e3 * statistics.median(times), "all_ms": [round(1e3 * t, 4) for t in times],
            "cpu_ms": 1e3 * statistics.median(cpu),
            "device_ms": None if events[0] is None else statistics.median(events),
            "mb": mb, "baseline_mb": baseline, "built_s": round(built, 2), "peak_reset": was_reset, "load": load,
            "launches": device.launches(entrant), "rates": getattr(entrant, "rates", None)}


def _timed(entrant, seconds, least, most, device):
    """Wall and processor seconds, and milliseconds between events, of the steps that count."""
    times, cpu, events, drop = [], [], [], DROPPED
    device.wait()
    while True:
        wall, used, start = time.perf_counter(), time.process_time(), device.mark()
        entrant.step()
        end = device.mark()
        device.wait()
        wall, used = time.perf_counter() - wall, time.process_time() - used
        if drop:
            drop -= 1
            if wall > SLOW:
                drop, least = 0, min(least, 2)
            continue
        times.append(wall)
        cpu.append(used)
        events.append(device.between(start, end))
        if len(times) >= most or (len(times) >= least and sum(times) >= seconds):
            return times, cpu, events
