"""A run's folder: what is in it, who works on it, starting and resuming it, listing runs.

    manifest.json      config, seed, versions, data fingerprint and provenance, git commit; before the first step
    metrics.jsonl      one line an epoch
    architecture.json  the discrete architecture, once the search has ended
    search.h5          alpha, R and tau at the end of the search
    diagnosis.json     what making the searched network discrete cost, see diagnosis.py
    checkpoint.h5      the latest state; a run goes on from it, or from checkpoint.previous.h5 if it is damaged
    lock               held by the process that works on the run, and says which that is
    weights.h5         weights and intrinsic parameters the run ended with
    result.json        the test, once: a run that has it is finished
    summary.txt        the same for people
"""

import contextlib
import importlib.metadata
import os
import platform
import shlex
import sys
import time
from pathlib import Path

from hrmas_sparse import __version__, environment, places
from hrmas_sparse.engine import architecture
from hrmas_sparse.environment import option
from hrmas_sparse.run.state import PHASES
from hrmas_sparse.settings.load import differences, from_dict
from hrmas_sparse.storage import arrayfile, files
from hrmas_sparse.storage.atomic import remove_stale, write_json
from hrmas_sparse.storage.errors import Damaged, InputError, printable
from hrmas_sparse.storage.locks import held, locked, owner
from hrmas_sparse.storage.records import COPIES, LARGEST_JSON, fits, parsed_json, read_json

SCHEMA = 1
# What the files must look like, see records.fits: a folder may come from anybody.
_MANIFEST = {"schema": {SCHEMA}, "seed": int, "config": {"data": {"dataset": str}}, "raw": (None, str),
             "data": {"fingerprint": str, "provenance": {"real", "synthetic stand-in"}, "class_names?": (None, [str])}}
_SCORE = {"accuracy": float, "loss": float, "samples": int}
_COUNTS = {"possible": int, "excitatory": int, "inhibitory": int, "none": int, "dense": int}
_TEST = _SCORE | {"confusion": [[int]], "rates": [float], "output_rates?": [float]}
_RESULT = {"test": (None, _TEST), "train": _SCORE, "chance": float, "counts_baseline": (None, float),
           "trained_weights": int, "recurrence": [(None, _COUNTS)], "seconds": {str: float},
           "processor_seconds?": {str: float}}
_DIAGNOSIS = {"windows": int, "relaxed": _SCORE, "discrete": _SCORE, "reset": (None, _SCORE), "adapted": (None, _SCORE)}
_LINE = {"phase": set(PHASES), "epoch": int, "accuracy": float, "seconds": float,
         "valid_accuracy?": float, "warnings?": [str]}

NANOSECOND, LONGEST = 1e-9, 1e12     # seconds of processor time; the latter a thousand years on thirty cores

# What a run writes after its manifest.
_RESULTS = ("metrics.jsonl", "architecture.json", "search.h5", "diagnosis.json", "checkpoint.h5",
            "checkpoint.previous.h5", "weights.h5", "result.json", "summary.txt")


class RunDir:
    """Paths of one run, and its manifest and result."""

    def __init__(self, path):
        self.path = Path(path)
        self.lock_path = self.path / "lock"
        self.manifest_path = self.path / "manifest.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.architecture_path = self.path / "architecture.json"
        self.search_path = self.path / "search.h5"
        self.diagnosis_path = self.path / "diagnosis.json"
        self.checkpoint_path = self.path / "checkpoint.h5"
        self.weights_path = self.path / "weights.h5"
        self.result_path = self.path / "result.json"
        self.summary_path = self.path / "summary.txt"

    @property
    def name(self):
        """The folder's name; in runs/out with the experiment it is part of."""
        path, out = self.path.resolve(), places.out().resolve()
        return printable(path.relative_to(out) if out in path.parents else path.name)

    @property
    def finished(self):
        """Whether the run has been tested."""
        return os.path.lexists(self.result_path)

    def manifest(self):
        """The manifest as a dict of the right form."""
        return read_json(self.manifest_path, _MANIFEST)

    def thresholds(self):
        """The thresholds of the hidden layers that were chosen for ``network.v_th = "auto"``; None if none were."""
        chosen, net = self.manifest().get("v_th"), self.config().network
        begun = any(os.path.lexists(path) for path in (self.checkpoint_path, self.weights_path))
        if chosen is None and begun and net.v_th is None:
            raise Damaged(f"{self.manifest_path}: v_th: expected the thresholds the run began with, found none")
        if chosen is not None and not (fits(chosen, [float]) and len(chosen) == len(net.neurons) and min(chosen) > 0):
            raise Damaged(f"{self.manifest_path}: v_th: not what belongs there")
        return chosen

    def extent(self):
        """Channels and classes that the weights are for."""
        arrays, _ = arrayfile.load(self.weights_path, "weights")
        first, last = (arrays.get(f"parameters/{name}") for name in ("w1", "w_out"))
        if first is None or last is None or first.ndim != 2 or last.ndim != 2:
            raise Damaged(f"{self.weights_path}: damaged: no weights of an input or output layer")
        return first.shape[0], last.shape[1]

    def version(self):
        """The version of the program that made the run; None if it does not say."""
        versions = self.manifest().get("versions")
        made_by = versions.get("hrmas_sparse") if isinstance(versions, dict) else None
        return made_by if fits(made_by, str) else None

    def config(self):
        """The run's :class:`hrmas_sparse.settings.schema.Config`."""
        return from_dict(self.manifest()["config"], str(self.manifest_path))

    def result(self):
        """The result as a dict, or None while the run is unfinished."""
        if not self.finished:
            return None
        stored = read_json(self.result_path, _RESULT)
        _check_scores(self.result_path, stored["train"], stored["test"])
        measured = stored.get("processor_seconds", {}).values()
        if not all(spent == 0 or NANOSECOND <= spent <= LONGEST for spent in measured):
            raise Damaged(f"{self.result_path}: processor_seconds: expected what a clock can measure")
        counts = stored["test"]["confusion"] if stored["test"] else [[0]]
        if {len(row) for row in counts} != {len(counts)} or min(map(min, counts)) < 0:
            raise Damaged(f"{self.result_path}: test.confusion: expected as many rows as columns, all counts")
        if self.config().network.recurrence == "motif" and not all(c and c["dense"] > 0 for c in stored["recurrence"]):
            raise Damaged(f"{self.result_path}: recurrence: expected the connections of every hidden layer")
        return stored

    def architecture(self):
        """The architecture of every hidden layer; an empty list before the search has ended, and without motifs."""
        return architecture.load(self.architecture_path) if os.path.lexists(self.architecture_path) else []

    def diagnosis(self):
        """What :func:`diagnosis.diagnose` found; None without a search, or of a version that had none."""
        if not os.path.lexists(self.diagnosis_path):
            return None
        stored = read_json(self.diagnosis_path, _DIAGNOSIS)
        _check_scores(self.diagnosis_path, *(stored[name] for name in ("relaxed", "discrete", "reset", "adapted")))
        if (stored["reset"] is None) != (stored["adapted"] is None):
            raise Damaged(f"{self.diagnosis_path}: reset, adapted: expected both or neither")
        return stored

    def metrics(self):
        """Lines of metrics as dicts, up to the first that is cut off or damaged."""
        lines = []
        for text in self.metrics_text().splitlines():
            try:
                line = parsed_json(text, self.metrics_path)
            except Damaged:
                break
            if not fits(line, _LINE):
                break
            lines.append(line)
        return lines

    def metrics_text(self):
        """The bytes of metrics.jsonl; none where there is no such file."""
        if not os.path.lexists(self.metrics_path):
            return b""
        return files.read(self.metrics_path, own=True, largest=LARGEST_JSON, copies=COPIES)

    @contextlib.contextmanager
    def working(self):
        """A context in which nobody else works on the run; InputError names who does."""
        with locked(self.lock_path, str(self.path)) as self.check:
            try:
                yield
            finally:
                del self.check

    def check(self):
        """Raise InputError if the folder is no longer the one we work on: renamed, deleted or replaced."""

    def remove_if_empty(self):
        """Delete the folder if there is nothing but the lock in it; to be called while working on it."""
        with contextlib.suppress(OSError):
            if os.listdir(self.path) != [self.lock_path.name]:
                return
            self.check()
            self.lock_path.unlink()
            self.path.rmdir()  # fails where somebody was quicker

    def set_aside(self):
        """Rename the folder to a free name beside it, for a fresh start; returns the new path."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.check()
        self.path.rename(aside)
        return aside


def _check_scores(path, *scores):
    """Raise Damaged if one of those that are there is none that samples can have."""
    if not all(0 <= one["accuracy"] <= 1 and one["samples"] > 0 for one in scores if one is not None):
        raise Damaged(f"{path}: accuracy, samples: expected a share of at least one sample")


def open_run(name):
    """The run of that name under runs/out, or at that path.

    Raises
    ------
    InputError
        There is no such run.
    """
    for path in (Path(name), places.out() / name):
        if (path / "manifest.json").is_file():
            return RunDir(path)
    known = ", ".join(run.name for run in all_runs()) or "none yet"
    raise InputError(f"{name}: no run of that name in {places.out()} and no run folder; runs: {known}")


def all_runs(out=None):
    """The runs under a folder and those of the experiments in it, by name."""
    out = Path(out or places.out())
    manifests = [*out.glob("*/manifest.json"), *out.glob("*/*/manifest.json")]
    return [RunDir(path.parent) for path in sorted(manifests)]


def start(run, settings, seed, data, origin):
    """Write a run's manifest, or check that the one there is of the same run; to be called while working on it.

    Parameters
    ----------
    run : :class:`RunDir`
    settings : :class:`hrmas_sparse.settings.schema.Config`
    seed : int
    data : :class:`hrmas_sparse.data.dataset.Dataset`
    origin : dict of further facts for the manifest; "architecture" among them must match too

    Returns
    -------
    bool, whether the run was there before

    Raises
    ------
    InputError
        The folder holds a run of other settings, seed or data; the differences are named. Or it holds files with the
        names of ours and no manifest: they are not a run's, and nothing is written over them.
    """
    remove_stale(run.path)
    meta = data.meta
    about = {"fingerprint": meta.fingerprint, "provenance": meta.provenance,
             "cache": environment.printable(data.path) if data.path else None, "class_names": list(meta.class_names)}
    if run.manifest_path.exists():
        before = run.manifest()
        differs = differences(run.config(), settings)
        pairs = [("seed", before["seed"], seed),
                 ("data", before["data"]["fingerprint"], meta.fingerprint),
                 ("architecture", before.get("architecture"), origin.get("architecture"))]
        differs += [f"{key}: {a} != {b}" for key, a, b in pairs if a != b]
        if differs:
            raise InputError(f"{run.path}: holds another run: {'; '.join(differs)}. "
                             f"Give another {option('name')}, or {option('fresh')} to set the old one aside")
        if not run.finished:
            _note_resume(run, before)
        return True
    if foreign := [name for name in _RESULTS if os.path.lexists(run.path / name)]:
        raise InputError(f"{run.path}: expected a run's folder or a new one, found {', '.join(foreign)} without a "
                         f"manifest.json; give another {option('name')}, or move what is there")
    write_json(run.manifest_path, {
        "schema": SCHEMA, "seed": seed, "data": about, **origin, "config": settings.as_dict(), "versions": versions(),
        "git": environment.commit()[0], "machine": machine(), "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": environment.printable(shlex.join(sys.argv))})
    return False


def _note_resume(run, manifest):
    """Warn if a run goes on under other versions than it began with, and keep them in the manifest."""
    now = {"versions": versions(), "git": environment.commit()[0]}
    changed = [key for key in now if manifest.get(key) != now[key]]
    if not changed:
        return
    print(f"warning: {printable(run.path)}: goes on with other {' and '.join(changed)} than it began with; the "
          "result may not be "
          "the one a straight run gives. The manifest keeps both", file=sys.stderr)
    earlier = manifest.get("resumed")
    earlier = earlier if isinstance(earlier, list) else []
    if now not in earlier:
        write_json(run.manifest_path, {**manifest, "resumed": [*earlier, now]})


def versions():
    """Versions of everything that can change a number."""
    return {"hrmas_sparse": __version__, "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "numba", "llvmlite", "scipy", "h5py")}}


def machine():
    """What the run was computed on."""
    return {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()}


def status_line(run):
    """One line about a run: state, progress, accuracy, time. A damaged one says so."""
    try:
        return f"{run.name:24s} {_status(run)}"
    except InputError as error:
        return f"{run.name:24s} damaged: {error}"


def _status(run):
    manifest, settings, result, lines = run.manifest(), run.config(), run.result(), run.metrics()
    data = settings.data.dataset
    if manifest["data"]["provenance"] != "real":
        data += f" ({manifest['data']['provenance']})"
    by_phase = {line["phase"]: line["seconds"] for line in lines} if result is None else result["seconds"]
    took = _duration(sum(by_phase.values()))
    if result:
        score = f"test accuracy {100 * result['test']['accuracy']:.2f} %" if result["test"] else "no test part"
        return f"finished    {data}, seed {manifest['seed']}: {score}, {took}"
    state = "running    " if held(run.lock_path) else "interrupted" if owner(run.lock_path) else "stopped    "
    if not lines:
        return f"{state} {data}, seed {manifest['seed']}: no epoch yet"
    last = lines[-1]
    total = total_epochs(settings, [line["phase"] for line in lines])
    return (f"{state} {data}, seed {manifest['seed']}: {last['phase']}, epoch {len(lines)} of {total} in all, "
            f"training accuracy {100 * last['accuracy']:.1f} %, {took}")


def total_epochs(settings, phases):
    """Return how many epochs a run will have had; stages of the search that ended early count as they were.

    phases : of each epoch so far
    """
    counts = {phase: phases.count(phase) for phase in PHASES}
    planned = dict(zip(PHASES, (*settings.stages, settings.choosing_epochs, settings.training.retrain_epochs)))
    begun = [n for n, phase in enumerate(PHASES) if counts[phase]]
    if begun and not PHASES[begun[0]].startswith("search"):     # the architecture was given, or is random
        planned["search-1"] = planned["search-2"] = 0
    if begun == [PHASES.index("retrain")]:
        planned["candidates"] = 0
    return sum(counts[phase] if begun and n < begun[-1] else planned[phase] for n, phase in enumerate(PHASES))


def _duration(seconds):
    if not 0 <= seconds < 1e9:
        return "time unknown"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
