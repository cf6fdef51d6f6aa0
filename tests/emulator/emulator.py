"""The CUDA kernels on the CPU: numba-cuda's own LLVM code of them, at its real types, blocks and shared memory.

What Numba's simulator runs is Python; what runs here is what a GPU's assembler would get. NumPy stands in for CuPy,
with memory that is NaN and -1 until it is written. Threads of a block take turns in an order that can be chosen:
results that depend on it are races. Needs numba-cuda and its compiler, no GPU; :func:`install` goes before the import
of the CUDA backend.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
from emulator import ir
from llvmlite import binding as llvm

ORDERS = RISING, FALLING, RANDOM = range(3)
COMPUTE_CAPABILITY = (9, 0)
SHARED_PER_BLOCK, THREADS_PER_BLOCK, BLOCKS_Y = 48 << 10, 1024, 65535


class Emulator:
    """Runs kernels; ``order`` is that of a block's threads.

    Attributes
    ----------
    launches : list of (kernel, blocks, threads, bytes of shared memory)
    divergent : number of blocks whose threads did not all meet at every barrier
    mutate : function (LLVM code) -> LLVM code, applied to each kernel before it is built; for controls
    recorded : None, or a list of functions: what is to be started later, not now
    memory : None, or a list of the arrays that are made
    """

    def __init__(self):
        self.order, self.divergent, self.launches = RISING, 0, []
        self.mutate, self.recorded, self.memory = lambda text: text, None, None
        self._library, self._built, self._engines = _fibers(), {}, []
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()

    def forget(self):
        """Build every kernel anew."""
        self._built.clear()

    def launch(self, kernel, configuration, arguments):
        """Run a kernel over a grid of blocks."""
        if self.recorded is not None:
            self.recorded.append(lambda: self.launch(kernel, configuration, arguments))
            return
        types = tuple(_type(argument) for argument in arguments)
        key = kernel.py_func, types
        if key not in self._built:
            self._built[key] = self._build(kernel, types)
        address, shared, parameters = self._built[key]
        words = [word for kind, argument in zip(types, arguments) for word in _words(kind, argument)]
        assert len(words) == len(parameters), (kernel.py_func.__qualname__, len(words), parameters)
        buffer = np.array([word & 0xFFFFFFFFFFFFFFFF for word in words], np.uint64)
        (x, y), threads, dynamic = _geometry(configuration)
        self.launches.append((kernel.py_func.__qualname__.split(".")[0], x * y, threads, dynamic))
        self.divergent += self._library.emulated_launch(
            ctypes.c_void_p(address), ctypes.c_void_p(buffer.ctypes.data), x, y, threads, dynamic,
            ctypes.c_void_p(shared), ctypes.c_size_t(ir.SHARED if shared else 0), self.order, 12345)

    def _build(self, kernel, types):
        """Address of a kernel's entry and of its shared memory, and the types of its parameters."""
        machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
        modules, shared, parameters = [], [], []
        for number, text in enumerate(_llvm_of(kernel, types)):
            text, names = ir.for_this_machine(self.mutate(text))
            shared += names
            if number == 0:
                text, parameters = ir.with_entry(text)
            modules.append(llvm.parse_assembly(text))
        module, *others = modules
        for other in others:
            module.link_in(other)
        module.triple = llvm.get_default_triple()
        module.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        passes.getModulePassManager().run(module, passes)
        names = {variable.name for variable in module.global_variables}
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        self._engines.append(engine)
        at = engine.get_global_value_address(shared[0]) if shared and shared[0] in names else 0
        return engine.get_function_address("entry"), at, parameters

    @contextmanager
    def recording(self, counting):
        """Run nothing while the block runs; gives a list.

        Afterwards that has a function that runs it, in memory that is poisoned before, and that memory.
        """
        self.recorded, self.memory, made = [], [], []
        try:
            yield made
            steps, memory = self.recorded, self.memory
        finally:
            self.recorded = self.memory = None

        def start():
            counting.starts += 1
            for array in memory:
                _poison(array)
            for step in steps:
                step()
        made += start, memory

    def empty(self, shape, dtype=float, **options):
        """np.empty, full of NaN, or -1."""
        array = _poison(np.empty(shape, dtype, **options))
        if self.memory is not None:
            self.memory.append(array)
        return array

    def multiply(self, a, b, out, transpose_a, transpose_b):
        """As products.CuBlas has it."""
        if self.recorded is not None:
            self.recorded.append(lambda: self.multiply(a, b, out, transpose_a, transpose_b))
            return
        np.matmul(a.transpose(0, 2, 1) if transpose_a else a, b.transpose(0, 2, 1) if transpose_b else b, out=out)


def _geometry(configuration):
    """(x, y) blocks, threads and bytes of dynamic shared memory of kernel[...], within what a device allows."""
    grid, block, *rest = configuration
    x, y = (*(grid if isinstance(grid, tuple) else (grid,)), 1)[:2]
    threads = block[0] if isinstance(block, tuple) else block
    dynamic = rest[1] if len(rest) > 1 else 0
    assert 0 < threads <= THREADS_PER_BLOCK and dynamic <= SHARED_PER_BLOCK, configuration
    assert x > 0 and 0 < y <= BLOCKS_Y, configuration
    return (int(x), int(y)), int(threads), int(dynamic)


def _type(argument):
    from numba import types, typeof
    kind = typeof(argument)
    return types.Array(kind.dtype, kind.ndim, "C") if isinstance(kind, types.Array) else kind


def _words(kind, value):
    """An argument as a kernel's parameters: arrays as parent, size, data, shape and strides."""
    from numba import types
    if isinstance(kind, types.Array):
        assert value.flags.c_contiguous
        return [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]
    if isinstance(kind, types.BaseTuple):
        return [word for part, own in zip(kind, value) for word in _words(part, own)]
    if kind in (types.float32, types.float64):
        real, word = (np.float32, np.uint32) if kind == types.float32 else (np.float64, np.uint64)
        return [int(real(value).view(word))]
    return [int(value)]


def _llvm_of(kernel, types):
    """The LLVM modules that numba-cuda would give to NVVM, the kernel's own first."""
    from numba.cuda import codegen, compile as to_ptx

    class Made(Exception):
        pass

    made, compile_ir = [], codegen.nvvm.compile_ir

    def take(modules, **options):
        made.extend(modules)
        raise Made

    codegen.nvvm.compile_ir = take
    try:
        to_ptx(kernel.py_func, types, cc=COMPUTE_CAPABILITY, device=False, abi="numba")
    except Made:
        return made
    finally:
        codegen.nvvm.compile_ir = compile_ir


def _fibers():
    """fibers.c as a library of this process."""
    folder = Path(tempfile.mkdtemp(prefix="hrmas-emulator-"))
    path = folder / "libfibers.so"
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", path,
                    Path(__file__).with_name("fibers.c"), "-lm"], check=True)
    llvm.load_library_permanently(str(path))
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library.emulated_launch.restype = ctypes.c_long
    return library


def _poison(array):
    array.reshape(-1).view(np.uint8)[:] = 0xFF
    return array


def _numpy_as_cupy(made):
    """A module that passes for CuPy on a device with 60 of 80 GiB free."""
    module = ModuleType("cupy")
    vars(module).update({name: getattr(np, name) for name in dir(np) if not name.startswith("__")})
    at_once = SimpleNamespace(wait_event=lambda event: None, synchronize=lambda: None, ptr=0)
    at_once.record = lambda: at_once
    module.empty, module.empty_like = made.empty, lambda like: made.empty(like.shape, like.dtype)
    module.asnumpy = lambda array: np.array(array, subok=False)
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(memGetInfo=lambda: (60 << 30, 80 << 30)),
                                  get_current_stream=lambda: at_once, Stream=lambda **options: at_once)
    module.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 0)
    return module


def install():
    """Let the CUDA backend of this process run in an emulator, which is returned."""
    assert "hrmas_sparse.engine.backends.cuda.backend" not in sys.modules
    made = Emulator()
    sys.modules["cupy"] = _numpy_as_cupy(made)
    from hrmas_sparse.engine.backends.cuda import compile  # noqa: F401  (sets Numba's options first)
    from hrmas_sparse.engine.backends.cuda import products
    from numba.cuda import dispatcher
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=COMPUTE_CAPABILITY)
    products.direct = lambda: made
    dispatcher.CUDADispatcher.__getitem__ = (
        lambda kernel, configuration: lambda *arguments: made.launch(kernel, configuration, arguments))
    return made
