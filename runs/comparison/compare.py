"""GRU, LSTM, snnTorch, norse and logistic regression on our spikes and partitions.

    hrmas compare DATA [--raw DIR] [--seeds 0-2] [--partitions "official resample-1..4"]
        [--methods "gru lstm snntorch norse logistic"] [--trials] [--settings FILE.toml]

Builds the caches, then computes each result that is not there yet, a folder each in
``runs/out/compare-<data set>``: ``<method>-<partition>-s<seed>/result.json``. `--trials` computes those of
trials.toml on valid-1 and valid-2, parts of the training part, into ``runs/out/compare-<data set>-trials``, and
prints the table of docs/comparison.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from hrmas_sparse import environment
from hrmas_sparse.process import Signalled
from hrmas_sparse.settings.load import override_names
from hrmas_sparse.settings.validators import check_name
from hrmas_sparse.storage.errors import InputError
from runs.comparison import jobs, tables, worker

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-bench" / "bin" / "python" if environment.checkout() else Path(sys.executable)
PACKAGES = ("hrmas_sparse", "numpy", "h5py", "tqdm")  # the worker needs, and those of the method


def caches_of(options, partitions):
    """{partition: its up to date data}, and the settings of the data."""
    from data_prep.load import configured, is_file, prepared
    each = {p: configured(options.dataset, overrides=[*options.set, f"data.partition={p}"]) for p in partitions}
    raw = options.raw or (options.dataset if is_file(options.dataset) else None)
    caches = {p: prepared(settings, raw, options.strict) for p, settings in each.items()}
    return caches, each[partitions[-1]].data


def _partitions(options):
    """Partitions asked for; of trials none that holds a sample of the official test part."""
    wanted = options.partitions or (["valid-1", "valid-2"] if options.trials else ["official"])
    bad = [name for name in wanted if options.trials and not name.startswith("valid-")]
    if bad:
        raise InputError(f"--partitions: expected valid-1 or the like with --trials, found {bad[0]!r}: settings are "
                         "chosen on the training part alone")
    return wanted


def _missing(python, method):
    """Why the worker cannot compute a method there; empty if it can."""
    needed = PACKAGES + worker.WITH_TORCH[method]
    code = f"import importlib.util as u; print(*(n for n in {needed} if u.find_spec(n) is None))"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, env=surroundings())
    except OSError as error:
        return f"{python}: {error.strerror}"
    if answer.returncode:
        return f"{python}: {(answer.stderr.strip().splitlines() or ['ended without a word'])[-1]}"
    return answer.stdout.strip() and f"{python} lacks {', '.join(answer.stdout.split())}"


def surroundings():
    """The environment of a Python with PyTorch, which need not have us installed."""
    path = {"PYTHONPATH": str(ROOT)} if environment.checkout() else {}
    return os.environ | path | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _compute(todo, python):
    """Compute jobs, those with PyTorch in a process of its own; returns the exit status."""
    worker.run([job for job in todo if job["method"] not in worker.WITH_TORCH], _say)
    todo = [job for job in todo if job["method"] in worker.WITH_TORCH]
    if not todo:
        return 0
    for method in dict.fromkeys(job["method"] for job in todo):
        check_python(python, method)
    with subprocess.Popen([python, "-m", "runs.comparison.worker"], stdin=subprocess.PIPE, text=True,
                          env=surroundings()) as process:
        process.stdin.write(json.dumps(todo) + "\n")
        process.stdin.flush()  # and left open: the worker ends when we do
        status = process.wait()
    return status if status >= 0 else 128 - status


def check_python(python, method):
    """Raise InputError if a method cannot be computed with a Python."""
    if why := _missing(python, method):
        install = "`make .venv-bench/installed` installs what is missing; " if environment.checkout() else ""
        raise InputError(f"{method}: not computed. {why}. {install}--peer-python gives another Python; "
                         "logistic regression alone needs none")


def _say(text):
    print(text, flush=True)


def run(options):
    """Compute what `hrmas compare` asks for and is not there yet; returns the exit status."""
    check_name(options.name, "--name")
    for section, key in (name for text in options.set for name in override_names(text)):
        if (section, key) == ("data", "partition"):
            raise InputError("--set: data.partition: here it is --partitions (PARTITIONS=) that says them")
        if section != "data":
            raise InputError(f"--set: {section}.{key}: these methods take settings of [data] alone; theirs go into a "
                             "file for --settings")
    names = worker.METHODS if options.methods is None else jobs.methods(options.methods)
    partitions = _partitions(options)
    if options.trials and options.settings:
        raise InputError("--settings: does not go with --trials, whose settings are those of trials.toml")
    changes = jobs.own(options.settings, names) if options.settings else None
    caches, data = caches_of(options, partitions)
    folder = jobs.default_folder(data.dataset, options.name, options.trials)
    todo = plan = jobs.planned(names, caches, options.seeds, data, folder, environment.commit()[0], options.trials,
                               changes)
    if not options.fresh:
        todo = [job for job in plan if jobs.result(job) is None]
    _say(f"{folder}: {len(plan) - len(todo)} of {len(plan)} results are there, {len(todo)} to compute")
    try:
        status = _compute(todo, options.peer_python or str(PYTHON))
    except (KeyboardInterrupt, Signalled):
        print("what is computed is kept, and the same command goes on from here", file=sys.stderr)
        raise
    results = [result for job in plan if (result := jobs.result(job))]
    _say("\n" + (tables.tried(results) if options.trials else tables.scored(results)))
    return status

