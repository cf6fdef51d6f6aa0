"""Arrays of an .npz file, checked as they are asked for: the kernels do not check bounds."""

import numpy as np

from hrmas_sparse.storage import npy
from hrmas_sparse.storage.errors import InputError


class Arrays:
    """The arrays of one file.

    Raises
    ------
    InputError
        The file cannot be read or holds Python objects; later, an array is missing, not numbers or of
        another shape. The message names file and array.
    """

    def __init__(self, path):
        self.path = path
        try:
            self._arrays = npy.load(path)
        except npy.BROKEN as error:
            raise InputError(f"{path}: not a readable .npz file of plain arrays ({error}); fetch it again") from error

    def _error(self, name, text):
        return InputError(f"{self.path}: array {name!r}: {text}")

    def get(self, name, *shapes):
        """An array as float64, of one of the shapes, in which None stands for any length; without shapes of any."""
        if name not in self._arrays:
            raise self._error(name, f"missing; the file holds {', '.join(sorted(self._arrays)) or 'nothing'}")
        array = self._arrays[name]
        if array.dtype.kind not in "biuf":
            raise self._error(name, f"expected numbers, found {array.dtype}")
        fits = [len(shape) == array.ndim and all(n in (None, m) for n, m in zip(shape, array.shape))
                for shape in shapes]
        if shapes and not any(fits) or not array.size:
            wanted = " or ".join(str(shape).replace("None", "n") for shape in shapes) or "at least one number"
            raise self._error(name, f"expected {wanted}, found shape {array.shape}")
        return array.astype(np.float64)

    def number(self, name, default=None):
        """A finite number; above 0, but for the inhibitory weight."""
        if default is not None and name not in self._arrays:
            return default
        value = float(self.get(name, ()))
        if not np.isfinite(value) or (value <= 0 and name != "w_inh"):
            raise self._error(name, f"expected a finite number above 0, found {value}")
        return value

    def counts(self, name, length, low, high):
        """Whole numbers in [low, high), as int64; length None for any."""
        values = self.get(name, (length,))
        if not ((values == np.floor(values)) & (values >= low) & (values < high)).all():
            raise self._error(name, f"expected whole numbers from {low} to {high - 1}, found {values}")
        return values.astype(np.int64)
