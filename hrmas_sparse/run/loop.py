"""The training loop: epochs of batches, metrics, checkpoints, stopping; one for search and retraining.

A :class:`Phase` says what is learnt from which batches; :func:`run_phase` does the rest. Batches are
drawn by (seed, phase, epoch) alone, so a run goes on from a checkpoint exactly where it was, in the
middle of an epoch too.
"""

import contextlib
import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Callable, NamedTuple

import numpy as np
from tqdm import tqdm

from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.storage import arrayfile as checkpoint
from hrmas_sparse.storage.errors import Damaged, Diverged, InputError
from hrmas_sparse.storage.atomic import append_line
from hrmas_sparse.storage.records import fits
from hrmas_sparse.run.warnings import complaints, kind
from hrmas_sparse.storage.memory import EVALUATION_BATCH

CHECKPOINT_SECONDS = 60.0   # between two checkpoints, at most
CHECKPOINT_SHARE = 0.01     # of the time, at most, goes into them
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(Exception):
    """A signal asked the run to stop; it has been checkpointed."""

    def __init__(self, signum):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextlib.contextmanager
def stop_requests():
    """Turn the first SIGINT, SIGTERM or SIGHUP into a note to stop after the batch; the next one kills.

    Yields a list that holds the signal's number once one came. A signal that is ignored (nohup) stays ignored.
    """
    asked = []

    def note(signum, frame):
        asked.append(signum)
        for s in before:
            signal.signal(s, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # not print: it must not interrupt itself
            os.write(2, b"\nstopping after this batch; once more to stop at once\n")

    before = {s: signal.getsignal(s) for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}
    try:
        for s in before:
            signal.signal(s, note)
        yield asked
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@dataclass
class Position:
    """How far a run is; with the learner, all a checkpoint holds.

    phase : name; epoch, batch : next to do; updates : batches done in this phase; sums : of this epoch;
    lines : of metrics written; sizes : motif size per hidden layer once stage 1 has chosen it;
    seconds : wall clock spent in each phase
    """

    phase: str
    epoch: int = 0
    batch: int = 0
    updates: int = 0
    sums: dict = field(default_factory=dict)
    lines: int = 0
    sizes: list | None = None
    seconds: dict = field(default_factory=dict)


class Place(NamedTuple):
    """Where a run among several shows how far it is."""

    line: int | None = None    # of the terminal, from the first run's
    name: str = ""             # goes before everything that is shown


ALONE = Place()


@dataclass
class Phase:
    """What is learnt, from what.

    name : str; epochs : int
    batches : function epoch -> list of batches, each whatever ``step`` takes
    step : function (batch, progress) -> dict of sums over samples: "samples", "loss", "correct", and
        others that are averaged over samples the same way, or end in "_max": the largest counts
    describe : function () -> dict of further numbers for the epoch's line of metrics
    ahead : function (batch) that is told of the batch ``step`` is about to take, then of the one after it
    warned : what the user has been told already
    place : :class:`Place`
    """

    name: str
    epochs: int
    batches: Callable
    step: Callable
    describe: Callable = dict
    ahead: Callable = lambda batch: None
    warned: set = field(default_factory=set)
    place: Place = ALONE

    @property
    def title(self):
        """What the user sees it called."""
        return self.place.name + self.name


class Metrics:
    """metrics.jsonl: one line of JSON an epoch."""

    def __init__(self, path):
        self.path = path

    def cut(self, lines):
        """Forget what was written after a checkpoint was."""
        kept = self.path.read_bytes().split(b"\n")[:-1][:lines] if self.path.exists() else []
        if len(kept) < lines:
            raise InputError(f"{self.path}: expected at least {lines} lines, found {len(kept)}; "
                             "--fresh (FRESH=1) sets the run aside and starts over")
        if self.path.exists():
            os.truncate(self.path, sum(len(line) + 1 for line in kept))

    def add(self, line):
        """Append one line; on the disk before the next checkpoint is."""
        append_line(self.path, json.dumps(line))


class Checkpoints:
    """Save a run now and then: after its first batch, then at rising intervals.

    A run that is killed loses a tenth of what its process did, or a minute if that is less, so that one that is
    killed again and again still gets on. What a slow disk takes is no more than ``CHECKPOINT_SHARE`` of the time,
    unless a single checkpoint takes longer than that share of ``CHECKPOINT_SECONDS``.

    Parameters
    ----------
    save : function () that writes a checkpoint
    """

    def __init__(self, save):
        self._save, self._took = save, 0.0
        self._began = self._saved = time.monotonic()

    def save(self):
        """Write a checkpoint now."""
        began = time.monotonic()
        self._save()
        self._saved = time.monotonic()
        self._took = self._saved - began

    def save_if_due(self):
        """Write a checkpoint if it is time for one."""
        now = time.monotonic()
        wait = max((now - self._began) / 10, self._took / CHECKPOINT_SHARE)
        if now - self._saved > min(CHECKPOINT_SECONDS, wait):
            self.save()


def _means(sums):
    """Sums over samples -> means; "correct" becomes "accuracy", what ends in "_max" is one."""
    samples = sums["samples"]
    return {key.replace("correct", "accuracy"): value if key.endswith("_max") else value / samples
            for key, value in sums.items() if key != "samples"}


def run_phase(phase, position, metrics, checkpoints, asked):
    """Run a phase from ``position`` to its end.

    Parameters
    ----------
    phase : :class:`Phase`
    position : :class:`Position`, moved along
    metrics : :class:`Metrics`
    checkpoints : :class:`Checkpoints` of learner and position
    asked : list that is non-empty once a stop is wanted, see :func:`stop_requests`

    Raises
    ------
    Stopped
        After a checkpoint.
    Diverged
        A loss was not finite; nothing was learnt from that batch, and the last checkpoint is kept.
    """
    started = time.monotonic()
    before = position.seconds.get(phase.name, 0.0)
    with _bar(phase, position) as bar:
        while position.epoch < phase.epochs:
            batches = phase.batches(position.epoch)
            while position.batch < len(batches):
                _one_batch(phase, position, batches)
                bar.update(position.epoch + position.batch / len(batches) - bar.n)
                position.seconds[phase.name] = before + time.monotonic() - started
                if asked:
                    checkpoints.save()
                    raise Stopped(asked[0])
                checkpoints.save_if_due()
            _end_epoch(phase, position, metrics, bar)
    checkpoints.save()


def _one_batch(phase, position, batches):
    progress = (position.epoch + position.batch / len(batches)) / phase.epochs
    for batch in batches[position.batch:position.batch + 2]:
        phase.ahead(batch)
    found = phase.step(batches[position.batch], progress)
    if not math.isfinite(found["loss"]):
        raise Diverged(f"{phase.name}, epoch {position.epoch + 1}, batch {position.batch + 1}: "
                       f"{found.get('blame') or 'the loss'} is not a finite number")
    for key, value in found.items():
        if key.endswith("_max"):
            position.sums[key] = max(position.sums.get(key, value), value)
        elif key != "blame":
            position.sums[key] = position.sums.get(key, 0) + value
    position.batch += 1
    position.updates += 1


def _end_epoch(phase, position, metrics, bar):
    means = _means(position.sums)
    seconds = round(position.seconds[phase.name], 3)
    warnings = complaints(means)
    metrics.add({"phase": phase.name, "epoch": position.epoch + 1, **means, **phase.describe(),
                 **({"warnings": warnings} if warnings else {}), "seconds": seconds})
    for warning in warnings:
        if kind(warning) not in phase.warned:
            phase.warned.add(kind(warning))
            bar.write(f"warning: {phase.title}, epoch {position.epoch + 1}: {warning}", file=sys.stderr)
    position.epoch, position.batch, position.sums = position.epoch + 1, 0, {}
    position.lines += 1
    shown = {key: f"{means[key]:.3g}" if "loss" in key else f"{100 * means[key]:.1f}%"
             for key in ("loss", "accuracy", "valid_accuracy") if key in means}
    bar.set_postfix(shown)
    if bar.disable and (position.epoch == phase.epochs or position.epoch % max(1, phase.epochs // 10) == 0):
        print(f"{phase.title}: epoch {position.epoch}/{phase.epochs}, "
              + ", ".join(f"{key} {value}" for key, value in shown.items()) + f", {seconds:.0f} s", file=sys.stderr)


def _bar(phase, position):
    """A bar in epochs with an ETA; on a terminal only."""
    style = "{desc} {percentage:3.0f}%|{bar}| epoch {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
    return tqdm(total=phase.epochs, initial=position.epoch, desc=phase.title, disable=None, bar_format=style,
                position=phase.place.line)


def evaluate(network, parameters, events, asked=(), samples=None):
    """Score a network on a split, or on some samples of it; ``asked`` as in :func:`run_phase`.

    Returns
    -------
    dict with "loss", "accuracy", "samples", "rates" (mean spikes per neuron and step of each layer) and
    "confusion", a (classes, classes) list of counts, [true][decided]
    """
    classes, loss, rates = network.output.size, 0.0, np.zeros(len(network.layers))
    confusion = np.zeros((classes, classes), np.int64)
    samples = np.arange(len(events)) if samples is None else samples
    for first in range(0, len(samples), EVALUATION_BATCH):
        batch = events[samples[first:first + EVALUATION_BATCH]]
        outcome = network.evaluate(parameters, batch)
        if asked:
            raise Stopped(asked[0])
        loss += outcome.loss * len(batch)
        rates += np.array(outcome.rates) * len(batch)
        np.add.at(confusion, (batch.labels, outcome.predicted), 1)
    count = len(samples)
    if not count:
        raise InputError("no samples to score")
    return {"loss": loss / count, "accuracy": float(confusion.trace() / count), "samples": count,
            "rates": (rates / count).tolist(), "confusion": confusion.tolist()}


def _state(learner):
    """Every array of a learner by name."""
    groups = {"parameters": learner.parameters.trained(), "intrinsic": learner.parameters.intrinsic()}
    for name, adam in (("w", learner.w_adam), ("alpha", learner.alpha_adam)):
        groups |= {f"{name}_m": adam.m, f"{name}_v": adam.v}
    return checkpoint.flatten({name: group.flatten() for name, group in groups.items()})


def save_state(path, learner, position, identity):
    """Checkpoint a learner and its position, and keep the checkpoint before; see :func:`load_state`.

    Parameters
    ----------
    identity : dict of dicts, what must be the same when it is read: settings, seed, data

    Raises
    ------
    Diverged
        Something learnt is not a finite number: the checkpoint that is there is better.
    """
    arrays = _state(learner)
    bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise Diverged(f"{position.phase}, epoch {position.epoch + 1}, batch {position.batch}: not a finite number "
                       f"in {', '.join(bad)}")
    steps = {"w": learner.w_adam.step, "alpha": learner.alpha_adam.step}
    checkpoint.save(path, "checkpoint", arrays, {"identity": identity, "position": vars(position),
                                                 "adam_steps": steps}, previous_of(path))


def previous_of(path):
    """Where the checkpoint before the newest one is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_state(path, learner, identity, expected):
    """Put the newest sound checkpoint into a learner; a damaged one is set aside with a warning.

    Parameters
    ----------
    path : of the newest checkpoint
    learner : :class:`hrmas_sparse.search.hrmas.Learner`, filled
    identity : as when it was saved
    expected : function :class:`Position` -> Parameters like the learner's, w's moments, alpha's moments there

    Returns
    -------
    :class:`Position`, or None where there is no sound checkpoint

    Raises
    ------
    InputError
        It belongs to other settings, data or another version of the program; the differences are named.
    """
    def all_expected(meta):
        position, steps = _position(path, meta), meta["adam_steps"]
        if not fits(steps, {"w": int, "alpha": int}):
            raise Damaged(f"{path}: damaged: the steps of Adam")
        _same_run(path, meta["identity"], identity)
        parameters, weights, alphas = expected(position)
        moments = {f"{name}_{moment}": like.flatten() if steps[name] else {}
                   for name, like in (("w", weights), ("alpha", alphas)) for moment in "mv"}
        return checkpoint.flatten({"parameters": parameters.trained().flatten(),
                                   "intrinsic": parameters.intrinsic().flatten(), **moments})

    for newest in (path, previous_of(path)):
        if not newest.exists():
            continue
        try:
            arrays, meta = checkpoint.load(newest, "checkpoint", all_expected)
        except Damaged as error:
            aside = newest.with_name(newest.name + ".damaged")
            os.replace(newest, aside)
            print(f"warning: {error}; set aside as {aside.name}, going back to the one before", file=sys.stderr)
            continue
        parameters, intrinsic = checkpoint.unflatten(arrays, "parameters", "intrinsic")
        learner.parameters = Parameters.unflatten(parameters | intrinsic)
        layers = len(learner.parameters.layers)
        for name, adam in (("w", learner.w_adam), ("alpha", learner.alpha_adam)):
            moments = checkpoint.unflatten(arrays, f"{name}_m", f"{name}_v")
            adam.m, adam.v = (Parameters.unflatten(flat, layers if flat else 0) for flat in moments)
            adam.step = meta["adam_steps"][name]
        return _position(newest, meta)
    return None


def _position(path, meta):
    number = int
    form = {"phase": {"search-1", "search-2", "retrain"}, "epoch": number, "batch": number, "updates": number,
            "sums": {str: float}, "lines": number, "sizes": (None, [int]), "seconds": {str: float}}
    found = meta["position"]
    if not fits(found, form) or found.keys() != form.keys() or min(
            found[key] for key, kind in form.items() if kind is number) < 0:
        raise Damaged(f"{path}: damaged: its position in the run")
    return Position(**found)


def _same_run(path, found, wanted):
    flat = [_leaves(identity) for identity in (found, wanted)]
    keys = sorted(flat[0].keys() | flat[1].keys())
    differs = [f"{key}: {flat[0].get(key)!r} != {flat[1].get(key)!r}" for key in keys
               if flat[0].get(key) != flat[1].get(key)]
    if differs:
        raise InputError(f"{path}: checkpoint of another run: {'; '.join(differs)}. Give another --name (NAME=), or "
                         "--fresh (FRESH=1) to set the old run aside")


def _leaves(value, name=""):
    """Nested dicts -> {"a.b": value}"""
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for own, x in value.items() for key, leaf in _leaves(x, f"{name}.{own}" if name else own).items()}
