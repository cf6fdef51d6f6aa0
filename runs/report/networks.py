"""Figures of single networks: the motif, the weights, a sample on its way through, who is taken for whom."""

import numpy as np

from hrmas_sparse.run import figure as drawing
from hrmas_sparse.engine.architecture import EXCITATORY, INHIBITORY, TYPE_NAMES
from hrmas_sparse.storage.errors import InputError
from hrmas_sparse.run.networks import load_trained
from hrmas_sparse.data.cache import open_cache, verify_cache
from runs.report.figures import GREY, INK, axes

CROWDED = 10  # neurons; larger motifs are drawn as two graphs, one for each type


def first_tied(study):
    """The first of the shown runs whose motifs share one topology, or None."""
    return next((run for run in study.shown if run.architecture and run.architecture[0].tied), None)


def motif(study):
    """The paper's Figure 6: the motif as a graph, and as a table; None if there is none."""
    run = first_tied(study)
    if run is None:
        return None
    architecture = run.architecture[0]
    kinds = [(EXCITATORY, INHIBITORY)] if architecture.motif_size <= CROWDED else [(EXCITATORY,), (INHIBITORY,)]
    figure, parts = axes(len(kinds) + 1, width=3.9 * (len(kinds) + 1), height=4.3)
    for axis, shown in zip(parts, kinds):
        drawing.motif_graph(axis, architecture, shown)
        if len(shown) == 1:
            axis.set_title(TYPE_NAMES[shown[0]], loc="center")
    drawing.motif_table(parts[-1], architecture)
    parts[-1].grid(False)
    return figure, (f"The motif of {architecture.motif_size} neurons found with seed {run.seed}, "
                    f"{run.test_in_words}. In the graph excitatory connections are solid and end in an arrow head, "
                    "inhibitory ones are dashed and end in a bar; squares are the corresponding neurons of the "
                    "previous (filled) and the next motif (open). The table has the same connections. The paper's "
                    "Figure 6."), [run]


def motifs(study):
    """The motifs of all seeds side by side, as tables; None if there is only one."""
    tied = [run for run in study.shown if run.architecture and run.architecture[0].tied][:10]
    if len(tied) < 2:
        return None
    columns = min(5, len(tied))
    rows = -(-len(tied) // columns)
    figure, parts = axes(columns, width=8.8, height=0.4 + 2.1 * rows, rows=rows, squeeze=False)
    for axis in parts.ravel():
        axis.set_axis_off()
    for axis, run in zip(parts.ravel(), tied):
        architecture = run.architecture[0]
        drawing.motif_table(axis, architecture)
        axis.set_axis_on()
        axis.grid(False)
        axis.get_legend().remove()
        axis.set(xlabel="", ylabel="", anchor="N")
        drawn = "" if run.partition == "official" else f", {run.partition}"
        axis.set_title(f"seed {run.seed}{drawn}: motif of {architecture.motif_size}", fontsize=7.5 if drawn else 8.5)
    return figure, ("The motifs of all seeds as tables; rows receive, columns send, right of the line the neighbouring "
                    "motifs. Orange (+) is excitatory, blue (\N{MINUS SIGN}) inhibitory, light none."), tied


def weights(study):
    """The paper's Figure 7: the recurrent matrix, and its corner; None without motifs."""
    finished = next((finished for finished in study.shown if finished.architecture), None)
    if finished is None:
        return None
    architecture = finished.architecture[0]
    links, values = drawing.recurrent_weights(finished.run, architecture)
    figure, (left, right) = axes(2, width=8.8, height=4.0)
    drawing.weight_matrix(left, links, values)
    shown = drawing.weight_corner(right, architecture, links, values)
    left.add_patch(drawing.patch("Rectangle", (0, 0), shown, shown, fill=False, edgecolor="k", linewidth=0.9))
    for axis in (left, right):
        axis.grid(False)
    stored = values.size / architecture.neurons**2
    return figure, (f"Recurrent weights after retraining, seed {finished.seed}: {values.size:,} connections, "
                    f"{100 * stored:.2f} % of a dense matrix. Left all of them (a dot stands for the largest weight "
                    "near it), right the corner in the frame. Inhibitory weights are fixed, excitatory ones trained. "
                    "The paper's Figure 7."), [finished]


def confusion(study):
    """Who is taken for whom, all shown runs together."""
    counts = np.sum([run.result["test"]["confusion"] for run in study.shown], axis=0)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = class_names(study)
    figure, axis = axes(1, width=5.4, height=4.6)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    if len(share) <= 15:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7.5,
                          color="w" if value > 55 else "k")
    figure.colorbar(image, ax=axis, shrink=0.8, label="% of the samples of a class")
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=90 if max(map(len, names)) > 2 else 0)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="decided", ylabel="true")
    axis.grid(False)
    return figure, (f"Confusion matrix on the test part: {counts.sum():,} decisions of "
                    f"{len(study.shown)} run{'s' * (len(study.shown) > 1)}."), study.shown


def class_names(study):
    """Names of the classes; numbers where the spike cache is gone."""
    finished = study.shown[0]
    try:
        return list(cache_of(finished).meta.class_names)
    except InputError:
        return [str(n) for n in range(len(finished.result["test"]["confusion"]))]


def cache_of(finished):
    """The spike cache a run was trained on.

    Raises
    ------
    InputError
        It is gone, or another one by now.
    """
    about = finished.manifest["data"]
    cache = open_cache(about.get("cache") or "?")
    if cache.meta.fingerprint != about["fingerprint"]:
        raise InputError(f"{cache.path}: not what {finished.run.name} was trained on")
    verify_cache(cache.path)
    return cache


def raster(study):
    """A test sample on its way through the first shown network."""
    finished = study.shown[0]
    cache = cache_of(finished)
    network, parameters = load_trained(finished.run, "cpu", cache.meta)
    events = cache.test[np.array([0])]
    outcome = network.evaluate(parameters, events, record=True)
    layers = [(events.step, events.channel, events.channels, "input channels")]
    for n, record in enumerate(outcome.records):
        if "spikes" not in record:  # integrators
            continue
        step, neuron = np.nonzero(record["spikes"][0])
        last = n == len(outcome.records) - 1
        layers.append((step, neuron, network.layers[n].size, "output neurons" if last else
                       "hidden neurons" if len(outcome.records) == 2 else f"hidden layer {n + 1}"))
    of_whom = f"the input{', the hidden and the output' if network.spiking_output else ' and the hidden'} neurons"
    figure, parts = axes(1, width=8.8, height=1.7 * len(layers) + 0.6, rows=len(layers), sharex=True)
    names = cache.meta.class_names
    for axis, (step, neuron, size, label) in zip(parts, layers):
        height = 0.8 if size <= 40 else 1.6 if size <= 200 else size / 160       # of a mark, in neurons
        axis.vlines(step, neuron - height / 2, neuron + height / 2, color=INK, linewidth=0.9)
        axis.set(ylabel=label, ylim=(-0.5, size - 0.5), xlim=(-0.5, events.steps - 0.5))
    if network.spiking_output:
        if len(names) <= 30:
            parts[-1].set_yticks(range(len(names)), names, fontsize=5 if len(names) > 12 else 7)
        parts[-1].axhspan(events.labels[0] - 0.5, events.labels[0] + 0.5, color=GREY, alpha=0.2, linewidth=0)
    parts[-1].set_xlabel("step")
    right = "rightly" if outcome.predicted[0] == events.labels[0] else "wrongly"
    return figure, (f"One test sample ({cache.ids('test')[0]}, class {names[events.labels[0]]}, shaded) in the network "
                    f"of seed {finished.seed}: every spike of {of_whom}. The network "
                    f"decides {right} for {names[outcome.predicted[0]]}."), [finished]
