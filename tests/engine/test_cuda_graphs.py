"""Passes as CUDA graphs, against a driver and a cuBLAS that write down what they are asked for.

What the graphs compute is tested in test_emulated_graphs.py.
"""

import re

import pytest
import stubbed

pytestmark = pytest.mark.skipif(bool(stubbed.missing()), reason="CUDA GRAPHS NOT TESTED: "
                                f"{stubbed.missing()} is not installed (extra test-cuda)")
# See stub_driver.c. Before a pass its parameters are copied and its input spread; after it, its results and their
# numbers are copied.
PLAIN, RECORDED, STARTED = "KKKGKKKGKGGKGKKK", "BkkgkkkgkggkgkkkEI", "KKLKK"


def test_what_the_driver_is_asked_for(show):
    (first, second, third, *later), products = stubbed.started("stubbed_graphs", "w step")
    assert second.startswith("K" + PLAIN), "a batch is taken, then the pass"
    rest = second.removeprefix("K" + PLAIN)
    assert third == "K" + PLAIN + "K" + RECORDED + STARTED + rest, "the input of its own is spread before"
    assert RECORDED.strip("BEI").upper() == PLAIN[1:], "all of the pass but the input"
    assert later == ["K" + STARTED + rest] * 3
    show(f"w step: {len(second)} kernels and products, {len(later[-1])} with graphs")
    assert len(products) == 32 and all(products), "cuBLAS is asked for the products of other matrices"


@pytest.mark.slow
def test_what_the_driver_is_asked_for_in_an_iteration(show):
    steps, _ = stubbed.started("stubbed_graphs", "HRMAS iteration")
    asked = "".join(steps)
    assert "X" not in asked and re.sub("B[kg]+EI", "", asked).isupper() and asked.count("B") == 2
    assert all(step.count("L") == 4 for step in steps[3:]), "of five passes: IP's own is started as it is"
    show(f"HRMAS iteration: {len(steps[1])} kernels and products, {len(steps[-1])} with graphs")
