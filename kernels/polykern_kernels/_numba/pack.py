"""32 comparisons as one word, words at any bit, squares of 32 by 32 bits on their side."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

from polykern_kernels._numba.lanes import above, not_a_number, popcount, put

ROWS = 16  # rows a task: one scratch buffer for all of them
LINE = 16  # words of a cache line: the squares beside and below each other that a task turns


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def signs(x, keys, infinity, words, ones):
    """x int (rows, units) of float patterns; keys (K, 1 or units) of their dtype; returns the NaN."""
    rows, units = x.shape
    count = len(keys)
    whole = units // 32 * 32
    rest = units - whole
    inside = np.uint32((np.uint64(1) << np.uint64(rest)) - np.uint64(1))
    each = keys.shape[1] > 1
    tail_keys = np.zeros((count, 32), x.dtype)
    for k in range(count):
        for j in range(rest):
            tail_keys[k, j] = keys[k, whole + j if each else 0]
    nans = 0
    for task in prange((rows + ROWS - 1) // ROWS):
        tail = np.zeros(32, x.dtype)
        for r in range(task * ROWS, min(rows, task * ROWS + ROWS)):
            here, out = x[r], words[r]
            out[:] = 0
            for j in range(rest):
                tail[j] = here[whole + j]
            total = 0
            bad = not_a_number(tail, 0, infinity) & inside
            for k in range(count):
                base, key = k * units, keys[k]
                if each:
                    for u in range(0, whole, 32):
                        bad |= not_a_number(here, u, infinity)
                        mask = above(here, u, key)
                        total += popcount(mask)
                        put(out, base + u, mask)
                elif k == 0:
                    for u in range(0, whole, 32):
                        bad |= not_a_number(here, u, infinity)
                        mask = above(here, u, key[0])
                        total += popcount(mask)
                        out[u >> 5] = mask
                else:
                    for u in range(0, whole, 32):
                        mask = above(here, u, key[0])
                        total += popcount(mask)
                        put(out, base + u, mask)
                mask = above(tail, 0, tail_keys[k]) & inside
                total += popcount(mask)
                put(out, base + whole, mask)
            ones[r] = total
            if bad:
                nans += popcount(not_a_number(tail, 0, infinity) & inside)
                for u in range(0, whole, 32):
                    nans += popcount(not_a_number(here, u, infinity))
    return nans


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def place(part, start, out):
    """Every row of part from bit `start` on in a row of out whose bits there are zero."""
    for r in prange(len(part)):
        for w in range(part.shape[1]):
            put(out[r], start + 32 * w, part[r, w])


@intrinsic
def _turn(typing: Any, square: Any) -> Any:
    """square uint32 (32, LINE): LINE squares of 32 by 32 bits side by side, each laid on its side."""
    vector = ir.VectorType(ir.IntType(32), LINE)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = builder.bitcast(context.make_array(square)(context, builder, args[0]).data, vector.as_pointer())
        places = [builder.gep(base, [ir.Constant(ir.IntType(64), k)]) for k in range(32)]
        rows = [builder.load(place, align=4) for place in places]
        for step in (16, 8, 4, 2, 1):
            # in squares of 2 step bits the blocks beside the diagonal change places
            shift = ir.Constant(vector, [step] * LINE)
            mask = ir.Constant(vector, [0xFFFFFFFF // ((1 << step) + 1)] * LINE)
            for k in (k for k in range(32) if not k & step):
                a, b = rows[k], rows[k + step]
                differing = builder.and_(builder.xor(builder.lshr(a, shift), b), mask)
                rows[k] = builder.xor(a, builder.shl(differing, shift))
                rows[k + step] = builder.xor(b, differing)
        for row, place in zip(rows, places, strict=True):
            builder.store(row, place, align=4)
        return context.get_dummy_value()

    return types.void(square), codegen


@njit(cache=True, nogil=True, inline="always")
def _copy(source, target):
    if len(source) == LINE:
        for i in range(LINE):  # one load and one store
            target[i] = source[i]
    else:
        for i in range(len(source)):
            target[i] = source[i]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def transpose(words, out):
    """words uint32 (rows, words); out uint32 (bits, words for rows)."""
    rows, count = words.shape
    bits, size = out.shape
    wide, tall = (count + LINE - 1) // LINE, (size + LINE - 1) // LINE
    for task in prange(wide * tall):
        first_w, first_r = task // tall * LINE, task % tall * LINE
        inside, held = min(LINE, count - first_w), min(LINE, size - first_r)
        square = np.zeros((32, LINE), np.uint32)
        turned = np.empty((32 * LINE, LINE), np.uint32)
        for r in range(held):
            for k in range(32):
                row = 32 * (first_r + r) + k
                if row < rows:
                    _copy(words[row, first_w : first_w + inside], square[k])
                else:
                    square[k] = 0
            _turn(square)
            for w in range(inside):
                for k in range(32):
                    turned[32 * w + k, r] = square[k, w]
        for b in range(min(32 * inside, bits - 32 * first_w)):
            _copy(turned[b, :held], out[32 * first_w + b, first_r : first_r + held])
