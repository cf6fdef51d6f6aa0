"""The commands about data: build a spike cache, describe it, fetch recordings."""

from pathlib import Path

from hrmas_sparse.settings.load import datasets, load
from hrmas_sparse.storage.errors import InputError


def configured(options):
    """Return the settings that the options ask for, and where the recordings are: a file of spikes names both."""
    from data_prep import load as by_name
    settings = by_name.configured(options.dataset, options.preset, options.profile, options.set)
    return settings, options.raw or (options.dataset if by_name.is_file(options.dataset) else None)


def prepared(settings, raw, strict, say=print, needed=("train", "test")):
    """Return the up to date data of a configuration; one process at a time builds the cache."""
    from data_prep.load import prepared
    return prepared(settings, raw, strict, say, needed)


def download(options):
    return _fetched(options.dataset, options)


def _fetched(dataset, options):
    from data_prep.download import download
    download(load(dataset, overrides=options.set).data.dataset, options.raw)
    return 0


def _imported(options):
    """Make a data set of files of spikes: flat arrays (.npz), or HDF5 in the form of SHD."""
    from data_prep.load import STEP_MS, STEPS
    from hrmas_sparse.data.dataset import Dataset
    from hrmas_sparse.data.writer import is_cache
    if options.test is not None and len(options.target) == 1:
        options.target.append(str(options.test))
    elif options.test is not None or not 1 <= len(options.target) <= 2:
        raise InputError("data import: expected one file, or two: the training and the test part")
    if options.out is None or options.out.suffix != ".h5":
        raise InputError("data import: where to? For example --out own.h5")
    if options.out.exists() and is_cache(options.out) and not options.fresh:
        raise InputError(f"{options.out}: is there already; --fresh replaces it, or give another --out")
    kinds = {Path(path).suffix.lower() for path in options.target}
    if kinds == {".npz"}:
        imported = Dataset.from_npz(*options.target, steps=options.steps, channels=options.channels)
    elif kinds <= {".h5", ".hdf5"}:
        step_ms = STEP_MS if options.step_ms is None else options.step_ms
        imported = Dataset.from_hdf5(*options.target, steps=options.steps or STEPS, step_ms=step_ms,
                                     channels=options.channels)
    else:
        raise InputError(f"data import: expected .npz or .h5 files, found {', '.join(options.target)}")
    imported.save(options.out)
    print(f"{options.out}: {imported.summary()}")
    if imported.test is None:
        print(f"{options.out}: has no test part; in Python, data.split(test=0.2).save(...) makes one")
    return 0


def data(options):
    from data_prep.check import main as check
    from data_prep.load import is_file, saved
    from hrmas_sparse.data.cache import verify_cache
    if options.action == "check":
        if options.golden is None or options.target:
            raise InputError("data check: takes --golden DIR, the folder of golden .npz files, and nothing else")
        return check(options.golden)
    if not options.target and options.action != "import":
        raise InputError(f"data {options.action}: which data set? One of {', '.join(datasets())}, or a file")
    if options.action == "import":
        return _imported(options)
    if len(options.target) > 1:
        raise InputError(f"data {options.action}: expected one data set or file, found {len(options.target)}")
    options.dataset, = options.target
    if options.action == "download":
        return _fetched(options.dataset, options)
    if options.action != "build" and is_file(options.dataset):
        cache = saved(Path(options.dataset))
        verify_cache(cache.path)
    else:
        settings, raw = configured(options)
        cache = prepared(settings, raw, options.strict, (lambda line: None) if options.action == "info" else print)
    if options.action == "build":
        print(cache.path)
    if options.action == "verify":
        print(f"{cache.path}: sound")
    if options.action == "info":
        from data_prep.report import details, raster
        print("\n".join([str(cache.path), cache.summary(), *details(cache)]))
        if options.raster:
            raster(cache, options.raster)
            print(f"{options.raster}: one sample of each class")
    return 0
