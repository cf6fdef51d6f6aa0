"""Ours and the peers side by side, in turn, each in a process of its own. `make bench [BACKEND=cuda]` runs it.

    python -m runs.bench.bench [--backend cuda] [--only W1,W3] [--peers 'ours*,blocks-compiled'] [--rounds 3]
                               [--threads 2] [--quick]

A round runs every entrant once on every workload; what is reported is the median over rounds of a process's
median, and ratios are taken round by round, so that a machine that slows down for a while slows both sides.
Before the first round, every entrant of the same learning rule shows that its gradients are ours, in float64.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hrmas_sparse import environment
from hrmas_sparse.engine.backends.cuda.probe import probe
from hrmas_sparse.doctor import require_gpu
from hrmas_sparse.storage.errors import InputError
from runs.bench import ours, report, roofline
from runs.bench import workloads as w
from runs.bench.entrants import BENCHES
from runs.bench.worker import MARK

CHECK_SAMPLES = 4
LIMIT = 1200  # seconds a process may take
SEES = {"torch": "; torch.zeros(1, device='cuda')", "jax": "; jax.devices('cuda')"}   # fails where there is no GPU


def arguments(argv):
    """The command line."""
    parser = argparse.ArgumentParser(description=environment.first_line(__doc__))
    parser.add_argument("--backend", default="cpu", choices=BENCHES, help="where: on the processor, or on a GPU")
    parser.add_argument("--only", default="W1,W2,W3,W4", help="workloads")
    parser.add_argument("--peers", default="*", help="entrants, names or patterns: " + "; ".join(
        f"{backend}: {' '.join(entrant.key for entrant in rows)}" for backend, (rows, _) in BENCHES.items()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one round, fewer steps, W1 unless --only says otherwise")
    parser.add_argument("--cpu", action="store_true", help="processor time in place of time: with --threads 1, what "
                        "can be said on a machine that others use, too")
    parser.add_argument("--no-check", action="store_true", help="do not compare gradients first")
    parser.add_argument("--peer-python", help="the Python that has PyTorch and JAX, default that of .venv-bench, or "
                        ".venv-bench-cuda")
    parser.add_argument("--out", type=environment.user_path, default=report.OUT)
    options = parser.parse_args(argv)
    if options.cpu and options.backend != "cpu":
        parser.error("--cpu: processor time says nothing about a GPU")
    folder = ".venv-bench" if options.backend == "cpu" else f".venv-bench-{options.backend}"
    options.peer_python = options.peer_python or str(report.ROOT / folder / "bin" / "python")
    if options.quick:
        options.rounds = 1
        options.only = "W1" if options.only == parser.get_default("only") else options.only
    options.only = options.only.split(",")
    unknown = set(options.only) - set(w.WORKLOADS)
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(w.WORKLOADS)}")
    return options


def chosen(patterns, entrants):
    """Entrants whose key matches one of the patterns, a comma between them."""
    kept = [e for e in entrants if any(fnmatch.fnmatchcase(e.key, p) for p in patterns.split(","))]
    if not kept:
        raise SystemExit(f"no entrant matches {patterns}; there are {', '.join(e.key for e in entrants)}")
    return kept


def missing(entrants, python):
    """Entrants that cannot run, by key, with the reason: the last line of what importing their package said."""
    reasons, tried = {}, {}
    for entrant in entrants:
        if entrant.ours:
            continue
        if entrant.needs not in tried:
            sees = "" if entrant.device == "cpu" else SEES[entrant.framework]
            try:
                tries = f"import {entrant.framework}, {entrant.needs}{sees}"
                answer = subprocess.run([python, "-c", tries], capture_output=True, text=True, timeout=LIMIT)
                tried[entrant.needs] = answer.stderr.strip().splitlines()[-1] if answer.returncode else None
            except OSError as error:
                tried[entrant.needs] = f"no bench environment ({error}); make bench makes it"
        if tried[entrant.needs]:
            reasons[entrant.key] = tried[entrant.needs]
    return reasons


def process(entrant, problem, options, *flags):
    """Run one worker; returns its result, or {"failed": why}. ``options``: threads, cpu, out, peer_python."""
    threads = entrant.threads or options.threads
    command = [sys.executable if entrant.ours else options.peer_python, "-m", "runs.bench.worker", entrant.function,
               str(problem), "--threads", str(threads), *entrant.flags, *flags]
    environment = os.environ | entrant.environment(threads, options.out / "inductor")
    try:
        answer = subprocess.run(command, cwd=report.ROOT, env=environment, capture_output=True, text=True,
                                timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {LIMIT} s"}
    for line in answer.stdout.splitlines():
        if line.startswith(MARK):
            result = json.loads(line[len(MARK):])
            if options.cpu and "ms" in result:
                result |= {"ms": result["cpu_ms"], "wall_ms": result["ms"]}
            return result
    return {"failed": (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]}


def problems(folder, pairs):
    """Write the problem, and a small one with reference gradients, of every (workload, kind)."""
    for name, kind in pairs:
        w.save(folder / f"{name}-{kind}.npz", w.problem(w.WORKLOADS[name], kind))
        small = w.problem(w.WORKLOADS[name], kind, samples=CHECK_SAMPLES, seed=1)
        gradients = ours.Step(small, 1, "float64").gradients()
        w.save(folder / f"{name}-{kind}-check.npz", small | {f"g.{key}": g for key, g in gradients.items()})


def check(jobs, folder, options):
    """Gradients of the entrants with our rule against ours; returns {"W1 dense": relative error}.

    Compiled and captured ones run the same source, and compiling in float64 takes long: they are checked on W1 alone.
    """
    errors = {}
    for name, entrant in jobs:
        if entrant.our_rule and (not (entrant.compiled or entrant.graph) or name == "W1"):
            result = process(entrant, folder / f"{name}-{entrant.kind}-check.npz", options, "--check")
            errors[f"{name} {entrant.key}"] = f"{result['error']:.1e}" if "error" in result else result["failed"]
            print(f"gradients of {entrant.key} on {name}: relative error {errors[f'{name} {entrant.key}']}",
                  flush=True)
    return errors


def measured(jobs, folder, options):
    """All rounds; returns (results, {"W1 dense": why it failed})."""
    runs, failed = {}, {}
    flags = ["--seconds", "0.5", "--least", "2"] if options.quick else []
    if options.backend != "cpu":
        flags += ["--most", "300"]  # steps are short there
    for turn in range(options.rounds):
        for name, entrant in jobs:
            if f"{name} {entrant.key}" in failed:
                continue
            result = process(entrant, folder / f"{name}-{entrant.kind}.npz", options, *flags)
            if "failed" in result:
                failed[f"{name} {entrant.key}"] = result["failed"]
                print(f"{name} {entrant.key} failed: {result['failed']}", flush=True)
                continue
            runs.setdefault((name, entrant.key), []).append(result)
            print(f"round {turn + 1}  {name} {entrant.key:<24} {result['ms']:9.2f} ms  {result['mb']:7.1f} MB",
                  flush=True)
    label = {entrant.key: (entrant.label, entrant.kind) for _, entrant in jobs}
    return [{"workload": name, "key": key, "label": label[key][0], "kind": label[key][1], "runs": each}
            for (name, key), each in runs.items()], failed


def rooflines(jobs, folder, options):
    """Our kernels on a GPU, one by one: {"W1 motif": as :func:`roofline.table` takes it}."""
    rows = {}
    for name, entrant in jobs:
        if entrant.function == "ours.make" and entrant.device != "cpu":
            result = process(entrant, folder / f"{name}-{entrant.kind}.npz", options, "--kernels")
            if "failed" in result:
                print(f"kernels of {name} {entrant.kind}: {result['failed']}", flush=True)
            else:
                rows[f"{name} {entrant.kind}"] = result
    return rows


def rates_outside(results):
    """Problems of ours whose hidden rate is not what the workloads promise."""
    return [f"{r['workload']} {r['kind']}: hidden rate {r['runs'][0]['rates'][0]}" for r in results
            if r["key"].startswith("ours") and not w.RATES[0] <= r["runs"][0]["rates"][0] <= w.RATES[1]]


def gpu(backend):
    """What the result says of the GPU. Without one that works: a line, and exit status 2."""
    if backend == "cpu":
        return {}
    try:
        require_gpu()
    except InputError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return {"gpu": probe()._asdict()}


def main(argv=None):
    """Run the bench; returns the path of its JSON."""
    options = arguments(argv)
    there, (entrants, targets) = gpu(options.backend), BENCHES[options.backend]
    entrants = [e for e in chosen(options.peers, entrants) if e.threads is None or e.threads < options.threads]
    skipped = missing(entrants, options.peer_python)
    jobs = [(name, e) for name in options.only for e in entrants if name in e.workloads and e.key not in skipped]
    record = report.header(options.threads) | there
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        problems(folder, sorted({(name, e.kind) for name, e in jobs}))
        record["gradients"] = {} if options.no_check else check(jobs, folder, options)
        record["results"], failed = measured(jobs, folder, options)
        record["rooflines"] = rooflines(jobs, folder, options)
    record |= {"rounds": options.rounds, "quick": options.quick, "cpu": options.cpu, "skipped": skipped | failed,
              "rates_outside": rates_outside(record["results"])}
    path = report.write("bench" if options.backend == "cpu" else f"bench-{options.backend}", record, options.out)
    show(record, path, targets)
    return path


def show(record, path, targets):
    """Print everything about a result."""
    print("\n" + report.describe(record) + "\n\n" + report.bench_table(record) + "\n")
    print(report.ratio_table(report.ratios(record, targets), record["rounds"]) + "\n")
    if "gpu" in record:
        print(report.device_table(record) + "\n")
    for name, kernels in record["rooflines"].items():
        print(f"Kernels of a step, {name}:\n\n{roofline.table(kernels)}\n")
    for title, lines in (("Skipped", record["skipped"]), ("Relative error of gradients", record["gradients"])):
        if lines:
            print(title + ": " + "; ".join(f"{key} ({value})" for key, value in lines.items()) + ".")
    for line in record["rates_outside"]:
        print("WARNING, rate outside 2-5 %: " + line)
    picture = report.bench_plot(record, path.with_suffix(".png"))
    print(f"\nwritten: {path}" + (f", {picture}" if picture else "; no plot, matplotlib is not installed"))


if __name__ == "__main__":
    main()
