"""The Makefile: what is given reaches the program as it is, and nothing in it is run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hrmas_sparse.cli.parser import COMMANDS, OPTIONS

ROOT = Path(__file__).resolve().parents[2]
EVIL = ("$(shell touch pwned)", "$(error pwned)", "$(touch pwned)", "`touch pwned`", "'; touch pwned; '", "${HOME}",
        "$$HOME", '"', "'", "\\", "a b", "#", "a,b", "$", ")", "(", "%", "=", "-n", "*")
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="MAKEFILE NOT TESTED: there is no make")


@pytest.fixture
def make(tmp_path):
    """Run make in a folder whose programs print their arguments and their environment, between zero bytes."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "runs" / "bench").mkdir(parents=True)
    (tmp_path / "runs" / "bench" / "requirements.txt").write_text("torch==1\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("hrmas", "python", "ruff", "mypy"):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text("#!/bin/sh\nprintf '%s\\0' " + name + ' "$@" > called\nenv -0 > environment\n')
        program.chmod(0o755)
    stamps = [f".venv/installed-{extra}" for extra in ("core", "test", "lint", "plots")]
    for stamp in (*stamps, ".venv-bench/installed"):
        (tmp_path / stamp).parent.mkdir(exist_ok=True)
        (tmp_path / stamp).write_text(f"{tmp_path}\n")

    def run(*words, **environment):
        (tmp_path / "called").unlink(missing_ok=True)
        found = subprocess.run([MAKE, *words], cwd=tmp_path, capture_output=True, text=True,
                               env={"PATH": os.environ["PATH"]} | environment)
        assert not (tmp_path / "pwned").exists() and "pwned" not in found.stderr
        called = tmp_path / "called"
        return found, called.read_text().split("\0")[:-1] if called.exists() else None
    run.folder = tmp_path
    return run


@pytest.mark.parametrize("value", EVIL)
def test_values_reach_the_program_as_they_are(make, value):
    _, called = make("search", f"DATA={value}", f"SET={value}", f"NAME={value}", f"RAW={value}")
    assert called == ["hrmas", "search", value, "--raw", value, "--name", value, "--set", value]
    environment = dict(entry.partition("=")[::2] for entry in
                       (make.folder / "environment").read_text().split("\0") if entry)
    assert not {"DATA", "SET", "NAME", "RAW"} & environment.keys()


@pytest.mark.parametrize("words, installs", [
    (("ranking",), True), (("ranking", "LIST=1"), False), (("ranking", "ROWS=hrmas logistic"), False),
    (("ranking", "ROWS=hrmas,gru"), True), (("compare", "DATA=x"), True),
    (("compare", "DATA=x", "METHODS=logistic"), False), (("compare", "DATA=x", "METHODS=norse logistic"), True)])
def test_pytorch_is_installed_only_for_those_who_need_it(make, words, installs):
    (make.folder / ".venv-bench" / "installed").unlink()
    found, _ = make("-n", *words)
    assert ("requirements.txt" in found.stdout) == installs, found


@pytest.mark.parametrize("folder", ["it's here", "a b", "a\u00a0b", "ü", "#(1)", "$HOME", '"', "a;b", "%=:"])
def test_a_checkout_may_have_any_name(tmp_path, folder):
    """Its .venv is kept when it was made here, and made anew in a copy of the folder."""
    where = tmp_path / folder
    (where / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, where)
    (where / "runs" / "bench").mkdir(parents=True)
    (where / "runs" / "bench" / "requirements.txt").write_text("torch==1\n")
    python = tmp_path / "python3"
    # What stands for Python makes a folder in which Python is itself, and nothing else.
    python.write_text('#!/bin/sh\n[ "$2" != venv ] || { mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo made; }\n')
    python.chmod(0o755)

    def venv(folder):
        found = subprocess.run([MAKE, "venv", f"PYTHON={python}"], cwd=folder, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return found.stdout
    assert "made" in venv(where) and (where / ".venv/installed-core").read_text() == f"{where}\n"
    assert "Installing" not in venv(where)
    (where / ".venv/old").touch()
    (where / "setup.cfg").touch()                                     # installed anew, in the same folder
    assert "Installing" in venv(where) and (where / ".venv/old").exists()
    shutil.copytree(where, tmp_path / "copy")
    assert "made" in venv(tmp_path / "copy") and not (tmp_path / "copy/.venv/old").exists()


@pytest.mark.parametrize("target, words, expected", [
    ("data", ("DATA=x", "STRICT=1"), ["data", "build", "x", "--strict"]),
    ("download", ("DATA=nmnist", "RAW=there"), ["download", "nmnist", "--raw", "there"]),
    ("show", ("RUN=a/b", "FIGURE=x.png"), ["show", "a/b", "--figure", "x.png"]),
    ("table3", ("DATA=ti46 fsdd", "SEEDS=0-4", "ROWS=a b", "JOBS=2", "STRICT=0"),
     ["experiment", "table3", "--data", "ti46 fsdd", "--seeds", "0-4", "--rows", "a b", "--jobs", "2"]),
    ("table2", ("SEED=3",), ["experiment", "table2", "--seeds", "3"]),
    ("report", ("NAME=x y",), ["report", "x y"]),
    ("compare", ("DATA=x", "METHODS=gru", "FRESH=1", "ARGS=--trials --peer-python 'a b'"),
     ["compare", "x", "--trials", "--peer-python", "a b", "--methods", "gru", "--fresh"]),
    ("gradcheck", ("GOLDEN=here", "BACKEND=cpu"), ["gradcheck", "--backend", "cpu", "--golden", "here"]),
    ("doctor", (), ["doctor"]),
])
def test_targets(make, target, words, expected):
    assert make(target, *words)[1] == ["hrmas", *expected]


@pytest.mark.parametrize("words, message", [
    (("search",), "which data set"), (("show",), "which run"), (("report",), "which experiment"),
    (("search", "DATA=x", "SEED=1", "SEEDS=2"), "not both"), (("table2", "SEED=1", "SEEDS=2"), "not both"),
    (("search", "DATA=x\ntouch pwned2"), "no line break"),
    (("search", "DATA=x", "RESULTZ=y"), "RESULTZ= is nothing that can be given here; there are DATA RUN ARGS RAW SEED"),
    (("search", "DATA=x", "seeds=1"), "seeds= is nothing that can be given"),
    (("search", "DATA=x", "OTHER=$(shell touch pwned2)"), "OTHER= is nothing that can be given"),
])
def test_mistakes_are_refused(make, words, message):
    found, called = make(*words)
    assert found.returncode == 2 and called is None and message in found.stderr
    assert not (make.folder / "pwned2").exists()


def test_the_place_of_the_environment_can_be_given(make):
    assert make("doctor", "VENV=.venv")[1] == ["hrmas", "doctor"]


def test_the_environment_is_not_meant(make):
    for words in (("search", "DATA=x"), ("-e", "search", "DATA=x")):
        assert make(*words, NAME="$(shell touch pwned)", SEED="5", SET="a=1")[1] == ["hrmas", "search", "x"]


def test_every_option_is_one_of_the_program():
    text = re.search(r"^OPTIONS := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.M)[1]
    pairs = [pair.split("=") for pair in text.replace("\\\n", " ").split()]
    assert len(pairs) > 10
    for variable, option in pairs:
        name = option.removeprefix("--")
        assert name in OPTIONS and variable.lower().replace("_", "-") in (name, name.rstrip("s"))


def test_help_lists_every_target(make):
    found, _ = make()
    targets = re.findall(r"^make ([a-z0-9-]+) ", found.stdout, re.M)
    assert found.returncode == 0 and {"search", "table3", "compare", "lint", "clean"} <= set(targets)
    assert {"search", "show", "experiment", "report", "compare", "download", "gradcheck", "doctor"} <= COMMANDS.keys()
