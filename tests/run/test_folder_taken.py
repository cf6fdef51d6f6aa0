"""A run's folder that is renamed, deleted or replaced while it runs: the run stops and says so, and mixes no files."""

import os
import shutil

import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.run import loop


def taken_after(monkeypatch, batches, deed):
    """Do something to the folder once so many batches are done."""
    done, count = loop.one_batch, [0]

    def one_batch(*arguments):
        done(*arguments)
        count[0] += 1
        if count[0] == batches:
            deed()
    monkeypatch.setattr(loop, "one_batch", one_batch)


def content(folder):
    """What is in the files of a folder; but for the lock's note, which is given back with the lock."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize("batches", [1, 3, 5])
@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("away", ["renamed", "deleted"])
def test_the_run_stops_and_writes_no_more(house, monkeypatch, capsys, away, anew, batches):
    folder, elsewhere, there = house / "runs/out/one", house / "aside", {}

    def take():
        folder.rename(elsewhere)
        if anew:  # by another run of that name
            folder.mkdir()
            (folder / "manifest.json").write_text("another's")
            (folder / "lock").write_text("another's")
        there.update({path: content(path) for path in (folder, elsewhere) if path.exists()})
        if away == "deleted":
            del there[elsewhere]
            shutil.rmtree(elsewhere)
    taken_after(monkeypatch, batches, take)
    assert cli.main([*toys.SEARCH, "--name", "one"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "runs/out/one: was renamed, deleted or replaced while it was in use; nothing more is written" in said
    assert folder.exists() == anew and elsewhere.exists() == (away == "renamed")
    for path, before in there.items():
        assert content(path) == before
    if away == "renamed" and not anew:  # put back, it goes on
        monkeypatch.undo()
        monkeypatch.chdir(house)
        elsewhere.rename(folder)
        assert cli.main([*toys.SEARCH, "--name", "one"]) == 0


def test_names_of_folders_are_plain_text(house, capsys):
    for name in ("a\x1b[2Jb", "c\nd", "e\udc80"):
        (house / "runs/out" / name).mkdir(parents=True)
        (house / "runs/out" / name / "manifest.json").write_text("{}")
    (house / "runs/out/pipe").mkdir()
    os.mkfifo(house / "runs/out/pipe/manifest.json")
    assert cli.main(["runs"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 4 and all(line.isprintable() and "damaged: " in line for line in out.splitlines())


@pytest.mark.parametrize("name", ["metrics.jsonl", "architecture.json", "search.h5", "summary.txt"])
def test_files_that_only_have_our_names_are_not_written_over(house, capsys, name):
    folder = house / "runs/out/one"
    folder.mkdir(parents=True)
    (folder / name).write_text("my own notes")
    assert cli.main([*toys.SEARCH, "--name", "one"]) == 2
    assert f"runs/out/one: expected a run's folder or a new one, found {name} without a manifest.json" in (
        capsys.readouterr().err)
    assert (folder / name).read_text() == "my own notes" and not (folder / "manifest.json").exists()
