"""Time the variants of the peers in JAX, and keep the best of each for the bench.

    python -m runs.bench.tune [--peer-python .venv-bench/bin/python] [--only W1,W3] [--peers jax-links] [--cpu]

Each variant is measured in a process of its own, as the bench measures entrants. What was best goes to
runs/bench/peers/variants.json, by workload; `make bench` reads it.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from hrmas_sparse import environment
from runs.bench import bench, report
from runs.bench import workloads as w
from runs.bench.entrants import ENTRANTS

VARIANTS = Path(__file__).parent / "peers" / "variants.json"
NAMES = {"jax-blocks": "blocks", "jax-links": "blocks", "jax-dense": "dense", "jax-supernet": "dense",
         "jax-band": "band", "brainevent": "brainevent"}  # entrants, and what jax_rule.variant calls theirs


def candidates(key):
    """The variants of an entrant: layouts, steps of a span, input dense, as events, or as events forward alone."""
    layouts = ("rows",) if NAMES[key] in ("dense", "brainevent") else ("rows", "motifs")
    found = [{"layout": layout, "span": span, "input": kind}
             for layout in layouts for span in (5, 10, 20) for kind in ("dense", "sparse")]
    return [*found, {"layout": layouts[-1], "span": 10, "input": "mixed"}]


def best(entrant, problem, options):
    """The fastest variant, and the milliseconds of all."""
    times = []
    for chosen in candidates(entrant.key):
        os.environ["BENCH_VARIANT"] = json.dumps(chosen)
        found = bench.process(entrant, problem, options, "--seconds", str(options.seconds))
        print(f"{problem.stem} {entrant.key} {chosen}: {found.get('ms', found.get('failed'))}", flush=True)
        if "ms" in found:
            times.append((found["ms"], chosen))
    return min(times, key=lambda pair: pair[0])[1] if times else {}


def main(argv=None):
    """Run it."""
    parser = argparse.ArgumentParser(description=environment.first_line(__doc__))
    parser.add_argument("--peer-python", default=str(report.ROOT / ".venv-bench" / "bin" / "python"))
    parser.add_argument("--only", default=",".join(w.WORKLOADS), help="workloads")
    parser.add_argument("--peers", default=",".join(NAMES), help="entrants")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--cpu", action="store_true", help="by processor time, on a machine that others use")
    parser.add_argument("--out", type=environment.user_path, default=report.OUT)
    options = parser.parse_args(argv)
    kept = json.loads(VARIANTS.read_text(encoding="utf-8")) if VARIANTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for entrant in ENTRANTS:
            if entrant.key not in options.peers.split(","):
                continue
            for name in options.only.split(","):
                if name in entrant.workloads:
                    path = Path(folder) / f"{name}-{entrant.kind}.npz"
                    w.save(path, w.problem(w.WORKLOADS[name], entrant.kind))
                    kept[f"{name} {NAMES[entrant.key]} {entrant.kind}"] = best(entrant, path, options)
                    VARIANTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
