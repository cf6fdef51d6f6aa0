"""Settings: what the files say, the layers, the round trip, and that every mistake is named."""

import dataclasses
import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import hrmas_sparse as hs
from hrmas_sparse.settings.load import RUNS, datasets, differences, from_dict, load
from hrmas_sparse.settings.schema import SECTIONS, NetworkConfig, TrainingConfig
from hrmas_sparse.storage.errors import InputError

ALL = datasets()
PAPER_SETS = {  # Table 1: tau_m, lr, batch, steps, epochs, neurons (N-TIDIGITS: Table 2), motif sizes
    "ti46": (16, 5e-4, 50, 100, 300, 400, 800, (5, 10, 16, 25, 40)),
    "ntidigits": (64, 5e-4, 50, 300, 200, 400, 400, (5, 10, 16, 25, 40)),
    "dvsgesture": (64, 1e-4, 20, 400, 60, 150, 512, (2, 4, 8, 16, 32)),
    "nmnist": (16, 5e-4, 50, 100, 30, 100, 512, (2, 4, 8, 16, 32)),
}


def refused(*parts, data="ti46", **kwargs):
    """The message with which `load` refuses; every part must be in it."""
    with pytest.raises(InputError) as caught:
        load(data, **kwargs)
    for part in parts:
        assert part in str(caught.value)


def test_datasets():
    assert {"dvsgesture", "fsdd", "nmnist", "ntidigits", "shd", "ssc", "ti46"} <= set(ALL) and sorted(ALL) == ALL
    assert not {"own", "presets"} & set(ALL)


@pytest.mark.parametrize("name", PAPER_SETS)
def test_table_1(name):
    c = load(name, preset="published")
    assert (c.network.tau_m, c.training.lr, c.training.batch, c.data.steps, c.training.search_epochs,
            c.training.retrain_epochs, c.network.neurons[0], c.network.motif_sizes) == PAPER_SETS[name]
    assert (c.network.tau_s, c.plasticity.tau_cal, c.profile, c.data.dataset) == (8, 16, "paper", name)


@pytest.mark.parametrize("name", ALL)
def test_presets_differ_where_they_say(name):
    names = {re.match(r"[\w.]+", d)[0] for d in differences(load(name), load(name, "published"))}
    if load(name).network.v_th is None:  # set from the data, whatever the preset
        names.add("network.v_th")
    assert names == {"network.v_th", "network.slope_cap", "training.lr", "search.alpha_lr", "search.alpha_clip",
                     "plasticity.gamma", "plasticity.mu"}
    demo = differences(load(name), load(name, profile="demo"))
    changed = ("training.search_epochs", "training.retrain_epochs") + ("training.schedule",) * (name == "ntidigits")
    assert all(d.startswith(changed) for d in demo)
    assert load(name, profile="demo").training.search_epochs >= 2    # both stages


@pytest.mark.parametrize("preset", ["default", "accurate", "published"])
@pytest.mark.parametrize("name", ALL)
def test_round_trip(name, preset):
    c = load(name, preset, overrides=["search.eta=1e-5", "network.neurons=[80, 160]", "network.motif_sizes=16"])
    again = from_dict(json.loads(json.dumps(c.as_dict())))
    assert again == c and again.fingerprint() == c.fingerprint() and not differences(c, again)
    assert c.search.eta == 1e-5 and c.network.neurons == (80, 160) and c.network.motif_sizes == (16,)
    lr_of_w = from_dict(load(name, preset).as_dict())
    assert lr_of_w.search.eta is None


def test_fingerprint_is_of_the_settings_not_of_the_labels():
    c = load("ti46")
    assert re.fullmatch("[0-9a-f]{12}", c.fingerprint())
    assert dataclasses.replace(c, profile="other").fingerprint() == c.fingerprint()
    assert load("ti46", overrides=["training.clip=2"]).fingerprint() != c.fingerprint()
    assert load("ti46", overrides=["training.clip=1"]).fingerprint() == c.fingerprint()


def test_differences():
    assert differences(load("ti46"), load("ti46", overrides=["training.lr=0.5"])) == ["training.lr: 0.002 != 0.5"]


def test_overrides_as_one_string_or_several():
    c = load("ti46", overrides=["network.neurons=800 data.value=count  training.lr=1e-3", "loss.name='cross_entropy'"])
    assert (c.network.neurons, c.data.value, c.training.lr, c.loss.name) == ((800,), "count", 1e-3, "cross_entropy")
    c = load("ti46", overrides="network.neurons=[400, 800] network.motif_sizes = [16, 25] network.tied=false")
    assert c.network.neurons == (400, 800) and c.network.motif_sizes == (16, 25) and c.network.tied is False
    assert load("ntidigits", overrides=["data.partition=ab"]).data.partition == "ab"
    assert load("ti46", overrides=["training.batch=5", "training.batch=7"]).training.batch == 7


def test_motif_sizes_must_divide_every_layer():
    refused("runs/ti46.toml", "network.motif_sizes", "[5, 10, 25, 40]", "[512]", "1, 2, 4, 8, 16, 32, 64",
            overrides=["network.neurons=512"])
    load("ti46", overrides=["network.neurons=512", "network.recurrence=none"])
    load("ti46", overrides=["network.neurons=12", "network.motif_sizes=12"])


@pytest.mark.parametrize("override, parts", [
    ("network.tau_mm=3", ["--set", "network.tau_mm", "nearest: network.tau_m"]),
    ("nework.tau_m=3", ["--set", "[nework]", "nearest: network"]),
    ("training.tau_m=3", ["nearest: network.tau_m"]),
    ("lr=3", ["section.key=value", "training.lr"]),
    ("training=3", ["section.key=value"]),
    ("training.lr", ["section.key=value"]),
    ("network.tau_m=0.5", ["--set", "network.tau_m", "at least 1", "0.5"]),
    ("network.tau_s=0", ["at least 1"]),
    ("network.tau_m=1e300", ["of at least 1 and at most 1e+06", "found 1e+300"]),
    ("network.w_inh=-1e300", ["of at least -1e+09 and at most 0"]),
    ("training.lr=1e10", ["at most 1e+09"]),
    ("network.v_th=0", ["above 0"]),
    ("network.w_inh=1", ["at most 0"]),
    ("network.w_exc=-0.1", ["at least 0"]),
    ("network.tied=1", ["true or false", "found 1"]),
    ("network.neurons=[]", ["a list of whole numbers"]),
    ("network.neurons=[80.0]", ["a list of whole numbers"]),
    ("network.neurons=[true]", ["a list of whole numbers"]),
    ("network.motif_sizes=[16, 16]", ["smallest first"]),
    ("network.motif_sizes=[16, 10]", ["smallest first"]),
    ("network.dtype=float23", ["nearest: float32"]),
    ("loss.name=pcs", ["nearest: psc"]),
    ("search.method=size network.recurrence=none", ["--set: search.method: expected hrmas where network.recurrence"]),
    ("loss.smoothing=0.1", ["--set: loss.smoothing: expected 0 where loss.name is psc", "found 0.1"]),
    ("training.weight_decay=600", ["--set: training.weight_decay", "at most 1 / training.lr = 500", "found 600"]),
    ("training.lr=3 training.weight_decay=0.5", ["training.weight_decay", "1 / training.lr = 0.333333"]),
    ("loss.target_period=101", ["at most data.steps = 100", "found 101"]),
    ("data.steps=70000", ["at most 65536"]),
    ("training.batch=0", ["a whole number of at least 1"]),
    ("training.batch=2.0", ["a whole number"]),
    ("training.batch=true", ["a whole number", "True"]),
    ("training.batch=many", ["a whole number", "'many'"]),
    ("training.lr=nan", ["finite"]),
    ("training.lr=inf", ["finite"]),
    ("training.lr=true", ["finite number"]),
    ("training.lr=1" + "0" * 400, ["finite"]),
    ("training.lr=1\nx = 2", ["found"]),
    ("training.lr=", ["found ''"]),
    ("training.betas=[0.9, 1.0]", ["below 1"]),
    ("training.betas=0.9", ["two numbers"]),
    ("search.eta=-1", ['"lr" or', "at least 0"]),
    ("search.stage1_fraction=1.5", ["at most 1"]),
    ("plasticity.mu=2", ["at most 1"]),
    ("plasticity.mode=on", ["window", "online", "off"]),
])
def test_bad_override(override, parts):
    refused(*parts, overrides=[override])


def test_what_is_refused_only_beside_another_value():
    both = load("ti46", overrides=["loss.name=cross_entropy loss.smoothing=0.1 training.weight_decay=500"])
    assert (both.loss.smoothing, both.training.weight_decay) == (0.1, 500.0)
    refused("runs/presets.toml [accurate]: loss.smoothing: expected 0", preset="accurate", overrides=["loss.name=psc"])
    assert load("ti46", "accurate", overrides=[
        "loss.name=psc loss.smoothing=0 network.readout=spiking network.windows=1"]).loss.name == "psc"


def test_bad_names():
    refused("ti4", "nearest: ti46", "ntidigits", data="ti4")
    refused("none.toml", data="none.toml")
    refused("preset", "default, accurate, published", "nearest: published", preset="publishd")
    refused("profile", "paper, demo", "runs/ti46.toml", profile="dmo")


def test_built_directly_it_is_checked_too():
    with pytest.raises(InputError, match=r"training.clip: expected .* above 0 and at most 1e\+09, found inf"):
        dataclasses.replace(load("ti46").training, clip=math.inf)
    assert dataclasses.replace(load("ti46").network, tau_m=2).tau_m == 2.0
    with pytest.raises(TypeError):
        TrainingConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        load("ti46").network.tau_m = 3.0
    assert NetworkConfig.section == "network"


def test_own_file(tmp_path):
    text = (RUNS / "ntidigits.toml").read_text()
    own = tmp_path / "own.toml"
    own.write_text(text.replace("steps = 300", "steps = 30").replace('default_profile = "paper"',
                                                                     'default_profile = "demo"'))
    c = load(str(own))
    assert c.data.steps == 30 and c.profile == "demo" and c.data.dataset == "ntidigits"
    for change, parts in [
        (("steps = 300", "step = 300"), ["own.toml", "data.step", "nearest: data.steps"]),
        (("steps = 300", ""), ["own.toml", "missing key data.steps"]),
        (("steps = 300", "steps = -1"), ["own.toml", "data.steps", "-1"]),
        (("steps = 300", "steps = "), ["own.toml", "not a TOML file", "line"]),
        (("[training]\nbatch = 50", "batch = 50"), ["own.toml", "network.batch", "training.batch"]),
        (("[data]", "lr = 1\n[data]"), ["own.toml", "lr", "training.lr"]),
        (("[data]", '["training.lr"]\nx = 1\n[data]'), ["own.toml", "[training.lr]; write lr = ... under [training]"]),
        (("[profile.demo.training]", "[profile.demo.trainig]"), ["own.toml [profile.demo]", "trainig"]),
        (("[profile.demo.training]", "[profiles.demo.training]"), ["own.toml", "demo"]),
    ]:
        own.write_text(text.replace(*change))
        refused(*parts, data=str(own), profile="demo")
    own.write_text(text.split("[profile")[0])
    refused("own.toml: expected at least one profile", "[profile.paper]", data=str(own))
    own.write_bytes(b"\xef\xbb\xbf" + text.encode())          # as an editor of Windows saves it
    assert load(str(own), profile="demo") == load("ntidigits", profile="demo")
    own.write_bytes(b"\xff\xfe")
    refused("own.toml", "not a TOML file", data=str(own))


def test_from_dict_names_its_origin():
    d = load("ti46").as_dict()
    d["training"]["lr"] = -1
    with pytest.raises(InputError, match="manifest: training.lr: expected .* found -1"):
        from_dict(d, origin="manifest")
    del d["training"]["lr"]
    with pytest.raises(InputError, match="manifest: missing key training.lr"):
        from_dict(d, origin="manifest")
    with pytest.raises(InputError, match="manifest: preset"):
        from_dict({}, origin="manifest")
    with pytest.raises(InputError):
        from_dict(None)


def test_the_documentation_has_every_key_and_only_those():
    """A new setting touches schema.py, the code that uses it, and its line in docs/settings.md."""
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+\.\w+)` \|", text, re.M)
    keys = [f"{section}.{f.name}" for section, cls in SECTIONS.items() for f in dataclasses.fields(cls)]
    assert sorted(rows) == sorted(keys)


def resolved():
    return json.loads(Path(__file__).with_name("resolved.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("which", resolved())
def test_resolved_settings_are_what_they_were(which):
    """A setting that is new since has its default, with which a run is what it was."""
    sections = load(*which.split()).as_dict()
    found = {f"{section}.{key}": value for section in SECTIONS for key, value in sections[section].items()}
    before = resolved()[which]
    assert {key: found[key] for key in before} == before
    for key in found.keys() - before.keys():
        section, name = key.split(".")
        field, = (f for f in dataclasses.fields(SECTIONS[section]) if f.name == name)
        assert found[key] == (field.metadata["none"] if field.default is None else field.default)


@pytest.mark.parametrize("preset", ["default", "accurate", "published"])
def test_every_preset_is_complete(preset, tmp_path):
    """With the settings of a data set, which say nothing that a preset is for."""
    assert load("ti46", preset).preset == preset
    assert hs.settings(preset=preset).preset == preset
    presets = tomllib.loads((RUNS / "presets.toml").read_text())
    same = [f"{section}.{key}" for section, values in presets[preset].items() if preset != "default"
            for key, value in values.items() if presets["default"].get(section, {}).get(key) == value]
    assert not same, f"[{preset}] repeats default"


def test_own_data_needs_no_name():
    own = hs.settings()
    assert (own.data.dataset, own.network.v_th, own.as_dict()["network"]["v_th"]) == ("own", None, "auto")
    small = hs.settings(profile="demo", set={"network.neurons": np.array([80]), "network.v_th": 5,
                                             "training.lr": np.float64(0.01)})
    assert (small.network.neurons, small.network.v_th, small.training.lr) == ((80,), 5.0, 0.01)
    assert from_dict(own.as_dict()) == own and "own" not in datasets()


def test_settings_from_python():
    settings = hs.settings("ti46", preset="default", profile="paper",
                           set={"network.neurons": [400], "training.retrain_epochs": 50})
    assert settings == load("ti46", overrides="network.neurons=[400] training.retrain_epochs=50")
    assert hs.settings(RUNS / "ti46.toml") == hs.settings("ti46")
    for arguments, message in [
        ({"set": {"neurons": 5}}, 'expected "section.key", found \'neurons\'; did you mean network'),
        ({"set": {"network.neuron": 5}}, "set: unknown key network.neuron; nearest: network.neurons"),
        ({"set": {3: 5}}, 'expected "section.key", found 3'), ({"set": 3}, "found 3"),
        ({"preset": ["x"]}, "preset: expected one of"), ({"profile": 5}, "profile: expected one of"),
        ({"name": "ti4"}, "nearest: ti46"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            hs.settings(**{"name": "ti46"} | arguments)
