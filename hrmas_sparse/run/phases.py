"""The phases of a run: what is learnt from which batches, and what is random in it.

    search-1   supernet: alpha_size, types, w, R and tau     (half of the training set each for w and alpha)
    search-2   the best motif size: types go on
    candidates several discrete architectures, trained one after another on w's half; the best on the other half wins
    retrain    the discrete architecture, fresh weights, whole training set
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hrmas_sparse.data.augmentation import augmented
from hrmas_sparse.data.events import epoch_order, halve
from hrmas_sparse.engine.backends.base import Loader
from hrmas_sparse.engine.network import Plasticity
from hrmas_sparse.engine.relaxation import softmax
from hrmas_sparse.run.loop import NotFinite, Phase
from hrmas_sparse.run.metrics import Totals
from hrmas_sparse.run.patience import Patience
from hrmas_sparse.search.hrmas import StepSettings, decision, dropout_scales, entropy, search_step, weight_step
from hrmas_sparse.search.optim import scheduled

# Streams of random numbers, one per purpose, so that none depends on how much another drew.
SEARCH_START, RETRAIN_START, RANDOM_ARCHITECTURE, SEARCH_ORDER, VALID_ORDER, RETRAIN_ORDER, \
    AUGMENTATION, DROPOUT, DIAGNOSIS_ORDER, THRESHOLD_BATCH, CANDIDATE, CANDIDATE_ORDER = range(1, 13)
FIRST_CANDIDATE = 3  # its stage, see Context.step_settings; the others follow


class Context(NamedTuple):
    """What all phases of a run have in common.

    settings : :class:`hrmas_sparse.settings.schema.Config`
    seed : int
    data : :class:`hrmas_sparse.data.dataset.Dataset`
    backend : see :mod:`hrmas_sparse.engine.backends`
    check : function () that raises InputError once the data is not what it was
    """

    settings: Any
    seed: int
    data: Any
    backend: Any
    check: Callable = lambda: None

    @property
    def plasticity(self):
        """The constants of SpiKL-IP."""
        section = self.settings.plasticity
        return Plasticity(section.tau_cal, section.gamma, section.mu)

    def rng(self, *stream):
        """A generator of a stream of random numbers."""
        return np.random.default_rng([self.seed, *stream])

    def loader(self):
        """The training set as near as it fits where the backend computes; here if every batch is changed first."""
        augmentation = self.settings.augmentation
        return Loader(self.data.train) if augmentation != type(augmentation)() else self.backend.loader(self.data.train)

    def augmented(self, batch, stage, update):
        """A training batch changed as the settings say; drawn by seed, stage and update alone."""
        return augmented(batch, self.data.grid, self.settings.augmentation,
                         self.rng(AUGMENTATION, stage, update))

    def dropout(self, network, stage, update):
        """What to scale feedforward weights by in one step, where the backend computes."""
        scales = dropout_scales(network, self.settings.training.dropout, self.rng(DROPOUT, stage, update))
        return {n: self.backend.to_device(scale) for n, scale in scales.items()}

    def step_settings(self, network, stage, progress, update):
        """Settings of a step of w at a progress of 0 to 1 through the phase.

        Stage 0 is retraining, 1 and 2 the search, from ``FIRST_CANDIDATE`` on a candidate.
        """
        training, plastic = self.settings.training, self.settings.plasticity
        return StepSettings(scheduled(training.lr, training.schedule, progress), training.clip, self.plasticity,
                            plastic.mode if stage in (1, 2) or plastic.retrain else "off", training.weight_decay,
                            self.dropout(network, stage, update), () if stage in (1, 2) else training.trains)


def search_phase(context, network, learner, stage, epochs):
    """Return the :class:`Phase` that searches; stage 1 or 2."""
    settings, training, seed = context.settings, context.settings.training, context.seed
    loader = context.loader()
    train, valid = halve(context.data.train.labels, seed)

    def batches(epoch):
        own = epoch_order(len(train), training.batch, [seed, SEARCH_ORDER, stage, epoch])
        other = epoch_order(len(valid), training.batch, [seed, VALID_ORDER, stage, epoch])
        return [(train[index], valid[other[n % len(other)]]) for n, index in enumerate(own)]

    def step(batch, progress, update):
        context.check()
        w_batch = context.augmented(loader[batch[0]], stage, update)
        alpha_batch = loader[batch[1]]
        result = search_step(network, learner, w_batch, alpha_batch, settings.search,
                             context.step_settings(network, stage, progress, update))
        totals, samples = _totals(result, w_batch), len(w_batch)
        totals.valid_loss = result.valid.loss * samples
        totals.valid_correct = float((result.valid.predicted == alpha_batch.labels).mean()) * samples
        return totals

    def describe():
        types, sizes = entropy(network, learner.parameters)
        chances = [softmax(context.backend.to_host(own.alpha_size).astype(np.float64)).tolist()
                   for own in learner.parameters.layers[:-1]]
        return {"type_entropy": types, "size_entropy": sizes, "motif_sizes": chances,
                **_spread(context.backend, learner.parameters)}

    def prefetch(batch):
        for index in batch:
            loader.prefetch(index)

    patience = Patience(settings.search.patience, settings.search.decided,
                        lambda: decision(network, learner.parameters, stage)) if settings.search.patience else None
    return Phase(f"search-{stage}", epochs, batches, step, describe, prefetch, network.spiking_output, patience)


def candidate_phase(context, network, learner, number):
    """Return the :class:`Phase` that trains a candidate on the half of the training set that w learns from."""
    own, _ = halve(context.data.train.labels, context.seed)
    return _training("candidates", context.settings.candidate_epochs, context, network, learner, own,
                     [CANDIDATE_ORDER, number], FIRST_CANDIDATE + number)


def retrain_phase(context, network, learner):
    """Return the :class:`Phase` that trains the discrete network."""
    everything = np.arange(len(context.data.train))
    return _training("retrain", context.settings.training.retrain_epochs, context, network, learner, everything,
                     [RETRAIN_ORDER], 0)


def _training(name, epochs, context, network, learner, samples, order, stage):
    """A phase that trains a discrete network on some samples, their order a stream of random numbers."""
    loader = context.loader()

    def batches(epoch):
        return [samples[index] for index in epoch_order(len(samples), context.settings.training.batch,
                                                        [context.seed, *order, epoch])]

    def step(index, progress, update):
        context.check()
        batch = context.augmented(loader[index], stage, update)
        settings = context.step_settings(network, stage, progress, update)
        return _totals(weight_step(network, learner, batch, settings), batch)

    return Phase(name, epochs, batches, step, lambda: _spread(context.backend, learner.parameters), loader.prefetch,
                 network.spiking_output)


def _totals(result, batch):
    """A batch's contribution to the epoch's metrics.

    Raises
    ------
    NotFinite
        The step met a number that is none, and learnt nothing.
    """
    outcome, samples = result.outcome, len(batch)
    if not np.isfinite(result.norm):
        raise NotFinite(_to_blame(outcome))
    return Totals(samples, outcome.loss * samples, int((outcome.predicted == batch.labels).sum()),
                  result.norm * samples, [rate * samples for rate in outcome.rates],
                  [norm * samples for norm in result.layer_norms], list(result.layer_norms))


def _to_blame(outcome):
    if not np.isfinite(outcome.loss) and outcome.gradients is None:
        return "the loss"
    gradients = outcome.gradients.flatten() if outcome.gradients else {}
    bad = [name for name, gradient in gradients.items() if not np.isfinite(gradient).all()]
    return f"the gradient of {', '.join(map(_in_words, bad))}" if bad else "the second-order gradient of alpha"


def _in_words(name):
    """"rec1.w_exc" -> "rec1.w_exc (recurrence of layer 1)" """
    if name.startswith("rec"):
        return f"{name} (recurrence of layer {name[3:].partition('.')[0]})"
    if name[0] in "Rt":
        return f"{name} (of layer {name.lstrip('Rtau')})"
    return f"{name} ({'output layer' if name == 'w_out' else 'into layer ' + name[1:]})"


def _spread(backend, parameters):
    """Least, mean and largest R and tau of each layer."""
    return {key: [float(value.min()), float(value.mean(dtype=np.float64)), float(value.max())]
            for key, value in parameters.intrinsic().map(backend.to_host).flatten().items()}
