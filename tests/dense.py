"""Between naive.py's dense conventions and the engine's sparse ones: events, links, tables of types, whole networks.

A :class:`Case` is a batch and a network in naive.py's words; it builds the same network for the engine and compares
what the two find.  Kinds of hidden layers: "feedforward", "free" (half of all links, every weight trained),
"motif" and "supernet".
"""

from dataclasses import dataclass, field

import naive
import numpy as np

from hrmas_sparse.engine.architecture import Architecture
from hrmas_sparse.engine.losses import CrossEntropyLoss, PscLoss
from hrmas_sparse.engine.layers import LIF, Feedforward, Integrator, Recurrent
from hrmas_sparse.engine.network import Network
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.recurrence import Discrete, Free, Relaxed

TAU_M, TAU_S = 16.0, 8.0
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}


# ---- comparing --------------------------------------------------------------------------------------


def host(x):
    """An array of NumPy's, whatever it was: CuPy's have to be asked."""
    return x.get() if type(x).__module__.startswith("cupy") else np.array(x, subok=False)


def error(found, expected):
    """max|found - expected| / max|expected|, or max|found| where nothing is expected."""
    found, expected = (host(x).astype(float) for x in (found, expected))
    assert found.shape == expected.shape, (found.shape, expected.shape)
    if not expected.size:
        return 0.0
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1.0))


def assert_close(found, expected, tolerance):
    """Every array of a dict or of Parameters; the failure shows every error."""
    found, expected = (x.flatten() if isinstance(x, Parameters) else x for x in (found, expected))
    assert found.keys() == expected.keys()
    errors = {name: error(found[name], expected[name]) for name in expected}
    assert all(e <= tolerance for e in errors.values()), errors


def flat(value, name=""):
    """Every array inside nested dicts, lists and tuples, by a name that says where it was."""
    if isinstance(value, Parameters):
        value = value.flatten()
    if isinstance(value, dict):
        return {k: x for key, item in value.items() for k, x in flat(item, f"{name}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return flat(dict(enumerate(value)), name)
    return {} if value is None else {name: host(value)}


def assert_same_bits(found, expected):
    """Nested arrays equal bit for bit (not in value: NaN equals itself and 0 is not -0)."""
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    differ = [name for name, x in found.items() if (x.dtype, x.shape, x.tobytes()) != (
        expected[name].dtype, expected[name].shape, expected[name].tobytes())]
    assert not differ


# ---- events, links, tables -----------------------------------------------------------------------------


def events(X, Y):
    """Events of a dense batch X (B, T, C) with labels Y (B,)."""
    sample, step, channel = np.nonzero(X)
    return Events(np.searchsorted(sample, np.arange(len(X) + 1)).astype(np.int64), step.astype(np.uint16),
                  channel.astype(np.uint16), X[sample, step, channel], np.asarray(Y, np.int64), *X.shape[1:])


def free(pattern):
    """Recurrence with a trained weight wherever a matrix (N, N), [target, source], is not 0."""
    target, source = np.nonzero(pattern)
    order = np.lexsort((target, source))
    return Free(len(pattern), source[order], target[order])


def on_links(recurrence, matrix):
    """The entries of a matrix (N, N), [target, source], at the links."""
    return matrix[recurrence.target, recurrence.source]


def rows(parts, neurons, size, inter):
    """A motif size's tables as naive.py has them -> the engine's one table, a row a connection or motif place."""
    if "all" not in parts:
        tables = [parts[name] for name in ("intra", "inter") if name in parts]
        return np.concatenate([table.reshape(-1, *table.shape[2:]) for table in tables])
    target, source = np.nonzero(naive.motif_pattern(neurons, size, inter))
    return parts["all"][np.lexsort((target, source))]          # there by target, here by source


def random_parts(rng, neurons, size, inter, tied, draw):
    """Tables of one motif size in naive.py's shapes, filled by draw(shape)."""
    if not tied:
        return dict(all=draw((int(naive.motif_pattern(neurons, size, inter).sum()),)))
    return dict(intra=draw((size, size)), **(dict(inter=draw((size, 2))) if inter else {}))


def motif_layer(rng, neurons, size, inter=True, tied=True, types=(0.4, 0.3, 0.3)):
    """naive's entries of a random architecture's layer, and the engine's recurrence."""
    parts = random_parts(rng, neurons, size, inter, tied, lambda shape: rng.choice(3, shape, p=types))
    W = naive.architecture_matrix(neurons, size, parts, rng.uniform(0.1, 0.8, (neurons, neurons)), inter, tied)
    recurrence = Discrete(Architecture(neurons, size, inter, rows(parts, neurons, size, inter).astype(np.int8), tied))
    return dict(W_rec=W, types=parts), recurrence


def supernet_layer(rng, neurons, sizes, inter=True, tied=True):
    """naive's entries of a supernet layer with decided alphas, and the engine's recurrence."""
    alphas = {v: random_parts(rng, neurons, v, inter, tied, lambda shape: rng.normal(size=(*shape, 3))) for v in sizes}
    w_exc = rng.uniform(0.1, 0.8, (neurons, neurons)) * naive.union_pattern(neurons, sizes, inter)
    layer = dict(sizes=list(sizes), alpha_size=rng.normal(size=len(sizes)), alphas=alphas, w_exc=w_exc,
                 inter=inter, tied=tied)
    return layer, Relaxed(neurons, sizes, inter, tied)


def supernet_values(layer, recurrence):
    """A supernet layer's parameters, or their gradients, from naive's dict to the engine's."""
    tables = {f"alpha_{v}": rows(parts, recurrence.neurons, v, recurrence.inter)
              for v, parts in layer["alphas"].items()}
    return {"w_exc": on_links(recurrence, layer["w_exc"]), "alpha_size": layer["alpha_size"], **tables}


def recurrent_values(layer, recurrence):
    """The parameters of a layer's recurrence, in float64."""
    if isinstance(recurrence, Relaxed):
        return supernet_values(layer, recurrence)
    weights = on_links(recurrence, layer["W_rec"])
    return {"w_exc": weights[recurrence.excitatory]} if isinstance(recurrence, Discrete) else {"w_rec": weights}


# ---- whole networks ---------------------------------------------------------------------------------------


@dataclass
class Case:
    """A batch and a network; ``layers`` are naive's dicts, output last, ``recurrences`` the hidden layers' own."""

    X: np.ndarray
    Y: np.ndarray
    layers: list
    recurrences: list
    settings: dict = field(default_factory=dict)    # loss, period, scale, slope_cap, width, ... as naive has them

    def network(self, backend, dtype="float64"):
        s = {"loss": "psc", "period": 1, "scale": 0.02, "slope_cap": 8.0, "width": 0.2, "smooth": False,
             "rule": "tssl-bp",
             **self.settings}
        loss = CrossEntropyLoss(s["scale"]) if s["loss"] == "cross_entropy" else PscLoss(s["period"])
        hidden = [Recurrent(recurrence, layer["v_th"] / TAU_S) if recurrence else
                  Feedforward(len(layer["W_in"]), layer["v_th"] / TAU_S)
                  for layer, recurrence in zip(self.layers, self.recurrences)]
        neuron = LIF(TAU_M, TAU_S, 1.0, self.layers[-1]["v_th"] / TAU_S, s["slope_cap"], s["width"])
        classes, windows = len(self.layers[-1]["W_in"]), self.layers[-1].get("windows")
        return Network(self.X.shape[2], classes, hidden, neuron, loss, backend, dtype, s["smooth"],
                       Integrator(windows) if windows else None, s["rule"])

    def parameters(self, dtype="float64"):
        found = []
        for layer, recurrence in zip(self.layers, [*self.recurrences, None]):
            own = {} if recurrence is None else recurrent_values(layer, recurrence)
            intrinsic = {} if layer is self.layers[-1] else {key: layer[key] for key in ("R", "tau")}
            found.append({"w": layer["W_in"].T, **own, **intrinsic})
        return Parameters(found).map(lambda x: np.array(x, dtype, order="C"))

    def events(self):
        return events(self.X, self.Y)

    def run(self, backend, dtype="float64", way="gradients", **options):
        """An outcome of the engine, everything recorded."""
        return getattr(self.network(backend, dtype), way)(
            self.parameters(dtype), self.events(), record=True, **options)

    def plain(self):
        """naive's layers, relaxations resolved to their effective matrix."""
        return [dict(x, W_rec=naive.effective_matrix(**naive.relaxation_of(x))) if "sizes" in x else x
                for x in self.layers]

    def reference(self):
        """What naive finds: its dict, and ``gradients`` under the names of files and in the engine's shapes."""
        found = naive.network_gradients(self.X, self.Y, self.plain(), TAU_S, **self.settings)
        gradients = {}
        for n, dW in enumerate(found["dW_in"], start=1):
            gradients["w_out" if n == len(self.layers) else f"w{n}"] = dW.T
        for n, (layer, recurrence) in enumerate(zip(self.layers, self.recurrences), start=1):
            if recurrence is None:
                continue
            own = dict(layer, W_rec=found["dW_rec"][n - 1])
            if isinstance(recurrence, Relaxed):
                own = naive.relaxation_gradients(found["dW_rec"][n - 1], **naive.relaxation_of(layer))
            gradients.update({f"rec{n}.{key}": x for key, x in recurrent_values(own, recurrence).items()})
        return dict(found, gradients=gradients)

    def check(self, backend, dtype="float64", busy=True):
        """Run both and compare everything there is; returns the engine's outcome and naive's."""
        found, expected = self.run(backend, dtype), self.reference()
        tolerance = TOLERANCE[dtype]
        smooth = self.settings.get("smooth", False)
        if not smooth:
            spiking = [tape for tape in expected["tapes"] if "s" in tape]
            assert_threshold_is_clear(spiking, [x["v_th"] for x in self.layers], dtype)
        for n, (record, tape) in enumerate(zip(found.records, expected["tapes"])):
            if "s" not in tape:  # integrators
                assert_close({key: record[key] for key in ("v", "psc")}, dict(v=tape["v"], psc=tape["a"]), tolerance)
                continue
            assert not busy or tape["s"].any(), f"layer {n + 1} of the test is silent"
            compared = dict(v=tape["v"], psc=tape["a"], spikes=tape["s"])
            if not smooth:
                np.testing.assert_array_equal(record["spikes"], tape["s"])
                compared["delta"] = expected["delta"][n]
                assert found.rates[n] == tape["s"].mean()
            assert_close({key: record[key] for key in compared}, compared, tolerance)
        assert abs(found.loss - expected["loss"]) <= tolerance * abs(expected["loss"])
        np.testing.assert_array_equal(found.predicted, expected["pred"])
        assert_close(found.gradients.flatten(), expected["gradients"], tolerance)
        assert all(x.dtype == dtype for _, x in found.gradients.items())
        return found, expected


def assert_threshold_is_clear(tapes, thresholds, dtype):
    """No potential so near its threshold that rounding decides: a comparison would then mean nothing."""
    margin = min(np.abs(tape["v"] - v_th).min() for tape, v_th in zip(tapes, thresholds))
    assert margin > {"float64": 1e-10, "float32": 2e-5}[dtype], f"choose another seed: margin {margin}"


SHAPES = {"neuron": lambda B, T, N: (N,), "step": lambda B, T, N: (T, N), "sample": lambda B, T, N: (B, T, N)}


def random_case(seed, hidden=(("free", 8),), B=3, T=20, C=5, O=3, R="neuron", tau="neuron", real=True, density=0.2,
                windows=None, **settings):
    """A random batch and network.

    hidden : (kind, neurons, further arguments of motif_layer or supernet_layer) of each hidden layer
    R, tau : "fixed" at tau_m, or a name of SHAPES
    real : input of real values or of zeros and ones
    windows : of an output layer of integrators; None for neurons that spike
    """
    rng = np.random.default_rng(seed)
    X = (rng.random((B, T, C)) < density) * (rng.random((B, T, C)) * 2 if real else 1.0)
    layers, recurrences, senders = [], [], C
    for kind, N, *arguments in hidden:
        layer = dict(W_in=rng.normal(0.7, 1.2, (N, senders)) * np.sqrt(5 / senders), W_rec=None,
                     v_th=rng.uniform(6, 10))
        for name, shape in (("R", R), ("tau", tau)):
            layer[name] = np.full(N, TAU_M) if shape == "fixed" else rng.uniform(10, 24, SHAPES[shape](B, T, N))
        recurrence = None
        if kind == "free":
            layer["W_rec"] = rng.normal(0, 0.5, (N, N)) * (rng.random((N, N)) < 0.5)
            recurrence = free(layer["W_rec"])
        elif kind != "feedforward":
            more, recurrence = {"motif": motif_layer, "supernet": supernet_layer}[kind](rng, N, *arguments)
            layer.update(more)
        layers.append(layer)
        recurrences.append(recurrence)
        senders = N
    fixed = np.full(O, TAU_M)
    layers.append(dict(W_in=rng.normal(0.7, 1.2, (O, senders * (windows or 1))) * np.sqrt(5 / senders), W_rec=None,
                       v_th=8.0, R=fixed, tau=fixed, windows=windows))
    if windows:
        settings.setdefault("loss", "cross_entropy")
    return Case(X, rng.integers(0, O, B), layers, recurrences, settings)
