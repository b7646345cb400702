"""Hamming distances of a few rows and a few columns at once, in registers: what every search over pairs is made of.

A tile is ROWS codes by COLUMNS codes. Both sides are laid word by word first (`lay`), as a matrix product lays its
panels: one word of a row meets VECTORS vectors of columns, and the counts stay in registers over all words.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from polykern_kernels._numba.lanes import popcount as popcount

LANES = 8  # uint64 of a 512-bit vector
# 24 counts, 3 words of columns and a word of a row fill the 32 registers of AVX-512; others have half of half
ROWS, VECTORS = (8, 3) if binding.get_host_cpu_features().get("avx512vpopcntdq") else (4, 1)
COLUMNS = LANES * VECTORS
GROUP = 96  # columns whose counts are looked at together: a multiple of COLUMNS and of MASK
MASK = 32


def _address(context: Any, builder: Any, kind: Any, array: Any, *indices: Any) -> Any:
    """Pointer to array[indices]."""
    view = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, view, list(indices), wraparound=False)


@intrinsic
def distances(typing: Any, rows: Any, i: Any, columns: Any, p: Any, out: Any, at: Any) -> Any:
    """out[r, at + c] = popcount of rows[i, :, r] ^ columns[p, :, c], for a tile.

    rows     uint64 (blocks, words, ROWS)
    columns  uint64 (panels, words, COLUMNS)
    out      int32 (ROWS, width)
    """
    word, index = ir.IntType(64), ir.IntType(64)
    lanes = ir.VectorType(word, LANES)
    narrow = ir.VectorType(ir.IntType(32), LANES)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(lanes, [lanes])
        count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i64")
        zero = ir.Constant(index, 0)
        row = _address(context, builder, rows, args[0], args[1], zero, zero)
        column = _address(context, builder, columns, args[2], args[3], zero, zero)
        shape = context.make_array(columns)(context, builder, args[2]).shape
        words = builder.extract_value(shape, 1)
        splat = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        start = builder.block
        head, body, end = (builder.append_basic_block(name) for name in ("words", "word", "counted"))
        builder.branch(head)
        builder.position_at_end(head)
        w = builder.phi(index)
        w.add_incoming(zero, start)
        totals = [[builder.phi(lanes) for _ in range(VECTORS)] for _ in range(ROWS)]
        for total in (t for line in totals for t in line):
            total.add_incoming(ir.Constant(lanes, None), start)
        builder.cbranch(builder.icmp_signed("<", w, words), body, end)
        builder.position_at_end(body)
        here = builder.gep(column, [builder.mul(w, ir.Constant(index, COLUMNS))])
        loaded = []
        for v in range(VECTORS):
            pointer = builder.gep(here, [ir.Constant(index, v * LANES)])
            loaded.append(builder.load(builder.bitcast(pointer, lanes.as_pointer()), align=8))
        here = builder.gep(row, [builder.mul(w, ir.Constant(index, ROWS))])
        for r in range(ROWS):
            one = builder.load(builder.gep(here, [ir.Constant(index, r)]))
            first = builder.insert_element(ir.Constant(lanes, ir.Undefined), one, ir.Constant(ir.IntType(32), 0))
            every = builder.shuffle_vector(first, first, splat)
            for v in range(VECTORS):
                differing = builder.call(count, [builder.xor(every, loaded[v])])
                totals[r][v].add_incoming(builder.add(totals[r][v], differing), body)
        w.add_incoming(builder.add(w, ir.Constant(index, 1)), body)
        builder.branch(head)
        builder.position_at_end(end)
        for r in range(ROWS):
            target = _address(context, builder, out, args[4], ir.Constant(index, r), args[5])
            for v in range(VECTORS):
                pointer = builder.gep(target, [ir.Constant(index, v * LANES)])
                builder.store(
                    builder.trunc(totals[r][v], narrow), builder.bitcast(pointer, narrow.as_pointer()), align=4
                )
        return context.get_dummy_value()

    return types.void(rows, types.intp, columns, types.intp, out, types.intp), codegen


@njit(cache=True, nogil=True, error_model="numpy")
def lay(words, first, last, out):
    """Codes first..last word by word: out uint64 (blocks, (words + 1) // 2, codes), zero beyond last."""
    blocks, size, codes = out.shape
    length = words.shape[1]
    for b in range(blocks):
        block = out[b]
        for c in range(codes):
            code = first + b * codes + c
            if code >= last:
                for w in range(size):
                    block[w, c] = 0
                continue
            row = words[code]
            for w in range(length // 2):
                low, high = np.uint32(row[2 * w]), np.uint32(row[2 * w + 1])
                block[w, c] = np.uint64(low) | np.uint64(high) << np.uint64(32)
            if length & 1:
                block[size - 1, c] = np.uint64(np.uint32(row[length - 1]))


def _loaded(context: Any, builder: Any, kind: Any, array: Any, *indices: Any) -> Any:
    """MASK elements from array[indices] on, as a vector."""
    vector = ir.VectorType(context.get_data_type(kind.dtype), MASK)
    pointer = _address(context, builder, kind, array, *indices)
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=kind.dtype.bitwidth // 8)


def _every(builder: Any, value: Any) -> Any:
    """value in MASK lanes."""
    first = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, MASK), ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), MASK), None))


@intrinsic
def promising(
    typing: Any, counts: Any, r: Any, at: Any, row: Any, columns: Any, first: Any, size: Any, sizes: Any
) -> Any:
    """uint32 whose bit j says that pair (r, at + j) of a tile is within the larger of its two limits.

    counts   int32 (ROWS, width)      bits d that differ
    row      int32 | float32          limit of the row
    columns  int32 | float32 (codes)  limits of the columns, from `first` on
    size     int32                    ones of the row
    sizes    int32 (codes)            ones of the columns, from `first` on

    int32 limits are of d; float32 ones of the Jaccard distance 2 d / (size + sizes + d), and must be a little too
    high for its rounding, so that no pair within them is missed.
    """
    real = isinstance(columns.dtype, types.Float)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = _loaded(context, builder, counts, args[0], args[1], args[2])
        limits = _loaded(context, builder, columns, args[4], args[5])
        mine = _every(builder, args[3])
        compare = builder.fcmp_ordered if real else builder.icmp_signed
        limits = builder.select(compare(">", limits, mine), limits, mine)
        if real:
            floats = ir.VectorType(ir.FloatType(), MASK)
            ones = builder.add(_every(builder, args[6]), _loaded(context, builder, sizes, args[7], args[5]))
            limits = builder.fmul(limits, builder.sitofp(builder.add(ones, found), floats))
            found = builder.sitofp(builder.add(found, found), floats)
        return builder.bitcast(compare("<=", found, limits), ir.IntType(MASK))

    given = (counts, types.intp, types.intp, columns.dtype, columns, types.intp, types.int32, sizes)
    return types.uint32(*given), codegen


@intrinsic
def lowest(typing: Any, word: Any) -> Any:
    """Place of the lowest one of a word that has one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))
        return builder.zext(place, ir.IntType(64))

    return types.intp(types.uint32), codegen


@njit(cache=True, nogil=True, error_model="numpy")
def laid(words, first, last):
    """The codes first..last as rows of tiles."""
    out = np.empty(((last - first + ROWS - 1) // ROWS, (words.shape[1] + 1) // 2, ROWS), np.uint64)
    lay(words, first, last, out)
    return out
