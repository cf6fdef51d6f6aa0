"""Networks that leave and come back: every format against the others, and the formats' readers against bad input."""

import dataclasses
import shutil

import nets
import numpy as np
import pytest

from hrmas_sparse.export import arrays, c_header, nir
from hrmas_sparse.export.description import Description
from hrmas_sparse.storage.errors import InputError

SHAPES = {
    "one layer": {},
    "two layers": {"hidden": (12, 9), "seed": 1},
    "three layers": {"hidden": (20, 1, 17), "seed": 2},
    "output layer alone": {"hidden": (), "seed": 3},
    "one of everything": {"hidden": (1,), "channels": 1, "classes": 1, "density": 1.0, "seed": 6, "v_th": 0.3},
    "no links": {"density": 0.0, "seed": 5},
    "all links": {"density": 1.0, "hidden": (11,), "seed": 6},
    "no spikes": {"v_th": 1e6, "seed": 7},
    "no memory": {"tau_s": 1.0, "v_th": 0.5, "seed": 8},
    "odd sizes": {"hidden": (257, 33), "channels": 65, "classes": 3, "density": 0.02, "seed": 9},
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def same(a: Description, b: Description, but=()):
    """Assert that two descriptions hold the same numbers, types included."""
    assert (a.tau_s, a.name, a.class_names) == (b.tau_s, b.name, b.class_names)
    assert len(a.layers) == len(b.layers)
    for one, other in zip(a.layers, b.layers):
        for name in {"w", "indptr", "indices", "data", "R", "tau"} - set(but):
            x, y = getattr(one, name), getattr(other, name)
            assert x.dtype == y.dtype and np.array_equal(x, y), name
        assert one.v_th == other.v_th
        assert (one.topology is None) == (other.topology is None)
        for x, y in zip(one.topology or (), other.topology or ()):
            assert np.array_equal(x, y)


@shapes
@needs_cc
def test_c_spikes_as_the_document_does(shape, tmp_path):
    network = nets.network(**shape)
    x = nets.inputs(channels=network.channels, density=0.3)
    spikes, decisions = nets.by_document(network, x, tmp_path)
    by_c, decided = nets.by_c(network, x, tmp_path)
    assert [int((a != b).sum()) for a, b in zip(spikes, by_c)] == [0] * len(network.layers)
    assert np.array_equal(decisions, decided)
    silent = "v_th" in shape and shape["v_th"] > 1e3
    assert [bool(s.any()) for s in spikes] == [not silent] * len(spikes)


@shapes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_archive_comes_back(shape, dtype, tmp_path):
    network = nets.network(**shape, dtype=dtype)
    arrays.write(tmp_path / "net.npz", network)
    same(arrays.read(tmp_path / "net.npz"), network)


@shapes
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.0112])
def test_nir_comes_back(shape, dt, tmp_path):
    network = nets.network(**shape)
    nir.write(tmp_path / "net.nir", network, dt)
    same(nir.read(tmp_path / "net.nir"), network)


def test_nir_keeps_float64_to_the_last_digit_but_one(tmp_path):
    network = nets.network(dtype="float64")
    nir.write(tmp_path / "net.nir", network)
    back = nir.read(tmp_path / "net.nir")
    same(back, network, but=["tau"])
    np.testing.assert_allclose(back.layers[0].tau, network.layers[0].tau, rtol=1e-14)


def test_files_do_not_depend_on_when_they_are_written(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        arrays.write(tmp_path / name / "net.npz", nets.network())
        c_header.write(tmp_path / name / "net.h", nets.network())
    for file in ("net.npz", "net.h", "net.c"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@needs_cc
def test_float64_is_rounded_to_float32_for_c(tmp_path):
    network = nets.network(dtype="float64", hidden=(30,), channels=9)
    x = nets.inputs(channels=9)
    exact, _ = nets.by_document(network, x, tmp_path)
    narrow, _ = nets.by_document(network.astype("float32"), x, tmp_path)
    by_c, _ = nets.by_c(network, x, tmp_path)
    assert [np.array_equal(a, b) for a, b in zip(narrow, by_c)] == [True, True]
    differing = sum(int((a != b).sum()) for a, b in zip(exact, by_c))
    assert differing <= 0.01 * sum(int(a.sum()) for a in exact)


@needs_cc
@pytest.mark.parametrize("options", [("-O0",), ("-O3",), ("-O1", "-fsanitize=undefined,address")])
def test_c_at_any_optimisation(options, tmp_path):
    network, x = nets.network(hidden=(12, 9)), nets.inputs()
    spikes, decisions = nets.by_document(network, x, tmp_path)
    by_c, decided = nets.by_c(network, x, tmp_path, *options)
    assert all(np.array_equal(a, b) for a, b in zip(spikes, by_c)) and np.array_equal(decisions, decided)


def test_c_is_self_contained(tmp_path):
    c_header.write(tmp_path / "net.h", nets.network())
    text = (tmp_path / "net.c").read_text() + (tmp_path / "net.h").read_text()
    included = {line.split()[1] for line in text.splitlines() if line.startswith("#include")}
    assert included == {'"net.h"', "<stddef.h>", "<stdint.h>", "<string.h>"}
    assert "malloc" not in text.replace("no malloc", "")


@needs_cc
@pytest.mark.parametrize("stem", ["2 ways */ out", "int", "größe", "..."])
def test_c_names_and_comments_are_harmless(stem, tmp_path):
    network = dataclasses.replace(nets.network(), name="*/ int x; /* \\", class_names=("a", "*/", "??/", "//"))
    (tmp_path / "d").mkdir()
    c_header.write(tmp_path / "d" / "net.h", network)
    nets.compiled(network, tmp_path / "d")
    name = c_header.identifier(stem)
    assert name.isidentifier() and name.isascii() and name not in ("int", "")


@needs_cc
@pytest.mark.parametrize("channels", [65535, 65536])
def test_c_with_channels_at_the_edge_of_an_index(channels, tmp_path):
    network = nets.network(channels=channels, hidden=(3,), classes=2)
    x = np.zeros((1, 4, channels), np.float32)
    x[0, 0, 0], x[0, 1:, channels - 1] = -1e5, 1e5
    spikes, _ = nets.by_document(network, x, tmp_path)
    by_c, _ = nets.by_c(network, x, tmp_path)
    assert spikes[0].any() and all(np.array_equal(a, b) for a, b in zip(spikes, by_c))


def test_folding_the_gain_keeps_the_spikes(tmp_path):
    network = nets.network(hidden=(30, 20), dtype="float64")
    folded = network.folded()
    assert all(np.array_equal(layer.R, layer.tau) for layer in folded.layers)
    assert not np.array_equal(network.layers[0].R, network.layers[0].tau)
    x = nets.inputs()
    a, b = (nets.by_document(own, x, tmp_path) for own in (network, folded))
    assert all(np.array_equal(one, other) for one, other in zip(a[0], b[0])) and np.array_equal(a[1], b[1])


BAD = {
    "no layer": (lambda d: {"layers": ()}, "layers"),
    "tau_s": (lambda d: {"tau_s": 0.5}, "tau_s"),
    "class names": (lambda d: {"class_names": ("a",)}, "class_names"),
    "name": (lambda d: {"name": "a\nb"}, "name"),
    "v_th": (lambda d: change(d, v_th=-1.0), "v_th1"),
    "not a number": (lambda d: change(d, w=with_entry(d.layers[0].w, (2, 3), np.nan)), r"w1\[2, 3\]"),
    "shape": (lambda d: change(d, R=d.layers[0].R[1:]), "R1"),
    "dtype": (lambda d: change(d, tau=d.layers[0].tau.astype("float64")), "tau1"),
    "tau": (lambda d: change(d, tau=with_entry(d.layers[0].tau, 4, 0.1)), r"tau1\[4\]"),
    "receiver": (lambda d: change(d, indices=with_entry(d.layers[0].indices, 0, 99)), r"rec1_indices\[0\]"),
    "order": (lambda d: change(d, indices=d.layers[0].indices[::-1].copy()), "rec1_indices"),
    "indptr": (lambda d: change(d, indptr=with_entry(d.layers[0].indptr, 0, 1)), "rec1_indptr"),
    "data": (lambda d: change(d, data=d.layers[0].data[1:]), "rec1_data"),
}


def change(description, **values):
    return {"layers": (dataclasses.replace(description.layers[0], **values), *description.layers[1:])}


def with_entry(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize("changes, entry", BAD.values(), ids=BAD)
def test_a_description_that_does_not_fit_is_refused(changes, entry):
    network = nets.network()
    with pytest.raises(InputError, match=f"^{entry}.*: expected .*, found "):
        dataclasses.replace(network, **changes(network))
