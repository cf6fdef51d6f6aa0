"""AEDAT 3.1, the file format of jAER and cAER: lines of text, then packets of events.

    #...                      any number of lines
    #!END-HEADER              the last one
    packet, packet, ...       each a header of 28 bytes (little-endian, see `_PACKET`) and capacity x eventSize bytes

A polarity event (type 1) is u32 data, u32 timestamp: bit 0 of the data says valid, bit 1 the polarity, bits 2..16 are
y, bits 17..31 x.  Time in microseconds is timestamp + 2^31 tsOverflow.  Packets of any other type are passed over.
"""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hrmas_sparse.storage import files
from hrmas_sparse.storage.errors import InputError

_PACKET = struct.Struct("<HHIIIIII")  # eventType, source, eventSize, tsOffset, tsOverflow, capacity, number, valid
_POLARITY, _SIZE, _TS_OFFSET = 1, 8, 4
_LINE = 4096  # bytes, longest line of text
LARGEST = 1 << 30  # bytes; recordings have some 25 million


class Polarity(NamedTuple):
    """Events in the order of the file: x, y (E,) int32, p (E,) int32 0 or 1, time (E,) int64, microseconds."""

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    time: np.ndarray


def read_aedat(path: Path, notes: Counter) -> Polarity:
    """The valid polarity events of a file; invalid ones and other packets are dropped and counted.

    Raises
    ------
    InputError
        Naming file and byte: no AEDAT 3 header, a packet cut short, lengths that contradict each other, a negative
        timestamp.
    """
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes are too many for one recording; split it")
    raw = files.read(path)
    pieces, overflow = [], []
    for offset, number, ts_overflow in _polarity_packets(path, raw, notes):
        pieces.append((offset, number))
        overflow.append(ts_overflow)
    events = [np.frombuffer(raw, "<u4", 2 * number, offset).reshape(-1, 2) for offset, number in pieces]
    data, stamp = np.concatenate(events).T if events else np.empty((2, 0), np.uint32)
    if stamp.size and stamp.max() >> 31:
        _refuse_stamp(path, pieces, int(np.argmax(stamp >> 31)))
    time = np.repeat(np.array(overflow, np.int64) << 31, [number for _, number in pieces]) + stamp
    valid = (data & 1).astype(bool)
    notes["invalid events dropped"] += int((~valid).sum())
    if not valid.all():
        data, time = data[valid], time[valid]
    x, y, p = (part.astype(np.int32) for part in (data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1))
    return Polarity(x, y, p, time)


def _polarity_packets(path: Path, raw: bytes, notes: Counter):
    """Yield (offset of the first event, number of events, tsOverflow) of each polarity packet."""

    def refuse(what: str):
        raise InputError(f"{path}, packet at byte {at}: {what}; get the file again")

    at = _end_of_header(path, raw)
    while at < len(raw):
        if at + _PACKET.size > len(raw):
            refuse(f"expected a header of {_PACKET.size} bytes, the file ends after {len(raw) - at}")
        kind, _, size, ts_offset, overflow, capacity, number, valid = _PACKET.unpack_from(raw, at)
        begin = at + _PACKET.size
        end = begin + capacity * size
        if end > len(raw):
            refuse(f"expected {capacity} events of {size} bytes, the file ends after {len(raw) - begin} bytes of them")
        if not valid <= number <= capacity:
            refuse(f"expected valid <= number <= capacity, found {valid}, {number}, {capacity}")
        if kind != _POLARITY:
            notes["packets of other types passed over"] += 1
        elif (size, ts_offset) != (_SIZE, _TS_OFFSET):
            refuse(f"expected polarity events of 8 bytes, timestamp at byte 4, found {size} and {ts_offset}")
        elif number:
            yield begin, number, overflow
        at = end


def _end_of_header(path: Path, raw: bytes) -> int:
    """Offset of the first packet."""
    begin = 0
    while True:
        end = raw.find(b"\n", begin, begin + _LINE) + 1
        line = raw[begin : end or begin + 20]
        if not end or not line.startswith(b"#"):
            raise InputError(
                f"{path}, byte {begin}: expected the lines of text of AEDAT 3.1, each with # in front and the last "
                f"#!END-HEADER, found {line[:20]!r}; get the file again"
            )
        if begin == 0 and line.startswith(b"#!AER-DAT") and not line.startswith(b"#!AER-DAT3"):
            raise InputError(f"{path}: expected AEDAT 3.1, found {line[:20].strip()!r}; convert the file")
        if line.rstrip() == b"#!END-HEADER":
            return end
        begin = end


def _refuse_stamp(path: Path, pieces: list[tuple[int, int]], index: int):
    """Name the byte of event `index`, whose timestamp is negative."""
    for offset, number in pieces:
        if index < number:
            raise InputError(f"{path}, event at byte {offset + _SIZE * index}: negative timestamp; get the file again")
        index -= number
