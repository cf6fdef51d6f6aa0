"""Time and memory of a training step against the number of hidden neurons. `make scaling` runs it.

    python -m runs.bench.scaling [--neurons 800,1600,...] [--kinds motif,supernet] [--rounds 2] [--threads 2] [--cpu]

W1 with other hidden sizes, one fresh process each, as in bench.py. The exponent is the slope of a straight line
through log time, or log memory, against log N.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np

from hrmas_sparse import environment
from runs.bench import bench, report
from runs.bench import workloads as w
from runs.bench.entrants import Entrant

NEURONS = (800, 1600, 3200, 6400, 12800, 25600, 51200)
LIMIT = 1.05


def arguments(argv):
    """The command line."""
    parser = argparse.ArgumentParser(description=environment.first_line(__doc__))
    parser.add_argument("--neurons", default=",".join(map(str, NEURONS)))
    parser.add_argument("--kinds", default="motif,supernet")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="processor time in place of time, with --threads 1")
    parser.add_argument("--out", type=environment.user_path, default=report.OUT)
    options = parser.parse_args(argv)
    options.peer_python = ""
    options.neurons, options.kinds = [int(n) for n in options.neurons.split(",")], options.kinds.split(",")
    return options


def exponent(neurons, values):
    """Slope of log(values) over log(neurons), least squares."""
    return float(np.polyfit(np.log(neurons), np.log(values), 1)[0])


def measured(options, folder):
    """All sizes and kinds, in turn; results as in bench.py, the size in place of the workload."""
    runs = {}
    for turn in range(options.rounds):
        for kind in options.kinds:
            for neurons in options.neurons:
                path = folder / "problem.npz"
                w.save(path, w.problem(w.resized(w.WORKLOADS["W1"], neurons), kind))
                result = bench.process(Entrant(kind, "hrmas_sparse", "ours.make", kind), path, options)
                if "failed" in result:
                    raise SystemExit(f"{kind}, {neurons} neurons: {result['failed']}")
                runs.setdefault((kind, neurons), []).append(result)
                print(f"round {turn + 1}  {kind} {neurons:>6}  {result['ms']:9.1f} ms  {result['mb']:8.1f} MB  "
                      f"hidden rate {result['rates'][0]}", flush=True)
    return [{"kind": kind, "neurons": neurons, "runs": each} for (kind, neurons), each in runs.items()]


def series(results, kind, field):
    """Sizes and medians of one kind."""
    rows = [r for r in results if r["kind"] == kind]
    return [r["neurons"] for r in rows], [statistics.median(run[field] for run in r["runs"]) for r in rows]


def table(record):
    """Markdown: a row a size, and the exponents."""
    kinds, columns = record["kinds"], []
    for kind in kinds:
        for field in ("ms", "mb"):
            columns.append(series(record["results"], kind, field))
    rows = [[n, *(f"{values[i]:.4g}" for _, values in columns)] for i, n in enumerate(columns[0][0])]
    if len(columns[0][0]) > 1:
        rows.append([f"exponent (wanted: at most {LIMIT})", *(f"{exponent(n, values):.3f}" for n, values in columns)])
    return report.table(["neurons", *(f"{kind}, {unit}" for kind in kinds for unit in ("ms", "MB"))], rows)


def plot(record, path):
    """Time and memory over neurons, both logarithmic; None without matplotlib."""
    try:
        figure = environment.new_figure(figsize=(10, 4))
    except ImportError:
        return None
    axes = figure.subplots(1, 2)
    for axis, field, unit in zip(axes, ("ms", "mb"), ("ms a training step", "MB")):
        for kind in record["kinds"]:
            neurons, values = series(record["results"], kind, field)
            label = f"{kind}, N^{exponent(neurons, values):.2f}" if len(neurons) > 1 else kind
            axis.loglog(neurons, values, "o-", label=label)
        axis.set(xlabel="hidden neurons", ylabel=unit)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return path


def main(argv=None):
    """Run it; returns the path of its JSON."""
    options = arguments(argv)
    record = report.header(options.threads) | {"kinds": options.kinds, "rounds": options.rounds, "cpu": options.cpu}
    with tempfile.TemporaryDirectory() as folder:
        record["results"] = measured(options, Path(folder))
    record["exponents"] = {f"{kind} {field}": exponent(*series(record["results"], kind, field))
                          for kind in options.kinds for field in ("ms", "mb") if len(options.neurons) > 1}
    path = report.write("scaling", record, options.out)
    picture = plot(record, path.with_suffix(".png"))
    print("\n" + report.describe(record) + "\n\n" + table(record))
    print(f"\nwritten: {path}" + (f", {picture}" if picture else "; no plot, matplotlib is not installed"))
    return path


if __name__ == "__main__":
    main()
