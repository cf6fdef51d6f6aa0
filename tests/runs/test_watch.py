"""How far runs are: the table, and the page about them."""

import contextlib
import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from hrmas_sparse import cli
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.locks import locked
from runs import plan, status, watch
from runs.worker import GIVEN_UP, JOB

SETTINGS = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
            "training.search_epochs=2 training.retrain_epochs=2")


@pytest.fixture(scope="module")
def finished(words, tmp_path_factory):
    """The folder of a run that has ended."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["search", "ntidigits", "--raw", str(words), "--set", SETTINGS, "--name", "one"]) == 0
    return folder / "runs" / "out" / "one"


@pytest.fixture
def home(house, finished, capfd):
    """An experiment's folder: a run that has ended, one that somebody works on, one that was damaged, one to come."""
    folder = house / "runs" / "out" / "one-ntidigits"
    shutil.copytree(finished, folder / "hrmas-s0")
    for name, keep in (("hrmas-s1", ("manifest.json", "metrics.jsonl")), ("hrmas-s2", ("manifest.json",)),
                       ("<b>-s4", ("manifest.json", "metrics.jsonl"))):
        (folder / name).mkdir()
        for file in keep:
            (folder / name / file).write_bytes((folder / "hrmas-s0" / file).read_bytes())
    lines = (folder / "hrmas-s1" / "metrics.jsonl").read_text().splitlines(keepends=True)
    warned = json.dumps(json.loads(lines[1]) | {"warnings": ["the hidden layer <1> is dead"]}) + "\n"
    (folder / "hrmas-s1" / "metrics.jsonl").write_text(lines[0] + warned)
    (folder / "hrmas-s2" / "manifest.json").write_text("{")
    (folder / "<b>-s4" / GIVEN_UP).touch()
    (folder / "logs").mkdir()
    (folder / "logs" / "hrmas-s0.log").write_text("all of it")
    run = {"row": "hrmas", "neurons": [6], "partition": "official", "seed": 0}
    (folder / plan.RECORD).write_text(json.dumps({
        "schema": 1, "experiment": "one", "title": "", "paper": "", "baseline": "hrmas",
        "rows": {"hrmas": {"title": "", "set": ""}}, "runs": {f"hrmas-s{n}": run for n in range(4)}}))
    capfd.readouterr()
    with locked(RunDir(folder / "hrmas-s1").lock_path, "the run"):
        yield folder


def test_the_table(home, capfd):
    assert cli.main(["status", "one-ntidigits"]) == 0
    lines = capfd.readouterr().out.splitlines()
    states = {line.split("  ")[0]: line for line in lines[1:6]}
    assert "finished" in states["hrmas-s0"] and "4 of 4" in states["hrmas-s0"] and "test " in states["hrmas-s0"]
    assert "running" in states["hrmas-s1"] and "2 of 4" in states["hrmas-s1"]
    assert re.search(r"\d:\d\d:\d\d", states["hrmas-s1"])
    assert "damaged" in states["hrmas-s2"] and "waiting" in states["hrmas-s3"] and "given up" in states["<b>-s4"]
    assert "warning: hrmas-s1: the hidden layer <1> is dead" in lines
    assert lines[-1].endswith("5 runs: 1 running, 1 waiting, 1 finished, 1 given up, 1 damaged")
    assert status.counted([SimpleNamespace(state="finished")]) == "1 run: 1 finished"


def test_the_states_of_a_method_s_results(tmp_path):
    run = RunDir(tmp_path / "logistic-s0")
    run.path.mkdir()
    (run.path / JOB).write_text("{}")
    assert status.row(run).state == "waiting"
    (run.path / GIVEN_UP).touch()
    assert status.row(run).state == "given up"
    with locked(run.lock_path, "the job"):
        assert status.row(run).state == "running"
    run.result_path.write_text('{"test": {"accuracy": 0.5}}')
    assert status.row(run).state == "finished" and status.row(run).test == 0.5


def test_runs_that_are_away(home):
    """They went to machines that share no folder with us: nobody has locked them here."""
    (home / "hrmas-s5").mkdir()
    for file in ("manifest.json", "metrics.jsonl"):
        (home / "hrmas-s5" / file).write_bytes((home / "hrmas-s1" / file).read_bytes())
    assert {one.name: one.state for one in status.rows(home)}["hrmas-s5"] == "stopped"
    with locked(home / status.AWAY, "its runs"):
        found = {one.name: one for one in status.rows(home)}
    states = {name: one.state for name, one in found.items()}
    assert states == {"hrmas-s0": "finished", "hrmas-s1": "running", "hrmas-s2": "damaged", "hrmas-s3": "waiting",
                      "<b>-s4": "given up", "hrmas-s5": "away"}
    assert found["hrmas-s5"].left > 0 and found["hrmas-s5"].machine == ""


def test_an_experiment_that_there_is_not(home, capfd):
    assert cli.main(["status", "two"]) == 2
    assert "there are: one-ntidigits" in capfd.readouterr().err


def test_the_time_left_is_that_of_the_epochs_left(home):
    one = status.row(RunDir(home / "hrmas-s1"))
    took = one.lines[-1]["seconds"] + (one.lines[0]["seconds"] if one.lines[0]["phase"] != one.lines[1]["phase"] else 0)
    settings = RunDir(home / "hrmas-s1").config()
    search, retrain = plan.epoch_work(settings)
    assert one.left == pytest.approx(took * retrain / search)


def asked(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return answer.read().decode(), answer.headers


def test_the_page(home):
    with serving(home) as url:
        page, headers = asked(url)
        assert 'http-equiv="refresh"' in page and "default-src 'none'" in headers["Content-Security-Policy"]
        assert page.count("<polyline") == 2 * len(watch.COLOURS) * 5 and "<script" not in page
        assert "the hidden layer &lt;1&gt; is dead" in page and "&lt;b&gt;-s4" in page and "<b>" not in page
        assert asked(f"{url}logs/hrmas-s0.log")[0] == "all of it"
        assert "report" not in page
        (home / "report.html").write_text("the report")
        (home / status.DASHBOARD).write_text('{"link": "http://127.0.0.1:8787/status"}')
        page, _ = asked(url)
        assert 'href="report"' in page and 'href="http://127.0.0.1:8787/status"' in page
        assert asked(f"{url}report")[0] == "the report"
        (home / status.DASHBOARD).write_text('{"link": "javascript:alert(1)"}')
        assert "javascript" not in asked(url)[0]


@pytest.mark.parametrize("path", ["nothing", "logs/nothing.log", "logs/../experiment.json", "logs/%2e%2e/lock",
                                  "experiment.json", "logs/", "logs/%00", "report"])
def test_nothing_else_is_shown(home, path):
    with serving(home) as url:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(url + path)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example:80", ""])
def test_only_who_asks_for_this_machine_is_answered(home, host):
    with serving(home) as url:
        with pytest.raises(urllib.error.HTTPError, match="40[03]"):
            asked(url, Host=host)


@contextlib.contextmanager
def serving(home):
    with watch.server(home) as server:
        assert server.server_address[0] == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def test_a_port_that_is_taken(home):
    with watch.server(home) as server, pytest.raises(InputError, match="cannot be used"):
        watch.server(home, server.server_port)


def test_event_files(home, capfd):
    pytest.importorskip("tensorboardX", reason="EVENT FILES NOT TESTED: tensorboardX is not installed")
    assert cli.main(["watch", "one-ntidigits", "--tensorboard"]) == 0
    assert "tensorboard --logdir" in capfd.readouterr().out
    files = list((home / "tensorboard" / "hrmas-s0").glob("events.out.tfevents.*"))
    assert len(files) == 1 and b"valid_accuracy" in files[0].read_bytes()


def test_a_page_is_made_fast_enough_for_many_runs(home):
    text = (home / "hrmas-s0" / "metrics.jsonl").read_bytes()
    for n in range(100):
        (home / f"more-s{n}").mkdir()
        for file in ("manifest.json", "metrics.jsonl"):
            (home / f"more-s{n}" / file).write_bytes(text if file == "metrics.jsonl" else
                                                     (home / "hrmas-s0" / file).read_bytes())
    began = time.process_time()
    assert watch.html(home).count("<tr>") == 106
    assert time.process_time() - began < 5
