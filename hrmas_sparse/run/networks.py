"""The networks of a run: the supernet that is searched, the discrete network that is retrained and tested."""

from hrmas_sparse.engine import architecture
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.losses import LOSSES
from hrmas_sparse.engine.network import Layer, Network, Neurons
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.recurrence import Motif, Supernet
from hrmas_sparse.search.baselines import fully_connected
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.errors import InputError


def build_network(settings, meta, recurrences, backend):
    """Return the :class:`Network` of a configuration.

    Parameters
    ----------
    settings : :class:`hrmas_sparse.settings.schema.Config`
    meta : :class:`hrmas_sparse.data.meta.Meta`, for the numbers of inputs and classes
    recurrences : one object of recurrence.py, or None, per hidden layer
    backend : see :func:`hrmas_sparse.engine.backends.get_backend`
    """
    net, loss = settings.network, LOSSES[settings.loss.name].from_settings(settings.loss)
    hidden = [Layer(size, net.v_th * net.tau_s, recurrence) for size, recurrence in zip(net.neurons, recurrences)]
    return Network(meta.channels, hidden, Layer(meta.classes, net.v_th_out * net.tau_s),
                   Neurons(net.tau_m, net.tau_s, net.slope_cap, net.surrogate_width), loss, backend, net.dtype)


def search_network(settings, meta, backend, sizes=None):
    """Return the supernet over all motif sizes, or over the one chosen for each layer."""
    net = settings.network
    options = [net.motif_sizes] * len(net.neurons) if sizes is None else [(size,) for size in sizes]
    return build_network(settings, meta, [
        Supernet(size, chosen, net.inter, net.tied, net.w_exc, net.w_inh, settings.search.alpha_init)
        for size, chosen in zip(net.neurons, options)], backend)


def final_network(settings, meta, backend, architectures):
    """Return the network that is retrained; ``architectures`` are those of a motif network's hidden layers."""
    net = settings.network
    if net.recurrence == "none":
        recurrences = [None] * len(net.neurons)
    elif net.recurrence == "full":
        recurrences = [fully_connected(neurons) for neurons in net.neurons]
    else:
        recurrences = [Motif(one, net.w_exc, net.w_inh) for one in architectures]
    return build_network(settings, meta, recurrences, backend)


def load_trained(run, settings, meta, backend="auto"):
    """Return a finished run's network and its :class:`hrmas_sparse.engine.parameters.Parameters`.

    Raises
    ------
    InputError
        The run has not ended, its files are damaged, or ``meta`` does not fit it.
    """
    if not run.weights_path.exists():
        raise InputError(f"{run.path}: not finished, it has no weights yet; go on with the command in its manifest")
    architectures = architecture.load_fitting(run.architecture_path, settings.network)
    network = final_network(settings, meta, get_backend(backend), architectures)
    arrays, _ = arrayfile.load(run.weights_path, "weights", lambda meta: arrays_of(network.init(0)))
    return network, parameters_of(arrays)


def arrays_of(parameters):
    """Parameters as the files of a run have them: {"parameters/w1": ..., "intrinsic/R1": ...}."""
    return arrayfile.flatten({"parameters": parameters.trained().flatten(),
                              "intrinsic": parameters.intrinsic().flatten()})


def parameters_of(arrays):
    """As :func:`arrays_of`, back; other arrays are left out."""
    trained, intrinsic = arrayfile.unflatten(arrays, "parameters", "intrinsic")
    return Parameters.unflatten(trained | intrinsic)
