"""A picture of a run: how it learnt, the motif it found, the recurrent weights (needs the ``plots`` extra)."""

import numpy as np

from hrmas_sparse import architecture as architectures
from hrmas_sparse import checkpoint
from hrmas_sparse.architecture import TYPE_NAMES
from hrmas_sparse.errors import InputError
from hrmas_sparse.topology import Motif

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
    try:
        import matplotlib
        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise InputError("a figure needs matplotlib, which is in the extra `plots`: .venv/bin/pip install -e '.[plots]'"
                         ", or make show RUN=.. FIGURE=..") from error
    if not run.finished:
        raise InputError(f"{run.path}: unfinished; a figure shows the whole run")
    found = architectures.load(run.architecture_path) if run.architecture_path.exists() else []
    figure, axes = pyplot.subplots(1, 1 + 2 * bool(found), figsize=(4.6 + 7.8 * bool(found), 4.1), squeeze=False)
    axes = axes[0]
    _curves(axes[0], run.metrics())
    if found:
        _motif(axes[1], found[0])
        _matrix(axes[2], run, found[0])
    figure.suptitle(_title(run), fontsize=10)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: cannot be written; give a name that ends in .png, .svg or .pdf") from error
    finally:
        pyplot.close(figure)


def _title(run):
    manifest, result = run.manifest(), run.result()
    data = manifest["config"]["data"]["dataset"]
    if manifest["data"]["provenance"] != "real":
        data += f" ({manifest['data']['provenance']})"
    return (f"{data}, seed {manifest['seed']}, preset {manifest['config']['preset']}, "
            f"profile {manifest['config']['profile']}: test accuracy {100 * result['test']['accuracy']:.1f} %")


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


def _motif(axis, found):
    """Types of the motif's connections; rows receive, columns send, the neighbours at the right."""
    if not found.tied:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "every connection has its own type", ha="center")
        return
    table = np.concatenate([found.intra, found.lateral], axis=1) if found.inter else found.intra
    axis.imshow(table, cmap=_map(), vmin=0, vmax=2)
    if found.motif_size <= 16:
        for (row, column), kind in np.ndenumerate(table):
            axis.text(column, row, MARKS[kind], ha="center", va="center", color="k" if kind == 0 else "w", fontsize=9)
    if found.inter:
        axis.axvline(found.motif_size - 0.5, color="k", linewidth=1)
    axis.set(title=f"motif of {found.motif_size}", xlabel="sends (right of the line: neighbours)", ylabel="receives")
    axis.set_xticks([]), axis.set_yticks([])
    handles = [axis.scatter([], [], marker="s", s=60, color=colour, edgecolor="0.5", label=f"{mark or ' '} {name}")
               for mark, name, colour in zip(MARKS, TYPE_NAMES, COLOURS)]
    axis.legend(handles=handles, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)


def _map():
    from matplotlib.colors import ListedColormap
    return ListedColormap(COLOURS)


def _matrix(axis, run, found):
    """The upper left corner of the recurrent weight matrix: a few motifs along the diagonal."""
    arrays, _ = checkpoint.load(run.weights_path, "weights")
    net = run.config().network
    motif = Motif(found, net.w_exc, net.w_inh)
    shown = min(found.neurons, 6 * found.motif_size)
    inside = (motif.source < shown) & (motif.target < shown)
    weights = motif.effective({"w_exc": arrays["parameters/rec1.w_exc"]})
    matrix = np.full((shown, shown), np.nan)
    matrix[motif.target[inside], motif.source[inside]] = weights[inside]
    image = axis.imshow(matrix, cmap="PuOr_r", vmin=-2, vmax=2, interpolation="nearest")
    axis.figure.colorbar(image, ax=axis, shrink=0.8, label="weight")
    axis.set(title=f"recurrent weights, {shown} of {found.neurons} neurons", xlabel="sends", ylabel="receives")
