"""A run as an object: what it found, and its trained network to use."""

from __future__ import annotations

import html
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.architecture import Architecture
from hrmas_sparse.engine.backends.base import EVALUATION_BATCH
from hrmas_sparse.engine.network import Network
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.networks import load_trained
from hrmas_sparse.run.score import Score, evaluate
from hrmas_sparse.settings.schema import Config
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.files import path_of


class Run:
    """A search or retraining: what it found, and the network it ended with.

    :func:`hrmas_sparse.search`, :func:`hrmas_sparse.retrain` and :func:`hrmas_sparse.load_run` give it.

    Attributes
    ----------
    settings : Config
    seed : int
    architecture : list of Architecture
        Of every hidden layer; empty before the search has ended, and without motifs.
    history : list of dict
        One an epoch: phase, epoch, loss, accuracy, rates ...
    result : dict or None
        The test and what belongs to it; None while the run is unfinished.
    path : Path or None
        The run's folder; None in memory.
    class_names : tuple of str or None
        None for a run of a version that did not keep them.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> events = hs.Events.from_dense(np.ones((8, 5, 2), bool), labels=np.arange(8) % 2)
    >>> small = {"network.neurons": [4], "network.motif_sizes": [2], "training.retrain_epochs": 2}
    >>> run = hs.retrain(hs.Architecture.random(4, 2, seed=0), hs.Dataset(events), hs.settings(set=small),
    ...                  callback=lambda progress: None)
    >>> len(run.history), run.predict(events).shape, run.params.layers[0].w.shape
    (2, (8,), (2, 4))
    """

    def __init__(self, settings: Config, seed: int, architecture: list[Architecture], history: list[dict[str, Any]],
                 result: dict[str, Any] | None, class_names: tuple[str, ...] | None = None, path: Path | None = None,
                 trained: Any = None):
        self.settings, self.seed, self.architecture, self.history = settings, seed, architecture, history
        self.result, self.class_names, self.path, self._trained = result, class_names, path, trained

    @classmethod
    def of_folder(cls, run: RunDir, backend: Any = "auto") -> Run:
        """Return the run of a folder; its network is read when it is first used."""
        settings, manifest = run.config(), run.manifest()
        names = manifest["data"].get("class_names")
        return cls(settings, manifest["seed"], run.architecture(), run.metrics(), run.result(),
                   tuple(names) if names else None, run.path, lambda: load_trained(run, backend))

    @classmethod
    def of_job(cls, job: Any) -> Run:
        """Return the run of a job that had no folder."""
        context, store = job.context, job.store
        finished = store.parameters is not None

        def trained() -> tuple[Network, Parameters]:
            if not finished:
                raise InputError("this run was stopped before it had trained a network")
            return job.networks.final(store.architectures), store.parameters

        return cls(context.settings, context.seed, store.architectures or [], store.lines, store.result,
                   context.data.class_names, None, trained)

    @property
    def finished(self) -> bool:
        """Whether the run has been tested."""
        return self.result is not None

    @cached_property
    def _network_and_parameters(self) -> tuple[Network, Parameters]:
        trained: tuple[Network, Parameters] = self._trained()
        return trained

    @property
    def network(self) -> Network:
        """The discrete network that was retrained.

        Raises
        ------
        InputError
            The run has not got so far.
        """
        return self._network_and_parameters[0]

    @property
    def params(self) -> Parameters:
        """Its trained parameters, NumPy's."""
        return self._network_and_parameters[1]

    def predict(self, events: Events) -> np.ndarray:
        """Return the decided class of every sample, (B,) int64.

        Parameters
        ----------
        events : Events
            Of as many channels as the run was trained on.
        """
        self._check(events)
        network, params = self._network_and_parameters
        parts = [network.evaluate(params, events[first:first + EVALUATION_BATCH]).predicted
                 for first in range(0, len(events), EVALUATION_BATCH)]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def score(self, events: Events) -> Score:
        """Return accuracy, loss, recall of each class and confusion on labelled samples."""
        self._check(events)
        network, params = self._network_and_parameters
        score: Score = evaluate(network, params, events)
        return score

    def export(self, path: str | Path, **options: Any) -> None:
        """Write the trained network for other programs: `.nir`, `.npz`, or `.h` (with a `.c` beside it).

        Parameters
        ----------
        path : path
        options
            dt, folded: see :func:`hrmas_sparse.export.export`

        Raises
        ------
        InputError
            The run has no trained network yet, the suffix is another, or the file cannot be written.
        """
        network, params = self._network_and_parameters
        name = self.path.name if self.path else self.settings.data.dataset
        network.export(path_of(path, "path"), params, name=name, class_names=self.class_names or (), **options)

    def _check(self, events: Events) -> None:
        if not isinstance(events, Events):
            raise InputError(f"events: expected Events, found {type(events).__name__}; see Events.from_dense")
        if events.channels != self.network.channels:
            raise InputError(f"events: expected {self.network.channels} channels as the run was trained on, found "
                             f"{events.channels}")

    def _about(self) -> list[tuple[str, str]]:
        data = self.settings.data.dataset
        rows = [("data", data), ("seed", str(self.seed))]
        if self.result and self.result["test"]:
            rows.append(("test accuracy", f"{100 * self.result['test']['accuracy']:.2f} %"))
        rows += [(f"layer {n}", each.describe()[0]) for n, each in enumerate(self.architecture, start=1)]
        if not self.finished:
            rows.append(("state", f"unfinished after {len(self.history)} epochs"))
        return rows + ([("folder", str(self.path))] if self.path else [])

    def __repr__(self) -> str:
        return f"Run({', '.join(f'{name}: {text}' for name, text in self._about())})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>"
                       f"{html.escape(text)}</td></tr>" for name, text in self._about())
        drawn = [each._repr_html_() for each in self.architecture if hasattr(each, "_repr_html_")]
        return f"<table>{rows}</table>" + "".join(drawn)
