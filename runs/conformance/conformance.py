"""Compare exported networks, run by other means, with the engine: spikes and decisions on recordings.

    python -m runs.conformance.conformance RUN DATA [--samples N] [--peer NAME=PYTHON ...]

RUN is a finished run, DATA its data (a saved data set or a spike cache). A peer is a function of peers.py and the
Python that has its packages, e.g. `norse=/path/to/venv/bin/python`. Prints a table in Markdown, which
docs/howto/export.md shows. Needs a C compiler, `cc`.
"""

import argparse
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import hrmas_sparse as hs
from hrmas_sparse.storage.errors import InputError
from runs.conformance import rules

ROOT = Path(__file__).resolve().parents[2]
MAIN = r"""
#include <stdio.h>
#include <time.h>
#include "net.h"
int main(int argc, char **argv) {
    static net_state s;
    static net_index channel[NET_CHANNELS];
    static float value[NET_CHANNELS];
    uint32_t steps, events;
    clock_t took = 0;
    (void)argv;
    while (fread(&steps, 4, 1, stdin) == 1) {
        net_reset(&s);
        while (steps--) {
            clock_t begun;
            if (fread(&events, 4, 1, stdin) != 1 || fread(channel, sizeof *channel, events, stdin) != events
                || fread(value, 4, events, stdin) != events)
                return 1;
            begun = clock();
            net_step(&s, channel, value, events);
            took += clock() - begun;
            if (argc < 2) { SHOW }
        }
        if (argc < 2) printf("%d\n", net_decide(&s));
    }
    fprintf(stderr, "%.9f", (double)took / CLOCKS_PER_SEC);
    return 0;
}
"""


def main():
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--samples", type=int, help="of the test set, spread over it (default: all)")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    options = parser.parse_args()
    run, data = hs.load_run(options.run), hs.load_dataset(options.data)
    count = min(options.samples or len(data.test), len(data.test))
    events = data.test[np.linspace(0, len(data.test) - 1, count).astype(int)]
    with tempfile.TemporaryDirectory() as folder:
        compare(run, events, Path(folder), dict(peer.split("=", 1) for peer in options.peer))


def compare(run, events, folder, peers):
    """Print the table of one run."""
    x = events.dense().astype(np.float32)
    network, params = run.network, run.params
    network.evaluate(params, events)
    started = time.perf_counter()
    out = network.evaluate(params, events)
    seconds = time.perf_counter() - started
    ours = [spikes > 0.5 for spikes in network.evaluate(params, events, record=True).spikes]
    print(f"{len(x)} samples of {x.shape[1]} steps; spikes of each layer {[int(s.sum()) for s in ours]}; "
          f"accuracy {100 * (out.predicted == events.labels).mean():.2f} %; "
          f"engine {1e3 * seconds / len(x):.3f} ms a sample\n")
    print("| program | reads | spikes that differ, of each layer | decisions that differ | accuracy | "
          "spikes that differ from its rule | ms a sample |")
    print("|---|---|---|---|---|---|---|")

    def row(program, file, spikes, decisions, seconds, by_rule=None):
        print(f"| {program} | {file} | {differing(spikes, ours)} | {int((decisions != out.predicted).sum())} | "
              f"{100 * (decisions == events.labels).mean():.1f} % | "
              f"{differing(spikes, by_rule) if by_rule else ''} | {1e3 * seconds / len(x):.3g} |", flush=True)

    for name in ("net.npz", "net.h", "net.nir"):
        run.export(folder / name)
    run.export(folder / "folded.nir", folded=True)
    spikes, decisions, seconds = by_document(folder, x)
    row(f"NumPy {np.__version__}, formats.md", "net.npz", spikes, decisions, seconds)
    spikes, decisions, seconds, size = by_c(folder, x, len(ours))
    row(f"C, `cc -O2`, {size}", "net.c", spikes, decisions, seconds)
    np.savez_compressed(folder / "input.npz", x=x)
    run.export(folder / "folded.npz", folded=True)
    scale = 1 - 1 / network.neuron.tau_s
    for peer, python in peers.items():
        for file in ("net.nir", "folded.nir"):
            done = subprocess.run([python, str(ROOT / "runs" / "conformance" / "peers.py"), peer, file, "input.npz",
                                   "output.npz"], cwd=folder, capture_output=True, text=True)
            if done.returncode:
                why = done.stderr.strip().splitlines()[-1][:120]
                print(f"| {peer} | {file} | refused: {why} | | | | |", flush=True)
                continue
            with np.load(folder / "output.npz") as output, np.load(folder / file.replace(".nir", ".npz")) as net:
                whole = "s0" in output.files
                spikes = [output[f"s{n}"] if whole else None for n in range(len(ours) - 1)]
                spikes.append(output[f"s{len(ours) - 1}" if whole else "out"])
                rule = rules.RULES.get(peer)
                by_rule = rule and rules.spikes({name: net[name] for name in net.files}, x, rule)
                row(f"{peer} {output['version']}", file, spikes, decided(spikes[-1], scale), float(output["seconds"]),
                    by_rule)


def differing(spikes, others):
    """How many spikes of each layer differ, as text; None: a layer that a program does not show."""
    return ", ".join("not shown" if a is None else f"{int((a != b).sum()):,}" for a, b in zip(spikes, others))


def by_document(folder, x):
    """Run the lines of docs/formats.md."""
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    space = {}
    exec(re.search(r"```python\n(import numpy as np\n\ndef run\(net, x\):.*?)```", text, flags=re.S)[1], space)
    with np.load(folder / "net.npz") as file:
        net = {name: file[name] for name in file.files}
    started = time.perf_counter()
    outputs = [space["run"](net, sample) for sample in x]
    seconds = time.perf_counter() - started
    return ([np.array(layer) > 0 for layer in zip(*(spikes for spikes, _ in outputs))],
            np.array([decision for _, decision in outputs]), seconds)


def by_c(folder, x, layers):
    """Compile and run the C file."""
    keys = [*map(str, range(1, layers)), "_out"]
    show = "".join(f'for (uint32_t i = 0; i < s.count{key}; i++) printf("%u ", (unsigned)s.sent{key}[i]);\nputs("");'
                   for key in keys)
    (folder / "main.c").write_text(MAIN.replace("SHOW", show))
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wno-misleading-indentation", "-Werror", "-O2"]
    for command in (["cc", *flags, "net.c", "main.c", "-o", "net"], ["cc", *flags, "-Os", "-c", "net.c"]):
        if subprocess.run(command, cwd=folder).returncode:
            raise InputError("the exported C file does not compile")
    text, data, bss = map(int, subprocess.run(["size", "net.o"], cwd=folder, capture_output=True, text=True
                                              ).stdout.splitlines()[1].split()[:3])
    given = b"".join(_packed(sample) for sample in x)
    printed = subprocess.run(["./net"], cwd=folder, input=given, capture_output=True).stdout
    with np.load(folder / "net.npz") as file:
        spikes, decisions = of_c(printed, x.shape[:2], [file[f"tau{key}"].size for key in keys])
    quiet = subprocess.run(["./net", "quiet"], cwd=folder, input=given, capture_output=True)
    return spikes, decisions, float(quiet.stderr), f"{text + data:,} bytes of code and weights"


def of_c(printed, extent, sizes):
    """What the C program prints for (samples, steps) as spikes, (B, T, N) of each layer, and decisions, (B,)."""
    lines = iter(printed.decode().splitlines())
    spikes, decisions = [np.zeros((*extent, size), bool) for size in sizes], np.empty(extent[0], int)
    for b in range(extent[0]):
        for t in range(extent[1]):
            for sent in spikes:
                sent[b, t, [int(n) for n in next(lines).split()]] = True
        decisions[b] = int(next(lines))
    return spikes, decisions


def _packed(sample):
    parts = [np.uint32(len(sample)).tobytes()]
    for step in sample:
        channel = np.flatnonzero(step)
        parts += [np.uint32(channel.size).tobytes(), channel.astype(np.uint16).tobytes(), step[channel].tobytes()]
    return b"".join(parts)


def decided(spikes, decay):
    """The class with the largest sum of filtered spikes; spikes (B, T, O)."""
    steps = spikes.shape[1]
    weights = np.array([(decay ** np.arange(steps - t)).sum() for t in range(steps)])
    return (spikes * weights[:, None]).sum(axis=1).argmax(axis=1)


if __name__ == "__main__":
    main()
