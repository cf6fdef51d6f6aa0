"""Values that nobody expects: every one is taken or refused at once, with one line."""

import datetime
import json
import random
import time

import numpy as np
import pytest

import hrmas_sparse as hs
from hrmas_sparse.cli import main
from hrmas_sparse.settings import validators
from hrmas_sparse.settings.load import from_dict, load, with_overrides
from hrmas_sparse.settings.schema import SECTIONS

KEYS = sorted(f"{section}.{key}" for section, values in hs.settings().as_dict().items() if section in SECTIONS
              for key in values)
SECONDS = 2.0


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def anything(rng, depth=0):
    """A value of a random kind, some of them enormous."""
    kinds = [lambda: rng.choice([0, 1, -1, 2**31, 2**53, 2**63, 2**64, 10**12, 10**400, -10**400, 10**5000]),
             lambda: rng.choice([0.0, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), -float("inf"), 1e-9]),
             lambda: rng.randrange(-10**9, 10**12), lambda: rng.uniform(-3, 3),
             lambda: rng.choice(["", "motif", "lr", "auto", "x" * 10**5, "\x1b[2J", "\n", "\0", "é\udcff", "1e400"]),
             lambda: rng.choice([None, True, False, b"bytes", {1, 2}, object, 1j, datetime.date(2024, 1, 1)]),
             lambda: range(10**9),
             lambda: np.array(rng.choice([5, 2.5, [16], [[1, 2]], [], "x", [None]])),
             lambda: nested(rng.choice([1, 3, 3000])),
             lambda: [16] * rng.choice([2, 10**4]), lambda: list(range(1, rng.choice([3, 2000])))]
    if depth < 3:
        kinds += [lambda: [anything(rng, depth + 1) for _ in range(rng.randrange(4))],
                  lambda: tuple(anything(rng, depth + 1) for _ in range(rng.randrange(4))),
                  lambda: {"key": anything(rng, depth + 1)}]
    return rng.choice(kinds)()


def outcome(function, *arguments, **named):
    """What a call gives, or its one line; it may not take long."""
    began = time.process_time()
    try:
        found = function(*arguments, **named)
    except hs.InputError as error:
        found = str(error)
        assert "\n" not in found and "\x1b" not in found and len(found) < 1500, found
    assert time.process_time() - began < SECONDS
    return found


@pytest.mark.parametrize("seed", range(10))
def test_random_values_from_python(seed):
    rng = random.Random(seed)
    base = hs.settings()
    taken = 0
    for _ in range(300):
        change = {rng.choice(KEYS): anything(rng) for _ in range(rng.choice([1, 1, 2]))}
        found = outcome(hs.settings, set=change)
        if not isinstance(found, str):
            taken += 1
            assert from_dict(json.loads(json.dumps(found.as_dict()))) == found
        else:
            assert any(key in found for key in change)
        damaged = {**base.as_dict(), rng.choice(list(SECTIONS)): anything(rng)}
        assert isinstance(outcome(from_dict, damaged), str | type(base))
    assert taken


def text_of(rng):
    """The text of a value on the command line."""
    return rng.choice([
        "1" * rng.choice([1, 12, 20, 400, 5000]), "[" * rng.choice([1, 3000]), "[" * 3000 + "]" * 3000, "{a=" * 2000,
        "1" + "0" * rng.choice([12, 400, 5000]), "-" + "9" * 30, "1e400", "[1" + ",1" * 5000 + "]", "0x" + "f" * 5000,
        "1_0", "''", '"""', "\x00", "2024-01-01", "nan", "true", "[[], []]", "\\", "=",
        "".join(chr(rng.randrange(1, 300)) for _ in range(rng.randrange(40)))])


@pytest.mark.parametrize("seed", range(5))
def test_random_texts_from_the_command_line(seed):
    rng, base = random.Random(seed), load("ti46")
    for _ in range(200):
        text = " ".join(f"{rng.choice(KEYS)}={text_of(rng)}" for _ in range(rng.choice([1, 1, 2])))
        assert isinstance(outcome(with_overrides, base, [text]), str | type(base))


@pytest.mark.parametrize("seed", range(5))
def test_random_files(seed, tmp_path):
    rng, path = random.Random(seed), tmp_path / "own.toml"
    whole = (validators.Path(load.__globals__["RUNS"]) / "own.toml").read_text()
    for _ in range(100):
        key = rng.choice(KEYS)
        line = f"\n[{key.partition('.')[0]}]\n{key.partition('.')[2]} = {text_of(rng)}\n"
        cut = rng.randrange(len(whole))
        path.write_text(rng.choice([whole[:cut] + text_of(rng) + whole[cut:], whole + line, whole[:cut]]),
                        encoding="utf-8", errors="replace")
        found = outcome(hs.settings, path)
        assert not isinstance(found, str) or "own.toml" in found or "profile" in found


@pytest.mark.parametrize("change, message", [
    ({"network.neurons": 10**12}, "network.neurons: expected a list of whole numbers"),
    ({"network.neurons": [10**9], "network.motif_sizes": [7]}, "sizes that do: 1, 2, 4, 5"),
    ({"training.search_epochs": 10**400}, "training.search_epochs: expected a whole number of at least 1 and at most"),
    ({"network.v_th": 1e-300}, "v_th: expected \"auto\" or a finite number above 0 and at most 1e+09, no nearer to 0"),
    ({"network.w_inh": -5e-324}, "network.w_inh"), ({"plasticity.gamma": 1e-40}, "plasticity.gamma"),
    ({"training.batch": 10**5000}, "found a value too long to be shown"),
    ({"network.neurons": nested(3000)}, "network.neurons"), ({"network.neurons": [16] * 1001}, "network.neurons"),
])
def test_what_would_overflow_or_take_for_ever(change, message):
    assert message in outcome(hs.settings, set=change)


@pytest.mark.parametrize("text", ["0-99999999999", str(2**53), f"0,{2**53}", f"{2**53 - 2}-{2**53}", "9" * 5000,
                                  "0-10000", ",".join(["0-4999"] * 3), "1_0", "٣", "+1", "1.0", "0x1", "-", "--"])
def test_seeds_that_are_none(text):
    began = time.process_time()
    with pytest.raises(ValueError, match="a seed, a range or a list"):
        validators.seeds(text)
    assert time.process_time() - began < SECONDS
    assert validators.seeds(f"{2**53 - 1}") == [2**53 - 1] and len(validators.seeds("0-9999")) == 10_000


def test_partitions_without_end():
    with pytest.raises(ValueError, match="at most 1000 partitions"):
        validators.partitions("resample-1..999999")


@pytest.mark.parametrize("words", [
    ["search", "ntidigits", "--seeds", "0-99999999999"], ["search", "ntidigits", "--seeds", str(2**53)],
    ["experiment", "table3", "--jobs", "9" * 5000], ["experiment", "table3", "--jobs", "0"],
    ["experiment", "table3", "--neurons", "9" * 5000], ["compare", "ti46", "--partitions", "valid-1..999999"],
    ["evaluate", "run", "--split", "x" * 5000], ["x" * 5000], ["show", "\x1b[2J", "\n"],
])
def test_options_that_would_overflow(words, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and len(err) < 700 and "\x1b" not in err
