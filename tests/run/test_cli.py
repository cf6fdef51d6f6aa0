"""The program: what it prints, how it ends, that a user's mistake is one line and never a traceback."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
import toys
from program import program

from hrmas_sparse import cli
from hrmas_sparse.settings import validators
from hrmas_sparse.storage import memory
from hrmas_sparse.run.folder import RunDir, open_run
from hrmas_sparse.run.stop import Stopped
from hrmas_sparse.storage.locks import locked
from hrmas_sparse.data.cache import open_cache

SMALL, SEARCH = toys.OVERRIDES, toys.SEARCH
PROGRAM = [str(Path(sys.executable).with_name("hrmas"))]


@pytest.fixture
def finished(house, capsys):
    assert cli.main(SEARCH) == 0
    capsys.readouterr()
    return RunDir("runs/out/ntidigits-s0")


@pytest.fixture
def hrmas(capsys):
    """Run the program."""
    return program(capsys)


def complains(found, message):
    """One line, exit status 2."""
    status, _, err = found
    assert status == 2 and re.search(message, err), err
    assert err.startswith("hrmas: ") and err.count("\n") == 1


# ---- what works ---------------------------------------------------------------------------------------------


def test_a_working_directory_that_is_no_more(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    ended = subprocess.run(["bash", "-c", f"rmdir {gone}; {PROGRAM[0]} search ntidigits"], cwd=gone, text=True,
                           capture_output=True)
    assert ended.returncode == 2 and "hrmas: the working directory is no more" in ended.stderr, ended
    assert "Traceback" not in ended.stderr


def test_the_whole_job_and_looking_at_it(house, hrmas):
    status, out, _ = hrmas(*SEARCH)
    assert status == 0 and "runs/out/ntidigits-s0: starting, seed 0, profile paper" in out and "test accuracy" in out
    status, out, _ = hrmas(*SEARCH)
    assert status == 0 and "finished before; --fresh (FRESH=1) starts over" in out and "test accuracy" in out
    status, out, _ = hrmas("show", "ntidigits-s0")
    assert status == 0 and "test accuracy" in out and "rows receive, columns send" in out
    status, out, _ = hrmas("runs")
    assert status == 0
    assert re.fullmatch(r"ntidigits-s0 +finished +ntidigits, seed 0: test accuracy .* %, 0 min \d\d s\n", out)
    for split in ("test", "train"):
        status, out, _ = hrmas("evaluate", "ntidigits-s0", "--split", split)
        result = open_run("ntidigits-s0").result()[split]
        assert status == 0 and f"accuracy {100 * result['accuracy']:.2f} % of {result['samples']} samples" in out


def test_seeds_names_fresh_and_diff(house, hrmas):
    assert hrmas(*SEARCH, "--seeds", "0-1", "--name", "x")[0] == 0
    assert sorted(path.name for path in Path("runs/out").iterdir()) == ["x-s0", "x-s1"]
    assert hrmas("diff", "x-s0", "x-s1")[:2] == (0, hrmas("diff", "x-s0", "x-s1")[1])
    assert "seed: 0 != 1" in hrmas("diff", "x-s0", "x-s1")[1]
    status, out, _ = hrmas("diff", "x-s0", "x-s1", "--exact")
    assert status == 1 and "weights.h5: parameters/w1" in out
    assert "set aside as runs/out/x-s0.old-1" in hrmas(*SEARCH, "--name", "x-s0", "--fresh")[1]
    assert hrmas("diff", "x-s0", "x-s0.old-1", "--exact")[:2] == (0, "bit-identical, wall clock apart\n")
    assert hrmas("diff", "x-s0", "x-s0.old-1")[:2] == (0, "same settings, data and results\n")


def test_retrain(finished, hrmas):
    status, out, _ = hrmas("retrain", "ntidigits-s0", "--set", "training.retrain_epochs=2")
    assert status == 0 and "test accuracy" in out
    run = open_run("ntidigits-s0-retrain-s0")
    assert run.architecture_path.read_bytes() == finished.architecture_path.read_bytes()
    assert [line["phase"] for line in run.metrics()] == ["retrain"] * 2
    complains(hrmas("retrain", "ntidigits-s0", "--set", "network.neurons=[6,6]", "--name", "y"), "does not fit")
    assert not Path("runs/out/y").exists()
    assert hrmas("retrain", "ntidigits-s0", "--set", "network.neurons=[12]", "--name", "wide")[0] == 0
    # Of the sizes that were searched, 2 and 3, the one that was not found need not fit.
    size = open_run("ntidigits-s0").architecture()[0].motif_size
    assert hrmas("retrain", "ntidigits-s0", "--set", f"network.neurons=[{5 * size}]", "--name", "wider")[0] == 0
    complains(hrmas("retrain", "ntidigits-s0", "--set", "network.neurons=[7]", "--name", "z"), rf"found \[{size}\]")
    (before,), (after,) = finished.architecture(), open_run("wide").architecture()
    assert after.neurons == 12 and after.types.tolist() == before.types.tolist()       # the motif is carried
    assert hrmas("retrain", finished.path, "--name", "by-path")[0] == 0


def test_determinism_is_checked(house, hrmas):
    status, out, _ = hrmas(*SEARCH, "--check-determinism")
    assert status == 0 and "bit-identical on one thread and on two" in out
    assert not Path("runs/out").exists()


def test_data(house, hrmas):
    status, out, _ = hrmas("data", "build", "ntidigits", "--raw", "words.hdf5")
    path = out.splitlines()[-1]
    assert status == 0 and Path(path).is_file()
    assert hrmas("data", "verify", path)[:2] == (0, f"{path}: sound\n")
    assert "22 train, 11 test samples (real)" in hrmas("data", "info", path)[1]


def test_a_profile_may_change_what_goes_into_the_cache(own_settings, hrmas):
    """That of the stand-in, which is chosen once the recordings are known to be none, too."""
    short = SMALL.replace("data.steps=30 ", "")
    status, out, _ = hrmas("data", "build", own_settings, "--raw", "words.hdf5", "--profile", "demo")
    assert status == 0 and open_cache(out.splitlines()[-1]).meta.steps == 20
    with h5py.File("words.hdf5", "r+") as file:
        file.attrs["provenance"] = "synthetic stand-in"
    assert hrmas("search", own_settings, "--raw", "words.hdf5", "--set", short)[0] == 0
    run = RunDir("runs/out/ntidigits-s0")
    assert run.config().data.steps == open_cache(run.manifest()["data"]["cache"]).meta.steps == 20


def test_no_runs_yet(house, hrmas):
    assert hrmas("runs")[:2] == (0, "no runs in runs/out; make one: hrmas search ntidigits\n")


def test_an_unfinished_run_is_shown(house, hrmas, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("hrmas_sparse.run.finish.evaluate", lambda *_: (_ for _ in ()).throw(Stopped()))
        assert hrmas(*SEARCH)[0] == 128
    for command in (("runs",), ("show", "ntidigits-s0")):
        assert re.search(r"stopped +ntidigits, seed 0: retrain, epoch 3 of 3 in all, training", hrmas(*command)[1])
    assert "resuming" in hrmas(*SEARCH)[1]


# ---- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, message", [
    (("search", "ntidigit"), "data set: expected one of .*nearest: ntidigits"),
    (("search", "ntidigits", "--raw", "nowhere"), "nowhere: no such file"),
    (("search", "ntidigits", "--strict"), "no such file; put N-TIDIGITS18 there"),
    (("search", "ntidigits", "--set", "training.lrr=1"), "nearest: training.lr"),
    (("search", "ntidigits", "--set", "lr"), "expected section.key=value"),
    (("search", "ntidigits", "--preset", "x"), "preset: expected one of"),
    (("search", "ntidigits", "--profile", "x"), "profile: expected one of"),
    ((*SEARCH, "--name", "../x"), "--name: expected a plain name"),
    ((*SEARCH, "--name", ""), "--name: expected a plain name"),
    ((*SEARCH, "--name", "a/b"), "--name: expected a plain name"),
    ((*SEARCH, "--name", "a\0b"), "--name: expected a plain name"),
    ((*SEARCH, "--name", "x" * 300), "--name: expected a plain name of at most 200 bytes"),
    ((*SEARCH, "--name", "\u00e9" * 150), "--name: expected a plain name of at most 200 bytes"),
    ((*SEARCH, "--backend", "abacus"), "backend: expected one of"),
    (("show", "nothing"), "no run of that name in runs/out and no run folder; runs: none yet"),
    (("evaluate", "nothing"), "no run of that name"),
    (("retrain", "nothing"), "no run of that name"),
    (("diff", "nothing", "nothing"), "no run of that name"),
    (("data", "verify", "words.hdf5"), "words.hdf5"),
    (("data", "build", "words.hdf5"), "words.hdf5: expected a spike cache of schema 1, found none"),
], ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_mistakes(house, hrmas, arguments, message):
    complains(hrmas(*arguments), message)


@pytest.mark.parametrize("seeds", ["x", "", "-1", "3-", "3-1", "1,,2"])
def test_bad_seeds(house, hrmas, seeds):
    status, _, err = hrmas(*SEARCH, f"--seeds={seeds}")
    assert status == 2 and "0-4 or 0,2,5" in err


@pytest.mark.parametrize("seeds, expected", [("0", [0]), ("0-2", [0, 1, 2]), ("0,2,2,5-6", [0, 2, 5, 6])])
def test_seeds(seeds, expected):
    assert validators.seeds(seeds) == expected


def test_other_settings_on_an_old_name(finished, hrmas):
    found = hrmas(*SEARCH[:-1], SMALL + " training.lr=1", "--name", "ntidigits-s0")
    assert found[0] == 2 and "holds another run: training.lr: 0.002 != 1.0" in found[2]


def test_too_little_memory(house, hrmas, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 100 << 20)
    complains(hrmas(*SEARCH), r"this run needs about 0\.4 GiB of memory and 100.0 MiB are free: the program 0.4 GiB, ")
    assert not Path("runs/out/ntidigits-s0/manifest.json").exists()


def test_one_process_a_run(house, hrmas):
    with locked(Path("runs/out/ntidigits-s0/lock"), "test"):
        complains(hrmas(*SEARCH), rf"runs/out/ntidigits-s0: in use by process {os.getpid()} on .*, since 20.*--name")
        complains(hrmas(*SEARCH, "--name", "ntidigits-s0", "--fresh"), "in use by process")
        assert hrmas(*SEARCH, "--name", "other")[0] == 0


def test_a_stale_lock_is_explained_and_taken_over(house, hrmas):
    Path("runs/out/ntidigits-s0").mkdir(parents=True)
    Path("runs/out/ntidigits-s0/lock").write_text("process 7 on moon, since 1969-07-20")
    status, _, err = hrmas(*SEARCH)
    assert status == 0 and "process 7 on moon, since 1969-07-20 did not end properly; going on" in err
    assert Path("runs/out/ntidigits-s0/lock").read_text() == ""


def test_a_lock_that_leads_elsewhere_is_refused(house, hrmas):
    Path("runs/out/ntidigits-s0").mkdir(parents=True)
    Path("mine").write_text("mine")
    Path("runs/out/ntidigits-s0/lock").symlink_to(Path("mine").absolute())
    complains(hrmas(*SEARCH), "lock: cannot be written")
    assert Path("mine").read_text() == "mine"


def test_half_written_files_of_the_dead_are_removed(house, hrmas):
    Path("runs/out/ntidigits-s0").mkdir(parents=True)
    left = Path("runs/out/ntidigits-s0/.checkpoint.h5.999999999-01234567.tmp")
    left.write_text("half")
    assert hrmas(*SEARCH)[0] == 0 and not left.exists()


FILES = ("manifest.json", "result.json", "architecture.json", "weights.h5", "checkpoint.h5")
CONTENTS = {"empty": b"", "not JSON": b"\xff{", "a list": b"[]", "an object": b"{}", "deep": b"[" * 100000,
            "nested": b'{"test": {"accuracy": [' + b"[" * 100000, "numbers": b'{"seed": 1' + b"0" * 5000 + b"}",
            "text": b'{"schema": 1, "seed": "x", "data": 5, "config": {"data": []}, "test": "x", "layers": 7}'}


@pytest.mark.parametrize("file", FILES)
def test_damaged_files_are_named(finished, hrmas, file):
    whole = (finished.path / file).read_bytes()
    for content in CONTENTS.values():
        (finished.path / file).write_bytes(content)
        for command in (("show", "ntidigits-s0"), ("evaluate", "ntidigits-s0"), ("retrain", "ntidigits-s0"),
                        ("diff", "ntidigits-s0", "ntidigits-s0", "--exact"), ("diff", "ntidigits-s0", "ntidigits-s0"),
                        SEARCH):
            status, _, err = hrmas(*command)
            last = err.splitlines()[-1:] or [""]
            assert status == 0 or (status == 2 and file in last[0] and err.count("hrmas: ") == 1), (command, err)
            shutil.rmtree("runs/out/ntidigits-s0-retrain-s0", ignore_errors=True)
        status, out, _ = hrmas("runs")
        assert status == 0 and out.count("\n") == 1
    (finished.path / file).write_bytes(whole)
    assert hrmas("evaluate", "ntidigits-s0")[0] == 0


def test_escape_sequences_of_others_are_not_printed(finished, hrmas):
    text = finished.manifest_path.read_text().replace('"fingerprint": "', '"fingerprint": "\\u001b[2J')
    finished.manifest_path.write_text(text)
    assert "data: missing or not what belongs there" in hrmas("show", "ntidigits-s0")[2]


def test_escape_sequences_in_the_name_of_a_preset_or_a_run_are_shown_as_text(finished, hrmas):
    text = finished.manifest_path.read_text()
    finished.manifest_path.write_text(text.replace('"preset": "default"', '"preset": "\\u001b[31mred"'))
    status, out, err = hrmas("show", "ntidigits-s0")
    assert "\x1b" not in out + err and "\\x1b[31mred" in out + err
    finished.manifest_path.write_text(text)
    finished.path.rename(finished.path.with_name("a\x1b[31m"))
    for more in ((), ("--fresh",)):
        status, out, err = hrmas(*SEARCH, "--name", "a\x1b[31m", *more)
        assert status == 0 and "\x1b" not in out + err and "runs/out/a\\x1b[31m: " in out


def test_a_read_only_folder(house, hrmas, monkeypatch):
    def refuse(path, *arguments, **options):
        if "runs/out" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *arguments, **options)
    whole = os.open
    monkeypatch.setattr(os, "open", refuse)
    complains(hrmas(*SEARCH), "lock: cannot be written .Permission denied")


# ---- signals to the real program ------------------------------------------------------------------------------------


def wait_for(condition, process):
    """Wait until something is so, while the program runs."""
    for _ in range(3000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("never")


@pytest.mark.parametrize("signum, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_and_the_same_command_goes_on(house, finished, hrmas, signum, status):
    long = (*SEARCH[:-1], SMALL.replace("search_epochs=2", "search_epochs=4000"), "--name", "long")
    process = subprocess.Popen(PROGRAM + list(long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = Path("runs/out/long/metrics.jsonl")
    wait_for(lambda: metrics.exists() and metrics.stat().st_size > 100, process)
    assert re.search(r"long +running +ntidigits, seed 0: search-1, epoch \d+ of 4001", hrmas("runs")[1])
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in err
    assert "stopping after this batch; once more to stop at once" in err
    assert "long: stopped and checkpointed; the same command goes on from here" in err
    assert re.search(r"long +stopped +ntidigits", hrmas("runs")[1])
    assert "half" not in {path.suffix for path in Path("runs/out/long").iterdir()}


@pytest.mark.parametrize("signum, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_cache_is_built(house, signum, status):
    program = ("import sys, time\nfrom data_prep import ntidigits\nfrom hrmas_sparse import cli\n"
               "def samples(source, data, notes):\n    print('reading', flush=True)\n    time.sleep(60)\n    yield\n"
               f"ntidigits.samples = samples\nsys.exit(cli.main({list(SEARCH)!r}))")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    while "reading" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status and err.startswith("hrmas: ") and err.count("\n") == 1
    assert [path.name for path in Path("data/cache").iterdir()] == ["lock"]
