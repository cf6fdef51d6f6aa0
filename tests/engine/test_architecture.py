"""The discrete result: what it refuses, how it reads, that files come back as written or are refused."""

import hashlib
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from hrmas_sparse.engine.architecture import EXCITATORY, INHIBITORY, NONE, Architecture, load, save
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.engine.recurrence import table_rows


def architecture(neurons=8, size=2, inter=True, tied=True, seed=0):
    count = table_rows(neurons, size, inter, tied)
    return Architecture(neurons, size, inter, np.random.default_rng(seed).integers(0, 3, count).astype(np.int8), tied)


def same(a, b):
    return (a.neurons, a.motif_size, a.linked, a.tied) == (b.neurons, b.motif_size, b.linked, b.tied) and \
        a.types.dtype == b.types.dtype and np.array_equal(a.types, b.types)


# ---- the thing itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("neurons, size", [(8, 3), (8, 0), (8, -2), (0, 1), (8, 16), (-8, 2)])
def test_motifs_have_to_fill_the_layer(neurons, size):
    with pytest.raises(InputError, match="does not divide|expected a whole number"):
        Architecture(neurons, size, False, np.zeros(max(size, 0)**2, np.int8))


@pytest.mark.parametrize("types", [np.full(4, 3), np.full(4, -1), np.zeros((2, 2)), np.array(0), np.full(4, 0.5)],
                         ids=["3", "-1", "matrix", "number", "half"])
def test_types_are_a_list_of_three_kinds(types):
    with pytest.raises(InputError, match="types: expected a list of 0"):
        Architecture(8, 2, False, types)


@pytest.mark.parametrize("make, message", [
    (lambda: Architecture(8, 2, "yes", np.zeros(8, int)), "linked: expected True or False, found 'yes'"),
    (lambda: Architecture(8, 2, True, np.zeros(8, int), tied=1), "tied: expected True or False, found 1"),
    (lambda: Architecture(8, 2, True, [[1], [1, 2]]), "types: expected an array, found list"),
    (lambda: Architecture.from_signs(8, [[1], [1, 2]]), "intra: expected an array, found list"),
])
def test_what_is_of_another_kind(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("inter, count, wanted", [(True, 4, 8), (False, 8, 4), (True, 0, 8)])
def test_a_motif_has_a_type_for_every_connection(inter, count, wanted):
    with pytest.raises(InputError, match=f"types: expected {wanted} for motifs of 2 neurons, found {count}"):
        Architecture(8, 2, inter, np.zeros(count, np.int8))


def test_it_cannot_be_rebound():
    with pytest.raises(AttributeError):
        architecture().motif_size = 4


def test_views():
    a = Architecture(4, 2, True, np.array([0, 1, 2, 0, 1, 1, 2, 0], np.int8))
    assert a.intra_types.tolist() == [[EXCITATORY, INHIBITORY], [NONE, EXCITATORY]]
    assert a.inter_types.tolist() == [[INHIBITORY, INHIBITORY], [NONE, EXCITATORY]]
    assert a.intra.tolist() == [[1, -1], [0, 1]] and a.inter.tolist() == [[-1, -1], [0, 1]]
    apart = Architecture(4, 2, False, np.zeros(4, np.int8))
    assert apart.inter_types.shape == (2, 0) and apart.inter.tolist() == [[0, 0], [0, 0]]


def test_signs_there_and_back():
    for linked in (True, False):
        a = architecture(neurons=12, size=4, inter=linked)
        again = Architecture.from_signs(12, a.intra, a.inter if linked else None)
        np.testing.assert_array_equal(again.types, a.types)
        assert again.linked == linked
    for intra, inter in (([[2]], None), ([[0.5]], None), ([[1, 1]], None), ([[1]], [[1]]), (3, None), ([], None),
                         ([["+"]], None), ([[np.nan]], None)):
        with pytest.raises(InputError, match="intra, inter: expected"):
            Architecture.from_signs(4, intra, inter)


def test_carried_to_another_layer():
    a = architecture(neurons=12, size=4)
    wide = a.carried_to(neurons=40)
    assert (wide.neurons, wide.motif_size, wide.linked) == (40, 4, a.linked)
    np.testing.assert_array_equal(wide.types, a.types)
    for neurons in (41, 0, -4, 2.5, True, "40", 10**30):
        with pytest.raises(InputError, match="neurons: expected a whole number|does not divide"):
            a.carried_to(neurons=neurons)
    with pytest.raises(InputError, match="expected a tied one"):
        architecture(neurons=12, size=4, tied=False).carried_to(neurons=24)


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_a_drawing_shows_every_connection(tmp_path, size):
    a = Architecture.random(4 * size, size, seed=size)
    root = ElementTree.fromstring(a.draw(tmp_path / "motif.svg"))
    assert (tmp_path / "motif.svg").read_text() == a.draw()
    assert a.draw() in a._repr_html_() and repr(a) in a._repr_html_()
    named = [part.tag.rpartition("}")[2] for part in root.iter()]
    assert named.count("polygon") == (a.types == EXCITATORY).sum()      # arrow heads
    assert named.count("line") == (a.types == INHIBITORY).sum()         # bars
    assert named.count("rect") == (a.inter != 0).sum() and named.count("text") == size
    numbers = [float(x) for x in re.findall(r"(?<=[ ,\"])-?[0-9.]+(?=[ ,\"])", a.draw()) if "." in x]
    assert all(-5 <= x <= 325 for x in numbers) and np.isfinite(numbers).all()


def test_a_drawing_of_an_untied_one_says_so():
    assert "its own type" in ElementTree.fromstring(architecture(tied=False).draw()).find("{*}title").text


def test_random_ones_take_every_kind_of_seed():
    draws = [Architecture.random(8, 4, seed).types for seed in (3, [3], np.random.default_rng(3), np.int64(3))]
    assert (draws[0] == draws[2]).all() and (draws[0] == draws[3]).all()
    for seed in (-1, 1.5, "a", None, True):
        with pytest.raises(InputError, match="seed: expected"):
            Architecture.random(8, 4, seed)


def test_saved_and_loaded_by_layer(tmp_path):
    a, b = architecture(neurons=8, size=4), architecture(neurons=6, size=2)
    a.save(tmp_path / "a.json")
    assert same(Architecture.load(tmp_path / "a.json"), a)
    save(tmp_path / "two.json", [a, b])
    assert same(Architecture.load(tmp_path / "two.json", layer=1), b)
    for layer in (2, -1):
        with pytest.raises(InputError, match="two.json: expected a layer of 2"):
            Architecture.load(tmp_path / "two.json", layer)


def test_describe():
    types = np.array([0, 1, 2, 0, 1, 1, 2, 0], np.int8)
    head, legend, *motif = Architecture(4, 2, True, types).describe()
    assert head == "motif size 2, 4 neurons, 2 motifs" and "excitatory" in legend and "next motif" in legend
    assert motif == ["  + - | - -", "  . + | . +"]
    _, legend, *motif = Architecture(4, 2, False, types[:4]).describe()
    assert "next motif" not in legend and motif == ["  + -", "  . +"]
    line, = architecture(tied=False).describe()
    assert "own type" in line


# ---- files --------------------------------------------------------------------------------------------------


LAYERS = [
    [architecture()],
    [architecture(inter=False), architecture(6, 6), architecture(5, 1, True, False), architecture(4, 2, False, False)],
    [architecture(40, 40, seed=3)],
    [],
]


@pytest.mark.parametrize("layers", LAYERS, ids=len)
def test_round_trip(tmp_path, layers):
    path = tmp_path / "architecture.json"
    save(path, layers)
    found = load(path)
    assert len(found) == len(layers) and all(same(a, b) for a, b in zip(found, layers))
    first = path.read_bytes()
    save(path, found)
    assert path.read_bytes() == first and [p.name for p in tmp_path.iterdir()] == ["architecture.json"]
    assert load(str(path))[:1] == [] or same(load(str(path))[0], layers[0])


def broken(path, change):
    save(path, [architecture(), architecture(4, 4)])
    value = json.loads(path.read_text())
    change(value, value["layers"][1])
    if "layers" in value:                                      # so that it is not the checksum that refuses
        value["sha256"] = hashlib.sha256(json.dumps(value["layers"]).encode()).hexdigest()
    path.write_text(json.dumps(value))


CHANGES = {
    "no layers": lambda whole, layer: whole.pop("layers"),
    "layers are a number": lambda whole, layer: whole.update(layers=5),
    "layers are text": lambda whole, layer: whole.update(layers="abc"),
    "layers hold null": lambda whole, layer: whole.update(layers=[None]),
    **{f"no {key}": lambda whole, layer, key=key: layer.pop(key)
       for key in ("neurons", "motif_size", "inter", "tied", "connection_types")},
    "neurons are text": lambda whole, layer: layer.update(neurons="many"),
    "neurons are null": lambda whole, layer: layer.update(neurons=None),
    "neurons are infinite": lambda whole, layer: layer.update(neurons=float("inf")),
    "neurons are not a number": lambda whole, layer: layer.update(neurons=float("nan")),
    "no neurons": lambda whole, layer: layer.update(neurons=0),
    "a motif that does not fit": lambda whole, layer: layer.update(motif_size=3),
    "a motif of nothing": lambda whole, layer: layer.update(motif_size=0),
    "a type too few": lambda whole, layer: layer["connection_types"].pop(),
    "a type too many": lambda whole, layer: layer["connection_types"].append(0),
    "inter without its types": lambda whole, layer: layer.update(inter=False),
    "an unknown type": lambda whole, layer: layer["connection_types"].__setitem__(3, 3),
    "a negative type": lambda whole, layer: layer["connection_types"].__setitem__(3, -1),
    "a huge type": lambda whole, layer: layer["connection_types"].__setitem__(3, 10**30),
    "a type that wraps around": lambda whole, layer: layer["connection_types"].__setitem__(3, 256),
    "a type in words": lambda whole, layer: layer["connection_types"].__setitem__(3, "none"),
    "a null type": lambda whole, layer: layer["connection_types"].__setitem__(3, None),
    "types in a matrix": lambda whole, layer: layer.update(connection_types=[[0] * 12, [1] * 12]),
    "types as a number": lambda whole, layer: layer.update(connection_types=0),
    "ragged types": lambda whole, layer: layer.update(connection_types=[[0, 1], [2]]),
}
# Values a file may have by hand or by damage that Python would quietly make something of.
QUIET = {
    "half a type": lambda whole, layer: layer["connection_types"].__setitem__(3, 0.5),
    "a type that is true": lambda whole, layer: layer["connection_types"].__setitem__(3, True),
    "neurons and a half": lambda whole, layer: layer.update(neurons=4.5),
    "neurons in digits": lambda whole, layer: layer.update(neurons="4"),
    "inter in words": lambda whole, layer: layer.update(inter="false"),
    "tied in words": lambda whole, layer: layer.update(tied="false"),
    "untied with a tied table": lambda whole, layer: layer.update(tied=False),
    "another schema": lambda whole, layer: whole.update(schema=2),
    "no schema": lambda whole, layer: whole.pop("schema"),
    "types in another order": lambda whole, layer: whole.update(types=["none", "inhibitory", "excitatory"]),
}


@pytest.mark.parametrize("change", CHANGES | QUIET)
def test_damaged_values_are_refused(tmp_path, change):
    path = tmp_path / "architecture.json"
    broken(path, (CHANGES | QUIET)[change])
    with pytest.raises(InputError, match="architecture.json"):
        load(path)


def test_cut_files_are_refused(tmp_path):
    path = tmp_path / "architecture.json"
    save(path, [architecture()])
    whole = path.read_bytes()
    for length in range(len(whole.rstrip())):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="architecture.json"):
            load(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[]", b"null", b"7", b"{}", b"{" * 50, b'"layers"'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "architecture.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="architecture.json"):
        load(path)


def test_missing_files_are_refused(tmp_path):
    for path in (tmp_path / "architecture.json", tmp_path):
        with pytest.raises(InputError, match=path.name):
            load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "architecture.json"
    save(path, [architecture()])
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        save(path, [architecture(), None])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["architecture.json"]
