"""How long a training step would take on an H100, reckoned from the kernels' machine code. A model, not measured.

The recurrent layer of W1 alone, forward and back, without products, launches and the output layer: a block a sample, a
multiprocessor a block. A step takes either as
long as its instructions need to be issued, by four schedulers, one a cycle each, or as long as a neuron waits for what
it reads, whichever is more; and a barrier. Numbers are NVIDIA's, or what others have measured of the card.
"""

from typing import NamedTuple

CLOCK = 1.755e9                              # cycles a second (H100 SXM, its boost)
SCHEDULERS, WARP = 4, 32
GLOBAL, SHARED, BARRIER, BASE = 40, 30, 30, 150   # cycles: a read found in L1, of shared memory; a barrier; formulas
STEPS, NEURONS, RATE = 100, 800, 0.05        # of W1; spikes of a neuron and step
LINKS, WORDS = {"motif": 11.5, "supernet": 49.0}, {"motif": 1.7, "supernet": 3.4}   # that a neuron hears
# Instructions (a step, of a word, of a link) when the kernels had arrays of several axes, by the same count.
BEFORE = {"forward": (1042, None, 53.5), "backward": (630, None, 41.2)}


class Time(NamedTuple):
    """Of a pass of the layer."""

    instructions: float    # of a neuron and step
    milliseconds: float


def time(kind, net, step, word, link):
    """The :class:`Time` of a kernel, "forward" or "backward", from its instructions of a step, a word and a link."""
    looks = WORDS[net] if word else LINKS[net]     # reads that wait for one another
    visited = LINKS[net] * (RATE if word else 1)
    instructions = step + (word or 0) * looks + link * visited
    issued = instructions * -(-NEURONS // WARP) / SCHEDULERS
    # Forward a look is a read of the table, then of the bits; back links are waited for eight at a time, as now.
    # Weights are read beside the table, or, of links whose sender has spiked, after it.
    at_once = 8 if kind == "backward" else 1
    waited = BASE + looks / at_once * (GLOBAL + SHARED) + (visited * GLOBAL if word else 0)
    return Time(instructions, 1e3 * STEPS * (max(issued, waited) + BARRIER) / CLOCK)


def table(now):
    """Lines of Markdown; ``now`` as :data:`BEFORE`."""
    lines = ["| W1, H100: a model | instructions of a neuron's step | ms |", "|---|--:|--:|"]
    for net in LINKS:
        for kind, before in BEFORE.items():
            old, new = time(kind, net, *before), time(kind, net, *now[kind])
            lines.append(f"| {net}, {kind} | {old.instructions:.0f} to {new.instructions:.0f} | "
                         f"{old.milliseconds:.2f} to {new.milliseconds:.2f} |")
    return lines
