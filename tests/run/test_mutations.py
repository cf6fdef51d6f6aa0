"""Every file a command reads, changed in every way we know: it does its work, or says in one line why not."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mutated
import mutations
import pytest
from raws import RAWS

TESTS = Path(mutated.__file__).parent


class Lane:
    """A process that mutates files in a folder and tries what reads them."""

    def __init__(self, folder, words):
        folder.mkdir(exist_ok=True)
        self.folder, own = folder, os.environ | {"NUMBA_NUM_THREADS": "1",
                                                 "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
        with open(folder / "said", "w") as said:
            self.process = subprocess.Popen([sys.executable, mutated.__file__, str(folder), str(words)], env=own,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)

    def ask(self, kind, count, seed):
        self.process.stdin.write(json.dumps([kind, count, seed]) + "\n")
        self.process.stdin.flush()

    def answer(self):
        """What was found about the kind that was asked for."""
        line, at = self.process.stdout.readline(), self.folder / "at"
        found = json.loads(line) if line else {"ended": "at once"}
        assert "ended" not in found, (f"it crashed or hung: {found['ended']}, {at.read_text() if at.exists() else ''}\n"
                                      f"{(self.folder / 'said').read_text()[-3000:]}")
        return found

    def end(self):
        self.process.communicate(timeout=60)


@contextlib.contextmanager
def lanes(folder, words, number):
    """Some processes at once, for there may be so many cores."""
    made = [Lane(folder / f"lane{n}", words) for n in range(number)]
    try:
        yield made
    finally:
        for lane in made:
            lane.end()


def check(found, show=None):
    problems = [problem for one in found.values() for problem in one["problems"]]
    for kind, one in found.items():
        text = f"{kind}: {one['tried']} mutations, {one['refused']} refused, {len(one['problems'])} wrong"
        if show:
            show(text)
    assert not problems, "\n".join(problems[:10])
    assert all(0 < one["refused"] <= one["tried"] for one in found.values())


@pytest.mark.parametrize("kinds", [mutated.KINDS, tuple(RAWS)], ids=["ours", "recordings"])
def test_a_few_of_every_kind(tmp_path, words, kinds):
    with lanes(tmp_path, words, 1) as (lane,):
        for kind in kinds:
            lane.ask(kind, 12, 1)
        check({kind: lane.answer() for kind in kinds})


def test_a_network_that_is_claimed_is_not_made(tmp_path, words):
    """A manifest with three million neurons costs neither memory nor time: its weights are not there."""
    with lanes(tmp_path, words, 1) as (lane,):
        run = lane.folder / mutated.RUN
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["network"] |= {"neurons": [3_000_000], "recurrence": "none"}
    path.write_text(json.dumps(manifest))
    from hrmas_sparse.run.folder import RunDir
    from hrmas_sparse.run.networks import load_trained
    from hrmas_sparse.storage.errors import InputError
    began = time.monotonic()
    with pytest.raises(InputError, match="bytes, but the network of .*manifest.json has 225,000,000 feedforward"):
        load_trained(RunDir(run), "cpu")
    assert time.monotonic() - began < 5


@pytest.fixture(scope="module")
def two_lanes(tmp_path_factory, words):
    with lanes(tmp_path_factory.mktemp("mutated"), words, 2) as both:
        yield both


@pytest.mark.slow
@pytest.mark.parametrize("kind", (*mutated.KINDS, *RAWS))
def test_a_thousand(two_lanes, kind, show):
    for seed, lane in enumerate(two_lanes, start=2):
        lane.ask(kind, 500, seed)
    found = [lane.answer() for lane in two_lanes]
    check({kind: {key: found[0][key] + found[1][key] for key in found[0]}}, show)
    assert found[0]["tried"] + found[1]["tried"] == 1000


def test_the_generator_makes_what_it_says(tmp_path, words):
    """Mutations change files, and among some dozens is every kind of thing that is no regular file."""
    import random
    seen, path, whole = set(), tmp_path / "x.json", json.dumps({"a": [1, {"b": "c"}]}).encode()
    for n in range(400):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
        seen.add(mutations.mutate(path, random.Random(n), tmp_path / "foreign")[0])
    assert seen >= {"pipe", "folder", "link", "dangling", "loop", "zero", "tty", "holes", "socket", "bytes", "value"}
