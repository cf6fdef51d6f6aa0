"""Where the time of a W1 step goes, next to the floor of each part. `make profile` runs it.

    python -m runs.bench.profile [--workload W1] [--kind motif]

Every part is timed where it runs, on one thread: the first chunk passes the hidden layer with the part and without
it, and the difference, times the number of chunks, is what the part costs. The whole step is timed as well; what the
parts do not explain is a row of its own.

The floor of a part is the longest of three times: its multiply-adds at the machine's rate, its traffic with main
memory, its traffic with the cache. It counts the work of the batch's samples, not of the padding to whole chunks.
"""

import argparse
import json
import statistics
import time

import numpy as np

from hrmas_sparse import environment
from hrmas_sparse.engine.backends.base import Above, Gradients, Intrinsic, Neurons, Synapses
from hrmas_sparse.engine.backends.cpu.chunks import Spikes
from hrmas_sparse.engine.losses import PscLoss
from hrmas_sparse.engine.recurrence import Links
from runs.bench import ours, report
from runs.bench import workloads as w
from runs.bench.ceilings import ceilings

REPEATS = 15
FLOAT = 4


def clock(function, *arguments):
    """Seconds of processor time one call takes: on one thread the same as time, unless others share the core."""
    start = time.thread_time()
    function(*arguments)
    return time.thread_time() - start


def repeated(function):
    """Milliseconds: the median of what the function returns in seconds, warm-up dropped."""
    function()
    return 1e3 * statistics.median(function() for _ in range(REPEATS))


class Chunk:
    """The first chunk of a problem, run once, so that every part finds its arrays filled."""

    def __init__(self, problem):
        self.net, self.parameters, self.events = ours.network(problem, 1)
        self.backend = self.net.backend
        self.net.gradients(self.parameters, self.events)
        self.packed = self.backend.pack(self.events, self.net.dtype)
        self.chunk = self.packed[0]
        self.synapses, self.k = self.net.stack.synapses(self.parameters), self.net.stack.constants
        self.intrinsic = [Intrinsic(self.parameters.layers[0].R, self.parameters.layers[0].tau),
                          Intrinsic(*(np.full(self.net.output.size, w.TAU_M, np.float32),) * 2)]
        self.hidden = self.layer(0).forward(self.chunk, self.chunk.spikes)
        self.top = self.forward_output()
        self.psc = self.backend.unpack(self.top.psc, len(self.chunk.labels))
        self.above = self.effect()
        links = self.synapses[0].links
        self.no_links = Links(np.zeros_like(links.indptr), links.indices[:0], links.data[:0])
        self.no_spikes = Spikes(np.zeros((self.events.steps, self.events.channels), np.uint16),
                                np.zeros((0, 0, 0), np.float32))
        self.effects = np.ones_like(self.hidden.v)

    def gradients(self, slot):
        """Zeroed gradients of a layer."""
        s = self.synapses[slot]
        return Gradients(np.zeros_like(s.w), np.zeros_like(s.links.data))

    def layer(self, slot, links=None):
        """A layer, with its links or others."""
        weights, links_there = self.synapses[slot]
        return self.backend.layer(slot, Neurons(self.k[slot]), Synapses(weights, links or links_there),
                                  self.intrinsic[slot])

    def forward_output(self):
        """The output layer forward."""
        return self.layer(1).forward(self.chunk, self.hidden.spikes, keep_psc=True)

    def effect(self):
        """The output layer backward, without weight gradients of the hidden layer."""
        _, error = PscLoss()(self.psc, self.chunk.labels, w.TAU_S)
        layer = self.layer(1)
        above, _ = layer.backward(self.top, layer.effect_of_loss(self.top, error), self.gradients(1))
        return above

    # ---- parts: each returns seconds for the chunk ---------------------------------------------------

    def forward(self, links, spikes):
        """The hidden layer forward."""
        return clock(self.layer(0, links).forward, self.chunk, spikes)

    def backward(self, links, above, feedforward):
        """The hidden layer backward, errors from above or, where they are left out, some that are there already."""
        if above is None:
            above = Above(self.synapses[1].w[:0], self.effects.copy())
        gradients = self.gradients(0)
        if not feedforward:
            gradients = gradients._replace(dw=gradients.dw[:0])
        if not links.data.size:
            gradients = gradients._replace(dlinks=gradients.dlinks[:0])
        return clock(self.layer(0, links).backward, self.hidden, above, gradients, False)

    def reduction(self):
        """Sums over all chunks."""
        parts = [self.gradients(0) for _ in self.packed]

        def add():
            for part in parts[1:]:
                parts[0].dw.__iadd__(part.dw)
                parts[0].dlinks.__iadd__(part.dlinks)
        return clock(add)

    def relaxation(self):
        """Parameters to weights of the links, and gradients back."""
        recurrence, parameters = self.net.hidden[0].recurrence, self.parameters.layers[0]
        return (clock(recurrence.links, parameters)
                + clock(recurrence.pullback, parameters, np.zeros_like(self.synapses[0].links.data)))


def counts(problem, rate, links):
    """Work of a batch: (multiply-adds, bytes from or to memory, bytes from or to the cache) of each part."""
    m = problem["meta"]
    cells, events = m["samples"] * m["steps"] * m["hidden"], len(problem["step"])
    spikes, fan = rate * cells, links / m["hidden"]
    n, o = m["hidden"], m["outputs"]
    return {
        "input forward": (events * n, 0, FLOAT * (events * n + cells)),
        "neurons forward": (4 * cells, FLOAT * cells, FLOAT * 8 * cells),
        "links forward": (spikes * fan, 0, 3 * FLOAT * spikes * fan),
        "output forward": (spikes * o, 0, 3 * FLOAT * spikes * o),
        "output backward": (spikes * o, 0, 3 * FLOAT * spikes * o),
        "effect on hidden": (cells * o, 0, FLOAT * 2 * cells),
        "neurons backward": (20 * cells, FLOAT * cells, FLOAT * 9 * cells),
        "links backward": ((cells + spikes) * fan, 0, FLOAT * (2 * cells + 3 * spikes * fan)),
        "input gradient": (events * n, 0, FLOAT * (events * n + cells)),
    }


def parts(problem):
    """Milliseconds of every part of a step, one thread; and the whole step's, and the hidden rate."""
    c = Chunk(problem)
    chunks, links = len(c.packed), c.synapses[0].links
    input_spikes, size = c.chunk.spikes, len(c.chunk.labels)
    forward = [repeated(lambda case=case: c.forward(*case))
               for case in ((c.no_links, c.no_spikes), (c.no_links, input_spikes), (links, input_spikes))]
    backward = [repeated(lambda case=case: c.backward(*case))
                for case in ((c.no_links, None, False), (c.no_links, c.above, False), (links, c.above, False),
                             (links, c.above, True))]
    each = {
        "neurons forward": forward[0], "input forward": forward[1] - forward[0],
        "links forward": forward[2] - forward[1],
        "output forward": repeated(lambda: clock(c.forward_output)),
        "loss": repeated(lambda: clock(lambda: PscLoss()(c.backend.unpack(c.top.psc, size), c.chunk.labels, w.TAU_S))),
        "output backward": repeated(lambda: clock(c.effect)),
        "neurons backward": backward[0], "effect on hidden": backward[1] - backward[0],
        "links backward": backward[2] - backward[1], "input gradient": backward[3] - backward[2],
    }
    ms_of = {name: chunks * ms for name, ms in each.items()}
    ms_of["packing"] = repeated(lambda: clock(c.backend.pack, c.events, c.net.dtype))
    if c.net.hidden[0].recurrence is not None:
        ms_of["relaxation and chain rule"] = repeated(c.relaxation)
    ms_of["sums over chunks"] = repeated(c.reduction)
    whole = repeated(lambda: clock(c.net.gradients, c.parameters, c.events))
    rate = c.net.evaluate(c.parameters, c.events).rates[0]
    return ms_of, whole, rate, len(links.data)


def table(record):
    """Markdown: parts, their floors, what bounds them."""
    rows = []
    for name, ms in record["parts"].items():
        floor, bound = record["floors"].get(name, (None, ""))
        rows.append([name, f"{ms:.2f}", f"{100 * ms / record['whole_ms']:.0f} %",
                     "" if floor is None else f"{floor:.2f}", bound, "" if floor is None else f"{ms / floor:.1f}"])
    rest = record["whole_ms"] - sum(record["parts"].values())
    floors = sum(floor for floor, _ in record["floors"].values())
    rows.append(["not in any part", f"{rest:.2f}", f"{100 * rest / record['whole_ms']:.0f} %", "", "", ""])
    rows.append(["whole step", f"{record['whole_ms']:.2f}", "100 %", f"{floors:.2f}", "",
                 f"{record['whole_ms'] / floors:.1f}"])
    return report.table(["part", "ms", "share", "floor, ms", "bound by", "times its floor"], rows)


def main(argv=None):
    """Run it; returns the path of its JSON."""
    parser = argparse.ArgumentParser(description=environment.first_line(__doc__))
    parser.add_argument("--workload", default="W1", choices=w.WORKLOADS)
    parser.add_argument("--kind", default="motif", choices=("motif", "supernet"))
    parser.add_argument("--out", type=environment.user_path, default=report.OUT)
    options = parser.parse_args(argv)
    problem = w.problem(w.WORKLOADS[options.workload], options.kind)
    limits = ceilings()
    times, whole, rate, links = parts(problem)
    floors = {}
    for name, work in counts(problem, rate, links).items():
        floors[name] = max((1e3 * amount / limits[limit], limit)
                           for amount, limit in zip(work, ("madds", "memory", "cache")))
    record = report.header(1) | {"workload": options.workload, "kind": options.kind, "ceilings": limits,
                                "whole_ms": whole, "parts": times, "floors": floors, "hidden_rate": rate}
    path = report.write("profile", record, options.out)
    m = record["machine"]
    print(f"{options.workload} {options.kind}, one thread, {m['processor']}, load before {record['load_before']:.1f}, "
          f"commit {record['commit']}. Ceilings of one core: {limits['madds'] / 1e9:.0f} G multiply-adds/s, memory "
          f"{limits['memory'] / 1e9:.0f} GB/s, cache {limits['cache'] / 1e9:.0f} GB/s (read and written together).\n")
    print(table(json.loads(json.dumps(record))))
    print(f"\nwritten: {path}")
    return path


if __name__ == "__main__":
    main()
