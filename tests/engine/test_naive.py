"""naive.py against the golden numbers, against finite differences, and against its own double sums."""
import copy
import math
from pathlib import Path

import numpy as np
import pytest

import naive

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-9


def golden(name):
    with np.load(GOLDEN / (name + ".npz")) as data:
        return {key: data[key] for key in data.files}


def error(x, ref):
    """The error of golden/README.md: max|x - ref| / max|ref|."""
    x, ref = np.asarray(x), np.asarray(ref)
    assert x.shape == ref.shape
    return float(np.max(np.abs(x - ref)) / np.max(np.abs(ref)))


def assert_equal(got, want, names=None, tolerance=TOLERANCE):
    """Every array named in names (all of got when None); the failure shows every error."""
    errors = {name: error(got[name], want[name]) for name in names or got}
    assert all(e <= tolerance for e in errors.values()), errors


def layers_of(d):
    """The golden file's network; constants it does not hold are those of golden/README.md."""
    N, O, tau_m = len(d["W_in"]), len(d["W_out"]), float(d["tau_m"])
    start = np.full(N, tau_m)
    v_th = float(d["v_th"])
    layers = [dict(W_in=d["W_in"], W_rec=d.get("W_rec"), R=d.get("R", start), tau=d.get("tau", start), v_th=v_th)]
    if "W_in_2" in d:
        layers.append(dict(W_in=d["W_in_2"], W_rec=d["W_rec_2"], R=d["R_2"], tau=d["tau_2"], v_th=float(d["v_th_2"])))
    layers.append(dict(W_in=d["W_out"], W_rec=None, R=np.full(O, tau_m), tau=np.full(O, tau_m),
                       v_th=float(d.get("v_th_out", v_th))))
    return layers


def settings_of(d):
    return dict(tau_s=float(d["tau_s"]), slope_cap=float(d.get("slope_cap", 8.0)),
                width=float(d.get("surrogate_width", 0.2)), period=int(d.get("period", 1)))


def named(out):
    """network_gradients' result under the golden files' names."""
    hidden = ["", "_2"][:len(out["dW_in"]) - 1]
    got = dict(loss=out["loss"], pred=out["pred"], spikes=out["spikes"][0], dW_out=out["dW_in"][-1],
               delta_out=out["delta"][-1], hidden_psc=out["tapes"][0]["a"], out_psc=out["tapes"][-1]["a"])
    for l, end in enumerate(hidden):
        got.update({"dW_in" + end: out["dW_in"][l], "dW_rec" + end: out["dW_rec"][l],
                    "delta_hidden" + end: out["delta"][l]})
    return got


# --- golden numbers: every result each file holds ----------------------------------------------------------

RESULTS = {
    "feedforward_published": "loss dW_in dW_out hidden_psc out_psc",
    "recurrent_const": "loss pred spikes dW_in dW_rec dW_out delta_hidden delta_out",
    "recurrent_trajectory": "loss pred spikes dW_in dW_rec dW_out delta_hidden delta_out",
    "two_layers": "loss pred dW_in dW_rec dW_in_2 dW_rec_2 dW_out delta_hidden delta_hidden_2 delta_out",
    "smooth": "loss dW_in dW_rec dW_out",
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("double_sum", [False, True], ids=["recursion", "double_sum"])
def test_network(name, double_sum):
    d = golden(name)
    out = naive.network_gradients(d["X"], d["Y"], layers_of(d), **settings_of(d), smooth=name == "smooth",
                                  double_sum=double_sum)
    got = named(out)
    for key in [key for key in d if key.startswith("dW_rec")]:     # the files hold the entries that are there
        got[key] = np.where(d[key[1:]] != 0, got[key], 0)
    assert_equal(got, d, RESULTS[name].split())


@pytest.mark.parametrize("name", ["recurrent_const", "recurrent_trajectory", "two_layers", "spikl_ip"])
def test_patterns(name):
    d = golden(name)
    for end in ["", "_2"]:
        if "motif_size" + end in d:
            pattern = naive.motif_pattern(len(d["W_rec" + end]), int(d["motif_size" + end]))
            assert not d["W_rec" + end][~pattern].any()


def supernet_of(d):
    sizes = [int(v) for v in d["sizes"]]
    alphas = {v: {part: d[f"alpha_{part}_{v}"] for part in ("intra", "inter")} for v in sizes}
    hidden, out = layers_of(d)
    hidden.update(sizes=sizes, alpha_size=d["alpha_size"], alphas=alphas, w_exc=d["w_exc"])
    return [hidden, out]


def alpha_names(grads, prefix):
    got = {prefix + "size": grads["alpha_size"]}
    for v, parts in grads["alphas"].items():
        got.update({f"{prefix}{part}_{v}": x for part, x in parts.items()})
    return got


def test_supernet():
    d = golden("supernet")
    layers = supernet_of(d)
    assert float(d["w_inh"]) == naive.W_INH
    relaxation = naive.relaxation_of(layers[0])
    np.testing.assert_array_equal(naive.union_pattern(relaxation["N"], relaxation["sizes"]), d["pattern"])
    loss, grads = naive.supernet_gradients(d["X"], d["Y"], layers, **settings_of(d))
    got = dict(loss=loss, W=naive.effective_matrix(**relaxation), dW_in=grads[0]["W_in"], dW_out=grads[1]["W_in"],
               dw_exc=grads[0]["w_exc"], **alpha_names(grads[0], "dalpha_"))
    assert len(got) == 5 + sum(key.startswith("dalpha_") for key in d)
    assert_equal(got, d)


def test_hyper_gradient():
    d = golden("supernet")
    layers = supernet_of(d)
    before = copy.deepcopy(layers)
    out = naive.hyper_gradient((d["X"], d["Y"]), (d["X_valid"], d["Y_valid"]), layers, eta=float(d["eta"]),
                               **settings_of(d))
    got = dict(eps=out["eps"], loss_valid=out["loss"], **alpha_names(out["grads"][0], "hyper_"))
    assert len(got) == 2 + sum(key.startswith("hyper_") for key in d)
    assert_equal(got, d)
    assert all(np.array_equal(x["W_in"], y["W_in"]) for x, y in zip(layers, before))   # w is not touched
    np.testing.assert_array_equal(layers[0]["w_exc"], before[0]["w_exc"])


def test_spikl_ip():
    d = golden("spikl_ip")
    start = np.full(len(d["W_in"]), float(d["tau_m"]))
    constants = {key: float(d[key]) for key in ("tau_s", "tau_m", "tau_cal", "gamma", "mu")}
    layer = dict(W_in=d["W_in"], W_rec=d["W_rec"], R=start, tau=start, v_th=float(d["v_th"]))
    out, = naive.spikl_ip_network(d["X"], [layer], **constants)
    assert_equal(dict(out, spikes=out["s"]), d, ["spikes", "R", "tau", "R_end", "tau_end"])
    tape = naive.forward_layer(d["X"], d["W_in"], d["W_rec"], d["R"], d["tau"], constants["tau_s"], layer["v_th"])
    np.testing.assert_array_equal(tape["s"], d["spikes"])      # the trajectory replayed gives the same spikes


# --- identities, on networks of our own (no golden file needed) -----------------------------------------

def random_network(seed, B=3, T=25, C=5, sizes=(8, 6), O=3, trajectory=True):
    rng = np.random.default_rng(seed)
    X = (rng.random((B, T, C)) < 0.3) * rng.random((B, T, C)) * 2
    layers, fan = [], C
    for n, v_th in zip(sizes + (O,), (12.0, 9.0, 8.0)):
        shape = [(n,), (T, n), (B, T, n)][len(layers)] if trajectory else (n,)
        layers.append(dict(W_in=rng.normal(0.4, 1.2, (n, fan)), W_rec=rng.normal(0, 0.5, (n, n)), v_th=v_th,
                           R=rng.uniform(10, 24, shape), tau=rng.uniform(10, 24, shape)))
        fan = n
    layers[-1]["W_rec"] = None
    return X, rng.integers(0, O, B), layers


def test_at_the_threshold_no_spike():
    """v > v_th, not >=, which no golden file decides; and one step by hand after it."""
    tape = naive.forward_layer(np.array([[[1.0], [1.0]]]), np.array([[8.0]]), None, [16.0], [16.0], 8.0, 8.0)
    np.testing.assert_array_equal(tape["v"][0, :, 0], [8.0, 7.5 + 15.0])
    np.testing.assert_array_equal(tape["s"][0, :, 0], [0.0, 1.0])
    np.testing.assert_array_equal(tape["u"][0, :, 0], [8.0, 0.0])


def test_cross_entropy_gradient():
    a, Y = np.random.default_rng(7).uniform(0, 8, (3, 4, 5)), [0, 4, 2]
    numeric = central_differences(lambda: naive.loss_cross_entropy(a, Y)[0], a, 1e-4)
    assert error(naive.loss_cross_entropy(a, Y)[1] / 3, numeric) < 1e-6


def test_synaptic_filter_identity():
    """Section 1: one filter per receiving neuron = one per sending neuron."""
    X, _, layers = random_network(0)
    for x in layers:
        args = (X, x["W_in"], x["W_rec"], x["R"], x["tau"], 8.0, x["v_th"])
        a, b = naive.forward_layer(*args), naive.forward_layer(*args, direct=True)
        assert a["s"].any()
        assert_equal(a, b, tolerance=1e-12)
        X = a["s"]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("slope_cap", [1.0, 8.0])
@pytest.mark.parametrize("loss", ["psc", "cross_entropy"])
def test_recursions_are_the_double_sums(smooth, slope_cap, loss):
    X, Y, layers = random_network(1)
    both = [naive.network_gradients(X, Y, layers, 8.0, loss=loss, slope_cap=slope_cap, smooth=smooth, double_sum=way)
            for way in (False, True)]
    a, b = (dict(enumerate(x["delta"] + x["dW_in"] + x["dW_rec"][:-1])) for x in both)
    assert_equal(a, b, tolerance=1e-11)


def central_differences(f, x, step):
    """df/dx for every entry of the array x, which is moved in place and put back."""
    grad = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        keep = x[index]
        x[index] = keep + step
        up = f()
        x[index] = keep - step
        grad[index] = (up - f()) / (2 * step)
        x[index] = keep
    return grad


def test_smooth_golden_by_central_differences():
    d = golden("smooth")
    layers = layers_of(d)
    tau_s = float(d["tau_s"])

    def loss():
        return naive.network_loss(naive.network_forward(d["X"], layers, tau_s, True)[-1]["a"], d["Y"], tau_s)[0]

    for name, x in [("dW_in", d["W_in"]), ("dW_rec", d["W_rec"]), ("dW_out", d["W_out"])]:
        numeric = central_differences(loss, x, 1e-5)
        if name == "dW_rec":
            numeric = np.where(d["W_rec"] != 0, numeric, 0)
        assert error(d[name], numeric) < 1e-6, name


@pytest.mark.parametrize("loss", ["psc", "cross_entropy"])
def test_smooth_gradients_by_central_differences(loss):
    """Two recurrent layers, R and tau of every shape, both losses."""
    X, Y, layers = random_network(2, T=12, sizes=(5, 4))
    g = naive.network_gradients(X, Y, layers, 8.0, loss=loss, smooth=True, period=2)

    def f():
        a = naive.network_forward(X, layers, 8.0, True)[-1]["a"]
        return naive.network_loss(a, Y, 8.0, loss, period=2)[0]

    for l, x in enumerate(layers):
        assert error(g["dW_in"][l], central_differences(f, x["W_in"], 1e-5)) < 1e-6
        if x["W_rec"] is not None:
            assert error(g["dW_rec"][l], central_differences(f, x["W_rec"], 1e-5)) < 1e-6


def small_supernet(inter, tied, seed=3):
    X, Y, layers = random_network(seed, T=12, sizes=(6,), trajectory=False)
    rng = np.random.default_rng(seed)
    alphas = {}
    for v in (2, 3):
        count = int(naive.motif_pattern(6, v, inter).sum())
        alphas[v] = dict(all=rng.normal(size=(count, 3))) if not tied else dict(intra=rng.normal(size=(v, v, 3)))
        if tied and inter:
            alphas[v]["inter"] = rng.normal(size=(v, 2, 3))
    layers[0].update(sizes=[2, 3], alpha_size=rng.normal(size=2), alphas=alphas, inter=inter, tied=tied,
                     w_exc=rng.uniform(0.1, 0.4, (6, 6)) * naive.union_pattern(6, [2, 3], inter))
    return X, Y, layers


@pytest.mark.parametrize("inter", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_supernet_gradients_by_central_differences(inter, tied):
    X, Y, layers = small_supernet(inter, tied)
    x, g = layers[0], naive.supernet_gradients(X, Y, layers, 8.0, smooth=True)[1][0]

    def f():
        return naive.supernet_gradients(X, Y, layers, 8.0, smooth=True)[0]

    groups = [(g["alpha_size"], x["alpha_size"]), (g["w_exc"], x["w_exc"]), (g["W_in"], x["W_in"])]
    groups += [(g["alphas"][v][part], x["alphas"][v][part]) for v in x["sizes"] for part in x["alphas"][v]]
    for ours, param in groups:
        assert error(ours, central_differences(f, param, 1e-5)) < 1e-6


def test_untied_equals_tied_spread_out():
    """The same alpha at every tied place: the same W, and untied gradients that add up to the tied ones."""
    _, _, layers = small_supernet(True, True)
    tied = naive.relaxation_of(layers[0])
    untied = dict(tied, tied=False, alphas={})
    places = {v: naive.connections(6, v) for v in tied["sizes"]}
    for v in tied["sizes"]:
        untied["alphas"][v] = dict(all=np.array([tied["alphas"][v][part][index] for _, _, part, index in places[v]]))
    assert_equal(dict(W=naive.effective_matrix(**untied)), dict(W=naive.effective_matrix(**tied)), tolerance=1e-15)
    G = np.random.default_rng(0).normal(size=(6, 6))
    a, b = naive.relaxation_gradients(G, **tied), naive.relaxation_gradients(G, **untied)
    assert_equal(a, b, ["alpha_size", "w_exc"], tolerance=1e-14)
    for v in tied["sizes"]:
        total = {part: np.zeros(x.shape) for part, x in tied["alphas"][v].items()}
        for (_, _, part, index), x in zip(places[v], b["alphas"][v]["all"]):
            total[part][index] += x
        assert_equal(a["alphas"][v], total, tolerance=1e-12)


def test_hyper_gradient_by_finite_differences():
    """Section 12(d), smooth variant: d/d alpha of L_valid(w - eta grad_w L_train(w, alpha), alpha).

    1e-5 and not less: eps = 0.01 / ||D|| is a finite step, and the formula is exact only in its limit.
    """
    X, Y, layers = small_supernet(True, True)
    Xv, Yv, _ = small_supernet(True, True, seed=4)
    X, Xv, eta, settings = 3 * X, 3 * Xv, 1e-4, dict(tau_s=8.0, smooth=True)
    out, first = (naive.hyper_gradient((X, Y), (Xv, Yv), layers, eta=rate, **settings)["grads"] for rate in (eta, 0.0))
    assert out[1] is None                                      # the output layer has no alpha

    def f():
        w = naive.moved(layers, -eta, naive.supernet_gradients(X, Y, layers, **settings)[1])
        return naive.supernet_gradients(Xv, Yv, w, **settings)[0]

    params = alpha_names(layers[0], "alpha_")
    for name, numeric in {name: central_differences(f, x, 1e-5) for name, x in params.items()}.items():
        assert error(alpha_names(out[0], "alpha_")[name], numeric) < 1e-5, name
        assert error(alpha_names(first[0], "alpha_")[name], numeric) > 1e-3, name      # the second term matters here


def test_hyper_gradient_clips_the_inner_step():
    X, Y, layers = small_supernet(True, True)
    loss, grads = naive.supernet_gradients(X, Y, layers, 8.0)
    norm = naive.weights_norm(layers, grads)
    free, loose, tight = (naive.hyper_gradient((X, Y), (X, Y), layers, 8.0, eta=1e-2, clip_norm=c)
                          for c in (None, 2 * norm, norm / 2))
    assert free["loss"] == loose["loss"]
    half = naive.supernet_gradients(X, Y, naive.moved(layers, -0.5e-2, grads), 8.0)[0]
    assert tight["loss"] == pytest.approx(half, rel=1e-12)


# --- SpiKL-IP's rule, the optimiser, the discretisation ---------------------------------------------------

def test_spikl_ip_rule_is_the_descent_of_kl_loss():
    rng = np.random.default_rng(5)
    for _ in range(50):
        tau_m, mu, v_th, gamma = 16.0, rng.uniform(0.05, 0.4), rng.uniform(4, 20), 1e-3
        R, tau = rng.uniform(10, 60, 2)
        x = v_th / R * rng.uniform(1.4, 6)                     # y tau = 1 / ln(Rx / (Rx - v_th)) > 0.64
        y = 1 / (tau * math.log(R * x / (R * x - v_th)))
        new_R, new_tau = naive.spikl_ip_update(R, tau, y, v_th, tau_m, gamma, mu)
        h = 1e-4
        dR = (naive.kl_loss(R + h, tau, x, mu, v_th) - naive.kl_loss(R - h, tau, x, mu, v_th)) / (2 * h)
        dtau = (naive.kl_loss(R, tau + h, x, mu, v_th) - naive.kl_loss(R, tau - h, x, mu, v_th)) / (2 * h)
        assert (new_R - R) / gamma == pytest.approx(-dR, rel=1e-5, abs=1e-7)
        assert (new_tau - tau) / gamma == pytest.approx(-dtau, rel=1e-5, abs=1e-7)


def test_spikl_ip_silent_and_bounds():
    assert naive.spikl_ip_update(16.0, 16.0, 0.0, 8.0, 16.0, 2.0, 0.2) == pytest.approx((16.2, 15.8))
    assert naive.spikl_ip_update(16.0, 16.0, 0.04, 8.0, 16.0, 2.0, 0.2) == pytest.approx((16.2, 15.8))  # y tau = 0.64
    assert naive.spikl_ip_update(127.99, 8.01, 0.0, 8.0, 16.0, 2.0, 0.2) == (128.0, 8.0)


def test_spikl_ip_two_layers():
    """Every recurrent layer adapts at once, on the spikes that the layer below gives while adapting."""
    X, _, layers = random_network(6, trajectory=False)
    start = [dict(x, R=np.full(len(x["W_in"]), 16.0), tau=np.full(len(x["W_in"]), 16.0)) for x in layers]
    out = naive.spikl_ip_network(X, start, tau_s=8.0, tau_m=16.0, tau_cal=16.0, gamma=2.0, mu=0.2)
    assert out[0]["s"].any() and out[1]["s"].any() and "R_end" not in out[2]
    s = X
    for x, window in zip(layers[:2], out):                     # replaying the trajectories gives the spikes again
        tape = naive.forward_layer(s, x["W_in"], x["W_rec"], window["R"], window["tau"], 8.0, x["v_th"])
        np.testing.assert_array_equal(tape["s"], window["s"])
        assert (window["R_end"] != 16).any() and (window["tau_end"] != 16).any()
        s = tape["s"]


def test_adam_and_clipping():
    w, m, v = np.array([1.0, 2.0]), np.zeros(2), np.zeros(2)
    for step in range(1, 4):                                   # a constant gradient: every step is lr * sign(grad)
        w, m, v = naive.adam_step(w, np.array([3.0, -5.0]), m, v, step, lr=0.1, eps=0.0)
        np.testing.assert_allclose(w, [1 - 0.1 * step, 2 + 0.1 * step], rtol=1e-14)
    grads = [np.array([3.0]), np.array([[0.0, 4.0]])]
    clipped, norm = naive.clip_by_global_norm(grads, 1.0)
    assert norm == 5.0 and naive.global_norm(clipped) == pytest.approx(1.0)
    assert naive.clip_by_global_norm(grads, 6.0)[0][1] is not grads[1]
    np.testing.assert_array_equal(naive.clip_by_global_norm(grads, 6.0)[0][1], grads[1])


def test_discretize_ties():
    one = {v: dict(intra=np.zeros((v, v, 3))) for v in (4, 2)}
    one[2]["intra"][0, 1] = [0.0, 1.0, 1.0]
    one[2]["intra"][1, 0] = [0.0, 0.0, 1.0]
    v, types = naive.discretize([4, 2], np.array([0.5, 0.5]), one)
    assert v == 2
    np.testing.assert_array_equal(types["intra"], [[naive.EXC, naive.INH], [naive.NONE, naive.EXC]])
    W = naive.architecture_matrix(4, 2, types, np.full((4, 4), 0.3), inter=False)
    np.testing.assert_array_equal(W, np.kron(np.eye(2), [[0.3, -2.0], [0.0, 0.3]]))
    assert naive.discretize([4, 2], np.array([0.6, 0.5]), one)[0] == 4


def test_motif_size_must_divide():
    with pytest.raises(ValueError, match="divide"):
        naive.motif_pattern(10, 4)
