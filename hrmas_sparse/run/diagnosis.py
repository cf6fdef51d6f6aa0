"""What making the architecture discrete costs, and what intrinsic plasticity makes up for.

The paper has plasticity ease the jump from the relaxed network to the discrete one. So between search and retraining
both are scored, on the half of the training set that judged alpha and with the weights of the search:

    relaxed    the supernet the search ended with, its R and tau
    reset      the discrete architecture, R and tau as the search began
    discrete   the discrete architecture, R and tau of the search
    adapted    the same after SpiKL-IP has run over the half that w learnt from, EPOCHS times, a window a batch

A search without plasticity has relaxed and discrete alone. Nothing is learnt here, and nothing of it is kept but the
scores: retraining begins as it would without.

Feedforward weights are carried over as they are, and of the recurrent ones w_exc of every excitatory link: these are
all weights that a discrete architecture has. What they lose is their share. A link of the supernet weighs
hat_exc w_exc + hat_inh w_inh [11, 15], a discrete one w_exc, w_inh or nothing.
"""

from hrmas_sparse.engine.parameters import INTRINSIC, Parameters
from hrmas_sparse.run.score import evaluate
from hrmas_sparse.run.stop import Stopped, never

EPOCHS = 5


def diagnose(relaxed, discrete, learner, events, judges, windows, plasticity, stop=never):
    """Score a network before and after it is made discrete.

    Parameters
    ----------
    relaxed : :class:`hrmas_sparse.engine.network.Network` of supernets of one motif size each
    discrete : the network of the architecture that was made of it
    learner : :class:`hrmas_sparse.search.hrmas.Learner` at the end of the search, on the host; left as it is
    events : the training set
    judges : (S,) int, the samples to score
    windows : list of (B,) int, the samples of each plasticity window
    plasticity : :class:`hrmas_sparse.engine.network.Plasticity`, or None where the search had none
    stop : function () -> bool, asked after every pass

    Returns
    -------
    dict with "windows", how many there were, and "relaxed", "reset", "discrete", "adapted", each a dict with
    "accuracy", "loss", "samples" and "rates" as :class:`hrmas_sparse.run.score.Score` has them, or None
    """
    parameters = carried(discrete, learner.parameters)

    def score(network, parameters):
        scored = evaluate(network, parameters, events, stop, judges).as_dict()
        return {key: scored[key] for key in ("accuracy", "loss", "samples", "rates")}

    scores = {"relaxed": score(relaxed, learner.parameters), "reset": None,
              "discrete": score(discrete, parameters), "adapted": None, "windows": 0}
    if plasticity is None:
        return scores
    adapted = parameters
    for samples in windows:
        adapted = adapted.replaced(discrete.adapt(adapted, events[samples], plasticity).intrinsic)
        if stop():
            raise Stopped
    return scores | {"reset": score(discrete, parameters.replaced(discrete.initial_intrinsic())),
                     "adapted": score(discrete, adapted), "windows": len(windows)}


def carried(discrete, searched):
    """Parameters of a discrete network: the weights, R and tau that a relaxed one has learnt."""
    return Parameters(
        {"w": arrays.w, **(layer.recurrence.carried(arrays) if layer.recurrence else {}),
         **{name: arrays[name] for name in INTRINSIC if name in arrays}}
        for layer, arrays in zip(discrete.layers, searched.layers))
