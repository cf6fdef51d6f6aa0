"""Architectures that are given to a run instead of being searched."""

import dataclasses
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
    found = getattr(given, "architecture", given)
    found = found() if callable(found) else found
    found = [found] if isinstance(found, Architecture) else found
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, Architecture) for one in found):
        raise InputError(f"architecture: expected a run, an Architecture or a list of them, found {shown(given)}")
    if not found:
        where = getattr(given, "path", None)
        raise InputError(f"{where or 'the given run'}: has no architecture yet (or no recurrence); let its search end "
                         "first")
    net = settings.network
    if settings.plasticity.carry_intrinsic:
        raise InputError("plasticity.carry_intrinsic: R and tau of the search are not kept; a retrained architecture "
                         "starts from tau_m. Add --set plasticity.carry_intrinsic=false")
    if len(found) == len(net.neurons):
        found = [_carried(one, neurons) for one, neurons in zip(found, net.neurons)]
    check_fit(found, net, "the given architecture")
    return list(found)


def _carried(one, neurons):
    if one.neurons == neurons or not one.tied or neurons % one.motif_size:
        return one  # it fits, or check_fit says why not
    return dataclasses.replace(one, neurons=neurons)


def origin_of(given, architectures):
    """Return what the manifest of a run says about the architecture it was given.

    Parameters
    ----------
    given : as of :func:`architectures_for`, which gave ``architectures``
    """
    path = getattr(given, "path", None)
    text = json.dumps(as_dict(architectures), indent=2) + "\n"
    return {"architecture": text, "architecture_of": None if path is None else str(path)}
