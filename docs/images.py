"""Draw the pictures of the documents: python docs/images.py writes docs/images/*.png (extra `plots`)."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).parent / "images"
EXCITATORY, INHIBITORY, QUIET = "#2f7d4f", "#b5443c", "#8a8f98"


def arrow(axes, start, end, color, bend=0.0, style="-|>", width=1.3):
    axes.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", arrowstyle=style, color=color,
                                   linewidth=width, mutation_scale=11, shrinkA=9, shrinkB=9))


def canvas(height):
    """A figure 9 inches wide, and axes over all of it in half inches."""
    figure = Figure(figsize=(9, height), dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 18)
    axes.set_ylim(0, 2 * height)
    return figure, axes


def motif_layer():
    """A layer of motifs between input and output."""
    figure, axes = canvas(4.2)
    places = [(0.0, 1.2), (1.2, 1.2), (0.0, 0.0), (1.2, 0.0)]
    kinds = [(0, 1, EXCITATORY), (1, 3, EXCITATORY), (3, 2, INHIBITORY), (2, 0, EXCITATORY)]
    lefts = [2.0, 7.4, 12.8]
    for number, left in enumerate(lefts):
        axes.add_patch(FancyBboxPatch((left - 0.8, 2.9), 2.8, 2.6, boxstyle="round,pad=0.25", facecolor="#f3f5f8",
                                      edgecolor=QUIET))
        axes.text(left + 0.6, 5.85, f"motif {number + 1}", ha="center", color=QUIET, fontsize=10)
        spots = [(left + x, 3.6 + y) for x, y in places]
        for spot in spots:
            axes.add_patch(Circle(spot, 0.24, facecolor="white", edgecolor="#30343b", zorder=3))
        for source, target, color in kinds:
            arrow(axes, spots[source], spots[target], color, bend=0.18)
        if number:
            previous = [(lefts[number - 1] + x, 3.6 + y) for x, y in places]
            arrow(axes, previous[1], spots[1], EXCITATORY, bend=-0.32)
            arrow(axes, spots[2], previous[2], INHIBITORY, bend=-0.32)
        arrow(axes, (left + 0.6, 1.0), (left + 0.6, 2.9), "#30343b", width=1.6)
        arrow(axes, (left + 0.6, 5.95), (left + 0.6, 7.5), "#30343b", width=1.6)
    for y, text in ((0.55, "spikes of the input channels, all to all"), (7.75, "output neurons, one a class")):
        axes.text(8.0, y, text, ha="center", fontsize=11, color="#30343b")
    axes.text(16.1, 4.75, "excitatory", color=EXCITATORY, fontsize=10)
    axes.text(16.1, 4.25, "inhibitory", color=INHIBITORY, fontsize=10)
    axes.text(16.1, 3.75, "all motifs\nare alike", color=QUIET, fontsize=10, va="top")
    figure.savefig(HERE / "motif-layer.png")


def band():
    """Which connections a motif layer may have: blocks on the diagonal, and diagonals beside them."""
    neurons, size = 24, 4
    figure = Figure(figsize=(4.2, 4.2), dpi=130)
    axes = figure.add_axes((0.12, 0.12, 0.84, 0.84))
    matrix = np.zeros((neurons, neurons))
    for i in range(neurons):
        first = i - i % size
        matrix[i, first:first + size] = 1
        for j in (i - size, i + size):
            if 0 <= j < neurons:
                matrix[i, j] = 2
    axes.imshow(np.where(matrix == 0, np.nan, matrix), cmap="viridis", vmin=0, vmax=3)
    axes.set_xlabel("sending neuron")
    axes.set_ylabel("receiving neuron")
    axes.set_xticks(range(0, neurons + 1, size))
    axes.set_yticks(range(0, neurons + 1, size))
    figure.savefig(HERE / "band.png")


def search_stages():
    """The two phases of HRMAS."""
    figure, axes = canvas(2.4)
    boxes = [("stage 1", "motif size and\nconnection types"), ("stage 2", "connection types\nat the best size"),
             ("discretise", "the most probable\ntype of each"), ("retrain", "fresh weights,\nwhole training set"),
             ("test", "once")]
    for n, (title, text) in enumerate(boxes):
        left = 0.4 + 3.55 * n
        axes.add_patch(FancyBboxPatch((left, 1.1), 2.5, 2.4, boxstyle="round,pad=0.15", facecolor="#f3f5f8",
                                      edgecolor=QUIET))
        axes.text(left + 1.25, 3.0, title, ha="center", fontsize=11, weight="bold", color="#30343b")
        axes.text(left + 1.25, 1.9, text, ha="center", va="center", fontsize=9, color="#30343b")
        if n:
            arrow(axes, (left - 1.15, 2.3), (left + 0.1, 2.3), "#30343b")
    axes.text(0.3, 4.25, "search: half of the training set for the weights, half for the architecture",
              fontsize=9.5, color=QUIET)
    figure.savefig(HERE / "stages.png")


def main():
    HERE.mkdir(exist_ok=True)
    for draw in (motif_layer, band, search_stages):
        draw()


if __name__ == "__main__":
    main()
