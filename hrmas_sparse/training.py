"""The training loop: epochs of batches, metrics, checkpoints, stopping; one for search and retraining.

A :class:`Phase` says what is learnt from which batches; :func:`run_phase` does the rest. Batches are
drawn by (seed, phase, epoch) alone, so a run goes on from a checkpoint exactly where it was, in the
middle of an epoch too.
"""

import json
import math
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable

import numpy as np
from tqdm import tqdm

from hrmas_sparse import checkpoint
from hrmas_sparse.errors import Diverged, InputError

CHECKPOINT_SECONDS = 60.0
EVALUATION_BATCH = 256


class Stopped(Exception):
    """A signal asked the run to stop; it has been checkpointed."""

    def __init__(self, signum):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextmanager
def stop_requests():
    """Turn the first SIGINT or SIGTERM into a note to stop after the batch; the second one kills.

    Yields a list that holds the signal's number once one came.
    """
    asked = []

    def note(signum, frame):
        asked.append(signum)
        print("\nstopping after this batch; once more to stop at once", file=sys.stderr)
        signal.signal(signum, signal.SIG_DFL)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
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


@dataclass
class Phase:
    """What is learnt, from what.

    name : str; epochs : int
    batches : function epoch -> list of batches, each whatever ``step`` takes
    step : function (batch, progress) -> dict of sums over samples: "samples", "loss", "correct", and
        others that are averaged over samples the same way
    describe : function () -> dict of further numbers for the epoch's line of metrics
    """

    name: str
    epochs: int
    batches: Callable
    step: Callable
    describe: Callable = dict


class Metrics:
    """metrics.jsonl: one line of JSON an epoch."""

    def __init__(self, path):
        self.path = path

    def cut(self, lines):
        """Forget what was written after a checkpoint was."""
        kept = self.path.read_bytes().splitlines(keepends=True)[:lines] if self.path.exists() else []
        if len(kept) < lines:
            raise InputError(f"{self.path}: expected at least {lines} lines, found {len(kept)}; "
                             "start over with --fresh")
        self.path.write_bytes(b"".join(kept))

    def add(self, line):
        """Append one line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _means(sums):
    """Sums over samples -> means; "correct" becomes "accuracy"."""
    samples = sums["samples"]
    return {("accuracy" if key == "correct" else key.replace("correct", "accuracy")): value / samples
            for key, value in sums.items() if key != "samples"}


def run_phase(phase, position, metrics, save, asked):
    """Run a phase from ``position`` to its end.

    Parameters
    ----------
    phase : :class:`Phase`
    position : :class:`Position`, moved along
    metrics : :class:`Metrics`
    save : function () that checkpoints learner and position
    asked : list that is non-empty once a stop is wanted, see :func:`stop_requests`

    Raises
    ------
    Stopped
        After a checkpoint.
    Diverged
        A loss was not finite; nothing was learnt from that batch, and the last checkpoint is kept.
    """
    saved = started = time.monotonic()
    before = position.seconds.get(phase.name, 0.0)
    with _bar(phase, position) as bar:
        while position.epoch < phase.epochs:
            batches = phase.batches(position.epoch)
            while position.batch < len(batches):
                _one_batch(phase, position, batches)
                bar.update(1 / len(batches))
                position.seconds[phase.name] = before + time.monotonic() - started
                if asked:
                    save()
                    raise Stopped(asked[0])
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    save()
                    saved = time.monotonic()
            _end_epoch(phase, position, metrics, bar)
    save()


def _one_batch(phase, position, batches):
    progress = (position.epoch + position.batch / len(batches)) / phase.epochs
    found = phase.step(batches[position.batch], progress)
    if not math.isfinite(found["loss"]):
        raise Diverged(f"{phase.name}, epoch {position.epoch + 1}, batch {position.batch + 1}: "
                       f"{found.get('blame') or 'the loss'} is not a finite number")
    for key, value in found.items():
        if key != "blame":
            position.sums[key] = position.sums.get(key, 0) + value
    position.batch += 1
    position.updates += 1


def _end_epoch(phase, position, metrics, bar):
    means = _means(position.sums)
    seconds = round(position.seconds[phase.name], 3)
    metrics.add({"phase": phase.name, "epoch": position.epoch + 1, **means, **phase.describe(), "seconds": seconds})
    position.epoch, position.batch, position.sums = position.epoch + 1, 0, {}
    position.lines += 1
    shown = {key: f"{means[key]:.3g}" if "loss" in key else f"{100 * means[key]:.1f}%"
             for key in ("loss", "accuracy", "valid_accuracy") if key in means}
    bar.set_postfix(shown)
    if bar.disable and (position.epoch == phase.epochs or position.epoch % max(1, phase.epochs // 10) == 0):
        print(f"{phase.name}: epoch {position.epoch}/{phase.epochs}, "
              + ", ".join(f"{key} {value}" for key, value in shown.items()) + f", {seconds:.0f} s", file=sys.stderr)


def _bar(phase, position):
    """A bar in epochs with an ETA; on a terminal only."""
    style = "{desc} {percentage:3.0f}%|{bar}| epoch {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
    return tqdm(total=phase.epochs, initial=position.epoch, desc=phase.name, disable=None, bar_format=style)


def evaluate(network, parameters, intrinsic, events):
    """Score a network on a split.

    Returns
    -------
    dict with "loss", "accuracy", "samples", "rates" (mean spikes per neuron and step of each layer) and
    "confusion", a (classes, classes) list of counts, [true][decided]
    """
    classes, loss, rates = network.output.size, 0.0, np.zeros(len(network.layers))
    confusion = np.zeros((classes, classes), np.int64)
    for first in range(0, len(events), EVALUATION_BATCH):
        batch = events.take(np.arange(first, min(first + EVALUATION_BATCH, len(events))))
        outcome = network.evaluate(parameters, intrinsic, batch)
        loss += outcome.loss * len(batch)
        rates += np.array(outcome.rates) * len(batch)
        np.add.at(confusion, (batch.label, outcome.predicted), 1)
    if not len(events):
        raise InputError("no samples to score")
    return {"loss": loss / len(events), "accuracy": float(confusion.trace() / len(events)), "samples": len(events),
            "rates": (rates / len(events)).tolist(), "confusion": confusion.tolist()}


def save_state(path, learner, position, identity):
    """Checkpoint a learner and its position; ``identity`` (config, data) must match when it is read."""
    groups = {"parameters": learner.parameters, "intrinsic": learner.intrinsic}
    steps = {}
    for name, adam in (("w", learner.w_adam), ("alpha", learner.alpha_adam)):
        groups |= {f"{name}_m": adam.m, f"{name}_v": adam.v}
        steps[name] = adam.step
    checkpoint.save(path, "checkpoint", checkpoint.flatten(groups),
                    {"identity": identity, "position": vars(position), "adam_steps": steps})


def load_state(path, learner, identity):
    """Put a checkpoint into a learner; returns the :class:`Position`.

    Raises
    ------
    InputError
        The file is damaged, or belongs to another configuration or other data.
    """
    arrays, meta = checkpoint.load(path, "checkpoint")
    if meta["identity"] != identity:
        raise InputError(f"{path}: checkpoint of another run: {meta['identity']} instead of {identity}; "
                         "give another --name, or --fresh to start over")
    learner.parameters, learner.intrinsic = checkpoint.unflatten(arrays, "parameters", "intrinsic")
    for name, adam in (("w", learner.w_adam), ("alpha", learner.alpha_adam)):
        adam.m, adam.v = checkpoint.unflatten(arrays, f"{name}_m", f"{name}_v")
        adam.step = meta["adam_steps"][name]
    return Position(**meta["position"])
