"""The engine against stored numbers of independent implementations.

A folder holds one .npz file per kind of check, recognised by its name. Weights are stored (N, C) or (N, N),
[target, source], gradients belong to the batch mean, ``delta_*`` to each sample's own loss.
Shapes: B samples, T steps, C channels, N neurons, O classes.
"""

from functools import partial
from pathlib import Path

import numpy as np

from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.layers import LIF, Feedforward, Recurrent, Supernet
from hrmas_sparse.engine.losses import PscLoss
from hrmas_sparse.engine.network import Network, Plasticity
from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.engine.recurrence import Free
from hrmas_sparse.gradcheck.arrays import Arrays
from hrmas_sparse.gradcheck.lines import Line, relative_error
from hrmas_sparse.gradcheck.problems import Problem, events_of
from hrmas_sparse.search import hrmas as search
from hrmas_sparse.search.optim import global_norm
from hrmas_sparse.storage.errors import InputError

BOUNDS = {"float64": 1e-9, "float32": 1e-5}
SLOPE_CAP, WIDTH, PERIOD, W_INH = 8.0, 0.2, 1, -2.0  # where a file does not hold its own


def _network(file, layers, classes, dtype, backend, smooth=False):
    """A network with the constants of a file; a threshold the file does not hold is tau_s."""
    neuron = LIF(file.number("tau_m"), file.number("tau_s"), _threshold(file, "v_th"), _threshold(file, "v_th_out"),
                 file.number("slope_cap", SLOPE_CAP), file.number("surrogate_width", WIDTH))
    loss = PscLoss(int(file.number("period", PERIOD)))
    return Network(file.get("X", (None, None, None)).shape[2], classes, layers, neuron, loss, backend, dtype, smooth)


def _threshold(file, name):
    """A threshold in units of tau_s; files hold psc units, and none where it is tau_s."""
    tau_s = file.number("tau_s")
    return file.number(name, tau_s) / tau_s


def _events(file, classes, suffix=""):
    """The batch of a file."""
    dense = file.get("X" + suffix, (None, None, file.get("X", (None, None, None)).shape[2]))
    return events_of(dense, file.counts("Y" + suffix, len(dense), 0, classes))


def _free(matrix):
    """Recurrence over the entries of a matrix (N, N) that are not 0, and its parameters (nnz,)."""
    source, target = np.nonzero(matrix.T)
    return Free(len(matrix), source, target), matrix[target, source]


def _sent(weights, dtype):
    """Stored weights (N, C) as the network has them."""
    return np.ascontiguousarray(weights.T, dtype=dtype)


# ---- fixed recurrence or none ------------------------------------------------------------------------


def _fixed_layer(file, n, senders, wanted, dtype, problem):
    """Add hidden layer n with its parameters to a problem; returns its size."""
    parameters, layers = problem
    suffix = "" if n == 1 else f"_{n}"
    weights = file.get("W_in" + suffix, (None, senders))
    size, arrays = len(weights), {"w": _sent(weights, dtype)}
    layer = Feedforward(size, _threshold(file, "v_th" + suffix))
    steps = file.get("X", (None, None, None)).shape[:2]
    for name in INTRINSIC:
        values = np.full(size, file.number("tau_m"))
        if "dW_rec" + suffix in wanted:
            values = file.get(name + suffix, (size,), (steps[1], size), (*steps, size))
        arrays[name] = values.astype(dtype)
    if "dW_rec" + suffix in wanted:
        recurrence, values = _free(file.get("W_rec" + suffix, (size, size)))
        arrays["w_rec"] = values.astype(dtype)
        layer = Recurrent(recurrence, layer.v_th)
    parameters.append(arrays)
    layers.append(layer)
    return size


def _fixed_problem(file, wanted, dtype, backend, smooth):
    """The network of a file without relaxation."""
    parameters, layers = [], []
    senders = file.get("X", (None, None, None)).shape[2]
    for n in range(1, 3 if "dW_in_2" in wanted else 2):
        senders = _fixed_layer(file, n, senders, wanted, dtype, (parameters, layers))
    out = file.get("W_out", (None, senders))
    parameters.append({"w": _sent(out, dtype)})
    net = _network(file, layers, len(out), dtype, backend, smooth)
    return Problem(net, Parameters(parameters), _events(file, len(out)))


def fixed(file, wanted, dtype, backend, smooth=False):
    """(name, found, expected) of a network without relaxation."""
    net, parameters, events = _fixed_problem(file, wanted, dtype, backend, smooth)
    outcome = net.gradients(parameters, events, record=True)
    gradients = outcome.gradients.layers
    last = outcome.records[-1]
    values = {"loss": outcome.loss, "pred": outcome.predicted, "out_psc": last["psc"], "delta_out": last.get("delta"),
             "dW_out": gradients[-1].w.T}
    for n, (layer, record, gradient) in enumerate(zip(net.hidden, outcome.records, gradients), start=1):
        suffix = "" if n == 1 else f"_{n}"
        values |= {"spikes" + suffix: record["spikes"], "hidden_psc" + suffix: record["psc"],
                  "delta_hidden" + suffix: record.get("delta"), "dW_in" + suffix: gradient.w.T}
        if layer.recurrence is not None:
            values["dW_rec" + suffix] = layer.recurrence.dense(gradient.w_rec)
    for name in wanted:
        expected = file.get(name)
        if name.startswith("dW_rec"):  # stored where there is a weight
            expected = np.where(file.get(name[1:]) != 0, expected, 0)
        yield name, values[name], expected


# ---- SpiKL-IP ----------------------------------------------------------------------------------------


def spikl_ip(file, wanted, dtype, backend):
    """(name, found, expected) of a window of intrinsic plasticity."""
    dense = file.get("X", (None, None, None))
    weights = file.get("W_in", (None, dense.shape[2]))
    size = len(weights)
    recurrence, w_rec = _free(file.get("W_rec", (size, size)))
    net = _network(file, [Recurrent(recurrence)], 1, dtype, backend)
    parameters = Parameters([{"w": _sent(weights, dtype), "w_rec": w_rec.astype(dtype)},
                             {"w": np.zeros((size, 1), dtype)}]).replaced(net.initial_intrinsic())
    plasticity = Plasticity(*(file.number(name) for name in ("tau_cal", "gamma", "mu")))
    events = events_of(dense, np.zeros(len(dense), np.int64))
    outcome = net.adapt(parameters, events, plasticity, record=True)
    record, after = outcome.records[0], outcome.intrinsic.layers[0]
    values = {"spikes": record["spikes"], "R": record["trajectory"][0], "tau": record["trajectory"][1],
             "R_end": after.R, "tau_end": after.tau}
    for name in wanted:
        yield name, values[name], file.get(name)


# ---- the relaxed network -----------------------------------------------------------------------------


def _alphas(supernet, arrays, prefix):
    """Alphas, or gradients, of a layer under their stored names: (v, v, 3) inside a motif, (v, 2, 3) beside."""
    named = {f"{prefix}_size": arrays["alpha_size"]}
    for v in supernet.sizes:
        values = arrays[f"alpha_{v}"]
        named[f"{prefix}_intra_{v}"] = values[:v * v].reshape(v, v, 3)
        named[f"{prefix}_inter_{v}"] = values[v * v:].reshape(v, 2, 3)
    return named


def _supernet_problem(file, dtype, backend):
    """The relaxed network of a file."""
    inputs = file.get("X", (None, None, None)).shape[2]
    weights = file.get("W_in", (None, inputs))
    size, out = len(weights), file.get("W_out", (None, len(weights)))
    sizes = tuple(int(v) for v in file.counts("sizes", None, 1, size + 1))
    layer = Supernet(size, sizes, w_inh=file.number("w_inh", W_INH))
    supernet = layer.recurrence()
    arrays = {"w": weights.T, "alpha_size": file.get("alpha_size", (len(sizes),)),
           "w_exc": file.get("w_exc", (size, size))[supernet.target, supernet.source]}
    for v in sizes:
        parts = file.get(f"alpha_intra_{v}", (v, v, 3)), file.get(f"alpha_inter_{v}", (v, 2, 3))
        arrays[f"alpha_{v}"] = np.concatenate([part.reshape(-1, 3) for part in parts])
    net = _network(file, [layer], len(out), dtype, backend)
    parameters = Parameters([arrays, {"w": out.T}]).map(partial(np.ascontiguousarray, dtype=dtype))
    return Problem(net, parameters.replaced(net.initial_intrinsic()), _events(file, len(out)))


def relaxed(file, wanted, dtype, backend):
    """(name, found, expected) of a relaxed network and its second-order gradient of alpha."""
    net, parameters, events = _supernet_problem(file, dtype, backend)
    supernet, outcome = net.hidden[0].recurrence, net.gradients(parameters, events)
    valid = _events(file, net.output.size, "_valid")
    there = parameters.map(net.backend.to_device)
    hyper, passed = search.bilevel(net, there, (events, valid), file.number("eta"), None)
    (after,), _ = net.outcomes([passed], valid)
    hyper, direction = (part.map(net.backend.to_host) for part in (hyper, after.gradients.only(net.weight_names)))
    gradients, top = outcome.gradients.layers
    effective = net.backend.to_host(supernet.effective(there.layers[0]))
    values = {"pattern": supernet.dense(np.ones(supernet.source.size)), "W": supernet.dense(effective),
             "loss": outcome.loss, "dW_in": gradients.w.T, "dW_out": top.w.T,
             "dw_exc": supernet.dense(gradients.w_exc), "loss_valid": after.loss,
             "eps": 0.01 / global_norm(direction)}
    values |= _alphas(supernet, gradients, "dalpha") | _alphas(supernet, hyper.layers[0], "hyper")
    for name in values:
        yield name, values[name], file.get(name)


# ---- the folder --------------------------------------------------------------------------------------

_RECURRENT = ("loss", "pred", "spikes", "delta_hidden", "delta_out", "dW_in", "dW_rec", "dW_out")

# stem of the file: how it is checked, and which arrays it must hold
KINDS = {
    "feedforward_published": (fixed, ("loss", "hidden_psc", "out_psc", "dW_in", "dW_out")),
    "recurrent_const": (fixed, _RECURRENT),
    "recurrent_trajectory": (fixed, _RECURRENT),
    "two_layers": (fixed, ("loss", "pred", "delta_hidden", "delta_hidden_2", "delta_out", "dW_in", "dW_rec",
                           "dW_in_2", "dW_rec_2", "dW_out")),
    "smooth": (partial(fixed, smooth=True), ("loss", "dW_in", "dW_rec", "dW_out")),
    "spikl_ip": (spikl_ip, ("spikes", "R", "tau", "R_end", "tau_end")),
    "supernet": (relaxed, ()),  # the sizes it holds say which
}


def _check(path, dtype, backend):
    """Lines of one file of a known kind."""
    check, wanted = KINDS[path.stem]
    try:
        return [Line(f"{path.stem}: {name}", f"golden number, {dtype}", relative_error(value, expected), BOUNDS[dtype])
                for name, value, expected in check(Arrays(path), wanted, dtype, backend)]
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error


def run_golden(directory, dtype="float64", backend="auto"):
    """Check a backend against every file of a folder of golden numbers.

    Parameters
    ----------
    directory : the folder
    dtype : "float64" or "float32"
    backend : name, see :func:`hrmas_sparse.engine.backends.get_backend`

    Returns
    -------
    list of Line. Files of another kind, and kinds without a file, are lines that say so.

    Raises
    ------
    InputError
        There is no such folder, nothing in it, or a file is broken.
    """
    directory, backend = Path(directory), get_backend(backend)
    if not directory.is_dir():
        raise InputError(f"golden numbers: expected a folder of .npz files, {directory} is not a folder")
    paths = sorted(directory.glob("*.npz"))
    if not paths:
        raise InputError(f"golden numbers: no .npz file in {directory}; give the folder that holds them")
    rows = []
    for path in paths:
        known = path.stem in KINDS
        rows += _check(path, dtype, backend) if known else [Line(path.name, "a kind not known here")]
    absent = sorted(set(KINDS) - {path.stem for path in paths})
    return rows + [Line(f"{stem}.npz", "not in the folder") for stem in absent]
