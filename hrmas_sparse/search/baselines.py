"""What a searched architecture is compared with."""

import numpy as np

from hrmas_sparse.engine.architecture import Architecture


def random_architecture(neurons, sizes, rng, inter=True, tied=True):
    """An architecture drawn uniformly from the search space: a motif size, then every type (Table 4).

    Parameters
    ----------
    neurons : of the layer; sizes : motif sizes to draw from; rng : numpy Generator
    inter, tied : as in the search
    """
    size = int(rng.choice(np.asarray(sizes)))
    return Architecture.random(neurons, size, rng, inter, tied)


def random_architectures(network, rng, sizes=None):
    """One for every hidden layer that the settings of a network want; see :func:`random_architecture`.

    sizes : the motif size of each layer, None to draw them
    """
    options = [network.motif_sizes] * len(network.neurons) if sizes is None else [(size,) for size in sizes]
    return [random_architecture(neurons, chosen, rng, network.inter, network.tied)
            for neurons, chosen in zip(network.neurons, options)]
