"""Counts of pairs of bits, from distances in registers; pairs of blocks above the diagonal, then their mirror."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba.lanes import popcount
from polykern_kernels._numba.tiles import COLUMNS, ROWS, distances, laid, lay

SIDE = 192  # bits of a block: a multiple of ROWS and COLUMNS


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def add(neurons, pairs, total):
    """total[i, j] += codes that have both bits, for the blocks of the pairs.

    neurons  int32 (bits, words)
    pairs    int64 (tasks, 2)   blocks x <= y of SIDE bits
    total    int64 (bits, bits)
    """
    bits = len(neurons)
    ones = np.zeros(bits, np.int64)
    for i in prange(bits):
        found = 0
        for word in neurons[i]:
            found += popcount(np.uint32(word))
        ones[i] = found
    for task in prange(len(pairs)):
        i0, j0 = pairs[task, 0] * SIDE, pairs[task, 1] * SIDE
        i1, j1 = min(bits, i0 + SIDE), min(bits, j0 + SIDE)
        rows = laid(neurons, i0, i1)
        columns = np.empty(((j1 - j0 + COLUMNS - 1) // COLUMNS, rows.shape[1], COLUMNS), np.uint64)
        lay(neurons, j0, j1, columns)
        differing = np.empty((ROWS, COLUMNS), np.int32)
        for p in range(len(columns)):
            j = j0 + p * COLUMNS
            width = min(COLUMNS, j1 - j)
            right = ones[j : j + width]
            for b in range(len(rows)):
                distances(rows, b, columns, p, differing, 0)
                for r in range(min(ROWS, i1 - i0 - b * ROWS)):
                    i = i0 + b * ROWS + r
                    here, left, d = total[i, j : j + width], ones[i], differing[r]
                    for c in range(width):
                        here[c] += (left + right[c] - d[c]) >> 1


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def mirror(pairs, total):
    """What is above the diagonal to below it."""
    bits = len(total)
    for task in prange(len(pairs)):
        i0, j0 = pairs[task, 0] * SIDE, pairs[task, 1] * SIDE
        for j in range(j0, min(bits, j0 + SIDE)):
            below = total[j]
            for i in range(i0, min(j, i0 + SIDE)):
                below[i] = total[i, j]
