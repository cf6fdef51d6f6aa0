"""Every CUDA kernel compiles for an H100, in both dtypes, without a GPU: needs numba-cuda and its compiler (cuda12)."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from runs.bench import model, static

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="NOT TESTED: numba-cuda is not installed "
                       "(extras cuda12, cuda13), kernels are not compiled for a GPU"),
    pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") == "1", reason="the simulator compiles nothing"),
]
HOPPER = (9, 0)
# Instructions at most: a step of all neurons of a thread, of a word of spikes, of a link; before the kernels had flat
# arrays, words and masks: 1,042, - and 53.5 forward, 630, - and 41.2 back, with a neuron a thread.
MOST = {"forward": (120, 26, 14), "plastic": (300, 26, 14), "backward": (170, 0, 13)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels(dtype):
    from hrmas_sparse.engine.backends.cuda.compile import ptx
    found = {name: ptx(kernel, types, HOPPER) for name, (kernel, types, *_) in static.kernels(dtype).items()}
    assert len(found) >= 45
    if dtype == "float32":  # nothing is promoted, but for what is meant to be
        assert [name for name, text in found.items() if ".f64" in text and not name.startswith(static.DOUBLES)] == []
    assert [name for name, text in found.items() if static.DIVISION.search(text)] == []
    assert not [name for name, text in found.items() if "atom" in text and ".f" in text.split("atom")[1][:24]]
    assert np.all([f"sm_{HOPPER[0]}{HOPPER[1]}" in text for text in found.values()])


@pytest.mark.skipif(bool(static.missing()), reason="NOT TESTED: the CUDA compiler's packages are not installed")
@pytest.mark.parametrize("name, capability", [
    *(pytest.param(f"{kernel}, {per} a thread", capability, marks=() if per == 1 and capability == HOPPER else
                   pytest.mark.slow) for kernel in ("forward", "plastic", "backward") for per in static.NEURONS
      for capability in static.CAPABILITIES)])
def test_what_the_assembler_makes_of_the_kernels_of_a_step(name, capability):
    """Bounds that hold today; `make gpu-static` prints the figures."""
    found, (kind, per) = static.figures(name, "float32", capability), (name.split(",")[0], int(name.split()[1]))
    assert (found.doubles, found.divisions) == (0, 0), found
    assert found.occupancy > 0 and max(found.stack, found.spills) <= (16 if per == 4 else 0), found
    if found.step is not None:
        step, word, link = MOST[kind]
        assert found.step <= step * per and (found.word or 0) <= word and found.link <= link, found


@pytest.mark.slow
@pytest.mark.skipif(bool(static.missing()), reason="NOT TESTED: the CUDA compiler's packages are not installed")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_block_fits_a_multiprocessor(dtype):
    assert [name for name in static.kernels(dtype) if not static.figures(name, dtype, HOPPER).occupancy] == []


@pytest.mark.skipif(bool(static.missing()), reason="NOT TESTED: the CUDA compiler's packages are not installed")
@pytest.mark.parametrize("name", ["output, psc", pytest.param("output, cross entropy", marks=pytest.mark.slow),
                                  pytest.param("output, surrogate", marks=pytest.mark.slow)])
def test_what_it_makes_of_the_output_layer(name):
    found = static.figures(name, "float32", HOPPER)
    assert (found.stack, found.spills, found.divisions) == (0, 0, 0) and found.registers <= 80, found


@pytest.mark.skipif(bool(static.missing()) or static.tool("nvdisasm") is None, reason="NOT TESTED: nvdisasm is missing")
@pytest.mark.parametrize("kind", model.BEFORE)
def test_a_step_of_a_neuron_takes_a_third_of_the_instructions_it_took(show, kind):
    found = static.figures(f"{kind}, 1 a thread", "float32", HOPPER)
    for net in model.LINKS:
        before, now = (model.time(kind, net, *counts) for counts in (model.BEFORE[kind], found[-3:]))
        show(f"W1 {net}, {kind}: {before.instructions:.0f} instructions of a neuron's step before, "
             f"{now.instructions:.0f} now")
        assert 3 * now.instructions <= before.instructions and now.milliseconds < before.milliseconds


@pytest.mark.parametrize("registers, threads, shared, expected", [
    (64, 1024, 0, 0.5), (64, 800, 300, 0.390625), (32, 1024, 0, 1), (32, 256, 100 << 10, 0.25), (72, 800, 0, 0.390625),
    (80, 800, 0, 0), (80, 768, 0, 0.375)])      # 80 for 800: an H100 refused it, one of four schedulers has no room
def test_occupancy(registers, threads, shared, expected):
    assert static.occupancy(registers, threads, shared, HOPPER) == expected


@pytest.mark.parametrize("given, expected", [(None, "0"), ("1", "1")])
def test_numba_does_not_wait_at_launches_whoever_imports_it_first(given, expected):
    code = ("import numba; from numba import config; import hrmas_sparse.engine.backends.cuda.compile; "
            "print(int(config.CUDA_ARRAY_INTERFACE_SYNC))")
    environment = {name: x for name, x in os.environ.items() if name != "NUMBA_CUDA_ARRAY_INTERFACE_SYNC"}
    environment |= {} if given is None else {"NUMBA_CUDA_ARRAY_INTERFACE_SYNC": given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr
