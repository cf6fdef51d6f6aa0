"""Files as nobody should write them: a generator that knows types. mutated.py gives them to the commands."""

import contextlib
import copy
import hashlib
import io
import json
import os
import sys

import h5py
import numpy as np

# ---- values ----------------------------------------------------------------------------------------------------


def nested(depth, leaf=0):
    value = leaf
    for n in range(depth):
        value = {"a": value} if n % 2 else [value]
    return value


class Raw(str):
    """Text that stands in JSON as it is."""


VALUES = (None, True, False, 0, -1, 1, 2, 7, 2**31, 2**53, 2**63, -2**63, Raw("1" + "0" * 400), Raw("9" * 5000), 1e308,
          -1e-300, 0.5, Raw("1e999"), Raw("NaN"), Raw("-Infinity"), "", "x", "real", "\x1b[2J\x1b]0;owned\x07", "a\nb",
          "\udc80", Raw('"\\ud800"'), "\u202e", "x" * 100_000, "../../etc/passwd", "a\0b", [], [None], [[]], [0] * 1000,
          {}, {"": 0}, {"\x1b[31m": 1}, nested(600), Raw("[" * 100_000 + "]" * 100_000), Raw('{"a":' * 5000 + "1" +
          "}" * 5000))


def some_value(rng):
    return copy.deepcopy(rng.choice(VALUES))


@contextlib.contextmanager
def deep():
    """Let Python recurse as deep as our values are."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def places(value, path=()):
    """Paths of everything in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for n in range(min(len(value), 8)):
            yield from places(value[n], (*path, n))


def mutated_value(value, rng):
    """A JSON value in which one to three things are something else."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        everywhere = list(places(value))
        path = rng.choice(everywhere)
        if not path:
            if rng.random() < 0.1:
                value = some_value(rng)
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if not isinstance(parent, (dict, list)):
            continue
        deed = rng.choice(("set", "set", "set", "set", "delete", "copy", "add"))
        if deed == "set":
            parent[path[-1]] = some_value(rng)
        elif deed == "delete":
            del parent[path[-1]]
        elif deed == "copy":
            other = value
            for key in rng.choice(everywhere):
                try:
                    other = other[key]
                except (KeyError, IndexError, TypeError):
                    break
            parent[path[-1]] = copy.deepcopy(other)
        elif isinstance(parent, dict):
            parent[rng.choice(("more", "", "\x1b[1m", "schema", "a.b", "x" * 1000))] = some_value(rng)
        else:
            parent.append(some_value(rng))
    return value


def text_of(value):
    """JSON with the raw texts in it, and surrogates as they come."""
    raws = []

    def hidden(x):
        if isinstance(x, Raw):
            raws.append(x)
            return f"@raw{len(raws) - 1}@"
        if isinstance(x, dict):
            return {key: hidden(y) for key, y in x.items()}
        return [hidden(y) for y in x] if isinstance(x, list) else x

    text = json.dumps(hidden(value))
    for n, raw in enumerate(raws):
        text = text.replace(f'"@raw{n}@"', raw)
    return text.encode()


def damaged_bytes(data, rng):
    """Bytes with a damage that knows nothing of what they mean."""
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 2, 8, 64, 512))
    return rng.choice((
        data[:at], data[:at] + data[at + size:], data[:at] + rng.randbytes(size) + data[at:],
        data[:at] + bytes(size) + data[at + size:], data[:at] + b"\xff" * size + data[at + size:],
        data[:at] + rng.randbytes(1) + data[at + 1:], b"", b"\0" * 4096, b"\xef\xbb\xbf" + data,
        data.replace(b"\n", b"\r\n"), data.replace(b",", b",,", 1), data + data, rng.randbytes(3000)))


# ---- what stands where a file should ---------------------------------------------------------------------------


def replace_file(path, foreign, rng):
    """Put something else where a file was; returns a name for it."""
    kind = rng.choice(("pipe", "folder", "link", "dangling", "loop", "zero", "tty", "holes", "socket", "odd name"))
    data = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        foreign.write_bytes(data)  # a sound file, but not one of ours
        path.symlink_to(foreign)
    elif kind == "dangling":
        path.symlink_to(path.with_name("nowhere"))
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "tty":
        path.symlink_to("/dev/tty")
    elif kind == "holes":
        path.write_bytes(data)
        os.truncate(path, 1 << 40)
    elif kind == "socket":
        import socket
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as end:  # a path may be too long for one
            end.bind(str(path))
    else:
        path.symlink_to("a\udc80b")
    return kind


# ---- HDF5 ------------------------------------------------------------------------------------------------------


def hdf5_names(file):
    names = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def mutate_hdf5(file, rng, foreign):
    """Change an open file; returns what was done."""
    name = rng.choice(hdf5_names(file))
    old = file[name]
    array, about = old[()], dict(old.attrs)
    deed = rng.choice(sorted(_HDF5))
    if deed.startswith("attribute"):
        item = rng.choice([file, old])
        _HDF5[deed](item, rng)
        return f"{deed} of {item.name}"
    del file[name]
    made = _HDF5[deed](file, name, array, rng, foreign)
    if isinstance(made, h5py.Dataset):
        for key, value in about.items():
            made.attrs[key] = value
        if rng.random() < 0.7 and made.size and made.size < 1 << 20 and not made.is_virtual and not made.external:
            with contextlib.suppress(Exception):
                made.attrs["sha256"] = np.bytes_(hashlib.sha256(np.ascontiguousarray(made[()]).tobytes()).hexdigest())
    return f"{deed} of {name}"


def _early(file, name, shape, dtype):
    """Claimed, and neither stored nor filled."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    parent = file.require_group(os.path.dirname(name) or "/")
    return h5py.Dataset(h5py.h5d.create(parent.id, os.path.basename(name).encode(), h5py.h5t.py_create(np.dtype(dtype)),
                                        h5py.h5s.create_simple(shape), layout))


def _external(file, name, array, rng, foreign):
    foreign.write_bytes(np.ascontiguousarray(array).tobytes())
    return file.create_dataset(name, shape=array.shape or (1,), dtype=array.dtype,
                               external=[(str(foreign), 0, h5py.h5f.UNLIMITED)])


def _virtual(file, name, array, rng, foreign):
    with h5py.File(foreign, "w") as other:
        other["x"] = array
    shape = array.shape or (1,)
    layout = h5py.VirtualLayout(shape, array.dtype)
    if array.size:
        layout[:] = h5py.VirtualSource(str(foreign), "x", shape)
    return file.create_virtual_dataset(name, layout)


def _external_link(file, name, array, rng, foreign):
    with h5py.File(foreign, "w") as other:
        other["x"] = array
    file[name] = h5py.ExternalLink(str(foreign), "/x")


def _soft_link(file, name, array, rng, foreign):
    if rng.random() < 0.5:
        _external_link(file, "elsewhere", array, rng, foreign)
        file[name] = h5py.SoftLink("/elsewhere")
    else:
        file["aside"] = array
        file[name] = h5py.SoftLink("/aside")


def _numbers(change):
    def made(file, name, array, rng, foreign):
        return file.create_dataset(name, data=change(array, rng))
    return made


def _poisoned(array, rng):
    if array.dtype.kind != "f":
        return array.astype("f4") * np.nan
    array = array.copy()
    array.reshape(-1)[rng.randrange(array.size) if array.size and rng.random() < 0.5 else slice(None)] = rng.choice(
        (np.nan, np.inf, -np.inf))
    return array


def _attribute(change):
    def made(item, rng):
        keys = list(item.attrs)
        if keys:
            change(item, rng.choice(keys), rng)
    return made


def _described(item, key, rng):
    """A description in JSON with one thing changed and its checksum made right."""
    text = item.attrs[key]
    try:
        value = json.loads(text)
    except (ValueError, TypeError):
        item.attrs[key] = np.bytes_(str(text)[::-1].encode("utf-8", "replace")[:1000])
        return
    new = text_of(mutated_value(value, rng))
    if len(new) < 60_000:
        item.attrs[key] = np.bytes_(new)
        if f"{key}_sha256" in item.attrs:
            item.attrs[f"{key}_sha256"] = np.bytes_(hashlib.sha256(new).hexdigest())


_HDF5 = {
    "removed": lambda file, name, array, rng, foreign: None,
    "not finite": _numbers(_poisoned),
    "another dtype": _numbers(lambda array, rng: array.astype(rng.choice(("f2", "f8", ">f4", "i8", "u1", "c8", "?")))
                              if array.dtype.kind in "fiu" else np.arange(array.size)),
    "another shape": _numbers(lambda array, rng: rng.choice((
        array.reshape(-1), array[None], np.append(array, array.reshape(-1)[:1]), array.reshape(-1)[:-1],
        array.reshape(-1)[:0], array.reshape(-1)[:, None])) if array.dtype.kind in "fiu" else array[:0]),
    "extreme": _numbers(lambda array, rng: np.full_like(array, np.iinfo(array.dtype).max if array.dtype.kind in "iu"
                                                        else 1e38) if array.dtype.kind in "fiu" else array[::-1]),
    "negative": _numbers(lambda array, rng: -array if array.dtype.kind in "if" else array),
    "shuffled": _numbers(lambda array, rng: array[::-1]),
    "huge claim": lambda file, name, array, rng, foreign: _early(
        file, name, (rng.choice((1 << 31, 1 << 40, 1 << 60)),), array.dtype),
    "huge entry": lambda file, name, array, rng, foreign: _early(file, name, array.shape or (1,), "S2000000000"),
    "huge chunks": lambda file, name, array, rng, foreign: file.create_dataset(
        name, (1 << 40,), array.dtype, chunks=(1 << 20,), compression="gzip"),
    "one chunk of many": lambda file, name, array, rng, foreign: file.create_dataset(
        name, (max(8, array.size),), "f4", chunks=(4,), fillvalue=np.nan),
    "chunked": lambda file, name, array, rng, foreign: file.create_dataset(
        name, data=array.reshape(-1), chunks=True if array.size else None, maxshape=(None,) if array.size else None),
    "bomb": lambda file, name, array, rng, foreign: file.create_dataset(
        name, data=np.zeros(1 << 22, array.dtype if array.dtype.kind in "fiu" else "u1"), compression="gzip"),
    "text": lambda file, name, array, rng, foreign: file.create_dataset(
        name, data=["\x1b[2J"] * max(1, array.size % 50), dtype=h5py.string_dtype()),
    "lists": lambda file, name, array, rng, foreign: file.create_dataset(name, (3,), h5py.vlen_dtype("f4")),
    "records": lambda file, name, array, rng, foreign: file.create_dataset(name, data=np.zeros(3, "f4,i4")),
    "references": lambda file, name, array, rng, foreign: file.create_dataset(name, (3,), h5py.ref_dtype),
    "nothing": lambda file, name, array, rng, foreign: file.create_dataset(name, data=h5py.Empty("f4")),
    "a number": lambda file, name, array, rng, foreign: file.create_dataset(name, data=np.float32(1)),
    "a group": lambda file, name, array, rng, foreign: file.create_group(name),
    "a group that is itself": lambda file, name, array, rng, foreign: file.__setitem__(name, file["/"]),
    "a type": lambda file, name, array, rng, foreign: file.__setitem__(name, np.dtype("f4")),
    "external": _external, "virtual": _virtual, "external link": _external_link, "soft link": _soft_link,
    "more": lambda file, name, array, rng, foreign: [file.create_dataset(n, data=array) for n in (name, name + "x")][0],
    "attribute removed": _attribute(lambda item, key, rng: item.attrs.__delitem__(key)),
    "attribute number": _attribute(lambda item, key, rng: item.attrs.create(key, rng.choice((
        -1, 0, 2**62, 3, 1.5)))),
    "attribute array": _attribute(lambda item, key, rng: item.attrs.create(key, np.zeros(rng.choice((0, 3, 1000))))),
    "attribute text": _attribute(lambda item, key, rng: item.attrs.create(key, rng.choice((
        "\x1b[2J", "", "x" * 30_000, "[]", "{}", "null")))),
    "attribute bytes": _attribute(lambda item, key, rng: item.attrs.create(key, np.bytes_(rng.choice((
        b"\x1b[2J", b"\xff\xfe", b"x" * 30_000, b"[]", b"null", b"{}", b"[" * 20_000))))),
    "attribute object": _attribute(lambda item, key, rng: item.attrs.create(key, h5py.Empty("f4"))),
    "attribute described": _attribute(_described),
}


# ---- one mutation of one file ----------------------------------------------------------------------------------


def mutate(path, rng, foreign):
    """Change a file; returns what was done and whether its checksums are as they were."""
    with deep():
        return _mutated(path, rng, foreign)


def _mutated(path, rng, foreign):
    if rng.random() < 0.12:
        return replace_file(path, foreign, rng), True
    data = path.read_bytes()
    if rng.random() < 0.2:
        path.write_bytes(damaged_bytes(data, rng))
        return "bytes", True
    if path.suffix == ".h5":
        return _mutated_hdf5(path, data, rng, foreign), False
    if path.suffix == ".jsonl":
        lines = data.splitlines()
        n = rng.randrange(len(lines))
        deed = rng.choice(("value", "value", "value", "swap", "copy", "drop", "join"))
        if deed == "value":
            lines[n] = text_of(mutated_value(json.loads(lines[n]), rng))
        elif deed == "swap":
            lines = lines[::-1]
        elif deed == "copy":
            lines *= 2
        elif deed == "drop":
            del lines[n]
        path.write_bytes((b"" if deed == "join" else b"\n").join(lines) + b"\n")
        return deed, False
    value = mutated_value(json.loads(data), rng)
    if isinstance(value, dict) and "sha256" in value and rng.random() < 0.7:
        with contextlib.suppress(Exception):
            value["sha256"] = hashlib.sha256(json.dumps(value["layers"]).encode()).hexdigest()
    path.write_bytes(text_of(value))
    return "value", False


def _mutated_hdf5(path, data, rng, foreign):
    signed = hashlib.sha256(data[:-32]).digest() == data[-32:]
    image = io.BytesIO(data[:-32] if signed else data)
    with h5py.File(image, "r+") as file:
        done = mutate_hdf5(file, rng, foreign)
    data = image.getvalue()
    path.write_bytes(data + hashlib.sha256(data).digest() if signed else data)
    return done
