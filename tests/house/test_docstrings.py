"""Every public name has an example that runs."""

import doctest
import importlib
import inspect

import numpy as np
import pytest

import hrmas_sparse as hs

NAMES = sorted(set(hs.__all__) - {"__version__"})
WITHOUT = {"InputError", "Diverged", "StopRequest"}  # said in a line; nothing to try out


def examples(name):
    """The examples of a public name: its own first, then those of its methods."""
    value = getattr(hs, name)
    module = importlib.import_module(inspect.unwrap(value).__module__)
    found = doctest.DocTestFinder(recurse=True).find(value, name, module=module, globs={})
    return value, sorted((each for each in found if each.examples), key=lambda each: each.name != name)


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value, found = examples(name)
    assert name in WITHOUT or (found and found[0].name == name), f"{name}: its docstring has no example"
    with np.printoptions(legacy=False):
        for each in found:
            text = []
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            runner.run(each, out=text.append)
            assert not runner.failures, "".join(text)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_function_takes_and_gives_is_described(name):
    value = getattr(hs, name)
    text = inspect.getdoc(value)
    if inspect.isfunction(value):
        for parameter in inspect.signature(value).parameters:
            assert parameter in text, f"{name}: {parameter} is not described"
        assert "Returns\n-------" in text
