"""HRMAS: the alternating search for an architecture [5-14, Algorithm 1, Figure 2] (mathematics 7).

One iteration, on a batch of each half of the training set:

    alpha step   the bi-level gradient [12-14] on the validation batch, Adam
    w step       the gradient on the training batch, clipped, Adam, w_exc kept >= 0
    IP step      SpiKL-IP adapts R and tau: a window over the training batch, or online in the w step

Stage 1 learns motif size and types; its best size is kept, and stage 2 goes on with the types alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hrmas_sparse.data.events import Events
from hrmas_sparse.engine.network import Network, Outcome, Plasticity
from hrmas_sparse.engine.neuron import BOUNDS
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.relaxation import softmax
from hrmas_sparse.search.optim import Adam
from hrmas_sparse.storage.errors import InputError


class StepSettings(NamedTuple):
    """Settings of a step of w."""

    rate: float                             # learning rate of w
    clip: float | None                      # global norm of the gradient of w, None for no limit
    plasticity: Plasticity | None = None    # SpiKL-IP
    mode: str = "off"                       # when it runs: "window", "online" or "off"
    decay: float = 0.0                      # of the weights, see Adam.update
    scales: dict | None = None              # of the w step, see dropout_scales
    trains: tuple[str, ...] = ()            # which of R and tau of the hidden neurons are trained with w

    @property
    def online(self):
        """The plasticity that runs during the passes, or None."""
        return self.plasticity if self.mode == "online" else None


class StepResult(NamedTuple):
    """What a step gives; ``norm`` is not finite where nothing has been learnt."""

    outcome: Outcome           # of the training batch
    norm: float                # of the gradient of w before clipping
    layer_norms: list          # of the gradient of each layer's weights, output layer last
    valid: Outcome | None      # of the validation batch, in a search


def alpha_gradient(net: Network, params: Parameters, train: Events, valid: Events, *, eta: float,
                   order: str = "second", clip: float | None = 1.0) -> Parameters:
    """Return the bi-level gradient: of L_valid(w - eta grad L_train(w, alpha), alpha) by alpha [12-14] (mathematics 7).

    Parameters
    ----------
    net : Network
        With :class:`Supernet` layers.
    params : Parameters
        Left as they are.
    train, valid : Events
        A batch of each half of the training set.
    eta : float
        Step of the inner update, at least 0.
    order : str
        "second", or "first", which takes eta = 0.
    clip : float, optional
        Global norm the inner gradient is clipped to; None for no limit.

    Returns
    -------
    Parameters
        The alphas alone: ``alpha_size``, ``alpha_5``, ... of every supernet layer.

    Raises
    ------
    InputError
        The network has no supernet, a batch does not fit, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import hrmas_sparse as hs
    >>> net = hs.Network(channels=4, classes=2, hidden=[hs.Supernet(12, sizes=(2, 3))], neuron=hs.LIF(v_th=1),
    ...                  backend="cpu")
    >>> events = hs.Events.from_dense(np.ones((4, 10, 4), bool), labels=[0, 1, 1, 0])
    >>> gradient = hs.alpha_gradient(net, net.init(seed=0), events[[0, 1]], events[[2, 3]], eta=0.002)
    >>> list(gradient.flatten())
    ['rec1.alpha_size', 'rec1.alpha_2', 'rec1.alpha_3']
    """
    if not net.alpha_names:
        raise InputError("net: expected a network with a Supernet layer, found none: there is no alpha")
    if order not in ("first", "second"):
        raise InputError(f"order: expected first or second, found {order!r}")
    for name, value, low in (("eta", eta, 0), ("clip", 1.0 if clip is None else clip, np.nextafter(0, 1))):
        ok = isinstance(value, (int, float, np.number)) and np.isfinite(value) and value >= low
        if not ok:
            raise InputError(f"{name}: expected a finite number {'above' if low else 'of at least'} 0, found {value!r}")
    batches = net.check(params, train), net.check(params, valid)
    there = type(params.layers[-1].w) is not np.ndarray
    gradients, _ = bilevel(net, params if there else params.map(net.backend.to_device), batches,
                           eta if order == "second" else 0, clip)
    return gradients if there else gradients.map(net.backend.to_host)


def bilevel(network, parameters, batches, eta, clip, plasticity=None):
    """Return the gradient of alpha, of first order if eta is 0, and the pass over valid at w', numbers not fetched.

    Parameters
    ----------
    network, parameters : a network with supernet layers, and its Parameters
    batches : train and valid
    eta : step of the inner update
    clip : global norm the inner gradient is clipped to, or None
    plasticity : runs SpiKL-IP during the passes (online mode), or None
    """
    train, valid = batches
    weights, alphas, inner, on = network.weight_names, network.alpha_names, parameters, network.backend.learning
    if eta:
        trained, = network.passes([parameters], train, backward=True, plasticity=plasticity)
        gradients = trained.gradients.only(weights)
        inner = on.descended(parameters, gradients, on.squares(gradients), math.inf if clip is None else clip, eta)
    passed, = network.passes([inner], valid, backward=True, plasticity=plasticity)
    first, direction = passed.gradients.only(alphas), passed.gradients.only(weights)
    if not eta:
        return first, passed
    squares = on.squares(direction)
    plus, minus = network.passes(on.sides(parameters, direction, squares), train, backward=True, plasticity=plasticity,
                                 feedforward=False)
    return on.second_order(first, plus.gradients, minus.gradients, squares, eta), passed


@dataclass
class Learner:
    """What changes while a network learns: parameters and two optimisers."""

    parameters: Parameters
    w_adam: Adam
    alpha_adam: Adam

    def to(self, move):
        """Return the same learner with every array moved: ``move`` is a backend's to_device or to_host."""
        return Learner(self.parameters.map(move), self.w_adam.to(move), self.alpha_adam.to(move))


def dropout_scales(network, chance, rng):
    """For each layer above a hidden one, what to multiply the rows of its feedforward weights by during one batch.

    Cut neurons have 0, the others make up for them; a neuron's recurrent links stay, and it is cut in all windows of an
    integrator. Empty without dropout.

    Returns
    -------
    dict of (N, 1) arrays by the layer, counted from 0; (windows N, 1) for integrators
    """
    if not chance:
        return {}
    scales = {n: ((rng.random((layer.size, 1)) >= chance) / (1 - chance)).astype(network.dtype)
              for n, layer in enumerate(network.hidden, start=1)}
    if scales:
        last = len(network.hidden)
        scales[last] = np.tile(scales[last], (max(1, network.output.windows), 1))
    return scales


def own_names(network, trains):
    """Which parameters are hidden neurons' own, of the names ``trains``: (layer, name)."""
    return [(n, name) for n in range(len(network.hidden)) for name in trains]


def weight_step(network, learner, batch, step):
    """One step of w on a batch, of R and tau if they are trained, and the IP step that goes with it.

    Parameters
    ----------
    network, learner : what is trained
    batch : events
    step : :class:`StepSettings`

    Returns
    -------
    StepResult
    """
    scales = step.scales or {}
    thinned = Parameters(learner.parameters.layers)
    for n, scale in scales.items():
        thinned.layers[n].w = thinned.layers[n].w * scale
    passed, = network.passes([thinned], batch, backward=True, plasticity=step.online, intrinsic=bool(step.trains))
    for n, scale in scales.items():
        passed.gradients.layers[n].w *= scale
    gradients, on = passed.gradients.only(network.weight_names), network.backend.learning
    own = passed.gradients.only(own_names(network, step.trains))
    squares = [on.squares(part) for part in ((gradients, own) if step.trains else (gradients,))]
    (outcome,), fetched = network.outcomes([passed], batch, *squares)
    norm, *of_own = (float(on.norm_of(each)) for each in fetched)
    norm = norm if np.isfinite(of_own).all() else np.nan
    result = StepResult(outcome, norm, _layer_norms(on, gradients, fetched[0]), None)
    if not (np.isfinite(outcome.loss) and np.isfinite(norm)):
        return result  # the caller stops the run; nothing has changed
    _learn(network, learner, gradients, own, squares[0], step)
    if step.mode == "online":
        learner.parameters = learner.parameters.replaced(outcome.intrinsic)
    if step.mode == "window":
        adapted, = network.passes([learner.parameters], batch, plasticity=step.plasticity)
        learner.parameters = learner.parameters.replaced(adapted.intrinsic)
    return result


def _learn(network, learner, gradients, own, squares, step):
    """Move the weights, and what is trained of R and tau.

    These are moved by their logarithms, which start from 0: a step is a share of the value, and decay has no hold on
    it. Their gradients, ``own``, are scaled down as those of w are, by the norm of w's alone.
    """
    moves, on = own.map(np.zeros_like), network.backend.learning
    learner.w_adam.update(learner.parameters.replaced(moves), gradients.replaced(own), step.rate, step.decay, step.clip,
                          squares, on)
    if step.trains:
        low, high = (bound * network.neuron.tau_m for bound in BOUNDS)
        learner.parameters = on.stretched(learner.parameters, moves, low, high)


def _layer_norms(on, gradients, squares):
    """The norm of each layer's gradients."""
    layers = np.array([n for (n, _), _ in gradients.items()])
    return [float(on.norm_of(squares[layers == n])) for n in range(len(gradients.layers))]


def search_step(network, learner, train, valid, settings, step):
    """One HRMAS iteration.

    Parameters
    ----------
    network, learner : what is searched
    train, valid : batches of events
    settings : :class:`hrmas_sparse.settings.schema.SearchConfig`
    step : :class:`StepSettings` of the w step

    Returns
    -------
    StepResult
    """
    eta = step.rate if settings.eta is None else settings.eta
    alpha, passed = bilevel(network, learner.parameters, (train, valid), eta if settings.alpha_order == "second" else 0,
                            step.clip, step.online)
    on = network.backend.learning
    squares = on.squares(alpha)
    (outcome,), (fetched,) = network.outcomes([passed], valid, squares)
    if not np.isfinite(on.norm_of(fetched)):
        return StepResult(outcome, np.nan, [], outcome)
    learner.alpha_adam.update(learner.parameters, alpha, settings.alpha_lr, limit=settings.alpha_clip or None,
                              squares=squares, on=on)
    return weight_step(network, learner, train, step)._replace(valid=outcome)


def keep_best_sizes(network, learner):
    """End of stage 1: keep each layer's most probable motif size, with what was learnt for it.

    Returns
    -------
    sizes : list of the motif size of each hidden layer; the learner is narrowed in place
    """
    sizes = []
    for n, layer in enumerate(network.hidden):
        supernet = layer.recurrence
        size = supernet.best_size(learner.parameters.layers[n])
        sizes.append(size)
        adams = learner.w_adam, learner.alpha_adam
        for values in (learner.parameters, *(moment for adam in adams for moment in (adam.m, adam.v))):
            for arrays in values.layers[n:n + 1]:  # none before the first update
                narrowed = supernet.narrow(arrays, size)
                for name in (*supernet.weight_names, *supernet.alpha_names):
                    arrays.pop(name, None)
                arrays.update(narrowed)
    return sizes


def discretize(network, learner):
    """The architecture of every hidden layer: its most probable motif size and types."""
    return [layer.recurrence.discretize(arrays) for layer, arrays in zip(network.hidden, learner.parameters.layers)]


def drawn(network, parameters, rng):
    """An architecture for every hidden layer, drawn from what alpha says; see :func:`discretize`."""
    return [layer.recurrence.drawn(own, rng) for layer, own in zip(network.hidden, parameters.layers)]


def decision(network, parameters, stage):
    """What would be kept if a stage of the search ended now, and how sure alpha is of it.

    Parameters
    ----------
    network, parameters : what is searched
    stage : 1, motif sizes are decided; 2, types

    Returns
    -------
    choice : bytes, equal for equal decisions of :func:`keep_best_sizes` or :func:`discretize`
    certainty : float, the least probability of a layer's best size, or the mean one of the best types
    """
    alphas = [network.backend.to_host(parameters.layers[n][name]) for n, name in network.alpha_names
              if (name == "alpha_size") == (stage == 1)]
    choice = b"".join(alpha.argmax(axis=-1).astype(np.int32).tobytes() for alpha in alphas)
    chances = [softmax(alpha.astype(np.float64)).max(axis=-1) for alpha in alphas]
    return choice, float(min(chances) if stage == 1 else np.concatenate(chances).mean())


def entropy(network, parameters):
    """Mean entropy in nats of the type distributions and of the size distribution, over all layers."""
    types, sizes = [], []
    for n, name in network.alpha_names:
        hat = softmax(network.backend.to_host(parameters.layers[n][name]).astype(np.float64))
        h = -(hat * np.log(np.maximum(hat, 1e-300))).sum(axis=-1)
        (sizes if name == "alpha_size" else types).append(h.ravel())
    return float(np.concatenate(types).mean()), float(np.concatenate(sizes).mean())
