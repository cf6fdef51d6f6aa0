"""A thousand damages and more to each kind of file: noticed or harmless, never a traceback, never a wrong result."""

import hashlib
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import toys

from hrmas_sparse.engine import architecture
from hrmas_sparse.run import loop, state
from hrmas_sparse.run.diff import exact_differences
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.cache import verify_cache

pytestmark = pytest.mark.slow
COUNT = 1500


def damages(data, count=COUNT, seed=0):
    """Bits flipped and bytes replaced all over the file, regions blanked, moved, cut out, put in; ends cut off."""
    rng = random.Random(seed)
    for n in range(count):
        at = n * len(data) // count
        size = rng.choice((1, 2, 8, 64, 512))
        kind = rng.choice(("bit", "bit", "byte", "zero", "ones", "random", "cut", "insert", "swap", "end"))
        if kind == "bit":
            found = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:]
        elif kind == "byte":
            found = data[:at] + rng.randbytes(1) + data[at + 1:]
        elif kind in ("zero", "ones", "random"):
            size = min(size, len(data) - at)
            found = data[:at] + {"zero": bytes(size), "ones": b"\xff" * size, "random": rng.randbytes(size)}[kind] \
                + data[at + size:]
        elif kind == "cut":
            found = data[:at] + data[at + size:]
        elif kind == "insert":
            found = data[:at] + rng.randbytes(size) + data[at:]
        elif kind == "swap":
            other = rng.randrange(len(data))
            found = bytearray(data)
            found[at], found[other] = data[other], data[at]
            found = bytes(found)
        else:
            found = data[:at]
        if found != data:
            yield found


def survive(read, same, variants, path):
    """Read every variant of a file in another process, for a broken library must not end this one.

    Returns the numbers of variants that were noticed, and that were harmless.
    """
    result = path.with_name("counts")
    pid = os.fork()
    if not pid:
        noticed = harmless = 0
        try:
            for variant in variants:
                path.write_bytes(variant)
                signal.alarm(20)                                       # nothing may hang
                try:
                    found = read()
                except InputError:
                    noticed += 1
                    continue
                if not same(found):
                    raise AssertionError("a wrong result")
                harmless += 1
            result.write_text(f"{noticed} {harmless}")
        except BaseException as error:
            result.write_text(f"variant {noticed + harmless}: {error!r}")
            path.with_name("culprit").write_bytes(path.read_bytes())
        finally:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"ended by signal {-status}; the culprit: {path}"
    text = result.read_text()
    assert text.replace(" ", "").isdigit(), text
    return map(int, text.split())


@pytest.fixture
def events(tmp_path):
    return toys.cache(tmp_path / "toy.h5")


@pytest.fixture
def begun(tmp_path, events, monkeypatch):
    """A job with a checkpoint in stage 2."""
    with monkeypatch.context() as patch, pytest.raises(toys.Killed):
        patch.setattr(loop, "CHECKPOINT_SECONDS", -1)
        toys.kill_after(patch, 9)
        toys.run(tmp_path / "begun", toys.settings(), events)
    return toys.job(tmp_path / "begun", toys.settings(), events)


def state_reader(job):
    path = job.store.run.checkpoint_path
    state.previous_of(path).unlink(missing_ok=True)

    def read():
        position = state.load_state(path, job.learner, job.store.identity, job.expected)
        if position is None:
            raise InputError("set aside")
        return {name: x.tobytes() for name, x in state.learner_arrays(job.learner).items()}, position, \
            job.learner.w_adam.step, job.learner.alpha_adam.step
    return read


def test_checkpoint(begun, show):
    read, path = state_reader(begun), begun.store.run.checkpoint_path
    whole, expected = path.read_bytes(), read()
    noticed, harmless = survive(read, expected.__eq__, damages(whole), path)
    show(f"checkpoint of {len(whole):,} bytes: {noticed} damages noticed, {harmless} harmless, 0 wrong, 0 tracebacks")
    assert noticed + harmless >= 1000


def test_checkpoint_with_the_checksum_made_right(begun, show):
    """So that the damage reaches the HDF5 library and what lies behind it."""
    read, path = state_reader(begun), begun.store.run.checkpoint_path
    whole, expected = path.read_bytes(), read()
    forged = (image + hashlib.sha256(image).digest() for image in damages(whole[:-32]))
    noticed, harmless = survive(read, expected.__eq__, forged, path)
    show(f"the same with the file's checksum made right: {noticed} noticed, {harmless} harmless, 0 wrong, 0 tracebacks")
    assert noticed + harmless >= 1000


def test_a_run_goes_on_from_the_checkpoint_before(begun, events, tmp_path, show):
    straight = toys.run(tmp_path / "straight", toys.settings(), events)
    whole = {p.name: p.read_bytes() for p in begun.store.run.path.iterdir() if p.is_file()}
    count = 0
    for variant in damages(whole["checkpoint.h5"], 40):
        for path in begun.store.run.path.iterdir():
            path.unlink()
        for name, data in (whole | {"checkpoint.h5": variant}).items():
            (begun.store.run.path / name).write_bytes(data)
        assert exact_differences(toys.run(begun.store.run.path, toys.settings(), events), straight) == []
        count += 1
    show(f"{count} runs with a damaged newest checkpoint: all ended with the right bits")


def test_architecture(begun, events, show):
    run = toys.run(begun.store.run.path, toys.settings(), events)
    path, whole = run.architecture_path, run.architecture_path.read_bytes()

    def read():
        return [(a.neurons, a.motif_size, a.linked, a.tied, a.types.tolist()) for a in architecture.load(path)]
    expected = read()
    noticed, harmless = survive(read, expected.__eq__, damages(whole, 2500), path)
    show(f"architecture of {len(whole):,} bytes: {noticed} damages noticed, {harmless} harmless, 0 wrong, 0 tracebacks")
    assert noticed + harmless >= 1000


def test_cache(events, show):
    path, whole = Path(events.path), Path(events.path).read_bytes()

    def read():
        found = verify_cache(path)
        return found.meta, [[np.asarray(getattr(split, name)).tobytes() for name in (
            "indptr", "step", "channel", "value", "labels")] for split in (found.train, found.test)]
    expected = read()
    noticed, harmless = survive(read, expected.__eq__, damages(whole, 2500), path)
    show(f"cache of {len(whole):,} bytes: {noticed} damages noticed, {harmless} harmless, 0 wrong, 0 tracebacks")
    assert noticed + harmless >= 1000
