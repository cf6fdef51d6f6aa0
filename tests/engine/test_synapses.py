"""The CPU's kernels over synapses, against dense products, and each against its own transpose."""

import numpy as np
import pytest
from dense import assert_close, assert_same_bits, error, events, random_case
from numba import njit

from hrmas_sparse.engine.backends.base import Gradients, Intrinsic, Neurons, Synapses, Tape
from hrmas_sparse.engine.backends.cpu import blocks, bundles, chunks, lanes, lists, synapses
from hrmas_sparse.engine.recurrence import Links

LANES = lanes.LANES
DTYPES = ["float64", "float32"]
CLOSE = {"float64": 1e-13, "float32": 1e-5}


def random_spikes(rng, T, C, real, dtype, density=0.3):
    """Spikes of a chunk, and what they send as a dense array (T, C, LANES)."""
    on = rng.random((T, C, LANES)) < density
    mask = (on * (1 << np.arange(LANES))).sum(axis=2).astype(np.uint16)
    values = rng.normal(size=on.shape).astype(dtype) if real else np.zeros((0, 0, 0), dtype)
    return chunks.Spikes(mask, values), on * (values if real else 1.0)


def random_links(rng, N, dtype, density=0.5):
    """Links, and their weights as a matrix (source, target)."""
    matrix = (rng.normal(size=(N, N)) * (rng.random((N, N)) < density)).astype(dtype)
    source, target = np.nonzero(matrix)
    return Links(np.searchsorted(source, np.arange(N + 1)).astype(np.int64), target.astype(np.uint32),
                 matrix[source, target]), matrix


def shapes(count=25):
    """Steps, senders, receivers: around the kernels' groups of 4, 8, 16, 64 and 128, and single ones."""
    rng = np.random.default_rng(0)
    yield from ((1, 1, 1), (2, 1, 4), (2, 4, 1), (1, 3, 5), (3, 5, 3), (2, 33, 70), (5, 20, 150), (2, 9, 256),
               (5, 64, 3), (2, 150, 2))
    for _ in range(count):
        yield tuple(int(n) for n in rng.integers(1, 14, 3))


def feedforward(spikes, w, current):
    """The current of all receivers, as a layer makes it; scratch starts as rubbish."""
    (T, C), dtype = spikes.mask.shape, w.dtype
    size = lists.most_set(spikes.mask, T)
    found = lists.Lists(np.full(max(T * LANES, C) + 1, 99, np.uint32), np.empty(size + lists.SPARE, np.uint32),
                        np.ones(size, dtype))
    work = lists.Work(np.full((T * LANES, lists.COLUMNS), np.nan, dtype), np.full((LANES, LANES), np.nan, dtype))
    nothing = Links(np.zeros(w.shape[1] + 1, np.int64), np.zeros(0, np.uint32), np.zeros(0, dtype))
    blocks.all_currents(Synapses(w, nothing), spikes, found, current, work)


def noise(rng, *shape, dtype):
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("real", [False, True], ids=["binary", "real"])
def test_feedforward(dtype, real):
    rng = np.random.default_rng(1)
    for T, C, N in shapes():
        for density in (0.0, 0.3, 1.0):
            spikes, sent = random_spikes(rng, T, C, real, dtype, density)
            w = noise(rng, C, N, dtype=dtype)
            current = np.full((T, N, LANES), np.nan, dtype)
            feedforward(spikes, w, current)
            assert error(current, np.einsum("tcl,cn->tnl", sent, w)) < CLOSE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense(dtype):
    """Both ways it is used: the weights as they are, and turned."""
    rng = np.random.default_rng(2)
    for T, C, N in shapes():
        w, errors, sent = (noise(rng, *shape, dtype=dtype) for shape in ((C, N), (T, N, LANES), (T, C, LANES)))
        effect, current = np.full((T, C, LANES), np.nan, dtype), np.full((T, N, LANES), np.nan, dtype)
        synapses.dense(w, errors, effect)
        synapses.dense(w.T, sent, current)
        expected = dict(effect=np.einsum("cn,tnl->tcl", w, errors), current=np.einsum("cn,tcl->tnl", w, sent))
        assert_close(dict(effect=effect, current=current), expected, CLOSE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_and_dense_currents_are_the_same_bits(dtype):
    """Which of the two runs hangs on the batch a sample is in; what the sample does must not."""
    rng = np.random.default_rng(12)
    for T, C, N in shapes():
        for real in (False, True):
            spikes, sent = random_spikes(rng, T, C, real, dtype)
            w = noise(rng, C, N, dtype=dtype)
            sparse, dense = np.empty((2, T, N, LANES), dtype)
            feedforward(spikes, w, sparse)
            synapses.dense(w.T, sent.astype(dtype), dense)
            np.testing.assert_array_equal(sparse, dense)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_scatter_and_gather(dtype, density):
    """Both add; some senders have no link, some links no other of their row."""
    rng = np.random.default_rng(3)
    for T, _, N in shapes():
        links, matrix = random_links(rng, N, dtype, density)
        for real in (False, True):
            spikes, sent = random_spikes(rng, T, N, real, dtype)
            before = noise(rng, N, LANES, dtype=dtype)
            current = before.copy()
            half = int(rng.integers(0, N + 1))
            synapses.scatter(links, spikes, T - 1, 0, half, current)
            synapses.scatter(links, spikes, T - 1, half, N, current)
            assert error(current, before + matrix.T @ sent[T - 1]) < CLOSE[dtype]
        errors, effect = noise(rng, N, LANES, dtype=dtype), before.copy()
        half = int(rng.integers(0, N // bundles.SENDERS + 1)) * bundles.SENDERS
        gathered = bundles.filled(bundles.pattern_of(links), links.data)
        bundles.gather(gathered, 0, half, errors, effect)
        bundles.gather(gathered, half, N, errors, effect)
        assert error(effect, before + matrix @ errors) < CLOSE[dtype]


@pytest.mark.parametrize("neurons", [1, 7, 8, 29, 64])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_bundles_have_every_link_once(neurons, density):
    """Each link is in a bundle of its sender, at its receiver, or stays by itself; a bundle has enough senders."""
    rng = np.random.default_rng(8)
    links, _ = random_links(rng, neurons, np.float32, density)
    pattern, number = bundles.pattern_of(links), len(links.indices)
    source = np.repeat(np.arange(neurons), np.diff(links.indptr))
    there = pattern.link < number
    np.testing.assert_array_equal(np.sort(np.concatenate([pattern.link[there], pattern.other_link])), np.arange(number))
    assert (there.sum(axis=1) >= bundles.SHARED).all()
    bundle = np.repeat(np.arange(len(pattern.start) - 1), np.diff(pattern.start.astype(int)))
    entry, sender = np.nonzero(there)
    np.testing.assert_array_equal(source[pattern.link[there]], bundle[entry] * bundles.SENDERS + sender)
    np.testing.assert_array_equal(links.indices[pattern.link[there]], pattern.receiver[entry])
    np.testing.assert_array_equal(source[pattern.other_link],
                                  np.repeat(np.arange(neurons), np.diff(pattern.other_start.astype(int))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["binary", "real", "dense"])
def test_weight_gradients(backend, dtype, kind):
    """A sum over steps and samples, added to what is there; a layer's own spikes act a step later."""
    rng = np.random.default_rng(4)
    for T, C, N in shapes():
        received, sent = random_spikes(rng, T, C, kind != "binary", dtype)
        own, fired = random_spikes(rng, T, N, False, dtype)
        if kind == "dense":
            received = chunks.Spikes(received.mask[:0], sent.astype(dtype))
        links, _ = random_links(rng, N, dtype)
        source, target = np.repeat(np.arange(N), np.diff(links.indptr)), links.indices.astype(int)
        w, errors, dw = (noise(rng, *shape, dtype=dtype) for shape in ((C, N), (T, N, LANES), (C, N)))
        dlinks = noise(rng, source.size, dtype=dtype)
        expected = dict(dw=dw + np.einsum("tcl,tnl->cn", sent, errors),
                        dlinks=dlinks + np.einsum("tkl,tkl->k", fired[:-1][:, source], errors[1:][:, target]))
        tape = Tape(received, own, None, None, None, None, None, None)
        layer = backend.layer(0, Neurons(None), Synapses(w, links), Intrinsic(None, None))
        layer.weight_gradients(tape, errors, Gradients(dw, dlinks))
        assert_close(dict(dw=dw, dlinks=dlinks), expected, CLOSE[dtype])


def test_adjoints():
    """<y, A x> = <A^T y, x> to rounding, of the synapses and of the filter (mathematics 12c)."""
    rng = np.random.default_rng(5)
    for T, C, N in shapes():
        w, y = noise(rng, C, N, dtype=float), noise(rng, T, N, LANES, dtype=float)
        spikes, x = random_spikes(rng, T, C, True, float)
        forward, back = np.empty((T, N, LANES)), np.empty((T, C, LANES))
        feedforward(spikes, w, forward)
        synapses.dense(w, y, back)
        assert np.vdot(y, forward) == pytest.approx(np.vdot(back, x), rel=1e-11, abs=1e-11)
        links, _ = random_links(rng, N, float)
        own, x = random_spikes(rng, T, N, True, float)
        forward, back = np.zeros((N, LANES)), np.zeros((N, LANES))
        synapses.scatter(links, own, T - 1, 0, N, forward)
        bundles.gather(bundles.filled(bundles.pattern_of(links), links.data), 0, N, y[0], back)
        assert np.vdot(y[0], forward) == pytest.approx(np.vdot(back, x[T - 1]), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_do_not_mix(dtype):
    """One sample alone, in any lane: its numbers there, bit for bit as in another lane, and nothing elsewhere."""
    rng = np.random.default_rng(6)
    T, C, N = 3, 7, 9
    spikes, _ = random_spikes(rng, T, C, False, dtype)
    first, w = spikes.mask & 1, noise(rng, C, N, dtype=dtype)
    links, _ = random_links(rng, N, dtype)
    own = rng.integers(0, 2, (T, N)).astype(np.uint16)
    found = []
    for lane in range(LANES):
        current = np.empty((T, N, LANES), dtype)
        feedforward(spikes._replace(mask=first << np.uint16(lane)), w, current)
        synapses.scatter(links, spikes._replace(mask=own << np.uint16(lane)), 1, 0, N, current[2])
        assert not np.delete(current, lane, axis=2).any()
        found.append(current[..., lane])
    assert_same_bits(found, [found[0]] * LANES)


# ---- the vector of lanes ------------------------------------------------------------------------------------


@njit
def all_operations(numbers, bits, weight, out):
    """One row of ``out`` per operation that gives lanes; returns what the others give."""
    a, b = lanes.load(numbers, 0), lanes.load(numbers, np.uint32(1))
    lanes.store(out, 0, lanes.add(a, b))
    lanes.store(out, 1, lanes.multiply(a, b))
    lanes.store(out, np.uint32(2), lanes.add_scaled(a, weight, b))
    lanes.store(out, 3, lanes.splat(weight))
    lanes.store(out, 4, lanes.bits_to_lanes(bits, weight))
    lanes.store(out, 5, lanes.add_product(a, b, b))
    return lanes.bits_above(a, weight), lanes.lowest_bit(bits), lanes.sum_lanes(b), lanes.popcount(bits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes(dtype):
    rng = np.random.default_rng(7)
    for bits in [1 << n for n in range(LANES)] + [int(n) for n in rng.integers(1, 1 << LANES, 50)]:
        numbers, weight = noise(rng, 2, LANES, dtype=dtype), np.dtype(dtype).type(rng.normal())
        numbers[0, :3] = weight, np.nan, np.inf                # equal is not above, nor is NaN
        out = np.empty((6, LANES), dtype)
        above, lowest, total, many = all_operations(numbers, np.uint16(bits), weight, out)
        a, b = numbers
        on = (bits >> np.arange(LANES)) & 1
        np.testing.assert_array_equal(out[[0, 1, 3, 4]], [a + b, a * b, np.full_like(a, weight), on * weight])
        np.testing.assert_allclose(out[[2, 5]], [a + weight * b, a + b * b], rtol=0, atol=10 * np.finfo(dtype).eps)
        assert total == pytest.approx(b.sum(), abs=100 * float(np.finfo(dtype).eps))
        assert above == sum(1 << int(n) for n in np.flatnonzero(a > weight))
        assert lowest == np.flatnonzero(on)[0] and many == on.sum()


@njit
def all_moves(source, result, turned, row, column, count):
    """Every operation on places of a matrix."""
    lanes.store_at(result, row, column, lanes.load_at(source, row, column))
    lanes.store_first(result, row + 1, column, count, lanes.load_first(source, row + 1, column, count))
    lanes.transpose(source, row, column, turned, 1, 2)
    lanes.fetch(source, row)
    last = lanes.flat(source)
    return last[last.size - 1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_of_a_matrix(dtype):
    """Nothing beside what was asked for is written, whatever lies there."""
    rng = np.random.default_rng(8)
    for count in range(LANES + 1):
        source, row, column = noise(rng, 20, 23, dtype=dtype), int(rng.integers(0, 5)), int(rng.integers(0, 8))
        result, turned = np.full((20, 23), 7, dtype), np.full((18, 19), 7, dtype)
        expected, square = result.copy(), turned.copy()
        expected[row, column:column + LANES] = source[row, column:column + LANES]
        expected[row + 1, column:column + count] = source[row + 1, column:column + count]
        square[1:1 + LANES, 2:2 + LANES] = source[row:row + LANES, column:column + LANES].T
        assert all_moves(source, result, turned, row, column, count) == source[-1, -1]
        assert_same_bits([result, turned], [expected, square])


@njit
def bits_of_lanes(masks, first, words):
    for lane in range(words.size):
        words[lane] = lanes.bits_of_lane(masks, first, lane)


def test_bits_of_a_lane():
    """Bit i is that of mask first + i."""
    masks, words = np.random.default_rng(8).integers(0, 1 << LANES, 80).astype(np.uint16), np.empty(LANES, np.uint64)
    for first in (0, 3, 16):
        bits_of_lanes(masks, first, words)
        expected = [sum((int(mask) >> lane & 1) << i for i, mask in enumerate(masks[first:first + lanes.WORD]))
                    for lane in range(LANES)]
        assert words.tolist() == expected


# ---- lists of spikes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [False, True], ids=["binary", "real"])
def test_lists(real):
    """Every spike once, in rising order, by sample and by sender."""
    rng = np.random.default_rng(9)
    for T, C, _ in shapes():
        for density in (0.0, 0.3, 1.0):
            spikes, sent = random_spikes(rng, T, C, real, float, density)
            size = lists.most_set(spikes.mask, T)
            assert size == sum(int(bits).bit_count() for bits in spikes.mask.ravel())
            found = lists.Lists(np.zeros(max(T * LANES, C) + 1, np.uint32),
                                np.empty(size + lists.SPARE, np.uint32), np.ones(size))
            lists.by_sample(spikes, found)
            check_lists(found, sent.transpose(0, 2, 1).reshape(-1, C), 0)
            lists.by_sender(spikes, 2, found)
            check_lists(found, sent.transpose(1, 0, 2).reshape(C, -1), 2 * LANES)
            assert real or (found.weight == 1).all()


def check_lists(found, rows, more):
    """One list for each row: where it is not zero, and what is there."""
    assert found.start[len(rows)] == np.count_nonzero(rows)
    for i, row in enumerate(rows):
        own = slice(found.start[i], found.start[i + 1])
        np.testing.assert_array_equal(found.member[own], np.flatnonzero(row) + more)
        np.testing.assert_array_equal(found.weight[own], row[row != 0])


# ---- events to masks and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("B", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("real", [False, True], ids=["binary", "real"])
@pytest.mark.parametrize("density", [0.0, 0.06, 0.3, 0.3125, 0.625, 1.0])
def test_pack(backend, B, real, density):
    case = random_case(B, (), B=B, T=4, C=6, real=real, density=density)
    packed = backend.pack(events(case.X, case.Y), np.dtype("float64"))
    sizes = [len(chunk.labels) for chunk in packed]
    assert [chunk.first for chunk in packed] == [0, *np.cumsum(sizes)[:-1]] and sum(sizes) == B
    assert len(packed) == -(-B // LANES) and max(sizes) <= min(LANES, min(sizes) + 1)  # few and even
    assert all(chunk.steps == 4 for chunk in packed)
    np.testing.assert_array_equal(np.concatenate([chunk.labels for chunk in packed]), case.Y)
    dense = [backend.unpack(chunk.spikes, len(chunk.labels)) for chunk in packed]
    np.testing.assert_array_equal(np.concatenate(dense), case.X)
    for chunk in packed:
        mask, values = chunk.spikes
        share = (case.X[chunk.first:chunk.first + len(chunk.labels)] != 0).mean()
        assert (len(mask) == 0) == (share > chunks.DENSE)
        assert (mask >> (len(chunk.labels) - 1) >> 1 == 0).all()                  # no bit beyond the batch, and
        assert not values.size or not values[..., len(chunk.labels):].any()       # no value


def test_dense_starts_above_its_share():
    """At exactly that share events are still visited, one more and they are not; few samples change nothing."""
    assert chunks.DENSE == 5 / 16
    for B in (1, 3, 16):
        X = np.zeros((B, 4, 16))
        X[:, :, :5] = 1
        assert len(chunks.pack(events(X, np.zeros(B)), 0, B, float).mask) == 4
        X[0, 0, 5] = 1
        assert len(chunks.pack(events(X, np.zeros(B)), 0, B, float).mask) == 0


def test_buffers_are_kept_and_aligned():
    buffers = chunks.Buffers()
    first = buffers.get("a", (3, 5), np.float32)
    assert buffers.get("a", (3, 5), np.float32) is first and first.ctypes.data % 64 == 0
    for shape, dtype in (((3, 6), np.float32), ((3, 6), np.float64), ((0, 6), np.float64)):
        other = buffers.get("a", shape, dtype)
        assert other.shape == shape and other.dtype == dtype and not np.shares_memory(other, first)
    buffers.get("b", (4,), np.float64)[:] = np.nan
    assert not buffers.zeroed("b", (4,), np.float64).any()
