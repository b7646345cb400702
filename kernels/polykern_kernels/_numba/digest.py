"""Sums of keys over the set bits of codes."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba.lanes import add_selected

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX = np.uint64(0xBF58476D1CE4E5B9)
MIX_AGAIN = np.uint64(0x94D049BB133111EB)
ROWS = 8  # rows that meet a block of keys while it is in L1
BLOCK = 32  # words of keys in a block: 32 words x 32 bits x 8 bytes = 8 KiB a lane


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def keys(out, offset):
    """out uint64 (bits, 2)."""
    for j in prange(len(out)):
        for lane in range(2):
            x = np.uint64(2 * (offset + j) + lane + 1) * GAMMA
            x = (x ^ (x >> np.uint64(30))) * MIX
            x = (x ^ (x >> np.uint64(27))) * MIX_AGAIN
            out[j, lane] = x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def fingerprints(words, key, out):
    """words uint32 (rows, words); key int64 (2, 32 words); out int64 (rows, 2)."""
    rows, count = words.shape
    for task in prange((rows + ROWS - 1) // ROWS):
        low, high = task * ROWS, min(rows, task * ROWS + ROWS)
        sums = np.zeros((ROWS, 2, 8), np.int64)
        for w0 in range(0, count, BLOCK):
            for r in range(low, high):
                a, b = sums[r - low, 0], sums[r - low, 1]
                for w in range(w0, min(count, w0 + BLOCK)):
                    add_selected(a, key[0], 32 * w, words[r, w])
                    add_selected(b, key[1], 32 * w, words[r, w])
        for r in range(low, high):
            for lane in range(2):
                out[r, lane] = sums[r - low, lane].sum()
