"""What a data set says about itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from hrmas_sparse.data.checks import MOST

SPLITS = ("train", "test")
PROVENANCES = ("real", "synthetic stand-in")


@dataclass(frozen=True)
class Meta:
    """What a cache says about itself.

    `encoding` holds every setting the events depend on, `fingerprint` identifies the raw data (names, sizes,
    contents), `provenance` is "real" or "synthetic stand-in".  `notes` counts what was dropped, saturated or
    repaired, for the user to see; it is written when the writer closes, so a reader counts in it as it goes.
    """

    dataset: str
    fingerprint: str
    encoding: dict[str, Any]
    steps: int
    channels: int
    classes: int
    class_names: tuple[str, ...]
    provenance: str = "real"
    notes: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "channels"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name} = {getattr(self, name)}: 1..{MOST} fit the cache")
        if self.classes < 1 or len(self.class_names) != self.classes:
            raise ValueError(f"{self.classes} classes, but {len(self.class_names)} class names")
        if self.provenance not in PROVENANCES:
            raise ValueError(f"provenance {self.provenance!r} is not one of {PROVENANCES}")
