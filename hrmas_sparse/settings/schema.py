"""What settings there are: frozen dataclasses, one a section, validated when built; load.py reads them from files.

A section refuses a bad value however it is built, by an `InputError` with key, expectation and finding. Every key is
explained in docs/settings.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from hrmas_sparse.settings import validators
from hrmas_sparse.settings.validators import shown
from hrmas_sparse.storage.errors import InputError

LOSSES = ("psc", "cross_entropy")  # names of the losses; engine/losses.py has one of each


def _setting(check: validators.Check, default: Any = dataclasses.MISSING, *, none: str | None = None) -> Any:
    """A field that passes `check`. `none` is the word that stands for None in files."""
    return dataclasses.field(default=default, metadata={"check": validators.word(none, check) if none else check,
                                                        "none": none})


class InvalidSetting(InputError):
    """An InputError that knows its key, so that `load` can name the file it came from."""

    def __init__(self, section: str, key: str, message: str) -> None:
        super().__init__(f"{section}.{key}: {message}")
        self.section, self.key = section, key


@dataclass(frozen=True, kw_only=True)
class _Section:
    """Base of the sections: every field passes its check when the section is built."""

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            try:
                object.__setattr__(self, f.name, f.metadata["check"](value))
            except ValueError as error:
                self._refuse(f.name, f"expected {error}, found {shown(value)}")

    def _refuse(self, key: str, message: str) -> NoReturn:
        raise InvalidSetting(self.section, key, message) from None


@dataclass(frozen=True, kw_only=True)
class DataConfig(_Section):
    """What goes into the spike cache. One step is what the data set's encoding makes it."""

    section = "data"
    dataset: str = _setting(validators.name)
    encoding: str = _setting(validators.choice("bsa", "intensity", "bin", "given"))
    value: str = _setting(validators.choice("binary", "count"), "binary")
    steps: int = _setting(validators.integer(1, 65536))               # the cache holds steps as uint16
    partition: str = _setting(validators.partition, "official")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(_Section):
    """Layers and neurons. v_th and v_th_out are in units of tau_s, surrogate_width in units of v_th.

    v_th None ("auto" in files): set once, from a batch of the training part.
    """

    section = "network"
    neurons: tuple[int, ...] = _setting(validators.integers(1))       # one entry per hidden layer
    recurrence: str = _setting(validators.choice("motif", "full", "none"))
    motif_sizes: tuple[int, ...] = _setting(validators.integers(1))
    tied: bool = _setting(validators.boolean)
    inter: bool = _setting(validators.boolean)
    tau_m: float = _setting(validators.real(1.0, validators.LONGEST))  # steps
    tau_s: float = _setting(validators.real(1.0, validators.LONGEST))  # steps
    v_th: float | None = _setting(validators.real(0.0, above=True), none="auto")
    v_th_out: float = _setting(validators.real(0.0, above=True))
    readout: str = _setting(validators.choice("spiking", "integrator"), "spiking")
    windows: int = _setting(validators.integer(1), 1)                 # integrator only
    w_exc: float = _setting(validators.real(0.0), 0.2)
    w_inh: float = _setting(validators.real(-validators.LARGEST_REAL, 0.0), -2.0)
    slope_cap: float = _setting(validators.real(0.0, above=True))
    surrogate_width: float = _setting(validators.real(0.0, above=True))
    dtype: str = _setting(validators.choice("float32", "float64"), "float32")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.readout == "spiking" and self.windows != 1:
            self._refuse("windows", "expected 1 where network.readout is spiking: only integrators have windows, found "
                         f"{self.windows}")
        if self.recurrence != "motif":
            return
        sizes = self.motif_sizes
        if any(a >= b for a, b in zip(sizes, sizes[1:])):
            self._refuse("motif_sizes", f"expected different sizes, smallest first, found {shown(list(sizes))}")
        common = math.gcd(*self.neurons)
        bad = [v for v in sizes if common % v]
        if bad:
            divisors = _divisors(common)
            these = ", ".join(str(v) for v in divisors[:24]) + (" ..." if len(divisors) > 24 else "")
            self._refuse("motif_sizes", f"expected sizes that divide every layer's neurons (network.neurons) "
                         f"{shown(list(self.neurons))}, found {shown(bad)}; sizes that do: {these}")


def _divisors(number: int) -> list[int]:
    """All divisors, in order."""
    low = [v for v in range(1, math.isqrt(number) + 1) if number % v == 0]
    return low + [number // v for v in reversed(low) if v * v != number]


@dataclass(frozen=True, kw_only=True)
class LossConfig(_Section):
    """psc is the paper's loss [29]; cross_entropy, on softmax(softmax_scale * summed PSC), is ours."""

    section = "loss"
    name: str = _setting(validators.choice(*LOSSES))
    target_period: int = _setting(validators.integer(1))              # steps between the desired spikes
    softmax_scale: float = _setting(validators.real(0.0, above=True), 0.02)
    smoothing: float = _setting(validators.real(0.0, 1.0), 0.0)       # share of cross_entropy's target on all classes

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "psc" and self.smoothing:
            self._refuse("smoothing", "expected 0 where loss.name is psc: only cross_entropy's target is smoothed, "
                         f"found {self.smoothing}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(_Section):
    """How w learns. clip is the global gradient norm above which gradients are scaled down."""

    section = "training"
    batch: int = _setting(validators.integer(1))
    lr: float = _setting(validators.real(0.0, above=True))
    schedule: str = _setting(validators.choice("constant", "cosine"))
    betas: tuple[float, float] = _setting(validators.betas)
    clip: float = _setting(validators.real(0.0, above=True))
    rule: str = _setting(validators.choice("tssl-bp", "surrogate"), "tssl-bp")   # how gradients are made
    tau: str = _setting(validators.choice("fixed", "trained"), "fixed")           # of each hidden neuron, with w
    threshold: str = _setting(validators.choice("fixed", "trained"), "fixed")     # likewise, by its R
    weight_decay: float = _setting(validators.real(0.0), 0.0)         # decoupled from Adam
    dropout: float = _setting(validators.real(0.0, 0.99), 0.0)        # chance that a batch does without a hidden neuron
    search_epochs: int = _setting(validators.integer(1))
    retrain_epochs: int = _setting(validators.integer(1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr * self.weight_decay > 1:
            self._refuse("weight_decay", f"expected at most 1 / training.lr = {1 / self.lr:g}, found "
                         f"{self.weight_decay:g}: every step would turn the weights round")

    @property
    def trains(self) -> tuple[str, ...]:
        """Which of R and tau are trained: a neuron's threshold is, as its R (mathematics 5)."""
        return tuple(name for name, how in (("R", self.threshold), ("tau", self.tau)) if how == "trained")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(_Section):
    """How every training sample is changed anew each time it is drawn; all of it is ours, and off by default."""

    section = "augmentation"
    shift_steps: int = _setting(validators.integer(0, 65536), 0)      # shifts in time, uniform in -n .. n steps
    shift_channels: int = _setting(validators.integer(0, 65536), 0)   # shifts along the channels, likewise
    drop: float = _setting(validators.real(0.0, 1.0), 0.0)            # chance that a spike is left out
    stretch: float = _setting(validators.real(0.0, 0.9), 0.0)         # time times a factor, uniform in 1-n .. 1+n


ITERATION = 5  # training steps that an iteration of the search costs, about


@dataclass(frozen=True, kw_only=True)
class SearchConfig(_Section):
    """How the architecture is found: by HRMAS, at random, or random types at HRMAS's motif size ("size").

    eta None ("lr" in files): that of w.

    Of several candidates, trained shortly on one half of the training part, the best on the other half is retrained.
    """

    section = "search"
    method: str = _setting(validators.choice("hrmas", "size", "random"), "hrmas")
    alpha_order: str = _setting(validators.choice("first", "second"))
    alpha_lr: float = _setting(validators.real(0.0, above=True))
    alpha_betas: tuple[float, float] = _setting(validators.betas)
    alpha_clip: float = _setting(validators.real(0.0), 0.0)           # global norm; 0: not clipped
    alpha_init: float = _setting(validators.real(0.0), 1e-3)
    eta: float | None = _setting(validators.real(0.0), None, none="lr")
    stage1_fraction: float = _setting(validators.real(0.0, 1.0, above=True), 0.5)
    patience: int = _setting(validators.integer(0), 0)                # epochs without a change end a stage; 0: never
    decided: float = _setting(validators.real(0.0, 1.0), 0.9)         # ... if alpha is so sure
    candidates: int = _setting(validators.integer(1, 10_000), 1)
    candidate_epochs: int | None = _setting(validators.integer(1), None, none="equal")


@dataclass(frozen=True, kw_only=True)
class PlasticityConfig(_Section):
    """SpiKL-IP: window is the paper's separate pass, online adapts inside training passes."""

    section = "plasticity"
    mode: str = _setting(validators.choice("window", "online", "off"))
    tau_cal: float = _setting(validators.real(1.0, validators.LONGEST))  # steps
    gamma: float = _setting(validators.real(0.0))
    mu: float = _setting(validators.real(0.0, 1.0, above=True))       # desired mean rate, spikes a step
    retrain: bool = _setting(validators.boolean)
    carry_intrinsic: bool = _setting(validators.boolean)


def _plain(value: Any, none: str | None) -> Any:
    """A setting as JSON and TOML have it."""
    return none if value is None else list(value) if isinstance(value, tuple) else value


SECTIONS = {c.section: c for c in (DataConfig, NetworkConfig, LossConfig, TrainingConfig, AugmentationConfig,
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

    def __post_init__(self) -> None:
        if self.loss.target_period > self.data.steps:
            raise InvalidSetting("loss", "target_period", f"expected at most data.steps = "
                                  f"{self.data.steps}, found {self.loss.target_period}")
        if self.network.readout == "integrator" and self.loss.name == "psc":
            raise InvalidSetting("loss", "name", "expected cross_entropy where network.readout is integrator: psc "
                                  "compares spike trains, and integrators do not spike, found psc")
        if self.network.windows > self.data.steps:
            raise InvalidSetting("network", "windows", f"expected at most data.steps = {self.data.steps}, found "
                                  f"{self.network.windows}")
        if self.plasticity.retrain and self.network.recurrence == "none":
            raise InvalidSetting("plasticity", "retrain", "expected false where network.recurrence is none: only "
                                  "recurrent layers adapt")
        if self.plasticity.retrain and self.training.trains:
            raise InvalidSetting("plasticity", "retrain", "expected false where training.tau or training.threshold is "
                                  "trained: SpiKL-IP would move the same R and tau, found true")
        if self.search.method == "size" and self.network.recurrence != "motif":
            raise InvalidSetting("search", "method", "expected hrmas where network.recurrence is not motif: only "
                                  "motifs have a size to search for, found size")

    @property
    def stages(self) -> tuple[int, int]:
        """Epochs of the two stages of the search; both 0 where there is none."""
        epochs, method = self.training.search_epochs, self.search.method
        if self.network.recurrence != "motif" or method == "random":
            return 0, 0
        first = math.ceil(epochs * self.search.stage1_fraction)  # at least one: sizes must be learnt
        return first, 0 if method == "size" else epochs - first

    @property
    def candidate_epochs(self) -> int:
        """How long each candidate is trained; by default all together about as long as a search takes."""
        search = self.search
        return search.candidate_epochs or max(1, ITERATION * self.training.search_epochs // search.candidates)

    @property
    def choosing_epochs(self) -> int:
        """Epochs in which candidates are trained, all of them together; none where there is nothing to choose."""
        several = self.network.recurrence == "motif" and self.search.candidates > 1
        return self.search.candidates * self.candidate_epochs if several else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers (no None); `from_dict` gives back an equal Config."""
        d: dict[str, Any] = {"preset": self.preset, "profile": self.profile}
        for section in SECTIONS:
            d[section] = {f.name: _plain(getattr(getattr(self, section), f.name), f.metadata["none"])
                          for f in dataclasses.fields(SECTIONS[section])}
        return d

    def fingerprint(self) -> str:
        """Twelve hex digits of all settings; the labels preset and profile do not count."""
        sections = {k: v for k, v in self.as_dict().items() if k in SECTIONS}
        return hashlib.sha256(json.dumps(sections, sort_keys=True).encode()).hexdigest()[:12]
