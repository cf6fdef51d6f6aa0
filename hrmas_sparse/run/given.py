"""Architectures that are given to a run instead of being searched."""

import json

from hrmas_sparse.engine.architecture import Architecture, as_dict, check_fit
from hrmas_sparse.settings.validators import shown
from hrmas_sparse.storage.errors import InputError


def architectures_for(given, settings):
    """Return the architecture of each hidden layer, checked against the settings before anything is written.

    Parameters
    ----------
    given : a run (anything with an ``architecture``, a list or a function), an Architecture, or a list of them
    settings : :class:`hrmas_sparse.settings.schema.Config`

    Raises
    ------
    InputError
        There is none, or it does not fit; tied motifs are carried to the layer sizes that are wanted.
    """
    architectures = getattr(given, "architecture", given)
    architectures = architectures() if callable(architectures) else architectures
    if isinstance(architectures, Architecture):
        architectures = [architectures]
    if not isinstance(architectures, (list, tuple)) or not all(isinstance(a, Architecture) for a in architectures):
        raise InputError(f"architecture: expected a run, an Architecture or a list of them, found {shown(given)}")
    if not architectures:
        where = getattr(given, "path", None)
        raise InputError(f"{where or 'the given run'}: has no architecture yet (or no recurrence); let its search end "
                         "first")
    net = settings.network
    if settings.plasticity.carry_intrinsic:
        raise InputError("plasticity.carry_intrinsic: R and tau of the search are not kept; a retrained architecture "
                         "starts from tau_m. Add --set plasticity.carry_intrinsic=false")
    if len(architectures) == len(net.neurons):
        architectures = [_carried(a, neurons) for a, neurons in zip(architectures, net.neurons)]
    check_fit(architectures, net, "the given architecture")
    return list(architectures)


def _carried(architecture, neurons):
    if architecture.neurons == neurons or not architecture.tied or neurons % architecture.motif_size:
        return architecture  # it fits, or check_fit says why not
    return architecture.carried_to(neurons)


def origin_of(given, architectures):
    """Return what the manifest of a run says about the architecture it was given.

    Parameters
    ----------
    given : as of :func:`architectures_for`, which gave ``architectures``
    """
    path = getattr(given, "path", None)
    text = json.dumps(as_dict(architectures), indent=2) + "\n"
    return {"architecture": text, "architecture_of": None if path is None else str(path)}
