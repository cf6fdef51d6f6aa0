"""Other divisions of a data set into training and test samples, made from the cache of the official one.

    resample-<n>   training and test part pooled and dealt out anew, class by class, each part as large as it was
    valid-<n>      the training part alone: a quarter of every class becomes the test part (to tune settings by)

n is the seed of the draw. The official test part has no place in valid-<n>.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.meta import SPLITS

DRAWN = ("resample", "valid")
_VALID_SHARE = 4  # one sample in four


def drawn(partition: str) -> bool:
    """Whether a partition is one of those made here."""
    return partition.partition("-")[0] in DRAWN


def drawn_from(partition: str, needed: tuple[str, ...]) -> tuple[str, ...]:
    """The official parts that must have samples for a drawn partition to have those that are needed."""
    return ("train",) if partition.startswith("valid") else needed


def samples(official: Dataset, partition: str) -> Iterator[tuple]:
    """Yield (split, id, label, step, channel, value) of a drawn partition; ids say where a sample comes from."""
    kind, _, number = partition.partition("-")
    rng = np.random.default_rng([DRAWN.index(kind), int(number)])
    sources = [split for split in (SPLITS if kind == "resample" else ("train",))
               if getattr(official, split) is not None]
    events = {split: getattr(official, split) for split in sources}
    ids = {split: official.ids(split) for split in sources}
    pool = [(split, n) for split in sources for n in range(len(events[split]))]
    labels = np.concatenate([events[split].labels for split in sources])
    test = np.zeros(len(pool), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = int((events["test"].labels == label).sum()) if "test" in events else len(members) // _VALID_SHARE
        test[rng.permutation(members)[:count]] = True
    for split in SPLITS:
        for k in np.flatnonzero(test == (split == "test")):
            source, n = pool[k]
            part, where = events[source], slice(*events[source].indptr[n:n + 2])
            yield (split, f"{source}/{ids[source][n]}", int(part.labels[n]), part.step[where], part.channel[where],
                   part.value[where])
