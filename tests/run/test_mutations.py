"""Every file a command reads, changed in every way we know: it does its work, or says in one line why not."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mutated
import mutations
import pytest

TESTS = Path(mutated.__file__).parent


def examined(folder, words, kinds, count, seed):
    """What was found about some kinds of file, each mutated so often."""
    own = os.environ | {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    found = subprocess.run([sys.executable, mutated.__file__, ",".join(kinds), str(count), str(seed), str(folder),
                            str(words)], env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 0, f"it crashed or hung: {found.returncode}\n{found.stderr[-3000:]}"
    return json.loads(found.stdout.splitlines()[-1])


def check(found, show=None):
    problems = [problem for one in found.values() for problem in one["problems"]]
    for kind, one in found.items():
        text = f"{kind}: {one['tried']} mutations, {one['refused']} refused, {len(one['problems'])} wrong"
        if show:
            show(text)
    assert not problems, "\n".join(problems[:10])
    assert all(0 < one["refused"] <= one["tried"] for one in found.values())


def test_a_few_of_every_kind(tmp_path, words):
    check(examined(tmp_path, words, mutated.KINDS, 12, 1))


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutated.KINDS)
def test_a_thousand(tmp_path, words, kind, show):
    found = {"tried": 0, "refused": 0, "problems": []}
    for seed in range(2, 12):  # in several processes: one that crashes says which hundred it was
        one = examined(tmp_path, words, [kind], 115, seed)[kind]
        found = {key: found[key] + one[key] for key in found}
    check({kind: found}, show)
    assert found["tried"] >= 1000


def test_the_generator_makes_what_it_says(tmp_path, words):
    """Mutations change files, and among some dozens is every kind of thing that is no regular file."""
    import random
    import shutil
    seen, path, whole = set(), tmp_path / "x.json", json.dumps({"a": [1, {"b": "c"}]}).encode()
    for n in range(400):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
        seen.add(mutations.mutate(path, random.Random(n), tmp_path / "foreign")[0])
    assert seen >= {"pipe", "folder", "link", "dangling", "loop", "zero", "tty", "holes", "socket", "bytes", "value"}
