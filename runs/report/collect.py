"""Read an experiment's folder: which runs have finished, what they say about themselves."""

import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hrmas_sparse import places
from data_prep import READERS
from hrmas_sparse.engine import architecture
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.settings.load import differences, load
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.settings.schema import Config
from runs import equal_time
from runs.comparison import jobs
from runs.plan import RECORD, read_record


@dataclass(frozen=True)
class Finished:
    """One finished run."""

    row: str
    neurons: tuple
    partition: str
    seed: int
    run: RunDir
    settings: Config
    manifest: dict = field(repr=False)
    result: dict = field(repr=False)

    @property
    def pair(self):
        """What must be equal for two runs to be compared."""
        return self.seed, self.partition

    @property
    def accuracy(self):
        """On the test part, 0..1."""
        return self.result["test"]["accuracy"]

    @cached_property
    def metrics(self):
        """Lines of metrics."""
        return self.run.metrics()

    @cached_property
    def architecture(self):
        """What was found, a list over layers; empty without motifs."""
        return architecture.load_fitting(self.run.architecture_path, self.settings.network) or []

    @property
    def test_over_train(self):
        """Size of the test part in units of the training part."""
        return self.result["test"]["samples"] / self.result["train"]["samples"]

    @cached_property
    def diagnosis(self):
        """What making the searched network discrete cost; None where it was not looked at."""
        return self.run.diagnosis()

    @property
    def motif_sizes(self):
        """The motif size of each layer, as text."""
        return ", ".join(str(layer.motif_size) for layer in self.architecture)

    @cached_property
    def searched(self):
        """Arrays that the search ended with, "alpha/..." and "intrinsic/..."; None where none are kept."""
        return arrayfile.load(self.run.search_path, "search")[0] if os.path.lexists(self.run.search_path) else None

    @property
    def test_in_words(self):
        """"91.35 % on the test part" """
        return f"{100 * self.accuracy:.2f} % on the test part"

    def seconds(self, *phases):
        """Wall clock spent in phases."""
        return sum(self.result["seconds"].get(phase, 0.0) for phase in phases)

    @cached_property
    def search_epochs(self):
        """How long both stages of the search were; they may have ended early."""
        return sum(line["phase"].startswith("search") for line in self.metrics)

    @property
    def candidates(self):
        """How many architectures were tried before one was retrained; 1 where there was nothing to choose."""
        return self.settings.search.candidates if self.settings.choosing_epochs else 1

    @property
    def choosing_hours(self):
        """Processor time in which the architecture was chosen; None of a version that did not measure it."""
        seconds = equal_time.choosing_seconds(self.result)
        return None if seconds is None else seconds / 3600

    @property
    def processor_hours(self):
        """Processor time of all training; None of a version that did not measure it."""
        measured = self.result.get("processor_seconds")
        return None if measured is None else sum(measured.values()) / 3600

    def iterations(self):
        """Batches of the search and of retraining; the search goes through half of the training part in an epoch."""
        training, samples = self.settings.training, self.result["train"]["samples"]
        half = math.ceil(math.ceil(samples / 2) / training.batch)
        return (self.search_epochs * half,
                training.retrain_epochs * math.ceil(samples / training.batch))


@dataclass(frozen=True)
class Peer:
    """One finished result of a method of `hrmas compare`; attributes as of :class:`Finished`."""

    row: str
    partition: str
    seed: int
    result: dict = field(repr=False)

    pair, accuracy, test_over_train = Finished.pair, Finished.accuracy, Finished.test_over_train

    @property
    def processor_hours(self):
        """Processor time of training and scoring; None of a version that did not measure it."""
        seconds = self.result.get("processor_seconds")
        return None if seconds is None else seconds / 3600


@dataclass(frozen=True)
class Study:
    """An experiment and its finished runs.

    groups : dict (row, neurons) -> list of :class:`Finished`, in the order of the rows, then of the sizes
    peers : dict row -> list of :class:`Peer`, of rows that are methods of `hrmas compare`
    missing : names of runs that have not finished
    """

    folder: Path
    record: dict
    groups: dict
    peers: dict
    missing: list

    @property
    def runs(self):
        """All finished runs."""
        return [run for group in self.groups.values() for run in group]

    @property
    def sizes(self):
        """Layer sizes that occur."""
        return sorted({neurons for _, neurons in self.groups})

    def like(self, row):
        """Return the row whose search a row's candidates take as much processor time as; empty for others."""
        return self.record["rows"][row].get("candidates_like", "")

    def title(self, row):
        """Return the title of a row."""
        return self.record["rows"][row]["title"]

    def baseline(self, neurons):
        """Runs of the row that others are compared with, at a layer size."""
        return self.groups.get((self.record["baseline"], neurons), [])

    @cached_property
    def shown(self):
        """Runs the figures of single networks are drawn from: the baseline's at the first size that has any."""
        return next((self.baseline(size) for size in self.sizes if self.baseline(size)), [])

    def without_plasticity(self):
        """Runs that differ from the shown ones in plasticity.mode alone, which is off; empty if there are none."""
        if not self.shown:
            return []
        base = self.shown[0]
        for group in self.groups.values():
            keys = {line.partition(":")[0] for line in differences(base.settings, group[0].settings)}
            if keys - {"data.partition"} == {"plasticity.mode"} and group[0].settings.plasticity.mode == "off":
                return group
        return []


def read(name):
    """The :class:`Study` of an experiment's folder, by its name in runs/out or its path.

    Raises
    ------
    InputError
        There is no such experiment, a file is damaged, or no run has finished.
    """
    folder = next((path for path in (Path(name), places.out() / name) if (path / RECORD).is_file()), None)
    if folder is None:
        there = ", ".join(sorted(path.parent.name for path in places.out().glob(f"*/{RECORD}"))) or "none yet"
        raise InputError(f"{name}: no experiment of that name in {places.out()}; experiments: {there}")
    record = read_record(folder)
    groups, peers, missing = {}, {}, []
    for key, entry in sorted(record["runs"].items(), key=lambda item: _order(record, item[1])):
        if entry["row"] not in record["rows"]:
            raise Damaged(f"{folder / RECORD}: runs: {key}: not one of its rows")
        run = RunDir(folder / key)
        if not run.finished:
            missing.append(key)
            continue
        if record["rows"][entry["row"]].get("method"):
            peers.setdefault(entry["row"], []).append(
                Peer(entry["row"], entry["partition"], entry["seed"], jobs.read(run.result_path)))
            continue
        if run.result()["test"] is None:
            raise InputError(f"{run.path}: has no test part; an experiment compares tests")
        finished = Finished(entry["row"], tuple(entry["neurons"]), entry["partition"], entry["seed"], run, run.config(),
                         run.manifest(), run.result())
        groups.setdefault((finished.row, finished.neurons), []).append(finished)
    if not groups and not peers:
        raise InputError(f"{folder}: no run has finished yet; the command that began it goes on")
    return Study(folder, record, groups, peers, missing)


def _order(record, run):
    return list(record["rows"]).index(run["row"]) if run["row"] in record["rows"] else -1, run["neurons"], \
        run["partition"], run["seed"]


# ---- in words --------------------------------------------------------------------------------------------------


def provenance(runs):
    """Where the data of some runs come from: real, a part of the real recordings, or synthetic."""
    kinds = {run.manifest["data"]["provenance"] for run in runs}
    if kinds != {"real"}:
        return "synthetic stand-in: not the real recordings"
    result, data = runs[0].result, runs[0].settings.data
    train, test = result["train"]["samples"], result["test"]["samples"]
    whole = getattr(READERS.get(data.dataset), "WHOLE", None)
    if whole is None:
        return "real recordings"
    whole = whole[0] if data.partition.startswith("valid") else sum(whole)
    if train + test < 0.9 * whole:
        return f"a part of the real recordings: {train + test:,} of about {whole:,}"
    return "real recordings"


def data_in_words(runs):
    """Data set, provenance, number of samples."""
    run = runs[0]
    return (f"{run.settings.data.dataset} ({provenance(runs)}), {run.result['train']['samples']:,} training and "
            f"{run.result['test']['samples']:,} test samples")


def numbers_in_words(numbers):
    """[0, 1, 2, 5] -> "0-2, 5" """
    parts = []
    for n in sorted(set(numbers)):
        if parts and parts[-1][1] == n - 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}\N{EN DASH}{b}" for a, b in parts)


def which_in_words(runs):
    """Seeds, and partitions where they are not the official one."""
    seeds = numbers_in_words(run.seed for run in runs)
    partitions = list(dict.fromkeys(run.partition for run in runs))
    more = "" if partitions == ["official"] else f", partitions {', '.join(partitions)}"
    return f"seed{'s' if len({run.seed for run in runs}) > 1 else ''} {seeds}{more}"


def changes(settings, base=None):
    """Settings that differ from ``base``, by default from what preset and profile say alone; a list of text."""
    if base is None:
        try:
            base = load(settings.data.dataset, settings.preset, settings.profile)
        except InputError:
            return []
    lines = differences(base, settings)
    return [line.replace(": ", "=", 1).partition("=")[0] + "=" + line.rpartition(" != ")[2].replace("'", "").replace(
                "True", "true").replace("False", "false")
            for line in lines if not line.startswith("data.partition")]


def settings_differ(settings, other, own=()):
    """Whether two runs differ in more than their partition, and the settings ``own`` of each run."""
    return any(not line.startswith(("data.partition:", *own)) for line in differences(settings, other))


def settings_in_words(settings):
    """Preset, profile, and what was changed."""
    changed = changes(settings)
    return f"preset {settings.preset}, profile {settings.profile}" + (f", {', '.join(changed)}" if changed else "")


def commits(runs):
    """Commits of the program that the runs were made with, as text."""
    names = []
    for run in runs:
        for git in [run.manifest.get("git"), *(again.get("git") for again in run.manifest.get("resumed") or [])]:
            known = isinstance(git, dict) and isinstance(git.get("commit"), str)
            names.append(git["commit"][:7] + (" with changes" if git.get("changed") else "") if known else "unknown")
    names = list(dict.fromkeys(names))
    return f"commit{'s' if len(names) > 1 else ''} {', '.join(names)}"
