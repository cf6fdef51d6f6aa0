"""What a trial is: runs of our networks, or results of a method of `hrmas compare`, on parts of the training part."""

import json
import shlex
import sys

from data_prep.load import configured
from hrmas_sparse import environment
from hrmas_sparse.environment import option
from hrmas_sparse.storage import records
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage.errors import InputError
from runs import experiment
from runs.comparison import compare, jobs, tasks
from runs.comparison.worker import WITH_TORCH as METHODS_WITH_TORCH
from runs.plan import Planned, epochs
from runs.tuning import ranges as ranges_of
from runs.tuning.report import as_toml

DEFAULTS = "defaults"       # the trial that changes nothing


class OfSearch:
    """Trials that are runs like any others.

    Attributes
    ----------
    home : folder of the study; options : of `hrmas tune`
    ranges : what is tried; settings : what is to be beaten; epochs : of a run
    record : what the study is of
    """

    def __init__(self, home, options):
        self.home, self.options, self._profile = home, options, options.profile
        self.ranges = ranges_of.read(options.ranges)
        self._build()
        if self._profile is None and any(cache.meta.provenance != "real" for cache in self._caches.values()):
            self._profile = "demo"      # as `hrmas search` does for the stand-in
            self._build()

    def _build(self):
        runs = self.runs(DEFAULTS, ())
        self.settings = runs[0].settings
        built = experiment.build_caches(runs, self.options, sys.stdout)
        self._caches = {one.partition: built[one.settings.data] for one in runs}

    def runs(self, name, overrides):
        """Return the runs of a trial; InputError if its settings do not go together."""
        found = []
        for partition in self.options.partitions:
            words, settings = self._settings(partition, overrides)
            found += [Planned("tune", name, partition, seed, self.options.dataset, words, settings,
                              self.home / f"{name}-{partition}-s{seed}") for seed in self.options.seeds]
        return found

    def check(self, overrides):
        """Raise InputError if the settings of a trial do not go together."""
        self._settings(self.options.partitions[0], overrides)

    def _settings(self, partition, overrides):
        words = (*self.options.set, *overrides, f"data.partition={partition}")
        return words, configured(self.options.dataset, self.options.preset, self._profile, words)

    def task(self, planned, threads):
        """Return a run as a cluster takes it."""
        return experiment.task(planned, self._caches[planned.partition], self.options, threads)

    def work_done(self, planned):
        """Return how much of a run's work is done."""
        return experiment.done(planned, self._caches[planned.partition])

    @property
    def epochs(self):
        """Of a run."""
        return epochs(self.settings)

    @property
    def record(self):
        """What the study is of."""
        settings = self.settings
        return {"settings": settings.fingerprint(), "preset": settings.preset, "profile": settings.profile}

    def found(self, overrides):
        """Return the settings of a trial as the text of a TOML file, and the command that takes them."""
        settings = self.settings
        found = configured(self.options.dataset, settings.preset, settings.profile, [*self.options.set, *overrides])
        tuned = {word.partition("=")[0] for text in overrides for word in text.split()}
        best = self.home / "best.toml"
        return as_toml(found, self.options.dataset, tuned), _command("search", best, self.options)


class OfMethod:
    """Trials of the settings of a method that HRMAS is compared with; attributes as of :class:`OfSearch`."""

    epochs = 1

    def __init__(self, home, options):
        self.home, self.options, self._method = home, options, options.methods
        self._python = sys.executable
        if self._method in METHODS_WITH_TORCH:
            self._python = options.peer_python or str(compare.PYTHON)
            compare.check_python(self._python, self._method)
        self._caches, self._data = compare.caches_of(options, options.partitions)
        self.settings = jobs.chosen(self._method, self._data.dataset)[1]
        self.ranges = ranges_of.of_method(options.ranges, self._method, self.settings)
        self.record = {"method": self._method, "settings": jobs.named(self.settings)}

    def runs(self, name, overrides):
        """Return the jobs of a trial."""
        each = jobs.planned([self._method], self._caches, self.options.seeds, self._data, self.home.absolute(),
                            environment.commit()[0])
        return [tasks.MethodJob(job | {"settings": self._changed(overrides), "name": (own := f"{name}-{job['name']}"),
                                 "folder": str(self.home.absolute() / own)}, job["partition"]) for job in each]

    def check(self, overrides):
        """Nothing: all settings go together."""

    def _changed(self, overrides):
        return self.settings | records.parsed_toml("\n".join(overrides), "a trial")

    def task(self, planned, threads):
        """Return a job as a cluster takes it."""
        return tasks.task(planned.name, planned, self._python, threads)

    def work_done(self, planned):
        """Return how much of a job's work is done: all or nothing."""
        return float(planned.finished)

    def found(self, overrides):
        """Return the settings of a trial as the text of a TOML file, and the command that takes them."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in self._changed(overrides).items()]
        options, last = self.options, ["--settings", str(self.home / "best.toml")]
        if options.peer_python:
            last += ["--peer-python", options.peer_python]
        given = {"methods": self._method, "name": f"compare-{self.home.name}", "set": " ".join(options.set)}
        content = "\n".join([f"\n[{self._method}]", *lines, ""])
        return content, _command("compare", options.dataset, options, given, last)


def _command(name, dataset, options, given=None, last=()):
    """A command for what was found, as a hint names it, with the recordings that the study had.

    ``given``: {option: its value}; ``last``: words that make takes as ARGS.
    """
    texts = {"raw": str(options.raw or ""), **(given or {})}
    words = {key: shlex.quote(text) for key, text in texts.items() if text} | ({"strict": ""} if options.strict else {})
    dataset, last = shlex.quote(str(dataset)), shlex.join(last)
    ours = [name, dataset, *(f"--{key} {text}".strip() for key, text in words.items()), last]
    target = [name, f"DATA={dataset}", *(f"{key.upper()}={text or 1}" for key, text in words.items()),
              f"ARGS={shlex.quote(last)}" if last else ""]
    return environment.command(" ".join(filter(None, ours)), " ".join(filter(None, target)))


def remember(plan):
    """Write what a study is of.

    Raises
    ------
    InputError
        The folder holds another study; the message says in what they differ.
    """
    options = plan.options
    own = {"schema": 1, "dataset": options.dataset, **plan.record, "set": list(options.set),
           "partitions": list(options.partitions), "seeds": list(options.seeds),
           "ranges": [repr(one) for one in plan.ranges.ranges]}
    path = plan.home / "tune.json"
    if not path.exists():
        write_json(path, own)
        return
    before = records.read_json(path, {"schema": {1}})
    differs = [f"{key}: {before.get(key)!r} != {value!r}" for key, value in own.items() if before.get(key) != value]
    if differs:
        raise InputError(f"{path}: holds another study: {'; '.join(differs)}. Give another {option('name')}")
