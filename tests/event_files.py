"""Writers of event files, byte by byte from the formats' descriptions: they know nothing of the readers."""

import struct
from types import SimpleNamespace

import h5py
import numpy as np

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2015-11-26 12:00:00\r\n#!END-HEADER\r\n"
COLUMNS = "class,startTime_usec,endTime_usec"


def settings(dataset, **change):
    steps = {"nmnist": 100, "dvsgesture": 400, "ntidigits": 300}[dataset]
    fields = {"dataset": dataset, "encoding": "bin", "value": "binary", "steps": steps, "partition": "official"}
    return SimpleNamespace(**(fields | change))


# --- N-MNIST ---------------------------------------------------------------------------------------------------


def bin_bytes(events):
    """(x, y, p, t us) tuples -> 40-bit events, with a marker y = 240 wherever time passes 2^23 us."""
    out, ahead = bytearray(), 0
    for x, y, p, t in events:
        while t - ahead >= 1 << 23:
            out += bytes((0, 240, 0, 0, 0))
            ahead += 1 << 13
        t -= ahead
        out += bytes((x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255))
    return bytes(out)


def random_events(rng, n, side, until):
    times = np.sort(rng.integers(until, size=n))
    return [(int(rng.integers(side)), int(rng.integers(side)), int(rng.integers(2)), int(t)) for t in times]


def write_nmnist(root, samples=(("Train", 3, "00001"), ("Train", 7, "00002"), ("Test", 3, "00001")), seed=0, n=60):
    """{(part, digit, name): events}, each written to its file."""
    rng, written = np.random.default_rng(seed), {}
    for key in samples:
        part, digit, name = key
        written[key] = random_events(rng, n, 34, 310_000)
        path = root / part / str(digit) / f"{name}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bin_bytes(written[key]))
    return written


# --- DVS-Gesture -----------------------------------------------------------------------------------------------


def packet(kind, body, size, number, overflow=0, capacity=None, valid=None, offset=4):
    capacity = number if capacity is None else capacity
    valid = number if valid is None else valid
    return struct.pack("<HHIIIIII", kind, 1, size, offset, overflow, capacity, number, valid) + body


def polarity(events, spare=0):
    """A packet of (x, y, p, t us[, valid]) of one tsOverflow; `spare` events of capacity are left unused."""
    overflow = events[0][3] >> 31
    body = b""
    for x, y, p, t, *valid in events:
        assert t >> 31 == overflow
        body += struct.pack("<II", x << 17 | y << 2 | p << 1 | (valid[0] if valid else 1), t & 0x7FFFFFFF)
    count = sum(e[4] if len(e) > 4 else 1 for e in events)
    return packet(1, body + bytes(8 * spare), 8, len(events), overflow, len(events) + spare, count)


def special(t):
    return packet(0, struct.pack("<II", 3 << 1 | 1, t & 0x7FFFFFFF), 8, 1, t >> 31)


def imu6():
    return packet(3, bytes(72), 36, 2)


def aedat_bytes(events, per_packet=25, spare=0):
    """A recording: packets of at most `per_packet` events and one tsOverflow, with other packets in between."""
    out, at = HEADER + special(events[0][3]), 0
    while at < len(events):
        end = at + 1
        while end < min(at + per_packet, len(events)) and events[end][3] >> 31 == events[at][3] >> 31:
            end += 1
        out += polarity(events[at:end], spare) + (imu6() if at % 2 else b"")
        at = end
    return out


def labels_text(trials):
    return "\n".join([COLUMNS, *(",".join(map(str, trial)) for trial in trials)]) + "\n"


def write_recording(root, name, events, trials, **how):
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.aedat").write_bytes(aedat_bytes(events, **how))
    (root / f"{name}_labels.csv").write_text(labels_text(trials))


def write_lists(root, train, test):
    for name, recordings in (("trials_to_train.txt", train), ("trials_to_test.txt", test)):
        (root / name).write_text("".join(f"{r}.aedat\n" for r in recordings))


def gesture(rng, label, start, n, duration):
    """Events of a dot that circles at a place, in a direction and at a rate that tell the class."""
    t = np.sort(rng.integers(duration, size=n))
    angle = t / 1e6 * 2 * np.pi * (1 + label % 3) * (-1) ** label + rng.normal(0, 0.3, n)
    x = 64 + 25 * np.cos(np.pi * label / 5.5) + 25 * np.cos(angle) + rng.normal(0, 2, n)
    y = 64 + 25 * np.sin(np.pi * label / 5.5) + 25 * np.sin(angle) + rng.normal(0, 2, n)
    p = rng.integers(2, size=n)
    rows = zip(x.clip(0, 127).astype(int).tolist(), y.clip(0, 127).astype(int).tolist(), p.tolist(), t.tolist())
    return [(a, b, c, start + d) for a, b, c, d in rows]


def write_gestures(root, users, n=3000, duration=1_700_000, seed=0):
    """Recordings of all eleven classes for each user; users above 23 are the test set.  Lists, labels, `.aedat`."""
    rng, names = np.random.default_rng(seed), [f"user{user:02d}_led" for user in users]
    for name in names:
        events, trials, now = [], [], 5_000_000
        for label in rng.permutation(11).tolist():
            events += gesture(rng, label, now, n, duration)
            trials.append((label + 1, now, now + duration))
            now += duration + 100_000
        write_recording(root, name, events, trials, per_packet=1000)
    train = [name for name, user in zip(names, users) if user < 24]
    write_lists(root, train, [name for name in names if name not in train])


def write_npy(root, samples=(("Train", "user01_led", 0), ("Train", "user02_lab", 10), ("Test", "user24_led", 3)), n=50):
    """{key: (n, 4) array of x, y, p, t ms}"""
    rng, written = np.random.default_rng(1), {}
    for key in samples:
        part, recording, label = key
        array = np.array(random_events(rng, n, 128, 1700))
        path = root / f"ibmGesture{part}" / recording / f"{label}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
        written[key] = array
    return written


def dense(events, step_us, steps, shape, pool=1, start=0):
    """(steps, 2 * side * side) counts of (x, y, p, t) tuples, one by one."""
    side = shape // pool
    counts = np.zeros((steps, 2, side, side), int)
    for x, y, p, t in events:
        step = (t - start) // step_us
        if x < shape and y < shape and 0 <= step < steps:
            counts[step, p, y // pool, x // pool] += 1
    return counts.reshape(steps, -1)


def unpacked(events, index):
    """(steps, channels) values of sample `index` of a cache's split."""
    one = events[np.array([index])]
    out = np.zeros((events.steps, events.channels), int)
    out[one.step, one.channel] = one.value
    return out


# --- N-TIDIGITS ------------------------------------------------------------------------------------------------


def write_words(path, seed=0, train=2):
    """A few recordings in the format of N-TIDIGITS; ``train`` speakers say each word once."""
    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        for group, speakers in (("train", train), ("test", 1)):
            names = [f"{'man' if group == 'train' else 'woman'}-a{chr(97 + s)}-a-{digit}" for s in range(speakers)
                     for digit in "z123456789o"]
            for label, name in enumerate(names):
                file[f"{group}_addresses/{name}"] = ((label % 11) * 5 + rng.integers(0, 8, 80)).astype(np.uint8)
                file[f"{group}_timestamps/{name}"] = np.sort(rng.uniform(0, 0.15, 80))
            file[f"{group}_labels"] = np.array(names, dtype=np.bytes_)
