"""The door: `import hrmas_sparse as hs` is quick, changes nothing, and has every public name."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import hrmas_sparse as hs

STUB = Path(hs.__file__).with_suffix(".pyi")
HEAVY = ("numba", "scipy", "h5py", "numpy", "llvmlite", "tqdm", "matplotlib", "argparse", "multiprocessing")


def python(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_it_is_quick_and_loads_nothing():
    code = ("import sys, time; began = time.perf_counter(); import hrmas_sparse; took = time.perf_counter() - began\n"
            f"print(took, *(set(sys.modules) & {set(HEAVY)!r}), "
            "*(m for m in sys.modules if m[:13] == 'hrmas_sparse.'))")
    took, *loaded = python(code)
    assert not loaded and float(took) < 0.3


def test_importing_it_changes_no_global_state():
    state = ("import locale, os, random, signal, sys, threading, warnings\n"
             "def state():\n"
             "    return (dict(os.environ), os.getcwd(), list(sys.path), list(sys.meta_path), list(sys.path_hooks),\n"
             "            sys.excepthook, sys.getrecursionlimit(), sys.get_int_max_str_digits(), random.getstate(),\n"
             "            list(warnings.filters), locale.setlocale(locale.LC_ALL), threading.active_count(),\n"
             "            [signal.getsignal(n) for n in sorted(signal.valid_signals())], sys.stdout, sys.stderr)\n")
    assert python(state + "before = state(); import hrmas_sparse; print(before == state())") == ["True"]


@pytest.mark.parametrize("name", sorted(set(hs.__all__) - {"__version__"}))
def test_every_public_name_is_there_documented_and_has_types(name):
    value = getattr(hs, name)
    assert value is getattr(hs, name) and name in dir(hs)
    assert not inspect.ismodule(value) and inspect.getdoc(value)
    if inspect.isfunction(value):
        untyped = [p for p, found in inspect.signature(value).parameters.items() if found.annotation is found.empty]
        assert not untyped and inspect.signature(value).return_annotation is not inspect.Signature.empty


def test_the_stub_says_the_same():
    """A public name is added to __init__.py and to __init__.pyi."""
    found = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            assert all(alias.asname == alias.name for alias in node.names), "a stub exports what it imports as itself"
            found |= {alias.name: node.module for alias in node.names}
    assert found == {name: f"hrmas_sparse.{module}" for name, module in hs._PUBLIC.items()}
    assert STUB.with_name("py.typed").exists()


def test_a_function_wins_over_the_folder_of_its_name():
    importlib.import_module("hrmas_sparse.settings.schema")
    assert callable(hs.settings) and not inspect.ismodule(hs.settings)
    code = ("import hrmas_sparse.settings.schema, hrmas_sparse as hs; from hrmas_sparse.settings import load\n"
            "print(hs.settings.__name__, load.__name__)")
    assert python(code) == ["settings", "hrmas_sparse.settings.load"]


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'Netwrok'"):
        hs.Netwrok  # noqa: B018


def test_as_a_module_it_is_the_program():
    assert python("import runpy, sys; sys.argv = ['hrmas', '--version']\n"
                  "runpy.run_module('hrmas_sparse', run_name='__main__')") == [
        "hrmas_sparse", hs.__version__]
