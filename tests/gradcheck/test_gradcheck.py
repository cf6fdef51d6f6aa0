"""The checks of the gradients: they pass, and each of them can fail."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from hrmas_sparse.engine.losses import CrossEntropyLoss
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine import neuron
from hrmas_sparse.search import hrmas as search
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.backends.base import Gradients, Intrinsic
from hrmas_sparse.engine.backends.cpu import losses
from hrmas_sparse.engine.backends.cpu.layer import Layer
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.gradcheck import adjoint, differences, golden, rules, spiking
from hrmas_sparse.gradcheck.lines import Line, relative_error, table
from hrmas_sparse.gradcheck.problems import central_differences
from hrmas_sparse.engine.recurrence import Relaxed

gradcheck = importlib.import_module("hrmas_sparse.gradcheck")  # the package, not the public function

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CONSTANTS = {"slope_cap", "surrogate_width", "period", "w_inh", "v_th", "v_th_2", "v_th_out"}  # with a default
UNUSED = {"motif_size", "motif_size_2"}
Backend = type(get_backend())


@pytest.fixture
def stored():
    """The golden numbers."""
    return GOLDEN


def one_file(stored, folder, kind, change):
    """A folder with one golden file, its arrays changed in place by ``change``."""
    with np.load(stored / f"{kind}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    np.savez(folder / f"{kind}.npz", **arrays)
    return folder


# ---- they pass ---------------------------------------------------------------------------------------


def test_all_is_well(capsys):
    assert gradcheck.main() == 0
    text = capsys.readouterr().out
    assert "FAIL" not in text and "within their bounds" in text
    assert "golden numbers" in text and "--golden DIR" in text and "not checked" in text
    for what in ("smooth", "spiking", "adjoint", "SpiKL-IP", "second order"):
        assert what in text
    for kind in ("tied", "untied", "stacked", "psc period 1", "psc period 2", "cross_entropy", "alpha_size", "w_exc",
                 "ln R1", "ln tau1", "ln tau, layer 2"):
        assert kind in text


def test_golden_numbers(stored, capsys, monkeypatch):
    monkeypatch.setattr(gradcheck, "PARTS", ())
    assert gradcheck.main(stored) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("lyon.npz" in line for line in lines) == 1
    assert [line for line in lines if "not checked" in line and "lyon.npz" not in line] == []
    for kind in golden.KINDS:
        assert sum(line.startswith(kind) for line in lines) >= 8
    assert sum("golden number, float32" in line for line in lines) == sum("golden number, float64" in line
                                                                        for line in lines)


@pytest.mark.parametrize("trajectory", [False, True])
def test_the_spiking_problem_meets_every_branch(trajectory):
    net, parameters, events = spiking.problem(get_backend(), trajectory)
    for layer, record in zip(net.hidden, net.evaluate(parameters, events, record=True).records):
        v, spikes, psc = record["v"], record["spikes"], record["psc"]
        before = np.concatenate([np.zeros_like(v[:, :1]), (v * (1 - spikes))[:, :-1]], axis=1)
        capped = (v - before < layer.v_th / spiking.CAP)[(spikes > 0) & (psc >= 0.25)]
        assert 0.01 < capped.mean() < 0.99 and 0.1 < (psc < 0.25).mean() < 0.9
        assert np.abs(v - layer.v_th).min() > 1e-6, "a spike hangs on rounding"


# ---- they can fail -----------------------------------------------------------------------------------


def scaled(name, where, factor, pick=None):
    """A sabotage: what a function returns, or one item of it, times a factor."""
    def sabotage(monkeypatch):
        honest = getattr(where, name)

        def wrong(*args, **kwargs):
            result = honest(*args, **kwargs)
            if pick is None:
                return result * factor
            if isinstance(result, dict):
                return result | {pick: result[pick] * factor}
            return type(result)(x * factor if n == pick else x for n, x in enumerate(result))
        monkeypatch.setattr(where, name, wrong)
    return sabotage


def constant(name, where, **factors):
    """A sabotage: constants of the formulas times a factor each."""
    def sabotage(monkeypatch):
        honest = getattr(where, name)

        def wrong(*args, **kwargs):
            k = honest(*args, **kwargs)
            return k._replace(**{key: type(k.one)(getattr(k, key) * factor) for key, factor in factors.items()})
        monkeypatch.setattr(where, name, wrong)
    return sabotage


def forgotten_link(monkeypatch):
    """The first link never gets a gradient."""
    for name in ("weight_gradients", "backward"):
        honest = getattr(Layer, name)

        def wrong(self, *args, honest=honest, **kwargs):
            gradients, = (arg for arg in args if isinstance(arg, Gradients))
            before = gradients.dlinks.copy()
            result = honest(self, *args, **kwargs)
            gradients.dlinks[:1] = before[:1]
            return result
        monkeypatch.setattr(Layer, name, wrong)


def wrong_weights_above(monkeypatch):
    """Errors come down through weights that are a little off."""
    honest = Layer.backward

    def wrong(self, tape, above, *args, **kwargs):
        return honest(self, tape, above._replace(w=above.w * (1 + 1e-8)), *args, **kwargs)
    monkeypatch.setattr(Layer, "backward", wrong)


def wrong_filter_back(monkeypatch):
    """What the output layer gets from the loss is a little off."""
    honest = Layer.effect_of_loss

    def wrong(self, *args):
        above = honest(self, *args)
        return above._replace(errors=above.errors * (1 + 1e-6))
    monkeypatch.setattr(Layer, "effect_of_loss", wrong)


def frozen_step(monkeypatch):
    """R and tau of every step are those of the first."""
    honest = Backend.layer
    monkeypatch.setattr(Backend, "layer", lambda self, slot, neurons, synapses, intrinsic: honest(
        self, slot, neurons, synapses, Intrinsic(
            *(np.broadcast_to(x[..., :1, :], x.shape) if x.ndim > 1 else x for x in intrinsic))))


def first_sample(monkeypatch):
    """R and tau of every sample are those of the first."""
    honest = Backend.layer
    monkeypatch.setattr(Backend, "layer", lambda self, slot, neurons, synapses, intrinsic: honest(
        self, slot, neurons, synapses, Intrinsic(*(x[0] if x.ndim > 2 else x for x in intrinsic))))


def wrong_sign(monkeypatch):
    """The second order is added, not subtracted."""
    honest = search.bilevel

    def wrong(*args, **kwargs):
        second, passed = honest(*args, **kwargs)
        return Parameters({name: 2 * first[name] - g for name, g in layer.items()}
                          for layer, first in zip(second.layers, passed.gradients.layers)), passed
    monkeypatch.setattr(search, "bilevel", wrong)


def first_order(monkeypatch):
    honest = search.bilevel
    monkeypatch.setattr(search, "bilevel", lambda net, parameters, batches, eta, clip: honest(
        net, parameters, batches, 0, clip))


SABOTAGES = {
    "gradient of the psc loss": (differences, scaled("judge", losses, 1.001, 2)),
    "psc loss": (spiking, scaled("judge", losses, 1 + 1e-8, 0)),
    "gradient of the cross entropy": (differences, scaled("__call__", CrossEntropyLoss, 1.001, 1)),
    "NaN": (differences, scaled("judge", losses, np.nan, 2)),
    "gradient of tau": (differences, scaled("intrinsic_gradients", Layer, 1 + 1e-5)),
    "gradient of R, spiking": (spiking, scaled("intrinsic_gradients", Layer, 1 + 1e-8)),
    "smooth errors": (differences, scaled("_back_smooth", Layer, 1.00001)),
    "pullback of alpha": (differences, scaled("pullback", Relaxed, 1.001, "alpha_size")),
    "relaxation": (differences, scaled("effective", Relaxed, 1.001)),
    "gradient of one link": (differences, forgotten_link),
    "gradient of one link, spiking": (spiking, forgotten_link),
    "synaptic decay": (spiking, constant("constants", neuron, decay_s=1.000001)),
    "slope cap": (spiking, constant("constants", neuron, cap=1.000001)),
    "surrogate width": (spiking, constant("constants", neuron, inv_width=1.000001)),
    "silence": (spiking, constant("constants", neuron, below_silent=2.0)),
    "errors to the layer below": (spiking, wrong_weights_above),
    "R and tau by step": (spiking, frozen_step),
    "R and tau by sample": (spiking, first_sample),
    "transpose": (adjoint, scaled("effect_below", Layer, 1 + 1e-6)),
    "filter back": (adjoint, wrong_filter_back),
    "gradient of one link, adjoint": (adjoint, forgotten_link),
    "pullback of w_exc": (adjoint, scaled("pullback", Relaxed, 1 + 1e-6, "w_exc")),
    "gamma": (rules, constant("plasticity_constants", neuron, gamma=1.00001)),
    "target rate": (rules, constant("plasticity_constants", neuron, inv_mu=1.00001)),
    "calcium": (rules, constant("plasticity_constants", neuron, inv_tau_cal=1.00001)),
    "drift": (rules, constant("plasticity_constants", neuron, drift=1.00001)),
    "upper bound": (rules, constant("plasticity_constants", neuron, high=1.00001)),
    "sign of the second order": (rules, wrong_sign),
    "first order only": (rules, first_order),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_wrong_engine_fails(name, monkeypatch, capsys):
    part, sabotage = SABOTAGES[name]
    monkeypatch.setattr(gradcheck, "PARTS", (part,))
    if part is differences:  # enough to see it, in half the time
        monkeypatch.setattr(differences, "CASES", [differences.CASES[0], differences.CASES[1]])
    sabotage(monkeypatch)
    assert gradcheck.main() == 1
    text = capsys.readouterr().out
    assert "FAIL" in text and "over their bound" in text


@pytest.mark.parametrize("name", ["psc loss", "synaptic decay", "surrogate width", "pullback of alpha", "calcium",
                                  "gradient of one link", "sign of the second order"])
def test_golden_numbers_find_a_wrong_engine(name, stored, monkeypatch):
    monkeypatch.setattr(gradcheck, "PARTS", ())
    assert all(line.ok is not False for line in gradcheck.run_golden(stored))
    SABOTAGES[name][1](monkeypatch)
    assert gradcheck.main(stored) == 1


# ---- golden files that are not what they should be ---------------------------------------------------


def results(arrays):
    """Names of the arrays that are compared with, not put in."""
    given = {"X", "Y", "X_valid", "Y_valid", "W_in", "W_in_2", "W_rec", "W_rec_2", "W_out", "R", "tau", "R_2", "tau_2",
             "w_exc", "sizes", "alpha_size", "tau_m", "tau_s", "tau_cal", "gamma", "mu", "eta"} | CONSTANTS | UNUSED
    plastic = {"R", "tau"} if "R_end" in arrays else set()
    return {name for name in arrays if name not in given and not name.startswith("alpha_")} | plastic


@pytest.mark.parametrize("kind", golden.KINDS)
def test_every_stored_result_is_compared(kind, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(gradcheck, "PARTS", ())
    compared = set()

    def change(arrays):
        compared.update(results(arrays))
        for name in compared:
            value = arrays[name] = np.array(arrays[name], float)
            value.flat[np.abs(value).argmax()] *= 1 + 1e-4

    failed = [line for line in gradcheck.run_golden(one_file(stored, tmp_path, kind, change)) if line.ok is False]
    assert {line.what.split(": ")[1] for line in failed} == compared
    assert gradcheck.main(tmp_path) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["dW_in", "W_in", "loss"])
def test_no_number_fails(name, value, stored, tmp_path, recwarn):
    def change(arrays):
        arrays[name] = np.array(arrays[name])
        arrays[name].flat[3 % arrays[name].size] = value
    lines = gradcheck.run_golden(one_file(stored, tmp_path, "recurrent_const", change))
    assert any(line.ok is False for line in lines)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_no_number_among_the_spikes_is_refused(value, stored, tmp_path):
    def change(arrays):
        arrays["X"] = np.array(arrays["X"], float)
        arrays["X"].flat[3] = value
    with pytest.raises(InputError, match="recurrent_const.npz: .* found"):
        gradcheck.run_golden(one_file(stored, tmp_path, "recurrent_const", change))


def test_another_shape_fails(stored, tmp_path):
    def change(arrays):
        arrays["dW_in"] = arrays["dW_in"][:1]
    lines = gradcheck.run_golden(one_file(stored, tmp_path, "recurrent_const", change))
    assert [line.what for line in lines if line.ok is False] == ["recurrent_const: dW_in"]


@pytest.mark.parametrize("kind", golden.KINDS)
def test_a_missing_array_is_named(kind, stored, tmp_path):
    with np.load(stored / f"{kind}.npz") as file:
        names = set(file.files) - CONSTANTS - UNUSED
    for name in names:
        folder = one_file(stored, tmp_path, kind, lambda arrays: arrays.pop(name))  # noqa: B023
        with pytest.raises(InputError, match=rf"{kind}\.npz: array '{name}': missing"):
            gradcheck.run_golden(folder)


@pytest.mark.parametrize("name, value", [
    ("X", np.zeros((7, 60))), ("X", np.zeros((7, 60, 11))), ("X", np.zeros((0, 60, 10))), ("Y", np.zeros(6)),
    ("Y", np.full(7, 5)), ("Y", np.full(7, -1)), ("Y", np.full(7, np.nan)), ("W_in", np.zeros(24)),
    ("W_rec", np.zeros((24, 23))), ("W_out", np.zeros((5, 23))), ("R", np.zeros(23)), ("tau", np.zeros((59, 24))),
    ("tau_s", np.array(0.0)), ("tau_m", np.array(np.nan)), ("v_th", np.ones(24)), ("loss", np.array("much"))])
def test_an_input_that_cannot_be_is_named(name, value, stored, tmp_path):
    folder = one_file(stored, tmp_path, "recurrent_const", lambda arrays: arrays.update({name: value}))
    with pytest.raises(InputError, match=r"recurrent_const\.npz: array '\w+': expected"):
        gradcheck.run_golden(folder)


def test_motif_sizes_that_cannot_be(stored, tmp_path):
    def change(arrays):
        arrays["sizes"] = np.array([2, 3, 4, 5])
    with pytest.raises(InputError, match=r"supernet.npz.*divisors of 24 neurons, found \(2, 3, 4, 5\)"):
        gradcheck.run_golden(one_file(stored, tmp_path, "supernet", change))


def test_broken_files(stored, tmp_path):
    whole = (stored / "smooth.npz").read_bytes()
    rng = np.random.default_rng(0)
    broken = [b"", b"no zip", whole[:len(whole) // 2], whole[:-30]]
    for _ in range(20):
        other = bytearray(whole)
        for place in rng.integers(len(whole), size=30):
            other[place] ^= 255
        broken.append(bytes(other))
    for content in broken:
        (tmp_path / "smooth.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"smooth\.npz"):
            gradcheck.run_golden(tmp_path)


def test_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "smooth.npz", X=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"smooth\.npz"):
        gradcheck.run_golden(tmp_path)


def test_no_golden_numbers(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        gradcheck.main(tmp_path / "none")
    (tmp_path / "README.md").write_text("no numbers")
    with pytest.raises(InputError, match=r"no \.npz file"):
        gradcheck.main(tmp_path)


def test_unknown_and_absent_kinds_do_not_fail(stored, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gradcheck, "PARTS", ())
    (tmp_path / "other.npz").write_bytes(b"whatever")
    shutil.copy(stored / "smooth.npz", tmp_path)
    assert gradcheck.main(tmp_path) == 0
    text = capsys.readouterr().out
    assert text.count("other.npz") == 1 and text.count("supernet.npz") == 1
    assert text.count("not checked") == len(golden.KINDS)


def test_unknown_backend():
    with pytest.raises(InputError, match="backend"):
        gradcheck.run("abacus")


# ---- the tools ---------------------------------------------------------------------------------------


def test_lines():
    lines = [Line("a", "b", 1e-12, 1e-9), Line("a", "b", 1e-3, 1e-9), Line("a", "b", np.nan, 1e-9),
             Line("a", "b", np.inf, np.inf), Line("a long name", "nothing")]
    assert [line.ok for line in lines] == [True, False, False, True, None]
    rows = table(lines).splitlines()
    assert len({row.index("b") for row in rows[2:6]}) == 1
    assert [row.split()[-1] for row in rows[2:]] == ["ok", "FAIL", "FAIL", "ok", "checked"]


def test_relative_error():
    assert relative_error([2.0, 4.0], [2.0, 5.0]) == 0.2
    assert relative_error([0.0, 0.5], [0.0, 0.0]) == 0.5
    assert relative_error([1.0], [1.0, 1.0]) == np.inf
    assert np.isnan(relative_error([np.nan, 1.0], [1.0, 1.0])) and np.isnan(relative_error([1.0], [np.nan]))


def test_central_differences():
    x = np.array([[0.5, -1.0], [2.0, 3.0]])
    kept = x.copy()
    np.testing.assert_allclose(central_differences(lambda: np.sin(x).prod(), x, 1e-3),
                               np.sin(x).prod() / np.tan(x), rtol=1e-10)
    np.testing.assert_array_equal(x, kept)


def test_products_of_nothing_disagree():
    nothing = [(np.zeros(3), np.zeros(3))]
    assert adjoint.disagreement(nothing, nothing) == np.inf
