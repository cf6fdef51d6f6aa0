"""Signs that a layer does not learn: dead, saturated, or with exploding gradients (mathematics 13).

And classes that a trained network is blind to.
"""

import numpy as np

DEAD_RATE = 1e-5        # spikes per neuron and step, mean over an epoch: below it a layer says nothing
SATURATED_RATE = 0.5    # above it a layer says the same whatever it hears
NEARLY_SILENT = 0.02    # of the mean rate of the output neurons: below it a class can hardly win
EXPLODING_NORM = 1e5    # of a layer's gradient; networks that learn well stay near 1e3


def complaints(totals, spiking_output=True):
    """What is wrong with the layers of a network, as sentences.

    Parameters
    ----------
    totals : :class:`hrmas_sparse.run.metrics.Totals` of an epoch
    spiking_output : whether the output neurons spike
    """
    layers, lines = len(totals.rates), []
    for n, (rate, norm) in enumerate(zip(totals.rates, totals.largest_norms), start=1):
        name, rate = "the output layer" if n == layers else f"layer {n}", rate / totals.samples
        if rate < DEAD_RATE and (n < layers or spiking_output):
            lines.append(f"{name} is dead: {rate:.1e} spikes per neuron and step; lower its threshold "
                         f"(network.{'v_th_out' if n == layers else 'v_th'})")
        if rate > SATURATED_RATE:
            lines.append(f"{name} is saturated: {rate:.2f} spikes per neuron and step; raise its threshold "
                         f"(network.{'v_th_out' if n == layers else 'v_th'})")
        if norm > EXPLODING_NORM:
            lines.append(f"the gradient of {name} explodes: norm {norm:.1e}; lower network.slope_cap or raise "
                         "network.v_th")
    return lines


def complaints_of_test(test, class_names):
    """What is wrong with the decisions of a trained network, as sentences.

    Parameters
    ----------
    test : dict as :meth:`hrmas_sparse.run.score.Score.as_dict` gives it; older versions had no "output_rates"
    class_names : list of str
    """
    counts, lines = np.array(test["confusion"]), []
    never = [name for name, n in zip(class_names, counts.sum(axis=0)) if n == 0]
    if never:
        lines.append(f"{_some(never)} {'is' if len(never) == 1 else 'are'} never decided for")
    rates = np.array(test.get("output_rates", []))
    silent = [name for name, rate in zip(class_names, rates) if rate < NEARLY_SILENT * rates.mean()]
    if silent and rates.mean() > 0:
        lines.append(f"the output neuron{'s' * (len(silent) > 1)} of {_some(silent)} nearly never "
                     f"spike{'s' * (len(silent) == 1)}: less than {100 * NEARLY_SILENT:g} % of the mean")
    return lines


def _some(names):
    """The names of some classes, not too many."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"class{'es' * (len(names) > 1)} {', '.join(names[:5])}{more}"


def lasting(complaint, later):
    """Whether a complaint about an epoch still matters at the end of its phase, where ``later`` was complained of.

    A layer may begin without spikes and learn to have some; a gradient that exploded has done its harm.
    """
    about = kind(complaint)
    return not about.endswith((" is dead", " is saturated")) or about in map(kind, later)


def kind(complaint):
    """A complaint without its numbers, to say each only once."""
    return complaint.partition(":")[0]
