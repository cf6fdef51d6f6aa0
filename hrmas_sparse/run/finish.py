"""The end of a run: test once, keep weights and result."""

import time

from hrmas_sparse.run.score import evaluate
from hrmas_sparse.run.summary import connections


def finish(store, context, network, learner, position, baseline, stop):
    """Test a trained network and keep what the run found.

    Parameters
    ----------
    store : see :mod:`hrmas_sparse.run.store`
    context : :class:`hrmas_sparse.run.phases.Context`
    network, learner : trained, on the host
    position : :class:`hrmas_sparse.run.state.Position` at the end; the time each phase took
    baseline : function () -> accuracy of logistic regression on spike counts, or None
    stop : function () -> bool
    """
    store.keep_weights(learner.parameters)
    data, started, seconds = context.data, time.monotonic(), position.seconds
    test, train = (evaluate(network, learner.parameters, events, stop).as_dict() if events else None
                   for events in (data.test, data.train))
    context.check()
    del train["confusion"], train["output_rates"]
    seconds["test"] = time.monotonic() - started
    started = time.monotonic()
    counts = baseline() if baseline else None
    seconds["comparison"] = time.monotonic() - started
    weights = sum(array.size for _, array in learner.parameters.only(network.weight_names).items())
    store.finish({
        "provenance": data.meta.provenance, "test": test, "train": train, "chance": 1 / data.meta.classes,
        "counts_baseline": counts, "trained_weights": weights,
        "recurrence": [connections(layer.recurrence) for layer in network.hidden], "seconds": seconds,
        **({} if position.processor is None else {"processor_seconds": position.processor})})
