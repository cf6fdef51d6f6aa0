"""Recurrent spiking networks built from motifs, trained with TSSL-BP, their architecture found by HRMAS.

The public names (``hs.Network``, ``hs.search`` ...) are imported on first use: ``import hrmas_sparse as hs``
loads nothing else. Type checkers read them from ``__init__.pyi`` beside this file.
"""

import importlib
import sys
import types

__version__ = "0.1.0"

# Public name -> the module that holds it. A name that is added here is added to __init__.pyi too.
_PUBLIC = {
    "Architecture": "hrmas_sparse.engine.architecture",
    "Dataset": "hrmas_sparse.data.dataset",
    "Dense": "hrmas_sparse.engine.layers",
    "Diverged": "hrmas_sparse.storage.errors",
    "Events": "hrmas_sparse.data.events",
    "Feedforward": "hrmas_sparse.engine.layers",
    "InputError": "hrmas_sparse.storage.errors",
    "Integrator": "hrmas_sparse.engine.layers",
    "LIF": "hrmas_sparse.engine.layers",
    "Motifs": "hrmas_sparse.engine.layers",
    "Network": "hrmas_sparse.engine.network",
    "Parameters": "hrmas_sparse.engine.parameters",
    "Run": "hrmas_sparse.run.trained",
    "StopRequest": "hrmas_sparse.run.stop",
    "Supernet": "hrmas_sparse.engine.layers",
    "alpha_gradient": "hrmas_sparse.search.hrmas",
    "check_gradients": "hrmas_sparse.gradcheck.entries",
    "gradcheck": "hrmas_sparse.gradcheck",
    "load_dataset": "data_prep.load",
    "load_run": "hrmas_sparse.run.api",
    "retrain": "hrmas_sparse.run.api",
    "search": "hrmas_sparse.run.api",
    "settings": "hrmas_sparse.settings.load",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(types.ModuleType):
    """This package. ``settings`` is a function and a folder of modules; the attribute is the function.

    Python sets an imported subpackage as an attribute of its package. Here a public name comes first:
    ``from hrmas_sparse.settings import schema`` imports the module, ``hs.settings(...)`` calls the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _PUBLIC and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
