"""How far a run is, said to a person or to a program."""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tqdm.auto import tqdm

from hrmas_sparse.run.warnings import kind


class Progress(NamedTuple):
    """What a callback is told after every epoch.

    phase : "search-1", "search-2", "candidates" or "retrain"
    epoch : the one that has ended, from 1; epochs : of the phase
    loss, accuracy : means over the epoch's training batches; valid_accuracy : of the batches that judge alpha, None
    outside a search; seconds : spent in the phase
    """

    phase: str
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    valid_accuracy: float | None
    seconds: float


@dataclass
class Reporter:
    """Tell how far one run is: a bar where there is a terminal or notebook, else lines; or a callback alone.

    name : goes before everything that is shown, of several runs side by side
    line : of the terminal, from the first run's
    callback : function (:class:`Progress`), which ends the run by returning False; then no bar is shown
    """

    name: str = ""
    line: int | None = None
    callback: Callable | None = None
    _warned: set = field(default_factory=set)
    _bar: object = None

    @contextlib.contextmanager
    def phase(self, name, epochs, done):
        """Show a phase of so many epochs while the block runs; ``done`` of them are over."""
        style = "{desc} {percentage:3.0f}%|{bar}| epoch {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
        self._warned = set()
        with tqdm(total=epochs, initial=done, desc=self.name + name, bar_format=style, position=self.line,
                  disable=True if self.callback else None) as self._bar:
            yield

    def batch(self, epochs):
        """Say that so many epochs, and parts of them, are over."""
        self._bar.update(epochs - self._bar.n)

    def epoch(self, progress, warnings=()):
        """Say that an epoch is over; whether the run goes on."""
        title = self.name + progress.phase
        for warning in warnings:
            if kind(warning) not in self._warned:
                self._warned.add(kind(warning))
                self._bar.write(f"warning: {title}, epoch {progress.epoch}: {warning}", file=sys.stderr)
        if self.callback:
            return self.callback(progress) is not False
        shown = {"loss": f"{progress.loss:.3g}", "accuracy": f"{100 * progress.accuracy:.1f}%"}
        if progress.valid_accuracy is not None:
            shown["valid_accuracy"] = f"{100 * progress.valid_accuracy:.1f}%"
        self._bar.set_postfix(shown)
        last = progress.epoch == progress.epochs
        if self._bar.disable and (last or progress.epoch % max(1, progress.epochs // 10) == 0):
            print(f"{title}: epoch {progress.epoch}/{progress.epochs}, "
                  + ", ".join(f"{key} {value}" for key, value in shown.items()) + f", {progress.seconds:.0f} s",
                  file=sys.stderr)
        return True
