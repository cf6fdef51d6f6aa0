"""Settings: frozen dataclasses read from TOML, validated when built.

`load` merges these layers; each one overrides what stands above it:

1. ``runs/presets.toml``      ``[<preset>.<section>]``: what the paper leaves open (default, accurate, published)
2. ``runs/<dataset>.toml``    ``[<section>]``: the data set's own settings (the paper's Table 1)
3. the same file              ``[preset.<preset>.<section>]``: e.g. Table 1's learning rate in published
4. the same file              ``[profile.<profile>.<section>]``: how long to run (paper, demo)
5. ``--set section.key=value`` TOML values; a bare word is a string, one number is a list of one

A section refuses a bad value however it is built, by an `InputError` with key, expectation and finding.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hrmas_sparse import checks
from hrmas_sparse.errors import InputError

RUNS = Path(__file__).resolve().parent.parent / "runs"

# What each reader can make; a data set that is not listed is not restricted.
ENCODINGS = {"ti46": ("bsa", "intensity"), "fsdd": ("bsa", "intensity"),
             "ntidigits": ("bin",), "nmnist": ("bin",), "dvsgesture": ("bin",)}


def _setting(check: Callable, default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"check": check})


class _InvalidSetting(InputError):
    """An InputError that knows its key, so that `load` can name the file it came from."""

    def __init__(self, section: str, key: str, message: str):
        super().__init__(f"{section}.{key}: {message}")
        self.section, self.key = section, key


class _Section:
    """Base of the sections: every field passes its check when the section is built."""

    section: ClassVar[str]

    def __post_init__(self):
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            try:
                object.__setattr__(self, f.name, f.metadata["check"](value))
            except ValueError as error:
                self._refuse(f.name, f"expected {error}, found {value!r}")

    def _refuse(self, key: str, message: str):
        raise _InvalidSetting(self.section, key, message) from None


# --- the sections; every key is explained in docs/settings.md -----------------------------------

@dataclass(frozen=True, kw_only=True)
class DataConfig(_Section):
    """What goes into the spike cache. One step is what the data set's encoding makes it."""

    section = "data"
    dataset: str = _setting(checks.name)
    encoding: str = _setting(checks.choice("bsa", "intensity", "bin"))
    value: str = _setting(checks.choice("binary", "count"), "binary")
    steps: int = _setting(checks.integer(1, 65536))   # the cache holds steps as uint16
    partition: str = _setting(checks.partition, "official")

    def __post_init__(self):
        super().__post_init__()
        allowed = ENCODINGS.get(self.dataset, (self.encoding,))
        if self.encoding not in allowed:
            self._refuse("encoding", "expected " + " or ".join(json.dumps(a) for a in allowed)
                         + f" for the data set {self.dataset}, found {self.encoding!r}")
        if self.partition == "ab" and self.dataset != "ntidigits":
            self._refuse("partition", f"expected official, resample-1 or the like for {self.dataset}, found 'ab'")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(_Section):
    """Layers and neurons. v_th and v_th_out are in units of tau_s, surrogate_width in units of v_th."""

    section = "network"
    neurons: tuple[int, ...] = _setting(checks.integers(1))       # one entry per hidden layer
    recurrence: str = _setting(checks.choice("motif", "full", "none"))
    motif_sizes: tuple[int, ...] = _setting(checks.integers(1))
    tied: bool = _setting(checks.boolean)
    inter: bool = _setting(checks.boolean)
    tau_m: float = _setting(checks.real(1.0))                     # steps
    tau_s: float = _setting(checks.real(1.0))                     # steps
    v_th: float = _setting(checks.real(0.0, above=True))
    v_th_out: float = _setting(checks.real(0.0, above=True))
    w_exc: float = _setting(checks.real(0.0), 0.2)
    w_inh: float = _setting(checks.real(-math.inf, 0.0), -2.0)
    slope_cap: float = _setting(checks.real(0.0, above=True))
    surrogate_width: float = _setting(checks.real(0.0, above=True))
    dtype: str = _setting(checks.choice("float32", "float64"), "float32")

    def __post_init__(self):
        super().__post_init__()
        if self.recurrence != "motif":
            return
        sizes = self.motif_sizes
        if any(a >= b for a, b in zip(sizes, sizes[1:])):
            self._refuse("motif_sizes", f"expected different sizes, smallest first, found {list(sizes)}")
        common = math.gcd(*self.neurons)
        bad = [v for v in sizes if common % v]
        if bad:
            divisors = ", ".join(str(v) for v in range(1, common + 1) if common % v == 0)
            self._refuse("motif_sizes", f"expected sizes that divide every layer's neurons (network.neurons) "
                         f"{list(self.neurons)}, found {bad}; sizes that do: {divisors}")


@dataclass(frozen=True, kw_only=True)
class LossConfig(_Section):
    """psc is the paper's loss [29]; cross_entropy, on softmax(softmax_scale * summed PSC), is ours."""

    section = "loss"
    name: str = _setting(checks.choice("psc", "cross_entropy"))
    target_period: int = _setting(checks.integer(1))              # steps between the desired spikes
    softmax_scale: float = _setting(checks.real(0.0, above=True), 0.02)
    smoothing: float = _setting(checks.real(0.0, 1.0), 0.0)       # share of cross_entropy's target on all classes


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(_Section):
    """How w learns. clip is the global gradient norm above which gradients are scaled down."""

    section = "training"
    batch: int = _setting(checks.integer(1))
    lr: float = _setting(checks.real(0.0, above=True))
    schedule: str = _setting(checks.choice("constant", "cosine"))
    betas: tuple[float, float] = _setting(checks.betas)
    clip: float = _setting(checks.real(0.0, above=True))
    weight_decay: float = _setting(checks.real(0.0), 0.0)         # decoupled from Adam
    dropout: float = _setting(checks.real(0.0, 0.99), 0.0)        # chance that a batch does without a hidden neuron
    search_epochs: int = _setting(checks.integer(1))
    retrain_epochs: int = _setting(checks.integer(1))


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(_Section):
    """How every training sample is changed anew each time it is drawn; all of it is ours, and off by default."""

    section = "augmentation"
    shift_steps: int = _setting(checks.integer(0, 65536), 0)      # shifts in time, uniform in -n .. n steps
    shift_channels: int = _setting(checks.integer(0, 65536), 0)   # shifts along the channels, likewise
    drop: float = _setting(checks.real(0.0, 1.0), 0.0)            # chance that a spike is left out


@dataclass(frozen=True, kw_only=True)
class SearchConfig(_Section):
    """How the architecture is found: by HRMAS, or drawn at random. eta None ("lr" in TOML): that of w."""

    section = "search"
    method: str = _setting(checks.choice("hrmas", "random"), "hrmas")
    alpha_order: str = _setting(checks.choice("first", "second"))
    alpha_lr: float = _setting(checks.real(0.0, above=True))
    alpha_betas: tuple[float, float] = _setting(checks.betas)
    alpha_clip: float = _setting(checks.real(0.0), 0.0)           # global norm; 0: not clipped
    alpha_init: float = _setting(checks.real(0.0), 1e-3)
    eta: float | None = _setting(checks.eta, None)
    stage1_fraction: float = _setting(checks.real(0.0, 1.0, above=True), 0.5)


@dataclass(frozen=True, kw_only=True)
class PlasticityConfig(_Section):
    """SpiKL-IP: window is the paper's separate pass, online adapts inside training passes."""

    section = "plasticity"
    mode: str = _setting(checks.choice("window", "online", "off"))
    tau_cal: float = _setting(checks.real(1.0))                   # steps
    gamma: float = _setting(checks.real(0.0))
    mu: float = _setting(checks.real(0.0, 1.0, above=True))       # desired mean rate, spikes a step
    retrain: bool = _setting(checks.boolean)
    carry_intrinsic: bool = _setting(checks.boolean)


_SECTIONS = {c.section: c for c in (DataConfig, NetworkConfig, LossConfig, TrainingConfig, AugmentationConfig,
                                    SearchConfig, PlasticityConfig)}


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run. preset and profile are labels: they say how the numbers were chosen."""

    data: DataConfig
    network: NetworkConfig
    loss: LossConfig
    training: TrainingConfig
    augmentation: AugmentationConfig
    search: SearchConfig
    plasticity: PlasticityConfig
    preset: str
    profile: str

    def __post_init__(self):
        if self.loss.target_period > self.data.steps:
            raise _InvalidSetting("loss", "target_period", f"expected at most data.steps = "
                                  f"{self.data.steps}, found {self.loss.target_period}")
        if self.plasticity.retrain and self.network.recurrence == "none":
            raise _InvalidSetting("plasticity", "retrain", "expected false where network.recurrence is none: only "
                                  "recurrent layers adapt")

    def as_dict(self) -> dict:
        """Plain dicts, lists, strings and numbers (no None); `from_dict` gives back an equal Config."""
        d = {"preset": self.preset, "profile": self.profile}
        for section in _SECTIONS:
            values = dataclasses.asdict(getattr(self, section))
            d[section] = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        if self.search.eta is None:
            d["search"]["eta"] = "lr"
        return d

    def fingerprint(self) -> str:
        """Twelve hex digits of all settings; the labels preset and profile do not count."""
        sections = {k: v for k, v in self.as_dict().items() if k in _SECTIONS}
        return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()[:12]


def from_dict(d: dict, origin: str = "settings") -> Config:
    """Config from `Config.as_dict`, e.g. out of a run's manifest; `origin` is named in errors."""
    if not isinstance(d, dict):
        raise InputError(f"{origin}: expected a table of settings, found {d!r}")
    labels = {}
    for label in ("preset", "profile"):
        labels[label] = d.get(label)
        if not isinstance(labels[label], str):
            raise InputError(f"{origin}: {label}: expected a name, found {labels[label]!r}")
    sections = {k: v for k, v in d.items() if k not in labels}
    return _build([(origin, sections)], **labels)


def with_overrides(settings: Config, overrides: Sequence[str]) -> Config:
    """The same settings with "section.key=value" overrides as `load` takes them."""
    sections = {k: v for k, v in settings.as_dict().items() if k in _SECTIONS}
    layers = [("settings", sections), *(("--set", _parse_override(text)) for text in _split_overrides(overrides))]
    return _build(layers, preset=settings.preset, profile=settings.profile)


def differences(a: Config, b: Config) -> list[str]:
    """The settings in which two runs differ, as "section.key: a != b"."""
    da, db = a.as_dict(), b.as_dict()
    return [f"{section}.{key}: {value!r} != {db[section][key]!r}" for section in _SECTIONS
            for key, value in da[section].items() if value != db[section][key]]


# --- reading and merging -------------------------------------------------------------------------

def datasets() -> list[str]:
    """Data sets with a TOML in runs/."""
    return sorted(p.stem for p in RUNS.glob("*.toml") if p.stem != "presets")


def load(dataset_or_path: str, preset: str = "default", profile: str | None = None,
         overrides: Sequence[str] = ()) -> Config:
    """Read and merge the layers named at the top of this file.

    Parameters
    ----------
    dataset_or_path : a name from `datasets`, or a TOML file of the same form.
    preset : a table of runs/presets.toml; profile : one of the file, None for its `default_profile`.
    overrides : "section.key=value", each string one or several of them with spaces between.
    """
    path = _find(str(dataset_or_path))
    name, presets_name = _display(path), "runs/presets.toml"
    presets, table = _read(RUNS / "presets.toml"), _read(path)
    default_profile = table.pop("default_profile", "paper")
    if not isinstance(default_profile, str):
        raise InputError(f"{name}: default_profile: expected a name, found {default_profile!r}")
    of_preset, of_profile = (_tables(table.pop(key, {}), f"{name}: [{key}]") for key in ("preset", "profile"))
    if profile is None:
        profile = default_profile
    for label, value, known, where in (("preset", preset, presets, presets_name),
                                       ("profile", profile, of_profile, name)):
        if value not in known:
            raise InputError(f"{label}: expected one of {', '.join(known) or '(none)'} "
                             f"({where}), found {value!r}{_nearest(value, known)}")
    layers = [(f"{presets_name} [{preset}]", presets[preset]), (name, table),
              (f"{name} [preset.{preset}]", of_preset.get(preset, {})),
              (f"{name} [profile.{profile}]", of_profile[profile])]
    layers += [("--set", _parse_override(text)) for text in _split_overrides(overrides)]
    return _build(layers, preset=preset, profile=profile, missing_in=name)


def _build(layers: list[tuple[str, dict]], preset: str, profile: str, missing_in: str = "") -> Config:
    """Merge (origin, {section: {key: value}}) layers, later wins, and build the Config."""
    merged: dict = {section: {} for section in _SECTIONS}
    origins: dict = {}
    for origin, layer in layers:
        for section, values in _tables(layer, origin).items():
            if section not in _SECTIONS:
                raise InputError(f"{origin}: unknown section [{section}]{_nearest(section, _SECTIONS)}; "
                                 f"expected one of {', '.join(_SECTIONS)}")
            for key, value in values.items():
                if key not in _keys(section):
                    raise InputError(f"{origin}: unknown key {section}.{key}{_suggest(section, key)}")
                merged[section][key] = value
                origins[section, key] = origin
    missing_in = missing_in or layers[-1][0]
    try:
        built = {}
        for section, cls in _SECTIONS.items():
            for f in dataclasses.fields(cls):
                if f.default is dataclasses.MISSING and f.name not in merged[section]:
                    raise InputError(f"{missing_in}: missing key {section}.{f.name}")
            built[section] = cls(**merged[section])
        return Config(**built, preset=preset, profile=profile)
    except _InvalidSetting as error:
        origin = origins.get((error.section, error.key), missing_in)
        raise InputError(f"{origin}: {error}") from None


def _keys(section: str) -> list[str]:
    return [f.name for f in dataclasses.fields(_SECTIONS[section])]


def _nearest(word: Any, known) -> str:
    near = difflib.get_close_matches(str(word), list(known), 1, cutoff=0.5)
    return f"; nearest: {near[0]}" if near else ""


def _suggest(section: str, key: str) -> str:
    """A hint for a mistyped key: the same key in another section, the nearest one, or all of them."""
    elsewhere = [f"{s}.{key}" for s in _SECTIONS if key in _keys(s)]
    near = elsewhere or [f"{section}.{k}" for k in
                         difflib.get_close_matches(key, _keys(section), 1, cutoff=0.5)]
    hint = f"; nearest: {' or '.join(near)}" if near else ""
    return f"{hint}; expected one of {', '.join(_keys(section))}"


def _tables(value: Any, origin: str) -> dict:
    """`value`, if it is a table of tables."""
    if not isinstance(value, dict):
        raise InputError(f"{origin}: expected a table, found {value!r}")
    for key, table in value.items():
        if not isinstance(table, dict):
            hint = _suggest_section(key)
            raise InputError(f"{origin}: {key}: expected a table [{key}], found {table!r}{hint}")
    return value


def _suggest_section(key: str) -> str:
    return "".join(f"; did you mean {s}.{key}?" for s in _SECTIONS if key in _keys(s))


def _find(name: str) -> Path:
    if name in datasets():
        return RUNS / f"{name}.toml"
    if name.endswith(".toml") and Path(name).is_file():
        return Path(name)
    raise InputError(f"data set: expected one of {', '.join(datasets())} or the path of a TOML file, "
                     f"found {name!r}{_nearest(name, datasets())}")


def _display(path: Path) -> str:
    return f"runs/{path.name}" if path.parent == RUNS else str(path)


def _read(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{_display(path)}: cannot read it: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{_display(path)}: not a TOML file: {error}") from None


def _split_overrides(overrides: Sequence[str]) -> list[str]:
    texts = [overrides] if isinstance(overrides, str) else overrides
    return [part for text in texts
            for part in re.split(r"\s+(?=[A-Za-z_0-9.]+\s*=)", text.strip()) if part]


def _parse_override(text: str) -> dict:
    """"section.key=value" as {section: {key: value}}."""
    match = re.fullmatch(r"\s*([A-Za-z_0-9]+)\.([A-Za-z_0-9]+)\s*=\s*(.*?)\s*", text, re.DOTALL)
    if not match:
        hint = _suggest_section(text.partition("=")[0].strip())
        raise InputError(f"--set: expected section.key=value, found {text!r}{hint}")
    section, key, raw = match.groups()
    try:
        parsed = tomllib.loads(f"value = {raw}")
        value = parsed["value"] if len(parsed) == 1 else raw
    except tomllib.TOMLDecodeError:
        value = raw                                          # a bare word
    return {section: {key: value}}
