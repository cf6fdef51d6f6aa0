"""How far the runs of an experiment or a study are, read from their folders: whoever makes them, wherever."""

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from hrmas_sparse import places
from hrmas_sparse.run.folder import RunDir, total_epochs
from hrmas_sparse.run.warnings import kind
from hrmas_sparse.storage import locks, records
from hrmas_sparse.storage.errors import InputError, printable
from runs import plan
from runs.worker import GIVEN_UP, JOB

DASHBOARD = "dashboard.json"        # in an experiment's folder: where Dask's own page is
AWAY = "away"                       # there, too: locked by whoever has sent its runs to machines without that folder
STATES = ("running", "away", "waiting", "stopped", "finished", "given up", "damaged")


@dataclass
class Row:
    """One run.

    Attributes
    ----------
    name : str; state : one of ``STATES``
    epoch, epochs : those that are over, and those of the whole run
    accuracy : of the last epoch on training batches, None before the first
    test : accuracy of a finished run on its test part, or None
    left : seconds, None where nobody can tell
    machine : that works on it, empty if none does
    warnings : different ones, in order
    lines : of metrics
    """

    name: str
    state: str = "waiting"
    epoch: int = 0
    epochs: int = 0
    accuracy: float | None = None
    test: float | None = None
    left: float | None = None
    machine: str = ""
    warnings: list[str] = field(default_factory=list)
    lines: list[dict] = field(default_factory=list)


def home_of(name: str) -> Path:
    """Return the folder of an experiment or a study by its name in runs/out, or by its path.

    Raises
    ------
    InputError
        There is none.
    """
    for folder in (places.out() / name, Path(name)):
        if any((folder / file).is_file() for file in (plan.RECORD, "tune.json")):
            return folder
    known = sorted(path.parent.name for file in (plan.RECORD, "tune.json") for path in places.out().glob(f"*/{file}"))
    raise InputError(f"{name}: no experiment or study of that name in {places.out()}; there are: "
                     f"{', '.join(known) or 'none yet'}")


def rows(home: Path) -> list[Row]:
    """Return the runs of an experiment's or a study's folder, those that have not begun too."""
    names = {path.parent.name for file in ("manifest.json", JOB) for path in home.glob(f"*/{file}")}
    if (home / plan.RECORD).exists():
        names |= set(plan.read_record(home)["runs"])
    away = locks.held(home / AWAY)
    return [row(RunDir(home / name), away) for name in sorted(names)]


def row(run: RunDir, away: bool = False) -> Row:
    """Return how far a run is; one that nobody works on here may be ``away``, and this is as far as it was."""
    found = Row(run.path.name)
    try:
        if run.manifest_path.exists():
            _look(run, found, away)
        elif (run.path / JOB).exists() or run.finished:
            _look_at_job(run, found)
    except InputError as error:
        found.state, found.warnings = "damaged", [str(error)]
    return found


def _look(run, found, away):
    settings, found.lines, result = run.config(), run.metrics(), run.result()
    found.epoch = len(found.lines)
    found.epochs = total_epochs(settings, [line["phase"] for line in found.lines])
    if found.lines:
        found.accuracy = found.lines[-1]["accuracy"]
    told = {kind(text): text for line in found.lines for text in line.get("warnings", ())}
    found.warnings = list(told.values())
    if result is not None:
        found.state, found.test = "finished", result["test"] and result["test"]["accuracy"]
        return
    running = locks.held(run.lock_path)
    given_up = (run.path / GIVEN_UP).exists()
    found.state = "running" if running else "given up" if given_up else "away" if away else "stopped"
    who = re.match(r"process \d+ on (.*), since ", locks.owner(run.lock_path)) if running else None
    found.machine = printable(who[1]) if who else ""
    took = {line["phase"]: line["seconds"] for line in found.lines}
    done = plan.work_done(SimpleNamespace(run=run, settings=settings, method=""))
    if found.state in ("running", "away") and done:
        found.left = sum(took.values()) * (plan.work(settings) / done - 1)


def _look_at_job(run, found):
    """How far a method of `hrmas compare` is, of which there is nothing before its result."""
    if run.finished:
        found.state = "finished"
        found.test = records.read_json(run.result_path, {"test": {"accuracy": float}})["test"]["accuracy"]
    elif locks.held(run.lock_path):
        found.state = "running"
    elif (run.path / GIVEN_UP).exists():
        found.state = "given up"


def counted(found: list[Row]) -> str:
    """Return how many runs are in which state: "12 runs: 3 finished, 2 running, 7 waiting"."""
    counts = {state: sum(one.state == state for one in found) for state in STATES}
    total = "1 run" if len(found) == 1 else f"{len(found)} runs"
    return f"{total}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def cells(one: Row) -> list[str]:
    """Return a run as words: name, state, epoch, accuracy, time left, machine."""
    accuracy = f"test {100 * one.test:.2f} %" if one.test is not None else \
        f"training {100 * one.accuracy:.1f} %" if one.accuracy is not None else ""
    left = "" if one.left is None else str(datetime.timedelta(seconds=round(one.left)))
    return [one.name, one.state, f"{one.epoch} of {one.epochs}" if one.epochs else "", accuracy, left, one.machine]


HEADER = ["run", "state", "epoch", "accuracy", "time left", "machine"]


def run(options) -> int:
    """Do what `hrmas status` asks for; returns the exit status."""
    home = home_of(options.name)
    found = rows(home)
    table = [HEADER, *map(cells, found)]
    widths = [max(len(line[n]) for line in table) for n in range(len(HEADER))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    for one in found:
        for warning in one.warnings:
            print(f"warning: {one.name}: {warning}")
    print(f"{home}: {counted(found)}")
    return 0
