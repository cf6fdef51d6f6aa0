"""Small networks, inputs, and three ways to run a network that has left: the document's NumPy, C, and plain loops."""

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np

from hrmas_sparse.export import arrays, c_header
from hrmas_sparse.export.description import Description, LayerDescription
from runs.conformance.conformance import of_c

ROOT = Path(__file__).resolve().parents[2]


def layer(rng, senders, neurons, density, dtype="float32", v_th=2.0, spread=0.3):
    """A layer with random weights, links of a density, and R and tau that differ."""
    source, target = np.nonzero(rng.random((neurons, neurons)) < density)
    return LayerDescription(
        w=(rng.standard_normal((senders, neurons)) * 2 / np.sqrt(senders)).astype(dtype),
        indptr=np.searchsorted(source, np.arange(neurons + 1)).astype(np.int64), indices=target.astype(np.int64),
        data=(rng.standard_normal(target.size) * 0.5).astype(dtype),
        R=(16 * rng.uniform(1 - spread, 1 + spread, neurons)).astype(dtype),
        tau=(16 * rng.uniform(1 - spread, 1 + spread, neurons)).astype(dtype), v_th=v_th)


def network(seed=0, channels=7, hidden=(12,), classes=4, density=0.2, dtype="float32", v_th=2.0, tau_s=8.0,
            spread_out=True):
    """A :class:`Description` with random numbers; without ``spread_out`` all output neurons have the same R and tau."""
    rng = np.random.default_rng(seed)
    sizes = [channels, *hidden, classes]
    layers = [layer(rng, senders, neurons, density if neurons is not None and n < len(hidden) else 0, dtype, v_th)
              for n, (senders, neurons) in enumerate(zip(sizes, sizes[1:]))]
    if not spread_out:
        out = layers[-1]
        layers[-1] = dataclasses.replace(out, R=np.full_like(out.R, 8), tau=np.full_like(out.tau, 16))
    return Description(tuple(layers), tau_s, "toy", tuple(f"class {n}" for n in range(classes)))


def inputs(seed=0, samples=5, steps=40, channels=7, density=0.1):
    """Counts, (samples, steps, channels) float32."""
    rng = np.random.default_rng(seed)
    return ((rng.random((samples, steps, channels)) < density) * rng.integers(1, 4, (samples, steps, channels))
            ).astype(np.float32)


def document_twin():
    """The function `run` of docs/formats.md."""
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    block, = re.findall(r"```python\n(import numpy as np\n\ndef run\(net, x\):.*?)```", text, flags=re.S)
    assert len(block.splitlines()) <= 25
    space = {}
    exec(block, space)
    return space["run"]


def by_document(description, x, folder):
    """Spikes of every layer, list of (B, T, N) bool, and decisions, by the lines of docs/formats.md."""
    arrays.write(folder / "twin.npz", description)
    run = document_twin()
    with np.load(folder / "twin.npz") as net:
        found = [run({name: net[name] for name in net.files}, sample) for sample in x]
    return together([spikes for spikes, _ in found]), np.array([decision for _, decision in found])


def together(samples):
    """Spikes of each sample, a list of layers each -> of each layer, (B, T, N) bool."""
    return [np.array(layer) > 0 for layer in zip(*samples)]


MAIN = """
#include <stdio.h>
#include "net.h"
static void show(uint32_t count, const net_index *sent) {
    for (uint32_t i = 0; i < count; i++)
        printf("%%u ", (unsigned)sent[i]);
    puts("");
}
int main(void) {
    static net_state s;
    static net_index channel[NET_CHANNELS];
    static float value[NET_CHANNELS];
    uint32_t steps, events;
    while (fread(&steps, 4, 1, stdin) == 1) {
        net_reset(&s);
        while (steps--) {
            if (fread(&events, 4, 1, stdin) != 1) return 1;
            if (fread(channel, sizeof *channel, events, stdin) != events) return 1;
            if (fread(value, 4, events, stdin) != events) return 1;
            net_step(&s, channel, value, events);
            %s
        }
        printf("%%d\\n", net_decide(&s));
    }
    return 0;
}
"""


def compiled(description, folder, *options):
    """Path of a program that runs the exported C on samples from its standard input."""
    c_header.write(folder / "net.h", description)
    show = "\n".join(f"show(s.count{key}, s.sent{key});" for key, _ in description.named())
    (folder / "main.c").write_text(MAIN % show)
    options = options or ("-O2",)
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", *options, "net.c", "main.c", "-o", "net"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "net"


def events_of(x):
    """Samples (B, T, C) as the program wants them."""
    parts, index = [], np.uint16 if x.shape[2] < 65536 else np.uint32
    for sample in x:
        parts.append(np.uint32(len(sample)).tobytes())
        for step in sample:
            channel = np.flatnonzero(step)
            parts += [np.uint32(len(channel)).tobytes(), channel.astype(index).tobytes(),
                      step[channel].astype(np.float32).tobytes()]
    return b"".join(parts)


def by_c(description, x, folder, *options):
    """As :func:`by_document`, by the C file."""
    done = subprocess.run([compiled(description, folder, *options)], input=events_of(x), capture_output=True)
    assert done.returncode == 0, done.stderr
    return of_c(done.stdout, x.shape[:2], [layer.size for layer in description.layers])
