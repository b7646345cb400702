"""Counts of differing bits; the popcounts vectorise to VPOPCNT where the CPU has it."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba import tiles
from polykern_kernels._numba.lanes import popcount
from polykern_kernels._numba.tiles import COLUMNS, GROUP, ROWS, laid, lay

ACROSS, ALONG = 512, 64 * GROUP  # rows and columns of a task: what it lays is small beside what it counts


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def pairwise(a, b, out):
    """a int32 (n, words >= 1); b int32 (m, words); out int32 (n, m)."""
    n, m = out.shape
    spans = (m + ALONG - 1) // ALONG
    for task in prange((n + ACROSS - 1) // ACROSS * spans):
        i0, j0 = task // spans * ACROSS, task % spans * ALONG
        rows = laid(a, i0, min(n, i0 + ACROSS))
        _fill(rows, i0, b, j0, min(m, j0 + ALONG), out)


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(rows, i0, b, j0, j1, out):
    edge = np.empty((ROWS, COLUMNS), np.int32)  # of a tile that hangs over
    panels = np.empty((GROUP // COLUMNS, rows.shape[1], COLUMNS), np.uint64)
    for j in range(j0, j1, GROUP):
        width = min(GROUP, j1 - j)
        used = (width + COLUMNS - 1) // COLUMNS
        lay(b, j, j + width, panels[:used])
        for block in range(len(rows)):
            here = out[i0 + block * ROWS : i0 + (block + 1) * ROWS]
            for p in range(used):
                at = j + p * COLUMNS
                wide = min(COLUMNS, j1 - at)
                if len(here) == ROWS and wide == COLUMNS:
                    tiles.distances(rows, block, panels, p, here, at)
                    continue
                tiles.distances(rows, block, panels, p, edge, 0)
                for r in range(len(here)):
                    for c in range(wide):
                        here[r, at + c] = edge[r, c]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def aligned(a, b, out):
    for i in prange(len(a)):
        x, y = a[i], b[i]
        total = np.uint32(0)
        for w in range(len(x)):
            total = np.uint32(total + popcount(x[w] ^ y[w]))
        out[i] = total


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def ones(words, out):
    """out[i] = set bits of row i."""
    for i in prange(len(words)):
        row = words[i]
        total = np.uint32(0)
        for w in range(len(row)):
            total = np.uint32(total + popcount(row[w]))
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
