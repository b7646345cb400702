"""What LLVM does in an instruction or two and numba has no word for: 32 comparisons as one word, a sum
under the bits of a word, popcount, the bits of a float, a prefetch.

numba renews a cached function when its own file changes, not when this one does: remove `__pycache__`
after editing here.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_LANES = 32


def _vector(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """array[index : index + 32] as <32 x element>."""
    element = context.get_data_type(kind.dtype)
    view = context.make_array(kind)(context, builder, array)
    pointer = cgutils.get_item_pointer(context, builder, kind, view, [index], wraparound=False)
    lanes = builder.load(builder.bitcast(pointer, ir.VectorType(element, _LANES).as_pointer()))
    lanes.align = kind.dtype.bitwidth // 8
    return lanes


def _splat(builder: Any, value: Any) -> Any:
    """value in every lane."""
    empty = ir.Constant(ir.VectorType(value.type, _LANES), ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
    return builder.shuffle_vector(first, empty, zeros)


def _order_key(builder: Any, lanes: Any, bits: int) -> Any:
    """Bit patterns of floats -> signed integers in the order of the floats; -0 -> -1, +0 -> 0."""
    element = ir.IntType(bits)
    top = _splat(builder, ir.Constant(element, bits - 1))
    rest = _splat(builder, ir.Constant(element, (1 << (bits - 1)) - 1))
    return builder.xor(lanes, builder.and_(builder.ashr(lanes, top), rest))


@intrinsic
def above(typing: Any, x: Any, i: Any, threshold: Any) -> Any:
    """uint32 whose bit j is x[i + j] > threshold.

    x          float (n,), or int (n,) holding the bit patterns of floats
    i          index; i + 32 <= n
    threshold  scalar of x's dtype, or an array whose element i + j belongs to lane j. For patterns: its
               order key (`pack.order_keys`)
    """
    each = isinstance(threshold, types.Array)
    floats = isinstance(x.dtype, types.Float)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = _vector(context, builder, x, args[0], args[1])
        other = args[2]
        right = _vector(context, builder, threshold, other, args[1]) if each else _splat(builder, other)
        if not floats:
            left = _order_key(builder, left, x.dtype.bitwidth)
        compare = builder.fcmp_ordered if floats else builder.icmp_signed
        mask = compare(">", left, right)
        return builder.bitcast(mask, ir.IntType(_LANES))

    return types.uint32(x, types.intp, threshold if each else x.dtype), codegen


@intrinsic
def not_a_number(typing: Any, x: Any, i: Any, infinity: Any) -> Any:
    """uint32 whose bit j says that the pattern x[i + j] is a NaN; `infinity` is the pattern of +inf."""
    bits = x.dtype.bitwidth

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rest = _splat(builder, ir.Constant(ir.IntType(bits), (1 << (bits - 1)) - 1))
        size = builder.and_(_vector(context, builder, x, args[0], args[1]), rest)
        mask = builder.icmp_signed(">", size, _splat(builder, args[2]))
        return builder.bitcast(mask, ir.IntType(_LANES))

    return types.uint32(x, types.intp, x.dtype), codegen


@intrinsic
def fetch_early(typing: Any, x: Any, i: Any, write: Any) -> Any:
    """Starts to bring the cache line of x[i] near; `write` is True when it will be written."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(x)(context, builder, args[0])
        pointer = cgutils.get_item_pointer(context, builder, x, view, [args[1]], wraparound=False)
        octets, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octets, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        near, data = number(3), number(1)
        wanted = number(1 if write.literal_value else 0)
        builder.call(prefetch, [builder.bitcast(pointer, octets), wanted, near, data])
        return context.get_dummy_value()

    if not isinstance(write, types.Literal):
        return None
    return types.void(x, types.intp, write), codegen


@intrinsic
def pattern(typing: Any, x: Any) -> Any:
    """The bits of a float as a signed integer of its size; floats >= 0 are ordered like them."""
    size = x.bitwidth

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(size))

    return types.Integer.from_bitwidth(size, signed=True)(x), codegen


@intrinsic
def popcount(typing: Any, word: Any) -> Any:
    """Number of ones of an unsigned word, of the word's type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return word(word), codegen


@intrinsic
def add_selected(typing: Any, sums: Any, x: Any, i: Any, word: Any) -> Any:
    """sums[b % 8] += x[i + b] for every set bit b of the uint32 word; sums and x are int64 arrays."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        eight = ir.VectorType(ir.IntType(64), 8)
        lanes = _vector(context, builder, x, args[1], args[2])
        on = builder.bitcast(args[3], ir.VectorType(ir.IntType(1), _LANES))
        chosen = builder.select(on, lanes, ir.Constant(lanes.type, None))
        view = context.make_array(sums)(context, builder, args[0])
        pointer = builder.bitcast(view.data, eight.as_pointer())
        total = builder.load(pointer)
        total.align = 8
        for quarter in range(4):
            pick = [ir.Constant(ir.IntType(32), 8 * quarter + b) for b in range(8)]
            part = builder.shuffle_vector(chosen, chosen, ir.Constant(ir.VectorType(ir.IntType(32), 8), pick))
            total = builder.add(total, part)
        builder.store(total, pointer).align = 8
        return context.get_dummy_value()

    return types.void(sums, x, types.intp, types.uint32), codegen


@njit(cache=True, nogil=True, inline="always")
def put(row, bit, word):
    """row |= word << bit, over words; zeros may hang over the end."""
    w, shift = bit >> 5, np.uint32(bit & 31)
    if shift == 0:
        if word != 0:
            row[w] |= word
    else:
        row[w] |= word << shift
        over = word >> (np.uint32(32) - shift)
        if over != 0:
            row[w + 1] |= over
