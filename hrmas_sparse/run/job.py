"""The main job on one seed: search, discretise, retrain, test; resumable at every batch.

    search-1   supernet: alpha_size, types, w, R and tau     (half of the training set each for w and alpha)
    search-2   the best motif size: types go on
    diagnosis  what making it discrete costs (diagnosis.py)
    retrain    the discrete architecture, fresh weights, whole training set
    test       once

Without a search (a random or given architecture, or no recurrence) the job starts at retrain.
"""

import functools
import math
import os
import sys
import time
import weakref

import numpy as np

from hrmas_sparse.engine import architecture as architectures
from hrmas_sparse.storage import arrayfile as checkpoint
from hrmas_sparse.data.augmentation import augmented
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.search.baselines import fully_connected, random_architecture
from hrmas_sparse.run.diagnosis import EPOCHS, diagnose
from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.storage.atomic import write_json, write_text
from hrmas_sparse.engine.losses import LOSSES
from hrmas_sparse.engine.network import Layer, Network, Neurons, Plasticity
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.search.optim import Adam, scheduled
from hrmas_sparse.search.hrmas import (
    Learner, StepSettings, discretize, dropout_scales, entropy, keep_best_sizes, search_step, weight_step)
from hrmas_sparse.data.events import epoch_order, halve
from hrmas_sparse.run.summary import connections, summary
from hrmas_sparse.engine.recurrence import Motif, Supernet, softmax
from hrmas_sparse.run.loop import (
    ALONE, Checkpoints, Metrics, Phase, Position, evaluate, load_state, run_phase, save_state)

# Streams of random numbers, one per purpose, so that none depends on how much another drew.
SEARCH_START, RETRAIN_START, RANDOM_ARCHITECTURE, SEARCH_ORDER, VALID_ORDER, RETRAIN_ORDER, \
    AUGMENTATION, DROPOUT, DIAGNOSIS_ORDER = range(1, 10)


def build_network(settings, meta, recurrences, backend):
    """A :class:`Network` of a configuration.

    Parameters
    ----------
    settings : :class:`hrmas_sparse.settings.schema.Config`
    meta : :class:`hrmas_sparse.data.cache.Meta`, for the numbers of inputs and classes
    recurrences : one object of topology.py, or None, per hidden layer
    backend : see :func:`hrmas_sparse.engine.backends.get_backend`
    """
    net, loss = settings.network, LOSSES[settings.loss.name].from_settings(settings.loss)
    hidden = [Layer(size, net.v_th * net.tau_s, recurrence) for size, recurrence in zip(net.neurons, recurrences)]
    return Network(meta.channels, hidden, Layer(meta.classes, net.v_th_out * net.tau_s),
                   Neurons(net.tau_m, net.tau_s, net.slope_cap, net.surrogate_width), loss, backend, net.dtype)


def recurrences_of(settings, found):
    """Recurrence per hidden layer of the final network; ``found`` is the discrete architecture of a motif network."""
    if settings.network.recurrence == "none":
        return [None] * len(settings.network.neurons)
    if settings.network.recurrence == "full":
        return [fully_connected(neurons) for neurons in settings.network.neurons]
    return [Motif(a, settings.network.w_exc, settings.network.w_inh) for a in found]


class Job:
    """One run.

    Parameters
    ----------
    run : :class:`hrmas_sparse.run.folder.RunDir`, its manifest written
    settings, seed, cache : as in the manifest
    backend : see :mod:`hrmas_sparse.engine.backends`
    given : list of architectures to retrain instead of searching, or None
    count_baseline : function () -> accuracy of logistic regression on spike counts, for the summary
    place : :class:`hrmas_sparse.run.loop.Place`
    """

    def __init__(self, run, settings, seed, cache, backend, given=None, count_baseline=None, place=ALONE):
        self.run, self.settings, self.seed, self.cache = run, settings, seed, cache
        self.backend, self.given, self.count_baseline, self.place = backend, given, count_baseline, place
        # Settings as they were written when the run began: a version that knew fewer left checkpoints with fewer.
        begun_with, data = run.manifest()["config"], {"fingerprint": cache.meta.fingerprint}
        self.identity = {"config": begun_with, "data": data, "seed": seed}
        self.watch = Watch(cache)
        plastic = settings.plasticity
        self.plasticity = Plasticity(plastic.tau_cal, plastic.gamma, plastic.mu)
        self.metrics = Metrics(run.metrics_path)
        self.learner = Learner(Parameters([]), Adam(settings.training.betas), Adam(settings.search.alpha_betas))
        self.position, self.checkpoints = None, Checkpoints(self._save)

    # ---- the three phases ----------------------------------------------------------------------------

    def execute(self, asked):
        """Run the job from where it is to its end; ``asked`` as in :func:`loop.run_phase`."""
        self.position = load_state(self.run.checkpoint_path, self.learner, self.identity, self._expected)
        if self.position is None:
            self._begin()
        self.metrics.cut(self.position.lines)
        epochs = self.settings.training.search_epochs
        first = math.ceil(epochs * self.settings.search.stage1_fraction)  # at least one: sizes must be learnt
        if self.position.phase == "search-1":
            network = self._supernetwork(None)
            self._phase(self._search_phase(network, "search-1", first), asked)
            self.position = self._next("search-2", sizes=keep_best_sizes(network, self.learner))
        if self.position.phase == "search-2":
            network = self._supernetwork(self.position.sizes)
            self._phase(self._search_phase(network, "search-2", epochs - first), asked)
            architectures.save(self.run.architecture_path, discretize(network, self.learner))
            self._keep_search(network)
            self._diagnose(network, asked)
            self._fresh_weights()
        self._phase(self._retrain_phase(self._final_network()), asked)
        self._finish(asked)

    def _expected(self, position):
        """What a checkpoint at a position holds, see :func:`loop.load_state`."""
        if position.phase == "retrain":
            network = self._final_network()
        else:
            if position.phase == "search-2" and not self._sizes_fit(position.sizes):
                raise Damaged(f"{self.run.checkpoint_path}: damaged: motif sizes {position.sizes}")
            network = self._supernetwork(position.sizes if position.phase == "search-2" else None)
        parameters = network.init(0)
        return parameters, parameters.only(network.weight_names), parameters.only(network.alpha_names)

    def _sizes_fit(self, sizes):
        net = self.settings.network
        return sizes is not None and len(sizes) == len(net.neurons) and set(sizes) <= set(net.motif_sizes)

    def _begin(self):
        net, method = self.settings.network, self.settings.search.method
        rng = np.random.default_rng([self.seed, RANDOM_ARCHITECTURE])
        self.position = Position("search-1")
        if self.given is None and net.recurrence == "motif" and method == "hrmas":
            network = self._supernetwork(None)
            self.learner.parameters = network.init([self.seed, SEARCH_START])
            return
        if net.recurrence == "motif":
            if self.given:
                architectures.check_fit(self.given, net, "the given architecture")
            architectures.save(self.run.architecture_path, self.given or [
                random_architecture(size, net.motif_sizes, rng, net.inter, net.tied) for size in net.neurons])
        self._fresh_weights()

    def _phase(self, phase, asked):
        """Run a phase; while it lasts the learner lies where the backend computes."""
        self.learner = self.learner.to(self.backend.to_device)
        run_phase(phase, self.position, self.metrics, self.checkpoints, asked)
        self.learner = self.learner.to(self.backend.to_host)

    def _save(self):
        save_state(self.run.checkpoint_path, self.learner.to(self.backend.to_host), self.position, self.identity)

    def _next(self, name, sizes=None):
        """The position at the start of the next phase."""
        return Position(name, lines=self.position.lines, sizes=sizes, seconds=self.position.seconds)

    def _fresh_weights(self):
        """Start of phase 2: everything reinitialised, R and tau too unless they are carried on (paper 3.1.4)."""
        searched = self.learner.parameters.intrinsic()
        parameters = self._final_network().init([self.seed, RETRAIN_START])
        if self.settings.plasticity.carry_intrinsic and searched.layers:
            parameters = parameters.replaced(searched)
        self.learner = Learner(parameters, Adam(self.settings.training.betas), Adam(self.settings.search.alpha_betas))
        self.position = self._next("retrain")

    # ---- networks and phases -------------------------------------------------------------------------

    def _supernetwork(self, sizes):
        """The supernet over all motif sizes, or over the one chosen for each layer."""
        net = self.settings.network
        options = [net.motif_sizes] * len(net.neurons) if sizes is None else [(size,) for size in sizes]
        return build_network(self.settings, self.cache.meta, [
            Supernet(size, chosen, net.inter, net.tied, net.w_exc, net.w_inh, self.settings.search.alpha_init)
            for size, chosen in zip(net.neurons, options)], self.backend)

    def _final_network(self):
        found = architectures.load_fitting(self.run.architecture_path, self.settings.network)
        return build_network(self.settings, self.cache.meta, recurrences_of(self.settings, found), self.backend)

    def _keep_search(self, network):
        """What the search ended with, for figures: alpha, R and tau, which retraining begins anew."""
        parameters = self.learner.parameters
        checkpoint.save(self.run.search_path, "search", checkpoint.flatten(
            {"alpha": parameters.only(network.alpha_names).flatten(), "intrinsic": parameters.intrinsic().flatten()}),
            {"identity": self.identity})

    def _diagnose(self, network, asked):
        """Write what making the searched network discrete costs; no later number depends on it."""
        started, events, seed = time.monotonic(), self.cache.train, self.seed
        learns, judges = halve(events.labels, seed)
        windows = [learns[index] for epoch in range(EPOCHS) for index in epoch_order(
            len(learns), self.settings.training.batch, [seed, DIAGNOSIS_ORDER, epoch])]
        plasticity = None if self.settings.plasticity.mode == "off" else self.plasticity
        found = diagnose(network, self._final_network(), self.learner, events, judges, windows, plasticity, asked)
        self.watch.check()
        write_json(self.run.diagnosis_path, found)
        self.position.seconds["diagnosis"] = time.monotonic() - started

    def _step_settings(self, network, progress, stage):
        """Settings of a step of w; stage 0 is retraining."""
        training, plastic = self.settings.training, self.settings.plasticity
        rate = scheduled(training.lr, training.schedule, progress)
        return StepSettings(rate, training.clip, self.plasticity, plastic.mode if stage or plastic.retrain else "off",
                            training.weight_decay, self._dropout(network, stage))

    def _search_phase(self, network, name, epochs):
        events, training = self._training_events(), self.settings.training
        train, valid = halve(events.labels, self.seed)
        stage = int(name[-1])

        def batches(epoch):
            own = epoch_order(len(train), training.batch, [self.seed, SEARCH_ORDER, stage, epoch])
            other = epoch_order(len(valid), training.batch, [self.seed, VALID_ORDER, stage, epoch])
            return [(train[index], valid[other[n % len(other)]]) for n, index in enumerate(own)]

        def step(pair, progress):
            self.watch.check()
            learns, judges = self._augmented(events[pair[0]], stage), events[pair[1]]
            result = search_step(network, self.learner, learns, judges, self.settings.search,
                                 self._step_settings(network, progress, stage))
            judged, samples = result.valid, len(learns)
            valid_correct = float((judged.predicted == judges.labels).mean())
            return self._sums(result, learns) | {
                "valid_loss": judged.loss * samples, "valid_correct": valid_correct * samples}

        def describe():
            types, sizes = entropy(network, self.learner.parameters)
            chances = [softmax(own.alpha_size.astype(np.float64)).tolist()
                       for own in self.learner.parameters.layers[:-1]]
            return {"type_entropy": types, "size_entropy": sizes, "motif_sizes": chances, **self._intrinsic_spread()}

        def ahead(pair):
            for index in pair:
                self.backend.ahead(events, index)

        return Phase(name, epochs, batches, step, describe, ahead, place=self.place)

    def _retrain_phase(self, network):
        events, training = self._training_events(), self.settings.training

        def step(index, progress):
            self.watch.check()
            batch = self._augmented(events[index], 0)
            return self._sums(weight_step(network, self.learner, batch, self._step_settings(network, progress, 0)),
                              batch)

        def batches(epoch):
            return epoch_order(len(events), training.batch, [self.seed, RETRAIN_ORDER, epoch])

        return Phase("retrain", training.retrain_epochs, batches, step, self._intrinsic_spread,
                     functools.partial(self.backend.ahead, events), place=self.place)

    def _training_events(self):
        """The training set as near as it fits where the backend computes; here if every batch is changed first."""
        changed = self.settings.augmentation != type(self.settings.augmentation)()
        return self.cache.train if changed else self.backend.resident(self.cache.train)

    def _augmented(self, batch, stage):
        """A training batch changed as the settings say; drawn by seed, stage and update alone."""
        rng = np.random.default_rng([self.seed, AUGMENTATION, stage, self.position.updates])
        return augmented(batch, self.cache.meta.dataset, self.settings.augmentation, rng)

    def _dropout(self, network, stage):
        rng = np.random.default_rng([self.seed, DROPOUT, stage, self.position.updates])
        scales = dropout_scales(network, self.settings.training.dropout, rng)
        return {n: self.backend.to_device(scale) for n, scale in scales.items()}

    def _sums(self, result, batch):
        """A batch's contribution to the epoch's metrics; says what to blame if it is not finite."""
        outcome, norm = result.outcome, result.norm
        if not np.isfinite(norm):
            return {"loss": np.nan, "blame": self._blame(outcome)}
        samples = len(batch)
        sums = {"samples": samples, "loss": outcome.loss * samples,
                "correct": int((outcome.predicted == batch.labels).sum()), "gradient_norm": norm * samples}
        for n, (rate, norm) in enumerate(zip(outcome.rates, result.layer_norms), start=1):
            sums |= {f"rate{n}": rate * samples, f"gradient_norm{n}": norm * samples, f"gradient_norm{n}_max": norm}
        return sums

    def _blame(self, outcome):
        if not np.isfinite(outcome.loss) and outcome.gradients is None:
            return "the loss"
        gradients = outcome.gradients.flatten() if outcome.gradients else {}
        bad = [name for name, gradient in gradients.items() if not np.isfinite(gradient).all()]
        return f"the gradient of {', '.join(map(_in_words, bad))}" if bad else "the second-order gradient of alpha"

    def _intrinsic_spread(self):
        return {key: [float(value.min()), float(value.mean(dtype=np.float64)), float(value.max())]
                for key, value in self.learner.parameters.intrinsic().flatten().items()}

    # ---- the end -------------------------------------------------------------------------------------

    def _finish(self, asked):
        """Test once, write weights, result and summary."""
        network, learner = self._final_network(), self.learner
        checkpoint.save(self.run.weights_path, "weights", checkpoint.flatten(
            {"parameters": learner.parameters.trained().flatten(),
             "intrinsic": learner.parameters.intrinsic().flatten()}), {"identity": self.identity})
        started = time.monotonic()
        test, train = (evaluate(network, learner.parameters, events, asked)
                       for events in (self.cache.test, self.cache.train))
        self.watch.check()
        train.pop("confusion")
        self.position.seconds["test"] = time.monotonic() - started
        started = time.monotonic()
        if self.count_baseline:
            print("for comparison: logistic regression on spikes per channel ...", file=sys.stderr, flush=True)
        counts = self.count_baseline() if self.count_baseline else None
        weights = sum(array.size for _, array in learner.parameters.only(network.weight_names).items())
        self.position.seconds["comparison"] = time.monotonic() - started
        result = {"provenance": self.cache.meta.provenance, "test": test, "train": train,
                  "chance": 1 / self.cache.meta.classes, "counts_baseline": counts,
                  "trained_weights": weights, "recurrence": [connections(layer.recurrence) for layer in network.hidden],
                  "seconds": self.position.seconds}
        write_text(self.run.summary_path, "\n".join(summary(self.run, result)) + "\n")
        write_json(self.run.result_path, result)


class Watch:
    """Sees that a mapped spike cache stays what it was: deleted it may be, for we hold it open, changed it may not."""

    def __init__(self, cache):
        self._path = cache.path
        with open(cache.path, "rb") as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._before = self._state()
        self._maps = cache.train, cache.test
        self.check()

    def _state(self):
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns

    def check(self):
        """Raise InputError if the file was changed in place."""
        if self._state() != self._before:
            raise InputError(f"{self._path}: the spike cache was changed during the run; nothing was learnt from that. "
                             "Delete it and give the same command again: it is rebuilt and the run goes on")


def _in_words(name):
    """"rec1.w_exc" -> "rec1.w_exc (recurrence of layer 1)" """
    if name.startswith("rec"):
        return f"{name} (recurrence of layer {name[3:].partition('.')[0]})"
    return f"{name} ({'output layer' if name == 'w_out' else 'into layer ' + name[1:]})"


def load_trained(run, settings, meta, backend="auto"):
    """A finished run's network and its :class:`hrmas_sparse.engine.parameters.Parameters`.

    Raises
    ------
    InputError
        The run has not ended, its files are damaged, or ``meta`` does not fit it.
    """
    if not run.weights_path.exists():
        raise InputError(f"{run.path}: not finished, it has no weights yet; go on with the command in its manifest")
    found = architectures.load_fitting(run.architecture_path, settings.network)
    network = build_network(settings, meta, recurrences_of(settings, found), get_backend(backend))
    like = network.init(0)
    arrays, _ = checkpoint.load(run.weights_path, "weights", lambda meta: checkpoint.flatten(
        {"parameters": like.trained().flatten(), "intrinsic": like.intrinsic().flatten()}))
    parameters, intrinsic = checkpoint.unflatten(arrays, "parameters", "intrinsic")
    return network, Parameters.unflatten(parameters | intrinsic)
