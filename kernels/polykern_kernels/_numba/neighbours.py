"""Heaps of nearest codes, filled tile by tile; a search of codes among themselves counts each pair once."""

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange, types
from numba.extending import overload

from polykern_kernels._numba import tiles
from polykern_kernels._numba.tiles import COLUMNS, GROUP, MASK, ROWS, laid, lay, lowest, promising

STEP = 1024  # rows a task: a group of columns is laid once for all of them
SLACK = 1 + 2.0**-20  # above the rounding of three float32 operations


def step(n: int) -> int:
    """Rows a task, so that every thread has several tasks."""
    return max(ROWS, min(STEP, -(-n // (4 * int(get_num_threads()) * GROUP)) * GROUP))


def limit(distances: Any, i: Any, ascending: Any) -> Any:
    """The distance up to which heap i still takes a code, as `promising` wants it."""


@overload(limit)
def _limit(distances, i, ascending):
    if isinstance(distances.dtype, types.Float):
        return lambda distances, i, ascending: np.float32(distances[i, 0] * SLACK)
    # codes that come in order of their index lose ties against those before them
    return lambda distances, i, ascending: np.int32(distances[i, 0] - ascending)


def distance(distances: Any, differing: Any, size: Any, other: Any) -> Any:
    """The distance of two codes of `size` and `other` ones, in the type of the lists."""


@overload(distance)
def _distance(distances, differing, size, other):
    if isinstance(distances.dtype, types.Float):
        # differing / union; the union has (size + other + differing) / 2 ones
        return lambda distances, differing, size, other: (
            np.float64(2 * np.int64(differing)) / np.float64(max(np.int64(size) + other + differing, 1))
        )
    return lambda distances, differing, size, other: differing


@njit(cache=True, nogil=True, error_model="numpy")
def sink(distances, indices, i, size, d, j):
    """Puts (d, j) at the root of heap i, in place of what was there, and down to where it belongs."""
    t = 0
    while True:
        c = 2 * t + 1
        if c >= size:
            break
        near, who = distances[i, c], indices[i, c]
        if c + 1 < size:
            other = distances[i, c + 1]
            if other > near or (other == near and indices[i, c + 1] > who):
                c += 1
                near, who = other, indices[i, c]
        if near < d or (near == d and who < j):
            break
        distances[i, t] = near
        indices[i, t] = who
        t = c
    distances[i, t] = d
    indices[i, t] = j


@njit(cache=True, nogil=True, error_model="numpy")
def offer(distances, indices, i, d, j):
    """Puts code j at distance d into heap i, whose root is its last by (distance, index), if it belongs there."""
    if d > distances[i, 0] or (d == distances[i, 0] and j > indices[i, 0]):
        return
    sink(distances, indices, i, distances.shape[1], d, j)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def settle(distances, indices):
    """Heaps become lists, ascending by (distance, index)."""
    for i in prange(len(distances)):
        for size in range(distances.shape[1] - 1, 0, -1):
            d, j = distances[i, size], indices[i, size]
            distances[i, size] = distances[i, 0]
            indices[i, size] = indices[i, 0]
            sink(distances, indices, i, size, d, j)


@njit(cache=True, nogil=True, error_model="numpy")
def meet(rows, i0, i1, sizes, words, j0, j1, others, skip, distances, indices, both):
    """Offers codes j0..j1 to the heaps i0..i1, and with `both` codes i < j to the heaps j0..j1 too.

    rows     uint64 (blocks, words, ROWS)   codes i0..i1, laid
    sizes    int32 (n)                      their ones; others of the columns
    words    int32 (m, words)               the columns' codes
    skip     int64 (n)                      code that heap i does not take

    Without `both` the codes must come in order of their index, call after call.
    """
    counts = np.empty((ROWS, GROUP), np.int32)
    panels = np.empty((GROUP // COLUMNS, rows.shape[1], COLUMNS), np.uint64)
    limits = np.full(GROUP, limit(distances, 0, False))  # of the type of a limit
    limits[:] = -1  # a column that takes none
    ones = np.zeros(GROUP, np.int32)
    for j in range(j0, j1, GROUP):
        width = min(GROUP, j1 - j)
        used = (width + COLUMNS - 1) // COLUMNS
        lay(words, j, j + width, panels[:used])
        for c in range(width):
            ones[c] = others[j + c]
            if both:
                limits[c] = limit(distances, j + c, False)
        for block in range(len(rows)):
            first = i0 + block * ROWS
            if both and first >= j + width:
                break
            for p in range(used):
                tiles.distances(rows, block, panels, p, counts, p * COLUMNS)
            for r in range(min(ROWS, i1 - first)):
                i = first + r
                for at in range(0, width, MASK):
                    mask = promising(counts, r, at, limit(distances, i, not both), limits, at, sizes[i], ones)
                    while mask:
                        c = at + lowest(mask)
                        mask &= mask - np.uint32(1)
                        if c >= width or (both and j + c <= i):
                            continue
                        d = distance(distances, counts[r, c], sizes[i], ones[c])
                        if j + c != skip[i]:
                            offer(distances, indices, i, d, j + c)
                        if both:
                            offer(distances, indices, j + c, d, i)
                            limits[c] = limit(distances, j + c, False)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def nearest(a, b, sizes, others, skip, distances, indices, first, last, step):
    """The heaps of rows first..last of a among all rows of b, `step` rows a task."""
    for task in prange((last - first + step - 1) // step):
        i0 = first + task * step
        i1 = min(last, i0 + step)
        meet(laid(a, i0, i1), i0, i1, sizes, b, 0, len(b), others, skip, distances, indices, False)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def nearest_in_turn(words, sizes, skip, distances, indices, pairs, step):
    """The heaps of pairs of blocks of `step` codes among each other.

    pairs   int64 (tasks, 2)   blocks x <= y; no block is in two pairs, so that no list has two writers
    """
    n = len(words)
    for task in prange(len(pairs)):
        i0, j0 = pairs[task, 0] * step, pairs[task, 1] * step
        i1, j1 = min(n, i0 + step), min(n, j0 + step)
        meet(laid(words, i0, i1), i0, i1, sizes, words, j0, j1, sizes, skip, distances, indices, True)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def nearest_of_spans(words, sizes, skip, distances, indices, spans):
    """The heaps of pairs of ranges of codes among each other.

    spans   int64 (tasks, 4)   codes i0..i1 and j0..j1, i1 <= j0; no code is in two, so that no list has two writers
    """
    for task in prange(len(spans)):
        i0, i1, j0, j1 = spans[task]
        meet(laid(words, i0, i1), i0, i1, sizes, words, j0, j1, sizes, skip, distances, indices, True)


def inside(radii: Any, q: Any, differing: Any, size: Any, other: Any) -> Any:
    """Whether two codes are within radius q."""


@overload(inside)
def _inside(radii, q, differing, size, other):
    if isinstance(radii.dtype, types.Float):
        return lambda radii, q, differing, size, other: (
            np.float64(2 * differing) / np.float64(max(size + other + differing, 1)) <= radii[q]
        )
    return lambda radii, q, differing, size, other: differing <= radii[q]


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def within(a, b, sizes, others, radii, out, step):
    """out[i, q] = rows of b within radius q of row i of a."""
    for task in prange((len(a) + step - 1) // step):
        i0 = task * step
        i1 = min(len(a), i0 + step)
        rows = laid(a, i0, i1)
        counts = np.empty((ROWS, GROUP), np.int32)
        panels = np.empty((GROUP // COLUMNS, rows.shape[1], COLUMNS), np.uint64)
        for j in range(0, len(b), GROUP):
            width = min(GROUP, len(b) - j)
            used = (width + COLUMNS - 1) // COLUMNS
            lay(b, j, j + width, panels[:used])
            ones = others[j : j + width]
            for block in range(len(rows)):
                for p in range(used):
                    tiles.distances(rows, block, panels, p, counts, p * COLUMNS)
                first = i0 + block * ROWS
                for r in range(min(ROWS, i1 - first)):
                    found = counts[r, :width]
                    for q in range(len(radii)):
                        total = 0
                        for c in range(width):
                            total += inside(radii, q, found[c], sizes[first + r], ones[c])
                        out[first + r, q] += total
