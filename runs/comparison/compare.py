"""GRU, snnTorch and logistic regression on our spikes and partitions. `make compare` runs it.

    python -m runs.comparison.compare DATA [--raw DIR] [--seeds 0-2] [--partitions official,resample-1..4]
        [--methods gru,snntorch,logistic] [--trials]

Builds the caches, then computes each result that is not there yet, a folder each in
``runs/out/compare-<data set>``: ``<method>-<partition>-s<seed>/result.json``. `--trials` computes those of
trials.toml on valid-1 and valid-2, parts of the training part, into ``runs/out/compare-<data set>-trials``, and
prints the table of docs/comparison.md.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from hrmas_sparse.settings import validators as checks
from hrmas_sparse.settings import load as config
from hrmas_sparse.run import folder as rundir
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import locked
from runs.comparison import jobs, tables, worker

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path("data/cache")
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PACKAGES = ("numpy", "h5py", "tqdm", "torch", "snntorch")  # the worker needs


def _arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help=f"{', '.join(config.datasets())}, or a settings file (TOML)")
    parser.add_argument("--raw", type=Path, help="the recordings; default: data/raw/<data set>")
    parser.add_argument("--seeds", default="0", help="0, 0-4 or 0,2,5")
    parser.add_argument("--partitions", help="such as official,resample-1..4 (default: official; trials: valid-1..2)")
    parser.add_argument("--methods", default=",".join(worker.METHODS), help="default: all of them")
    parser.add_argument("--name", help="folder in runs/out (default: compare-<data set>)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="of section data")
    parser.add_argument("--strict", action="store_true", help="never use the synthetic stand-in")
    parser.add_argument("--fresh", action="store_true", help="compute again what is there")
    parser.add_argument("--trials", action="store_true", help="the settings of trials.toml, on the training part alone")
    parser.add_argument("--peer-python", default=str(PYTHON), help="a Python that has PyTorch and snnTorch")
    return parser.parse_args(argv)


def _caches(args, partitions):
    """{partition: its up to date spike cache}, and the settings of the data."""
    from data_prep import prepare
    from hrmas_sparse.data.cache import open_cache
    each = {p: config.load(args.dataset, overrides=[*args.set, f"data.partition={p}"]).data for p in partitions}
    found = {}
    with locked(CACHE / "lock", str(CACHE), wait=True):
        for partition, data in each.items():
            found[partition] = open_cache(prepare(data, args.raw, CACHE, strict=args.strict))
    return found, data


def _partitions(args):
    """Partitions asked for; of trials none that holds a sample of the official test part."""
    found = jobs.partitions(args.partitions or ("valid-1..2" if args.trials else "official"))
    bad = [name for name in found if args.trials and not name.startswith("valid-")]
    if bad:
        raise InputError(f"--partitions: expected valid-1 or the like with --trials, found {bad[0]!r}: settings are "
                         "chosen on the training part alone")
    return found


def _missing(python):
    """Why the worker cannot run there; empty if it can."""
    code = f"import importlib.util as u; print(*(n for n in {PACKAGES} if u.find_spec(n) is None))"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, env=_environment())
    except OSError as error:
        return f"{python}: {error.strerror}"
    if answer.returncode:
        return f"{python}: {(answer.stderr.strip().splitlines() or ['ended without a word'])[-1]}"
    return answer.stdout.strip() and f"{python} lacks {', '.join(answer.stdout.split())}"


def _environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _compute(todo, python):
    """Compute jobs, those with PyTorch in a process of its own; returns the exit status."""
    worker.run([job for job in todo if job["method"] not in worker.WITH_TORCH], _say)
    todo = [job for job in todo if job["method"] in worker.WITH_TORCH]
    if not todo:
        return 0
    why = _missing(python)
    if why:
        names = ", ".join(dict.fromkeys(job["method"] for job in todo))
        raise InputError(f"{names}: not computed. {why}. `make compare` installs what is missing; --peer-python gives "
                         "another Python, --methods logistic needs none")
    with subprocess.Popen([python, "-m", "runs.comparison.worker"], stdin=subprocess.PIPE, text=True,
                          env=_environment()) as process:
        process.stdin.write(json.dumps(todo) + "\n")
        process.stdin.flush()  # and left open: the worker ends when we do
        status = process.wait()
    return status if status >= 0 else 128 - status


def _say(text):
    print(text, flush=True)


def main(argv=None):
    """Run the program; returns the exit status, 2 for what the user can mend."""
    args = _arguments(argv)
    try:
        return _main(args)
    except InputError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: interrupted; the same command goes on, what is computed is kept", file=sys.stderr)
        return 130


def _main(args):
    if args.name is not None and not checks.plain(args.name):
        raise InputError(f"--name: expected a plain name, found {args.name!r}")
    names, seeds, partitions = jobs.methods(args.methods), jobs.seeds(args.seeds), _partitions(args)
    caches, data = _caches(args, partitions)
    folder = jobs.default_folder(data.dataset, args.name, args.trials)
    todo = plan = jobs.planned(names, caches, seeds, data, folder, rundir.git_state(), args.trials)
    if not args.fresh:
        todo = [job for job in plan if jobs.result(job) is None]
    _say(f"{folder}: {len(plan) - len(todo)} of {len(plan)} results are there, {len(todo)} to compute")
    status = _compute(todo, args.peer_python)
    results = [found for job in plan if (found := jobs.result(job))]
    _say("\n" + (tables.tried(results) if args.trials else tables.scored(results)))
    return status


if __name__ == "__main__":
    sys.exit(main())
