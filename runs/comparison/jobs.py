"""What is to be computed: settings, partitions and seeds, and the folder of each result."""

import hashlib
import json
from pathlib import Path

from hrmas_sparse import places
from hrmas_sparse.environment import option
from hrmas_sparse.settings.validators import choice, integer, nearest, real, shown
from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.storage.records import read_json, read_toml
from runs.comparison.worker import METHODS

HERE = Path(__file__).parent
_FORM = {"method": str, "title": str, "settings": {str: (bool, int, float, str)}, "data": {str: (int, str)},
         "partition": str, "seed": int, "fingerprint": str, "test": {"accuracy": float, "samples": int},
         "train": {"accuracy": float, "samples": int}, "trained_weights": int, "seconds": {"train": float},
         "processor_seconds?": float}
# What a setting may be beside a value of its usual kind: any number from 0, where nothing is said.
_CHECKS = {**dict.fromkeys(("bins", "hidden", "layers", "batch", "epochs"), integer(1)),
           **dict.fromkeys(("dropout_in", "dropout", "smoothing", "drop", "alpha", "beta"), real(0.0, 1.0)),
           "stretch": real(0.0, 0.9),
           "surrogate": choice("fast_sigmoid", "atan"), "reset": choice("subtract", "zero", "none")}
# Settings that came later, and what they are in results that do not name them.
_LATER = {"stretch": 0.0}


def chosen(method, dataset, change=None):
    """(title, settings) of a method on a data set, from methods.toml; ``change``: some that differ, or None."""
    table = dict(_read("methods.toml")[method])
    sections = {key: table.pop(key) for key in list(table) if isinstance(table[key], dict)}
    title = table.pop("title")
    settings = _changed(table, sections.get(dataset, {}), f"runs/comparison/methods.toml [{method}.{dataset}]")
    return title, settings | (change or {})


def own(path, names):
    """{method: {key: value}} of a file of settings that differ, of which some method in ``names`` has a section.

    Raises
    ------
    InputError
        It has a section or a setting that there is not, a value that a setting cannot have, or nothing for ``names``.
    """
    table = read_toml(path)
    for method, change in table.items():
        if method not in METHODS:
            raise InputError(f"{path}: unknown section [{method}]; there are {', '.join(METHODS)}"
                             f"{_hint(method, METHODS)}")
        if not isinstance(change, dict):
            raise InputError(f"{path}: {method}: expected a table [{method}], found {shown(change)}")
        _changed(chosen(method, None)[1], change, f"{path} [{method}]")
    if not any(name in table for name in names):
        raise InputError(f"{path}: expected a section {' or '.join(f'[{name}]' for name in names)}, found "
                         f"{', '.join(f'[{name}]' for name in table) or 'none'}")
    return table


def check_of(key, usual):
    """A function that raises ValueError(what was expected) for a value that a setting cannot have.

    Parameters
    ----------
    key : name of the setting; usual : a value that it has
    """
    whole = isinstance(usual, int) and not isinstance(usual, bool)
    kinds = (int,) if whole else (int, float) if isinstance(usual, float) else (type(usual),)
    more = _CHECKS.get(key, integer(0) if whole else real(0.0) if isinstance(usual, float) else lambda value: value)

    def check(value):
        if isinstance(value, bool) != isinstance(usual, bool) or not isinstance(value, kinds):
            raise ValueError(f"a value such as {usual!r}")
        more(value)
    return check


def trials(method):
    """(title, [settings, ...]) that trials.toml has for a method: its start and changes to it."""
    table = _read("trials.toml")[method]
    each = [_changed(table["start"], change, f"runs/comparison/trials.toml [{method}]")
            for change in [{}, *table["changes"]]]
    return _read("methods.toml")[method]["title"], each


def _read(name):
    return read_toml(HERE / name)


def _changed(settings, change, where):
    for key, value in change.items():
        if key not in settings:
            raise InputError(f"{where}: unknown {key}; there are {', '.join(settings)}{_hint(key, settings)}")
        try:
            check_of(key, settings[key])(value)
        except ValueError as error:
            raise InputError(f"{where}: {key}: expected {error}, found {shown(value)}") from None
    return {**settings, **change}


def _hint(word, known):
    near = nearest(word, known)
    return f"; nearest: {near[0]}" if near else ""


def methods(text):
    """"gru,logistic" or "gru logistic" -> list; InputError for one there is not."""
    words = text.replace(",", " ").split()
    for name in words:
        if name not in METHODS:
            raise InputError(f"--methods: expected some of {', '.join(METHODS)}, found {name!r}{_hint(name, METHODS)}")
    if not words:
        raise InputError(f"--methods: expected some of {', '.join(METHODS)}, found {text!r}")
    return list(dict.fromkeys(words))


def planned(names, caches, seeds, data, folder, git, tried=False, changes=None):
    """One job for each result.

    Parameters
    ----------
    names : methods; caches : {partition: Dataset}; seeds : list of int
    data : :class:`hrmas_sparse.settings.schema.DataConfig` of any of the partitions
    folder : Path, results go to folders in it
    git : the commit, see :func:`hrmas_sparse.environment.commit`
    tried : the settings of trials.toml instead of the chosen ones
    changes : {method: {key: value}} that differ from those, see :func:`own`, or None

    Returns
    -------
    list of dicts that JSON can hold
    """
    jobs = []
    encoding = {key: getattr(data, key) for key in ("dataset", "encoding", "value", "steps")}
    for method in names:
        title, *each = trials(method) if tried else chosen(method, data.dataset, (changes or {}).get(method))
        for settings in each[0] if tried else each:
            for partition, cache in caches.items():
                for seed in seeds:
                    name = f"{method}-{_key(settings)}" if tried else method
                    name = f"{name}-{partition}-s{seed}"
                    jobs.append({"name": name, "method": method, "title": title, "settings": settings,
                                 "data": encoding, "partition": partition, "seed": seed, "cache": str(cache.path),
                                 "grid": list(cache.grid),
                                 "fingerprint": cache.meta.fingerprint, "git": git, "folder": str(folder / name)})
    return jobs


def _key(settings):
    return hashlib.sha256(json.dumps(named(settings), sort_keys=True).encode()).hexdigest()[:8]


def named(settings):
    """Settings as they were named before some came later; the same where one of those changes something."""
    return {key: value for key, value in settings.items() if value != _LATER.get(key)}


def default_folder(dataset, name=None, tried=False):
    """Where the results of a data set go."""
    return places.out() / (name or f"compare-{dataset}{'-trials' if tried else ''}")


def read(path):
    """Return a result that :mod:`runs.comparison.worker` wrote."""
    return read_json(path, _FORM)


def result(job):
    """The result of a job, or None if there is none yet.

    Raises
    ------
    InputError
        The folder holds a result of other settings or recordings, or a damaged one.
    """
    path = Path(job["folder"]) / "result.json"
    if not path.exists():
        return None
    try:
        stored = read(path)
    except Damaged as error:
        raise Damaged(f"{error}; delete that file to compute it anew") from error
    differs = [f"{key}: {stored[key]!r} != {job[key]!r}" for key in ("method", "partition", "seed", "fingerprint")
               if stored[key] != job[key]]
    for key in ("settings", "data"):
        was, now = named(stored[key]), named(job[key])
        differs += [f"{key}.{name}: {was.get(name)!r} != {now.get(name)!r}"
                    for name in {**was, **now} if was.get(name) != now.get(name)]
    if differs:
        raise InputError(f"{path}: holds another result: {'; '.join(differs)}. Give another {option('name')}, or "
                         "delete that file to compute it anew")
    return {**stored, "settings": job["settings"]}
