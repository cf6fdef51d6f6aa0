"""The documents: blocks of Python run, commands exist, the notebook runs in a kernel, links lead somewhere."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from hrmas_sparse import cli
from hrmas_sparse.cli.parser import parser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [path for path in DOCUMENTS if "_build" not in path.parts]
RUN_COMMANDS = {"docs/howto/own-data.md"}    # whose lines of hrmas run, in between the blocks of Python
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.M))


class Block(NamedTuple):
    """A fenced block of a document."""

    language: str
    text: str
    line: int


def blocks(path):
    text = path.read_text(encoding="utf-8")
    return [Block(match[1], match[2], text[:match.start()].count("\n") + 1)
            for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)]


def name(path):
    return str(path.relative_to(ROOT))


def words_of(line):
    """The words of a line of the shell that calls us, without its comment; None for other lines."""
    words = shlex.split(re.split(r" [|>] ", line)[0], comments=True)
    return words if words and words[0] in ("hrmas", "make") else None


WITH_PYTHON = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_PYTHON, ids=name)
def test_blocks_of_python_run(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks(path):
        if block.language == "python":
            code = compile("\n" * block.line + block.text, name(path), "exec")
            exec(code, names)
        elif block.language == "sh" and name(path) in RUN_COMMANDS:
            for line in block.text.splitlines():
                words = words_of(line)
                if words and words[0] == "hrmas":
                    assert cli.main(words[1:]) == 0, f"{name(path)}:{block.line}: {line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_exist(path):
    for block in blocks(path):
        if block.language != "sh":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = words_of(line)
            if not words:
                continue
            if words[0] == "hrmas":
                parser().parse_args(words[1:])
            else:
                targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
                assert set(targets) <= TARGETS, f"{name(path)}:{block.line}: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file) if file else path
        assert there.exists(), f"{name(path)}: {target}"
        if anchor and there.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{name(path)}: {target}: {there.name} has no such heading"


def test_there_are_blocks():
    found = [block for path in DOCUMENTS for block in blocks(path) if block.language == "python"]
    assert len(found) >= 20


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="NOTEBOOK NOT RUN: nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="NOTEBOOK NOT RUN: nbclient is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "docs" / "first-steps.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    drawn = [output for cell in notebook.cells for output in cell.get("outputs", ())
             if "text/html" in output.get("data", {})]
    assert drawn, "a run and its motif show themselves"
