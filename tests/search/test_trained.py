"""R and tau of the hidden neurons trained with w: against the reference, their bounds, and what is left alone."""

import copy

import numpy as np
import pytest
from dense import TAU_M, assert_close, assert_same_bits, random_case
from naive_neuron import LOG_R, LOG_TAU, gradients
from naive_optimiser import adam_step, global_norm

from hrmas_sparse.run import phases
from hrmas_sparse.search.hrmas import Learner, StepSettings, own_names, weight_step
from hrmas_sparse.search.optim import Adam

STACK = (("feedforward", 7), ("feedforward", 5))
OWN = {"R": LOG_R, "tau": LOG_TAU}
STEP = StepSettings(0.02, 1e-3, trains=("R", "tau"))


def problem(seed=60, hidden=STACK):
    case = random_case(seed, hidden, B=4, T=25, R="neuron", tau="neuron")
    return case, Learner(case.parameters(), Adam(), Adam())


class Reference:
    """Gradients of naive.py, Adam on w, ln R and ln tau; the norm that clips is that of w."""

    def __init__(self, case):
        self.case, self.moments, self.steps = case, {}, 0

    def step(self, rate, clip, trains):
        found, self.steps = self.case.reference(), self.steps + 1
        shrink = min(1, clip / global_norm(found["dW_in"]))
        for n, layer in enumerate(self.case.layers):
            own = gradients(found["tapes"][n], found["delta"][n], layer["tau"]) if n < len(self.case.layers) - 1 else {}
            layer["W_in"] = layer["W_in"] + self._moved((n, "w"), shrink * found["dW_in"][n], rate)
            for name in trains if own else ():
                move = self._moved((n, name), shrink * own[OWN[name]] / len(self.case.X), rate)
                layer[name] = np.clip(np.exp(np.log(layer[name]) + move), TAU_M / 2, 8 * TAU_M)

    def _moved(self, entry, gradient, rate):
        m, v = self.moments.get(entry, (0 * gradient, 0 * gradient))
        move, *self.moments[entry] = adam_step(0 * gradient, gradient, m, v, self.steps, rate)
        return move


@pytest.mark.parametrize("trains", [("R", "tau"), ("tau",), ("R",)])
def test_steps_are_the_reference(backend, trains):
    case, learner = problem()
    network, start = case.network(backend), case.parameters()
    reference = Reference(copy.deepcopy(case))
    for _ in range(4):
        weight_step(network, learner, case.events(), STEP._replace(trains=trains))
        reference.step(STEP.rate, STEP.clip, trains)
        assert_close(learner.parameters.flatten(), reference.case.parameters().flatten(), 1e-9)
    for n, name in own_names(network, ("R", "tau")):
        assert (learner.parameters.layers[n][name] != start.layers[n][name]).all() == (name in trains)


def test_bounds_and_the_first_step(backend):
    """A share of the value, whatever the value and the decay of weights; then no farther than SpiKL-IP goes."""
    case, learner = problem()
    network, start = case.network(backend), case.parameters()
    weight_step(network, learner, case.events(), STEP._replace(decay=5.0))
    for n, name in own_names(network, STEP.trains):
        share = np.abs(np.log(learner.parameters.layers[n][name] / start.layers[n][name]))
        np.testing.assert_allclose(share[share > 0], STEP.rate, rtol=1e-2)   # Adam's eps beside small gradients
    weight_step(network, learner, case.events(), STEP._replace(rate=10.0))
    reached = np.concatenate([x for _, x in learner.parameters.intrinsic().items()])
    assert set(reached.tolist()) == {TAU_M / 2, 8 * TAU_M}


def test_weights_are_moved_as_they_are_alone(backend):
    """In one step: what is trained beside them is no part of their clipping."""
    learners = [problem(hidden=(("motif", 12, 3), ("free", 5)))[1] for _ in range(2)]
    case, _ = problem(hidden=(("motif", 12, 3), ("free", 5)))
    results = [weight_step(case.network(backend), learner, case.events(), STEP._replace(trains=trains))
               for learner, trains in zip(learners, (STEP.trains, ()))]
    assert_same_bits(*[[each.parameters.trained()] for each in learners])
    assert results[0].norm == results[1].norm and results[0].layer_norms == results[1].layer_norms
    assert_same_bits([learners[1].parameters.intrinsic()], [case.parameters().intrinsic()])
    assert {name for _, layer in enumerate(learners[0].w_adam.m.layers) for name in layer} == {
        "w", "w_exc", "w_rec", "R", "tau"}


def test_values_that_others_hold_are_not_written_to(backend):
    """What a search ended with is carried into several candidates, each trained from there."""
    case, learner = problem()
    held = learner.parameters.intrinsic()
    before = held.copy()
    weight_step(case.network(backend), learner, case.events(), STEP)
    assert_same_bits([held], [before])


def test_what_is_no_number_teaches_nothing(backend, monkeypatch):
    case, learner = problem()
    network, before = case.network(backend), copy.deepcopy(learner)
    honest = network.passes

    def passes(*arguments, **options):
        results = honest(*arguments, **options)
        results[0].gradients.layers[1].tau[2] = np.nan
        return results

    monkeypatch.setattr(network, "passes", passes)
    result = weight_step(network, learner, case.events(), STEP)
    assert np.isfinite(result.outcome.loss) and np.isnan(result.norm)
    assert_same_bits([learner.parameters], [before.parameters])
    with pytest.raises(phases.NotFinite, match=r"the gradient of tau2 \(of layer 2\)"):
        phases._totals(result, case.events())
