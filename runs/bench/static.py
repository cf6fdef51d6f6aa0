"""What a GPU's assembler makes of the CUDA kernels: registers, stack, spills, occupancy, instructions. Needs no GPU.

``make gpu-static`` prints the table. Counts are those of the machine code, not of what runs: both sides of a branch
count. Needs numba-cuda with its compiler, and nvdisasm for the instructions (all in the extra ``test-cuda``).

Only C-contiguous arrays and the types of a step are compiled, as the backend calls the kernels.
"""

import argparse
import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from hrmas_sparse.engine import neuron
from hrmas_sparse.environment import install
from runs.bench import model

CAPABILITIES = (8, 0), (9, 0), (10, 0)
REGISTERS, SCHEDULERS, THREADS, BLOCKS = 65536, 4, 2048, 32   # of a multiprocessor
SHARED = {(8, 0): 164 << 10, (9, 0): 228 << 10, (10, 0): 228 << 10}
DIVISION = re.compile(r"\b(?:div|rem)\.[su]64")
NEURONS = {1: 800, 2: 1600, 4: 3200}                        # of a layer whose threads have so many each
# Kernels that compute in float64 whatever the dtype of the run, for they sum over a whole network, batch or table: what
# they do besides is little. Their names begin so.
DOUBLES = ("output", "judging", "sum_squares", "update", "descend", "part", "mix", "pull_back")
HEAD = "registers", "stack B", "spills B", "occupancy %", "64-bit divisions", "float64", "a step", "a word", "a link"


class Figures(NamedTuple):
    """What is known of a compiled kernel; instructions are None without nvdisasm."""

    registers: int
    stack: int              # bytes of a thread's local memory
    spills: int             # bytes stored there for want of registers
    occupancy: float        # share of a multiprocessor's threads that have room
    divisions: int          # of 64-bit integers
    doubles: int            # instructions of float64
    step: int | None        # instructions of a time step but those of its words and links
    word: float | None      # instructions of a look at a word of spikes, of forward kernels with recurrence
    link: float | None      # instructions of a link; there, of one whose sender has spiked

    @property
    def cells(self):
        """The figures as text."""
        return [str(self.registers), str(self.stack), str(self.spills), f"{100 * self.occupancy:.0f}",
                str(self.divisions), str(self.doubles), *("-" if x is None else f"{x:.3g}" if isinstance(x, float)
                                                          else str(x) for x in self[6:])]


def missing():
    """What cannot be found, as a sentence; empty if all is there."""
    if importlib.util.find_spec("numba_cuda") is None or tool("ptxas") is None:
        return f"numba-cuda or its compiler is not installed: {install('test-cuda')}"
    return ""


def tool(name):
    """Path of ptxas or nvdisasm: on the PATH or in one of NVIDIA's packages; None if it is not there."""
    packages = importlib.util.find_spec("nvidia")
    inside = (path for folder in (packages.submodule_search_locations if packages else ())
              for path in sorted(Path(folder).glob(f"*/bin/{name}")))
    return next((str(path) for path in inside), None) or shutil.which(name)


def kernels(dtype):
    """Every kernel by name: the kernel, the types of its arguments, threads of a block and bytes of shared memory."""
    import numba
    from numba import boolean, int8, int32, int64, types, typeof, uint32

    from hrmas_sparse.engine.backends.cuda import intrinsic, launch, smooth, step, synapses, windows

    def array(kind, dimensions):
        return types.Array(kind, dimensions, "C")

    k, p = typeof(neuron.constants(dtype, 8, 80, 1, 0.2)), typeof(neuron.plasticity_constants(dtype, 16, 16, 80, 1, 1))
    real = getattr(numba, dtype)
    r1, r2, r3 = (array(real, n) for n in (1, 2, 3))
    i1, i2, l1, bits = array(int32, 1), array(int32, 2), array(int64, 1), array(uint32, 3)
    u1, size = array(uint32, 1), int64
    links, senders = (i2, array(int8, 1), r1), (u1, size, r1, size)
    signatures = {}
    for per, neurons in NEURONS.items():
        for recurrent in (True, False)[:1 if per > 1 else 2]:
            _, width, _ = launch.layer(50, neurons, recurrent)
            words, room = 12 * (-(-neurons // 32)) * recurrent, 2 * neurons * real.bitwidth // 8 * recurrent
            name = f"{per} a thread" if recurrent else "feedforward"
            outputs = (r1, u1, u1, i1, r2)
            signatures |= {
                f"forward, {name}": (step.forward(per, recurrent, keep=not recurrent),
                                     (k, k, r1, r1, *senders, *outputs), width, words),
                f"plastic, {name}": (step.forward(per, recurrent, plastic=True, keep=True),
                                     (k, p, r1, r1, *senders, *outputs), width, words),
                f"backward, {name}": (step.backward(per, recurrent, recurrent),
                                      (k, r1, r1, *links, r1, u1, r1, r1), width, room),
                f"moving forward, {name}": (step.forward(per, recurrent, moving=True),
                                            (k, k, r1, r1, *senders, *outputs), width, words),
                f"moving backward, {name}": (step.backward(per, recurrent, recurrent, moving=True),
                                             (k, r1, r1, *links, r1, u1, r1, r1), width, room)}
    _, width, cut, lanes = launch.links(10**4, 50)
    parts, large = (width, cut * lanes * real.bitwidth // 8), (launch.layer(50, 2048, True)[1], 0)
    largest, one = launch.layer(50, 12800, True)[1], signatures["backward, 1 a thread"][2:]
    rest = {    # but for those with a block and shared memory of their own, in blocks of TILE threads
        "forward, 16 a thread": (step.forward(16, True), (k, k, r1, r1, *senders, r1, u1, u1, i1, r2), largest, 4800),
        "backward, 16 a thread": (step.backward(16, True, False), (k, r1, r1, *links, r1, u1, r1, r1), largest, 0),
        "surrogate backward": (step.backward(1, True, True, through_time=True), (k, r1, r1, *links, r1, u1, r1, r1),
                               *one),
        "backward, links too far for a byte": (step.backward(1, True, True), (k, r1, r1, i2, i1, r1, r1, u1, r1, r1),
                                               *one),
        "filter_back": (step.filter_back, (k, r3)),
        "smooth forward": (smooth.forward(2), (k, r3, r3, *links, r3, r3, r3, boolean), *large),
        "smooth backward": (smooth.backward(2), (k, r3, r3, *links, r3, r3, r3, r3, boolean), *large),
        "R and tau": (intrinsic.sums(False), (k, *[r3] * 5)),
        "smooth R and tau": (intrinsic.sums(True), (k, *[r3] * 5)),
        "spread": (synapses.spread, (bits, r3)),
        "feedforward": (synapses.feedforward, (l1, i1, r1, r3, r2)),
        "feedforward_gradient": (synapses.feedforward_gradient, (l1, i1, r1, r2, r2)),
        "links_gradient": (synapses.links_gradient(False), (*[i1] * 3, *[int64] * 5, u1, r1, r1), *parts),
        "smooth_links_gradient": (synapses.links_gradient(True), (*[i1] * 3, *[int64] * 5, r1, r1, r1), *parts),
        "sum_samples": (synapses.sum_samples, (r2, r2)),
        "sum_windows": (windows.sum_windows, (k, bits, int64, r3)),
        "sum_windows_of_values": (windows.sum_windows_of_values, (k, r3, int64, r3)),
        "effects": (windows.effects, (k, r3, r3)),
    }
    rest |= _of_whole_networks(dtype)
    return signatures | {name: (*given[:2], *(given[2:] or (launch.TILE, 0))) for name, given in rest.items()}


def _of_whole_networks(dtype):
    """Kernels of losses, learning, links and batches, as in :func:`kernels`, for networks of two layers."""
    import numba
    from numba import float64, int32, int64, typeof, types, uint8, uint16

    from hrmas_sparse.engine import learning as formulas
    with _cupy():
        from hrmas_sparse.engine.backends.cuda import (
            batches, copies, learning, links, losses, output, relaxation, synapses)

    def array(kind, dimensions):
        return types.Array(kind, dimensions, "C")

    def each(kind, count=2):
        return types.UniTuple(kind, count)

    k, real = typeof(neuron.constants(dtype, 8, 80, 1, 0.2)), getattr(numba, dtype)
    adam = typeof(formulas.adam_constants(dtype, (0.9, 0.999), 1e-8, 1, 1e-3, 0))
    r1, r2, r3 = (array(real, n) for n in (1, 2, 3))
    i1, i2, l1, l2, f1, f2 = (array(kind, n) for kind in (int32, int64, float64) for n in (1, 2))
    arrays, tables, events = each(r1, 3), each(r2), (array(uint16, 1), array(uint16, 1), array(uint8, 1))
    of_losses = {"psc": (losses.of_psc, float64, int64), "cross entropy": (losses.of_cross_entropy, float64, float64)}
    judged = {f"output, {name}": (output.output(of, True), (k, r1, r1, l1, *two, each(i2), r3, r3, f2, r3))
              for name, (of, *two) in of_losses.items()} | {
        f"judging, {name}": (losses.judging(of), (r3, l1, *two, each(i2), f2, r3))
        for name, (of, *two) in of_losses.items()}
    surrogate = output.output(losses.of_psc, True, through_time=True), judged["output, psc"][1]
    return judged | {
        "output, surrogate": surrogate,
        "sum_squares": (learning.sum_squares, (arrays, f2)),
        "multiply": (learning.multiply, (arrays, real)),
        "update": (learning.update, (adam, *[arrays] * 4, f2, float64, int32)),
        "stretch": (learning.stretch, (arrays, arrays, real, real, arrays)),
        "descend": (learning.descend, (arrays, arrays, f2, float64, float64, arrays)),
        "part": (learning.part, (arrays, arrays, f2, arrays, arrays)),
        "mix": (learning.mix, (arrays, arrays, arrays, f2, float64, arrays)),
        "relax": (relaxation.relax, (r1, tables, r1, i2, real, r1)),
        "pull_back": (relaxation.pull_back, (r1, tables, r1, i2, real, i1, i1, i2, r1, tables, r1, f1)),
        "pull_back_sizes": (relaxation.pull_back_sizes, (r1, i1, f1, int32, r1)),
        "select": (relaxation.select, (r1, i1, real, r1)),
        "choose": (relaxation.choose, (r1, i1, r1)),
        "copy": (copies.copy, (arrays, arrays)),
        "columns": (links.columns, (each(r1), l2, l2, r2, r2)),
        "membrane": (synapses.membrane, (r1,) * 4),
        "take": (batches.take, (l1, l1, types.Tuple(events), types.Tuple(events))),
        "scatter": (batches.scatter, (l1, *events, int64, r2)),
    }


@contextlib.contextmanager
def _cupy():
    """Let modules be imported whose host's part works with CuPy, where that is not installed."""
    lacking = "cupy" not in sys.modules and importlib.util.find_spec("cupy") is None
    if lacking:
        sys.modules["cupy"] = ModuleType("cupy")
    try:
        yield
    finally:
        if lacking:
            del sys.modules["cupy"]


def figures(name, dtype="float32", capability=(9, 0)):
    """The :class:`Figures` of a kernel."""
    from hrmas_sparse.engine.backends.cuda.compile import ptx as to_ptx
    kernel, types, threads, shared = kernels(dtype)[name]
    ptx = to_ptx(kernel, types, capability)
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        said = subprocess.run([tool("ptxas"), "-v", f"-arch=sm_{capability[0]}{capability[1]}", "-maxrregcount",
                               str(kernel.targetoptions["max_registers"]), source, "-o", binary],
                              capture_output=True, text=True, check=True).stderr
        registers = int(re.search(r"Used (\d+) registers", said)[1])
        stack, stored = map(int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", said).groups())
        counts = _instructions(binary, per_word="thread" in name and "backward" not in name) if tool("nvdisasm") else (
            None, None, None)
    doubles = re.findall(r"^\s+(?:@\S+ )?[a-z]+\S*\.f64\b", ptx, re.M)
    return Figures(registers, stack, stored, occupancy(registers, threads, shared, capability),
                   len(DIVISION.findall(ptx)), len(doubles), *counts)


def occupancy(registers, threads, shared, capability):
    """Share of a multiprocessor's threads that blocks of this kind fill."""
    warps = -(-threads // 32)
    of_a_warp = -(-registers * 32 // 256) * 256
    room = REGISTERS // SCHEDULERS // of_a_warp * SCHEDULERS      # for warps: each scheduler has its own registers
    blocks = min(BLOCKS, THREADS // (32 * warps), room // warps,
                 SHARED[capability] // (shared + 1024))
    return blocks * warps * 32 / THREADS


def _instructions(binary, per_word):
    """Instructions of the outermost loop without its inner ones, of a word and of a link; None where there are none."""
    text = subprocess.run([tool("nvdisasm"), "-c", binary], capture_output=True, text=True, check=True).stdout
    code, labels = [], {}
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            code.append(instruction[1])
    loops = sorted({(labels[to[1]], at) for at, one in enumerate(code)
                    if (to := re.search(r"\bBRA\b.*?(\.L_x_\d+)", one)) and labels.get(to[1], at) < at})
    if not loops:
        return None, None, None
    first, last = max(loops, key=lambda loop: loop[1] - loop[0])
    inner = [loop for loop in loops if first < loop[0] and loop[1] < last]
    innermost = [one for one in inner if not any(one != other and one[0] <= other[0] and other[1] <= one[1]
                                                 for other in inner)]
    within = {at for one in inner for at in range(one[0], one[1] + 1)}
    # A link loads at least a number and adds it to a sum; of several copies of its loop the longest is unrolled.
    per_link = [(min(sum(bool(re.search(what, one)) for one in code[a:b + 1])
                     for what in (r"\b(F|D)(ADD|FMA)\b|\bFFMA\b", r"\bLDG\b")), b + 1 - a, a) for a, b in innermost]
    links, size, start = max(per_link, default=(0, 0, 0), key=lambda triple: triple[0])
    around = [b + 1 - a for a, b in inner if per_word and a < start <= b]    # the loop over words
    return (last + 1 - first - len(within), float(min(around) - size) if links and around else None,
            size / links if links else None)


def table(names, dtype, capabilities):
    """The table as lines of Markdown."""
    jobs = [(name, dtype, capability) for name in names for capability in capabilities]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(figures, *zip(*jobs)))
    lines = [f"| {dtype} | sm | {' | '.join(HEAD)} |", "|---|" + "--:|" * (len(HEAD) + 1)]
    return lines + [f"| {name} | {capability[0]}{capability[1]} | {' | '.join(row.cells)} |"
                    for (name, _, capability), row in zip(jobs, rows)]


def main(arguments):
    """Print the table; returns 0, or 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="make gpu-static", description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--only", default="", help="kernels whose name begins so, several with commas")
    parser.add_argument("--sm", default="80,90,100", help="architectures (default 80,90,100)")
    options = parser.parse_args(arguments)
    if missing():
        print(f"gpu-static: {missing()}", file=sys.stderr)
        return 2
    wanted = {f"{a}{b}": (a, b) for a, b in CAPABILITIES}
    names = [name for name in kernels(options.dtype) if name.startswith(tuple(options.only.split(",")))]
    print("\n".join(table(names, options.dtype, [wanted[sm] for sm in options.sm.split(",")])))
    if tool("nvdisasm") and options.dtype == "float32" and not options.only:
        found = {kind: figures(f"{kind}, 1 a thread")[-3:] for kind in model.BEFORE}
        print("", *model.table(found), sep="\n")
    if tool("nvdisasm") is None:
        print(f"gpu-static: instructions are not counted, for nvdisasm is missing: {install('test-cuda')}",
              file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
