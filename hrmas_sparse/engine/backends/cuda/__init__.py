"""The CUDA backend. This file and :mod:`.probe` need no GPU and no package for one; the rest does."""

from hrmas_sparse.engine.backends.cuda.probe import Probe, probe

__all__ = ["DENSE", "RESIDENT", "TOGETHER", "Probe", "probe"]

TOGETHER = 1024  # samples of several networks in one launch: five seeds at w+ and w- with batches of 100
RESIDENT = 0.25  # share of the free memory a training set may take; a larger one is carried there in batches
# Share of non-zero input above which everything is multiplied, in place of visiting events. An H100 took less time to
# multiply down to 0.2 % (64 and 2,312 channels, w steps of 400 and 512 neurons), but that is the host's time more than
# that of kernels, which are even near 1.7 %. It depends on the data alone, never on timing.
DENSE = 0.01
