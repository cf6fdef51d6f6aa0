"""Comparing runs: bit by bit, or as a person would."""

import numpy as np

from hrmas_sparse.settings import load as settings
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.records import read_json

# Keys that may differ between identical runs: time, and the count baseline, which is SciPy's and BLAS's work.
WALL_CLOCK = ("seconds", "processor", "processor_seconds", "created", "command", "counts_baseline")
# Keys of a result that versions before 0.2 did not write; compared where both runs have them.
LATER = ("output_rates",)


def _without_wall_clock(value):
    if isinstance(value, dict):
        return {k: _without_wall_clock(v) for k, v in value.items() if k not in WALL_CLOCK}
    return value


def _in_common(x, y):
    """Two values without the later keys that only one of them has."""
    if not isinstance(x, dict) or not isinstance(y, dict):
        return x, y
    x, y = ({key: one[key] for key in one if key in other or key not in LATER} for one, other in ((x, y), (y, x)))
    common = {key: _in_common(x[key], y[key]) for key in x.keys() & y.keys()}
    return tuple(one | {key: pair[n] for key, pair in common.items()} for n, one in enumerate((x, y)))


def _completed(value):
    """Settings that are newer than a run have their defaults, with which it is what it was."""
    if not isinstance(value, dict):
        return value
    return {key: settings.from_dict(part).as_dict() if key == "config" else _completed(part)
            for key, part in value.items()}


def _arrays_differ(a, b):
    """Names of arrays that are not the same bytes."""
    return [name for name in sorted(a.keys() | b.keys())
            if name not in a or name not in b or a[name].dtype != b[name].dtype or a[name].shape != b[name].shape
            or np.ascontiguousarray(a[name]).tobytes() != np.ascontiguousarray(b[name]).tobytes()]


def exact_differences(a, b):
    """What is not bit-identical between two runs, wall clock apart; an empty list if nothing.

    Compares every array and attribute of checkpoint, search and weights, the metrics, the architecture, the
    diagnosis, the result, and of the manifest config, seed and data.
    """
    differing = []
    for kind in ("checkpoint", "search", "weights"):
        paths = [getattr(run, f"{kind}_path") for run in (a, b)]
        if not all(path.exists() for path in paths):
            if any(path.exists() for path in paths):
                differing.append(f"{kind}.h5: only one of the runs has it")
            continue
        (arrays_a, meta_a), (arrays_b, meta_b) = (arrayfile.load(path, kind) for path in paths)
        differing += [f"{kind}.h5: {name}" for name in _arrays_differ(arrays_a, arrays_b)]
        if _completed(_without_wall_clock(meta_a)) != _completed(_without_wall_clock(meta_b)):
            differing.append(f"{kind}.h5: attributes")
    lines_a, lines_b = ([_without_wall_clock(line) for line in run.metrics()] for run in (a, b))
    differing += [f"metrics.jsonl: line {n}" for n, (x, y) in enumerate(zip(lines_a, lines_b), start=1) if x != y]
    if len(lines_a) != len(lines_b):
        differing.append(f"metrics.jsonl: {len(lines_a)} and {len(lines_b)} lines")
    for name in ("architecture.json", "diagnosis.json", "result.json"):
        x, y = (read_json(run.path / name) if (run.path / name).exists() else None for run in (a, b))
        x, y = _in_common(_without_wall_clock(x), _without_wall_clock(y))
        if x != y:
            differing.append(name)
    x, y = _completed(a.manifest()), _completed(b.manifest())
    differing += [f"manifest.json: {key}" for key in ("config", "seed") if x[key] != y[key]]
    if x["data"]["fingerprint"] != y["data"]["fingerprint"]:
        differing.append("manifest.json: data")
    return differing


def _shown(key, value):
    return f"{100 * value:.2f} %" if key == "accuracy" else f"{value:.5g}"


def differences(a, b):
    """Lines of text: settings, data and results in which two runs differ."""
    lines = settings.differences(a.config(), b.config())
    x, y = a.manifest(), b.manifest()
    lines += [f"seed: {x['seed']} != {y['seed']}"] if x["seed"] != y["seed"] else []
    for key in ("fingerprint", "provenance"):
        if x["data"][key] != y["data"][key]:
            lines.append(f"data {key}: {x['data'][key][:20]} != {y['data'][key][:20]}")
    rx, ry = a.result(), b.result()
    unreal = "".join(f" ({kind})" for kind in sorted({m["data"]["provenance"] for m in (x, y)} - {"real"}))
    for key in ("accuracy", "loss"):
        one, other = ("unfinished" if r is None else _shown(key, r["test"][key]) if r["test"] else "no test part"
                      for r in (rx, ry))
        if one != other:
            lines.append(f"test {key}{unreal}: {one} != {other}")
    return lines
