"""A picture of a run: how it learnt, the motif it found, the recurrent weights (needs the ``plots`` extra)."""

import numpy as np

from hrmas_sparse import environment
from hrmas_sparse.engine import architecture
from hrmas_sparse.engine.architecture import EXCITATORY, INHIBITORY, TYPE_NAMES
from hrmas_sparse.engine.recurrence import Discrete
from hrmas_sparse.environment import install
from hrmas_sparse.storage import arrayfile
from hrmas_sparse.storage.errors import InputError

# Told apart by lightness and by mark, not by hue alone.
COLOURS = ("#e69f00", "#0b4f8a", "#f4f4f4")
MARKS = ("+", "\N{MINUS SIGN}", "")


def draw(run, path):
    """Write a figure of a finished run to an image file (PNG, SVG, PDF by its ending).

    Raises
    ------
    InputError
        Matplotlib is missing, the run is unfinished, or the file cannot be written.
    """
    plots()
    if not run.finished:
        raise InputError(f"{run.path}: unfinished; a figure shows the whole run")
    architectures = architecture.load(run.architecture_path) if run.architecture_path.exists() else []
    figure = environment.new_figure(figsize=(4.6 + 7.8 * bool(architectures), 4.1))
    axes = figure.subplots(1, 1 + 2 * bool(architectures), squeeze=False)[0]
    _curves(axes[0], run.metrics())
    if architectures:
        motif_table(axes[1], architectures[0])
        weight_corner(axes[2], architectures[0], *recurrent_weights(run, architectures[0]))
    figure.suptitle(_title(run), fontsize=10)
    figure.tight_layout()
    save(figure, path)


def plots():
    """Return the package matplotlib.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return environment.matplotlib()
    except ImportError as error:
        raise InputError(f"a figure needs matplotlib, which is in the extra `plots`: {install('plots')}") from error


def save(figure, path, dpi=110):
    """Write a figure to a file; InputError if that cannot be done."""
    try:
        figure.savefig(path, dpi=dpi, bbox_inches="tight")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: cannot be written; give a name that ends in .png, .svg or .pdf") from error


def _title(run):
    manifest, test = run.manifest(), run.result()["test"]
    data = manifest["config"]["data"]["dataset"]
    if manifest["data"]["provenance"] != "real":
        data += f" ({manifest['data']['provenance']})"
    return (f"{data}, seed {manifest['seed']}, preset {manifest['config']['preset']}, "
            f"profile {manifest['config']['profile']}: "
            + (f"test accuracy {100 * test['accuracy']:.1f} %" if test else "no test part"))


def _curves(axis, lines):
    """Accuracy over all epochs; a line where a phase ends."""
    epochs = np.arange(1, len(lines) + 1)
    for key, style, label in (("accuracy", "-", "training"), ("valid_accuracy", "--", "validation")):
        values = [100 * line.get(key, np.nan) for line in lines]
        axis.plot(epochs, values, style, color=COLOURS[1] if key == "accuracy" else COLOURS[0], label=label)
    phases = [line["phase"] for line in lines]
    for n in range(1, len(phases)):
        if phases[n] != phases[n - 1]:
            axis.axvline(n + 0.5, color="0.6", linewidth=0.8)
    for phase in dict.fromkeys(phases):
        axis.text(phases.index(phase) + 1, 1, phase, rotation=90, fontsize=7, va="bottom", color="0.35")
    axis.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 101))
    axis.legend(loc="lower right", fontsize=8)


def motif_table(axis, architecture):
    """Types of the motif's connections; rows receive, columns send, the neighbours at the right."""
    if not architecture.tied:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "every connection has its own type", ha="center")
        return
    table = np.concatenate([architecture.intra_types, architecture.inter_types], axis=1)
    axis.imshow(table, cmap=_map(), vmin=0, vmax=2)
    if architecture.motif_size <= 16:
        for (row, column), kind in np.ndenumerate(table):
            axis.text(column, row, MARKS[kind], ha="center", va="center", color="k" if kind == 0 else "w", fontsize=9)
    if architecture.linked:
        axis.axvline(architecture.motif_size - 0.5, color="k", linewidth=1)
    axis.set(title=f"motif of {architecture.motif_size}", xlabel="sends (right of the line: neighbours)",
             ylabel="receives")
    axis.set_xticks([]), axis.set_yticks([])
    handles = [axis.scatter([], [], marker="s", s=60, color=colour, edgecolor="0.5", label=f"{mark or ' '} {name}")
               for mark, name, colour in zip(MARKS, TYPE_NAMES, COLOURS)]
    axis.legend(handles=handles, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)


def _map():
    from matplotlib.colors import ListedColormap
    return ListedColormap(COLOURS)


def recurrent_weights(run, architecture):
    """The first layer's links of a finished run, :class:`recurrence.Discrete`, and their weights."""
    arrays, _ = arrayfile.load(run.weights_path, "weights")
    net = run.config().network
    motif = Discrete(architecture, net.w_exc, net.w_inh)
    return motif, motif.effective({"w_exc": arrays["parameters/rec1.w_exc"]})


def weight_corner(axis, architecture, motif, weights):
    """The upper left corner of the recurrent weight matrix: a few motifs along the diagonal."""
    shown = min(architecture.neurons, 6 * architecture.motif_size)
    inside = (motif.source < shown) & (motif.target < shown)
    matrix = np.full((shown, shown), np.nan)
    matrix[motif.target[inside], motif.source[inside]] = weights[inside]
    image = axis.imshow(matrix, cmap="PuOr_r", vmin=-2, vmax=2, interpolation="nearest")
    axis.figure.colorbar(image, ax=axis, shrink=0.8, label="weight")
    axis.set(title=f"recurrent weights, {shown} of {architecture.neurons} neurons", xlabel="sends", ylabel="receives")
    return shown


def weight_matrix(axis, motif, weights, pixels=400):
    """The whole recurrent weight matrix, at most so many pixels wide: each shows the largest weight in it."""
    block = -(-motif.neurons // pixels)
    side = -(-motif.neurons // block)
    matrix = np.full((side, side), np.nan)
    order = np.argsort(np.abs(weights), kind="stable")              # of equal places the last assignment stays
    matrix[motif.target[order] // block, motif.source[order] // block] = weights[order]
    axis.imshow(matrix, cmap="PuOr_r", vmin=-2, vmax=2, interpolation="nearest",
                extent=(0, side * block, side * block, 0))
    axis.set(title=f"all {motif.neurons:,} \N{MULTIPLICATION SIGN} {motif.neurons:,}", xlabel="sends",
             ylabel="receives")


# ---- a motif as a graph ----------------------------------------------------------------------------------------


def motif_graph(axis, architecture, kinds=(EXCITATORY, INHIBITORY)):
    """A tied motif as a graph: neurons on a circle, who sends to whom, and what comes from the neighbouring motifs.

    Excitatory connections are solid and end in an arrow head, inhibitory ones are dashed and end in a bar.
    """
    v = architecture.motif_size
    angle = np.pi / 2 - 2 * np.pi * np.arange(v) / v
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) if v > 1 else np.zeros((1, 2))
    outward = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    scale = min(1.0, 0.35 + 3.2 / v)                                # of lines, heads and neurons
    radius = 0.13 * scale
    for target, source in zip(*np.nonzero(np.isin(architecture.intra_types, kinds))):
        kind = architecture.intra_types[target, source]
        if target == source:
            _loop(axis, place[target], outward[target], radius, kind, scale)
        else:
            _curve(axis, place[source], place[target], radius, kind, scale)
    if architecture.linked:
        _neighbours(axis, architecture, place, outward, radius, kinds, scale)
    for k, (x, y) in enumerate(place):
        axis.add_patch(patch("Circle", (x, y), radius, facecolor="w", edgecolor="k", linewidth=1.2 * scale, zorder=3))
        axis.text(x, y, str(k), ha="center", va="center", fontsize=max(4.5, 9 * scale), zorder=4)
    axis.set(xlim=(-1.62, 1.62), ylim=(-1.62, 1.62), aspect="equal")
    axis.set_axis_off()


def patch(name, *arguments, **look):
    """A shape of matplotlib.patches, by its name."""
    from matplotlib import patches
    return getattr(patches, name)(*arguments, **look)


def _look(kind, scale):
    line = "-" if kind == EXCITATORY else (0, (3, 1.6))
    return {"color": COLOURS[kind], "linewidth": 1.7 * scale**1.7, "linestyle": line}


def _curve(axis, start, end, radius, kind, scale):
    """A bent line between two neurons, with its head; the two directions bend to different sides."""
    from matplotlib.path import Path
    along = end - start
    middle = (start + end) / 2 + 0.16 * np.array([along[1], -along[0]])
    a, b = (p + radius * (middle - p) / np.linalg.norm(middle - p) for p in (start, end))
    look = _look(kind, scale)
    axis.add_patch(patch("PathPatch", Path([a, middle, b], [Path.MOVETO, Path.CURVE3, Path.CURVE3]), fill=False,
                          edgecolor=look.pop("color"), **look))
    _head(axis, b, end - middle, kind, scale)


def _loop(axis, centre, outward, radius, kind, scale):
    """A connection from a neuron to itself: a ring on its outside."""
    ring = 0.85 * radius
    look = _look(kind, scale)
    axis.add_patch(patch("Circle", centre + (radius + 0.8 * ring) * outward, ring, fill=False,
                          edgecolor=look.pop("color"), **look))
    side = np.array([-outward[1], outward[0]])
    direction = 0.87 * outward + 0.5 * side
    _head(axis, centre + radius * direction, -direction, kind, scale)


def _neighbours(axis, architecture, place, outward, radius, kinds, scale):
    """What a neuron hears from the same position of the previous (filled) and the next motif (open)."""
    for target, side in zip(*np.nonzero(np.isin(architecture.inter_types, kinds))):
        kind = architecture.inter_types[target, side]
        across = np.array([-outward[target][1], outward[target][0]]) * (1, -1)[side]
        direction = outward[target] + 0.9 * across
        direction /= np.linalg.norm(direction)
        start, end = (place[target] + r * direction for r in (radius + 0.28 * (0.4 + 0.6 * scale), radius))
        axis.plot(*zip(start, end), **_look(kind, scale))
        axis.plot(*start, "s", markersize=5 * scale + 1, color="k", markerfacecolor="k" if side == 0 else "w",
                  markeredgewidth=0.8)
        _head(axis, end, -direction, kind, scale)


def _head(axis, tip, direction, kind, scale):
    """An arrow head, or a bar, that touches a neuron at ``tip``."""
    along = direction / np.linalg.norm(direction)
    across, size = np.array([-along[1], along[0]]), 0.075 * scale
    if kind == EXCITATORY:
        corners = [tip, tip - 1.6 * size * along + 0.7 * size * across, tip - 1.6 * size * along - 0.7 * size * across]
        axis.add_patch(patch("Polygon", corners, closed=True, color=COLOURS[kind], linewidth=0, zorder=5))
    else:
        base = tip - 0.25 * size * along
        axis.plot(*zip(base + size * across, base - size * across), color=COLOURS[kind], linewidth=2.4 * scale,
                  solid_capstyle="butt", zorder=5)
