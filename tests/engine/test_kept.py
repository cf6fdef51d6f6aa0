"""Kept launches against a driver that does nothing: it gets what Numba gives it, and the host needs less for it."""

import pytest
import stubbed

pytestmark = pytest.mark.skipif(bool(stubbed.missing()), reason="KEPT LAUNCHES NOT TESTED: "
                                f"{stubbed.missing()} is not installed (extra test-cuda)")


def test_the_driver_gets_what_numba_gives_it(show):
    found = stubbed.started("stubbed_launches", "both")
    assert len(found) == 4
    for name, case in found.items():
        show(f"launch, {name}: {case['us']:.1f} us, Numba's {case['numba']:.0f} us of the host")
        assert case["kept"] == 1 and case["same"] == [True] * 3, name
        assert case["last"] == [1, [3, 2, 1, 64, 1, 1, 512]], name
        assert case["new thread"] and "OUT_OF_MEMORY" in case["refused"], "the thread has no context; no memory"
        assert 5 * case["us"] < case["numba"], (name, case)


def test_another_numba_launches_itself():
    """Where code or parameters are not where they are now, and nothing is on disk."""
    found = stubbed.started("stubbed_launches", "other", "nowhere")
    assert len(found) == 3
    for name, (launches, kept, last) in found.items():
        assert (launches, kept, last) == (3, 0, [3, 2, 1, 64, 1, 1, 512]), name


@pytest.mark.slow
def test_what_a_step_costs_the_host(show):
    for name, (ms, launches, *_) in stubbed.started("stubbed_steps").items():
        show(f"{name}: {ms:.2f} ms of the host, {launches} kernels")


def test_kernels_are_compiled_once(tmp_path):
    """What lies on disk is used while it is whole, and that of these sources, versions and device."""
    def compiled(*words, **variables):
        return stubbed.started("stubbed_launches", "compiled", *words,
                               variables={"NUMBA_CACHE_DIR": str(tmp_path)} | variables)

    def files():
        return sorted(tmp_path.glob("*/*.cubin"))

    first, again = compiled(), compiled()
    assert len(first["compiled"]) == len(files()) == len(first["got"]) == 8
    assert again == {"compiled": [], "got": first["got"]}
    whole = [path.read_bytes() for path in files()]
    assert len(set(whole)) > 2 and len({path.name for path in files()}) == 8
    files()[0].write_bytes(whole[0][:-1] + bytes([whole[0][-1] ^ 1]))
    files()[1].write_bytes(whole[1][:50])
    files()[2].write_bytes(b"")
    files()[3].unlink()
    assert len(compiled()["compiled"]) == 4 and compiled()["compiled"] == []
    assert len(compiled(CUDA_HOME="/elsewhere")["compiled"]) == 8, "another compiler"
    assert len(compiled("nowhere")["compiled"]) == 8 and len(files()) == 16
