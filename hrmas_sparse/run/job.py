"""The main job on one seed: search, discretise, retrain, test; resumable at every batch.

    search-1, search-2   see phases.py
    diagnosis            what making it discrete costs (diagnosis.py)
    candidates           see phases.py; only where the settings want several
    retrain              see phases.py
    test                 once (finish.py)

Without a search (a random or given architecture, or no recurrence) the job starts at retrain. Where the motif size
alone is searched, search-2 and the diagnosis are left out.
"""

import time

import numpy as np

from hrmas_sparse.data.events import epoch_order, halve
from hrmas_sparse.engine.architecture import check_fit
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.environment import option
from hrmas_sparse.run import thresholds
from hrmas_sparse.run.diagnosis import EPOCHS, diagnose
from hrmas_sparse.run.finish import finish
from hrmas_sparse.run.loop import Checkpoints, run_phase
from hrmas_sparse.run.networks import Networks
from hrmas_sparse.run.phases import (
    CANDIDATE,
    DIAGNOSIS_ORDER,
    RANDOM_ARCHITECTURE,
    RETRAIN_START,
    SEARCH_START,
    THRESHOLD_BATCH,
    candidate_phase,
    retrain_phase,
    search_phase,
)
from hrmas_sparse.run.progress import Reporter
from hrmas_sparse.run.score import evaluate
from hrmas_sparse.run.state import Position
from hrmas_sparse.run.stop import never
from hrmas_sparse.search.baselines import random_architectures
from hrmas_sparse.search.hrmas import Learner, discretize, drawn, keep_best_sizes, own_names
from hrmas_sparse.search.optim import Adam
from hrmas_sparse.storage.errors import Damaged, InputError


class Job:
    """One run.

    Parameters
    ----------
    store : :class:`hrmas_sparse.run.store.FolderStore` or ``MemoryStore``, where what it finds goes
    context : :class:`hrmas_sparse.run.phases.Context`
    given : list of architectures to retrain instead of searching, or None
    baseline : function () -> accuracy of logistic regression on spike counts, or None
    reporter : :class:`hrmas_sparse.run.progress.Reporter`
    """

    def __init__(self, store, context, given=None, baseline=None, reporter=None):
        self.store, self.context, self.given, self.baseline = store, context, given, baseline
        self.reporter = reporter or Reporter()
        self.learner, self.position = self._learner(Parameters([])), None
        meta = context.data.meta
        self.networks = Networks.of(context.settings, meta.channels, meta.classes, context.backend, store.thresholds())
        self._checkpoints = Checkpoints(self.checkpoint)

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is found, and said in one line
    def execute(self, stop=never):
        """Run the job from where it is to its end; ``stop`` as in :func:`hrmas_sparse.run.loop.run_phase`."""
        settings = self.context.settings
        self.context.data.check()  # once: the passes of the training loop check nothing
        self.position = self.store.resume(self.learner, self.expected)
        if self.position is None:
            self.begin()
        self.store.cut(self.position.lines)
        first, second = settings.stages
        if self.position.phase == "search-1":
            network = self.networks.search()
            self._phase(stop, search_phase, network, 1, first)
            sizes = keep_best_sizes(network, self.learner)
            if settings.search.method == "size":
                drawn_at_random = random_architectures(settings.network, self.context.rng(RANDOM_ARCHITECTURE), sizes)
                self._keep_found(self.networks.search(sizes), drawn_at_random)
                self._choose_or_retrain()
            else:
                self.position = self.position.next("search-2", sizes=sizes)
        if self.position.phase == "search-2":
            network = self.networks.search(self.position.sizes)
            self._phase(stop, search_phase, network, 2, second)
            self._keep_found(network, discretize(network, self.learner))
            self._diagnose(network, stop)
            self._choose_or_retrain()
        if self.position.phase == "candidates":
            self._compare_candidates(stop)
        network = self._final_network()
        self._phase(stop, retrain_phase, network)
        finish(self.store, self.context, network, self.learner, self.position, self.baseline, stop)

    @property
    def _searches(self):
        settings = self.context.settings
        return self.given is None and sum(settings.stages) > 0

    def begin(self):
        """Start the run: fresh parameters, or the architecture that is given or drawn."""
        net = self.context.settings.network
        self.position = Position("search-1")
        if self._searches:
            self.learner.parameters = self._start(lambda networks: networks.search(), SEARCH_START)
            return
        if net.recurrence == "motif":
            rng = self.context.rng(RANDOM_ARCHITECTURE)
            if self.given:
                check_fit(self.given, net, "the given architecture")
            self.store.keep_architecture(self.given or random_architectures(net, rng))
            if not self.given:
                return self._choose_or_retrain()
        self._fresh_weights()

    def checkpoint(self):
        """Keep the learner and the position."""
        self.store.checkpoint(self.learner.to(self.context.backend.to_host), self.position)

    def expected(self, position):
        """What a checkpoint at a position holds, see :func:`hrmas_sparse.run.state.load_state`."""
        trains = self.context.settings.training.trains if position.phase in ("candidates", "retrain") else ()
        if position.phase == "retrain":
            network = self._final_network()
        elif position.phase == "candidates":
            if len(position.scores) >= self.context.settings.search.candidates:
                raise Damaged(f"damaged: {len(position.scores)} candidates have been tried already")
            network = self.networks.final(self._candidate(len(position.scores)))
        else:
            if position.phase == "search-2" and not self._sizes_fit(position.sizes):
                raise Damaged(f"damaged: motif sizes {position.sizes}")
            network = self.networks.search(position.sizes if position.phase == "search-2" else None)
        parameters, learnt = network.init(0), [*network.weight_names, *own_names(network, trains)]
        return parameters, parameters.only(learnt), parameters.only(network.alpha_names)

    def _sizes_fit(self, sizes):
        net = self.context.settings.network
        return sizes is not None and len(sizes) == len(net.neurons) and set(sizes) <= set(net.motif_sizes)

    def _learner(self, parameters):
        settings = self.context.settings
        return Learner(parameters, Adam(settings.training.betas), Adam(settings.search.alpha_betas))

    def _final_network(self, networks=None):
        return (networks or self.networks).final(self.store.architecture(self.context.settings.network))

    def _start(self, build, stream):
        """Fresh parameters of the network that ``build`` makes of :class:`Networks`; chooses thresholds if need be."""
        seed = [self.context.seed, stream]
        if self.networks.v_th is None:
            layers, train = len(self.context.settings.network.neurons), self.context.data.train
            batch, *_ = epoch_order(len(train), self.context.settings.training.batch,
                                    [self.context.seed, THRESHOLD_BATCH])
            trial = self.networks._replace(v_th=(1.0,) * layers)
            v_th = thresholds.choose(lambda v_th: build(trial._replace(v_th=v_th)), build(trial).init(seed),
                                     train[batch], layers)
            self.store.keep_thresholds(v_th)
            self.networks = self.networks._replace(v_th=v_th)
        return build(self.networks).init(seed)

    def _phase(self, stop, make, network, *which):
        """Run a phase; while it lasts the learner lies where the backend computes."""
        backend = self.context.backend
        self.learner = self.learner.to(backend.to_device)
        phase = make(self.context, network, self.learner, *which)
        run_phase(phase, self.position, self.store.add_line, self._checkpoints, stop, self.reporter)
        self.learner = self.learner.to(backend.to_host)

    def _fresh_weights(self):
        """Start of phase 2: everything reinitialised, R and tau too unless they are carried on (paper 3.1.4)."""
        self._start_over(self._final_network)
        self.position = self.position.next("retrain")

    def _start_over(self, build):
        parameters = self._start(build, RETRAIN_START)
        if self.context.settings.plasticity.carry_intrinsic and self._searches:
            parameters = parameters.replaced(self._searched().intrinsic())
        self.learner = self._learner(parameters)

    def _choose_or_retrain(self):
        """What follows the search: to try several candidates, or to retrain the only one."""
        if self.context.settings.search.candidates == 1:
            self._fresh_weights()
            return
        self._start_over(lambda networks: networks.final(self._candidate(0)))
        self.position = self.position.next("candidates")

    def _keep_found(self, network, architectures):
        """Keep the architectures that a search, whose network this is, led to, and what it ended with."""
        self.store.keep_architecture(architectures)
        self.store.keep_search(self.learner.parameters.only(network.alpha_names), self.learner.parameters.intrinsic())

    def _candidate(self, number):
        """The architectures of a candidate; the first is what the search ended with, or the first that was drawn."""
        settings, net = self.context.settings, self.context.settings.network
        first = self.store.architecture(net)
        if number == 0:
            return first
        rng = self.context.rng(CANDIDATE, number)
        if settings.search.method == "random":
            return random_architectures(net, rng)
        if settings.search.method == "size":
            return random_architectures(net, rng, [one.motif_size for one in first])
        return drawn(self.networks.search([one.motif_size for one in first]), self._searched(), rng)

    def _searched(self):
        """What the search ended with; a run that goes on may have lost it."""
        searched = self.store.searched()
        if searched is None:
            raise InputError("what the search ended with is gone (search.h5), and the run cannot go on without it; "
                             f"{option('fresh')} sets it aside and starts over")
        return searched

    def _compare_candidates(self, stop):
        """Train each candidate shortly, and keep the one that is best on the other half of the training part."""
        train, count = self.context.data.train, self.context.settings.search.candidates
        _, valid = halve(train.labels, self.context.seed)
        scores = self.position.scores
        for number in range(len(scores), count):
            network = self.networks.final(self._candidate(number))
            self._phase(stop, candidate_phase, network, number)
            score = evaluate(network, self.learner.parameters, train, stop, valid)
            scores = [*scores, [score.accuracy, score.loss]]
            self.position = self.position.next("candidates", scores=scores)
            if number + 1 < count:
                self._start_over(lambda networks, next=number + 1: networks.final(self._candidate(next)))
        best = max(range(count), key=lambda n: (scores[n][0], -scores[n][1], -n))
        self.store.keep_architecture(self._candidate(best))
        self._fresh_weights()

    def _diagnose(self, network, stop):
        """Keep what making the searched network discrete costs; no later number depends on it."""
        started, settings, seed = time.monotonic(), self.context.settings, self.context.seed
        events = self.context.data.train
        train, valid = halve(events.labels, seed)
        windows = [train[index] for epoch in range(EPOCHS) for index in epoch_order(
            len(train), settings.training.batch, [seed, DIAGNOSIS_ORDER, epoch])]
        plasticity = None if settings.plasticity.mode == "off" else self.context.plasticity
        cost = diagnose(network, self._final_network(), self.learner, events, valid, windows, plasticity, stop)
        self.context.check()
        self.store.keep_diagnosis(cost)
        self.position.seconds["diagnosis"] = time.monotonic() - started
