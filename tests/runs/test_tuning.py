"""Settings chosen by trials: which are tried, on what, and that the same command goes on."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hrmas_sparse import cli
from hrmas_sparse.run.folder import all_runs
from hrmas_sparse.settings.load import datasets, load, profiles
from hrmas_sparse.storage.errors import InputError
from runs import plan
from runs.comparison import jobs
from runs.comparison.worker import METHODS
from runs.tuning import plans, ranges
from event_files import write_words

optuna = pytest.importorskip("optuna", reason="TUNING NOT TESTED: Optuna is not installed (extra `tune`)")
pytest.importorskip("distributed", reason="TUNING NOT TESTED: Dask is not installed (extra `cluster`)")

SETTINGS = ("data.steps=30 network.neurons=[6] network.motif_sizes=[2,3] network.v_th=1 training.batch=8 "
            "training.search_epochs=1 training.retrain_epochs=2")
RANGES = """
prune = 25
[training]
lr = { low = 1e-3, high = 1e-2, log = true }
schedule = ["constant", "cosine"]
[network]
inter = [true, false]
"""


def words(*more, settings=SETTINGS):
    return ["tune", "ntidigits", "--raw", "words.hdf5", "--set", settings, "--ranges", "ranges.toml", *more]


@pytest.fixture
def study(house):
    write_words(house / "words.hdf5", train=4)
    (house / "ranges.toml").write_text(RANGES)
    return house / "runs" / "out" / "tune-ntidigits"


def trials(study):
    return {run.path.name.partition("-valid")[0] for run in all_runs() if run.finished and study in run.path.parents}


def test_the_same_command_goes_on_and_the_best_settings_are_settings(study, capfd):
    assert cli.main(words("--trials", "1")) == 0
    assert trials(Path("runs/out/tune-ntidigits")) == {"defaults", "trial-0000"}
    first = capfd.readouterr().out
    assert "1 of 1 trials went to their ends. Best is trial" in first and "the settings as they are" in first
    assert cli.main(words("--trials", "2")) == 0
    out = capfd.readouterr().out
    assert "trial-0001" in out and "trial-0000-valid" not in out
    for run in all_runs():
        assert run.config().data.partition in ("valid-1", "valid-2")
    best = load("runs/out/tune-ntidigits/best.toml", profile="paper")
    assert best.data.partition == "official" and best.network.neurons == (6,)
    assert best.training.search_epochs == load("ntidigits", profile="paper").training.search_epochs
    assert 1e-3 <= best.training.lr <= 1e-2
    assert cli.main(words("--trials", "4", settings=SETTINGS.replace("[6]", "[12]"))) == 2
    assert "holds another study: settings" in capfd.readouterr().err


def test_a_method_of_compare_is_tuned_and_compare_takes_what_was_found(study, capfd):
    Path("ranges.toml").write_text("[logistic]\nbins = { low = 2, high = 8 }\nridge = [0.001, 1.0]")
    command = ["tune", "ntidigits", "--raw", "words.hdf5", "--set", "data.steps=30", "--methods", "logistic",
               "--partitions", "valid-1", "--ranges", "ranges.toml", "--trials", "2"]
    assert cli.main(command) == 0
    home = study.with_name("tune-ntidigits-logistic")
    out = capfd.readouterr().out
    assert "2 of 2 trials went to their ends" in out
    found = {path.parent.name: json.loads(path.read_text()) for path in home.glob("*/result.json")}
    assert found.keys() == {f"{name}-logistic-valid-1-s0" for name in ("defaults", "trial-0000", "trial-0001")}
    assert {one["partition"] for one in found.values()} == {"valid-1"}
    tried = [one for name, one in found.items() if "trial" in name]
    most = max(one["test"]["accuracy"] for one in tried)
    printed = re.search(r"its settings, for (?:hrmas|make) (.*)", out)[1]
    assert printed == ("compare DATA=ntidigits RAW=words.hdf5 METHODS=logistic NAME=compare-tune-ntidigits-logistic "
                       "SET=data.steps=30 ARGS='--settings runs/out/tune-ntidigits-logistic/best.toml'")
    assert cli.main(["compare", "ntidigits", "--raw", "words.hdf5", "--set", "data.steps=30", "--methods", "logistic",
                     "--name", f"compare-{home.name}", "--settings", str(home / "best.toml")]) == 0
    scored = json.loads(Path(f"runs/out/compare-{home.name}/logistic-official-s0/result.json").read_text())
    assert scored["settings"] in [one["settings"] for one in tried if one["test"]["accuracy"] == most]
    assert scored["settings"]["ridge"] in (0.001, 1.0)
    assert cli.main(["status", home.name]) == 0 and "3 runs: 3 finished" in capfd.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in home.glob("*/result.json")}
    assert cli.main(command) == 0 and before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("more, message", [
    (["--methods", "gruu"], "expected one of gru, lstm, snntorch, norse, logistic, found 'gruu'"),
    (["--methods", "logistic", "--apart"], "need a common folder"),
    (["--methods", "gru", "--peer-python", "no-such-python"], "gru: not computed. no-such-python"),
    *((["--methods", "gru", f"--{name}", value], f"--{name} ({name.upper()}=): does not go with --methods")
      for name, value in (("preset", "accurate"), ("profile", "demo"), ("backend", "cpu"), ("baseline", "off"))),
    (["--methods", "gru", "--set", "data.value=count network.v_th=3"], "network.v_th: does not go with --methods"),
])
def test_what_cannot_be_tuned(study, capfd, more, message):
    assert cli.main(words(*more, settings="data.steps=30")) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("text, message", [
    ("[gru]\nbins = [1, 2]", r"expected a section \[logistic\]"),
    ("[logistic]\nbin = [1, 2]", "logistic.bin: unknown setting; nearest: bins"),
    ("[logistic]\nbins = { low = 0.5, high = 2 }", "logistic.bins: expected a value such as 10, found 0.5"),
    ("[logistic]\nridge = [true]", "logistic.ridge: expected a value such as 0.01, found True"),
    ("[logistic]\nridge = { low = 1, high = 0.1 }", "low below high"),
])
def test_mistakes_in_the_ranges_of_a_method(tmp_path, text, message):
    (tmp_path / "ranges.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        ranges.of_method(tmp_path / "ranges.toml", "logistic", jobs.chosen("logistic", "ti46")[1])


@pytest.mark.parametrize("method", METHODS)
def test_our_ranges_of_methods_can_be_read(method):
    usual = jobs.chosen(method, "ti46")[1]
    for one in ranges.of_method(None, method, usual).ranges:
        low, high = (one.choices[0], one.choices[-1]) if one.choices else (one.low, one.high)
        assert one.name in usual and low != high and (one.choices or low <= usual[one.name] <= high), one


def test_a_stopped_study_goes_on_with_the_trials_it_had_begun(study, capfd):
    one = "--trials", "1", "--partitions", "valid-1"
    long = SETTINGS.replace("retrain_epochs=2", "retrain_epochs=1000")     # longer than a signal is on its way
    client = subprocess.Popen([sys.executable, "-m", "hrmas_sparse", *words(*one, settings=long)],
                              stderr=subprocess.PIPE, text=True, env=_environment())
    begun = study / "trial-0000-valid-1-s0" / "checkpoint.h5"
    for _ in range(6000):
        if begun.exists():
            break
        time.sleep(0.01)
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=60)
    assert client.returncode == 130 and "every run is checkpointed" in err, err
    assert not (begun.parent / "result.json").exists()
    before = (begun.parent / "manifest.json").read_bytes()
    assert cli.main(words(*one, settings=long)) == 0
    assert "1 of 1 trials went to their ends" in capfd.readouterr().out
    assert (begun.parent / "manifest.json").read_bytes() == before


def _environment():
    import os
    return os.environ | {"PYTHONPATH": str(Path(plan.__file__).parents[1])}


@pytest.mark.parametrize("partition", ["official", "resample-1", "ab"])
def test_no_test_part_is_looked_at(study, capfd, partition):
    assert cli.main(words("--partitions", f"valid-1 {partition}")) == 2
    assert "settings are chosen on the training part alone" in capfd.readouterr().err
    assert not study.exists()


@pytest.mark.parametrize("text, message", [
    ("", "at least one setting"),
    ("[training]\nlearning_rate = { low = 1, high = 2 }", "training.learning_rate: unknown setting"),
    ("[trainig]\nlr = { low = 1, high = 2 }", "unknown setting; nearest: training"),
    ("[training]\nlr = { low = -1.0, high = 2 }", "training.lr: expected a finite number"),
    ("[training]\nlr = { low = 2, high = 1 }", "low below high"),
    ("[augmentation]\nshift_steps = { low = 0, high = 4, step = 0.5 }", "a whole step"),
    ("[augmentation]\ndrop = { low = 0.0, high = 0.4, step = 0.0 }", "a step above 0"),
    ("[augmentation]\ndrop = { low = 0.0, high = 0.4, step = 0.15 }", "a number of whole steps"),
    ("[augmentation]\nshift_steps = { low = 1, high = 8, step = 2 }", "a number of whole steps"),
    ("[training]\nlr = { low = 1 }", "expected { low = 1, high = 2 } or a list"),
    ("[training]\nschedule = ['cosine', 'sine']", "training.schedule: expected one of"),
    ("[augmentation]\ndrop = { low = 0.0, high = 0.5, log = true }", "above 0"),
    ("[data]\nsteps = [50, 100]", "the section data cannot be tuned"),
    ("[set]\nboth = 3", "set.both: expected a list of texts"),
    ("[set]\nboth = ['training.lr=1 data.steps=50']", "set.both: data.steps: the section data cannot be tuned"),
    ("[set]\nboth = ['training.rl=1']", "set.both: training.rl: unknown setting"),
    ("[set]\nboth = ['lr']", "set.both: --set: expected section.key=value"),
    ("prune = 100\n[training]\nlr = { low = 1, high = 2 }", "prune: expected per cent"),
    ("lr = 3", "expected a table"),
])
def test_mistakes_in_a_file_of_ranges(tmp_path, text, message):
    (tmp_path / "ranges.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        ranges.read(tmp_path / "ranges.toml")


def study_of(folder, text, epochs=30):
    """A study of ranges, as it was left."""
    from runs.tuning.study import Study
    (folder / "ranges.toml").write_text(text)
    return Study(folder / "journal.log", ranges.read(folder / "ranges.toml"), 0, epochs)


def check(overrides):
    load("ntidigits", overrides=list(overrides))


TOGETHER = "[loss]\nname = ['psc', 'cross_entropy']\nsmoothing = { low = 0.1, high = 0.2 }"


def test_settings_that_do_not_go_together_are_passed_over(tmp_path, monkeypatch):
    own = study_of(tmp_path, TOGETHER)
    found = [own.ask(check)[1][0] for _ in range(6)]
    assert set(found) == {'loss.name="cross_entropy"'} and own.count() == 6 < len(own.study.trials)
    for trial in own.study.trials:
        assert ("invalid" in trial.user_attrs) == (trial.params["loss.name"] == 'loss.name="psc"')

    def never(overrides):
        raise InputError("they do not")
    monkeypatch.setattr("runs.tuning.study.MOST_INVALID", 5)
    with pytest.raises(InputError, match="the last 5 proposals do not go together: they do not"):
        own.ask(never)


def test_a_proposal_that_was_not_seen_to_be_wrong_does_not_block_its_study(tmp_path):
    own = study_of(tmp_path, TOGETHER)
    while own.study.ask(own._distributions).params["loss.name"] != 'loss.name="psc"':
        pass                                    # and killed here, before it was looked at
    again = study_of(tmp_path, TOGETHER)
    left = list(again.unfinished(check))
    assert len(left) == again.count() == len(own.study.trials) - 1
    assert all("cross_entropy" in overrides[0] for _, overrides in left)


def test_choices_that_no_trial_can_have_are_not_proposed(tmp_path):
    def vain(preset, text):
        (tmp_path / "ranges.toml").write_text(text)
        read = ranges.read(tmp_path / "ranges.toml")
        found = read.in_vain(lambda overrides: load("ntidigits", preset, overrides=list(overrides)))
        return [choice for _, choice in found], [one.choices for one in read.without(found).ranges if one.choices]
    default = ranges.DEFAULT.read_text()
    psc, entropy = ranges.read(None).ranges[-2].choices
    assert vain("default", default)[0] == []
    assert vain("accurate", default) == ([psc], [(entropy,), ranges.read(None).ranges[-1].choices])
    readout = "[network]\nreadout = ['spiking', 'integrator']\nwindows = { low = 1, high = 4 }\n"
    assert vain("accurate", readout + "[loss]\nname = ['psc', 'cross_entropy']\nsmoothing = [0.0]")[0] == []
    assert vain("default", "[loss]\nname = ['psc']\nsmoothing = [0.1]")[0] == [], "which of them is to blame?"


def test_a_choice_that_goes_with_the_middle_of_a_range_is_proposed():
    number = ranges.Range("a.b", low=1, high=9)
    own = ranges.Ranges(Path("r.toml"), 0, (number, ranges.Range("c", choices=("p", "q")),
                                            ranges.Range("d", choices=("q", "r"))))

    def check(overrides):
        if overrides[2] == "q" or overrides[1] == "q" and overrides[0] != "a.b=5":
            raise InputError("they do not go together")
    assert own.in_vain(check) == {("d", "q"): "they do not go together"}, "the q of c is another one"
    assert [one.choices for one in own.without(own.in_vain(check)).ranges] == [None, ("p", "q"), ("r",)]
    assert number.points() == (1, 5, 9) and ranges.Range("n", low=1, high=2).points() == (1, 2)
    assert ranges.Range("n", low=0, high=8, step=2).points() == (0, 4, 8)
    assert ranges.Range("n", low=1e-4, high=1e-2, log=True).points()[1] == pytest.approx(1e-3)


def test_a_study_of_other_choices_is_refused(tmp_path):
    study_of(tmp_path, RANGES).ask(lambda overrides: None)
    with pytest.raises(InputError, match="holds another study: training.schedule was chosen from other values"):
        study_of(tmp_path, RANGES.replace('["constant", "cosine"]', '["cosine"]'))
    study_of(tmp_path, RANGES.replace("1e-2", "2e-2"))


def test_a_study_is_remembered_by_the_choices_that_are_tried(tmp_path):
    (tmp_path / "ranges.toml").write_text(TOGETHER)
    options = SimpleNamespace(dataset="ntidigits", set=[], partitions=["valid-1"], seeds=[0])
    plan = SimpleNamespace(home=tmp_path, options=options, record={}, ranges=ranges.read(tmp_path / "ranges.toml"))
    whole, vain = plan.ranges, plan.ranges.in_vain(check)
    assert list(vain) == [("loss.name", 'loss.name="psc"')]
    plan.ranges = whole.without(vain)
    plans.remember(plan)
    plans.remember(plan)
    plan.ranges = whole
    with pytest.raises(InputError, match="holds another study: ranges: .*Give another"):
        plans.remember(plan)


def test_importance_needs_no_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    own = study_of(tmp_path, RANGES)
    for _ in range(20):
        name, overrides = own.ask(lambda overrides: None)
        own.tell(name, 100 * float(overrides[0].removeprefix("training.lr=")), False)
    found = own.importance()
    assert found.keys() == {"training.lr", "training.schedule", "network.inter"}
    assert sum(found.values()) == pytest.approx(1) and found["training.lr"] > 0.5


def test_a_trial_that_is_worse_than_others_is_given_up(tmp_path):
    own = study_of(tmp_path, RANGES)

    def lines(level):
        return [{"accuracy": level * epoch / 30} for epoch in range(1, 31)]
    for level in (0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9):
        name, _ = own.ask(lambda overrides: None)
        assert not own.report(name, 0, lines(level), 0)
        own.tell(name, level, False)
    name, _ = own.ask(lambda overrides: None)
    assert not own.report(name, 0, lines(0.1)[:9], 0), "too early to tell"
    assert own.report(name, 0, lines(0.1)[:20], 9)
    own.tell(name, None, False)
    name, _ = own.ask(lambda overrides: None)
    assert not own.report(name, 0, lines(0.75)[:20], 0)
    assert own.best().value == 0.9 and len(own.finished()) == 8


def test_a_journal_that_was_cut_off_goes_on(tmp_path):
    first = study_of(tmp_path, RANGES)
    name, overrides = first.ask(lambda overrides: None)
    with open(tmp_path / "journal.log", "ab") as file:
        file.write(b'{"op_code": 6, "work')
    again = study_of(tmp_path, RANGES)
    assert list(again.unfinished(check)) == [(name, overrides)]
    again.tell(name, 0.5, False)
    assert study_of(tmp_path, RANGES).best().value == 0.5


@pytest.mark.parametrize("dataset", datasets())
@pytest.mark.parametrize("preset", ["default", "accurate", "published"])
def test_settings_written_as_a_file_are_the_same_settings(tmp_path, dataset, preset):
    from runs.tuning.report import as_toml
    path = tmp_path / "best.toml"
    path.write_text(as_toml(load(dataset, preset), dataset))
    for profile in profiles(dataset):
        assert load(path, "default", profile).fingerprint() == load(dataset, preset, profile).fingerprint()
    path.write_text(as_toml(load(dataset, preset, overrides={"training.retrain_epochs": 7}), dataset,
                            {"training.retrain_epochs"}))
    assert load(path).training.retrain_epochs == 7


def test_what_was_set_is_written_and_not_what_the_profile_has(tmp_path):
    from runs.tuning.report import as_toml
    path = tmp_path / "best.toml"
    for schedule in ("constant", "cosine"):
        own = load("ntidigits", profile="demo", overrides={"training.schedule": schedule})
        path.write_text(as_toml(own, "ntidigits"))
        assert load(path).training.schedule == schedule
