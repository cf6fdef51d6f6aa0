"""What is in a data set: numbers as text, one sample a class as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hrmas_sparse import environment
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.data.dataset import Dataset
from hrmas_sparse.data.meta import SPLITS, Meta
from hrmas_sparse.data.events import Events

_BLOCK = 1 << 22  # events counted at a time
_COLUMNS = 5  # of the picture
_BSA_STEP_MS = 1.6


def step_ms(meta: Meta) -> float | None:
    """Length of a step in milliseconds; None if the data set does not say."""
    for key, unit in (("step_ms", 1.0), ("bsa_steps_per_bin", _BSA_STEP_MS), ("frame_ms", 1.0)):
        if key in meta.encoding:
            return unit * meta.encoding[key]
    return None


def details(data: Dataset) -> list[str]:
    """Lines about time, each split and its channels, and the samples of every class."""
    meta = data.meta
    splits = {split: getattr(data, split) for split in SPLITS if getattr(data, split) is not None}
    step = step_ms(meta)
    length = f" of {step:g} ms = {meta.steps * step / 1000:.2f} s" if step else ""
    lines = [f"  a sample: {meta.steps} steps{length}"]
    for split, events in splits.items():
        lines += _of_split(split, events)
    counts = [np.bincount(events.labels, minlength=meta.classes).tolist() for events in splits.values()]
    width = max(len(name) for name in (*meta.class_names, "class"))
    lines.append(f"  {'class':<{width}}" + "".join(f"{split:>9}" for split in splits))
    for name, *count in zip(meta.class_names, *counts):
        lines.append(f"  {name:<{width}}" + "".join(f"{n:>9,}" for n in count))
    return lines


def _of_split(split: str, events: Events) -> list[str]:
    samples, length = len(events), np.diff(events.indptr)
    if not samples:
        return [f"  {split}: no sample"]
    bins = samples * events.steps * events.channels
    rate = np.sort(per_channel(events)) / samples
    last = last_steps(events)
    return [
        f"  {split}: {samples:,} samples, {len(events.step):,} events, {len(events.step) / bins:.2%} of the bins; "
        f"events a sample {length.min():,} to {length.max():,}, median {np.median(length):,.0f}",
        f"    last event in step {np.median(last):.0f} (median), {last.max()} at the latest; "
        f"silent samples {int((length == 0).sum()):,}",
        f"    a channel's events a sample: {rate[0]:.2f} least, {np.median(rate):.2f} median, {rate.mean():.2f} mean, "
        f"{rate[-1]:.2f} most; {int((rate == 0).sum()):,} of {events.channels:,} channels silent",
    ]


def per_channel(events: Events) -> np.ndarray:
    """Events of each channel over all samples, (channels,) int64."""
    counts = np.zeros(events.channels, dtype=np.int64)
    for begin in range(0, len(events.channel), _BLOCK):
        counts += np.bincount(events.channel[begin : begin + _BLOCK], minlength=events.channels)
    return counts


def last_steps(events: Events) -> np.ndarray:
    """The last step of each sample that has an event, (samples,) int64; 0 for a silent one."""
    length = np.diff(events.indptr)
    last = np.zeros(len(events), dtype=np.int64)
    last[length > 0] = events.step[events.indptr[1:][length > 0] - 1]
    return last


def raster(data: Dataset, path: Path, split: str = "train") -> None:
    """Draw the first sample of each class to `path` (PNG, PDF or SVG by its ending): time across, channels up.

    Raises
    ------
    InputError
        matplotlib is not installed, or `path` cannot be written.
    """
    try:
        environment.matplotlib()
    except ImportError:
        raise InputError(
            "a picture needs matplotlib, which is in the extra `plots`: .venv/bin/python -m pip install -e '.[plots]'"
        ) from None
    meta, events = data.meta, getattr(data, split)
    rows, step = -(-meta.classes // _COLUMNS), step_ms(meta)
    figure = environment.new_figure(figsize=(2.6 * _COLUMNS, 1.9 * rows + 0.8), layout="constrained")
    figure.suptitle(f"{meta.dataset}: one {split} sample of each class ({meta.provenance})")
    axes = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for label, (axis, name) in enumerate(zip(axes, meta.class_names)):
        axis.set_title(name, fontsize=9)
        _draw(axis, events, np.flatnonzero(events.labels == label), step or 1)
        axis.set(xlim=(0, meta.steps * (step or 1)), ylim=(-0.5, meta.channels - 0.5))
    for axis in axes[meta.classes :]:
        axis.set_visible(False)
    figure.supxlabel("time, ms" if step else "step", fontsize=9)
    figure.supylabel("input channel", fontsize=9)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:  # ValueError: an ending that names no format
        raise InputError(f"{path}: the picture cannot be written ({error})") from error


def _draw(axis, events: Events, samples: np.ndarray, step: float) -> None:
    if not len(samples):
        axis.text(0.5, 0.5, "no sample", transform=axis.transAxes, ha="center")
        return
    sample = events[samples[:1]]
    strength = sample.value / max(sample.value.max(initial=0), 1)
    colour = np.zeros((len(strength), 4))
    colour[:, 3] = 0.25 + 0.75 * strength if sample.value.dtype == np.float32 else 0.8
    marker = "|" if events.channels < 200 else "s"
    axis.scatter(sample.step * step, sample.channel, s=1, c=colour, marker=marker, linewidths=0.6)
