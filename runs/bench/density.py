"""Where visiting events stops paying: input forward and gradient of a W1 layer, by events and by multiply-adds.

    python -m runs.bench.density

Prints processor time on one thread for 16 samples; ``DENSE`` in ``backends/cpu`` is the crossing.
"""

import time

import numpy as np

from hrmas_sparse.engine.backends.cpu import LANES, blocks, chunks, lists
from hrmas_sparse.engine.backends.cpu import synapses as kernels
from runs.bench import report

STEPS, SENDERS, RECEIVERS = 100, 78, 800
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 1.0)


def clock(work, times=9):
    """Least processor time of a call, in ms."""
    work()
    seconds = []
    for _ in range(times):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return 1e3 * min(seconds)


def compare(density, rng):
    """ms by events, ms by multiply-adds, both for the current and the weight gradient."""
    on = rng.random((STEPS, SENDERS, LANES)) < density
    sparse = chunks.Spikes((on << np.arange(LANES)).sum(axis=2).astype(np.uint16), np.zeros((0, 0, 0), np.float32))
    w = rng.standard_normal((SENDERS, RECEIVERS)).astype(np.float32)
    values, dw = on.astype(np.float32), np.zeros_like(w)
    current = np.zeros((STEPS, RECEIVERS, LANES), np.float32)
    panel, span = np.zeros((STEPS, 4, LANES), np.float32), blocks.span_of(STEPS)
    room = on.size + lists.SPARE
    found = lists.Lists(np.zeros(room, np.uint32), np.zeros(room, np.uint32), np.ones(room, np.float32))
    work = lists.Work(np.zeros((span * LANES, lists.COLUMNS), np.float32), np.zeros((LANES, LANES), np.float32))
    nothing, no_sums = lists.Tiles(*(np.zeros(n, np.uint32) for n in (1, 0, 1))), np.zeros((0, LANES), np.float32)

    def events():
        for first in range(0, STEPS, span):
            part = chunks.Spikes(sparse.mask[first:first + span], sparse.values)
            now = current[first:first + span]
            panels = [(column, min(lists.COLUMNS, RECEIVERS - column)) for column in range(0, RECEIVERS, lists.COLUMNS)]
            lists.by_sample(part, found)
            for column, width in panels:
                kernels.feedforward(found, w, column, column, width, now, work)
            lists.by_sender(part, 0, found)
            for column, width in panels:
                kernels.event_gradients(found, found, column, width, now, dw, nothing, no_sums, work)

    def multiply_adds():
        for first in range(0, STEPS, span):
            kernels.dense(w.T, values[first:first + span], current[first:first + span])
        kernels.dense_gradient(values, current, dw, panel)

    return clock(events), clock(multiply_adds)


def main():
    """Print the table."""
    rng, rows = np.random.default_rng(0), []
    for density in DENSITIES:
        events, multiply_adds = compare(density, rng)
        rows.append([f"{100 * density:.1f} %", f"{events:.2f}", f"{multiply_adds:.2f}",
                     f"{events / multiply_adds:.2f}"])
    print(f"{SENDERS} channels into {RECEIVERS} neurons, {STEPS} steps, {LANES} samples; DENSE = {chunks.DENSE}\n")
    print(report.table(["share of non-zero input", "events, ms", "multiply-adds, ms", "ratio"], rows))


if __name__ == "__main__":
    main()
