"""What a found architecture is compared with."""

import numpy as np

from hrmas_sparse.engine.architecture import Architecture, table_rows
from hrmas_sparse.engine.recurrence import Free


def random_architecture(neurons, sizes, rng, inter=True, tied=True):
    """An architecture drawn uniformly from the search space: a motif size, then every type (Table 4).

    Parameters
    ----------
    neurons : of the layer; sizes : motif sizes to draw from; rng : numpy Generator
    inter, tied : as in the search
    """
    size = int(rng.choice(np.asarray(sizes)))
    types = rng.integers(0, 3, table_rows(neurons, size, inter, tied))
    return Architecture(neurons, size, inter, types.astype(np.int8), tied)


def fully_connected(neurons):
    """Recurrence from every neuron to every neuron, itself included, all weights free (Table 3)."""
    each = np.arange(neurons)
    return Free(neurons, np.repeat(each, neurons), np.tile(each, neurons))
