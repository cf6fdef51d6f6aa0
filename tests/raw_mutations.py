"""Files of recordings as nobody should write them: a generator that knows their forms; see raws.py and mutations.py."""

import functools
import gzip
import io
import random
import shutil
import warnings
import zipfile
from pathlib import Path

import h5py
import mutations
import numpy as np
from raws import FOLDER, RAWS

# ---- around a file ---------------------------------------------------------------------------------------------

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234\n"
LEFT_BEHIND = (".DS_Store", "Thumbs.db", "._{name}", "{name}~", ".{name}.swp", "Copy of {name}", "{stem} (1){suffix}",
               "\x1b[2J{suffix}", "a\nb{suffix}", "a\udc80b{suffix}", "{name}.part", "x" * 240 + "{suffix}")
BEGINNINGS = (b"\x89HDF\r\n\x1a\n", b"PK\3\4", b"\x1f\x8b\x08", b"RIFF", b"NIST_1A\n", b"#!AER-DAT3", b"\x93NUMPY\1\0",
              b"<!DOCTYPE html>", b"{}", b"BZh9", b"\xfd7zXZ\0", b"\xef\xbb\xbf")


def around(path: Path, rng: random.Random, foreign: Path) -> str:
    """Change what a file is called, where it lies, or what lies beside it."""
    deed = rng.choice(("pointer", "capitals", "left behind", "left behind", "folder beside", "pipe beside",
                       "no folder", "linked folder", "of another form", "twice"))
    if deed == "pointer":
        path.write_bytes(POINTER)
    elif deed == "capitals":
        path.rename(path.with_suffix(path.suffix.upper()))
    elif deed == "left behind":
        name = rng.choice(LEFT_BEHIND).format(name=path.name, stem=path.stem, suffix=path.suffix)
        path.with_name(name).write_bytes(rng.choice((b"", b"x", path.read_bytes())))
    elif deed == "folder beside":
        path.with_name("a" + path.suffix).mkdir()
    elif deed == "pipe beside":
        path.with_name("a" + path.name).write_bytes(path.read_bytes())
        mutations.replace_file(path.with_name("a" + path.name), foreign, rng)
    elif deed == "no folder":
        shutil.rmtree(FOLDER)
        rng.choice((FOLDER.touch, FOLDER.mkdir, lambda: FOLDER.symlink_to("nowhere")))()
    elif deed == "linked folder":
        shutil.move(FOLDER, "aside")
        FOLDER.symlink_to("aside")
    elif deed == "of another form":
        path.write_bytes(rng.choice(BEGINNINGS) + rng.randbytes(rng.choice((0, 3, 3000))))
    else:
        path.with_name("a" + path.name).write_bytes(path.read_bytes())
    return deed


# ---- NumPy's files ---------------------------------------------------------------------------------------------


def heading(fields: str, version: bytes = b"\1\0") -> bytes:
    """The first bytes of a .npy, whatever its fields say."""
    text = fields.encode().ljust(53) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text


DTYPES = ("<f2", "<f4", "<f8", ">f8", "<i8", "<i2", ">i4", "|u1", "<u8", "|b1", "<c16", "|O", "|S5", "<U5", "<M8[s]",
          "|V8", "i4,f4", "<f16", "x", "|S2000000000", "<U536870911")
SHAPES = ("()", "(0,)", "(1,)", "(60,)", "(6,)", "(50, 4)", "(4, 50)", "(200,)", "(-1,)", "(1 << 40,)", "(2**62, 4)",
          "(1099511627776, 4)", "(9999999999999999999999,)", "(True,)", "(1.5,)", "'x'", "[60]", "(1, 1, 1)",
          "(0, 4)", "(2**33, 0)", "(" * 200)


def npy_of(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def mutated_npy(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A .npy with a heading that lies, or with other numbers."""
    array = np.load(io.BytesIO(data))
    deed = rng.choice(("heading", "heading", "version", "number", "dtype", "shape", "object", "more"))
    if deed == "heading":
        body = data[-array.nbytes:] if array.nbytes else b""
        fields = {"descr": repr(array.dtype.str), "fortran_order": "False", "shape": str(array.shape)}
        fields[key] = rng.choice({"descr": [repr(x) for x in DTYPES] + ["[('a', '<f4')]", "None"],
                                  "fortran_order": ["True", "None", "1"], "shape": SHAPES}[
                                      key := rng.choice(("descr", "shape", "shape", "fortran_order"))])
        if rng.random() < 0.1:
            del fields[key]
        data = heading("{" + ", ".join(f"'{key}': {value}" for key, value in fields.items()) + "}") + body
    elif deed == "version":
        data = data[:6] + rng.choice((b"\0\0", b"\1\1", b"\2\0", b"\3\0", b"\xff\xff")) + data[8:]
    elif deed == "number" and array.size and array.dtype.kind in "iuf":
        array = array.astype(rng.choice((np.float64, np.int64)))
        wrong = (-1, 0, 255, 256, 65535, 65536, 2**31, 2**40, 2**62, np.nan, np.inf, -np.inf, 0.5, 1e300, 1e-300)
        with np.errstate(all="ignore"):
            array.reshape(-1)[rng.randrange(array.size)] = np.float64(rng.choice(wrong)).astype(array.dtype)
        data = npy_of(array)
    elif deed == "dtype" and array.dtype.kind in "iuf":
        with np.errstate(all="ignore"):
            data = npy_of(array.astype(rng.choice(("f2", "f4", ">f8", "i1", "u1", "i2", ">i4", "u8", "?", "c16", "U9",
                                                   "S9", "O"))))
    elif deed == "shape":
        data = npy_of(rng.choice((array[:0], array[:-1], array[None], array.reshape(-1), array.reshape(-1, 1),
                                  array[::-1], array.T, np.concatenate([array, array]), np.asfortranarray(array),
                                  array.reshape(-1)[0])))
    elif deed == "object":
        data = npy_of(np.array([print, {}], dtype=object))
    elif deed == "more":
        data += rng.randbytes(8)
    return f"npy {deed}", data


def mutated_npz(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A .npz with an array changed, gone, twice, packed otherwise, or beside what does not belong there."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(sorted(members))
    deed = rng.choice(("array", "array", "array", "array", "removed", "renamed", "twice", "another", "bomb", "packed",
                       "encrypted", "size"))
    more, packing = [], zipfile.ZIP_STORED
    if deed == "array":
        deed, members[name] = mutated_npy(members[name], rng)
    elif deed == "removed":
        del members[name]
    elif deed == "renamed":
        new = rng.choice((name.upper(), "../" + name, "/" + name, "x.npy", name[:-4], "a\\b.npy"))
        members[new] = members.pop(name)
    elif deed == "twice":
        more = [(name, rng.choice((members[name], b"", npy_of(np.zeros(3)))))]
    elif deed == "another":
        more = [(rng.choice(("x.npy", "x.txt", "value.npy", "x/", "__MACOSX/._x.npy")), rng.choice((b"", b"x")))]
    elif deed == "bomb":
        members[name], packing = npy_of(np.zeros(1 << 24, np.int8)), zipfile.ZIP_DEFLATED
    elif deed == "packed":
        packing = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", packing) as archive:
        warnings.simplefilter("ignore")
        for key, value in [*members.items(), *more]:
            archive.writestr(key, value)
    data = bytearray(out.getvalue())
    if deed in ("encrypted", "size"):  # in the list of contents: a bit that says encrypted; a size that is a lie
        at = data.index(b"PK\1\2")
        if deed == "encrypted":
            data[at + 8] |= 1
        else:
            data[at + 24:at + 28] = rng.choice((b"\0" * 4, b"\xff\xff\xff\x7f", b"\xff" * 4, b"\1\0\0\0"))
    return f"npz {deed}", bytes(data)


# ---- HDF5 ------------------------------------------------------------------------------------------------------


def changed_lists(file: h5py.File, rng: random.Random) -> str:
    """One list of numbers, or a data set of them, made something else."""
    name = rng.choice([name for name in mutations.hdf5_names(file) if h5py.check_vlen_dtype(file[name].dtype)])
    lists = list(file[name][()])
    kind, n = lists[0].dtype, rng.randrange(len(lists))
    deed = rng.choice(("number", "number", "shorter", "longer", "dtype", "fewer", "more", "matrix", "swapped", "texts",
                       "matrix of lists", "packed"))
    options = {}
    if deed == "number" and len(lists[n]):
        wrong = (-1, 0, 255, 32767, -32768, 700, 1e4, np.nan, np.inf, -np.inf, 0.5, 60000)
        with np.errstate(all="ignore"):
            lists[n][rng.randrange(len(lists[n]))] = np.float64(rng.choice(wrong)).astype(kind)
    elif deed == "shorter":
        lists[n] = lists[n][:len(lists[n]) // 2]
    elif deed == "longer":
        lists[n] = np.tile(lists[n], rng.choice((2, 1000)))
    elif deed == "dtype":
        kind = np.dtype(rng.choice(("f8", ">f4", "i1", "u1", ">i2", "u8", "?", "i4")))
        with np.errstate(all="ignore"):
            lists = [one.astype(kind) for one in lists]
    elif deed in ("fewer", "more"):
        lists = lists[:-1] if deed == "fewer" else lists + lists[:1]
    elif deed == "swapped":
        lists = lists[::-1]
    elif deed == "packed":
        options = rng.choice(({"compression": "lzf"}, {"compression": "gzip", "shuffle": True}, {"fletcher32": True}))
    about = dict(file[name].attrs)
    del file[name]
    if deed == "matrix":
        made = file.create_dataset(name, data=np.array([np.resize(one, 7) if len(one) else np.zeros(7, kind)
                                                        for one in lists]))
    elif deed == "texts":
        made = file.create_dataset(name, data=["7"] * len(lists), dtype=h5py.string_dtype())
    else:
        shape = (1, len(lists)) if deed == "matrix of lists" else (len(lists),)
        made = file.create_dataset(name, shape, h5py.vlen_dtype(kind), **options)
        for place, one in zip(np.ndindex(shape), lists):
            made[place] = one
    made.attrs.update(about)
    return f"lists: {deed} of {name}"


NAMES = (b"man-aa-a-3", b"man-aa-a-4", b"man-aa-a-", b"man-aa-a", b"", b"-----", b"man-aa-a-z\xff", b"\x1b[2J-a-b-3",
         b"man-aa-a-\n", b"../x-a-b-3", b"a/b-a-b-3", b"man-aa-c-3", b"x" * 5000, b"man-aa-a-33333", b"/-a-b-3",
         b".-.-.-3")


def changed_names(file: h5py.File, rng: random.Random) -> str:
    """One name in a list of names made another."""
    name = rng.choice([name for name in mutations.hdf5_names(file) if file[name].dtype.kind == "S"])
    names = file[name][()].tolist()
    names[rng.randrange(len(names))] = rng.choice(NAMES)
    del file[name]
    file[name] = np.array(names, "S") if rng.random() < 0.7 else np.array(names, "O")
    return f"a name in {name}"


def mutated_hdf5(data: bytes, rng: random.Random, foreign: Path) -> tuple[str, bytes]:
    image = io.BytesIO(data)
    with h5py.File(image, "r+") as file:
        kinds = {file[name].dtype.kind for name in mutations.hdf5_names(file)}
        own = changed_lists if "O" in kinds else changed_names if "S" in kinds else None
        done = own(file, rng) if own and rng.random() < 0.35 else mutations.mutate_hdf5(file, rng, foreign)
    data = image.getvalue()
    if rng.random() < 0.05:
        data = bytes(rng.choice((512, 1024))) + data
        done += ", a block before it"
    return done, data


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(bytes(1 << 28), 9)


def mutated_gzip(data: bytes, rng: random.Random, foreign: Path) -> tuple[str, bytes]:
    """A packed file with its content changed, or two, or one that is far larger than it looks."""
    deed = rng.choice(("content", "content", "content", "two", "tail", "bomb", "empty", "twice packed"))
    if deed == "content":
        done, content = mutated_hdf5(gzip.decompress(data), rng, foreign)
        return f"packed: {done}", gzip.compress(content, 1)
    bomb = _bomb() if deed == "bomb" else b""
    return f"gzip {deed}", {"two": data + data, "tail": data + rng.randbytes(50), "empty": gzip.compress(b""),
                            "bomb": rng.choice((bomb, data + bomb)), "twice packed": gzip.compress(data)}[deed]


# ---- one mutation of one file ----------------------------------------------------------------------------------


def mutate(kind: str, path: Path, rng: random.Random, foreign: Path) -> str:
    """Change a file of a form of `RAWS`, or what is around it; returns what was done."""
    chance = rng.random()
    if chance < 0.08:
        return mutations.replace_file(path, foreign, rng)
    if chance < 0.2:
        return around(path, rng, foreign)
    data, typed = path.read_bytes(), chance < 0.75
    if typed and path.suffix in (".h5", ".hdf5"):
        done, data = mutated_hdf5(data, rng, foreign)
    elif typed and path.suffix == ".gz":
        done, data = mutated_gzip(data, rng, foreign)
    elif typed and path.suffix in (".npy", ".npz"):
        done, data = (mutated_npy if path.suffix == ".npy" else mutated_npz)(data, rng)
    else:
        deed = rng.choice(RAWS[kind].damages)
        done, data = deed.__name__, deed(np.random.default_rng(rng.getrandbits(32)), data)
    path.write_bytes(data)
    return done
