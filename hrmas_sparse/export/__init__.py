"""Networks for other programs: NIR, a plain NumPy archive, C for microcontrollers; see docs/howto/export.md."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hrmas_sparse.export import arrays, c_header, nir
from hrmas_sparse.export.description import Description
from hrmas_sparse.storage.errors import InputError

SUFFIXES = (".nir", ".npz", ".h")


class Describable(Protocol):
    """A network that can say what other programs need of it."""

    def describe(self, params: Any, name: str, class_names: Sequence[str]) -> Description:
        """Return the description of the network with these parameters."""


def export(path: str | os.PathLike[str], network: Describable, params: Any, *, name: str = "network",
           class_names: Sequence[str] = (), dt: float = nir.DT, folded: bool = False) -> None:
    """Write a network for other programs.

    Parameters
    ----------
    path : path
        Its suffix says which format: `.nir`, `.npz`, or `.h`, which writes a file that ends in `.c` beside it as well.
        Files that are there are replaced.
    network, params : Network, Parameters
    name, class_names : str, sequence of str
        Written into the file.
    dt : float
        Seconds of a step, for NIR.
    folded : bool
        Write the equal network in which the gain R/tau of each neuron is part of its weights, for programs that
        ignore R.

    Raises
    ------
    InputError
        The suffix is another, the network cannot be described, or a file cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, found "
                         f"{path.suffix or 'no suffix'!r}; the suffix says which format to write")
    description = network.describe(params, name, class_names)
    description = description.folded() if folded else description
    if path.suffix == ".nir":
        nir.write(path, description, dt)
    else:
        (arrays if path.suffix == ".npz" else c_header).write(path, description)
