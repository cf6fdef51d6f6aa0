"""Spikes as lists, and sums of the rows of a matrix that a list names.

Both the current that spikes make and the weight gradients are such sums: a sample's current at a step is
the sum of the rows of w of the channels that spiked; a sender's gradient is the sum of the errors at the
steps and samples at which it spiked. A sum stays in registers until its list ends, so a spike costs one
load and one multiply-add for ``LANES`` columns.

Shapes: T steps, C senders, L = LANES.
"""

from typing import NamedTuple

import numpy as np
from numba import int64, uint64

from hrmas_sparse.engine.backends.cpu.compile import jit
from hrmas_sparse.engine.backends.cpu.lanes import (
    LANES,
    WORD,
    add_scaled,
    bits_of_lane,
    load,
    load_at,
    load_first,
    lowest_bit,
    popcount,
    splat,
    store,
    store_at,
    store_first,
    transpose,
)

COLUMNS = 8 * LANES      # columns summed together
SPARE = 4                # what a list needs room for beside its entries
_ONE, _TWO, _THREE, _FOUR, _FIFTEEN = (np.uint64(n) for n in (1, 2, 3, 4, 15))
_0, _1, _2, _3, _4, _5, _6, _7 = (np.uint64(n * LANES) for n in range(8))


class Lists(NamedTuple):
    """Entries start[i] to start[i + 1] make up list i: rows of a matrix and their weights, rising.

    start : (lists + 1,) uint32 or longer; member : uint32, as long as there are spikes and ``SPARE``, or longer
    weight : of each member; ones, which nothing writes, where spikes carry no values
    """

    start: np.ndarray
    member: np.ndarray
    weight: np.ndarray


class Work(NamedTuple):
    """Scratch of the kernels that use lists: sums of a span's rows (T L, COLUMNS), and a square (L, L)."""

    rows: np.ndarray
    square: np.ndarray


class Tiles(NamedTuple):
    """Pieces of ``LANES`` columns of a matrix of links, those that have a link: by column, then by row.

    start : (columns / LANES + 1,) uint32; sender : (tiles,) uint32; place : scratch like start.
    """

    start: np.ndarray
    sender: np.ndarray
    place: np.ndarray


@jit
def bits_set(masks):
    """Number of spikes in a row of masks."""
    whole, total = masks.size - masks.size % 4, 0
    for word in masks[:whole].view(np.uint64):
        total += popcount(word)
    for i in range(whole, masks.size):
        total += popcount(masks[i])
    return total


@jit
def most_set(mask, span):
    """The most spikes in so many steps of masks (T, C) that follow each other."""
    most, now = 0, 0
    for t in range(mask.shape[0]):
        now += bits_set(mask[t])
        if t >= span:
            now -= bits_set(mask[t - span])
        most = max(most, now)
    return most


@jit
def by_sample(spikes, lists):
    """One list for each step and sample, t L + l: the senders that spiked."""
    steps, senders = spikes.mask.shape
    e = uint64(0)
    for t in range(steps):
        mask = spikes.mask[t]
        for lane in range(uint64(LANES)):
            i = uint64(t * LANES) + lane
            lists.start[i] = first = e
            for c in range(0, senders, WORD):
                e = _add_places(_senders(mask, c, lane), uint64(c), lists.member, e)
            if spikes.values.size:
                for k in range(first, e):
                    lists.weight[k] = spikes.values[t, lists.member[k], lane]
    lists.start[steps * LANES] = e


@jit
def by_sender(spikes, later, lists):
    """One list for each sender: the steps and samples at which it spiked, (t + later) L + l."""
    steps, senders = spikes.mask.shape
    mask, e, moved = spikes.mask, uint64(0), uint64(later * LANES)
    whole = steps - steps % 4
    for c in range(senders):
        lists.start[c] = first = e
        for t in range(0, whole, 4):
            bits = (uint64(mask[t, c]) | uint64(mask[t + 1, c]) << uint64(LANES)
                    | uint64(mask[t + 2, c]) << uint64(2 * LANES) | uint64(mask[t + 3, c]) << uint64(3 * LANES))
            e = _add_places(bits, uint64(t * LANES) + moved, lists.member, e)
        for t in range(whole, steps):
            e = _add_places(uint64(mask[t, c]), uint64(t * LANES) + moved, lists.member, e)
        if spikes.values.size:
            for k in range(first, e):
                i = uint64(lists.member[k]) - moved
                lists.weight[k] = spikes.values[i >> _FOUR, c, i & _FIFTEEN]
    lists.start[senders] = e


@jit
def _senders(mask, first, lane):
    """One bit for each of up to ``WORD`` senders from ``first`` on: whether it spiked in that sample."""
    there = mask.size - first
    if there >= WORD:
        return bits_of_lane(mask, first, lane)
    if mask.size >= WORD:  # the last of all, without those before ``first``
        return bits_of_lane(mask, mask.size - WORD, lane) >> uint64(WORD - there)
    word = uint64(0)
    for c in range(there):
        word |= (uint64(mask[first + c]) >> lane & _ONE) << uint64(c)
    return word


@jit
def _add_places(bits, first, member, e):
    """Write ``first`` and the place of each bit that is set from member[e] on; returns where they end.

    Always four at a time, of which those too many are written over by the next ones, or lie in the list's ``SPARE``:
    how many bits are set is what a processor cannot foresee, that they are more than four is rare.
    """
    end = e + popcount(bits)
    while True:
        member[e] = first + lowest_bit(bits)
        bits &= bits - _ONE
        member[e + _ONE] = first + lowest_bit(bits)
        bits &= bits - _ONE
        member[e + _TWO] = first + lowest_bit(bits)
        bits &= bits - _ONE
        member[e + _THREE] = first + lowest_bit(bits)
        bits &= bits - _ONE
        e += _FOUR
        if e >= end:
            return end


@jit
def add_rows(lists, first, count, matrix, column, out, to, width, fresh):
    """out[i, to:to + width] += sum of weight * matrix[member, column:column + width] over list first + i, i < count.

    Where ``fresh``, what ``out`` held before does not count: 0 stands for it.
    """
    if width == COLUMNS:
        _add_eight(lists, uint64(first), uint64(count), matrix, uint64(column), out, uint64(to), fresh)
        return
    done = 0
    while width - done >= 4 * LANES:
        _add_four(lists, uint64(first), uint64(count), matrix, uint64(column + done), out, uint64(to + done), fresh)
        done += 4 * LANES
    while width - done > LANES:
        there = min(2 * LANES, width - done)
        _add_two(lists, uint64(first), uint64(count), matrix, uint64(column + done), out, uint64(to + done),
                 uint64(there - LANES), fresh)
        done += there
    if done < width:
        _add_one(lists, uint64(first), uint64(count), matrix, uint64(column + done), out, uint64(to + done),
                 uint64(width - done), fresh)


@jit
def _add_eight(lists, first, count, matrix, column, out, to, fresh):
    """:func:`add_rows` for ``COLUMNS`` columns."""
    start, member, weight = lists
    zero = splat(weight.dtype.type(0))
    for i in range(count):
        begin, end = uint64(start[first + i]), uint64(start[first + i + _ONE])
        sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7 = zero, zero, zero, zero, zero, zero, zero, zero
        if not fresh:
            if begin == end:
                continue
            sum0 = load_at(out, i, to + _0)
            sum1 = load_at(out, i, to + _1)
            sum2 = load_at(out, i, to + _2)
            sum3 = load_at(out, i, to + _3)
            sum4 = load_at(out, i, to + _4)
            sum5 = load_at(out, i, to + _5)
            sum6 = load_at(out, i, to + _6)
            sum7 = load_at(out, i, to + _7)
        for e in range(begin, end):
            row, scale = member[e], weight[e]
            sum0 = add_scaled(sum0, scale, load_at(matrix, row, column + _0))
            sum1 = add_scaled(sum1, scale, load_at(matrix, row, column + _1))
            sum2 = add_scaled(sum2, scale, load_at(matrix, row, column + _2))
            sum3 = add_scaled(sum3, scale, load_at(matrix, row, column + _3))
            sum4 = add_scaled(sum4, scale, load_at(matrix, row, column + _4))
            sum5 = add_scaled(sum5, scale, load_at(matrix, row, column + _5))
            sum6 = add_scaled(sum6, scale, load_at(matrix, row, column + _6))
            sum7 = add_scaled(sum7, scale, load_at(matrix, row, column + _7))
        store_at(out, i, to + _0, sum0)
        store_at(out, i, to + _1, sum1)
        store_at(out, i, to + _2, sum2)
        store_at(out, i, to + _3, sum3)
        store_at(out, i, to + _4, sum4)
        store_at(out, i, to + _5, sum5)
        store_at(out, i, to + _6, sum6)
        store_at(out, i, to + _7, sum7)


@jit
def _add_four(lists, first, count, matrix, column, out, to, fresh):
    """:func:`add_rows` for half of ``COLUMNS``."""
    start, member, weight = lists
    zero = splat(weight.dtype.type(0))
    for i in range(count):
        begin, end = uint64(start[first + i]), uint64(start[first + i + _ONE])
        sum0, sum1, sum2, sum3 = zero, zero, zero, zero
        if not fresh:
            if begin == end:
                continue
            sum0 = load_at(out, i, to + _0)
            sum1 = load_at(out, i, to + _1)
            sum2 = load_at(out, i, to + _2)
            sum3 = load_at(out, i, to + _3)
        for e in range(begin, end):
            row, scale = member[e], weight[e]
            sum0 = add_scaled(sum0, scale, load_at(matrix, row, column + _0))
            sum1 = add_scaled(sum1, scale, load_at(matrix, row, column + _1))
            sum2 = add_scaled(sum2, scale, load_at(matrix, row, column + _2))
            sum3 = add_scaled(sum3, scale, load_at(matrix, row, column + _3))
        store_at(out, i, to + _0, sum0)
        store_at(out, i, to + _1, sum1)
        store_at(out, i, to + _2, sum2)
        store_at(out, i, to + _3, sum3)


@jit
def _add_two(lists, first, count, matrix, column, out, to, rest, fresh):
    """:func:`add_rows` for ``LANES`` columns and up to as many more, ``rest``."""
    start, member, weight = lists
    zero = splat(weight.dtype.type(0))
    for i in range(count):
        begin, end = uint64(start[first + i]), uint64(start[first + i + _ONE])
        sum0, sum1 = zero, zero
        if not fresh:
            if begin == end:
                continue
            sum0, sum1 = load_at(out, i, to), load_first(out, i, to + _1, rest)
        for e in range(begin, end):
            row, scale = member[e], weight[e]
            sum0 = add_scaled(sum0, scale, load_at(matrix, row, column))
            sum1 = add_scaled(sum1, scale, load_first(matrix, row, column + _1, rest))
        store_at(out, i, to, sum0)
        store_first(out, i, to + _1, rest, sum1)


@jit
def _add_one(lists, first, count, matrix, column, out, to, width, fresh):
    """:func:`add_rows` for up to ``LANES`` columns."""
    start, member, weight = lists
    for i in range(count):
        begin, end = uint64(start[first + i]), uint64(start[first + i + _ONE])
        total = splat(weight.dtype.type(0))
        if not fresh:
            if begin == end:
                continue
            total = load_first(out, i, to, width)
        for e in range(begin, end):
            total = add_scaled(total, weight[e], load_first(matrix, member[e], column, width))
        store_first(out, i, to, width, total)


@jit
def copy(source, first, result, place, count):
    """Copy rows of lanes. (Assigning one array to another would take a buffer, should they overlap.)"""
    for n in range(uint64(count)):
        store(result, uint64(place) + n, load(source, uint64(first) + n))


@jit
def turn_to_lanes(work, first, width, current):
    """current[first + n, l] = rows[l, n] for n up to width; current (N, L) of one step."""
    for n in range(0, width, LANES):
        if width - n >= LANES:
            transpose(work.rows, 0, n, current, first + n, 0)
        else:
            transpose(work.rows, 0, n, work.square, 0, 0)
            copy(work.square, 0, current, first + n, width - n)


@jit
def turn_to_rows(errors, first, width, work):
    """rows[t L + l, n] = errors[t, first + n, l] for n up to width; zeros up to the next multiple of L."""
    for t in range(errors.shape[0]):
        for n in range(0, width, LANES):
            if width - n >= LANES:
                transpose(errors[t], first + n, 0, work.rows, t * LANES, n)
            else:
                work.square[:, :] = 0
                copy(errors[t], first + n, work.square, 0, width - n)
                transpose(work.square, 0, 0, work.rows, t * LANES, n)


def tiles_of(links):
    """The :class:`Tiles` of a pattern of links."""
    start = np.zeros(-(-(len(links.indptr) - 1) // LANES) + 1, np.uint32)
    _count_tiles(links, start)
    np.cumsum(start, out=start)
    tiles = Tiles(start, np.empty(start[-1], np.uint32), start.copy())
    _fill_tiles(links, tiles)
    return tiles


@jit
def _count_tiles(links, start):
    for r in range(links.indptr.size - 1):
        last = -1
        for k in range(links.indptr[r], links.indptr[r + 1]):
            column = int64(links.indices[k] // LANES)
            if column != last:
                start[column + 1] += 1
            last = column


@jit
def _fill_tiles(links, tiles):
    for r in range(links.indptr.size - 1):
        last = -1
        for k in range(links.indptr[r], links.indptr[r + 1]):
            column = int64(links.indices[k] // LANES)
            if column != last:
                tiles.sender[tiles.place[column]] = r
                tiles.place[column] += 1
            last = column


@jit
def add_tiles(lists, tiles, rows, first, width, sums):
    """sums[i] += the rows of the list of tile i's sender, in the tile's columns; columns first to first + width."""
    start, member, weight = lists
    for column in range(first // LANES, (first + width + LANES - 1) // LANES):
        there = uint64(column * LANES - first)
        for i in range(uint64(tiles.start[column]), uint64(tiles.start[column + 1])):
            r = uint64(tiles.sender[i])
            if start[r] == start[r + _ONE]:
                continue
            total = load(sums, i)
            for e in range(uint64(start[r]), uint64(start[r + _ONE])):
                total = add_scaled(total, weight[e], load_at(rows, member[e], there))
            store(sums, i, total)


@jit
def pick_links(links, tiles, sums, dlinks):
    """dlinks[k] += the number of link k in the sums of its tile."""
    place = tiles.place
    for column in range(place.size):
        place[column] = tiles.start[column]
    for r in range(links.indptr.size - 1):
        last, i = -1, uint64(0)
        for k in range(links.indptr[r], links.indptr[r + 1]):
            column = int64(links.indices[k] // LANES)
            if column != last:
                i = uint64(place[column])
                place[column] += 1
            last = column
            dlinks[k] += sums[i, links.indices[k] % LANES]
