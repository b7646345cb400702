"""Nearest codes of other components, tile by tile; what two codes that both ask have between them is counted once.

Codes come ordered: those that ask first, both parts by (component, core distance). A tile inside one component is
not counted, nor one whose cores are above all that its codes have found.
"""

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange, types
from numba.extending import overload

from polykern_kernels._numba import tiles
from polykern_kernels._numba.tiles import COLUMNS, GROUP, MASK, ROWS, laid, lay, lowest, promising

STEP = 960  # rows a task: a group of columns is laid once for all of them; a multiple of ROWS and of GROUP
SLACK = 1 + 2.0**-20  # above the rounding of three float32 operations
FARTHEST = 4.0  # above every Jaccard distance, and far from infinity, whose product with 0 is nothing


def step(n: int) -> int:
    """Rows a task, so that every thread has several tasks."""
    return max(GROUP, min(STEP, -(-n // (4 * int(get_num_threads()) * GROUP)) * GROUP))


def limit(weight: Any, columns: Any) -> Any:
    """The distance up to which a pair can matter beside this weight, as `promising` wants it."""


@overload(limit, inline="always")
def _limit(weight, columns):
    if isinstance(columns.dtype, types.Float):
        return lambda weight, columns: np.float32(min(weight, FARTHEST) * SLACK)
    return lambda weight, columns: np.int32(weight)


def limits_of(weights: Any) -> Any:
    """An array for the limits of a group of columns."""


@overload(limits_of)
def _limits_of(weights):
    kind = np.float32 if isinstance(weights.dtype, types.Float) else np.int32
    return lambda weights: np.full(GROUP, kind(-1))


def distance(weight: Any, differing: Any, size: Any, other: Any) -> Any:
    """The distance of two codes of `size` and `other` ones, in the type of the weights."""


@overload(distance, inline="always")
def _distance(weight, differing, size, other):
    if isinstance(weight, types.Float):
        # differing / union; the union has (size + other + differing) / 2 ones
        return lambda weight, differing, size, other: (
            np.float64(2 * np.int64(differing)) / np.float64(max(np.int64(size) + other + differing, 1))
        )
    return lambda weight, differing, size, other: differing


@njit(cache=True, nogil=True, error_model="numpy")
def offer(weights, points, i, w, point):
    """Gives code i an edge, if it is the least by (weight, point) so far; what has no point is a bound."""
    if w < weights[i] or (w == weights[i] and point < points[i]):
        weights[i] = w
        points[i] = point


@njit(cache=True, nogil=True, error_model="numpy")
def meet(rows, i0, i1, words, j0, j1, sizes, cores, components, names, weights, points, both):
    """Offers codes j0..j1 to the codes i0..i1, and with `both` codes i < j to the codes j0..j1 too.

    rows        uint64 (blocks, words, ROWS)   codes i0..i1, laid
    words       int32 (n, words)
    sizes       int32 (n)                      ones of the codes
    cores       int32|float64 (n)              components int64 (n), names int64 (n)
    weights     cores' dtype (n)               least weight found, or the bound; points int64 (n)
    """
    counts = np.empty((ROWS, GROUP), np.int32)
    panels = np.empty((GROUP // COLUMNS, rows.shape[1], COLUMNS), np.uint64)
    limits = limits_of(weights)
    ones = np.zeros(GROUP, np.int32)
    for j in range(j0, j1, GROUP):
        width = min(GROUP, j1 - j)
        last = j + width
        used = (width + COLUMNS - 1) // COLUMNS
        low, high = components[j], components[last - 1]
        nearest, farthest = cores[j:last].min(), weights[j]
        for c in range(width):
            ones[c] = sizes[j + c]
            if both:
                limits[c] = limit(weights[j + c], limits)
                farthest = max(farthest, weights[j + c])
        fresh = True
        for block in range(len(rows)):
            first = i0 + block * ROWS
            if both and first >= last:
                break
            end = min(i1, first + ROWS)
            if low == high and low == components[first] and low == components[end - 1]:
                continue
            if weights[first:end].max() < nearest and not (both and cores[first:end].min() <= farthest):
                continue
            if fresh:
                lay(words, j, last, panels[:used])
                fresh = False
            for p in range(used):
                tiles.distances(rows, block, panels, p, counts, p * COLUMNS)
            for i in range(first, end):
                r = i - first
                for at in range(0, width, MASK):
                    mask = promising(counts, r, at, limit(weights[i], limits), limits, at, sizes[i], ones)
                    while mask:
                        c = at + lowest(mask)
                        mask &= mask - np.uint32(1)
                        if c >= width or (both and j + c <= i) or components[j + c] == components[i]:
                            continue
                        d = distance(weights[i], counts[r, c], sizes[i], ones[c])
                        w = max(d, max(cores[i], cores[j + c]))
                        offer(weights, points, i, w, names[j + c])
                        if both:
                            offer(weights, points, j + c, w, names[i])
                            limits[c] = limit(weights[j + c], limits)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def among(words, sizes, cores, components, names, weights, points, pairs, step, asking):
    """The first `asking` codes among each other.

    pairs   int64 (tasks, 2)   blocks x <= y of `step` codes; no block is in two pairs, so that none has two writers
    """
    for task in prange(len(pairs)):
        i0, j0 = pairs[task, 0] * step, pairs[task, 1] * step
        i1, j1 = min(asking, i0 + step), min(asking, j0 + step)
        rows = laid(words, i0, i1)
        meet(rows, i0, i1, words, j0, j1, sizes, cores, components, names, weights, points, True)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def against(words, sizes, cores, components, names, weights, points, first, last, step, asking):
    """The codes first..last, which ask, against those that do not."""
    for task in prange((last - first + step - 1) // step):
        i0 = first + task * step
        i1 = min(last, i0 + step)
        rows = laid(words, i0, i1)
        meet(rows, i0, i1, words, asking, len(words), sizes, cores, components, names, weights, points, False)
