"""Counts of differing bits; the popcounts vectorise to VPOPCNT where the CPU has it."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba.lanes import popcount

ROWS = 64  # rows of a that meet a panel of b while it is in L2


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def pairwise(a, panels, out):
    """a uint64 (rows, words), rows and words multiples of 4; panels uint64 (panels, words, codes)."""
    n, m = out.shape
    rows, words = a.shape
    codes = panels.shape[2]
    for block in prange((rows + ROWS - 1) // ROWS):
        counts = np.empty((4, codes), np.uint64)
        c0, c1, c2, c3 = counts[0], counts[1], counts[2], counts[3]
        for p in range(len(panels)):
            panel = panels[p]
            inside = min(codes, m - p * codes)
            for i in range(block * ROWS, min(rows, block * ROWS + ROWS), 4):
                counts[:] = 0
                for w in range(0, words, 4):
                    y0, y1, y2, y3 = panel[w], panel[w + 1], panel[w + 2], panel[w + 3]
                    a00, a01, a02, a03 = a[i, w], a[i, w + 1], a[i, w + 2], a[i, w + 3]
                    a10, a11, a12, a13 = a[i + 1, w], a[i + 1, w + 1], a[i + 1, w + 2], a[i + 1, w + 3]
                    a20, a21, a22, a23 = a[i + 2, w], a[i + 2, w + 1], a[i + 2, w + 2], a[i + 2, w + 3]
                    a30, a31, a32, a33 = a[i + 3, w], a[i + 3, w + 1], a[i + 3, w + 2], a[i + 3, w + 3]
                    for j in range(codes):
                        b0, b1, b2, b3 = y0[j], y1[j], y2[j], y3[j]
                        c0[j] += popcount(a00 ^ b0) + popcount(a01 ^ b1) + popcount(a02 ^ b2) + popcount(a03 ^ b3)
                        c1[j] += popcount(a10 ^ b0) + popcount(a11 ^ b1) + popcount(a12 ^ b2) + popcount(a13 ^ b3)
                        c2[j] += popcount(a20 ^ b0) + popcount(a21 ^ b1) + popcount(a22 ^ b2) + popcount(a23 ^ b3)
                        c3[j] += popcount(a30 ^ b0) + popcount(a31 ^ b1) + popcount(a32 ^ b2) + popcount(a33 ^ b3)
                for r in range(min(4, n - i)):
                    for j in range(inside):
                        out[i + r, p * codes + j] = counts[r, j]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def aligned(a, b, out):
    for i in prange(len(a)):
        x, y = a[i], b[i]
        total = np.uint32(0)
        for w in range(len(x)):
            total = np.uint32(total + popcount(x[w] ^ y[w]))
        out[i] = total


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def neighbours(words, right, down):
    height, width = words.shape[:2]
    for y in prange(height):
        for x in range(width):
            here = words[y, x]
            beside = words[y, min(x + 1, width - 1)]  # at an edge the pixel itself: counted, not kept
            below = words[min(y + 1, height - 1), x]
            r = d = np.uint32(0)
            for w in range(len(here)):
                r = np.uint32(r + popcount(here[w] ^ beside[w]))
                d = np.uint32(d + popcount(here[w] ^ below[w]))
            if x + 1 < width:
                right[y, x] = r
            if y + 1 < height:
                down[y, x] = d
