"""The training loop: epochs of batches, metrics, checkpoints, stopping; one for search and retraining.

A :class:`Phase` says what is learnt from which batches; :func:`run_phase` does the rest. Batches are
drawn by (seed, phase, epoch) alone, so a run goes on from a checkpoint exactly where it was, in the
middle of an epoch too.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from hrmas_sparse.run.metrics import Totals
from hrmas_sparse.run.patience import Patience
from hrmas_sparse.run.progress import Progress
from hrmas_sparse.run.stop import Stopped
from hrmas_sparse.run.warnings import complaints
from hrmas_sparse.storage.errors import Diverged

CHECKPOINT_SECONDS = 60.0   # between two checkpoints, at most
CHECKPOINT_SHARE = 0.01     # of the time, at most, goes into them


class NotFinite(Exception):
    """A step met a number that is not finite, and learnt nothing; the text says where."""


@dataclass(frozen=True)
class Phase:
    """What is learnt, from what.

    name : str; epochs : int
    batches : function epoch -> list of batches, each whatever ``step`` takes
    step : function (batch, progress from 0 to 1 through the phase, updates done before) ->
        :class:`hrmas_sparse.run.metrics.Totals`; raises :class:`NotFinite`
    describe : function () -> dict of further numbers for the epoch's line of metrics
    prefetch : function (batch) that is told of the batch ``step`` is about to take, then of the one after it
    spiking_output : whether the output neurons spike
    patience : what ends the phase before its last epoch; None for nothing
    """

    name: str
    epochs: int
    batches: Callable
    step: Callable
    describe: Callable = dict
    prefetch: Callable = lambda batch: None
    spiking_output: bool = True
    patience: Patience | None = None

    def over(self, position):
        """Whether there is no epoch left to do."""
        return position.epoch >= self.epochs or (self.patience is not None and self.patience.over(position))


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


def run_phase(phase, position, add_line, checkpoints, stop, reporter):
    """Run a phase from ``position`` to its end, which may come early; see :mod:`hrmas_sparse.run.patience`.

    Parameters
    ----------
    phase : :class:`Phase`
    position : :class:`hrmas_sparse.run.state.Position`, moved along
    add_line : function (dict) that keeps an epoch's line of metrics
    checkpoints : :class:`Checkpoints` of learner and position
    stop : function () -> bool, whether to stop after this batch
    reporter : :class:`hrmas_sparse.run.progress.Reporter`

    Raises
    ------
    Stopped
        After a checkpoint.
    Diverged
        A loss was not finite; nothing was learnt from that batch, and the last checkpoint is kept.
    """
    clocks = [(position.seconds, time.monotonic)]
    if position.processor is not None:
        clocks.append((position.processor, time.process_time))
    started = [spent.get(phase.name, 0.0) - clock() for spent, clock in clocks]
    with reporter.phase(phase.name, phase.epochs, position.epoch):
        while not phase.over(position):
            batches = phase.batches(position.epoch)
            while position.batch < len(batches):
                one_batch(phase, position, batches)
                reporter.batch(position.epoch + position.batch / len(batches))
                for (spent, clock), start in zip(clocks, started):
                    spent[phase.name] = start + clock()
                if stop():
                    checkpoints.save()
                    raise Stopped
                checkpoints.save_if_due()
            if not _end_epoch(phase, position, add_line, reporter):
                checkpoints.save()
                raise Stopped
    checkpoints.save()


def one_batch(phase, position, batches):
    """Take the next step of a phase."""
    progress = (position.epoch + position.batch / len(batches)) / phase.epochs
    where = f"{phase.name}, epoch {position.epoch + 1}, batch {position.batch + 1}"
    for batch in batches[position.batch:position.batch + 2]:
        phase.prefetch(batch)
    try:
        totals = phase.step(batches[position.batch], progress, position.updates)
    except NotFinite as error:
        raise Diverged(f"{where}: {error} is not a finite number") from None
    if not math.isfinite(totals.loss):
        raise Diverged(f"{where}: the loss is not a finite number")
    position.totals.add(totals)
    position.batch += 1
    position.updates += 1


def _end_epoch(phase, position, add_line, reporter):
    """Keep an epoch's line of metrics and say it; whether the run goes on."""
    totals, seconds = position.totals, round(position.seconds[phase.name], 3)
    means, warnings = totals.means(), complaints(totals, phase.spiking_output)
    settled = phase.patience.look(position) if phase.patience else {}
    add_line({"phase": phase.name, "epoch": position.epoch + 1, **means, **phase.describe(), **settled,
              **({"warnings": warnings} if warnings else {}), "seconds": seconds})
    position.epoch, position.batch, position.totals = position.epoch + 1, 0, Totals()
    position.lines += 1
    return reporter.epoch(Progress(phase.name, position.epoch, phase.epochs, means["loss"], means["accuracy"],
                                   means.get("valid_accuracy"), seconds), warnings)
