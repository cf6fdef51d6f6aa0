"""Files that are no networks of ours: one InputError that names the file and the entry, never anything else."""

import io
import os
import zipfile

import h5py
import nets
import nir as nir_package
import numpy as np
import pytest

from hrmas_sparse.export import arrays, nir
from hrmas_sparse.storage.errors import InputError

MALFORMED = int(os.environ.get("HRMAS_MALFORMED", 125))  # of each kind


@pytest.fixture
def network():
    return nets.network(hidden=(6, 5), channels=4, classes=3)


@pytest.fixture
def graph(network, tmp_path):
    nir.write(tmp_path / "good.nir", network)
    return nir_package.read(tmp_path / "good.nir")


def refused(graph_or_path, tmp_path, **options):
    """The message with which a graph is refused."""
    path = graph_or_path
    if isinstance(graph_or_path, nir_package.NIRGraph):
        path = tmp_path / "bad.nir"
        nir_package.write(path, graph_or_path)
    with pytest.raises(InputError) as caught:
        nir.read(path, **options)
    text = str(caught.value)
    assert str(path) in text and len(text) < 600 and "expected" in text and "found" in text
    return text


# ---- NIR: other networks -------------------------------------------------------------------------------------


def lif(size=6):
    ones = np.ones(size)
    return nir_package.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones)


def test_other_neurons(graph, tmp_path):
    graph.nodes["layer1.lif"] = lif()
    assert "'layer1.lif'" in (text := refused(graph, tmp_path)) and "found LIF" in text and "CubaLIF" in text


def test_a_graph_in_a_graph(graph, tmp_path):
    inner = nir_package.NIRGraph.from_list(nir_package.Linear(np.ones((6, 6))))
    graph.nodes["layer1.w_rec"] = inner
    assert "'layer1.w_rec'" in (text := refused(graph, tmp_path)) and "NIRGraph" in text


def test_a_convolution(graph, tmp_path):
    graph.nodes["w1"] = nir_package.Conv1d(4, np.ones((6, 4, 1)), 1, 0, 1, 1, np.zeros(6))
    assert "'w1'" in (text := refused(graph, tmp_path)) and "Conv1d" in text


NUMBERS = {
    "v_reset": (lambda n: n.v_reset + 0.5, "v_reset: expected 0"),
    "v_leak": (lambda n: n.v_leak - 1, "v_leak: expected 0"),
    "v_threshold": (lambda n: n.v_threshold * np.arange(1, 7), "v_threshold: expected the same"),
    "tau_syn": (lambda n: n.tau_syn * np.arange(1, 7), "tau_syn: expected the same"),
    "tau_mem": (lambda n: n.tau_mem * 0, "tau_mem: expected positive"),
    "r": (lambda n: n.r * np.nan, "r: expected finite"),
    "w_in": (lambda n: n.w_in * np.nan, "finite"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_neurons_that_ours_cannot_be(graph, name, tmp_path):
    change, expected = NUMBERS[name]
    node = graph.nodes["layer1.lif"]
    setattr(node, name, change(node))
    assert expected in refused(graph, tmp_path)


def test_layers_of_different_synapses(graph, tmp_path):
    graph.nodes["layer2.lif"].tau_syn = graph.nodes["layer2.lif"].tau_syn * 2
    assert "tau_syn: expected that of the first layer" in refused(graph, tmp_path)


def test_a_bias(graph, tmp_path):
    graph.nodes["w2"] = nir_package.Affine(graph.nodes["w2"].weight, np.ones(5, np.float32))
    assert "'w2': bias: expected none" in refused(graph, tmp_path)


def test_no_bias_after_all(graph, tmp_path):
    graph.nodes["w2"] = nir_package.Affine(graph.nodes["w2"].weight, np.zeros(5, np.float32))
    nir_package.write(tmp_path / "fine.nir", graph)
    assert nir.read(tmp_path / "fine.nir").layers[1].size == 5


def test_a_step_of_unknown_length(graph, tmp_path):
    graph.metadata = {}
    assert "give dt=" in refused(graph, tmp_path)
    assert nir.read(tmp_path / "bad.nir", dt=1e-4).tau_s == 8
    assert nir.read(tmp_path / "bad.nir", dt=2e-4).tau_s == 4


EDGES = {
    "to nowhere": ([("w1", "nowhere")], [], "no node 'nowhere'"),
    "past a layer": ([("layer1.lif", "w_out")], [], "'layer1.lif'"),
    "back to an earlier layer": ([("layer2.lif", "layer1.w_rec")], [], "layer"),
    "around the input": ([("layer1.lif", "w1")], [], "'w1'"),
    "missing": ([], [("w2", "layer2.lif")], "'w2'"),
    "no output": ([], [("layer_out.lif", "output")], "'layer_out.lif'"),
    "recurrence left open": ([], [("layer1.lif", "layer1.w_rec")], "'layer1.lif'"),
    "twice": ([("w1", "layer1.lif")], [], "twice"),
}


@pytest.mark.parametrize("case", EDGES)
def test_graphs_that_are_no_chain(graph, case, tmp_path):
    more, fewer, expected = EDGES[case]
    graph.edges = [edge for edge in graph.edges if edge not in fewer] + more
    assert expected in refused(graph, tmp_path)


def test_a_node_beside_the_chain(graph, tmp_path):
    graph.nodes["spare"] = nir_package.Linear(np.ones((2, 2)))
    assert "'spare'" in refused(graph, tmp_path)


def test_two_inputs(graph, tmp_path):
    graph.nodes["more"] = nir_package.Input({"input": np.array([4])})
    graph.edges.append(("more", "w1"))
    assert "one node of kind Input, found 2" in refused(graph, tmp_path)


def test_shapes_that_do_not_meet(graph, tmp_path):
    graph.nodes["w2"].weight = graph.nodes["w2"].weight[:, :-1]
    assert "w2: expected float32 of shape (6, any)" in refused(graph, tmp_path)


def test_images_as_input(graph, tmp_path):
    graph.nodes["input"].input_type = {"input": np.array([2, 2])}
    assert "'input': shape" in refused(graph, tmp_path)


# ---- NIR: files --------------------------------------------------------------------------------------------


def changed_file(network, tmp_path, change):
    path = tmp_path / "bad.nir"
    nir.write(path, network)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace(file, name, **new):
    if name in file:
        del file[name]
    if new:
        file.create_dataset(name, **new)


def external(file):
    replace(file, "node/nodes/w1/weight")
    file["node/nodes/w1/weight"] = h5py.ExternalLink("/etc/passwd", "/x")


def to_itself(file):
    replace(file, "node/nodes/w1/weight")
    file["node/nodes/w1/weight"] = h5py.SoftLink("/node/nodes/w2/weight")


def enormous(file):
    replace(file, "node/nodes/w1/weight", shape=(1 << 20, 1 << 19), dtype="f4", chunks=(1024, 1024))


def packed(file):
    replace(file, "node/nodes/w1/weight", shape=(1 << 16, 1 << 16), dtype="f8", chunks=(4096, 4096), compression=9)


FILES = {
    "no type": (lambda f: replace(f, "node/nodes/w1/type"), "'w1'"),
    "a type that is a number": (lambda f: replace(f, "node/nodes/w1/type", data=3), "nodes/w1/type"),
    "no weights": (lambda f: replace(f, "node/nodes/w1/weight"), "'w1': weight"),
    "weights that are text": (lambda f: replace(f, "node/nodes/w1/weight", data=[[b"x"]]), "w1/weight"),
    "one dimension": (lambda f: replace(f, "node/nodes/w1/weight", data=np.ones(3)), "w1/weight"),
    "too few neurons": (lambda f: replace(f, "node/nodes/layer1.lif/r", data=np.ones(5)), "'layer1.lif': r"),
    "no edges": (lambda f: replace(f, "node/edges"), "node/edges"),
    "edges of three": (lambda f: replace(f, "node/edges", data=[[b"a", b"b", b"c"]]), "node/edges"),
    "no nodes": (lambda f: replace(f, "node/nodes"), "node"),
    "a link out of the file": (external, "'w1'"),
    "a link inside the file": (to_itself, "'w1'"),
    "more than is stored": (enormous, "w1/weight"),
    "a bomb": (packed, "w1/weight"),
    "class names": (lambda f: replace(f, "node/metadata/class_names", data="[1, 2, 3]"), "class_names"),
    "too few class names": (lambda f: replace(f, "node/metadata/class_names", data='["a"]'), "class_names"),
    "motif types": (lambda f: f.create_group("node/metadata/topology/1"), "topology/1"),
    "dt": (lambda f: replace(f, "node/metadata/dt", data=-1.0), "node/metadata/dt"),
}


@pytest.mark.parametrize("case", FILES)
def test_entries_that_do_not_fit(network, case, tmp_path):
    change, expected = FILES[case]
    path = changed_file(network, tmp_path, change)
    with pytest.raises(InputError, match=expected) as caught:
        nir.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("read", [nir.read, arrays.read])
@pytest.mark.parametrize("content", [b"", b"not a network\n", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" + bytes(100), None])
def test_no_network_at_all(read, content, tmp_path):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="file"):
        read(path)


# ---- archives ----------------------------------------------------------------------------------------------


def archive(network, tmp_path, **changes):
    """An archive with entries changed, or left out where None."""
    arrays.write(tmp_path / "good.npz", network)
    with np.load(tmp_path / "good.npz") as good:
        entries = {name: good[name] for name in good.files} | changes
    np.savez(tmp_path / "bad.npz", **{name: value for name, value in entries.items() if value is not None})
    return tmp_path / "bad.npz"


ENTRIES = {
    "format": "another", "version": "2", "layers": np.array(["1", "_out"]), "w1": None, "w2": np.ones((3, 3), "f4"),
    "w_out": np.array([["a"]]), "R1": np.ones((2, 2), "f4"), "tau2": np.zeros(5, "f4"), "v_th1": np.float32("nan"),
    "rec1_indptr": np.zeros(7), "rec1_indices": np.ones((1, 1), int), "rec2_data": np.ones(1, "f4"), "tau_s": None,
    "class_names": np.array(["a"]), "name": np.array(["a", "b"]), "more": np.ones(2), "motif1_size": 3,
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_that_does_not_fit(network, entry, tmp_path):
    path = archive(network, tmp_path, **{entry: ENTRIES[entry]})
    with pytest.raises(InputError, match="expected|missing") as caught:
        arrays.read(path)
    text = str(caught.value)
    assert str(path) in text and (entry in text or entry.startswith("motif") or entry == "layers")


def test_pickles_stay_closed(network, tmp_path):
    path = archive(network, tmp_path, w1=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="object"):
        arrays.read(path)


def test_an_archive_that_claims_more_than_it_holds(network, tmp_path):
    path = archive(network, tmp_path, w1=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 20)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("w1.npy", header.getvalue())
    with pytest.raises(InputError, match="claims 4,398,046,511,104 bytes"):
        arrays.read(path)


# ---- at random ---------------------------------------------------------------------------------------------


def damaged(good, rng):
    """Bytes with something wrong: a few others, a piece lost, doubled or filled."""
    data, kind = bytearray(good), rng.integers(5)
    place, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    if kind == 0:
        for place in rng.integers(len(data), size=rng.integers(1, 9)):
            data[place] = rng.integers(256)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        del data[place:place + length]
    elif kind == 3:
        data[place:place] = data[place:place + length]
    else:
        data[place:place + length] = bytes([rng.choice([0, 255])]) * length
    return bytes(data)


@pytest.mark.parametrize("kind", ["nir", "npz"])
def test_damage_is_refused_or_touches_no_number(network, kind, tmp_path):
    """Weights are checksummed by the formats themselves: a file that is read in spite of damage has the same."""
    write, read = (nir.write, nir.read) if kind == "nir" else (arrays.write, arrays.read)
    write(tmp_path / "good", network)
    good, refusals = (tmp_path / "good").read_bytes(), 0
    for seed in range(MALFORMED):
        path = tmp_path / "bad"
        path.write_bytes(damaged(good, np.random.default_rng([3, seed])))
        try:
            found = read(path)
        except InputError as error:
            assert str(path) in str(error) and str(error).isprintable(), seed
            refusals += 1
        else:
            for a, b in zip(found.layers, network.layers, strict=True):
                assert np.array_equal(a.w, b.w) and np.array_equal(a.dense(), b.dense()), seed
    assert refusals > MALFORMED // 4


# What may become of an array, and whether the array was such that it then no longer fits.
CHANGES = {
    "complex": lambda a: a.astype("c8"),
    "text": lambda a: a.astype("U9"),
    "one dimension more": lambda a: a[..., None],
    "entries missing": lambda a: a[..., :-1] if a.size else None,
    "not a number": lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" and a.size else None,
    "infinite": lambda a: np.full_like(a, -np.inf) if a.dtype.kind == "f" and a.size else None,
    "negative": lambda a: np.full_like(a, -7) if a.dtype.kind == "i" and a.size else None,
    "too large": lambda a: np.full_like(a, 1 << 40) if a.dtype.kind == "i" and a.size else None,
    "missing": lambda a: ...,
}


def test_archives_with_changed_entries_are_refused(network, tmp_path):
    arrays.write(tmp_path / "good", network)
    with np.load(tmp_path / "good") as good:
        entries = {name: good[name] for name in good.files}
    numbers, done = [name for name in entries if entries[name].dtype.kind in "fi" and entries[name].ndim], 0
    for seed in range(MALFORMED):
        rng = np.random.default_rng([4, seed])
        name, change = rng.choice(numbers), rng.choice(list(CHANGES))
        value = CHANGES[change](entries[name])
        if value is None:
            continue
        changed = {key: entry for key, entry in (entries | {name: value}).items() if entry is not ...}
        np.savez(tmp_path / "bad.npz", **changed)
        with pytest.raises(InputError, match="bad.npz"):
            arrays.read(tmp_path / "bad.npz")
        done += 1
    assert done > MALFORMED // 2


def test_graphs_with_changed_entries_are_refused(network, tmp_path):
    nir.write(tmp_path / "good", network)
    done = 0
    for seed in range(MALFORMED):
        rng = np.random.default_rng([5, seed])
        with h5py.File(io.BytesIO((tmp_path / "good").read_bytes()), "r+") as file:
            node = rng.choice([name for name in file["node/nodes"] if len(file["node/nodes"][name]) > 1])
            name = rng.choice([name for name in file["node/nodes"][node] if name not in ("type", "metadata")])
            place = f"node/nodes/{node}/{name}"
            value = file[place][()]
            others = [value[..., None], value[..., :-1], np.full(value.shape, b"x"), value.astype("c8"),
                      np.full(value.shape, np.nan), np.float64(3)]
            replace(file, place, data=others[rng.integers(len(others))])
            file.flush()
            (tmp_path / "bad").write_bytes(file.id.get_file_image())
        with pytest.raises(InputError, match="bad"):
            nir.read(tmp_path / "bad")
        done += 1
    assert done == MALFORMED
