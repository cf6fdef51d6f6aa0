"""The CUDA backend. This file and :mod:`.probe` need no GPU and no package for one; the rest does."""

from hrmas_sparse.engine.backends.cuda.probe import Probe, probe

__all__ = ["DENSE", "RESIDENT", "TOGETHER", "Probe", "probe"]

TOGETHER = 1024  # samples of several networks in one launch: five seeds at w+ and w- with batches of 100
RESIDENT = 0.25  # share of the free memory a training set may take; a larger one is carried there in batches
# Share of non-zero input above which multiplying everything is taken to be faster than visiting events. Reckoned
# from arithmetic and bandwidth of an H100, not measured. It depends on the data alone, never on timing.
DENSE = 0.05
