"""Counts of bits by group, in planes: 63 rows are added word by word before a count is touched."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba.lanes import add_selected

MOST = 63  # rows that six planes count
LANES = 8  # sums of a row side by side
BLOCK = 128  # words of a code at a time: six planes of them stay in L1


@njit(cache=True, nogil=True)
def _add(a, b, c, d, e, f, row):
    """The planes += the words of a row: binary counters of every bit, side by side."""
    for w in range(len(row)):
        carry = row[w]
        ones = a[w]
        a[w] = ones ^ carry
        carry &= ones
        twos = b[w]
        b[w] = twos ^ carry
        carry &= twos
        fours = c[w]
        c[w] = fours ^ carry
        carry &= fours
        eights = d[w]
        d[w] = eights ^ carry
        carry &= eights
        sixteens = e[w]
        e[w] = sixteens ^ carry
        f[w] ^= carry & sixteens


@njit(cache=True, nogil=True)
def _spread(a, b, c, d, e, f, words, out):
    """out[32 w + bit] += the counter of that bit of word w."""
    one = np.uint32(1)
    for w in range(words):
        p0, p1, p2, p3, p4, p5 = a[w], b[w], c[w], d[w], e[w], f[w]
        for bit in range(32):
            s = np.uint32(bit)
            low = ((p0 >> s) & one) + (((p1 >> s) & one) << np.uint32(1)) + (((p2 >> s) & one) << np.uint32(2))
            high = ((p3 >> s) & one) + (((p4 >> s) & one) << np.uint32(1)) + (((p5 >> s) & one) << np.uint32(2))
            out[32 * w + bit] += np.int32(low + (high << np.uint32(3)))


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def counts(words, rows, edges, out):
    """words uint32 (n, words); rows int64 (r); edges int64 (parts + 1); out int32 (parts, 32 words), zeros."""
    size = words.shape[1]
    blocks = (size + BLOCK - 1) // BLOCK
    for task in prange((len(edges) - 1) * blocks):
        part, first = task // blocks, task % blocks * BLOCK
        last = min(size, first + BLOCK)
        planes = np.zeros((6, BLOCK), np.uint32)
        a, b, c, d, e, f = planes[0], planes[1], planes[2], planes[3], planes[4], planes[5]
        held = 0
        for r in range(edges[part], edges[part + 1]):
            _add(a, b, c, d, e, f, words[rows[r], first:last])
            held += 1
            if held == MOST or r == edges[part + 1] - 1:
                _spread(a, b, c, d, e, f, last - first, out[part, 32 * first :])
                planes[:] = 0
                held = 0


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
