"""32 comparisons as one word, words at any bit."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba.lanes import above, not_a_number, popcount, put

ROWS = 16  # rows a task: one scratch buffer for all of them


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
