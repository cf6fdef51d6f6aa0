"""The comparison of exported networks: what needs no other program."""

import shutil

import numpy as np
import pytest
import toys

import hrmas_sparse as hs
from runs.conformance import conformance, rules


@pytest.fixture
def run(tmp_path):
    events = toys.cache(tmp_path / "cache.h5")
    return hs.load_run(toys.run(tmp_path / "run", toys.settings("network.neurons=[12,6]"), events).path), events


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_table_of_a_run(run, tmp_path, capsys):
    run, data = run
    (tmp_path / "work").mkdir()
    conformance.compare(run, data.test[np.arange(len(data.test))], tmp_path / "work", {})
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("| NumPy", "| C"))]
    assert len(lines) == 2 and all("| 0, 0, 0 | 0 |" in line for line in lines)


def test_our_rule_is_ours_and_the_others_are_not(run, tmp_path):
    run, data = run
    events = data.test[np.arange(len(data.test))]
    run.params.layers[0].w[:] *= 4
    run.export(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        net = {name: file[name] for name in file.files}
    expected = [spikes > 0.5 for spikes in run.network.evaluate(run.params, events, record=True).spikes]
    assert expected[0].any()
    found = {name: rules.spikes(net, events.dense().astype(np.float32), rule) for name, rule in rules.RULES.items()}
    assert all(np.array_equal(a, b) for a, b in zip(found["norse"], expected))
    for name in set(rules.RULES) - {"norse"}:
        assert not np.array_equal(found[name][0], expected[0]), name
