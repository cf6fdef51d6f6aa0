"""A vector of ``LANES`` numbers, one per sample of a chunk, as a Numba type.

Numba leaves vectorising to LLVM, which cannot know that the arrays of a kernel do not overlap and so
re-reads and re-writes an accumulator at every step of a sum. A value of this type lives in a register
(one of AVX-512 in float32, several of narrower machines): a sum over synapses is then one load and one
multiply-add a synapse. It has only the operations the kernels in :mod:`.synapses` need.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 16


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


def _pointer(context, builder, array_type, array, row, unsigned):
    """Pointer to row ``row`` of a C-contiguous (n, LANES) array, as a vector."""
    struct = context.make_array(array_type)(context, builder, array)
    extend = builder.zext if unsigned else builder.sext
    row = extend(row, ir.IntType(64)) if row.type.width < 64 else row
    first = builder.gep(struct.data, [builder.mul(row, ir.Constant(ir.IntType(64), LANES))])
    vector = ir.VectorType(context.get_value_type(array_type.dtype), LANES)
    return builder.bitcast(first, vector.as_pointer())


def _splat(builder, number):
    """The vector with the same number in every lane."""
    vector = ir.VectorType(number.type, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined),
                                  ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


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
def lowest_bit(typingctx, bits):
    """Index of the lowest set bit of a non-zero unsigned word: the next lane that spiked."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return bits(bits), codegen
