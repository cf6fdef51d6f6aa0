"""Numbers into tables and pictures. Tables are Markdown, ready for docs/performance.md."""

import json
import os
import platform
import statistics
import time
from pathlib import Path

from hrmas_sparse import environment

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "runs" / "out" / "bench"


def machine():
    """What the numbers were measured on."""
    model, memory = platform.processor(), None
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
        memory = round(int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1]) / 2**20, 1)
    return {"processor": model, "cores": environment.cores(), "memory_gib": memory, "system": platform.platform()}


def commit():
    """The checkout's commit, "+" if something in it has changed since; None outside a checkout."""
    state, _ = environment.commit()
    return state and state["commit"][:7] + "+" * state["changed"]


def header(threads):
    """The part every result file starts with."""
    return {"date": time.strftime("%Y-%m-%dT%H:%M:%S"), "commit": commit(), "machine": machine(), "threads": threads,
            "load_before": os.getloadavg()[0]}


def write(name, record, out=OUT):
    """Write a result as JSON; returns the path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}-{record['date'].replace(':', '')}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def middle(values):
    """Median, and spread (largest less smallest) as a share of it."""
    median = statistics.median(values)
    return median, (max(values) - min(values)) / median


def give_or_take(spread, rounds):
    """Half the spread, in per cent; nothing to say after one round."""
    return f" ±{50 * spread:.0f} %" if rounds > 1 else ""


def describe(record):
    """A paragraph: machine, threads, load, versions."""
    m = record["machine"]
    versions = {}
    for result in record["results"]:
        versions |= result["runs"][0].get("versions", {})
    loads = [run["load"] for result in record["results"] for run in result["runs"] if "load" in run]
    return (f"{record['date'][:10]}, commit {record['commit']}, {gpu(record)}{m['processor']}, {m['cores']} cores, "
            f"{m['memory_gib']} GiB; threads: {record['threads']}; "
            + ("processor time, not wall time; " if record.get("cpu") else "")
            + ", ".join(f"{name} {version}" for name, version in versions.items())
            + f". Load of the machine before each process: {min(loads):.1f} to {max(loads):.1f}"
            + (", so it was shared: only ratios mean something, and OpenMP's barriers suffer more than most."
               if max(loads) > m["cores"] + 0.5 else "."))


def gpu(record):
    """The GPU of a result, a comma behind it; nothing if there was none."""
    if "gpu" not in record:
        return ""
    g = record["gpu"]
    return (f"{g['device']}, {g['memory'] / 2**30:.0f} GiB, driver for CUDA {'.'.join(map(str, g['driver']))}, "
            f"numba-cuda {g['numba_cuda']}, CuPy {g['cupy']}; ")


def device_table(record):
    """A step as the GPU saw it: time between events, how often it was asked for work, how many kernels that was."""
    names = sorted({result["workload"] for result in record["results"]})
    keys = list(dict.fromkeys((result["label"], result["kind"]) for result in record["results"]))
    cells = {}
    for result in record["results"]:
        ms = statistics.median(run["device_ms"] for run in result["runs"])
        launches = result["runs"][0]["launches"] or {"calls": "-", "kernels": "-"}     # JAX does not say
        cells[result["label"], result["kind"], result["workload"]] = "{:.3g} / {calls} / {kernels}".format(
            ms, **launches)
    return table(["a step on the GPU: ms between events / calls / kernels", "problem", *names],
                 [[label, kind, *(cells.get((label, kind, name), "") for name in names)] for label, kind in keys])


def bench_table(record):
    """Time and memory of every entrant on every workload."""
    names = sorted({result["workload"] for result in record["results"]})
    keys = list(dict.fromkeys((result["label"], result["kind"]) for result in record["results"]))
    cells = {}
    for result in record["results"]:
        ms, spread = middle([run["ms"] for run in result["runs"]])
        mb = statistics.median(run["mb"] for run in result["runs"])
        cells[result["label"], result["kind"], result["workload"]] = (
            f"{ms:.3g}{give_or_take(spread, len(result['runs']))} / {mb:.0f}")
    rows = [[label, kind, *(cells.get((label, kind, name), "") for name in names)] for label, kind in keys]
    return table(["ms a step ± half the spread / MB", "problem", *names], rows)


def ratios(record, targets):
    """Every target's ratio, taken round by round: [(target, median, spread)]; those without numbers are left out."""
    runs = {(result["workload"], result["key"]): result["runs"] for result in record["results"]}
    answers = []
    for target in targets:
        sides = [[runs[target.workload, key] for key in keys if (target.workload, key) in runs]
                 for keys in (target.over, target.under)]
        if not sides[0] or (target.under and not sides[1]):
            continue
        rounds = min(len(each) for side in sides for each in side)
        over, under = ([min((each[r][target.field] for each in side), default=1) for r in range(rounds)]
                       for side in sides)
        answers.append((target, *middle([a / b for a, b in zip(over, under)])))
    return answers


def ratio_table(answers, rounds):
    """The ratios next to what was wanted."""
    rows = []
    for target, ratio, spread in answers:
        verdict = {None: "", True: "yes", False: "no"}[target.met(ratio)]
        wanted = f"at most {target.most:g}" if target.most else "" if target.least is None else f"{target.least:g}"
        rows.append([target.workload, target.text, f"{ratio:.2f}{give_or_take(spread, rounds)}", wanted, verdict])
    return table(["", "ratio", "measured", "wanted", "met"], rows)


def bench_plot(record, path):
    """Bars of time a step, one panel a workload; returns the path, or None without matplotlib."""
    names = sorted({result["workload"] for result in record["results"]})
    try:
        figure = environment.new_figure(figsize=(1 + 3.6 * len(names), 5))
    except ImportError:
        return None
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)
    keys = list(dict.fromkeys(result["key"] for result in record["results"]))[::-1]
    for axis, name in zip(axes[0], names):
        times = {result["key"]: middle([run["ms"] for run in result["runs"]])[0] for result in record["results"]
                 if result["workload"] == name}
        bars = axis.barh(keys, [times.get(key, 0) for key in keys],
                         color=["tab:green" if key.startswith("ours") else "tab:gray" for key in keys])
        axis.bar_label(bars, [f"{times[key]:.3g}" if key in times else "" for key in keys], padding=2, fontsize=8)
        axis.set(xscale="log", title=name, xlabel="ms a training step")
        axis.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return path
