"""A run's folder: what is in it, starting and resuming it, listing, showing and comparing runs.

    manifest.json      config, seed, versions, data fingerprint and provenance, git commit; before the first step
    metrics.jsonl      one line an epoch
    architecture.json  the discrete architecture, once the search has ended
    checkpoint.h5      the latest state; a run goes on from it
    weights.h5         weights and intrinsic parameters the run ended with
    result.json        the test, once: a run that has it is finished
    summary.txt        the same for people
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from hrmas_sparse import __version__, checkpoint, config
from hrmas_sparse.errors import InputError
from hrmas_sparse.files import read_json, write_json

OUT = Path("runs/out")
SCHEMA = 1
WALL_CLOCK = ("seconds", "created", "command")  # keys that may differ between identical runs


class RunDir:
    """Paths of one run, and its manifest and result."""

    def __init__(self, path):
        self.path = Path(path)
        self.manifest_path = self.path / "manifest.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.architecture_path = self.path / "architecture.json"
        self.checkpoint_path = self.path / "checkpoint.h5"
        self.weights_path = self.path / "weights.h5"
        self.result_path = self.path / "result.json"
        self.summary_path = self.path / "summary.txt"

    @property
    def name(self):
        """The folder's name."""
        return self.path.name

    @property
    def finished(self):
        """Whether the run has been tested."""
        return self.result_path.exists()

    def manifest(self):
        """The manifest as a dict, its config valid."""
        return read_json(self.manifest_path)

    def config(self):
        """The run's :class:`hrmas_sparse.config.Config`."""
        return config.from_dict(self.manifest().get("config", {}), str(self.manifest_path))

    def result(self):
        """The result as a dict, or None while the run is unfinished."""
        return read_json(self.result_path) if self.finished else None

    def metrics(self):
        """Lines of metrics as dicts; a line cut off by a crash is left out."""
        lines = []
        for text in self.metrics_path.read_text().splitlines() if self.metrics_path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
        return lines

    def set_aside(self):
        """Rename the folder to a free name beside it, for a fresh start; returns the new path."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.old-{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside


def open_run(name):
    """The run of that name under runs/out, or at that path.

    Raises
    ------
    InputError
        There is no such run.
    """
    for path in (Path(name), OUT / name):
        if (path / "manifest.json").is_file():
            return RunDir(path)
    known = ", ".join(run.name for run in all_runs()) or "none yet"
    raise InputError(f"{name}: no run of that name in {OUT} and no run folder; runs: {known}")


def all_runs(out=OUT):
    """The runs under a folder, by name."""
    return [RunDir(path.parent) for path in sorted(Path(out).glob("*/manifest.json"))] if Path(out).is_dir() else []


def start(run, settings, seed, cache, origin):
    """Create a run's folder with its manifest, or check that the one there is the same run.

    Parameters
    ----------
    run : :class:`RunDir`
    settings : :class:`hrmas_sparse.config.Config`
    seed : int
    cache : :class:`hrmas_sparse.spikes.SpikeCache`
    origin : dict of further facts for the manifest; "architecture" among them must match too

    Returns
    -------
    bool, whether the run was there before

    Raises
    ------
    InputError
        The folder holds a run of other settings, seed or data; the differences are named.
    """
    data = {"fingerprint": cache.meta.fingerprint, "provenance": cache.meta.provenance, "cache": str(cache.path)}
    if run.manifest_path.exists():
        found = run.manifest()
        differs = config.differences(run.config(), settings)
        pairs = [("seed", found.get("seed"), seed),
                 ("data", found.get("data", {}).get("fingerprint"), data["fingerprint"]),
                 ("architecture", found.get("architecture"), origin.get("architecture"))]
        differs += [f"{key}: {a} != {b}" for key, a, b in pairs if a != b]
        if differs:
            raise InputError(f"{run.path}: holds another run: {'; '.join(differs)}. "
                             "Give another --name (NAME=), or --fresh (FRESH=1) to set the old one aside")
        return True
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{run.path}: cannot make the run's folder ({error.strerror})") from error
    write_json(run.manifest_path, {
        "schema": SCHEMA, "seed": seed, "data": data, **origin, "config": settings.as_dict(), "versions": versions(),
        "git": git_state(), "machine": machine(), "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": " ".join(sys.argv)})
    return False


def versions():
    """Versions of everything that can change a number."""
    return {"hrmas_sparse": __version__, "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "numba", "llvmlite", "scipy", "h5py")}}


def machine():
    """What the run was computed on."""
    return {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()}


def git_state():
    """Commit of the program and whether its files were changed, or None outside a checkout."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
                              timeout=10).stdout.strip()
    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _without_wall_clock(value):
    if isinstance(value, dict):
        return {k: _without_wall_clock(v) for k, v in value.items() if k not in WALL_CLOCK}
    return value


def _arrays_differ(a, b):
    """Names of arrays that are not the same bytes."""
    return [name for name in sorted(a.keys() | b.keys())
            if name not in a or name not in b or a[name].dtype != b[name].dtype or a[name].shape != b[name].shape
            or np.ascontiguousarray(a[name]).tobytes() != np.ascontiguousarray(b[name]).tobytes()]


def exact_differences(a, b):
    """What is not bit-identical between two runs, wall clock apart; an empty list if nothing.

    Compares every array and attribute of checkpoint and weights, the metrics, the architecture, the
    result, and of the manifest config, seed and data.
    """
    found = []
    for kind in ("checkpoint", "weights"):
        paths = [getattr(run, f"{kind}_path") for run in (a, b)]
        if not all(path.exists() for path in paths):
            if any(path.exists() for path in paths):
                found.append(f"{kind}.h5: only one of the runs has it")
            continue
        (arrays_a, meta_a), (arrays_b, meta_b) = (checkpoint.load(path, kind) for path in paths)
        found += [f"{kind}.h5: {name}" for name in _arrays_differ(arrays_a, arrays_b)]
        if _without_wall_clock(meta_a) != _without_wall_clock(meta_b):
            found.append(f"{kind}.h5: attributes")
    lines_a, lines_b = ([_without_wall_clock(line) for line in run.metrics()] for run in (a, b))
    found += [f"metrics.jsonl: line {n}" for n, (x, y) in enumerate(zip(lines_a, lines_b), start=1) if x != y]
    if len(lines_a) != len(lines_b):
        found.append(f"metrics.jsonl: {len(lines_a)} and {len(lines_b)} lines")
    for name in ("architecture.json", "result.json"):
        x, y = (read_json(run.path / name) if (run.path / name).exists() else None for run in (a, b))
        if _without_wall_clock(x) != _without_wall_clock(y):
            found.append(name)
    x, y = a.manifest(), b.manifest()
    found += [f"manifest.json: {key}" for key in ("config", "seed") if x.get(key) != y.get(key)]
    if x.get("data", {}).get("fingerprint") != y.get("data", {}).get("fingerprint"):
        found.append("manifest.json: data")
    return found


def differences(a, b):
    """Lines of text: settings, data and results in which two runs differ."""
    lines = config.differences(a.config(), b.config())
    x, y = a.manifest(), b.manifest()
    lines += [f"seed: {x.get('seed')} != {y.get('seed')}"] if x.get("seed") != y.get("seed") else []
    for key in ("fingerprint", "provenance"):
        if x.get("data", {}).get(key) != y.get("data", {}).get(key):
            lines.append(f"data {key}: {x.get('data', {}).get(key)} != {y.get('data', {}).get(key)}")
    rx, ry = a.result(), b.result()
    for key in ("accuracy", "loss"):
        one, other = (r and r["test"][key] for r in (rx, ry))
        if one != other:
            lines.append(f"test {key}: {one} != {other}")
    return lines


def status_line(run):
    """One line about a run: state, progress, accuracy."""
    manifest = run.manifest()
    name = f"{run.name:28s} {manifest['config']['data']['dataset']}"
    if manifest["data"]["provenance"] != "real":
        name += f" ({manifest['data']['provenance']})"
    result = run.result()
    if result:
        return f"{name}: finished, test accuracy {100 * result['test']['accuracy']:.2f} %"
    lines = run.metrics()
    if not lines:
        return f"{name}: unfinished, no epoch yet"
    last = lines[-1]
    return (f"{name}: unfinished, {last['phase']} epoch {last['epoch']}, "
            f"training accuracy {100 * last['accuracy']:.1f} %")
