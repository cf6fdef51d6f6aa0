"""What is tried: a TOML file of ranges, one for each setting, see runs/tuning/ranges.toml."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from hrmas_sparse.settings.load import override_names
from hrmas_sparse.settings.schema import SECTIONS
from hrmas_sparse.settings.validators import nearest
from hrmas_sparse.storage import records
from hrmas_sparse.storage.errors import InputError
from runs.comparison.jobs import check_of

MOST_COMBINATIONS = 2_000   # that are looked at before the first trial
DEFAULT, METHODS = (Path(__file__).with_name(name) for name in ("ranges.toml", "methods.toml"))
_RANGE = {"low": (int, float), "high": (int, float), "log?": bool, "step?": (int, float)}


@dataclass(frozen=True)
class Range:
    """What one setting is chosen from.

    Attributes
    ----------
    name : "section.key", or the name of a choice between several settings at once
    low, high, log, step : a number; whole if both ends are
    choices : texts as for ``--set`` instead, or None
    """

    name: str
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[str, ...] | None = None

    def distribution(self) -> Any:
        """Return what Optuna draws from."""
        from optuna import distributions
        if self.choices is not None:
            return distributions.CategoricalDistribution(self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return distributions.IntDistribution(self.low, self.high, self.log, int(self.step or 1))
        return distributions.FloatDistribution(self.low, self.high, self.log, self.step)

    def points(self) -> tuple[Any, ...]:
        """Return the choices, or the ends of a number and what lies between them in the middle."""
        if self.choices is not None:
            return self.choices
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        if self.step:
            middle = self.low + self.step * round((middle - self.low) / self.step)
        if isinstance(self.low, int) and isinstance(self.high, int):
            middle = round(middle)
        return tuple(dict.fromkeys((self.low, middle, self.high)))

    def words(self, value: Any) -> str:
        """Return a value of this range as ``--set`` takes it."""
        return value if self.choices is not None else f"{self.name}={value!r}"


@dataclass(frozen=True)
class Ranges:
    """A file of ranges: ``prune`` per cent of the trials are given up at each epoch."""

    path: Path
    prune: float
    ranges: tuple[Range, ...]

    def overrides(self, values: dict[str, Any]) -> tuple[str, ...]:
        """Return the settings of a trial as ``--set`` takes them; ``values`` are {name: value}."""
        return tuple(one.words(values[one.name]) for one in self.ranges)

    def in_vain(self, check: Callable[[tuple[str, ...]], Any]) -> dict[tuple[str, str], str]:
        """Return the choices that no trial can have, as {(name of the range, choice): reason}.

        Such a choice goes with no end and no middle of the other ranges and none of their choices, where another one
        in its place does. Where these are too many combinations, the middles are left out, or nothing is looked at.

        Parameters
        ----------
        check : function (settings) that raises InputError where they do not go together
        """
        each = [one.points() for one in self.ranges]
        if math.prod(map(len, each)) > MOST_COMBINATIONS:
            each = [one.choices or (one.low, one.high) for one in self.ranges]
        if math.prod(map(len, each)) > MOST_COMBINATIONS:
            return {}
        left = {(one.name, choice) for one in self.ranges for choice in one.choices or ()}
        reasons: dict[tuple[str, str], str] = {}
        for values in itertools.product(*each):
            pairs = left.intersection((one.name, value) for one, value in zip(self.ranges, values) if one.choices)
            if not pairs:
                continue                        # each of them is known to go with something
            try:
                check(self.overrides({one.name: value for one, value in zip(self.ranges, values)}))
                left -= pairs
            except InputError as error:
                reasons |= dict.fromkeys(pairs, str(error))
        return {(one.name, choice): reasons[one.name, choice] for one in self.ranges for choice in one.choices or ()
                if (one.name, choice) in left and not left.issuperset((one.name, other) for other in one.choices or ())}

    def without(self, choices: Collection[tuple[str, str]]) -> "Ranges":
        """Return the same without some choices, each a pair (name of the range, choice)."""
        return dataclasses.replace(self, ranges=tuple(
            one if one.choices is None else dataclasses.replace(one, choices=tuple(
                choice for choice in one.choices if (one.name, choice) not in choices)) for one in self.ranges))


def read(path: Path | None) -> Ranges:
    """Return the ranges of a TOML file, by default runs/tuning/ranges.toml.

    Raises
    ------
    InputError
        An unknown setting, or a value that it cannot have; the message names it.
    """
    path = path or DEFAULT
    table = records.read_toml(path)
    prune = table.pop("prune", 0)
    if isinstance(prune, bool) or not isinstance(prune, (int, float)) or not 0 <= prune < 100:
        raise InputError(f"{path}: prune: expected per cent of at least 0 and below 100, found {prune!r}")
    found = []
    for section, keys in table.items():
        if not isinstance(keys, dict):
            raise InputError(f"{path}: {section}: expected a table [{section}], found {keys!r}")
        found += [_together(path, name, texts) for name, texts in keys.items()] if section == "set" else \
            [_one(path, section, key, value) for key, value in keys.items()]
    if not found:
        raise InputError(f"{path}: expected at least one setting with a range, found none")
    return Ranges(path, prune, tuple(found))


def of_method(path: Path | None, method: str, settings: dict[str, Any]) -> Ranges:
    """Return the ranges of a method of `hrmas compare`, by default those of runs/tuning/methods.toml.

    Parameters
    ----------
    path : of a file with a section [``method``], or None
    method : its name
    settings : those it has, which say what each may be

    Raises
    ------
    InputError
        An unknown setting, or a value that it cannot have; the message names it.
    """
    path = path or METHODS
    keys = records.read_toml(path).get(method)
    if not isinstance(keys, dict) or not keys:
        raise InputError(f"{path}: expected a section [{method}] with at least one range")
    found = []
    for key, value in keys.items():
        where = f"{path}: {method}.{key}"
        if key not in settings:
            near = nearest(key, settings)
            raise InputError(f"{where}: unknown setting" + (f"; nearest: {near[0]}" if near else ""))
        found.append(_range(where, key, value, check_of(key, settings[key])))
    return Ranges(path, 0, tuple(found))


def _together(path, name, texts):
    if not records.fits(texts, [str]) or not texts:
        raise InputError(f"{path}: set.{name}: expected a list of texts such as \"training.lr=1e-3\", found {texts!r}")
    for text in texts:
        try:
            names = override_names(text)
        except InputError as error:
            raise InputError(f"{path}: set.{name}: {error}") from None
        for section, key in names:
            _field(f"{path}: set.{name}: {section}.{key}", section, key)
    return Range(name, choices=tuple(texts))


def _field(where, section, key):
    """The field of the settings that a range is of."""
    if section == "data":
        raise InputError(f"{where}: the section data cannot be tuned: other spikes are another data set")
    fields = {field.name: field for field in dataclasses.fields(SECTIONS[section])} if section in SECTIONS else {}
    if key not in fields:
        near = nearest(key, fields) if fields else nearest(section, SECTIONS)
        raise InputError(f"{where}: unknown setting" + (f"; nearest: {near[0]}" if near else ""))
    return fields[key]


def _one(path, section, key, value):
    where = f"{path}: {section}.{key}"
    return _range(where, f"{section}.{key}", value, _field(where, section, key).metadata["check"])


def _range(where, name, value, check):
    if isinstance(value, list) and value:
        for one in value:
            _checked(where, check, one)
        return Range(name, choices=tuple(f"{name}={json.dumps(one)}" for one in value))
    known = {key.rstrip("?") for key in _RANGE}
    if not isinstance(value, dict) or not records.fits(value, _RANGE) or not value.keys() <= known:
        raise InputError(f"{where}: expected {{ low = 1, high = 2 }} or a list, found {value!r}")
    for end in ("low", "high"):
        _checked(where, check, value[end])
    if not value["low"] < value["high"] or (value.get("log") and (value["low"] <= 0 or "step" in value)):
        raise InputError(f"{where}: expected low below high, and above 0 and without a step where log is true, found "
                         f"{value!r}")
    if all(isinstance(value[end], int) for end in ("low", "high")) and not isinstance(value.get("step", 1), int):
        raise InputError(f"{where}: expected a whole step between whole numbers, found {value!r}")
    if not 0 < value.get("step", value["high"] - value["low"]) <= value["high"] - value["low"]:
        raise InputError(f"{where}: expected a step above 0 that fits between low and high, found {value!r}")
    low, high, step = (Fraction(str(value[key])) if key in value else None for key in ("low", "high", "step"))
    if step and (high - low) % step:
        raise InputError(f"{where}: expected high to be low and a number of whole steps, found {value!r}")
    return Range(name, **value)


def _checked(where, check, value):
    try:
        check(value)
    except ValueError as error:
        raise InputError(f"{where}: expected {error}, found {value!r}") from None
