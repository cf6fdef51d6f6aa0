"""Figures over many runs: how they learnt, what they score.

Each function takes a :class:`collect.Study` and returns a figure, the words under it and the runs it shows.
"""

import numpy as np

from hrmas_sparse import environment
from hrmas_sparse.storage.errors import Damaged, InputError
from hrmas_sparse.storage.records import fits
from hrmas_sparse.run.figure import COLOURS
from runs.plan import searches
from runs.report import collect, stats, tables

# Rows are told apart by line and mark, too.
INK, ACCENT, GREY = COLOURS[1], "#c44e00", "0.45"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9.5,
         "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True, "grid.color": "0.9",
         "grid.linewidth": 0.6, "legend.frameon": False, "svg.hashsalt": "hrmas_sparse",
         "figure.constrained_layout.use": True}
UNITS = {"R": "R", "tau": "steps"}
LINES = ((INK, "-"), (ACCENT, "--"))


def axes(columns, width=8.8, height=3.0, rows=1, **more):
    """A figure and its axes."""
    figure = environment.new_figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, **more)


def per_cent(values):
    """Fractions as numbers of per cent."""
    return 100 * np.asarray(values, float)


# ---- accuracies ------------------------------------------------------------------------------------------------


def accuracies(study):
    """Every run's test accuracy, and the mean of its row with its interval."""
    groups = list(study.groups.items())[::-1]
    figure, axis = axes(1, height=0.8 + 0.36 * len(groups))
    several = len(study.sizes) > 1
    for y, ((row, _), runs) in enumerate(groups):
        values = per_cent([run.accuracy for run in runs])
        offsets = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0]
        axis.scatter(values, y + np.array(offsets), s=14, facecolor="none", edgecolor=GREY, linewidth=0.9)
        interval = per_cent_interval(runs)
        error = None if interval is None else [[values.mean() - interval[0]], [interval[1] - values.mean()]]
        axis.errorbar(values.mean(), y, xerr=error, fmt="D" if row == study.record["baseline"] else "s", color=INK,
                      markersize=5, capsize=3, linewidth=1.4)
    axis.set_yticks(range(len(groups)), [row + (f", {_size(neurons)}" if several else "")
                                         for (row, neurons), _ in groups])
    low, high = axis.get_xlim()
    axis.set(xlabel="test accuracy (%)", ylim=(-0.6, len(groups) - 0.4), xlim=(max(low, 0), min(high, 100.5)))
    axis.grid(False, axis="y")
    return figure, ("Test accuracy of every run (circles), the mean of each row (filled; the diamond is the row the "
                    "others are compared with) and its 95 % t interval over runs"
                    + (", corrected for partitions that share samples." if len({run.partition for run in study.runs})
                       > 1 else ".")), study.runs


def per_cent_interval(runs):
    """95 % interval of the mean accuracy, corrected for several partitions of the data; None for one run."""
    plain, corrected = stats.intervals({run.pair: 100 * run.accuracy for run in runs}, runs[0].test_over_train)
    return corrected or plain


def _size(neurons):
    return " + ".join(f"{n:,}" for n in neurons)


def scaling(study):
    """Accuracy and time per iteration against the number of neurons."""
    figure, (left, right) = axes(2)
    rows = list(dict.fromkeys(row for row, _ in study.groups))
    for n, row in enumerate(rows):
        sizes = [neurons for neurons in study.sizes if (row, neurons) in study.groups]
        runs = [study.groups[row, neurons] for neurons in sizes]
        wide = [sum(neurons) for neurons in sizes]
        look = {"marker": "osD^vP"[n % 6], "linestyle": ("-", "--", ":", "-.")[n % 4], "label": row,
                "color": (INK, ACCENT, "0.35", "#009e73")[n % 4], "markersize": 5}
        left.plot(wide, [per_cent([run.accuracy for run in group]).mean() for group in runs], **look)
        right.plot(wide, [tables.milliseconds(group)[1] for group in runs], **look)
    left.set(xlabel="neurons", ylabel="test accuracy (%)", title="mean test accuracy")
    right.set(xlabel="neurons", ylabel="ms", title="time per batch of retraining")
    right.set_ylim(0)
    for axis in (left, right):
        axis.set_xticks(sorted({sum(neurons) for neurons in study.sizes}))
        axis.xaxis.set_major_formatter("{x:,.0f}")
    left.legend(fontsize=8)
    return figure, ("Mean test accuracy and wall clock per batch of retraining against the size of the hidden "
                    "layer."), study.runs


def retraining(study):
    """How each row of the first size learns the training part."""
    figure, (left, right) = axes(2)
    groups = [(row, runs) for (row, neurons), runs in study.groups.items() if neurons == study.sizes[0]]
    for n, (row, runs) in enumerate(groups):
        look = {"color": (INK, ACCENT, "0.35", "#009e73")[n % 4], "linestyle": ("-", "--", ":", "-.")[n // 4 % 4],
                "linewidth": 1.4}
        for axis, key, scale in ((left, "loss", 1), (right, "accuracy", 100)):
            epochs, mean, _ = series(runs, lambda line: line[key], ("retrain",))                      # noqa: B023
            axis.plot(epochs, scale * mean, label=row, **look)
            axis.set_xlabel("epoch of retraining")
    left.set(title="loss on the training part", ylabel="loss", yscale="log")
    right.set(title="accuracy on the training part", ylabel="%")
    right.legend(fontsize=8)
    return figure, ("Loss and accuracy on the training part during retraining, mean over the runs of a row"
                    + (f", at {_size(study.sizes[0])} neurons." if len(study.sizes) > 1 else ".")), runs_of(groups)


# ---- the search ------------------------------------------------------------------------------------------------


def series(runs, value, phases=("search-1", "search-2")):
    """Mean and standard deviation over runs of a number in each epoch's metrics.

    Returns
    -------
    epochs, mean, std, each (E,): as far as every run goes; std is 0 for one run
    """
    values = [_of_epochs(run, value, phases) for run in runs]
    length = min(map(len, values))
    values = np.array([curve[:length] for curve in values], float)
    spread = values.std(axis=0, ddof=1) if len(values) > 1 else 0 * values[0]
    return np.arange(1, length + 1), values.mean(axis=0), spread


def _of_epochs(run, value, phases):
    """A number of each epoch of a run."""
    try:
        return [_number(value(line)) for line in run.metrics if line["phase"] in phases]
    except (KeyError, IndexError, TypeError):
        raise Damaged(f"{run.run.metrics_path}: expected the numbers of every epoch, some are missing") from None


def _number(value):
    if not fits(value, float):
        raise TypeError
    return value


def stage_change(runs):
    """Number of epochs of stage 1, if all runs have as many and a second stage."""
    ends = {sum(line["phase"] == "search-1" for line in run.metrics) for run in runs}
    total = {sum(line["phase"].startswith("search") for line in run.metrics) for run in runs}
    return ends.pop() if len(ends) == 1 and ends != total else None


def curves(axis, groups, value, scale=1.0):
    """A line with a band for each (label, runs); the stages of the search are marked."""
    for (label, runs), (colour, line) in zip(groups, LINES):
        epochs, mean, std = series(runs, value)
        axis.plot(epochs, scale * mean, line, color=colour, linewidth=1.4, label=label)
        axis.fill_between(epochs, scale * (mean - std), scale * (mean + std), color=colour, alpha=0.16, linewidth=0)
    change = stage_change(runs_of(groups))
    if change:
        axis.axvline(change + 0.5, color=GREY, linewidth=1, linestyle=":")
        axis.text(change + 0.5, 1.0, " size chosen", transform=axis.get_xaxis_transform(), fontsize=7.5, color=GREY,
                  va="top")
    axis.set_xlabel("epoch of the search")


def with_and_without(study):
    """(label, runs) of the baseline, and without plasticity if the experiment has that; runs that have no search no."""
    groups = [("with IP" if study.shown and study.shown[0].settings.plasticity.mode != "off" else "without IP",
               study.shown), ("without IP", study.without_plasticity())]
    groups = [(label, [run for run in runs if any(line["phase"] == "search-1" for line in run.metrics)])
              for label, runs in groups]
    return [(f"{label}, {len(runs)} run{'s' * (len(runs) > 1)}", runs) for label, runs in groups if runs]


def runs_of(groups):
    """All runs of (label, runs)."""
    return [run for _, runs in groups for run in runs]


BAND = "Lines are means over the runs, bands one standard deviation; the dotted line is where the motif size is chosen."


def loss_and_accuracy(study):
    """The paper's Figures 8 and 9."""
    figure, (left, right) = axes(2)
    groups = with_and_without(study)
    curves(left, groups, lambda line: line["valid_loss"])
    curves(right, groups, lambda line: line["valid_accuracy"], 100)
    left.set(title="loss on the validation half", ylabel="loss")
    right.set(title="accuracy on the validation half", ylabel="%")
    left.legend(loc="upper right")
    which = "with and without intrinsic plasticity (IP; plasticity.mode=off)"
    text = (f"Loss and accuracy on the validation half of the training part during the search"
            f"{f', {which}' if len(groups) > 1 else ''}. At the right end the architecture is made discrete. {BAND} "
            "The paper's Figures 8 and 9.")
    return figure, text, runs_of(groups)


def entropies(study):
    """How decided alpha is."""
    figure, (left, right) = axes(2)
    groups = with_and_without(study)
    curves(left, groups, lambda line: line["type_entropy"])
    curves(right, groups, lambda line: line["size_entropy"])
    sizes = len(study.shown[0].settings.network.motif_sizes)
    for axis, kinds, title in ((left, 3, "types of connections"), (right, sizes, "motif size")):
        axis.axhline(np.log(kinds), color=GREY, linewidth=0.8)
        axis.set(title=title, ylabel="nats", ylim=(-0.03, np.log(kinds) * 1.08 + 0.01))
    left.legend(loc="lower left")
    text = ("Mean entropy of the distributions that alpha stands for: over the three types of each connection and over "
            f"the motif sizes (0 once one is chosen). The grey line is that of a uniform one. {BAND}")
    return figure, text, runs_of(groups)


def rates_and_intrinsic(study):
    """Firing rate, R and tau of the first hidden layer over the search."""
    figure, panels = axes(3)
    groups = with_and_without(study)
    curves(panels[0], groups, lambda line: line["rate1"], 100)
    panels[0].set(title="firing rate of the hidden layer", ylabel="% of the steps")
    for axis, key in zip(panels[1:], ("R", "tau")):
        curves(axis, groups, lambda line: line[f"{key}1"][1])                                         # noqa: B023
        axis.set(title=f"{_symbol(key)}, mean over neurons", ylabel=UNITS[key])
    panels[1].legend(loc="center right")
    text = ("Firing rate, R and \N{GREEK SMALL LETTER TAU} of the hidden layer during the search, mean over neurons in "
            f"each epoch; without IP R and \N{GREEK SMALL LETTER TAU} do not move. {BAND}")
    return figure, text, runs_of(groups)


def _symbol(key):
    return "R" if key == "R" else r"$\tau$"


def intrinsic(study):
    """R and tau of all neurons at the end of the search; None without plasticity.

    Raises
    ------
    InputError
        No run has kept them.
    """
    plastic = [run for run in study.shown if searches(run.settings) and run.settings.plasticity.mode != "off"]
    runs = [run for run in plastic if run.searched]
    if not runs:
        if plastic:
            raise InputError("these runs are of a version that did not keep search.h5, R and tau after the search")
        return None
    figure, panels = axes(2)
    tau_m = runs[0].settings.network.tau_m
    for axis, key in zip(panels, ("R", "tau")):
        values = intrinsic_values(runs, key)
        low, high = min(values.min(), tau_m), max(values.max(), tau_m)
        margin = 0.05 * (high - low) + 1e-3 * tau_m
        axis.hist(values, np.linspace(low - margin, high + margin, 50), weights=np.full(values.size, 100 / values.size),
                  color=INK, alpha=0.8)
        axis.axvline(tau_m, color=ACCENT, linewidth=1.4, linestyle="--")
        axis.text(tau_m, 1.0, " start ", transform=axis.get_xaxis_transform(), fontsize=8, color=ACCENT, va="top",
                  ha="left" if tau_m < (low + high) / 2 else "right")
        axis.set(title=_symbol(key), xlabel=UNITS[key], ylabel="% of the neurons")
    return figure, ("R and \N{GREEK SMALL LETTER TAU} of every hidden neuron at the end of the search, all runs "
                    f"together. All start at {tau_m:g} (dashed) and are kept between half and eight times that."), runs


def intrinsic_values(runs, key):
    """R or tau of every neuron of the first layer at the end of the search, of all runs."""
    return np.concatenate([_kept(run, f"intrinsic/{key}1") for run in runs if run.searched])


def _kept(run, name):
    """An array of a run's search.h5, a number a neuron."""
    values = run.searched.get(name)
    if values is None or values.shape != (run.settings.network.neurons[0],) or values.dtype.kind != "f":
        raise Damaged(f"{run.run.search_path}: {name}: expected a number for each of "
                      f"{run.settings.network.neurons[0]:,} neurons")
    return values


def in_full(runs):
    """What makes a figure repeatable: data, provenance, seeds, settings, commit."""
    return (f"Data: {collect.data_in_words(runs)}; {collect.which_in_words(runs)}; "
            f"{collect.settings_in_words(runs[0].settings)}; {collect.commits(runs)}.")
