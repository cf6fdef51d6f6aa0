"""Checkpoints: how far a run is, and everything its learner has learnt."""

import os
import sys
from dataclasses import dataclass, field

import numpy as np

from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.environment import option
from hrmas_sparse.run.metrics import Totals
from hrmas_sparse.run.networks import arrays_of, parameters_of
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.errors import Damaged, Diverged, InputError
from hrmas_sparse.storage.records import fits

PHASES = ("search-1", "search-2", "candidates", "retrain")


@dataclass
class Position:
    """How far a run is; with the learner, all a checkpoint holds.

    phase : name; epoch, batch : next to do; updates : batches done in this phase; totals : of this epoch;
    lines : of metrics written; sizes : motif size per hidden layer once stage 1 has chosen it;
    seconds : wall clock spent in each phase; processor : processor time of all threads, likewise, None if a part of it
    was not measured;
    scores : [accuracy, loss] of each candidate so far;
    settled : what alpha had decided, see :mod:`hrmas_sparse.run.patience`; None where nobody looks
    """

    phase: str
    epoch: int = 0
    batch: int = 0
    updates: int = 0
    totals: Totals = field(default_factory=Totals)
    lines: int = 0
    sizes: list | None = None
    seconds: dict = field(default_factory=dict)
    scores: list = field(default_factory=list)
    settled: dict | None = None
    processor: dict | None = field(default_factory=dict)

    def next(self, phase, sizes=None, scores=()):
        """The position at the start of another phase."""
        return Position(phase, lines=self.lines, sizes=sizes, seconds=self.seconds, processor=self.processor,
                        scores=list(scores))

    def as_dict(self):
        """What JSON can hold; "sums" are the totals. Scores are there among candidates, the others if set."""
        there = {"scores": self.phase == "candidates", "settled": self.settled is not None,
                 "processor": self.processor is not None}
        fields = {key: value for key, value in vars(self).items() if there.get(key, True)}
        return {("sums" if key == "totals" else key): value.flat() if key == "totals" else value
                for key, value in fields.items()}

    @classmethod
    def of(cls, stored, path):
        """The position that :meth:`as_dict` gave; ``path`` is named if it is none."""
        number = int
        form = {"phase": set(PHASES), "epoch": number, "batch": number, "updates": number, "sums": {str: float},
                "lines": number, "sizes": (None, [int]), "seconds": {str: float}}
        if isinstance(stored, dict) and stored.get("phase") == "candidates":
            form["scores"] = [[float]]
        later = {"settled": {"choice": str, "epochs": int, "certainty": float}, "processor": {str: float}}
        if isinstance(stored, dict):
            form |= {key: kind for key, kind in later.items() if key in stored}
        damaged = Damaged(f"{path}: damaged: its position in the run")
        if not fits(stored, form) or stored.keys() != form.keys() or min(
                stored[key] for key, kind in form.items() if kind is number) < 0:
            raise damaged
        try:
            totals = Totals.of_flat(stored["sums"])
        except (ValueError, TypeError):
            raise damaged from None
        found = cls(**{key: value for key, value in stored.items() if key != "sums"}, totals=totals)
        if not (found.seconds.keys() & set(PHASES)) <= found.processor.keys():
            found.processor = None      # an earlier version did that part: what it took stays unknown
        return found


def learner_arrays(learner):
    """Every array of a learner by name."""
    moments = {f"{name}_{moment}": getattr(adam, moment).flatten() for moment in "mv"
               for name, adam in (("w", learner.w_adam), ("alpha", learner.alpha_adam))}
    return arrays_of(learner.parameters) | arrayfile.flatten(moments)


def check_finite(learner, position):
    """Raise Diverged if something learnt is not a finite number; a checkpoint that is there is better."""
    bad = [name for name, array in learner_arrays(learner).items() if not np.isfinite(array).all()]
    if bad:
        raise Diverged(f"{position.phase}, epoch {position.epoch + 1}, batch {position.batch}: not a finite number "
                       f"in {', '.join(bad)}")


def save_state(path, learner, position, identity):
    """Checkpoint a learner and its position, and keep the checkpoint before; see :func:`load_state`.

    Parameters
    ----------
    identity : dict of dicts, what must be the same when it is read: settings, seed, data

    Raises
    ------
    Diverged
        See :func:`check_finite`.
    """
    check_finite(learner, position)
    steps = {"w": learner.w_adam.step, "alpha": learner.alpha_adam.step}
    arrayfile.save(path, "checkpoint", learner_arrays(learner), {
        "identity": identity, "position": position.as_dict(), "adam_steps": steps}, previous_of(path))


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
        position, steps = Position.of(meta["position"], path), meta["adam_steps"]
        if not fits(steps, {"w": int, "alpha": int}):
            raise Damaged(f"{path}: damaged: the steps of Adam")
        _same_run(path, meta["identity"], identity)
        try:
            parameters, weights, alphas = expected(position)
        except Damaged as error:
            raise Damaged(f"{path}: {error}") from None
        moments = {f"{name}_{moment}": like.flatten() if steps[name] else {}
                   for name, like in (("w", weights), ("alpha", alphas)) for moment in "mv"}
        return arrays_of(parameters) | arrayfile.flatten(moments)

    for newest in (path, previous_of(path)):
        if not newest.exists():
            continue
        try:
            arrays, meta = arrayfile.load(newest, "checkpoint", all_expected)
        except Damaged as error:
            aside = newest.with_name(newest.name + ".damaged")
            os.replace(newest, aside)
            print(f"warning: {error}; set aside as {aside.name}, going back to the one before", file=sys.stderr)
            continue
        learner.parameters = parameters_of(arrays)
        layers = len(learner.parameters.layers)
        for name, adam in (("w", learner.w_adam), ("alpha", learner.alpha_adam)):
            moments = arrayfile.unflatten(arrays, f"{name}_m", f"{name}_v")
            adam.m, adam.v = (Parameters.unflatten(flat, layers if flat else 0) for flat in moments)
            adam.step = meta["adam_steps"][name]
        return Position.of(meta["position"], newest)
    return None


def _same_run(path, stored, wanted):
    flat = [_leaves(identity) for identity in (stored, wanted)]
    keys = sorted(flat[0].keys() | flat[1].keys())
    differs = [f"{key}: {flat[0].get(key)!r} != {flat[1].get(key)!r}" for key in keys
               if flat[0].get(key) != flat[1].get(key)]
    if differs:
        raise InputError(f"{path}: checkpoint of another run: {'; '.join(differs)}. Give another {option('name')}, or "
                         f"{option('fresh')} to set the old run aside")


def _leaves(value, name=""):
    """Nested dicts -> {"a.b": value}"""
    if not isinstance(value, dict):
        return {name: value}
    return {path: leaf for key, x in value.items()
            for path, leaf in _leaves(x, f"{name}.{key}" if name else key).items()}
