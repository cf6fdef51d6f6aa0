"""The report of an experiment: its numbers computed again from the raw files, its page, its figures."""

import html.parser
import json
import math
import re
import shutil
import statistics
import sys
from pathlib import Path

import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.errors import InputError
from runs import status
from runs.report import collect, figures, tables

ROWS = {"hrmas": (), "without-ip": ("plasticity.mode=off",), "random": ("search.method=random",),
        "feedforward": ("network.recurrence=none",), "untied": ("network.tied=false", "network.inter=false")}
PAIRS = [(0, "official"), (1, "official"), (0, "resample-1"), (1, "resample-1")]
T_975 = {1: 12.706205, 3: 3.182446}   # Student's t, from a printed table


def make(folder, events, pairs=PAIRS, rows=ROWS):
    """An experiment's folder with finished runs on a toy."""
    runs = {}
    for row, overrides in rows.items():
        for seed, partition in pairs:
            own = toys.settings(*overrides, f"data.partition={partition}")
            name = f"{row}-{partition}-s{seed}"
            toys.run(folder / name, own, events, seed)
            runs[name] = {"row": row, "neurons": [12], "partition": partition, "seed": seed}
    write_record(folder, runs, rows)
    return folder


def write_record(folder, runs, rows):
    (folder / "experiment.json").write_text(json.dumps({
        "schema": 1, "experiment": "toy", "title": "A toy & its rows", "paper": "Table 9", "baseline": "hrmas",
        "rows": {row: {"title": f"row <{row}>", "set": " ".join(rows[row])} for row in rows}, "runs": runs}))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    return make(folder / "toy", toys.cache(folder / "toy.h5", provenance="synthetic stand-in"))


@pytest.fixture(scope="module")
def page(experiment):
    pytest.importorskip("matplotlib", reason="REPORT NOT CHECKED: it needs the extra `plots`")
    assert cli.main(["report", str(experiment)]) == 0
    return (experiment / "report.html").read_text(encoding="utf-8")


class Cells(html.parser.HTMLParser):
    """The cells of all tables of a page, as a list of tables of rows."""

    def __init__(self, text):
        super().__init__()
        self.tables, self._inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._inside = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.tables[-1][-1][-1] += data


# ---- the numbers, computed again ---------------------------------------------------------------------------------


def raw_accuracy(experiment, row, seed, partition):
    """Of the confusion matrix, in plain Python."""
    counts = json.loads((experiment / f"{row}-{partition}-s{seed}" / "result.json").read_text())["test"]["confusion"]
    return sum(counts[k][k] for k in range(len(counts))) / sum(map(sum, counts))


def test_scores(experiment, page):
    header, *rows = Cells(page).tables[0]
    assert header == ["", "neurons", "differs in", "n", "best", "mean", "std", "trained weights"]
    assert [row[0] for row in rows] == [f"row <{row}>" for row in ROWS]
    for cells, row in zip(rows, ROWS):
        found = [100 * raw_accuracy(experiment, row, *pair) for pair in PAIRS]
        expected = [max(found), statistics.mean(found), statistics.stdev(found)]
        assert cells[1] == "12" and cells[3] == "4"
        assert [float(cell) for cell in cells[4:7]] == pytest.approx(expected, abs=0.00501)
    assert [row[2] for row in rows] == ["", "plasticity.mode=off", "search.method=random", "network.recurrence=none",
                                        "network.tied=false, network.inter=false"]
    weights = json.loads((experiment / "feedforward-official-s0" / "result.json").read_text())["trained_weights"]
    assert rows[3][-1] == str(weights) == str(10 * 12 + 12 * 3)


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-"))


def test_paired_differences(experiment, page):
    header, *rows = Cells(page).tables[1]
    assert header == ["", "neurons", "pairs", "mean difference", "95 % interval", "corrected interval",
                      "better / equal / worse"]
    assert [row[0] for row in rows] == [f"row <{row}>" for row in list(ROWS)[1:]]
    for cells, row in zip(rows, list(ROWS)[1:]):
        found = [100 * (raw_accuracy(experiment, row, *pair) - raw_accuracy(experiment, "hrmas", *pair))
                 for pair in PAIRS]
        mean, half = statistics.mean(found), T_975[3] * statistics.stdev(found) / 2
        assert cells[2] == "4" and number(cells[3]) == pytest.approx(mean, abs=0.00501)
        low, high = map(number, cells[4].split(" to "))
        assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.0051)
        parts = [statistics.mean(found[:2]), statistics.mean(found[2:])]
        half = T_975[1] * statistics.stdev(parts) * math.sqrt(1 / 2 + 9 / 22)      # 9 test and 22 training samples
        low, high = map(number, cells[5].split(" to "))
        assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.0051)
        signs = [sum(d > 0 for d in found), sum(d == 0 for d in found), sum(d < 0 for d in found)]
        assert cells[6] == " / ".join(map(str, signs))


def test_what_making_it_discrete_costs(experiment, page):
    header, *rows = Cells(page).tables[2]
    assert header == ["", "neurons", "n", "relaxed", "reset", "discrete", "with IP",
                      "discrete \N{MINUS SIGN} relaxed", "with IP \N{MINUS SIGN} discrete"]
    searched = ["hrmas", "without-ip", "untied"]
    assert [row[0] for row in rows] == [f"row <{row}>" for row in searched]
    for cells, row in zip(rows, searched):
        files = [json.loads((experiment / f"{row}-{p}-s{s}" / "diagnosis.json").read_text()) for s, p in PAIRS]
        scores = {name: [100 * one[name]["accuracy"] for one in files if one[name]]
                  for name in ("relaxed", "reset", "discrete", "adapted")}
        for cell, found in zip(cells[3:7], scores.values()):
            if not found:
                assert cell == "\N{EN DASH}"
            else:
                assert number(cell) == pytest.approx(statistics.mean(found), abs=0.00501)
        for (before, after), shown in ((("relaxed", "discrete"), cells[7]), (("discrete", "adapted"), cells[8])):
            if not scores[after]:
                assert row == "without-ip" and shown == "\N{EN DASH}"
                continue
            found = [b - a for a, b in zip(scores[before], scores[after])]
            parts = [statistics.mean(found[:2]), statistics.mean(found[2:])]
            mean, half = statistics.mean(found), T_975[1] * statistics.stdev(parts) * math.sqrt(1 / 2 + 1)
            numbers = [number(part) for part in re.split(r" \(| to |\)", shown)[:3]]
            assert numbers == pytest.approx([mean, mean - half, mean + half], abs=0.0051)
    assert "in 15 windows" in page


def test_classes(experiment, page):
    """Samples, recall and decisions of each class, over the runs that are shown."""
    header, *rows = Cells(page).tables[3]
    shown = [json.loads((one.run.path / "result.json").read_text())["test"]["confusion"]
             for one in collect.read(experiment).shown]
    assert header == ["class", "samples", "recall", "decided"] and len(shown) > 1
    for n, row in enumerate(rows):
        there, decided = sum(sum(one[n]) for one in shown), sum(line[n] for one in shown for line in one)
        right = sum(one[n][n] for one in shown)
        assert row == ["abc"[n], str(there), f"{100 * right / there:.2f}", str(decided)]
    assert len(rows) == 3


def test_times(experiment, page):
    _, *rows = Cells(page).tables[4]
    for cells, row in zip(rows, ROWS):
        found = [json.loads((experiment / f"{row}-{p}-s{s}" / "result.json").read_text())["seconds"] for s, p in PAIRS]
        # 22 samples in batches of 4: 6 batches an epoch to retrain, 3 of a half to search; 2 and 4 epochs
        retrain = statistics.mean(1000 * one["retrain"] / (2 * 6) for one in found)
        assert float(cells[3]) == pytest.approx(retrain, abs=0.0501)
        if row in ("random", "feedforward"):
            assert cells[2] == "\N{EN DASH}"
        else:
            search = statistics.mean(1000 * (one["search-1"] + one["search-2"]) / (4 * 3) for one in found)
            assert float(cells[2]) == pytest.approx(search, abs=0.0501)


def test_iterations_are_those_that_were_done(experiment):
    one = next(one for one in collect.read(str(experiment)).runs if one.row == "hrmas")
    _, meta = arrayfile.load(one.run.checkpoint_path, "checkpoint")
    assert one.iterations() == (12, meta["position"]["updates"])


def test_single_runs(experiment, page):
    _, *rows = Cells(page).tables[5]
    assert len(rows) == len(ROWS) * len(PAIRS)
    for cells, (row, (seed, partition)) in zip(rows, [(row, pair) for row in ROWS for pair in sorted(
            PAIRS, key=lambda pair: (pair[1], pair[0]))]):
        share = raw_accuracy(experiment, row, seed, partition)
        assert cells[:4] == [row, "12", str(seed), partition]
        assert float(cells[4]) == pytest.approx(100 * share, abs=0.00501)
        for end in map(number, cells[5].split(" to ")):          # the ends solve (p - share)^2 = z^2 p (1 - p) / n
            p = end / 100
            assert (p - share) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / 9, abs=3e-4)
        lines = (experiment / f"{row}-{partition}-s{seed}" / "architecture.json")
        sizes = [layer["motif_size"] for layer in json.loads(lines.read_text())["layers"]] if lines.exists() else []
        assert cells[7] == (str(sizes[0]) if sizes else "\N{EN DASH}")


def test_the_numbers_as_json(experiment, page):
    found = json.loads((experiment / "numbers.json").read_text())
    assert [one["row"] for one in found["scores"]] == list(ROWS) and len(found["runs"]) == 20
    assert found == json.loads(json.dumps(tables.numbers(collect.read(str(experiment)))))


# ---- the page and its figures ---------------------------------------------------------------------------------------


FIGURES = {"accuracies", "loss-accuracy", "entropy", "rates-intrinsic", "intrinsic-end", "motif", "motifs", "weights",
           "confusion", "raster", "retraining"}


def test_the_page_stands_alone(page):
    assert not re.search(r"https?://|<link|<script|@import|url\(|<iframe", page)
    sources = re.findall(r'\b(?:src|href|data|action)="([^"]*)"', page)
    assert len(sources) == len(FIGURES) and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "<h1>A toy &amp; its rows</h1>" in page and "row &lt;hrmas&gt;" in page


def test_figures_lie_beside_it(experiment, page):
    for ending, begins in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        found = {path.stem: path for path in (experiment / "figures").glob(f"*.{ending}")}
        assert found.keys() == FIGURES
        assert all(path.read_bytes().startswith(begins) and path.stat().st_size > 3000 for path in found.values())


def test_captions_say_what_was_drawn(experiment, page):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    commit = json.loads((experiment / "hrmas-official-s0" / "manifest.json").read_text())["git"]["commit"][:7]
    assert len(captions) == len(FIGURES)
    for caption in captions:
        assert "ntidigits (synthetic stand-in: not the real recordings), 22 training and 9 test samples" in caption
        one = re.search("(with|of) seed 0|retraining, seed 0", caption)
        assert ("; seed 0;" if one else "; seeds 0\N{EN DASH}1, partitions official, resample-1;") in caption, caption
        assert "preset default, profile demo, data.steps=12, network.neurons=[12]" in caption and commit in caption
    assert any("plasticity.mode=off" in caption for caption in captions)
    assert "These runs used a synthetic stand-in." in page


def test_it_is_the_same_page_again_and_its_tables_are_printed(experiment, page, capsys):
    assert cli.main(["report", str(experiment)]) == 0
    assert (experiment / "report.html").read_text(encoding="utf-8") == page
    out = capsys.readouterr().out
    assert out.startswith("|  | neurons | differs in | n | best | mean | std |") and "report.html" in out
    assert "| mean difference |" in out and "| relaxed | reset | discrete | with IP |" in out


def test_a_row_of_several_settings_and_a_search_without_plasticity_are_called_so(tmp_path):
    pytest.importorskip("matplotlib", reason="REPORT NOT CHECKED: it needs the extra `plots`")
    folder = make(tmp_path / "toy", toys.cache(tmp_path / "toy.h5"), PAIRS[:2], {"hrmas": ("plasticity.mode=off",)})
    assert [label for label, _ in figures.with_and_without(collect.read(str(folder)))] == ["without IP, 2 runs"]
    path = folder / "hrmas-official-s1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["training"]["lr"] = 0.125
    path.write_text(json.dumps(manifest))
    assert cli.main(["report", str(folder)]) == 0
    assert "Not all runs of a row have the same settings: row &lt;hrmas&gt;." in (folder / "report.html").read_text()


@pytest.fixture
def copy(experiment, tmp_path):
    pytest.importorskip("matplotlib", reason="REPORT NOT CHECKED: it needs the extra `plots`")
    shutil.copytree(experiment, tmp_path / "copy", ignore=shutil.ignore_patterns("figures", "report.html"))
    return tmp_path / "copy"


def test_what_is_not_there_is_left_out_and_said(copy, capsys):
    (copy / "without-ip-official-s0" / "result.json").unlink()
    (copy / "hrmas-official-s0" / "search.h5").write_bytes(b"x")
    for path in copy.glob("*/manifest.json"):
        path.write_text(path.read_text().replace("toy.h5", "gone.h5"))
    assert cli.main(["report", str(copy)]) == 0
    page = (copy / "report.html").read_text()
    assert "Not finished, and so not in here: without-ip-official-s0." in page
    assert re.search(r"Figures that could not be drawn: intrinsic-end: .*search.h5.*; raster: .*gone.h5", page)
    assert "left out: raster" in capsys.readouterr().err
    assert {path.stem for path in (copy / "figures").glob("*.png")} == FIGURES - {"intrinsic-end", "raster"}
    for path in copy.glob("*/search.h5"):      # runs of a version that did not keep it
        path.unlink()
    with pytest.raises(InputError, match="did not keep search.h5"):
        figures.intrinsic(collect.read(str(copy)))


def test_real_recordings_that_are_a_part_are_called_so(tmp_path):
    pytest.importorskip("matplotlib", reason="REPORT NOT CHECKED: it needs the extra `plots`")
    folder = make(tmp_path / "toy", toys.cache(tmp_path / "toy.h5"), PAIRS[:1], {"hrmas": ()})
    assert cli.main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "The recordings are a part of the real recordings: 31 of about 4,950." in page
    assert "mean difference" not in page and "seed 0;" in page


def test_two_layers_and_two_sizes(tmp_path):
    pytest.importorskip("matplotlib", reason="REPORT NOT CHECKED: it needs the extra `plots`")
    events, runs = toys.cache(tmp_path / "toy.h5"), {}
    for neurons in ([12, 6], [24, 6]):
        name = f"hrmas-{neurons[0]}-s0"
        toys.run(tmp_path / "toy" / name, toys.settings(f"network.neurons={neurons}"), events)
        runs[name] = {"row": "hrmas", "neurons": neurons, "partition": "official", "seed": 0}
    write_record(tmp_path / "toy", runs, {"hrmas": ()})
    assert cli.main(["report", str(tmp_path / "toy")]) == 0
    assert "12 + 6" in (tmp_path / "toy/report.html").read_text()
    assert (tmp_path / "toy/figures/size.png").exists() and (tmp_path / "toy/figures/raster.png").exists()


# ---- mistakes ------------------------------------------------------------------------------------------------------


def complains(capsys, arguments, message):
    assert cli.main(["report", *map(str, arguments)]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err) and err.count("\n") == 1 and "Traceback" not in err


def test_mistakes(copy, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    complains(capsys, ["nothing"], "nothing: no experiment of that name in runs/out; experiments: none yet")
    for path in copy.glob("*/result.json"):
        path.unlink()
    complains(capsys, [copy], "no run has finished yet")
    for text in ("{}", "[", '{"schema": 1}'):
        (copy / "experiment.json").write_text(text)
        complains(capsys, [copy], "experiment.json")


@pytest.mark.parametrize("name", ["../copy/hrmas-official-s0", "/copy", "", ".."])
def test_a_record_that_leads_elsewhere_is_refused(copy, name):
    record = json.loads((copy / "experiment.json").read_text())
    record["runs"][name] = record["runs"].pop("hrmas-official-s0")
    (copy / "experiment.json").write_text(json.dumps(record))
    for read in (lambda: collect.read(str(copy)), lambda: status.rows(copy)):
        with pytest.raises(InputError, match="not the name of a folder in it"):
            read()


def test_without_matplotlib_it_says_what_to_install(experiment, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    complains(capsys, [experiment], "extra `plots`: .venv/bin/pip install -e \".\\[plots\\]\"")


def test_a_row_of_the_search_that_is_alone(tmp_path):
    """No baseline, no search: the tables are there all the same."""
    pytest.importorskip("matplotlib", reason="REPORT NOT CHECKED: it needs the extra `plots`")
    events = toys.cache(tmp_path / "toy.h5")
    rows = {"hrmas": (), "feedforward": ("network.recurrence=none",)}
    folder = make(tmp_path / "toy", events, PAIRS[:2], rows)
    for path in Path(folder).glob("hrmas-*/result.json"):
        path.unlink()
    assert cli.main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "row &lt;feedforward&gt;" in page and "The search" not in page
