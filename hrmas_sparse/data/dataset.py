"""A data set: training and test samples as events, and what they are."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.data import checks, npz, shd, tonic
from hrmas_sparse.data import parts as made_of
from hrmas_sparse.data.events import Events, joined
from hrmas_sparse.data.meta import SPLITS, Meta
from hrmas_sparse.data.writer import CacheWriter, is_cache
from hrmas_sparse.settings.schema import Config, DataConfig
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.files import path_of

_SETTINGS = ("encoding", "value", "steps", "partition")
File = str | os.PathLike[str]


class Dataset:
    """Training and test samples. In memory, or mapped from a spike cache, which reads what is touched.

    Parameters
    ----------
    train, test : Events
        Of the same steps and channels; a test part may come later, see `split`.
    class_names : sequence of str, optional
        Name of each class; a label is an index into it. Without names every class up to the largest label must have
        a training sample, and its number is its name.
    name : str
        What the data set is called in results.
    provenance : str
        "real" or "synthetic stand-in"; results say which.

    Attributes
    ----------
    train : Events
    test : Events or None
    meta : Meta
        Name, provenance, encoding, numbers of steps, channels and classes.
    path : Path or None
        The spike cache the samples are mapped from.

    Raises
    ------
    InputError
        The parts do not fit each other, a label has no class, a class no sample.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> rng = np.random.default_rng(0)
    >>> x, labels = rng.random((40, 20, 6)) < 0.2, np.arange(40) % 4
    >>> data = hs.Dataset(hs.Events.from_dense(x, labels), name="noise").split(test=0.2, seed=0)
    >>> data
    Dataset('noise': 32 train, 8 test samples, 4 classes, 20 steps x 6 channels)
    """

    def __init__(self, train: Events, test: Events | None = None, *, class_names: Iterable[str] | None = None,
                 name: str = "own", provenance: str = "real"):
        for split, events in (("train", train), ("test", test)):
            if not isinstance(events, Events) and not (split == "test" and events is None):
                raise InputError(f"{split}: expected Events, found {type(events).__name__}; see Events.from_dense")
        if test is not None and (test.steps, test.channels) != (train.steps, train.channels):
            raise InputError(f"test: expected {train.steps} steps x {train.channels} channels as train has, found "
                             f"{test.steps} x {test.channels}")
        if not len(train):
            raise InputError("train: expected at least one sample, found none")
        parts = [train] if test is None else [train, test]
        kinds = {events.value.dtype.kind == "f" for events in parts if len(events.value)}
        if len(kinds) > 1:
            raise InputError(f"test: expected values of the same kind as train has, {train.value.dtype}, found "
                             f"{parts[-1].value.dtype}")
        names = made_of.names_of(parts, class_names)
        notes = sum((Counter(events.notes) for events in parts), Counter())
        values = np.concatenate([[0], *(events.value.max(initial=0)[None] for events in parts)])
        kind = "intensity" if True in kinds else "count" if values.max() > 1 else "binary"
        self.train, self.test, self.path = train, test, None
        self.meta = made_of.meta_of(name, kind, train, names, provenance, dict(notes),
                                    made_of.fingerprint(parts, names))
        self._ids: dict[str, Iterable[str]] = {}

    train: Events
    test: Events | None
    meta: Meta
    path: Path | None
    _grid: tuple[int, int, int] | None = None

    @classmethod
    def _of(cls, train: Events, test: Events | None, meta: Meta, path: Path | None = None,
            ids: dict[str, Iterable[str]] | None = None) -> Dataset:
        """A data set of parts that fit, unchecked."""
        made = cls.__new__(cls)
        made.train, made.test, made.meta, made.path, made._ids = train, test, meta, path, ids or {}
        return made

    def check(self) -> None:
        """Check all events and labels anew, see :meth:`Events.check`."""
        for split, events in zip(SPLITS, (self.train, self.test)):
            if events is not None:
                with made_of.naming(split):
                    events.check()
        made_of.names_of([events for events in (self.train, self.test) if events is not None], self.class_names)

    # ---- from files and from other libraries -----------------------------------------------------------------

    @classmethod
    def from_hdf5(cls, train: File, test: File | None = None, *, steps: int, step_ms: float,
                  channels: int | None = None, value: str = "count", class_names: Iterable[str] | None = None,
                  name: str | None = None, provenance: str = "real") -> Dataset:
        """Return the data set of files in the form of the Spiking Heidelberg Digits.

        Parameters
        ----------
        train, test : path
            HDF5 files with ``spikes/times`` (seconds), ``spikes/units`` (channels) and ``labels``.
        steps : int
            Steps of a sample; spikes after the last one are dropped and counted.
        step_ms : float
            Length of a step in milliseconds.
        channels : int, optional
            By default the largest unit + 1.
        value : "count" or "binary"
            A bin's value is its number of spikes, or 1.
        class_names, name, provenance
            As of the class; by default the names in ``extra/keys`` if there are any, and the file's name.

        Raises
        ------
        InputError
            A file that is no such file or damaged, units outside the channels, times that are no times.
        """
        files = {split: Path(path) for split, path in (("train", train), ("test", test)) if path is not None}
        steps, value = checks.extent("steps", steps), made_of.one_of_values(value)
        step_ms = made_of.positive("step_ms", step_ms)
        if channels is None:
            channels = max(1, 1 + max(shd.largest_unit(path) for path in files.values()))
        binning = shd.Binning(steps, step_ms, checks.extent("channels", channels), value)
        parts = [made_of.collected(shd.samples(path, binning, notes := Counter()), steps, channels, notes)
                 for path in files.values()]
        stored = shd.names_of(files["train"]) if class_names is None else None
        if stored and len(stored) > max(int(part.labels.max(initial=-1)) for part in parts):
            class_names = stored
        name = name or made_of.plain_name(files["train"])
        with made_of.naming(files["train"]):
            made = cls(*parts, class_names=class_names, name=name, provenance=provenance)
        return made._described(step_ms=step_ms)

    @classmethod
    def from_npz(cls, train: File, test: File | None = None, *, steps: int | None = None, channels: int | None = None,
                 class_names: Iterable[str] | None = None, name: str | None = None,
                 provenance: str = "real") -> Dataset:
        """Return the data set of one or two NumPy archives of flat arrays.

        Parameters
        ----------
        train, test : path
            A .npz with ``sample``, ``step``, ``channel`` (of each event, as of `Events.from_arrays`) and ``label`` (of
            each sample), optionally ``value`` of each event; one that stands alone optionally ``split`` of each sample:
            "train"/"test" or 0/1.
        steps, channels : int, optional
            By default the largest step and channel + 1.

        Raises
        ------
        InputError
            A file that is no such file, or what `Events.from_arrays` refuses.
        """
        paths = [Path(path) for path in (train, test) if path is not None]
        contents = [npz.read(path) for path in paths]
        size: dict[str, Any] = {"steps": steps, "channels": channels}
        for key in [key for key, given in size.items() if given is None]:
            size[key] = max(npz.extent(arrays[key[:-1]]) for arrays in contents)
        parts = []
        for path, arrays in zip(paths, contents):
            with made_of.naming(path):
                if len(paths) > 1 and "split" in arrays:
                    raise InputError("split: expected none where the test part has a file of its own")
                parts.append(Events.from_arrays(arrays["sample"], arrays["step"], arrays["channel"], arrays["label"],
                                                value=arrays.get("value"), **size))
        if len(paths) == 1:
            whole, chosen = parts[0], npz.splits(paths[0], contents[0])
            parts = [whole[~chosen]._with(notes=whole.notes), *([whole[chosen]] if chosen.any() else [])]
        with made_of.naming(paths[0]):
            return cls(*parts, class_names=class_names, name=name or made_of.plain_name(paths[0]),
                       provenance=provenance)

    @classmethod
    def from_tonic(cls, train: Any, test: Any = None, *, steps: int, step_us: float, value: str = "count",
                   class_names: Iterable[str] | None = None, name: str | None = None,
                   provenance: str = "real") -> Dataset:
        """Return the data set of two tonic data sets, or of anything like them.

        Parameters
        ----------
        train, test : indexable
            ``[i]`` gives (events, label): a structured array with the fields t (microseconds), x and optionally y and
            p, and the number or name of a class. A channel is (p, y, x), x running fastest; how many there are of
            each says ``sensor_size``, or the largest there is.
        steps : int
            Steps of a sample; spikes after the last one are dropped and counted.
        step_us : float
            Length of a step in microseconds.
        value : "count" or "binary"
            A bin's value is its number of spikes, or 1.
        class_names, name, provenance
            As of the class.

        Raises
        ------
        InputError
            Anything else; the message names the sample.
        """
        sources = {split: source for split, source in (("train", train), ("test", test)) if source is not None}
        steps, value = checks.extent("steps", steps), made_of.one_of_values(value)
        step_us = made_of.positive("step_us", step_us)
        shape = tonic.grid(sources)
        channels = checks.extent("channels (polarities x rows x columns)", int(np.prod(shape)))
        names = tuple(class_names) if class_names is not None else None
        parts = []
        for split, source in sources.items():
            notes, labels, samples = Counter(), [], []
            for where, events, label in tonic.read(split, source):
                labels.append(label)
                samples.append(tonic.sample(where, events, shape, steps, step_us, value, notes))
            numbers, names = tonic.numbered(labels, names)
            parts.append(made_of.collected(zip(numbers.tolist(), samples), steps, channels, notes))
        made = cls(*parts, class_names=names, name=name or tonic.name_of(train), provenance=provenance)
        return made._described(step_ms=step_us / 1000, grid=list(shape))

    def _described(self, **encoding: Any) -> Dataset:
        """The same data set, its encoding described further."""
        meta = dataclasses.replace(self.meta, encoding=self.meta.encoding | encoding)
        return Dataset._of(self.train, self.test, meta, self.path, self._ids)

    # ---- to others -------------------------------------------------------------------------------------------

    def split(self, test: float = 0.2, seed: int = 0) -> Dataset:
        """Return a data set with another test part: all samples dealt out anew, class by class.

        Parameters
        ----------
        test : float
            Share of every class that becomes the test part, above 0 and below 1; a class of at least two samples has
            one in each part.
        seed : int
            The same seed gives the same parts.

        Raises
        ------
        InputError
            A share or a seed that is none, or no class with two samples.
        """
        if isinstance(test, bool) or not isinstance(test, (int, float, np.number)) or not 0 < test < 1:
            raise InputError(f"test: expected a share above 0 and below 1, found {test!r}")
        seed = checks.seed(seed)
        parts = [self.train] if self.test is None else [self.train, self.test]
        rng = np.random.default_rng(seed)
        labels = np.concatenate([events.labels for events in parts])
        chosen = np.zeros(len(labels), bool)
        for label in np.unique(labels):
            own = rng.permutation(np.flatnonzero(labels == label))
            chosen[own[:min(max(1, round(test * len(own))), len(own) - 1)]] = True
        if not chosen.any():
            raise InputError(f"test: expected classes of at least 2 samples to divide, found {len(labels)} samples of "
                             f"{len(np.unique(labels))} classes")
        whole = joined(parts)
        ids = [f"{split}/{own}" if len(parts) > 1 else own
               for split, _ in zip(SPLITS, parts) for own in self.ids(split)]
        train, rest = whole[~chosen], whole[chosen]
        meta = dataclasses.replace(self.meta, encoding=self.meta.encoding | {"split": [float(test), seed]},
                                   fingerprint=made_of.fingerprint([train, rest], self.class_names))
        names: dict[str, Iterable[str]] = {split: [ids[n] for n in np.flatnonzero(chosen == (split == "test"))]
                                           for split in SPLITS}
        return Dataset._of(train, rest, meta, None, names).of_grid(self._grid)

    def save(self, path: File) -> Path:
        """Write the data set to a file: a spike cache, which `load_dataset` and the command line take.

        Returns
        -------
        Path, of the file; an older spike cache of that name is replaced, anything else is refused. A data set that is
        called "own" is called as its file from then on.
        """
        path = path_of(path, "path")
        if path.exists() and not is_cache(path):
            raise InputError(f"{path}: is there and no spike cache; give another name")
        name = made_of.plain_name(path) if self.meta.dataset == "own" else self.meta.dataset
        try:
            with CacheWriter(path, dataclasses.replace(self.meta, dataset=name)) as writer:
                for split in SPLITS:
                    events = getattr(self, split)
                    for n, id in enumerate(self.ids(split) if events is not None else ()):
                        where = slice(*events.indptr[n:n + 2])
                        writer.add(split, id, int(events.labels[n]), events.step[where], events.channel[where],
                                   checks.single("value", events.value[where]))
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
        return path

    def settings_for(self, settings: Config) -> Config:
        """Return settings whose section [data] is that of this data set; a drawn partition is kept."""
        stored = {name: self.meta.encoding[name] for name in _SETTINGS if name in self.meta.encoding}
        if len(stored) < len(_SETTINGS):
            return settings
        if stored["partition"] == "official":
            stored["partition"] = settings.data.partition
        return dataclasses.replace(settings, data=DataConfig(dataset=self.meta.dataset, **stored))

    def of_grid(self, grid: tuple[int, int, int] | None) -> Dataset:
        """Return the same data set, its channels (polarities, rows, columns) of an image; None: as they are."""
        made = Dataset._of(self.train, self.test, self.meta, self.path, self._ids)
        made._grid = grid
        return made

    @property
    def grid(self) -> tuple[int, int, int]:
        """Polarities, rows and columns of the channels; (1, 1, channels) where they are in a row."""
        grid = self._grid or self.meta.encoding.get("grid")
        return tuple(grid) if grid else (1, 1, self.meta.channels)

    # ---- what it is ------------------------------------------------------------------------------------------

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class; a label is an index into it."""
        return self.meta.class_names

    def ids(self, split: str) -> list[str]:
        """Return the names of the samples of `split` ("train" or "test") in the raw data, in the order of `Events`."""
        if split in self._ids:
            return list(self._ids[split])
        events = getattr(self, split)
        return [] if events is None else [str(n) for n in range(len(events))]

    def __repr__(self) -> str:
        splits = {split: getattr(self, split) for split in SPLITS}
        parts = ", ".join(f"{len(events):,} {split}" for split, events in splits.items() if events is not None)
        stand_in = "" if self.meta.provenance == "real" else f", {self.meta.provenance}"
        return (f"Dataset({self.meta.dataset!r}: {parts} samples, {self.meta.classes} classes, "
                f"{self.meta.steps} steps x {self.meta.channels} channels{stand_in})")

    def summary(self) -> str:
        """Return what is in the data set as lines for people."""
        meta, splits = self.meta, {split: getattr(self, split) for split in SPLITS if getattr(self, split) is not None}
        samples = ", ".join(f"{len(events):,} {split}" for split, events in splits.items())
        events = sum(len(events.step) for events in splits.values())
        bins = max(1, sum(map(len, splits.values()))) * meta.steps * meta.channels
        silent = [f"{split} has no {name}" for split, e in splits.items() if len(e)
                  for name in made_of.absent(meta, e.labels)]
        return "\n".join([
            f"{meta.dataset}: {samples} samples ({meta.provenance}), {meta.classes} classes, "
            f"{meta.channels} channels x {meta.steps} steps, {events:,} events ({events / bins:.1%} of the bins)",
            *(f"  {count:,} {what}" for what, count in meta.notes.items() if count),
            *([f"  classes missing: {', '.join(silent)}"] if silent else []),
            *(["  warning: every training sample is of one class; there is nothing to tell apart"]
              if len(set(self.train.labels.tolist())) == 1 else []),
        ])
