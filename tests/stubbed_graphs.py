"""What the driver is asked for where passes become graphs, and products by cuBLAS, as JSON.

tests/engine/test_kept.py starts it, see stubbed.py.
"""

import json
import sys

import numpy as np
import stubbed
import stubbed_steps


def strict():
    """Refuse what CuPy would do by itself while a graph is recorded: on a GPU it would be done at once, and then never
    again."""
    from hrmas_sparse.engine.backends.cuda.started import NOW

    def refusing(real):
        def asked(self, *arguments, **options):
            if NOW.stream:
                raise RuntimeError("CuPy is asked for something while a graph is recorded")
            return real(self, *arguments, **options)
        return asked

    def of_numpy(self, ufunc, method, *inputs, out=(), **options):
        plain = [x.view(np.ndarray) if isinstance(x, stubbed.Array) else x for x in (*inputs, *out)]
        options |= {"out": tuple(plain[len(inputs):])} if out else {}
        found = getattr(ufunc, method)(*plain[:len(inputs)], **options)
        return out[0] if out else found.view(stubbed.Array) if isinstance(found, np.ndarray) else found

    stubbed.Array.__array_ufunc__ = refusing(of_numpy)
    for name in ("__array_function__", "__setitem__", "copy", "astype"):
        setattr(stubbed.Array, name, refusing(getattr(np.ndarray, name)))


def calls(stub, name):
    """The driver's calls of six steps."""
    step, found = stubbed_steps.prepared(*stubbed_steps.STEPS[name], graphs=True, steps=0), []
    for _ in range(6):
        stub.stub_forget()
        step()
        found.append(stub.stub_calls().decode())
    return found


def products():
    """Of products of both types, in all orders, whether each is what it should be."""
    from hrmas_sparse.engine.backends.cuda.products import direct, product

    rng, found = np.random.default_rng(0), []
    assert direct() is not None
    for dtype in ("float32", "float64"):
        for m, n, k, batch in ((1, 1, 1, 1), (3, 5, 7, 1), (8, 2, 3, 4), (1, 6, 2, 2)):
            for ta, tb in np.ndindex(2, 2):
                a, b = (stubbed.empty(shape, dtype) for shape in (
                    (batch, k, m) if ta else (batch, m, k), (batch, n, k) if tb else (batch, k, n)))
                for array in (a, b):
                    array[:] = rng.integers(-9, 10, array.shape)
                out = product(a, b, bool(ta), bool(tb))
                expected = (a.transpose(0, 2, 1) if ta else a) @ (b.transpose(0, 2, 1) if tb else b)
                found.append(out.dtype == dtype and np.array_equal(out, expected))
    return found


if __name__ == "__main__":
    driver = stubbed.install(assemble=False)
    strict()
    print(json.dumps([calls(driver, sys.argv[1]), products()], default=bool))
