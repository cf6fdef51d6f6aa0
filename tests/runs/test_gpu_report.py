"""make gpu-report: its file, whatever becomes of the parts; make stands in for itself."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hrmas_sparse.storage.errors import InputError
from runs import gpu_report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a GPU, whose make fails at one target."""
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\nshift\nprintf "10%%\\r100%% of $*\\n"\ntest "$1" != sanitize\n')
    make.chmod(0o755)
    monkeypatch.setenv("PATH", f"{make.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(gpu_report, "require_gpu", lambda: None)
    return tmp_path


def test_a_report(machine, capsys):
    out = machine / "deep" / "report.md"
    assert gpu_report.main(["--out", str(out)]) == 1
    text = out.read_text()
    assert re.findall("^## (.*)", text, re.M) == list(gpu_report.PARTS)
    assert "`make sanitize` ENDED WITH STATUS 1 after 0 s." in text and text.count("succeeded after") == 6
    assert "\n100% of bench BACKEND=cuda\n" in text and "\r" not in text
    assert "6 of 7 parts succeeded" in capsys.readouterr().out


def test_parts_left_out(machine):
    out = machine / "report.md"
    assert gpu_report.main(["--out", str(out), "--without", "sanitize,bench"]) == 0
    assert out.read_text().count("## ") == 5


def test_the_search_of_the_paper_is_timed(machine, monkeypatch, capsys):
    result = {"seconds": {"search": 30.0, "retrain": 10.0}, "train": {"samples": 1035}, "test": {"accuracy": 0.9}}
    monkeypatch.setattr(gpu_report, "RunDir", lambda path: SimpleNamespace(result=lambda: result | {"of": path}))
    out = machine / "report.md"
    without = ",".join(words[0] for words in gpu_report.PARTS.values() if words[0] != "search")
    assert gpu_report.main(["--out", str(out), "--without", without, "--raw", "/recordings"]) == 0
    text = out.read_text()
    assert f"`make search DATA=ti46 RAW=/recordings BACKEND=cuda FRESH=1 NAME={gpu_report.NAME}` succeeded" in text
    assert ("search 30 s, retrain 10 s: 40 s with 1,035 training recordings; 2.7 minutes with the paper's 4,142. "
            "Test accuracy: 90.00 %.") in text
    assert capsys.readouterr().out.endswith("2 of 2 parts succeeded\n")


def test_long_outputs_are_cut():
    text = gpu_report.section("X", ["x"], 0, 1.0, "line\n" * 1000)
    assert text.count("\nline") == gpu_report.LINES and "(800 lines before these)" in text


def test_without_a_gpu(monkeypatch, tmp_path, capsys):
    def refuse():
        raise InputError("GPU: none")

    monkeypatch.setattr(gpu_report, "require_gpu", refuse)
    assert gpu_report.main(["--out", str(tmp_path / "x.md")]) == 2 and not list(tmp_path.iterdir())
    assert capsys.readouterr().err == "gpu-report: GPU: none\n"


def test_every_part_is_a_target_of_the_makefile():
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {words[0] for words in gpu_report.PARTS.values()} <= set(targets)
    assert {"gpu-static", "gpu-report"} <= set(targets)


def test_the_static_table_says_what_is_missing():
    code = "import sys; sys.modules['numba_cuda'] = None; from runs.bench import static; sys.exit(static.main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "test-cuda" in done.stderr and done.stderr.count("\n") == 1
