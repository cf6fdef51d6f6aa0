"""Sound files: RIFF and NIST SPHERE with 16-bit PCM, one channel.

Nothing that a header claims is believed before it is compared with the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import numpy as np

from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

RATES = (8000, 48000)  # samples a second, lowest and highest
MAX_BYTES = 8 << 20  # over a minute at the highest rate; a spoken word takes a second

_PCM, _EXTENSIBLE = 1, 0xFFFE
_OTHERS = {2: "ADPCM", 3: "floating point", 6: "A-law", 7: "mu-law", 17: "ADPCM", 85: "MP3", _EXTENSIBLE: "another one"}
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")  # in an extensible header
_SPHERE_HEADER = 1 << 16  # bytes: the longest header accepted
_FIELD = re.compile(rb"(\w+)\s+-(?:([ir])\s+(\S+)|s(\d{1,6}) (.*))", re.ASCII)


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Samples and rate of a sound file; its first bytes tell RIFF and SPHERE apart, not its name.

    Returns
    -------
    samples : (S,) float64 in [-1, 1), the 16-bit numbers over 32,768; S >= 1
    rate : samples a second, in `RATES`

    Raises
    ------
    InputError
        Naming the file, the byte offset, what was expected and what was found.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: expected one spoken word, found {size:,} bytes; {MAX_BYTES:,} are taken at most")
    content = files.read(path)
    if content[:4] == b"RIFF":
        raw, dtype, rate = _riff(path, content)
    elif content[:7] == b"NIST_1A":
        raw, dtype, rate = _sphere(path, content)
    else:
        _refuse(path, 0, "'RIFF' (wav) or 'NIST_1A' (SPHERE)", repr(content[:8]) if content else "an empty file")
    return np.frombuffer(raw, dtype) / 32768.0, rate


def _refuse(path: Path, offset: int, expected: str, found: object) -> NoReturn:
    raise InputError(f"{path}, byte {offset}: expected {expected}, found {found}; replace or remove the file")


def _check_rate(path: Path, offset: int, rate: int) -> int:
    if not RATES[0] <= rate <= RATES[1]:
        _refuse(path, offset, f"{RATES[0]} to {RATES[1]} samples a second", rate)
    return rate


def _check_samples(path: Path, offset: int, claimed: int, there: int) -> None:
    """`claimed` and `there` count bytes from `offset`."""
    if claimed == 0:
        _refuse(path, offset, "at least one sample", "none")
    if claimed % 2:
        _refuse(path, offset, "samples of 2 bytes", f"{claimed} bytes of them")
    if claimed > there:
        _refuse(path, offset, f"{claimed} bytes of samples", f"{there}: the file is cut short, or its header lies")


# ---- RIFF --------------------------------------------------------------------------------------------


def _riff(path: Path, content: bytes) -> tuple[bytes, str, int]:
    """Bytes of the samples, their dtype and rate.

    Who writes into a pipe cannot go back to put in the sizes of the whole and of the samples: such a file is read to
    its end.  Otherwise the size of the whole is not needed.
    """
    if content[8:12] != b"WAVE":
        _refuse(path, 8, "'WAVE'", repr(content[8:12]))
    offset, rate, whole = 12, None, int.from_bytes(content[4:8], "little")
    while offset + 8 <= len(content):
        name, size = content[offset : offset + 4], int.from_bytes(content[offset + 4 : offset + 8], "little")
        body, there = offset + 8, len(content) - offset - 8
        if name == b"fmt ":
            rate = _format(path, body, content[body : body + min(size, there)])
        elif name == b"data":
            if rate is None:
                _refuse(path, offset, "a chunk 'fmt ' before 'data'", "none")
            if there and _unknown(size) and (_unknown(whole) or whole == body - 8):
                size = there - there % 2
            _check_samples(path, body, size, there)
            return content[body : body + size], "<i2", rate
        offset = body + size + size % 2
    _refuse(path, min(offset, len(content)), "a chunk 'data'", "the end of the file")


def _unknown(size: int) -> bool:
    """Whether a size is what programs write that do not know it yet: nothing, or the largest they can (SoX, FFmpeg)."""
    return size == 0 or size >= 0x7FFFF000


def _format(path: Path, offset: int, chunk: bytes) -> int:
    """The rate that a 'fmt ' chunk holds, if the rest of it is what we read."""
    if len(chunk) < 16:
        _refuse(path, offset, "a format of at least 16 bytes", len(chunk))
    kind, channels, rate, _, frame, bits = (
        int.from_bytes(chunk[a:b], "little") for a, b in ((0, 2), (2, 4), (4, 8), (8, 12), (12, 14), (14, 16))
    )
    if kind == _EXTENSIBLE and chunk[24:40] == _PCM_GUID:
        kind = _PCM
    if kind != _PCM:
                _refuse(path, offset, "uncompressed whole numbers (PCM)", _OTHERS.get(kind, f"format {kind:#x}"))
    if channels != 1:
        _refuse(path, offset + 2, "one channel", channels)
    if bits != 16:
        _refuse(path, offset + 14, "16 bits a sample", bits)
    if frame != 2:
        _refuse(path, offset + 12, "2 bytes a sample", frame)
    return _check_rate(path, offset + 4, rate)


# ---- NIST SPHERE -------------------------------------------------------------------------------------


def _sphere(path: Path, content: bytes) -> tuple[bytes, str, int]:
    """Bytes of the samples, their dtype and rate."""
    text = content[8:16].strip()
    if content[7:8] != b"\n" or not re.fullmatch(rb"\d{1,7}", text) or not 16 < int(text) <= _SPHERE_HEADER:
        _refuse(path, 8, f"the length of the header, 17 to {_SPHERE_HEADER}", repr(content[8:16]))
    length = int(text)
    if length > len(content):
        _refuse(path, 8, f"a header of {length} bytes", f"a file of {len(content)}")
    fields = _fields(path, content[:length])

    def number(key: str, default: int | None = None) -> int:
        value, offset = fields.get(key, (default, 0))
        if not isinstance(value, int):
            _refuse(path, offset, f"the field {key} with a whole number", "none" if value is None else repr(value))
        return value

    coding, offset = fields.get("sample_coding", ("pcm", 0))
    if coding != "pcm":
        shortened = "shorten" in str(coding)
        hint = " (compressed; `sph2pipe -p -f rif IN OUT` or `w_decode` makes a plain file of it)" if shortened else ""
        _refuse(path, offset, "sample_coding pcm", f"{coding!r}{hint}")
    for key, default, wanted in (("channel_count", 1, 1), ("sample_n_bytes", None, 2)):
        if number(key, default) != wanted:
            _refuse(path, fields[key][1], f"{key} {wanted}", number(key))
    order, offset = fields.get("sample_byte_format", (None, 0))
    if order not in ("01", "10"):
        _refuse(path, offset, "sample_byte_format 01 or 10", repr(order))
    rate = _check_rate(path, fields.get("sample_rate", (0, 0))[1], number("sample_rate"))
    size = 2 * number("sample_count")
    if size < 0:
        _refuse(path, fields["sample_count"][1], "a number of samples", size // 2)
    _check_samples(path, length, size, len(content) - length)
    return content[length : length + size], "<i2" if order == "01" else ">i2", rate


def _fields(path: Path, header: bytes) -> dict[str, tuple[int | float | str, int]]:
    """Value and byte offset of each field of a SPHERE header."""
    fields, offset = {}, 16
    for line in header[16:].split(b"\n"):
        text = line.strip()
        if text == b"end_head":
            return fields
        if text and not text.startswith(b";"):
            match = _FIELD.match(text)
            if not match:
                _refuse(path, offset, "'key -i number', '-r number' or '-s<length> text'", repr(text[:40]))
            fields[match[1].decode()] = _value(path, offset, match), offset
        offset += len(line) + 1
    _refuse(path, len(header), "'end_head' inside the header", "its end")


def _value(path: Path, offset: int, match: re.Match) -> int | float | str:
    _, kind, number, length, text = match.groups()
    if kind is None:
        return text[: int(length)].decode("latin-1")
    try:
        value = float(number)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    except ValueError:
        _refuse(path, offset, "a number", repr(number[:40]))
