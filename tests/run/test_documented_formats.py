"""docs/formats.md names every file, key, array and attribute that a search writes."""

import json
import re
from pathlib import Path

import h5py
import pytest
import toys

from hrmas_sparse.storage import arrayfile

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
NAMES = set(re.findall(r"`([^`\n]+)`", TEXT))
DATA = {"confusion", "sums"}  # what is below them is not keys
OWN = {"config"}              # docs/settings.md names its keys


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    return toys.run(folder / "run", toys.settings("network.neurons=[12,6]"), toys.cache(folder / "cache.h5"))


def general(name):
    """"rec1.alpha_3" -> "rec<n>.alpha_<v>", "rate2" -> "rate<n>"."""
    name = re.sub(r"alpha_\d+", "alpha_<v>", re.sub(r"\brec\d+", "rec<n>", name))
    return re.sub(r"\b(R|tau|rate|gradient_norm)\d+", r"\1<n>", name)


def keys(value):
    """All keys in a value of JSON, as the document writes them."""
    if isinstance(value, list):
        return {key for entry in value for key in keys(entry)}
    if not isinstance(value, dict):
        return set()
    below = {key for name, entry in value.items() if name not in DATA | OWN for key in keys(entry)}
    return {general(name) for name in value} | below


def missing(found):
    """Names that the document has neither by themselves nor as the last part of another."""
    there = NAMES | {name.lstrip(".").rpartition(".")[2] for name in NAMES if "<" not in name}
    return sorted(found - there)


def test_every_file_of_a_run(run):
    (run.path / "lock").touch()
    assert missing({path.name for path in run.path.iterdir()}) == []


@pytest.mark.parametrize("name", ["manifest.json", "architecture.json", "diagnosis.json", "result.json"])
def test_every_key(run, name):
    found = keys(json.loads((run.path / name).read_text(encoding="utf-8")))
    assert len(found) >= 5 and missing(found) == []


def test_every_key_of_the_metrics(run):
    found = keys(run.metrics())
    assert len(found) > 15 and missing(found) == []


@pytest.mark.parametrize("kind", ["checkpoint", "search", "weights"])
def test_every_array(run, kind):
    arrays, meta = arrayfile.load(run.path / f"{kind}.h5", kind)
    plain = {re.sub(r"^(w|alpha)_([mv])/.*", r"\1_\2/<parameter>", general(name)) for name in arrays}
    found = {re.sub(r"/w\d+$", "/w1", name) for name in plain} - {"parameters/w_out"}
    assert missing(found | keys(meta)) == []
    assert "`parameters/w1`, `w2`, ..., `w_out`" in TEXT


def test_everything_in_a_cache(tmp_path):
    with h5py.File(toys.cache(tmp_path / "cache.h5").path) as file:
        found = {*file.attrs, *file["train"], *file["train"]["step"].attrs}
    assert len(found) > 15 and missing(found) == []
