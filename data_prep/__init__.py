"""Raw recordings in, spike caches out.

A data set is a settings file runs/<name>.toml and a reader, the module of that name here, with

    CHANNELS, CLASS_NAMES   of its samples
    ENCODINGS               the values of `data.encoding` it can make
    PARTITIONS              optional: values of `data.partition` beside "official" and those drawn from it
    GRID                    optional: (polarities, rows, columns) where channels are the pixels of an image
    WHOLE                   samples of the whole data set, to train and to test on
    REMOTES, BY_HAND        `source.Remote` of each published file; how to get the data by hand, {folder} its place
    STEP_MS                 length of a step, or, where events depend on more than that and the configuration,
    settings(data)          the dict of all constants they depend on
    find(raw)               Path -> `source.Source`, or an InputError that names what is missing
    samples(source, data, notes)
                            iterator of (split, id, label, step, channel, value) as `CacheWriter.add` takes them,
                            counting in `notes` (a Counter) what it drops, saturates or repairs

Nothing else knows anything of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep import partition, synthetic
from data_prep.source import Source, fingerprint, progress
from hrmas_sparse import places
from hrmas_sparse.environment import command, option
from hrmas_sparse.settings.load import datasets
from hrmas_sparse.settings.schema import DataConfig
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.atomic import remove_stale
from hrmas_sparse.data.cache import SCHEMA, SPLITS, CacheWriter, Meta, open_cache, verify_cache
from hrmas_sparse.data.dataset import Dataset

READERS: dict[str, Any] = {name: importlib.import_module(f"data_prep.{name}") for name in datasets()
                           if importlib.util.find_spec(f"data_prep.{name}")}


def check_settings(data: DataConfig) -> None:
    """Refuse settings that the reader of their data set cannot make; data of one's own are not restricted."""
    reader = READERS.get(data.dataset)
    if reader is None:
        return
    if data.encoding not in reader.ENCODINGS:
        encodings = " or ".join(map(repr, reader.ENCODINGS))
        raise InputError(f"data.encoding: expected {encodings} for the data set {data.dataset}, found "
                         f"{data.encoding!r}")
    allowed = ("official", *getattr(reader, "PARTITIONS", ()))
    if data.partition not in allowed and not partition.drawn(data.partition):
        raise InputError(f"data.partition: expected {', '.join(allowed)}, resample-1 or the like for {data.dataset}, "
                         f"found {data.partition!r}")


def prepare(
    data,
    raw: Path | None,
    cache_root: Path,
    strict: bool = False,
    seed: int = 0,
    say: Callable[[str], None] = print,
    needed: tuple[str, ...] = SPLITS,
) -> Path:
    """Path of an up to date cache of `data`, built if there is none.

    A cache is up to date if schema, settings and the content of the raw files are those it was made from, and if it
    is sound, checksums included.

    Parameters
    ----------
    data : hrmas_sparse.settings.schema.DataConfig
    raw : file or folder of the recordings; by default ``data/raw/<dataset>`` under the current directory
    cache_root : folder of the caches, made if missing
    strict : refuse the synthetic stand-in for N-TIDIGITS
    seed : of the stand-in
    say : takes each line for the user
    needed : splits that must have samples; scoring a split needs no other

    Raises
    ------
    InputError
        Recordings missing or malformed, a data set or encoding that no reader knows, a folder that cannot be written.
    """
    reader = READERS.get(data.dataset)
    if reader is None:
        raise InputError(f"data.dataset: expected one of {', '.join(READERS)}, found {data.dataset!r}")
    check_settings(data)
    cache_root = Path(cache_root)
    try:
        cache_root.mkdir(parents=True, exist_ok=True)
        remove_stale(cache_root)
        source = _find(data.dataset, raw, cache_root, strict, seed, say)
        if not partition.drawn(data.partition):
            return _up_to_date(reader, source, data, cache_root, say, needed)
        whole = dataclasses.replace(data, partition="official")
        official = _up_to_date(reader, source, whole, cache_root, say, partition.drawn_from(data.partition, needed))
        return _up_to_date(reader, source, data, cache_root, say, needed, open_cache(official))
    except BrokenPipeError:  # whoever read our output went away: no fault of the data
        raise
    except OSError as error:
        raise InputError(f"data set {data.dataset}: {error}") from error


def _find(dataset: str, raw: Path | None, cache_root: Path, strict: bool, seed: int, say) -> Source:
    reader, default = READERS[dataset], places.raw(dataset)
    fetch = command(f"download {dataset}", f"download DATA={dataset}")
    if raw is not None:
        raw = Path(raw)
        if not raw.exists():
            raise InputError(f"{raw}: no such file or folder; give the recordings of {dataset} with RAW=<path> (--raw)")
    elif dataset == synthetic.DATASET and not (default / reader.FILE_NAME).is_file():
        real = default / reader.FILE_NAME
        if strict:
            raise InputError(
                f"{real}: no such file; put N-TIDIGITS18 there ({fetch}), or leave out "
                f"{option('strict')}, which forbids the synthetic stand-in"
            )
        say(
            f"*** NO N-TIDIGITS RECORDINGS: USING A SYNTHETIC STAND-IN; its results are not N-TIDIGITS results. Put "
            f"the real file at {real} or give {option('raw')}; {option('strict')} forbids the stand-in. ***"
        )
        raw = synthetic.stand_in(cache_root, seed)
    elif not default.exists():
        raise InputError(
            f"{default}: no such folder; put the recordings of {dataset} there (`{fetch}` does it or says "
            f"how) or give {option('raw')}"
        )
    source = reader.find(raw or default)
    if strict and source.provenance != "real":
        raise InputError(
            f"{source.root}: a {source.provenance}, which {option('strict')} forbids; give the recordings"
        )
    return source


def _constants(reader, data) -> dict[str, Any]:
    return reader.settings(data) if hasattr(reader, "settings") else {"step_ms": reader.STEP_MS}


def _up_to_date(reader, source: Source, data, cache_root: Path, say, needed: tuple[str, ...],
                official: Dataset | None = None) -> Path:
    class_names = tuple(source.class_names or reader.CLASS_NAMES)
    settings = {name: getattr(data, name) for name in ("encoding", "value", "steps", "partition")}
    meta = Meta(
        dataset=data.dataset,
        fingerprint=fingerprint(source),
        encoding=settings | {"layout": source.layout} | _constants(reader, data),
        steps=data.steps,
        channels=reader.CHANNELS,
        classes=len(class_names),
        class_names=class_names,
        provenance=source.provenance,
        notes=Counter(),
    )
    path = cache_path(cache_root, meta)
    cache, reason = _there(path, meta)
    if cache is None:
        say(f"{path}: building ({reason}) from {source.root}")
        samples = (reader.samples(source, data, meta.notes) if official is None
                   else partition.samples(official, data.partition))
        _build(path, meta, samples, source, data, needed)
        cache = open_cache(path)
    _need(needed, {split: len(getattr(cache, split) or ()) for split in SPLITS}, source, data)
    for line in cache.summary().splitlines():
        say(line)
    return path


def cache_path(folder: Path, meta: Meta) -> Path:
    """The file of a cache: its name carries a checksum of everything that its events depend on."""
    key = json.dumps([SCHEMA, meta.fingerprint, meta.encoding], sort_keys=True)
    return folder / f"{meta.dataset}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.h5"


def _there(path: Path, meta: Meta) -> tuple[Dataset | None, str]:
    """The cache at `path` if it is sound and what `meta` asks for, else None and why it must be built."""
    if not path.exists():
        return None, "no cache yet"
    compared = ("dataset", "fingerprint", "encoding", "steps", "channels", "classes", "class_names", "provenance")
    try:
        cache = verify_cache(path)
    except InputError as error:
        return None, f"not usable: {error}"
    differs = [name for name in compared if getattr(cache.meta, name) != getattr(meta, name)]
    return (None, f"another {', '.join(differs)}") if differs else (cache, "")


def _need(needed: tuple[str, ...], counts, source: Source, data) -> None:
    for split in needed:
        if not counts[split]:
            raise InputError(f"{source.root}: no {split} sample of {data.dataset} in it; is the data set complete?")


def _build(path: Path, meta: Meta, samples, source: Source, data, needed: tuple[str, ...]) -> None:
    counts = Counter()
    with CacheWriter(path, meta) as cache:
        total = source.samples or (len(source.files) if len(source.files) > 1 else None)
        for split, *sample in progress(samples, f"reading {data.dataset}", "sample", total):
            cache.add(split, *sample)
            counts[split] += 1
        _need(needed, counts, source, data)
