"""Small sound data sets in every form that people bring, one file of each to be changed, and what it means.

mutated.py changes that file and builds the data set. What is then in the cache must be what a slow reader finds that
knows nothing of ours (`plain`), or, where there is none, what was there before of every other recording (`own` says
which come from the changed file).
"""

import gzip
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import damages
import event_files
import h5py
import numpy as np
import sounds
from spike_files import shd_file

FOLDER, MADE = Path("raw"), Path("data/cache")     # of the recordings; of what is made of them
STEPS, STEP_MS, OWN_CHANNELS = 40, 10, 20
OPTIONS = ("--out", str(MADE / "own.h5"), "--steps", str(STEPS), "--channels", str(OWN_CHANNELS))


def build(name, steps=STEPS):
    return ("data", "build", name, "--raw", str(FOLDER), "--set", f"data.value=count data.steps={steps}")


class Raw(NamedTuple):
    """A form: what makes it and returns the file that is changed, the command that reads it, the damages it gets."""

    make: Callable[[], Path]
    words: tuple
    damages: tuple = damages.DAMAGES
    plain: Callable[[Path], dict] | None = None        # {(split, id): (label, {(step, channel): count})}
    own: Callable[[str], bool] = lambda id: True       # whether a recording comes from the file that is changed


# ---- speech ----------------------------------------------------------------------------------------------------


def _dat():
    rng, paths = np.random.default_rng(0), []
    for split, speaker in (("train", "f1"), ("test", "f2")):
        for number in (0, 3):
            paths.append(FOLDER / split / str(number) / f"{speaker}_u1_c{number}.dat")
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            paths[-1].write_text("\n".join(" ".join(f"{v:.7e}" for v in row) for row in rng.random((78, 3)) * 1e-3))
    return paths[1]


def _sound(make):
    return lambda: sounds.ti46(FOLDER, "ac", make=lambda x: make(x[:420]))[1]


SPOKEN = (damages.lying_header, damages.lying_header, damages.flip_header, damages.other_format)
TEXT = (damages.other_word, damages.other_word, damages.other_lines)


# ---- events ----------------------------------------------------------------------------------------------------


def _nmnist():
    event_files.write_nmnist(FOLDER, n=40)
    return FOLDER / "Train/3/00001.bin"


def _plain_nmnist(path):
    """The changed file, an event at a time."""
    content, later, found = path.read_bytes(), 0, Counter()
    assert content and len(content) % 5 == 0
    for n in range(0, len(content), 5):
        x, y, bits = content[n], content[n + 1], int.from_bytes(content[n + 2:n + 5], "big")
        if y == 240:
            later += 1 << 13
        elif x < 34 and y < 34:
            found[((bits & 0x7FFFFF) + later) // 3000, ((bits >> 23) * 34 + y) * 34 + x] += 1
    return {("train", "3/00001"): (3, found)}


def _gesture():
    trials = [(3, 1_000_000, 1_500_000), (11, 1_600_000, 2_000_000)]
    for seed, name in enumerate(("user01_led", "user02_led", "user24_led")):
        events = event_files.random_events(np.random.default_rng(seed), 60, 128, 1_000_000)
        event_files.write_recording(FOLDER, name, [(x, y, p, 1_000_000 + t) for x, y, p, t in events], trials,
                                    per_packet=9)
    event_files.write_lists(FOLDER, ["user01_led", "user02_led"], ["user24_led"])
    return FOLDER / "user01_led.aedat"


def _of_gesture(name):
    return lambda: (_gesture(), FOLDER / name)[1]


def _npy():
    event_files.write_npy(FOLDER)
    return FOLDER / "ibmGestureTrain/user01_led/0.npy"


def _plain_npy(path):
    array, found = np.load(path), Counter()
    for x, y, p, time in array.tolist():
        assert 0 <= x < 128 and 0 <= y < 128 and p in (0, 1)
        found[(time - array[:, 3].min()) // 4, (int(p) * 32 + int(y) // 4) * 32 + int(x) // 4] += 1
    return {("train", "user01_led/0"): (0, found)}


# ---- HDF5, NumPy -----------------------------------------------------------------------------------------------


def _words():
    FOLDER.mkdir()
    rng = np.random.default_rng(0)
    with h5py.File(FOLDER / "n-tidigits.hdf5", "w") as file:
        for group, names in (("train", ("man-aa-a-3", "man-aa-b-z", "man-aa-a-12")), ("test", ("woman-bb-a-o",))):
            file[f"{group}_labels"] = np.array(names, dtype="S")
            for name in names:
                file[f"{group}_addresses/{name}"] = rng.integers(64, size=20)
                file[f"{group}_timestamps/{name}"] = np.sort(rng.uniform(0, 0.15, 20))
    return FOLDER / "n-tidigits.hdf5"


def _stepped(times, step_ms, channels, most):
    found = Counter()
    for time, channel in zip(times, channels, strict=True):
        assert 0 <= time < np.inf and 0 <= channel < most and channel == int(channel)
        found[int(np.floor(min(time, 1e9) * (1000 / step_ms) + 1e-6)), int(channel)] += 1
    return found


def _plain_words(path):
    found, digits = {}, "z123456789o"
    with h5py.File(path, "r") as file:
        for split in ("train", "test"):
            for name in file[f"{split}_labels"][()].reshape(-1):
                name = name.decode(errors="replace")
                spoken = name.split("-")[3]
                if len(spoken) == 1:
                    channels, times = (file[f"{split}_{part}/{name}"][()].reshape(-1).astype(float).tolist()
                                       for part in ("addresses", "timestamps"))
                    found[split, name] = digits.index(spoken), _stepped(times, 5, channels, 64)
    return found


def _heidelberg(name, packed=False):
    def make():
        FOLDER.mkdir()
        for seed, part in enumerate(("train", "test")):
            path = FOLDER / f"{name}_{part}.h5"
            shd_file(path, np.arange(5) % 3, seed, 700, ["a", "b", "c"], chunks=(3,))
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
                path.unlink()
        return FOLDER / f"{name}_train.h5{'.gz' if packed else ''}"
    return make


def _lists(dataset):
    """As h5py reads them, which forgets that the bytes of numbers in lists may be the other way round."""
    kind = h5py.check_vlen_dtype(dataset.dtype)
    return dataset[()] if kind is None else [one.view(kind) for one in dataset[()].reshape(-1)]


def _plain_spikes(path, channels=700):
    """A file in the form of SHD, plain or packed, by HDF5's own reader of lists."""
    found, packed = {}, path.suffix.lower() == ".gz"
    with gzip.open(path) if packed else open(path, "rb") as content, h5py.File(content, "r") as file:
        times, units = (_lists(file[f"spikes/{name}"]) for name in ("times", "units"))
        labels = file["labels"][()]
        assert len(times) == len(units) == len(labels)
        for n, (time, unit, label) in enumerate(zip(times, units, labels)):
            assert label == int(label)
            found["train", str(n)] = int(label), _stepped(time.astype(float).tolist(), STEP_MS, unit.tolist(), channels)
    return found


def _own_hdf5():
    FOLDER.mkdir()
    shd_file(FOLDER / "own.h5", np.arange(6) % 3, 0, OWN_CHANNELS)
    return FOLDER / "own.h5"


def _own_npz():
    FOLDER.mkdir()
    rng = np.random.default_rng(0)
    np.savez(FOLDER / "own.npz", sample=np.repeat(np.arange(6), 10), step=rng.integers(0, STEPS, 60),
             channel=rng.integers(0, OWN_CHANNELS, 60), label=np.arange(6) % 3, value=rng.integers(1, 5, 60),
             split=np.array(["train"] * 3 + ["test"] * 3))
    return FOLDER / "own.npz"


def _plain_npz(path):
    found, place = {}, Counter()
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    values = arrays.get("value", np.ones(len(arrays["step"]), int))
    labels, splits = arrays["label"].tolist(), arrays.get("split", np.array(["train"] * len(arrays["label"]))).tolist()
    for n, (label, split) in enumerate(zip(labels, splits, strict=True)):
        split = {0: "train", 1: "test"}.get(split, split)
        events = Counter()
        for sample, step, channel, value in zip(*(arrays[key].tolist() for key in ("sample", "step", "channel")),
                                                values.tolist(), strict=True):
            assert 0 <= sample < len(labels) and sample == int(sample) and 0 <= step < STEPS and value > 0
            if sample == n:
                events[step, channel] += value
        found[split, str(place[split])] = label, events
        place[split] += 1
    return found


RAWS = {
    "ti46 dat": Raw(_dat, build("ti46"), damages.DAMAGES + 2 * TEXT, own=lambda id: id == "f1_u1_c3"),
    "ti46 wav": Raw(_sound(sounds.riff), build("ti46"), damages.DAMAGES + 2 * SPOKEN,
                    own=lambda id: id.startswith("0af1set9")),
    "ti46 sphere": Raw(_sound(lambda x: sounds.sphere(x, length=320)), build("ti46"),
                       damages.DAMAGES + 2 * TEXT + SPOKEN[2:], own=lambda id: id.startswith("0af1set9")),
    "fsdd wav": Raw(lambda: sounds.fsdd(FOLDER, indices=(2, 5, 10), digits=(1, 2), samples=420)[1], build("fsdd"),
                    damages.DAMAGES + 2 * SPOKEN, own=lambda id: id == "1_ann_5"),
    "ntidigits hdf5": Raw(_words, build("ntidigits"), plain=_plain_words),
    "nmnist bin": Raw(_nmnist, build("nmnist", 100), plain=_plain_nmnist, own=lambda id: id == "3/00001"),
    "dvsgesture aedat": Raw(_gesture, build("dvsgesture", 100), own=lambda id: id.startswith("user01_led/")),
    "dvsgesture labels": Raw(_of_gesture("user01_led_labels.csv"), build("dvsgesture", 100),
                             damages.DAMAGES + 2 * TEXT, own=lambda id: id.startswith("user01_led/")),
    "dvsgesture list": Raw(_of_gesture("trials_to_train.txt"), build("dvsgesture", 100), damages.DAMAGES + 2 * TEXT,
                           own=lambda id: not id.startswith("user24_led/")),
    "dvsgesture npy": Raw(_npy, build("dvsgesture", 400), plain=_plain_npy, own=lambda id: id == "user01_led/0"),
    "shd hdf5": Raw(_heidelberg("shd"), build("shd"), plain=_plain_spikes),
    "shd gz": Raw(_heidelberg("shd", packed=True), build("shd"), plain=_plain_spikes),
    "ssc hdf5": Raw(_heidelberg("ssc"), build("ssc"), plain=_plain_spikes),
    "own hdf5": Raw(_own_hdf5, ("data", "import", str(FOLDER / "own.h5"), *OPTIONS, "--step-ms", str(STEP_MS)),
                    plain=lambda path: _plain_spikes(path, OWN_CHANNELS)),
    "own npz": Raw(_own_npz, ("data", "import", str(FOLDER / "own.npz"), *OPTIONS), plain=_plain_npz),
}


# ---- what came of it -------------------------------------------------------------------------------------------


def content():
    """Everything in the one data set that was made, {(split, id): (label, {(step, channel): count})}."""
    from hrmas_sparse.data.cache import verify_cache
    path, = MADE.glob("*.h5")
    data, found = verify_cache(path), {}
    for split in ("train", "test"):
        events = getattr(data, split)
        for n, id in enumerate(data.ids(split) if events is not None else ()):
            own = slice(*events.indptr[n:n + 2])
            steps = zip(events.step[own].tolist(), events.channel[own].tolist())
            found[split, str(id)] = int(events.labels[n]), dict(zip(steps, events.value[own].tolist()))
    return data.train.steps, found


def problem_with(kind, path, before, what):
    """What is wrong with a data set that was made of a changed file; empty if nothing."""
    raw, (steps, found) = RAWS[kind], content()
    for key, value in before.items():
        if not raw.own(key[1]) and found.get(key) != value:
            return f"another recording is changed: {key}"
    if raw.plain is None:
        return ""
    try:
        wanted = raw.plain(path if path.exists() else path.with_suffix(path.suffix.upper()))
    except Exception as error:
        return f"it was taken, but cannot be read: {error!r}"
    for key, (label, counts) in wanted.items():
        counts = {place: min(255, count) for place, count in counts.items() if place[0] < steps}
        if found.get(key) != (label, counts):
            return f"{key}: expected {label} {dict(sorted(counts.items())[:5])}, found {str(found.get(key))[:200]}"
    more = [key for key in found if raw.own(key[1]) and key[0] == "train" and key not in wanted]
    return f"there are more: {more}" if more and what != "twice" and not re.match("left behind", what) else ""
