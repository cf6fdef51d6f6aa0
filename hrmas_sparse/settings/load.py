"""Read settings from TOML files, layer on layer; schema.py says what there is to set.

`settings` (Python) and `load` (the command line) merge these layers; each one overrides what stands above it:

1. ``runs/presets.toml``      ``[default.<section>]``: what the paper leaves open; then ``[<preset>.<section>]``:
                              where the preset (accurate, published) differs
2. ``runs/<dataset>.toml``    ``[<section>]``: the data set's own settings (the paper's Table 1)
3. the same file              ``[preset.<preset>.<section>]``: e.g. Table 1's learning rate in published
4. the same file              ``[profile.<profile>.<section>]``: how long to run (paper, demo)
5. ``set`` in Python: {"section.key": value}; ``--set section.key=value`` on the command line: TOML values, where a
   bare word is a string and one number a list of one

Data of one's own takes ``runs/own.toml`` in place of 2 to 4.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrmas_sparse.settings.schema import SECTIONS, Config, InvalidSetting
from hrmas_sparse.settings.validators import brief, nearest, shown
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.storage.records import NotToml, parsed_toml, read_toml

RUNS = Path(__file__).resolve().parents[2] / "runs"
OWN = "own"                       # runs/own.toml: settings for data that the user brings
NO_DATASET = ("presets", OWN)     # other files of runs/


Overrides = Mapping[str, Any] | Sequence[str]


def settings(name: str | os.PathLike[str] | None = None, preset: str = "default", profile: str | None = None,
             set: Mapping[str, Any] | None = None) -> Config:
    """Return the complete settings of a run.

    Parameters
    ----------
    name : str or path, optional
        A known data set ("ti46"), or a TOML file of the same form as those in ``runs/``. Without a name: the
        settings for data of one's own, ``runs/own.toml``.
    preset : str
        "default", "accurate" or "published".
    profile : str, optional
        How long to run: "paper" or "demo"; by default what the data set's file says.
    set : dict, optional
        Single settings, {"section.key": value}. ``docs/settings.md`` lists every key.

    Returns
    -------
    Config
        Frozen dataclasses, one a section: ``settings.network.neurons``.

    Raises
    ------
    InputError
        A name, key or value that there is not; the message names it, what was expected and the nearest right one.

    Examples
    --------
    >>> import hrmas_sparse as hs
    >>> settings = hs.settings("ti46", profile="demo", set={"network.neurons": [400]})
    >>> settings.network.neurons, settings.training.search_epochs
    ((400,), 6)
    """
    return load(OWN if name is None else name, preset, profile, {} if set is None else set)


def from_dict(d: dict[str, Any], origin: str = "settings") -> Config:
    """Config from `Config.as_dict`, e.g. out of a run's manifest; `origin` is named in errors."""
    if not isinstance(d, dict):
        raise InputError(f"{origin}: expected a table of settings, found {shown(d)}")
    labels: dict[str, Any] = {}
    for label in ("preset", "profile"):
        labels[label] = d.get(label)
        if not isinstance(labels[label], str):
            raise InputError(f"{origin}: {label}: expected a name, found {shown(labels[label])}")
    sections = {k: v for k, v in d.items() if k not in labels}
    return _build([(origin, sections)], **labels)


def with_overrides(settings: Config, overrides: Overrides) -> Config:
    """Return the same settings with overrides as `load` takes them."""
    sections = {k: v for k, v in settings.as_dict().items() if k in SECTIONS}
    return _build([("settings", sections), *_override_layers(overrides)],
                  preset=settings.preset, profile=settings.profile)


def differences(a: Config, b: Config) -> list[str]:
    """The settings in which two runs differ, as "section.key: a != b"."""
    da, db = a.as_dict(), b.as_dict()
    return [f"{section}.{key}: {value!r} != {db[section][key]!r}" for section in SECTIONS
            for key, value in da[section].items() if value != db[section][key]]


# --- reading and merging -------------------------------------------------------------------------

def datasets() -> list[str]:
    """Data sets with a TOML in runs/."""
    return sorted(p.stem for p in RUNS.glob("*.toml") if p.stem not in NO_DATASET)


def profiles(dataset_or_path: str | os.PathLike[str]) -> list[str]:
    """The profiles that a data set's file has."""
    return list(_read(_find(str(dataset_or_path))).get("profile", {}))


def load(dataset_or_path: str | os.PathLike[str], preset: str = "default", profile: str | None = None,
         overrides: Overrides = ()) -> Config:
    """Read and merge the layers named at the top of this file.

    Parameters
    ----------
    dataset_or_path : a name from `datasets`, or a TOML file of the same form.
    preset : a table of runs/presets.toml; profile : one of the file, None for its `default_profile`.
    overrides : {"section.key": value}, or "section.key=value", each string one or several of them with spaces between.
    """
    path = _find(str(dataset_or_path))
    name, presets_name = _display(path), "runs/presets.toml"
    presets, table = _read(RUNS / "presets.toml"), _read(path)
    default_profile = table.pop("default_profile", "paper")
    if not isinstance(default_profile, str):
        raise InputError(f"{name}: default_profile: expected a name, found {shown(default_profile)}")
    of_preset, of_profile = (_tables(table.pop(key, {}), f"{name}: [{key}]") for key in ("preset", "profile"))
    if profile is None:
        profile = default_profile
    if not of_profile:
        raise InputError(f"{name}: expected at least one profile, found none; add the line "
                         f"[profile.{default_profile}], and under it what that profile changes, if anything")
    for label, value, known, where in (("preset", preset, presets, presets_name),
                                       ("profile", profile, of_profile, name)):
        if not isinstance(value, str) or value not in known:
            raise InputError(f"{label}: expected one of {brief(', '.join(known), 200) or '(none)'} "
                             f"({where}), found {shown(value)}{_nearest(value, known)}")
    layers = [(f"{presets_name} [{label}]", presets[label]) for label in dict.fromkeys(("default", preset))]
    layers += [(name, table), (f"{name} [preset.{preset}]", of_preset.get(preset, {})),
               (f"{name} [profile.{profile}]", of_profile[profile])]
    return _build(layers + _override_layers(overrides), preset=preset, profile=profile, missing_in=name)


def _build(layers: list[tuple[str, dict[str, Any]]], preset: str, profile: str, missing_in: str = "") -> Config:
    """Merge (origin, {section: {key: value}}) layers, later wins, and build the Config."""
    merged: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    origins: dict[tuple[str, str], str] = {}
    for origin, layer in layers:
        for section, values in _tables(layer, origin).items():
            if section not in SECTIONS:
                hint = _suggest_section(section) or _nearest(section, SECTIONS)
                raise InputError(f"{origin}: unknown section [{brief(section)}]{hint}; expected one of "
                                 f"{', '.join(SECTIONS)}")
            for key, value in values.items():
                if key not in _keys(section):
                    raise InputError(f"{origin}: unknown key {section}.{brief(key)}{_suggest(section, key)}")
                merged[section][key] = value
                origins[section, key] = origin
    missing_in = missing_in or layers[-1][0]
    try:
        built: dict[str, Any] = {}
        for section, cls in SECTIONS.items():
            for f in dataclasses.fields(cls):
                if f.default is dataclasses.MISSING and f.name not in merged[section]:
                    raise InputError(f"{missing_in}: missing key {section}.{f.name}")
            built[section] = cls(**merged[section])
        return Config(**built, preset=preset, profile=profile)
    except InvalidSetting as error:
        origin = origins.get((error.section, error.key), missing_in)
        raise InputError(f"{origin}: {error}") from None


def _keys(section: str) -> list[str]:
    return [f.name for f in dataclasses.fields(SECTIONS[section])]


def _nearest(word: Any, known: Collection[str]) -> str:
    near = nearest(word, known, cutoff=0.5)
    return f"; nearest: {near[0]}" if near else ""


def _suggest(section: str, key: str) -> str:
    """A hint for a mistyped key: the same key in another section, the nearest one, or all of them."""
    elsewhere = [f"{s}.{key}" for s in SECTIONS if key in _keys(s)]
    near = elsewhere or [f"{section}.{k}" for k in nearest(key, _keys(section), cutoff=0.5)]
    hint = f"; nearest: {' or '.join(near)}" if near else ""
    return f"{hint}; expected one of {', '.join(_keys(section))}"


def _tables(value: Any, origin: str) -> dict[str, Any]:
    """`value`, if it is a table of tables."""
    if not isinstance(value, dict):
        raise InputError(f"{origin}: expected a table, found {shown(value)}")
    for key, table in value.items():
        if not isinstance(table, dict):
            hint = _suggest_section(key)
            raise InputError(f"{origin}: {brief(key)}: expected a table [{brief(key)}], found {shown(table)}{hint}")
    return value


def _suggest_section(key: str) -> str:
    section, dot, rest = str(key).partition(".")
    if dot and section in SECTIONS:
        return f"; write {brief(rest)} = ... under [{section}]"
    return "".join(f"; did you mean {s}.{key}?" for s in SECTIONS if key in _keys(s))


def _find(name: str) -> Path:
    if name == OWN or name in datasets():
        return RUNS / f"{name}.toml"
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    found = f"{shown(name)}, which is no file" if Path(name).suffix else shown(name)
    raise InputError(f"data set: expected one of {', '.join(datasets())} or the path of a TOML file, found {found}"
                     f"{_nearest(name.lower(), datasets())}")


def _display(path: Path) -> str:
    return f"runs/{path.name}" if path.parent == RUNS else str(path)


def _read(path: Path) -> dict[str, Any]:
    return read_toml(path, _display(path))


def _override_layers(overrides: Overrides) -> list[tuple[str, dict[str, Any]]]:
    """(origin, {section: {key: value}}) of each override."""
    if isinstance(overrides, Mapping):
        return [("set", _named_override(name, value)) for name, value in overrides.items()]
    if isinstance(overrides, str):
        overrides = [overrides]
    if not isinstance(overrides, Sequence) or not all(isinstance(text, str) for text in overrides):
        raise InputError(f'set: expected {{"section.key": value}}, found {shown(overrides)}')
    parts = [part for text in overrides for part in re.split(r"\s+(?=[A-Za-z_0-9.]+\s*=)", text.strip()) if part]
    return [("--set", _parse_override(text)) for text in parts]


def override_names(text: str) -> list[tuple[str, str]]:
    """(section, key) of each setting that a text for ``--set`` changes; InputError if it is none."""
    return [(section, key) for _, layer in _override_layers(text) for section, keys in layer.items() for key in keys]


def _named_override(name: Any, value: Any) -> dict[str, Any]:
    """{"section.key": value} as {section: {key: value}}; NumPy numbers and arrays become plain ones."""
    match = re.fullmatch(r"(\w+)\.(\w+)", name, re.ASCII) if isinstance(name, str) else None
    if not match:
        raise InputError(f'set: expected "section.key", found {shown(name)}{_suggest_section(name)}')
    return {match[1]: {match[2]: value.tolist() if hasattr(value, "tolist") else value}}


def _parse_override(text: str) -> dict[str, Any]:
    """"section.key=value" as {section: {key: value}}."""
    match = re.fullmatch(r"\s*([A-Za-z_0-9]+)\.([A-Za-z_0-9]+)\s*=\s*(.*?)\s*", text, re.DOTALL)
    if not match:
        hint = _suggest_section(text.partition("=")[0].strip())
        raise InputError(f"--set: expected section.key=value, found {shown(text)}{hint}")
    section, key, raw = match.groups()
    try:
        parsed = parsed_toml(f"value = {raw}", f"--set: {section}.{key}")
        value = parsed["value"] if len(parsed) == 1 else raw
    except NotToml:
        value = raw                                          # a bare word
    return {section: {key: value}}
