"""Networks described, exported and read back: the same spikes on the engine, in C and by the document's lines."""

import shutil

import nets
import numpy as np
import pytest

import hrmas_sparse as hs
from hrmas_sparse.engine.parameters import Parameters

ARCHITECTURE = hs.Architecture.random(neurons=24, motif_size=4, seed=3)
LAYERS = {
    "motifs": [hs.Motifs(24, architecture=ARCHITECTURE)],
    "untied motifs": [hs.Motifs(24, size=3, tied=False, inter=False, seed=1)],
    "no excitation": [hs.Motifs(8, architecture=hs.Architecture(8, 2, True, np.ones(8, np.int8)))],
    "dense": [hs.Dense(15)],
    "feedforward": [hs.Feedforward(15)],
    "several": [hs.Motifs(24, size=6, seed=2), hs.Feedforward(9), hs.Dense(7, v_th=0.2)],
    "none": [],
    "supernet": [hs.Supernet(20, sizes=(2, 5))],
}
layers = pytest.mark.parametrize("hidden", LAYERS.values(), ids=LAYERS)


def network(hidden, **options):
    neuron = hs.LIF(tau_m=16, tau_s=8, v_th=0.4, v_th_out=0.3)
    net = hs.Network(channels=6, classes=3, hidden=hidden, neuron=neuron, backend="cpu", **options)
    params, rng = net.init(seed=1), np.random.default_rng(2)
    for layer in params.layers[:-1]:
        for name in ("R", "tau"):
            layer[name] = (16 * rng.uniform(0.7, 1.5, layer[name].shape)).astype(net.dtype)
    return net, params


def batch(channels=6, samples=7):
    x = nets.inputs(samples=samples, channels=channels, density=0.2).astype(np.uint8)
    return hs.Events.from_dense(x, labels=np.zeros(samples, int)), x.astype(np.float32)


def spikes_of(net, params, events):
    out = net.evaluate(params, events, record=True)
    return [spikes > 0.5 for spikes in out.spikes], out.predicted


def assert_same(found, expected):
    assert [int((a != b).sum()) for a, b in zip(*(spikes for spikes, _ in (found, expected)), strict=True)] \
        == [0] * len(found[0])
    assert np.array_equal(found[1], expected[1])


@layers
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_what_is_exported_spikes_as_the_engine(hidden, tmp_path):
    net, params = network(hidden)
    events, x = batch()
    ours = spikes_of(net, params, events)
    assert all(spikes.any() for spikes in ours[0])
    description = net.describe(params)
    assert_same(nets.by_document(description, x, tmp_path), ours)
    assert_same(nets.by_c(description, x, tmp_path), ours)


@layers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("suffix", ["nir", "npz"])
def test_what_is_read_back_is_the_same_network(hidden, dtype, suffix, tmp_path):
    net, params = network(hidden, dtype=dtype)
    path = tmp_path / f"net.{suffix}"
    net.export(path, params)
    read = hs.Network.from_nir if suffix == "nir" else hs.Network.from_npz
    again, back = read(path, backend="cpu")
    events, _ = batch()
    assert_same(spikes_of(again, back, events), spikes_of(net, params, events))
    for before, after in zip(net.layers, again.layers):
        if not isinstance(hidden[0] if hidden else None, hs.Supernet):
            assert type(before.recurrence) is type(after.recurrence)
        assert (before.size, before.v_th) == (after.size, pytest.approx(after.v_th, rel=1e-15))
    if not any(isinstance(layer, hs.Supernet) for layer in hidden):
        for (name, a), (other, b) in zip(sorted(params.flatten().items()), sorted(back.flatten().items()), strict=True):
            assert name == other and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=0 if dtype == "float32" else 1e-14)


def test_a_motif_comes_back_as_a_motif_even_where_weights_are_zero(tmp_path):
    net, params = network(LAYERS["motifs"])
    params.layers[0].w_exc[::3] = 0
    net.export(tmp_path / "net.nir", params)
    again, back = hs.Network.from_nir(tmp_path / "net.nir", backend="cpu")
    found = again.layers[0].recurrence.architecture
    assert np.array_equal(found.types, ARCHITECTURE.types) and found.motif_size == 4
    assert np.array_equal(back.layers[0].w_exc, params.layers[0].w_exc)


def test_what_is_read_can_be_trained(tmp_path):
    net, params = network(LAYERS["several"])
    net.export(tmp_path / "net.nir", params)
    again, back = hs.Network.from_nir(tmp_path / "net.nir", backend="cpu", loss="cross_entropy")
    gradients = again.gradients(back, batch()[0]).gradients
    assert all(np.isfinite(x).all() for x in gradients.flatten().values())
    assert back.layers[0].w.flags.writeable


def test_the_output_layers_gain_goes_into_its_weights(tmp_path):
    from hrmas_sparse.export import arrays
    description = nets.network(spread_out=False)
    arrays.write(tmp_path / "net.npz", description)
    net, params = hs.Network.from_npz(tmp_path / "net.npz", backend="cpu")
    events, x = batch(channels=7)
    spikes, decisions = nets.by_document(description, x, tmp_path)
    assert_same(spikes_of(net, params, events), (spikes, decisions))


def refused(match, function, *args, **options):
    with pytest.raises(hs.InputError, match=match):
        function(*args, **options)


def test_what_cannot_be_exported_is_refused(tmp_path):
    net, params = network(LAYERS["motifs"])
    refused("'.pt'.*suffix", net.export, tmp_path / "net.pt", params)
    refused("'no suffix'", net.export, tmp_path / "net", params)
    refused("cannot be written", net.export, tmp_path / "nowhere" / "net.npz", params)
    refused("dt: expected", net.export, tmp_path / "net.nir", params, dt=0)
    refused("w_exc", net.export, tmp_path / "net.npz", Parameters([{"w": params.layers[0].w}, params.layers[1]]))
    trajectory = params.copy()
    trajectory.layers[0].R = np.ones((10, 24), np.float32)
    refused("R: expected one number a neuron, found a trajectory", net.export, tmp_path / "net.npz", trajectory)
    infinite = params.copy()
    infinite.layers[0].w[2, 3] = np.inf
    refused(r"w1\[2, 3\]: expected a finite number", net.export, tmp_path / "net.h", infinite)
    smooth, its = network(LAYERS["dense"], smooth=True, dtype="float64")
    refused("smooth", smooth.export, tmp_path / "net.nir", its)
    assert list(tmp_path.iterdir()) == []


def test_nir_needs_its_package(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, "nir", None)
    net, params = network(LAYERS["motifs"])
    refused("package nir is not installed", net.export, tmp_path / "net.nir", params)


@pytest.mark.parametrize("change, message", [
    ({"rec1_data": lambda a: a * np.linspace(1, 2, a.size, dtype=a.dtype)}, "inhibitory"),
    ({"motif1_types": lambda a: a * 0 + 2}, "motif has connections"),
    ({"motif1_size": lambda a: a * 0 + 7}, "topology of layer 1"),
    ({"tau_out": lambda a: a * np.array([1, 1, 2], a.dtype)}, "tau_out"),
])
def test_a_file_that_is_no_network_of_ours(change, message, tmp_path):
    net, params = network(LAYERS["motifs"])
    net.export(tmp_path / "good.npz", params)
    with np.load(tmp_path / "good.npz") as file:
        entries = {name: file[name] for name in file.files}
    np.savez(tmp_path / "bad.npz", **entries | {name: do(entries[name]) for name, do in change.items()})
    refused(f"bad.npz: .*{message}", hs.Network.from_npz, tmp_path / "bad.npz", backend="cpu")


def test_a_run_is_exported_from_python_and_from_the_shell(tmp_path, capsys):
    import toys

    from hrmas_sparse.cli import main
    from hrmas_sparse.export import arrays
    done = toys.run(tmp_path / "run", toys.settings("network.neurons=[12,6]"), toys.cache(tmp_path / "cache.h5"))
    run = hs.load_run(done.path)
    for name in ("net.nir", "net.npz", "net.h"):
        run.export(tmp_path / name)
        assert main(["export", str(done.path), str(tmp_path / f"shell-{name}")]) == 0
    assert "net.h and shell-net.c" in capsys.readouterr().out
    assert (tmp_path / "net.npz").read_bytes() == (tmp_path / "shell-net.npz").read_bytes()
    assert arrays.read(tmp_path / "net.npz").name == "run"
    net, params = hs.Network.from_nir(tmp_path / "net.nir", backend="cpu")
    ours, back = run.params.flatten(), params.flatten()
    assert ours.keys() == back.keys() and all(np.array_equal(ours[name], back[name]) for name in ours)
    assert main(["export", str(done.path), str(tmp_path / "net.onnx")]) == 2
    assert "suffix" in capsys.readouterr().err
