"""A run's folder that is renamed, deleted or replaced while the run works on it: nothing is written into another's."""

import os
import shutil
import threading
from pathlib import Path

import pytest
import toys

import hrmas_sparse as hs
from hrmas_sparse import cli
from hrmas_sparse.run import loop
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.storage import locks
from hrmas_sparse.storage.errors import InputError

QUIET = {"callback": lambda progress: None}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return toys.cache(tmp_path_factory.mktemp("cache") / "toy.h5")


@pytest.fixture
def meanwhile(monkeypatch):
    """Let something happen before a run's batch of that number."""
    def at(number, deed):
        done, count = loop.one_batch, [0]

        def one_batch(*arguments):
            count[0] += 1
            if count[0] == number:
                deed()
            done(*arguments)
        monkeypatch.setattr(loop, "one_batch", one_batch)
    return at


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.is_symlink()}


DEEDS = {
    "renamed": lambda path: path.rename(path.with_name("elsewhere")),
    "deleted": shutil.rmtree,
    "a copy of itself": lambda path: (path.rename(path.with_name("elsewhere")), shutil.copytree(
        path.with_name("elsewhere"), path)),
    "a link to itself": lambda path: (path.rename(path.with_name("elsewhere")), path.mkdir(), (
        path / "lock").symlink_to(path.with_name("elsewhere") / "lock")),
}


@pytest.mark.parametrize("number", [1, 3, 8, 14, 20])          # in the search's two stages, in retraining
@pytest.mark.parametrize("deed", DEEDS)
def test_the_run_stops_and_says_so(tmp_path, events, meanwhile, deed, number):
    path, there = tmp_path / "x", {}

    def do():
        DEEDS[deed](path)
        there.update(content(path) if path.exists() else {})

    meanwhile(number, do)
    with pytest.raises(InputError, match="x: was renamed, deleted or replaced while it was in use; nothing more is"):
        hs.search(events, toys.settings(), out=path, **QUIET)
    assert (content(path) if path.exists() else {}) == there


def test_the_name_is_used_again(tmp_path, events, meanwhile):
    """Another search in a folder of the same name ends as it would alone, and so does the first when it is put back."""
    path, other = tmp_path / "x", toys.settings("training.lr=0.01")

    def another():
        path.rename(tmp_path / "mine")
        loop.one_batch = alone
        hs.search(events, other, out=path, **QUIET)

    alone = loop.one_batch
    meanwhile(9, another)
    with pytest.raises(InputError, match="was renamed, deleted or replaced"):
        hs.search(events, toys.settings(), out=path, **QUIET)
    straight = toys.run(tmp_path / "straight", other, events)
    assert exact_differences(RunDir(path), straight) == []
    hs.search(events, toys.settings(), out=tmp_path / "mine", **QUIET)
    straight = toys.run(tmp_path / "first", toys.settings(), events)
    assert exact_differences(RunDir(tmp_path / "mine"), straight) == []


def test_a_folder_renamed_between_opening_and_locking(tmp_path, monkeypatch):
    """--fresh of another process comes between: what is locked in the end is the folder that has the name."""
    path, real, times = tmp_path / "x" / "lock", locks._lock, []

    def lock(file, *rest):
        times.append(1)
        if len(times) < 4:
            path.parent.rename(tmp_path / f"x.old-{len(times)}")
        real(file, *rest)

    monkeypatch.setattr(locks, "_lock", lock)
    with locks.locked(path, "x"):
        assert path.read_text().startswith("process")
        locks.check(path.parent)
        assert [(tmp_path / f"x.old-{n}" / "lock").read_text() for n in (1, 2, 3)] == [""] * 3


def test_many_at_once_with_fresh(house):
    """Six threads start the same name with --fresh: each works alone on a folder of its own, or is refused."""
    statuses = []
    command = [*toys.SEARCH, "--name", "x", "--fresh", "--baseline", "off"]
    assert cli.main(command) == 0
    threads = [threading.Thread(target=lambda: statuses.append(cli.main(command))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {0, 2} and 0 in statuses
    runs = [RunDir(path) for path in Path("runs/out").iterdir()]
    finished = [run for run in runs if run.finished]
    assert len(finished) == 1 + statuses.count(0)
    for run in finished[1:]:
        assert exact_differences(finished[0], run) == []


def test_the_caller_may_go_elsewhere(tmp_path, events, meanwhile, monkeypatch):
    """A relative path means the folder it meant at the start."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    meanwhile(5, lambda: os.chdir(tmp_path / "there"))
    run = hs.search(events, toys.settings(), out="x", **QUIET)
    assert run.finished and run.path == tmp_path / "x" and not list((tmp_path / "there").iterdir())
