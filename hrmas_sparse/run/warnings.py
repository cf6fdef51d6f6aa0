"""Signs that a layer does not learn: dead, saturated, or with exploding gradients (mathematics 13)."""

DEAD_RATE = 1e-5        # spikes per neuron and step, mean over an epoch: below it a layer says nothing
SATURATED_RATE = 0.5    # above it a layer says the same whatever it hears
EXPLODING_NORM = 1e5    # of a layer's gradient; networks that learn well stay near 1e3


def complaints(totals):
    """What is wrong with the layers of a network, as sentences.

    Parameters
    ----------
    totals : :class:`hrmas_sparse.run.metrics.Totals` of an epoch
    """
    layers, found = len(totals.rates), []
    for n, (rate, norm) in enumerate(zip(totals.rates, totals.largest_norms), start=1):
        name, rate = "the output layer" if n == layers else f"layer {n}", rate / totals.samples
        if rate < DEAD_RATE:
            found.append(f"{name} is dead: {rate:.1e} spikes per neuron and step; lower its threshold "
                         f"(network.{'v_th_out' if n == layers else 'v_th'})")
        if rate > SATURATED_RATE:
            found.append(f"{name} is saturated: {rate:.2f} spikes per neuron and step; raise its threshold "
                         f"(network.{'v_th_out' if n == layers else 'v_th'})")
        if norm > EXPLODING_NORM:
            found.append(f"the gradient of {name} explodes: norm {norm:.1e}; lower network.slope_cap or raise "
                         "network.v_th")
    return found


def kind(complaint):
    """A complaint without its numbers, to say each only once."""
    return complaint.partition(":")[0]
