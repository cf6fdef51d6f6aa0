"""The networks of a run: the supernet that is searched, the discrete network that is retrained and tested."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from hrmas_sparse.engine import architecture
from hrmas_sparse.engine.layers import LIF, Dense, Feedforward, Integrator, Motifs, Supernet
from hrmas_sparse.engine.losses import LOSSES
from hrmas_sparse.engine.network import Network
from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.engine.selftest import tested_backend
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
            Supernet(size, chosen, net.inter, net.tied, net.w_exc, net.w_inh, self.settings.search.alpha_init, v_th)
            for size, chosen, v_th in zip(net.neurons, options, self.v_th)])

    def final(self, architectures):
        """Return the network that is retrained; ``architectures`` are those of a motif network's hidden layers."""
        net = self.settings.network
        if net.recurrence == "none":
            return self._network([Feedforward(size, v_th) for size, v_th in zip(net.neurons, self.v_th)])
        if net.recurrence == "full":
            return self._network([Dense(size, v_th) for size, v_th in zip(net.neurons, self.v_th)])
        return self._network([
            Motifs(architecture.neurons, architecture=architecture, w_exc=net.w_exc, w_inh=net.w_inh, v_th=v_th)
            for architecture, v_th in zip(architectures, self.v_th)])

    def _network(self, hidden):
        net, loss = self.settings.network, LOSSES[self.settings.loss.name].from_settings(self.settings.loss)
        neuron = LIF(net.tau_m, net.tau_s, v_th_out=net.v_th_out, slope_cap=net.slope_cap,
                     surrogate_width=net.surrogate_width)
        readout = Integrator(net.windows) if net.readout == "integrator" else None
        return Network(self.channels, self.classes, hidden, neuron, loss, self.backend, net.dtype, readout=readout,
                       rule=self.settings.training.rule)


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
    backend = tested_backend(backend) if isinstance(backend, str) else backend
    channels, classes = (meta.channels, meta.classes) if meta else run.extent()
    network = Networks.of(settings, channels, classes, backend, run.thresholds()).final(architectures)
    size, stored = network.forward_size, os.lstat(run.weights_path).st_size
    if size * np.dtype(network.dtype).itemsize > stored:  # before anything of that size is made
        raise InputError(f"{run.weights_path}: {stored:,} bytes, but the network of {run.manifest_path} has {size:,} "
                         "feedforward weights; not of the same run")
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
