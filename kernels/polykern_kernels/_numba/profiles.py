"""Counts of bits by group, in planes: 63 rows are added word by word before a count is touched."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba.lanes import add_selected

PLANES = 6  # bit p of a small counter of every bit of a code: they count to 2**6 - 1
LANES = 8  # sums of a row side by side
BLOCK = 128  # words of a code at a time: six planes of them stay in L1


@njit(cache=True, nogil=True)
def _add(planes, row, first, last, levels):
    """planes[0 : levels] += the words first ... last - 1 of a row, as binary counters side by side."""
    for p in range(levels):
        plane = planes[p]
        for w in range(last - first):
            ones = plane[w]
            plane[w] = ones ^ row[w]
            row[w] &= ones


@njit(cache=True, nogil=True)
def _spread(planes, out, words, levels):
    """out[32 w + b] += the counter of bit b of word w."""
    for w in range(words):
        for p in range(levels):
            word = planes[p, w]
            for b in range(32):
                out[32 * w + b] += np.int32(((word >> np.uint32(b)) & np.uint32(1)) << np.uint32(p))


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def counts(words, rows, edges, out):
    """words uint32 (n, words); rows int64 (r); edges int64 (parts + 1); out int32 (parts, 32 words), zeros."""
    size = words.shape[1]
    blocks = (size + BLOCK - 1) // BLOCK
    most = (1 << PLANES) - 1
    for task in prange((len(edges) - 1) * blocks):
        part, first = task // blocks, task % blocks * BLOCK
        last = min(size, first + BLOCK)
        planes = np.zeros((PLANES, BLOCK), np.uint32)
        carry = np.empty(BLOCK, np.uint32)
        held = levels = 0
        for r in range(edges[part], edges[part + 1]):
            row = words[rows[r]]
            for w in range(first, last):
                carry[w - first] = row[w]
            held += 1
            if held >> levels:
                levels += 1
            _add(planes, carry, first, last, levels)
            if held == most or r == edges[part + 1] - 1:
                _spread(planes, out[part, 32 * first :], last - first, levels)
                planes[:levels] = 0
                held = levels = 0


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def sums(words, rows, edges, group, weights, out):
    """weights int64 (groups, 32 words); out int64 (r)."""
    for part in prange(len(group)):
        table = weights[group[part]]
        lanes = np.empty(LANES, np.int64)
        for r in range(edges[part], edges[part + 1]):
            row = words[rows[r]]
            lanes[:] = 0
            for w in range(len(row)):
                add_selected(lanes, table, 32 * w, row[w])
            out[r] = lanes.sum()
