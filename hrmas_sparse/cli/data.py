"""The commands about data: build a spike cache, describe it, fetch recordings."""

import contextlib
import os
from pathlib import Path

from hrmas_sparse import places
from hrmas_sparse.settings.load import datasets, load
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import locked


def prepared(settings, raw, strict, say=print, needed=("train", "test")):
    """Return the up to date data of a configuration; one process at a time builds the cache."""
    from data_prep import prepare
    from hrmas_sparse.data.cache import open_cache, verify_cache
    cache = places.cache()
    with locked(cache / "lock", str(cache), wait=True) if _writable(cache) else contextlib.nullcontext():
        path = prepare(settings.data, raw, cache, strict=strict, say=say, needed=needed)
    verify_cache(path)
    return open_cache(path)


def _writable(folder):
    """Whether a folder can be written to, or could if it were made."""
    while not folder.exists():
        folder = folder.absolute().parent
    return os.access(folder, os.W_OK)


def download(options):
    return _fetched(options.dataset, options)


def _fetched(dataset, options):
    from data_prep.download import download
    download(load(dataset, overrides=options.set).data.dataset, options.raw)
    return 0


def data(options):
    from data_prep.check import main as check
    from hrmas_sparse.data.cache import open_cache, verify_cache
    if options.action == "check":
        if options.golden is None or options.target is not None:
            raise InputError("data check: takes --golden DIR, the folder of golden .npz files, and nothing else")
        return check(options.golden)
    if options.target is None:
        raise InputError(f"data {options.action}: which data set? One of {', '.join(datasets())}, or a file")
    if options.action == "download":
        return _fetched(options.target, options)
    if Path(options.target).suffix in (".h5", ".hdf5"):
        if options.action == "build":
            raise InputError(f"{options.target}: is a cache already; give a data set or a settings file")
        cache = open_cache(options.target)
    else:
        settings = load(options.target, options.preset, options.profile, options.set)
        say = print if options.action == "build" else lambda line: None
        cache = prepared(settings, options.raw, options.strict, say)
    if options.action == "build":
        print(cache.path)
    if options.action == "verify":
        verify_cache(cache.path)
        print(f"{cache.path}: sound")
    if options.action == "info":
        from data_prep.report import details, raster
        print("\n".join([str(cache.path), cache.summary(), *details(cache)]))
        if options.raster:
            raster(cache, options.raster)
            print(f"{options.raster}: one sample of each class")
    return 0
