"""Pre-activations to words, margins and activations in one pass; counts from the words while they are cached."""

import numpy as np
from numba import njit, prange

from polykern_kernels._numba.lanes import above, add_selected, fetch_early, not_a_number, pattern, popcount, put

BLOCK = 512  # units at a time: the scratch of a block stays in L1
LINE = 16  # float32 a cache line
ROWS = 16  # points a task, all of one group: what belongs to its anchor is computed once for them


@njit(cache=True, nogil=True, error_model="numpy")
def _measure(z, patterns, n, first, units, thresholds, infinity, words, held, crossed):
    """Bits of z[:n], units `first` on, into words; the pattern of the smallest gap, and the NaN.

    crossed gets the units whose bits differ from held.
    """
    padded = (n + 31) // 32 * 32
    z[n:padded] = -np.inf
    crossed[:] = 0
    nans = 0
    bad = np.uint32(0)
    for u in range(0, padded, 32):
        bad |= not_a_number(patterns, u, infinity)
    if bad:
        for u in range(0, padded, 32):
            nans += popcount(not_a_number(patterns, u, infinity))
    smallest = infinity
    for k in range(len(thresholds)):
        t, here = thresholds[k], held[k]
        for u in range(0, padded, 32):
            mask = above(z, u, t)
            crossed[u >> 5] |= mask ^ here[u >> 5]
            put(words, k * units + first + u, mask)
        for u in range(n):
            smallest = min(smallest, pattern(abs(z[u] - t)))
    return smallest, nans


@njit(cache=True, nogil=True, error_model="numpy")
def _across(a, v, thresholds, slopes):
    """f(v) - f(a) as the sum of slope times length over the pieces between them."""
    last = len(thresholds)
    total = slopes[0] * (min(v, thresholds[0]) - min(a, thresholds[0]))
    for k in range(1, last):
        low, high = thresholds[k - 1], thresholds[k]
        total += slopes[k] * (min(max(v, low), high) - min(max(a, low), high))
    total += slopes[last] * (max(v, thresholds[last - 1]) - max(a, thresholds[last - 1]))
    return total


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def step(anchor, delta, thresholds, slopes, infinity, out, words, margin):
    """anchor (groups, units), delta and out (groups, points, units), words (groups, points, words)."""
    groups, points, units = delta.shape
    kinks, tasks = len(thresholds), (points + ROWS - 1) // ROWS
    nans = 0
    for task in prange(groups * tasks):
        g, p0 = task // tasks, task % tasks * ROWS
        p1 = min(points, p0 + ROWS)
        z, a = np.empty(BLOCK, anchor.dtype), np.empty(BLOCK, anchor.dtype)
        own, d = np.empty(BLOCK, anchor.dtype), np.empty(BLOCK, np.float32)
        held = np.zeros((kinks, BLOCK // 32), np.uint32)
        crossed = np.zeros(BLOCK // 32, np.uint32)
        gaps = np.full(ROWS, np.inf, anchor.dtype)
        patterns, gap_patterns = z.view(infinity.dtype), gaps.view(infinity.dtype)
        words[g, p0:p1] = 0
        for first in range(0, units, BLOCK):
            n = min(BLOCK, units - first)
            a[:n] = anchor[g, first : first + n]
            a[n:] = -np.inf
            own[:n] = slopes[0]
            for k in range(kinks):
                for u in range(0, n, 32):
                    held[k, u >> 5] = above(a, u, thresholds[k])
                for u in range(n):
                    own[u] = slopes[k + 1] if a[u] > thresholds[k] else own[u]
            for p in range(p0, p1):
                change, result = delta[g, p, first : first + n], out[g, p, first : first + n]
                if p + 1 < p1:  # the next point lies too far off for the hardware to see it coming
                    coming, going = delta[g, p + 1, first : first + n], out[g, p + 1, first : first + n]
                    for u in range(0, n, LINE):
                        fetch_early(coming, u, False)
                        fetch_early(going, u, True)
                # through a copy: loops over overlapping arrays do not vectorise, and out may be delta
                for u in range(n):
                    d[u] = change[u]
                for u in range(n):
                    z[u] = a[u] + d[u]
                for u in range(n):
                    result[u] = own[u] * d[u]
                least, bad = _measure(
                    z, patterns, n, first, units, thresholds, infinity[0], words[g, p], held, crossed
                )  # fmt: skip
                gap_patterns[p - p0] = min(gap_patterns[p - p0], least)
                nans += bad
                for w in range(len(crossed)):
                    left = crossed[w]
                    while left:
                        u = 32 * w + popcount((left & -left) - np.uint32(1))
                        result[u] = _across(a[u], z[u], thresholds, slopes)
                        left &= left - np.uint32(1)
        for p in range(p0, p1):
            margin[g, p] = min(margin[g, p], np.float32(gaps[p - p0]))
    return nans


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def tally(values, thresholds, infinity, words, margin):
    """values (groups, points, units), words (groups, points, words)."""
    groups, points, units = values.shape
    kinks = len(thresholds)
    nans = 0
    for row in prange(groups * points):
        g, p = row // points, row % points
        z, gap = np.empty(BLOCK, values.dtype), np.full(1, np.inf, values.dtype)
        patterns, gap_pattern = z.view(infinity.dtype), gap.view(infinity.dtype)
        held = np.zeros((kinks, BLOCK // 32), np.uint32)
        crossed = np.zeros(BLOCK // 32, np.uint32)
        words[g, p] = 0
        for first in range(0, units, BLOCK):
            n = min(BLOCK, units - first)
            z[:n] = values[g, p, first : first + n]
            least, bad = _measure(
                z, patterns, n, first, units, thresholds, infinity[0], words[g, p], held, crossed
            )  # fmt: skip
            gap_pattern[0] = min(gap_pattern[0], least)
            nans += bad
        margin[g, p] = min(margin[g, p], np.float32(gap[0]))
    return nans


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def count(words, key, width, right, down, digest):
    """Flips and fingerprints of rasters of codes, added to what is there.

    words (groups, height * width, words), key int64 (2, 32 words), digest (groups, height * width, 2).
    The first pixel of a raster row is summed over its bits, each other one follows from its left
    neighbour by the bits that differ: few, since the points lie close together.
    """
    groups, points, size = words.shape
    height = points // width
    for task in prange(groups * height):
        g, y = task // height, task % height
        sums = np.zeros((2, 8), np.int64)
        start = y * width
        for w in range(size):
            add_selected(sums[0], key[0], 32 * w, words[g, start, w])
            add_selected(sums[1], key[1], 32 * w, words[g, start, w])
        a, b = sums[0].sum(), sums[1].sum()
        for x in range(width):
            here = words[g, start + x]
            digest[g, start + x, 0] += a
            digest[g, start + x, 1] += b
            if y + 1 < height:
                below = words[g, start + width + x]
                total = np.uint32(0)
                for w in range(size):
                    total = np.uint32(total + popcount(here[w] ^ below[w]))
                down[g, y, x] += total
            if x + 1 < width:
                beside = words[g, start + x + 1]
                total = np.uint32(0)
                for w in range(size):
                    left = here[w] ^ beside[w]
                    total = np.uint32(total + popcount(left))
                    while left:
                        low = left & -left
                        j = 32 * w + popcount(low - np.uint32(1))
                        gained = (beside[w] & low) != 0
                        a += key[0, j] if gained else -key[0, j]
                        b += key[1, j] if gained else -key[1, j]
                        left ^= low
                right[g, y, x] += total
