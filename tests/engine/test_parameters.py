"""Parameters: a list of dicts, flat names in files, and what is no network's array."""

import numpy as np
import pytest
from dense import assert_same_bits, random_case

from hrmas_sparse.engine.parameters import LayerParameters, Parameters
from hrmas_sparse.storage.errors import InputError

STACKS = [(), (("feedforward", 5),), (("supernet", 6, (2, 3)), ("motif", 6, 3)), tuple(("free", 3) for _ in range(11))]


@pytest.mark.parametrize("stack", STACKS, ids=["output only", "feedforward", "two", "eleven layers"])
def test_flat_names_there_and_back(stack, tmp_path):
    parameters = random_case(1, stack).parameters("float32")
    flat = parameters.flatten()
    assert len(flat) == sum(len(layer) for layer in parameters.layers) and "w_out" in flat
    again = Parameters.unflatten({name: flat[name] for name in sorted(flat)})
    assert [sorted(layer) for layer in again.layers] == [sorted(layer) for layer in parameters.layers]
    assert_same_bits(again.flatten(), {name: flat[name] for name in again.flatten()})
    parameters.save(tmp_path / "p.h5")
    loaded = Parameters.load(tmp_path / "p.h5")
    assert_same_bits({name: loaded.flatten()[name] for name in flat}, flat)


def test_names_are_those_that_files_have_had():
    parameters = random_case(1, STACKS[2]).parameters()
    assert list(parameters.flatten()) == [
        "w1", "rec1.w_exc", "rec1.alpha_size", "rec1.alpha_2", "rec1.alpha_3", "R1", "tau1", "w2", "rec2.w_exc",
        "R2", "tau2", "w_out"]


def test_a_part_keeps_its_layers():
    parameters = random_case(1, STACKS[2]).parameters()
    part = parameters.only([(1, "w_exc"), (0, "alpha_2")])
    assert list(part.flatten()) == ["rec1.alpha_2", "rec2.w_exc"]
    assert part.layers[1].w_exc is parameters.layers[1].w_exc
    again = Parameters.unflatten(part.flatten(), layers=3)
    assert [list(layer) for layer in again.layers] == [["alpha_2"], ["w_exc"], []]
    assert {*parameters.trained().flatten(), *parameters.intrinsic().flatten()} == set(parameters.flatten())


def test_feedforward_weights_come_first():
    """The order in which a global norm adds up, and so its bits."""
    entries = [entry for entry, _ in random_case(1, STACKS[2]).parameters().trained().items()]
    assert entries[:4] == [(0, "w"), (1, "w"), (2, "w"), (0, "w_exc")] and entries[-1] == (1, "w_exc")


def test_copies_share_nothing_and_replacing_copies_nothing():
    parameters = random_case(1, STACKS[2]).parameters()
    copy = parameters.copy()
    copy.layers[0].w[:] = 7
    assert (parameters.layers[0].w != 7).all()
    both = parameters.replaced(Parameters([{"w": copy.layers[0].w}, {}, {}]))
    assert both.layers[0].w is copy.layers[0].w and both.layers[1].w is parameters.layers[1].w
    assert (parameters.layers[0].w != 7).all()
    with pytest.raises(ValueError, match="shorter|longer"):
        parameters.replaced(Parameters([{}]))


def test_attributes_are_entries():
    layer = LayerParameters(w=np.ones(2))
    layer.w_exc = np.zeros(3)
    layer["R"] = np.ones(2)
    assert layer["w_exc"].size == 3 and layer.R.size == 2
    with pytest.raises(AttributeError, match="no parameter 'tau'; there are w, w_exc, R"):
        layer.tau  # noqa: B018
    assert "w_exc: float64 (3,)" in repr(Parameters([layer]))


@pytest.mark.parametrize("name", ["w0", "w3", "w2", "rec3.w_exc", "rec0.w", "rec1.w", "rec1.R", "R0", "tau4", "R1 ",
                                  "w_in", "w01", "", "rec1", "rec1.", "w\u0661", "W1", "rec1.w_exc.b", "../w1"])
def test_names_of_no_network_are_refused(name):
    with pytest.raises(InputError, match="is no array of a network of 2 layers"):
        Parameters.unflatten({name: np.ones(1)}, layers=2)


def test_a_file_of_something_else_is_refused(tmp_path):
    from hrmas_sparse.storage import arrayfile
    with pytest.raises(InputError, match="p.h5"):
        Parameters.load(tmp_path / "p.h5")
    arrayfile.save(tmp_path / "p.h5", "weights", {"w1": np.ones(2)}, {})
    with pytest.raises(InputError, match="expected a parameters"):
        Parameters.load(tmp_path / "p.h5")
    for about in ({}, {"layers": 10**9}, {"layers": 0}, {"layers": "2"}, [1]):
        arrayfile.save(tmp_path / "p.h5", "parameters", {"w1": np.ones(2)}, about)
        with pytest.raises(InputError, match="its number of layers"):
            Parameters.load(tmp_path / "p.h5")
