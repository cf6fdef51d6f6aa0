"""Recurrent spiking networks built from motifs, trained with TSSL-BP, their architecture found by HRMAS.

The public names (``hs.Network``, ``hs.search`` ...) are imported on first use: ``import hrmas_sparse as hs``
loads nothing else. Type checkers read them from ``__init__.pyi`` beside this file.
"""

import importlib
import sys
import types
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that holds it. A name that is added here is added to __init__.pyi too.
_PUBLIC = {
    "Architecture": "engine.architecture",
    "Dense": "engine.layers",
    "Diverged": "storage.errors",
    "Dataset": "data.dataset",
    "Events": "data.events",
    "Feedforward": "engine.layers",
    "InputError": "storage.errors",
    "Run": "run.trained",
    "StopRequest": "run.stop",
    "load_run": "run.api",
    "retrain": "run.api",
    "search": "run.api",
    "LIF": "engine.layers",
    "Motifs": "engine.layers",
    "Network": "engine.network",
    "Parameters": "engine.parameters",
    "Supernet": "engine.layers",
    "alpha_gradient": "search.hrmas",
    "check_gradients": "gradcheck.entries",
    "gradcheck": "gradcheck",
    "load_dataset": "data_prep.load",
    "settings": "settings.load",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _PUBLIC[name] if _PUBLIC[name].startswith("data_prep") else f"{__name__}.{_PUBLIC[name]}"
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(types.ModuleType):
    """This package. ``settings`` is a function and a folder of modules; the attribute is the function.

    Python sets an imported subpackage as an attribute of its package. Here a public name comes first:
    ``from hrmas_sparse.settings import schema`` imports the module, ``hs.settings(...)`` calls the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
