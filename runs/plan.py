"""Experiments: which runs one consists of, and how long each takes.

What an experiment is stands in runs/experiments/<name>.toml:

    title, paper    what it is; which table or figure of the paper it repeats
    data            data sets it is run on by default
    seeds           as --seeds
    baseline        the row that the others are compared with
    neurons         optional list: every row at each of these layer sizes
    partitions      optional list of values of data.partition; default ["official"]
    other_seeds     optional, seeds of partitions other than "official"; default those above
    [rows.<row>]    title; set = "section.key=value ...", {neurons} standing for network.neurons; partitions;
                    candidates_like = "<row>": as many candidates as fit into that row's search, see equal_time.py
                    method = "gru": instead of our networks a method of `hrmas compare`

Every combination of row, size, partition and seed is a run.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.load import configured
from hrmas_sparse import places
from hrmas_sparse.environment import option
from hrmas_sparse.settings import validators
from hrmas_sparse.settings.load import differences, with_overrides
from hrmas_sparse.storage.atomic import write_json
from hrmas_sparse.storage import records
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.state import PHASES
from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.settings.schema import Config
from runs import equal_time
from runs.comparison.worker import METHODS

FOLDER = Path(__file__).parent / "experiments"
RECORD = "experiment.json"
METHOD_SHARE = 0.05         # of the work of one of our runs that a method takes, roughly
_ROW = {"title": str, "set": str, "candidates_like?": str, "method?": str}
_RUN = {"row": str, "neurons": [int], "partition": str, "seed": int}
FORM = {"schema": {1}, "experiment": str, "title": str, "paper": str, "baseline": str, "rows": {str: _ROW},
        "runs": {str: _RUN}}


# ---- what an experiment is -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of a table: a title, the settings it changes, partitions of its own or None, see the top."""

    title: str
    set: str = ""
    partitions: tuple | None = None
    candidates_like: str = ""
    method: str = ""


@dataclass(frozen=True)
class Experiment:
    """What a TOML file says; see the top of this module."""

    name: str
    title: str
    paper: str
    data: tuple
    seeds: tuple
    baseline: str
    rows: dict
    neurons: tuple = ()
    partitions: tuple = ("official",)
    other_seeds: tuple = ()

    def seeds_of(self, partition):
        """Return the seeds that a partition is run with."""
        return self.seeds if partition == "official" else self.other_seeds or self.seeds


def known():
    """Names of the experiments in runs/experiments."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name):
    """The :class:`Experiment` of a name or a TOML file.

    Raises
    ------
    InputError
        There is none, or the file says something it must not; the key is named.
    """
    path = FOLDER / f"{name}.toml" if name in known() else Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise InputError(f"experiment: expected one of {', '.join(known())} or the path of a TOML file, found {name!r}")
    table = records.read_toml(path)
    form = {"title": str, "paper": str, "data": [str], "seeds": str, "baseline": str, "neurons": [int],
            "partitions": [str], "other_seeds": str, "rows": {str: {}}}
    _check(path, table, form, required={"title", "data", "seeds", "baseline", "rows"})
    rows = {}
    for key, row in table.pop("rows").items():
        form = {"title": str, "set": str, "partitions": [str], "candidates_like": str, "method": str}
        _check(f"{path}: rows.{key}", row, form, required={"title"})
        if not key.replace("-", "").isalnum():
            raise InputError(f"{path}: rows.{key}: a row's name has letters, digits and dashes only")
        rows[key] = Row(row["title"], row.get("set", ""), tuple(row["partitions"]) if "partitions" in row else None,
                        row.get("candidates_like", ""), row.get("method", ""))
    for key, row in rows.items():
        if row.method and (row.method not in METHODS or row.set or row.candidates_like):
            raise InputError(f"{path}: rows.{key}: method: expected one of {', '.join(METHODS)}, and settings of our "
                             f"networks in other rows alone, found {row.method!r}")
        like = rows.get(row.candidates_like)
        if row.candidates_like and (not like or like.candidates_like or like.method):
            raise InputError(f"{path}: rows.{key}: candidates_like: expected another row, one that has a search, found "
                             f"{row.candidates_like!r}")
    ours = [key for key, row in rows.items() if not row.method]
    if table["baseline"] not in ours:
        raise InputError(f"{path}: baseline: expected a row of our networks, one of {', '.join(ours)}, found "
                         f"{table['baseline']!r}")
    seeds = {}
    for key in [key for key in ("seeds", "other_seeds") if key in table]:
        try:
            seeds[key] = tuple(validators.seeds(table.pop(key)))
        except ValueError as error:
            raise InputError(f"{path}: {key}: expected {error}") from None
    lists = {key: tuple(table.pop(key)) for key in ("data", "neurons", "partitions") if key in table}
    return Experiment(name=path.stem, rows=rows, **{"paper": ""} | seeds | table | lists)


def _check(where, table, form, required):
    for key, value in table.items():
        if key not in form:
            raise InputError(f"{where}: unknown key {key}; expected one of {', '.join(form)}")
        if not records.fits(value, form[key]) or value in ([], {}):
            raise InputError(f"{where}: {key}: found {value!r}, which is not what belongs there")
    missing = sorted(required - table.keys())
    if missing:
        raise InputError(f"{where}: missing {', '.join(missing)}")


# ---- what it comes to ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """One run of an experiment: which, where, with which words on the command line.

    waits : a run that has to end before ``overrides`` and ``settings`` are known; None if they are
    fits : which of ``overrides`` says how many candidates there are, see equal_time.py
    method : of `hrmas compare`; of the settings only the data's count. Empty for our networks
    """

    experiment: str
    row: str
    partition: str
    seed: int
    dataset: str
    overrides: Sequence
    settings: Config
    folder: Path
    waits: RunDir | None = None
    fits: str = ""
    method: str = ""

    @property
    def neurons(self):
        """Of its hidden layers; none of a method that is not ours."""
        return () if self.method else self.settings.network.neurons

    @property
    def run(self):
        """Its :class:`hrmas_sparse.run.folder.RunDir`."""
        return RunDir(self.folder)


def plan(experiment, dataset, options, profile):
    """All runs of an experiment on a data set, in the order of the rows.

    Parameters
    ----------
    experiment : :class:`Experiment`
    dataset : name or TOML file
    options : the command line, see :func:`arguments`
    profile : "paper", "demo" or None, the data set's own

    Returns
    -------
    list of :class:`Planned`
    """
    found, parent = [], places.out() / folder_name(experiment, dataset, options)
    own = configured(dataset, options.preset, profile, options.set)
    for key in options.rows or experiment.rows:
        row = experiment.rows[key]
        for size in (None,) if row.method else options.neurons or experiment.neurons or (None,):
            base = [*options.set, *([f"network.neurons={size}"] if size else [])]
            neurons = configured(dataset, options.preset, profile, base).network.neurons
            if "{neurons}" in row.set and len(set(neurons)) > 1:
                raise InputError(f"row {key}: {{neurons}} needs hidden layers of one size, found {list(neurons)}")
            sized = [*base, row.set.replace("{neurons}", str(neurons[0]))]
            for partition in options.partitions or row.partitions or experiment.partitions:
                extra = [] if partition == own.data.partition else [f"data.partition={partition}"]
                settings = configured(dataset, options.preset, profile, [*sized, *extra])
                label = "".join([f"-{size}" if size else "", f"-{partition}" if extra else ""])
                for seed in options.seeds or experiment.seeds_of(partition):
                    name = f"{row.method}-{partition}" if row.method else f"{key}{label}"     # as compare names it
                    one = Planned(experiment.name, key, partition, seed, dataset, (*sized, *extra), settings,
                                  parent / f"{name}-s{seed}", method=row.method)
                    if row.candidates_like:
                        one = at_equal_time(one, RunDir(parent / f"{row.candidates_like}{label}-s{seed}"))
                    found.append(one)
    return found


def at_equal_time(planned, reference):
    """Return a run with the candidates that fit into another one's search, instead of those it has, if any."""
    words = [text for text in planned.overrides if text != planned.fits]
    settings = configured(planned.dataset, planned.settings.preset, planned.settings.profile, words)
    fits = equal_time.fitting(settings, planned.run, reference)
    return replace(planned, overrides=(*words, fits.words), waits=fits.waits, fits=fits.words,
                   settings=with_overrides(settings, fits.words))


def refuse_without_search(experiment, dataset, options, profile):
    """Before anything is started: a row that is to take as much time as another's search needs one that searches.

    Raises
    ------
    InputError
        The other row's settings have no search.
    """
    for key in options.rows or experiment.rows:
        like = experiment.rows[key].candidates_like
        others = argparse.Namespace(**vars(options) | {"rows": [like]})
        if like and not all(searches(one.settings) for one in plan(experiment, dataset, others, profile)):
            raise InputError(f"row {key}: has as many candidates as fit into the search of row {like}, which has none "
                             f"(search.method, network.recurrence); {option('rows')}: leave it out")


def folder_name(experiment, dataset, options):
    """Return the name of the folder in runs/out that holds an experiment's runs on a data set."""
    name = Path(dataset).stem
    if options.name is None:
        return f"{experiment.name}-{name}"
    return options.name if len(options.data or experiment.data) == 1 else f"{options.name}-{name}"


def refuse_other_settings(experiment, dataset, options, runs):
    """Before anything is started: what is in the folder must be what the same command would make now.

    That goes for recorded runs this command does not ask for, too: they end up in the same report.

    Raises
    ------
    InputError
        A run was begun with other settings; they are named.
    """
    wanted = {planned.folder: planned.settings for planned in runs if not planned.method}
    for folder, settings in (_recorded(experiment, dataset, options, runs[0]) | wanted).items():
        run = RunDir(folder)
        if run.manifest_path.exists():
            differs = [line for line in differences(run.config(), settings)
                       if folder in wanted or not line.startswith("data.partition:")]
            if differs:
                raise InputError(f"{folder}: was run with other settings: {'; '.join(differs)}. Give another "
                                 f"{option('name')}, or the settings it was begun with")


def _recorded(experiment, dataset, options, one):
    """Folders of the recorded runs -> settings they would have now, their partitions apart.

    Those that the experiment no longer has are left out.
    """
    parent = one.folder.parent
    if not (parent / RECORD).exists():
        return {}
    runs = {key: run for key, run in read_record(parent)["runs"].items()
            if run["row"] in experiment.rows and not experiment.rows[run["row"]].method}
    if not runs:
        return {}
    every = argparse.Namespace(**vars(options) | {"rows": list({run["row"]: None for run in runs.values()}),
                                                  "neurons": None, "seeds": [one.seed]})
    now = {(planned.row, planned.settings.network.neurons): planned.settings
           for planned in plan(experiment, dataset, every, one.settings.profile)}
    found = {parent / key: now.get((run["row"], tuple(run["neurons"]))) for key, run in runs.items()}
    return {folder: _own_candidates(experiment.rows[runs[folder.name]["row"]], RunDir(folder), settings)
            for folder, settings in found.items() if settings}


def _own_candidates(row, run, settings):
    """The settings with as many candidates as a run of the row has, if that was measured for each of its runs."""
    if not row.candidates_like or not run.manifest_path.exists():
        return settings
    return with_overrides(settings, equal_time.fitting(settings, run, run).words)


def read_record(folder):
    """What an experiment's folder holds; its runs are folders in it and nowhere else."""
    found = records.read_json(folder / RECORD, FORM)
    for key in found["runs"]:
        if not validators.plain(key):
            raise Damaged(f"{folder / RECORD}: runs: {key}: not the name of a folder in it")
    return found


def record(experiment, runs):
    """Write what the folder holds, for the report; runs recorded there before stay."""
    path = runs[0].folder.parent / RECORD
    before = read_record(path.parent) if path.exists() else {"experiment": experiment.name, "rows": {}, "runs": {}}
    if before["experiment"] != experiment.name:
        raise InputError(f"{path.parent}: holds the experiment {before['experiment']}; give another {option('name')}")
    write_json(path, {
        "schema": 1, "experiment": experiment.name, "title": experiment.title, "paper": experiment.paper,
        "baseline": experiment.baseline,
        "rows": before["rows"] | {key: _row_record(row) for key, row in experiment.rows.items()},
        "runs": before["runs"] | {planned.folder.name: {
            "row": planned.row, "neurons": list(planned.neurons), "partition": planned.partition,
            "seed": planned.seed} for planned in runs}})


def _row_record(row):
    more = {"candidates_like": row.candidates_like, "method": row.method}
    return {"title": row.title, "set": row.set} | {key: value for key, value in more.items() if value}


# ---- how long it takes -----------------------------------------------------------------------------------------


def epoch_work(settings):
    """Roughly how much an epoch of search and one of retraining cost, in arbitrary units.

    Passes over half of the training set for the search: four with gradients for w' and alpha in second order, one in
    first, one for the step of w and half a one for plasticity. A neuron's work is the same everywhere but for its
    recurrent connections.
    """
    net, search = settings.network, settings.search
    wide = {"motif": sum(v + 2 * net.inter for v in net.motif_sizes), "none": 0}.get(net.recurrence, max(net.neurons))
    final = {"motif": max(net.motif_sizes)}.get(net.recurrence, wide)
    passes = (4 if search.alpha_order == "second" else 1) + 1 + 0.5 * (settings.plasticity.mode == "window")
    neurons = sum(net.neurons)
    return passes / 2 * neurons * (40 + 0.1 * wide), neurons * (40 + 0.1 * final)


def searches(settings):
    """Whether a run has a search before its retraining."""
    return sum(settings.stages) > 0


def epochs(settings):
    """Return how many epochs a whole run has."""
    return sum(settings.stages) + settings.choosing_epochs + settings.training.retrain_epochs


def work(settings, samples=1.0):
    """Return roughly how much a whole run costs, in the unit of :func:`epoch_work`."""
    search, retrain = epoch_work(settings)
    # Candidates are trained on half of the samples.
    discrete = settings.training.retrain_epochs + settings.choosing_epochs / 2
    return samples * (search * sum(settings.stages) + retrain * discrete)


def work_of(planned, samples=1.0):
    """Return :func:`work` of a run of an experiment; that of a method is small beside a search."""
    return work(planned.settings, samples) * (METHOD_SHARE if planned.method else 1.0)


def work_done(planned, samples=1.0):
    """Return how much of :func:`work_of` a run has done, by the lines of its metrics."""
    if planned.run.finished or planned.method:
        return work_of(planned, samples) * planned.run.finished
    try:
        text = planned.run.metrics_text()
    except InputError:
        return 0.0
    search, retrain = epoch_work(planned.settings)
    one, two, chosen, retrained = (text.count(b'"phase": "%s"' % phase.encode()) for phase in PHASES)
    first, second = planned.settings.stages     # one that ended early is done, too
    searched = (first if two + chosen + retrained else one) + (second if chosen + retrained else two)
    return samples * (search * searched + retrain * (retrained + chosen / 2))
