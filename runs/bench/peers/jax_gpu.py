"""The GPU as JAX sees it: time and memory of a peer. A step there waits for what it gives."""

import gc
import time

import jax

from runs.bench import measure


class Device(measure.Host):
    """See :class:`measure.Host`; memory is what JAX's allocator has handed out, all processes of its own."""

    def trim(self):
        gc.collect()

    def used(self):
        return _allocated("bytes_in_use")

    def peak(self):
        return _allocated("peak_bytes_in_use")     # the warm-up's is smaller: it has fewer steps

    def reset(self):
        return True

    mark = staticmethod(time.perf_counter)         # a step is over when it returns

    def between(self, start, end):
        return 1e3 * (end - start)


def _allocated(name):
    """MB of the device."""
    return jax.devices()[0].memory_stats()[name] / 2**20
