"""Parameters of a network: one dict of arrays a layer, the output layer last.

    w                    (C, N) feedforward weights, row = sender
    w_exc, alpha_5, ...  parameters of the layer's recurrence, named by its kind (recurrence.py)
    R, tau               intrinsic parameters of a hidden layer: (N,), or given trajectories (T, N), (B, T, N)

Files know them by flat names: w1, w2, ..., w_out, rec1.w_exc, R1, tau1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hrmas_sparse.storage.errors import Damaged, InputError

INTRINSIC = ("R", "tau")
Entry = tuple[int, str]  # an array of a network: layer from 0, name
_FLAT = re.compile(r"(?:w(\d+)|(w_out)|rec(\d+)\.(\w+)|(R|tau)(\d+))\Z")


class LayerParameters(dict[str, Any]):
    """The arrays of one layer by name, which are attributes too.

    Examples
    --------
    >>> import numpy as np
    >>> layer = LayerParameters(w=np.ones((2, 3)))
    >>> layer.w.shape
    (2, 3)
    >>> layer
    LayerParameters(w: float64 (2, 3))
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no parameter {name!r}; there are {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __repr__(self) -> str:
        return f"LayerParameters({', '.join(f'{name}: {x.dtype} {x.shape}' for name, x in self.items())})"


class Parameters:
    """The arrays of a network, or of a part of it: gradients and moments have the same shape.

    Parameters
    ----------
    layers : iterable of dicts, name -> array
        One for each layer, the output layer last.

    Attributes
    ----------
    layers : list of LayerParameters

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> net = hs.Network(channels=4, classes=2, hidden=[hs.Dense(3)], backend="cpu")
    >>> params = net.init(seed=0)
    >>> params.layers[0].w.shape, params.layers[0].tau.shape
    ((4, 3), (3,))
    >>> list(params.flatten())
    ['w1', 'rec1.w_rec', 'R1', 'tau1', 'w_out']
    """

    def __init__(self, layers: Iterable[dict[str, Any]]) -> None:
        self.layers = [LayerParameters(layer) for layer in layers]

    def items(self) -> Iterator[tuple[Entry, Any]]:
        """Yield ((layer, name), array): the feedforward weights of all layers, then the rest layer by layer."""
        for feedforward in (True, False):
            for n, layer in enumerate(self.layers):
                yield from (((n, name), x) for name, x in layer.items() if (name == "w") == feedforward)

    def map(self, function: Callable[[Any], Any]) -> Parameters:
        """Return parameters with a function applied to every array."""
        return Parameters({name: function(x) for name, x in layer.items()} for layer in self.layers)

    def copy(self) -> Parameters:
        """Return a copy that shares no array."""
        return self.map(lambda array: array.copy())

    def only(self, entries: Iterable[Entry]) -> Parameters:
        """Return a part: the same arrays of these entries, in a layer in the order given."""
        layers: list[dict[str, Any]] = [{} for _ in self.layers]
        for n, name in entries:
            layers[n][name] = self.layers[n][name]
        return Parameters(layers)

    def intrinsic(self) -> Parameters:
        """Return the part that holds R and tau."""
        return Parameters({name: x for name, x in layer.items() if name in INTRINSIC} for layer in self.layers)

    def trained(self) -> Parameters:
        """Return the part without R and tau: weights and architecture."""
        return Parameters({name: x for name, x in layer.items() if name not in INTRINSIC} for layer in self.layers)

    def replaced(self, other: Parameters) -> Parameters:
        """Return parameters with the arrays that ``other`` has in place of these; nothing is copied."""
        return Parameters({**layer, **new} for layer, new in zip(self.layers, other.layers, strict=True))

    # ---- flat names ----------------------------------------------------------------------------------

    def flatten(self) -> dict[str, Any]:
        """Return a dict, flat name -> array, as files have it."""
        return {_flat_name(n, name, len(self.layers)): x
                for n, layer in enumerate(self.layers) for name, x in layer.items()}

    @classmethod
    def unflatten(cls, arrays: dict[str, Any], layers: int | None = None) -> Parameters:
        """Return the parameters of a flat dict.

        Parameters
        ----------
        arrays : dict
            As :meth:`flatten` gives it.
        layers : int, optional
            How many layers there are, output included; by default as many as have feedforward weights.

        Raises
        ------
        InputError
            A name is none of a network of so many layers.
        """
        if layers is None:
            layers = sum(name == "w_out" or name[1:].isdecimal() and name[0] == "w" for name in arrays)
        made: list[dict[str, Any]] = [{} for _ in range(layers)]
        for flat, array in arrays.items():
            n, name = _entry(flat, layers)
            made[n][name] = array
        return cls(made)

    def save(self, path: str | Path) -> None:
        """Write the arrays to an HDF5 file, whole or not at all, with checksums."""
        from hrmas_sparse.storage import arrayfile
        arrayfile.save(Path(path), "parameters", self.map(np.asarray).flatten(), {"layers": len(self.layers)})

    @classmethod
    def load(cls, path: str | Path) -> Parameters:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            The file is missing, damaged, or holds something else.
        """
        from hrmas_sparse.storage import arrayfile
        arrays, about = arrayfile.load(Path(path), "parameters")
        layers = about.get("layers") if isinstance(about, dict) else None
        if not isinstance(layers, int) or not 0 < layers <= max(1, len(arrays)):
            raise Damaged(f"{path}: damaged: its number of layers")
        return cls.unflatten(arrays, layers)

    def __repr__(self) -> str:
        lines = [f"  {n}: {layer!r}" for n, layer in enumerate(self.layers)]
        return "\n".join(["Parameters(", *lines, ")"])


def _flat_name(n: int, name: str, layers: int) -> str:
    """(0, "w_exc") -> "rec1.w_exc" """
    if name == "w":
        return "w_out" if n == layers - 1 else f"w{n + 1}"
    return f"{name}{n + 1}" if name in INTRINSIC else f"rec{n + 1}.{name}"


def _entry(flat: str, layers: int) -> Entry:
    """As :func:`_flat_name`, back."""
    match = _FLAT.match(flat)
    if match:
        w, out, rec, name, intrinsic, hidden = match.groups()
        n = layers if out else int(w or rec or hidden)
        entry = n - 1, "w" if w or out else name or intrinsic
        if 0 < n <= layers and _flat_name(*entry, layers) == flat:
            return entry
    raise InputError(f"parameters: {flat!r} is no array of a network of {layers} layers; expected names such as w1, "
                     "rec1.w_exc, R1, tau1, w_out")
