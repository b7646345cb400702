"""Population counts of vectors of 512 bits, which LLVM makes of the widest that the processor has.

Left to itself LLVM takes vectors of 256 bits on processors that once slowed down with wider ones, and a ceiling
that searches pass is none.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, VECTORS = 8, 8  # uint64 of a vector; vectors at once, each with a sum of its own
STEP = LANES * VECTORS


def _summed(words: Any, first: Any, length: Any, word: Any) -> Any:
    """The typed intrinsic of `ones` and of `differing`, whose word is not None."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cell = ir.IntType(64)
        lanes = ir.VectorType(cell, LANES)
        kind = ir.FunctionType(lanes, [lanes])
        count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i64")
        view = context.make_array(words)(context, builder, args[0])
        start = cgutils.get_item_pointer(context, builder, words, view, [args[1]], wraparound=False)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(lanes, None)) for _ in range(VECTORS)]
        other = None
        if word is not None:
            one = builder.insert_element(ir.Constant(lanes, ir.Undefined), args[3], ir.Constant(ir.IntType(32), 0))
            other = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))
        with cgutils.for_range_slice(builder, cell(0), args[2], cell(STEP)) as (at, _):
            for v, total in enumerate(sums):
                place = builder.gep(start, [builder.add(at, cell(v * LANES))])
                loaded = builder.load(builder.bitcast(place, lanes.as_pointer()), align=8)
                loaded = loaded if other is None else builder.xor(loaded, other)
                builder.store(builder.add(builder.load(total), builder.call(count, [loaded])), total)
        whole = builder.load(sums[0])
        for total in sums[1:]:
            whole = builder.add(whole, builder.load(total))
        found = cell(0)
        for lane in range(LANES):
            found = builder.add(found, builder.extract_element(whole, ir.Constant(ir.IntType(32), lane)))
        return found

    given = (words, types.intp, types.intp) if word is None else (words, types.intp, types.intp, types.uint64)
    return types.uint64(*given), codegen


@intrinsic  # type: ignore[untyped-decorator]
def ones(typing: Any, words: Any, first: Any, length: Any) -> Any:
    """uint64: set bits of words[first : first + length], uint64; length is a multiple of STEP."""
    return _summed(words, first, length, None)


@intrinsic  # type: ignore[untyped-decorator]
def differing_bits(typing: Any, words: Any, first: Any, length: Any, word: Any) -> Any:
    """uint64: bits in which words[first : first + length] differ from a word; length is a multiple of STEP."""
    return _summed(words, first, length, word)
