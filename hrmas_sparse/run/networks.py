"""The networks of a run: the supernet that is searched, the discrete network that is retrained and tested."""

from __future__ import annotations

from typing import Any, NamedTuple

from hrmas_sparse.engine import architecture
from hrmas_sparse.engine.backends import get_backend
from hrmas_sparse.engine.losses import LOSSES
from hrmas_sparse.engine.network import Layer, Network, Neurons
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.recurrence import Motif, Supernet
from hrmas_sparse.search.baselines import fully_connected
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.errors import InputError


class Networks(NamedTuple):
    """How the networks of a run are built.

    settings : :class:`hrmas_sparse.settings.schema.Config`
    channels, classes : of the data
    backend : see :func:`hrmas_sparse.engine.backends.get_backend`
    v_th : threshold of each hidden layer, in tau_s; None while ``network.v_th`` is "auto" and none is chosen
    """

    settings: Any
    channels: int
    classes: int
    backend: Any
    v_th: tuple[float, ...] | None

    @classmethod
    def of(cls, settings, channels, classes, backend, v_th=None):
        """Those of a configuration; ``v_th`` are the thresholds that were chosen for "auto"."""
        net = settings.network
        if net.v_th is not None:
            v_th = (net.v_th,) * len(net.neurons)
        return cls(settings, channels, classes, backend, None if v_th is None else tuple(v_th))

    def search(self, sizes=None):
        """Return the supernet over all motif sizes, or over the one chosen for each layer."""
        net = self.settings.network
        options = [net.motif_sizes] * len(net.neurons) if sizes is None else [(size,) for size in sizes]
        return self._network([
            Supernet(size, chosen, net.inter, net.tied, net.w_exc, net.w_inh, self.settings.search.alpha_init)
            for size, chosen in zip(net.neurons, options)])

    def final(self, architectures):
        """Return the network that is retrained; ``architectures`` are those of a motif network's hidden layers."""
        net = self.settings.network
        if net.recurrence == "none":
            return self._network([None] * len(net.neurons))
        if net.recurrence == "full":
            return self._network([fully_connected(neurons) for neurons in net.neurons])
        return self._network([Motif(one, net.w_exc, net.w_inh) for one in architectures])

    def _network(self, recurrences):
        net, loss = self.settings.network, LOSSES[self.settings.loss.name].from_settings(self.settings.loss)
        hidden = [Layer(size, v_th * net.tau_s, recurrence)
                  for size, v_th, recurrence in zip(net.neurons, self.v_th, recurrences)]
        neurons = Neurons(net.tau_m, net.tau_s, net.slope_cap, net.surrogate_width)
        return Network(self.channels, hidden, Layer(self.classes, net.v_th_out * net.tau_s), neurons, loss,
                       self.backend, net.dtype)


def load_trained(run, backend="auto", meta=None):
    """Return a finished run's network and its :class:`hrmas_sparse.engine.parameters.Parameters`.

    Parameters
    ----------
    run : :class:`hrmas_sparse.run.folder.RunDir`
    backend : name or backend
    meta : :class:`hrmas_sparse.data.meta.Meta` of the data it is to be used on; default what its weights fit

    Raises
    ------
    InputError
        The run has not ended, its files are damaged, or ``meta`` does not fit it.
    """
    if not run.weights_path.exists():
        raise InputError(f"{run.path}: not finished, it has no weights yet; go on with the command in its manifest")
    settings = run.config()
    architectures = architecture.load_fitting(run.architecture_path, settings.network)
    backend = get_backend(backend) if isinstance(backend, str) else backend
    channels, classes = (meta.channels, meta.classes) if meta else run.extent()
    network = Networks.of(settings, channels, classes, backend, run.thresholds()).final(architectures)
    arrays, _ = arrayfile.load(run.weights_path, "weights", lambda about: arrays_of(network.init(0)))
    return network, parameters_of(arrays)


def arrays_of(parameters):
    """Parameters as the files of a run have them: {"parameters/w1": ..., "intrinsic/R1": ...}."""
    return arrayfile.flatten({"parameters": parameters.trained().flatten(),
                              "intrinsic": parameters.intrinsic().flatten()})


def parameters_of(arrays):
    """As :func:`arrays_of`, back; other arrays are left out."""
    trained, intrinsic = arrayfile.unflatten(arrays, "parameters", "intrinsic")
    return Parameters.unflatten(trained | intrinsic)
