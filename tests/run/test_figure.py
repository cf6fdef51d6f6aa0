"""The picture of a run."""

import json
import shutil
import sys

import pytest
import toys

from hrmas_sparse import cli
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.run.figure import draw
from hrmas_sparse.run.folder import RunDir


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with a motif, and one without recurrence."""
    folder = tmp_path_factory.mktemp("figure")
    events = toys.cache(folder / "toy.h5", provenance="synthetic stand-in")
    return {way: toys.run(folder / way, toys.settings(*settings), events)
            for way, settings in (("motif", ()), ("untied", ("network.tied=false",)),
                                  ("feedforward", ("network.recurrence=none",)))}


@pytest.mark.parametrize("way", ["motif", "untied", "feedforward"])
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_it_is_drawn_and_names_its_data(finished, tmp_path, way, ending):
    pytest.importorskip("matplotlib", reason="FIGURES NOT CHECKED: they need the extra `plots`")
    path = tmp_path / f"run.{ending}"
    draw(finished[way], path)
    assert path.stat().st_size > 5000
    if ending == "svg":
        assert "synthetic stand-in" in path.read_text()


def test_a_run_without_a_test_part_is_drawn(finished, tmp_path):
    pytest.importorskip("matplotlib", reason="FIGURES NOT CHECKED: they need the extra `plots`")
    folder = shutil.copytree(finished["motif"].path, tmp_path / "run")
    result = json.loads((folder / "result.json").read_text()) | {"test": None}
    (folder / "result.json").write_text(json.dumps(result))
    draw(RunDir(folder), tmp_path / "run.svg")
    assert "no test part" in (tmp_path / "run.svg").read_text()


def test_a_bad_file_name_is_explained(finished, tmp_path):
    pytest.importorskip("matplotlib", reason="FIGURES NOT CHECKED: they need the extra `plots`")
    for path in (tmp_path / "run.nonsense", tmp_path / "nowhere" / "run.png"):
        with pytest.raises(InputError, match="cannot be written"):
            draw(finished["motif"], path)


def test_without_matplotlib_it_says_what_to_install(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["show", str(finished["motif"].path), "--figure", str(tmp_path / "run.png")]) == 2
    assert "extra `plots`" in capsys.readouterr().err
