"""Every file a command reads, changed in every way we know: it does its work, or says in one line why not."""

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


def started(folder, words, kinds, count, seed):
    """A process that mutates some kinds of file, each so often."""
    own = os.environ | {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    return subprocess.Popen([sys.executable, mutated.__file__, ",".join(kinds), str(count), str(seed), str(folder),
                             str(words)], env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process, folder):
    """What it found."""
    out, err = process.communicate()
    at = folder / "at"
    assert process.returncode == 0, (f"it crashed or hung: {process.returncode}, "
                                     f"{at.read_text() if at.exists() else 'at once'}\n{err[-3000:]}")
    return json.loads(out.splitlines()[-1])


def examined(folder, words, kinds, count, seed):
    """What was found about some kinds of file, each mutated so often."""
    return ended(started(folder, words, kinds, count, seed), folder)


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
    check(examined(tmp_path, words, kinds, 12, 1))


def test_a_network_that_is_claimed_is_not_made(tmp_path, words):
    """A manifest with three million neurons costs neither memory nor time: its weights are not there."""
    examined(tmp_path, words, ["diagnosis"], 0, 0)
    path = tmp_path / mutated.RUN / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["network"] |= {"neurons": [3_000_000], "recurrence": "none"}
    path.write_text(json.dumps(manifest))
    from hrmas_sparse.run.folder import RunDir
    from hrmas_sparse.run.networks import load_trained
    from hrmas_sparse.storage.errors import InputError
    began = time.monotonic()
    with pytest.raises(InputError, match="bytes, but the network of .*manifest.json has 225,000,000 feedforward"):
        load_trained(RunDir(tmp_path / mutated.RUN), "cpu")
    assert time.monotonic() - began < 5


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, words):
    """A folder in which everything is as it should be, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    examined(folder, words, ["diagnosis"], 0, 0)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", (*mutated.KINDS, *RAWS))
def test_a_thousand(tmp_path, prepared, words, kind, show):
    """In two processes, for there may be two cores."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        shutil.copytree(prepared, folder)
    lanes = [started(folder, words, [kind], 525, seed) for seed, folder in enumerate(folders, start=2)]
    found = [ended(lane, folder)[kind] for lane, folder in zip(lanes, folders)]
    check({kind: {key: found[0][key] + found[1][key] for key in found[0]}}, show)
    assert found[0]["tried"] + found[1]["tried"] >= 1000


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
