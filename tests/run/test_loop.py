"""The epoch loop on its own: what it counts, when it saves, how it stops; metrics; scoring."""

import json
import os
import signal
import subprocess
import sys
import time

import naive
import numpy as np
import pytest
from dense import assert_same_bits, random_case

from hrmas_sparse.engine.parameters import Parameters
from hrmas_sparse.run import loop, score, signals, state
from hrmas_sparse.storage.errors import Diverged, InputError
from hrmas_sparse.search.optim import Adam
from hrmas_sparse.search.hrmas import Learner
from hrmas_sparse.run.folder import RunDir
from hrmas_sparse.run.loop import Checkpoints, Phase, run_phase
from hrmas_sparse.run.metrics import Totals
from hrmas_sparse.run.progress import Reporter
from hrmas_sparse.run.store import FolderStore
from hrmas_sparse.run.score import evaluate
from hrmas_sparse.run.signals import stop_on_signals
from hrmas_sparse.run.state import Position
from hrmas_sparse.run.stop import Stopped, StopRequest, never


def phase(epochs=3, step=None, seen=None):
    """Three batches an epoch, of 2, 2 and 1 samples; ``seen`` takes (batch, progress) of each."""
    def own(batch, progress, update):
        if seen is not None:
            seen.append((batch, round(progress, 3)))
        return Totals(len(batch), 2.0 * len(batch), 1, valid_loss=0.0, valid_correct=len(batch))
    return Phase("retrain", epochs, lambda epoch: [[epoch, 0], [epoch, 1], [epoch]], step or own, lambda: {"extra": 7})


@pytest.fixture
def metrics(tmp_path):
    """Records of which these tests use the metrics alone."""
    store = FolderStore.__new__(FolderStore)
    store._run = RunDir(tmp_path)
    return store


class AtTheEnd(Checkpoints):
    """Saves when it must, never by the clock."""

    def save_if_due(self):
        pass


def go(phase, position, metrics, checkpoints, stop=never, reporter=None):
    run_phase(phase, position, metrics.add_line, checkpoints, stop, reporter or Reporter())


def read(metrics):
    return [json.loads(line) for line in metrics.run.metrics_path.read_text().splitlines()]


def test_a_phase(metrics):
    seen, saves, position = [], [], Position("retrain")
    go(phase(seen=seen), position, metrics, AtTheEnd(lambda: saves.append(vars(position).copy())), never)
    assert [batch for batch, _ in seen] == [b for e in range(3) for b in ([e, 0], [e, 1], [e])]
    assert [progress for _, progress in seen] == [round(n / 9, 3) for n in range(9)]
    lines = read(metrics)
    assert [(line["phase"], line["epoch"], line["loss"], line["accuracy"], line["valid_accuracy"], line["extra"])
            for line in lines] == [("retrain", n, 2.0, 0.6, 1.0, 7) for n in (1, 2, 3)]
    assert (position.epoch, position.batch, position.updates, position.lines, position.totals) == (3, 0, 9, 3, Totals())
    assert len(saves) == 1 and saves[0]["epoch"] == 3 and position.seconds["retrain"] >= 0


def test_a_phase_without_epochs_saves_only(metrics):
    saves, position = [], Position("retrain")
    go(phase(epochs=0), position, metrics, AtTheEnd(lambda: saves.append(1)), never)
    assert saves == [1] and not metrics.run.metrics_path.exists()


@pytest.mark.parametrize("batch, cost", [(0.01, 0.001), (0.01, 0.05), (1, 0.05), (30, 0.1), (0.2, 1.0), (100, 5.0)])
def test_checkpoints_come_early_then_seldom(batch, cost, monkeypatch):
    """The first after the first batch; a kill loses a tenth of the time, or a minute; they cost a hundredth."""
    now, saved, lost = [0.0], [], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def save():
        now[0] += cost
        saved.append(now[0])
    checkpoints = Checkpoints(save)
    for _ in range(20_000):
        now[0] += batch
        lost.append(now[0] - (saved[-1] if saved else 0.0))
        checkpoints.save_if_due()
        assert saved, "none after the first batch"
        bound = min(loop.CHECKPOINT_SECONDS, max(now[0] / 10, cost / loop.CHECKPOINT_SHARE))
        assert lost[-1] <= bound + batch + cost
    gaps = np.diff(saved)
    assert gaps.min() * 0.01 >= min(cost, 0.6) - 1e-9 and gaps.max() <= 60 + batch + cost + 1e-9
    assert np.median(gaps) >= min(60, now[0] / 20) or len(saved) < 300


def test_it_saves_by_the_clock(metrics, monkeypatch):
    clock = iter(range(0, 10**6, 25))                               # a batch asks twice: fifty seconds
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    saves, position = [], Position("retrain")
    go(phase(), position, metrics, Checkpoints(lambda: saves.append(position.updates)), never)
    gaps = np.diff([0, *saves])
    assert saves[0] == 1 and 1 <= gaps[:-1].max() <= 3 and saves[-1] == 9


def test_it_goes_on_in_the_middle_of_an_epoch(metrics):
    seen, position = [], Position("retrain", epoch=1, batch=2, updates=5, lines=1,
                                    totals=Totals(4, 8.0, 4, valid_loss=0.0, valid_correct=0))
    go(phase(seen=seen), position, metrics, Checkpoints(lambda: None), never)
    assert [batch for batch, _ in seen] == [[1], [2, 0], [2, 1], [2]]
    assert [line["accuracy"] for line in read(metrics)] == [1.0, 0.6]


def test_it_stops_after_a_batch(metrics):
    saves, position, stop = [], Position("retrain"), StopRequest()

    def step(batch, progress, update):
        if update == 3:
            stop.request(15)
        return Totals(1, 1.0, 0)
    with pytest.raises(Stopped):
        go(phase(step=step), position, metrics, AtTheEnd(lambda: saves.append(position.updates)), stop)
    assert stop.signum == 15 and saves == [4] and (position.epoch, position.batch) == (1, 1)


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_no_number(metrics, loss):
    saves, position = [], Position("retrain")

    def step(batch, progress, update):
        return Totals(1, loss if update == 4 else 1.0, 0)
    with pytest.raises(Diverged, match="retrain, epoch 2, batch 2: the loss is not a finite number"):
        go(phase(step=step), position, metrics, AtTheEnd(lambda: saves.append(1)), never)
    assert not saves and position.updates == 4 and position.totals.loss == 1.0


# ---- metrics -----------------------------------------------------------------------------------------------


def test_metrics_are_cut_to_what_a_checkpoint_knew(metrics):
    metrics.cut(0)
    for n in range(4):
        metrics.add_line({"n": n})
    with open(metrics.run.metrics_path, "a") as file:
        file.write('{"n": 4, "half')
    metrics.cut(3)
    assert metrics.run.metrics_path.read_text() == '{"n": 0}\n{"n": 1}\n{"n": 2}\n'
    with pytest.raises(InputError, match="at least 4 lines, found 3"):
        metrics.cut(4)
    assert len(read(metrics)) == 3


def test_metrics_never_write_through_a_link(metrics, tmp_path):
    (tmp_path / "other").write_text("mine")
    metrics.run.metrics_path.symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="cannot be written"):
        metrics.add_line({"n": 1})
    assert (tmp_path / "other").read_text() == "mine"


def test_a_full_disk_names_the_metrics(metrics, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="metrics.jsonl: cannot be written .No space left on device"):
        metrics.add_line({"n": 1})


# ---- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted(signum, capfd):
    before = {s: signal.getsignal(s) for s in signals.SIGNALS}
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signum)
        while not stop():
            time.sleep(0.001)
        assert stop.signum == signum
        assert all(signal.getsignal(s) is signal.SIG_DFL for s in signals.SIGNALS)        # the next one kills
    assert {s: signal.getsignal(s) for s in signals.SIGNALS} == before
    assert "once more to stop at once" in capfd.readouterr().err


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_kills(second):
    program = ("import os, signal, sys, time\nfrom hrmas_sparse.run.signals import stop_on_signals\n"
               "with stop_on_signals() as stop:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.01)\n"
               f"    os.kill(os.getpid(), {int(second)})\n    time.sleep(9)\n")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == -second


# ---- states ------------------------------------------------------------------------------------------------


def learner():
    w, alpha = Adam(), Adam()
    layer = {"w": np.ones(3, np.float32), "alpha_2": np.ones(2), "R": np.full(2, 16.0)}
    found = Learner(Parameters([layer, {"w": np.ones(2)}]), w, alpha)
    w.update(found.parameters, found.parameters.map(np.ones_like).only([(0, "w"), (1, "w")]), 0.1)
    return found


def expected(position):
    own = learner().parameters
    return own, own.only([(0, "w"), (1, "w")]), own.only([(0, "alpha_2")])


def test_a_state_comes_back(tmp_path):
    path, identity = tmp_path / "checkpoint.h5", {"config": {"a": {"b": 1.5}}, "seed": 3}
    totals = Totals(9, 1 / 3, 2, 0.5, [1.0], [0.5], [2.0])
    position = Position("search-2", 3, 4, 5, totals, 7, [5, 10], {"search-1": 1.25},
                        processor={"search-1": 2.5})
    state.save_state(path, learner(), position, identity)
    empty = Learner(Parameters([]), Adam(), Adam())
    assert state.load_state(path, empty, identity, expected) == position
    assert_same_bits(empty.parameters, learner().parameters)
    assert (empty.w_adam.step, empty.alpha_adam.step, empty.alpha_adam.m.layers) == (1, 0, [])
    assert_same_bits(empty.w_adam.v, learner().w_adam.v)


def test_there_may_be_no_state(tmp_path):
    assert state.load_state(tmp_path / "checkpoint.h5", learner(), {}, expected) is None


def test_another_identity_names_every_difference(tmp_path):
    path = tmp_path / "checkpoint.h5"
    state.save_state(path, learner(), Position("retrain"), {"config": {"a": 1, "b": 2}, "seed": 3})
    with pytest.raises(InputError, match="config.b: 2 != 5; config.c: None != 1; seed: 3 != 4. Give another --name"):
        state.load_state(path, learner(), {"config": {"a": 1, "b": 5, "c": 1}, "seed": 4}, expected)


# ---- scoring -----------------------------------------------------------------------------------------------


def test_scores_are_the_reference(backend, monkeypatch):
    monkeypatch.setattr(score, "EVALUATION_BATCH", 7)
    case = random_case(3, (("motif", 9, 3),), B=20, T=15)
    network = case.network(backend)
    found = evaluate(network, case.parameters(), case.events())
    reference = naive.network_gradients(case.X, case.Y, case.plain(), 8.0)
    assert found.loss == pytest.approx(reference["loss"], rel=1e-9) and found.samples == 20
    assert found.accuracy == (reference["pred"] == case.Y).mean()
    confusion = np.zeros((3, 3), int)
    for true, decided in zip(case.Y, reference["pred"]):
        confusion[true, decided] += 1
    assert found.confusion == confusion.tolist()
    np.testing.assert_allclose(found.rates, [spikes.mean() for spikes in reference["spikes"]])


def test_nothing_to_score(backend):
    case = random_case(3, B=2)
    with pytest.raises(InputError, match="no samples"):
        evaluate(case.network(backend), case.parameters(), case.events()[[]])
