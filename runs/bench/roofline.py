"""Bytes and flops of our CUDA kernels by formula, next to what the device can do.

A kernel's bytes are those it must move at least: each array it works on once, read or written. Its flops are those
of the formulas, an addition or a multiplication one each. Both are of a whole training step, layers together.
"""

from runs.bench import report

REAL, INDEX, OFFSET = 4, 4, 1  # bytes of a float32, of a neuron's number, and of how far one is
# Floating-point operations of a neuron and step: filter, membrane, reset, psc (mathematics 1); errors (mathematics 5).
FORWARD, BACKWARD, LOSS = 10, 20, 8    # of the loss, its effect filtered back too


def work(meta, links, events, rate, dense):
    """What a step of a problem asks of each kernel.

    Parameters
    ----------
    meta : sizes, see :mod:`runs.bench.workloads`
    links, events : how many of the recurrence, and in the batch's input
    rate : spikes of a hidden neuron and step
    dense : whether input is multiplied rather than visited event by event

    Returns
    -------
    {kernel: (bytes, flops)}
    """
    rows, c, n, o = meta["samples"] * meta["steps"], meta["inputs"], meta["hidden"], meta["outputs"]
    cells, bits = rows * n, rows * n / 8
    relaxed = sum(n * (v + 2) - 2 * v for v in meta["sizes"])  # connections of all motif sizes of a supernet
    heard = rate * rows * links  # spikes times those who hear them: rate x rows x N spikes, links / N each
    amounts = {
        "forward": (2 * REAL * cells + 2 * bits + (REAL + INDEX) * links, FORWARD * cells + heard),
        "backward": (3 * REAL * cells + bits + (REAL + OFFSET) * links, BACKWARD * cells + 2 * rows * links),
        "output": (4 * REAL * rows * o + INDEX * meta["samples"] * (n + o), (FORWARD + LOSS + BACKWARD) * rows * o),
        "spread": (rows * n / 8 + REAL * rows * n, 0),
        "links_gradient": (rows * n / 8 + REAL * rows * n + (REAL + 3 * INDEX) * links, heard),
        "scatter": (3 * INDEX * events + REAL * rows * c, 0),
        "membrane": (4 * REAL * (n + o), 2 * (n + o)),
        "columns": (4 * (REAL + INDEX) * links, 0),
        "select": ((2 * REAL + INDEX) * links, 0),
        "choose": ((2 * REAL + INDEX) * links, 0),
        "multiply": (2 * REAL * (c * n + n * o + links), c * n + n * o + links),
        "relax": ((2 * REAL + INDEX * len(meta["sizes"])) * links, 4 * relaxed),
        "pull_back": ((3 * REAL + INDEX * len(meta["sizes"])) * links + (2 * REAL + INDEX) * relaxed, 5 * relaxed),
        "pull_back_sizes": (8 * sum(v * (v + 2) for v in meta["sizes"]), sum(v * (v + 2) for v in meta["sizes"])),
        "feedforward": ((REAL + INDEX) * events + REAL * (c * n + rows * n), 2 * events * n),
        "feedforward_gradient": ((REAL + INDEX) * events + REAL * (c * n + rows * n), 2 * events * n),
    }
    products = [(rows, n, o)] * 3 + [(rows, c, n)] * 2 * dense  # forward, back, gradient; input: forward, gradient
    amounts["GEMM"] = (sum(REAL * (a * b + b * d + a * d) for a, b, d in products),
                     sum(2 * a * b * d for a, b, d in products))
    return amounts


def table(record):
    """Markdown: what a step's kernels take, what they achieve, and that as a share of the device's rates.

    ``record``: {"kernels": {name: {"launches", "ms"}}, "work": as :func:`work`, "ceilings": {"bytes", "flops"},
    "ms": the whole step between events}
    """
    rows, limits = [], record["ceilings"]
    for name, row in sorted(record["kernels"].items(), key=lambda item: -item[1]["ms"]):
        cells = [name, row["launches"], f"{row['ms']:.3f}"]
        if name in record["work"]:
            for amount, limit in zip(record["work"][name], (limits["bytes"], limits["flops"])):
                rate = 1e3 * amount / row["ms"]
                cells += [f"{amount / 1e6:.3g}", f"{rate / 1e9:.3g}", f"{100 * rate / limit:.0f} %"]
        rows.append(cells + [""] * (9 - len(cells)))
    rest = record["ms"] - sum(row["ms"] for row in record["kernels"].values())
    rows += [["everything else", "", f"{rest:.3f}", *[""] * 6], ["whole step", "", f"{record['ms']:.3f}", *[""] * 6]]
    return report.table(["kernel", "launches", "ms", "MB", "GB/s", "of copying", "Mflop", "Gflop/s", "of GEMM"], rows)
