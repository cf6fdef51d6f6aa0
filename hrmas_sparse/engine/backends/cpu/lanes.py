"""A vector of ``LANES`` numbers, one per sample of a chunk, as a Numba type.

Numba leaves vectorising to LLVM, which cannot know that the arrays of a kernel do not overlap and so
re-reads and re-writes an accumulator at every step of a sum. A value of this type lives in a register
(one of AVX-512 in float32, several of narrower machines): a sum over synapses is then one load and one
multiply-add a synapse. It has only the operations the kernels in :mod:`.synapses` need.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import populate_array

from hrmas_sparse.engine.backends.cpu import LANES

WORD = 64    # bits of a word


class LanesType(types.Type):
    """``LANES`` numbers of one float type."""

    def __init__(self, real):
        self.real = real
        super().__init__(name=f"Lanes[{real}]")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        number = manager.lookup(lanes.real).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(number, LANES))


def _vector(context, array_type):
    """LLVM's type of ``LANES`` of an array's numbers."""
    return ir.VectorType(context.get_value_type(array_type.dtype), LANES)


def _pointer(context, builder, array_type, array, row, unsigned):
    """Pointer to row ``row`` of a C-contiguous array seen as (n, LANES), as a vector."""
    struct = context.make_array(array_type)(context, builder, array)
    extend = builder.zext if unsigned else builder.sext
    row = extend(row, ir.IntType(64)) if row.type.width < 64 else row
    first = builder.gep(struct.data, [builder.mul(row, ir.Constant(ir.IntType(64), LANES))])
    return builder.bitcast(first, _vector(context, array_type).as_pointer())


def _word(builder, index):
    return builder.zext(index, ir.IntType(64)) if index.type.width < 64 else index


def _pointer_at(context, builder, array_type, array, row, column):
    """Pointer to a place of a C-contiguous matrix; indices are unsigned or at least not negative."""
    struct = context.make_array(array_type)(context, builder, array)
    width = builder.extract_value(struct.shape, 1)
    first = builder.gep(struct.data, [builder.add(builder.mul(_word(builder, row), width), _word(builder, column))])
    return builder.bitcast(first, _vector(context, array_type).as_pointer())


def _square(context, builder, array_type, array, row, column):
    """Pointers to ``LANES`` rows that follow each other, from a column on."""
    struct = context.make_array(array_type)(context, builder, array)
    width = builder.extract_value(struct.shape, 1)
    first = builder.bitcast(_pointer_at(context, builder, array_type, array, row, column), struct.data.type)
    return [builder.bitcast(builder.gep(first, [builder.mul(width, ir.Constant(ir.IntType(64), i))]),
                            _vector(context, array_type).as_pointer()) for i in range(LANES)]


def _first(context, builder, array_type, count):
    """The type of a vector of an array's numbers, and the mask of its first ``count``."""
    number = ir.IntType(32)
    lanes = ir.Constant(ir.VectorType(number, LANES), list(range(LANES)))
    count = _splat(builder, builder.trunc(_word(builder, count), number))
    return _vector(context, array_type), builder.icmp_unsigned("<", lanes, count)


def _masked(builder, what, result, arguments):
    """LLVM's masked load or store of ``LANES`` numbers."""
    vector = result if what == "load" else arguments[0]
    letter = "f32" if vector.element == ir.FloatType() else "f64"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments),
                                          f"llvm.masked.{what}.v{LANES}{letter}.p0")


def _splat(builder, number, count=LANES):
    """The vector with the same number in every lane."""
    vector = ir.VectorType(number.type, count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined),
                                  ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


@intrinsic
def load(typingctx, array, row):
    """The row of a C-contiguous (n, LANES) array as lanes. The row is not checked."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1], not row.signed)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return LanesType(array.dtype)(array, row), codegen


@intrinsic
def store(typingctx, array, row, lanes):
    """Write lanes to the row of a C-contiguous (n, LANES) array. The row is not checked."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1], not row.signed)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, row, lanes), codegen


@intrinsic
def load_at(typingctx, array, row, column):
    """``LANES`` numbers of a row of a C-contiguous matrix, from a column on. Nothing is checked."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer_at(context, builder, array, *args), align=array.dtype.bitwidth // 8)

    return LanesType(array.dtype)(array, row, column), codegen


@intrinsic
def store_at(typingctx, array, row, column, lanes):
    """Write lanes to a row of a C-contiguous matrix, from a column on. Nothing is checked."""

    def codegen(context, builder, signature, args):
        builder.store(args[3], _pointer_at(context, builder, array, *args[:3]), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, row, column, lanes), codegen


@intrinsic
def load_first(typingctx, array, row, column, count):
    """As :func:`load_at`, the first ``count`` numbers; nothing beyond them is touched, zeros stand for it."""

    def codegen(context, builder, signature, args):
        vector, mask = _first(context, builder, array, args[3])
        load = _masked(builder, "load", vector, [vector.as_pointer(), ir.IntType(32), mask.type, vector])
        return builder.call(load, [_pointer_at(context, builder, array, *args[:3]),
                                   ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8), mask,
                                   ir.Constant(vector, [0.0] * LANES)])

    return LanesType(array.dtype)(array, row, column, count), codegen


@intrinsic
def store_first(typingctx, array, row, column, count, lanes):
    """As :func:`store_at`, the first ``count`` lanes; nothing beyond them is touched."""

    def codegen(context, builder, signature, args):
        vector, mask = _first(context, builder, array, args[3])
        store = _masked(builder, "store", ir.VoidType(), [vector, vector.as_pointer(), ir.IntType(32), mask.type])
        builder.call(store, [args[4], _pointer_at(context, builder, array, *args[:3]),
                             ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8), mask])
        return context.get_dummy_value()

    return types.void(array, row, column, count, lanes), codegen


@intrinsic
def transpose(typingctx, source, row, column, result, to_row, to_column):
    """Turn a square of ``LANES`` rows and columns of one C-contiguous matrix into another. Nothing is checked.

    Rows a distance of 1, 2, 4, ... apart exchange every second block of that many numbers.
    """

    def codegen(context, builder, signature, args):
        align = source.dtype.bitwidth // 8
        rows = [builder.load(p, align=align) for p in _square(context, builder, source, *args[:3])]
        far = 1
        while far < LANES:
            low = [i if not i & far else LANES + i - far for i in range(LANES)]
            high = [i + far if not i & far else LANES + i for i in range(LANES)]
            for i in range(LANES):
                if not i & far:
                    one, other = rows[i], rows[i + far]
                    rows[i], rows[i + far] = (builder.shuffle_vector(one, other, ir.Constant(
                        ir.VectorType(ir.IntType(32), LANES), order)) for order in (low, high))
            far *= 2
        for value, pointer in zip(rows, _square(context, builder, result, *args[3:])):
            builder.store(value, pointer, align=align)
        return context.get_dummy_value()

    return types.void(source, row, column, result, to_row, to_column), codegen


@intrinsic
def splat(typingctx, number):
    """The same number in every lane."""

    def codegen(context, builder, signature, args):
        return _splat(builder, args[0])

    return LanesType(number)(number), codegen


@intrinsic
def add_scaled(typingctx, total, weight, lanes):
    """total + weight * lanes, fused where the machine can."""

    def codegen(context, builder, signature, args):
        product = builder.fmul(_splat(builder, args[1]), args[2], flags=("contract",))
        return builder.fadd(args[0], product, flags=("contract",))

    return total(total, weight, lanes), codegen


@intrinsic
def add_product(typingctx, total, left, right):
    """total + left * right lane by lane, fused where the machine can."""

    def codegen(context, builder, signature, args):
        product = builder.fmul(args[1], args[2], flags=("contract",))
        return builder.fadd(args[0], product, flags=("contract",))

    return total(total, left, right), codegen


@intrinsic
def sum_lanes(typingctx, lanes):
    """Sum of all lanes: halves are added until one number is left."""

    def codegen(context, builder, signature, args):
        vector, width = args[0], LANES
        while width > 1:
            width //= 2
            nothing = ir.Constant(vector.type, ir.Undefined)
            low, high = (builder.shuffle_vector(vector, nothing, ir.Constant(
                ir.VectorType(ir.IntType(32), width), [start + i for i in range(width)])) for start in (0, width))
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return lanes.real(lanes), codegen


def _fetch(to_write):
    """Code that asks for the row of an array, to be read or to be written."""

    def codegen(context, builder, signature, args):
        array, row = signature.args
        pointer = _pointer(context, builder, array, args[0], args[1], not row.signed)
        word = ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(builder.module, ir.FunctionType(
            ir.VoidType(), [pointer.type, word, word, word]), "llvm.prefetch.p0")
        builder.call(prefetch, [pointer, *(ir.Constant(word, n) for n in (to_write, 3, 1))])
        return context.get_dummy_value()

    return codegen


@intrinsic
def fetch(typingctx, array, row):
    """Ask for the row of a C-contiguous array seen as (n, LANES) before it is needed. Changes no number."""
    return types.void(array, row), _fetch(0)


@intrinsic
def fetch_to_write(typingctx, array, row):
    """As :func:`fetch`, for a row that will be written."""
    return types.void(array, row), _fetch(1)


@intrinsic
def flat(typingctx, array):
    """A C-contiguous array as one row. (Numba's reshape calls a function that finds out whether it can.)"""
    row = types.Array(array.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        whole, result = context.make_array(array)(context, builder, args[0]), context.make_array(row)(context, builder)
        populate_array(result, data=whole.data, shape=[whole.nitems], strides=[whole.itemsize],
                       itemsize=whole.itemsize, meminfo=whole.meminfo, parent=whole.parent)
        return impl_ret_borrowed(context, builder, row, result._getvalue())

    return row(array), codegen


@intrinsic
def add(typingctx, left, right):
    """Lane by lane sum."""

    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], args[1])

    return left(left, right), codegen


@intrinsic
def multiply(typingctx, left, right):
    """Lane by lane product."""

    def codegen(context, builder, signature, args):
        return builder.fmul(args[0], args[1])

    return left(left, right), codegen


@intrinsic
def bits_above(typingctx, lanes, number):
    """Bit mask of the lanes greater than a number."""

    def codegen(context, builder, signature, args):
        above = builder.fcmp_ordered(">", args[0], _splat(builder, args[1]))
        return builder.bitcast(above, ir.IntType(LANES))

    return types.uint16(lanes, number), codegen


@intrinsic
def bits_to_lanes(typingctx, bits, one):
    """``one`` in the lanes whose bit is set, 0 in the others."""

    def codegen(context, builder, signature, args):
        chosen = builder.bitcast(args[0], ir.VectorType(ir.IntType(1), LANES))
        vector = ir.VectorType(args[1].type, LANES)
        return builder.select(chosen, _splat(builder, args[1]), ir.Constant(vector, [0.0] * LANES))

    return LanesType(one)(bits, one), codegen


@intrinsic
def bits_of_lane(typingctx, masks, first, lane):
    """One bit of each of ``WORD`` masks of a C-contiguous row, from ``first`` on, as a word. Nothing is checked."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(ir.IntType(LANES), WORD)
        struct = context.make_array(masks)(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(struct.data, [_word(builder, args[1])]), vector.as_pointer())
        chosen = builder.shl(ir.Constant(ir.IntType(LANES), 1), builder.trunc(args[2], ir.IntType(LANES)))
        lanes = builder.and_(builder.load(pointer, align=LANES // 8), _splat(builder, chosen, WORD))
        return builder.bitcast(builder.icmp_unsigned("!=", lanes, ir.Constant(vector, [0] * WORD)), ir.IntType(WORD))

    return types.uint64(masks, first, lane), codegen


@intrinsic
def lowest_bit(typingctx, bits):
    """Index of the lowest set bit of an unsigned word, of none their number: the next lane that spiked."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return bits(bits), codegen


@intrinsic
def popcount(typingctx, bits):
    """Number of set bits of an unsigned word."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return bits(bits), codegen
