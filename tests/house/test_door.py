"""The door: `import hrmas_sparse as hs` is quick, changes nothing, and has every public name."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hrmas_sparse as hs
from hrmas_sparse import environment, places

STUB = Path(hs.__file__).with_suffix(".pyi")
HEAVY = ("numba", "scipy", "h5py", "numpy", "llvmlite", "tqdm", "matplotlib", "argparse", "multiprocessing")


def python(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_it_is_quick_and_loads_nothing():
    code = ("import sys, time; began = time.perf_counter(); import hrmas_sparse; took = time.perf_counter() - began\n"
            f"print(took, *(set(sys.modules) & {set(HEAVY)!r}), "
            "*(m for m in sys.modules if m[:13] == 'hrmas_sparse.'))")
    tries = [python(code) for _ in range(3)]           # the best of three: a busy machine takes its time
    assert not tries[0][1:] and min(float(took) for took, *_ in tries) < 0.3


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
    assert found == hs._PUBLIC
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


def test_hints_fit_how_it_was_installed(monkeypatch):
    assert environment.checkout() == Path(hs.__file__).parents[1]
    assert (environment.option("name"), environment.option("fresh")) == ("--name (NAME=)", "--fresh (FRESH=1)")
    assert environment.command("report x", "report NAME=x") == "make report NAME=x"
    assert environment.install("plots").endswith('pip install -e ".[plots]"')
    monkeypatch.setattr(environment, "checkout", lambda: None)
    assert (environment.option("name"), environment.option("fresh")) == ("--name", "--fresh")
    assert environment.command("report x", "report NAME=x") == "hrmas report x"
    assert environment.install("plots").endswith('pip install "hrmas_sparse[plots]"')


def test_no_hint_names_make_where_there_is_none():
    """In the sources a variable of make stands in a hint only by way of environment.option and environment.command."""
    hint = re.compile(r"\((FRESH|STRICT|NAME|RAW|SET)=|make (show|report|download)")
    for path in [*Path(hs.__file__).parent.rglob("*.py"), *(Path(hs.__file__).parents[1] / "data_prep").rglob("*.py")]:
        if path.name != "environment.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.count("\n"):
                    assert not hint.search(node.value), path


@pytest.mark.parametrize("words", [["search", "ntidigits"], ["--help"], []])
def test_windows_is_one_line(words):
    code = ("import os, sys, hrmas_sparse.process, hrmas_sparse.environment\n"
            f"os.name = 'nt'; sys.argv = ['hrmas', *{words!r}]\n"
            "from hrmas_sparse.__main__ import main; sys.exit(main())")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 2 and found.stderr.count("\n") == 1 and "WSL2" in found.stderr and not found.stdout


def test_from_python_on_windows_it_says_so_too():
    code = "import os, hrmas_sparse.environment, hrmas_sparse as hs; os.name = 'nt'; hs.settings"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stderr.splitlines()[-1] == f"ImportError: {environment.UNSUPPORTED}"


def test_hrmas_home_moves_data_and_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("HRMAS_HOME", raising=False)
    assert (places.out(), places.cache(), places.raw("x")) == (
        Path("runs/out"), Path("data/cache"), Path("data/raw/x"))
    monkeypatch.setenv("HRMAS_HOME", str(tmp_path))
    assert (places.out(), places.cache(), places.raw("x")) == (
        tmp_path / "runs/out", tmp_path / "data/cache", tmp_path / "data/raw/x")
    (tmp_path / "file").touch()
    for value in (str(tmp_path / "file"), "~nobody-of-that-name/x"):
        monkeypatch.setenv("HRMAS_HOME", value)
        with pytest.raises(hs.InputError, match="HRMAS_HOME: expected"):
            places.out()
