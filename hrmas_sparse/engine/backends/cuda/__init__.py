"""The CUDA backend. This file and :mod:`.probe` need no GPU and no package for one; the rest does."""

from hrmas_sparse.engine.backends.cuda.probe import Probe, probe

__all__ = ["Probe", "probe"]
