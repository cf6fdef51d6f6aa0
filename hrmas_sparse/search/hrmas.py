"""HRMAS: the alternating search for an architecture [5-14, Algorithm 1, Figure 2] (mathematics 7).

One iteration, on a batch of each half of the training set:

    alpha step   the bi-level gradient [12-14] on the validation batch, Adam
    w step       the gradient on the training batch, clipped, Adam, w_exc kept >= 0
    IP step      SpiKL-IP adapts R and tau: a window over the training batch, or online in the w step

Stage 1 learns motif size and types; its best size is kept, and stage 2 goes on with the types alone.
"""

from dataclasses import dataclass

import numpy as np

from hrmas_sparse.search.optim import Adam, clipped, global_norm, project
from hrmas_sparse.engine.recurrence import softmax


def _part(values, names):
    return {name: values[name] for name in names}


def _moved(parameters, step, direction):
    """A copy of the parameters, moved by step (float64) * direction where direction has an entry."""
    return parameters | {name: parameters[name] + step.astype(d.dtype) * d for name, d in direction.items()}


def alpha_gradient(network, parameters, intrinsic, train, valid, eta, clip=None, order="second", plasticity=None):
    """Gradient of L_valid(w - eta grad L_train(w, alpha), alpha) with respect to alpha [12-14].

    Parameters
    ----------
    network : :class:`hrmas_sparse.engine.network.Network` with supernet layers
    parameters, intrinsic : its dicts, left as they are
    train, valid : batches of events
    eta : step of the inner update
    clip : global norm the inner gradient is clipped to, or None
    order : "second", or "first", which takes eta = 0
    plasticity : runs SpiKL-IP during the passes (online mode), or None

    Returns
    -------
    gradients : dict of the alphas
    outcome : :class:`hrmas_sparse.engine.network.Outcome` of the validation batch at w'
    """
    weights, alphas = network.weight_names(), network.alpha_names()
    inner = parameters
    if order == "second":
        step, _ = clipped(_part(network.gradients(parameters, intrinsic, train, plasticity).gradients, weights), clip)
        inner = _moved(parameters, np.float64(-eta), step)
    outcome = network.gradients(inner, intrinsic, valid, plasticity)
    found, direction = _part(outcome.gradients, alphas), _part(outcome.gradients, weights)
    if order == "first":
        return found, outcome
    norm = global_norm(direction)
    usable = (norm > 0) & np.isfinite(norm)  # else the first order must do; decided where the norm lies
    eps = 0.01 / np.where(usable, norm, 1.0)
    ahead, behind = network.gradients_at([_moved(parameters, side * eps, direction) for side in (1, -1)], intrinsic,
                                         train, plasticity, feedforward=False)
    factor = eta / (2 * eps)
    return {name: np.where(usable, g - factor.astype(g.dtype) * (ahead[name] - behind[name]), g)
            for name, g in found.items()}, outcome


@dataclass
class Learner:
    """What changes while a network learns: parameters, intrinsic parameters and two optimisers."""

    parameters: dict
    intrinsic: dict
    w_adam: Adam
    alpha_adam: Adam

    def moved(self, move):
        """The same learner with every array moved: ``move`` is a backend's to_device or to_host."""
        def all_of(arrays):
            return {name: move(array) for name, array in arrays.items()}

        def adam(own):
            other = Adam(own.betas, own.eps)
            other.m, other.v, other.step = all_of(own.m), all_of(own.v), own.step
            return other

        return Learner(all_of(self.parameters), all_of(self.intrinsic), adam(self.w_adam), adam(self.alpha_adam))


def layer_norms(network, gradients):
    """Norm of the gradient of each layer's weights, output layer last."""
    recurrent = [[name for name in network.weight_names() if name.startswith(f"rec{n}.")]
                 for n in range(1, len(network.names) + 1)]
    return [global_norm(_part(gradients, [name, *own])) for name, own in zip(network.names, recurrent)]


def dropout_scales(network, chance, rng):
    """For each layer above a hidden one, what to multiply the rows of its feedforward weights by during one batch.

    Cut neurons have 0, the others make up for them; a neuron's recurrent links stay. Empty without dropout.

    Returns
    -------
    dict of (N, 1) arrays by the name of the weights
    """
    if not chance:
        return {}
    return {name: ((rng.random((layer.size, 1)) >= chance) / (1 - chance)).astype(network.dtype)
            for name, layer in zip(network.names[1:], network.hidden)}


def weight_step(network, learner, batch, rate, clip, plasticity=None, mode="off", decay=0.0, scales=None):
    """One step of w on a batch, and the IP step that goes with it.

    Parameters as :func:`search_step`.

    Returns
    -------
    outcome, gradient norm of w before clipping
    """
    scales = scales or {}
    thinned = learner.parameters | {name: learner.parameters[name] * scale for name, scale in scales.items()}
    outcome = network.gradients(thinned, learner.intrinsic, batch, plasticity if mode == "online" else None)
    for name, scale in scales.items():
        outcome.gradients[name] *= scale
    step, norm = clipped(_part(outcome.gradients, network.weight_names()), clip)
    norm, *outcome.norms = map(float, network.fetch(norm, *layer_norms(network, outcome.gradients)))
    if not (np.isfinite(outcome.loss) and np.isfinite(norm)):
        return outcome, norm  # the caller stops the run; nothing has changed
    learner.w_adam.update(learner.parameters, step, rate, decay)
    project(learner.parameters)
    if mode == "online":
        learner.intrinsic = outcome.intrinsic
    if mode == "window":
        learner.intrinsic = network.adapt(learner.parameters, learner.intrinsic, batch, plasticity).intrinsic
    return outcome, norm


def search_step(network, learner, train, valid, rate, settings, clip, plasticity, mode, decay=0.0, scales=None):
    """One HRMAS iteration.

    Parameters
    ----------
    network, learner : what is searched
    train, valid : batches of events
    rate : learning rate of w
    settings : :class:`hrmas_sparse.settings.schema.SearchConfig`
    clip : global norm of the gradient of w
    plasticity : SpiKL-IP settings
    mode : "window", "online" or "off"
    decay : of the weights, see :meth:`hrmas_sparse.search.optim.Adam.update`
    scales : of the w step, see :func:`dropout_scales`

    Returns
    -------
    outcomes of the training and the validation batch, gradient norm of w
    """
    eta = rate if settings.eta is None else settings.eta
    alpha, valid_outcome = alpha_gradient(network, learner.parameters, learner.intrinsic, train, valid, eta, clip,
                                          settings.alpha_order if eta else "first",
                                          plasticity if mode == "online" else None)
    sound, = network.fetch(np.stack([np.isfinite(g).all() for g in alpha.values()]).all())
    if not sound:
        return valid_outcome, valid_outcome, np.nan
    alpha, _ = clipped(alpha, settings.alpha_clip or None)
    learner.alpha_adam.update(learner.parameters, alpha, settings.alpha_lr)
    outcome, norm = weight_step(network, learner, train, rate, clip, plasticity, mode, decay, scales)
    return outcome, valid_outcome, norm


def keep_best_sizes(network, learner):
    """End of stage 1: keep each layer's most probable motif size, with what was learnt for it.

    Returns
    -------
    sizes : list of the motif size of each hidden layer; the learner is narrowed in place
    """
    sizes = []
    for n, layer in enumerate(network.hidden, start=1):
        supernet = layer.recurrence
        size = supernet.best_size(network.own(learner.parameters, n))
        sizes.append(size)
        for values in (learner.parameters, learner.w_adam.m, learner.w_adam.v, learner.alpha_adam.m,
                       learner.alpha_adam.v):
            own = network.own(values, n)
            for key in own:
                del values[f"rec{n}.{key}"]
            values.update({f"rec{n}.{key}": value for key, value in supernet.narrow(own, size).items()})
    return sizes


def discretize(network, learner):
    """The architecture of every hidden layer: its most probable motif size and types."""
    return [layer.recurrence.discretize(network.own(learner.parameters, n))
            for n, layer in enumerate(network.hidden, start=1)]


def entropy(network, parameters):
    """Mean entropy in nats of the type distributions and of the size distribution, over all layers."""
    types, sizes = [], []
    for name in network.alpha_names():
        hat = softmax(parameters[name].astype(np.float64))
        h = -(hat * np.log(np.maximum(hat, 1e-300))).sum(axis=-1)
        (sizes if name.endswith("alpha_size") else types).append(h.ravel())
    return float(np.concatenate(types).mean()), float(np.concatenate(sizes).mean())
