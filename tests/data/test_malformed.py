"""Random malformed events and files: every one is refused by an InputError of one line, or means what it says.

An input is sound but for one or two changes of a random kind. Whoever takes it must come to the same events as a slow
rule that knows nothing of ours, or refuse it. Anything else that is raised fails the test, and so does silence about
what is out of range.
"""

import h5py
import numpy as np
import pytest

from hrmas_sparse.data.cache import verify_cache
from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.events import Events
from hrmas_sparse.storage.errors import InputError
from spike_files import shd_file

STEPS, CHANNELS = 7, 5
WRONG = (-1, -(2**40), 255, 256, 65535, 65536, 2**31, 2**40, np.nan, np.inf, -np.inf, 0.5, 1e300, 1e-300)
DTYPES = (bool, np.int8, np.uint8, np.int16, np.uint16, np.int64, np.uint64, np.float16, np.float32, np.float64,
          np.complex64, object, "U3", "S3", "M8[s]")


def flat(rng):
    count, samples = int(rng.integers(0, 12)), int(rng.integers(1, 5))
    return {"sample": rng.integers(0, samples, count), "step": rng.integers(0, STEPS, count),
            "channel": rng.integers(0, CHANNELS, count), "labels": np.arange(samples) % 2,
            "value": [None, rng.integers(1, 9, count), rng.random(count) + 0.1][rng.integers(3)]}


def spoilt(rng, array):
    """An array with something wrong, or another dtype, or nothing at all."""
    with np.errstate(all="ignore"):
        try:
            kind = rng.integers(6)
            if kind == 0 and array.size:
                wrong = WRONG[rng.integers(len(WRONG))]
                array = array.astype(np.float64 if isinstance(wrong, float) else np.int64)
                array[rng.integers(array.size)] = wrong
            elif kind == 1:
                array = array.astype(DTYPES[rng.integers(len(DTYPES))])
            elif kind == 2:
                array = array[: rng.integers(0, array.size + 1)]
            elif kind == 3:
                array = np.concatenate([array, array[:1], array[:1]])
            elif kind == 4:
                array = array.reshape(-1, 1) if rng.integers(2) else np.array(array.sum())
            elif kind == 5:
                array = rng.permutation(array)
        except (ValueError, OverflowError, TypeError):  # NumPy's own opinion about such a dtype
            pass
    return array


def plain(given):
    """What flat arrays mean, by a slow rule; None if they mean nothing."""
    sample, step, channel, labels, value = (given[name] for name in ("sample", "step", "channel", "labels", "value"))
    try:
        arrays = [np.asarray(x).tolist() for x in (sample, step, channel)]
        numbers = [1] * len(arrays[0]) if value is None else np.asarray(value).tolist()
        ranges = (len(np.asarray(labels).tolist()), STEPS, CHANNELS)
        if len({*map(len, arrays), len(numbers)}) > 1 or any(
                type(n) is not int or not 0 <= n < high for array, high in zip(arrays, ranges) for n in array):
            return None
        if any(type(n) is not int or n < 0 for n in np.asarray(labels).tolist()):
            return None
        if any(not (0 < n < np.inf) or (type(n) is int and n > 255) for n in numbers):
            return None
    except TypeError:
        return None
    found = np.zeros((len(np.asarray(labels)), STEPS, CHANNELS))
    for *place, number in zip(*arrays, numbers):
        found[tuple(place)] = 1 if value is None else found[tuple(place)] + number
    return found if np.asarray(value).dtype.kind == "f" else np.minimum(found, 255)


def refused(make):
    """The result, or None for an InputError of one line; nothing else may be raised."""
    try:
        return make()
    except InputError as error:
        text = str(error)
        assert text and "\n" not in text and "Traceback" not in text
        return None


def one_of_arrays(rng, folder):
    given = flat(rng)
    for name in rng.choice(list(given), rng.integers(1, 3), replace=False):
        if given[name] is not None:
            given[name] = spoilt(rng, given[name])
    wanted = plain(given)
    way = rng.integers(3)
    if way == 0:
        found = refused(lambda: Events.from_arrays(given.pop("sample"), given.pop("step"), given.pop("channel"),
                                                   given.pop("labels"), steps=STEPS, channels=CHANNELS, **given))
    elif way == 1:
        arrays = {name.replace("labels", "label"): x for name, x in given.items() if x is not None}
        np.savez(folder / "a.npz", **{name: np.asarray(x) for name, x in arrays.items()})
        data = refused(lambda: Dataset.from_npz(folder / "a.npz", steps=STEPS, channels=CHANNELS))
        found = None if data is None else data.train
    else:
        found = refused(lambda: Dataset(Events.from_arrays(given["sample"], given["step"], given["channel"],
                                                           given["labels"], steps=STEPS, channels=CHANNELS,
                                                           value=given["value"])))
        found = None if found is None else found.train
    if found is not None:
        assert wanted is not None, f"accepted in silence: {given}"
        np.testing.assert_allclose(found.dense(), wanted, rtol=1e-5)
        return "accepted"
    return "refused"


def one_of_fields(rng, folder):
    """Fields of Events themselves: what passes is in order and in range."""
    x = rng.random((int(rng.integers(1, 4)), STEPS, CHANNELS)) < 0.3
    fields = {name: value for name, value in vars(Events.from_dense(x, np.arange(len(x)))).items() if name != "notes"}
    for name in rng.choice([name for name in fields if name not in ("steps", "channels")], rng.integers(1, 3), False):
        fields[name] = spoilt(rng, fields[name])
    found = refused(lambda: Events(**fields))
    if found is None:
        return "refused"
    for n in range(len(found)):
        key = [found.step[k].item() * CHANNELS + found.channel[k].item() for k in range(*found.indptr[n:n + 2])]
        assert key == sorted(set(key)) and all(0 <= k < STEPS * CHANNELS for k in key)
    assert int(found.indptr[-1]) == len(found.step) == len(found.channel) == len(found.value)
    assert np.isfinite(found.value).all() and (found.value > 0).all() and (found.labels >= 0).all()
    return "accepted"


def one_of_files(rng, folder):
    """A file in the form of SHD, its bytes or its objects changed."""
    path, labels = folder / "a.h5", np.arange(6) % 2
    options = [{}, {"chunks": (3,)}, {"chunks": (3,), "compression": "gzip"}][rng.integers(3)]
    spikes = shd_file(path, labels, int(rng.integers(100)), CHANNELS, ["a", "b"], **options)
    kind = rng.integers(4)
    if kind == 0:
        content = bytearray(path.read_bytes())
        for _ in range(rng.integers(1, 9)):
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(content)
    elif kind == 1:
        path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])
    else:
        with h5py.File(path, "r+") as file:
            name = ("spikes/times", "spikes/units", "labels", "spikes", "extra/keys")[rng.integers(5)]
            change = rng.integers(5)
            if change == 0 or not isinstance(file[name], h5py.Dataset):
                del file[name]
            elif change == 1:
                del file[name]
                file[name] = spoilt(rng, labels.astype(np.float64)).astype(np.float64)
            elif change == 2:
                del file[name]
                file[name] = [h5py.SoftLink("/labels"), h5py.ExternalLink("other.h5", "/x")][rng.integers(2)]
            elif change == 3 and name == "labels":
                file[name][rng.integers(6)] = WRONG[rng.integers(8)]
            elif name.startswith("spikes/"):
                place = int(rng.integers(6))
                own = file[name][place]
                if len(own):
                    own[0] = -1
                    file[name][place] = own
    data = refused(lambda: Dataset.from_hdf5(path, steps=STEPS, step_ms=1000 / STEPS, channels=CHANNELS))
    if data is None:
        return "refused"
    assert data.train.dense().shape == (6, STEPS, CHANNELS)
    if kind in (0, 1):  # HDF5 has no checksums here: another number is another number
        return "accepted"
    wanted = sum(int((times.astype(float) < 1).sum()) for times, _ in spikes)  # half precision may round to 1 s
    assert data.train.dense().sum() == wanted and data.train.labels.tolist() == labels.tolist()
    return "accepted"


def one_of_caches(rng, folder):
    """A saved data set with changed bytes: refused, or every event as it was."""
    x = rng.random((8, STEPS, CHANNELS)) < 0.3
    path = Dataset(Events.from_dense(x, np.arange(8) % 2)).save(folder / "c.h5")
    content = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 5)):
        content[rng.integers(len(content))] = rng.integers(256)
    path.write_bytes(content[: rng.integers(len(content))] if rng.integers(4) == 0 else content)

    data = refused(lambda: verify_cache(path))
    path.unlink()
    if data is None:
        return "refused"
    np.testing.assert_array_equal(data.train.dense(), x)
    return "accepted"


KINDS = (one_of_arrays, one_of_fields, one_of_files, one_of_caches)


def tried(kind, seeds, folder):
    """How many were accepted and refused; a failure names its seed."""
    counts = {"accepted": 0, "refused": 0}
    for seed in seeds:
        try:
            counts[kind(np.random.default_rng([KINDS.index(kind), seed]), folder)] += 1
        except Exception as error:
            raise AssertionError(f"{kind.__name__}, seed {seed}: {type(error).__name__}: {error}") from error
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_malformed_inputs(kind, tmp_path):
    counts = tried(kind, range(60), tmp_path)
    assert counts["refused"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_malformed_inputs(kind, tmp_path):
    counts = tried(kind, range(500), tmp_path)
    print(f"{kind.__name__}: {counts['refused']} refused, {counts['accepted']} accepted and right, 0 others")
    assert sum(counts.values()) == 500
