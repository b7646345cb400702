"""Heaps of nearest codes and the minima of blocks from one counting of each pair, and searches that read them."""

import numpy as np
from numba import get_num_threads, njit, prange

from polykern_kernels._numba import tiles
from polykern_kernels._numba.foreign import distance, limit, limits_of
from polykern_kernels._numba.foreign import offer as answer
from polykern_kernels._numba.neighbours import offer
from polykern_kernels._numba.tiles import COLUMNS, GROUP, MASK, ROWS, laid, lay, lowest, popcount, promising

STEP = 960  # rows a task: a group of columns is laid once for all of them


def step(n: int) -> int:
    """Rows a task, so that every thread has several tasks; a multiple of GROUP."""
    return max(GROUP, min(STEP, -(-n // (4 * int(get_num_threads()) * GROUP)) * GROUP))


@njit(cache=True, nogil=True, error_model="numpy")
def note(minima, i, block, least, shift):
    """Keeps the least distance of code i from a block, in steps of 2**shift, rounded down."""
    minima[i, block] = min(minima[i, block], np.uint16(least >> shift))


@njit(cache=True, nogil=True, error_model="numpy")
def meet(rows, i0, i1, words, j0, j1, sizes, names, distances, indices, minima, size, shift):
    """Codes i0..i1 and j0..j1 in each other's heaps and minima; i0 <= j0, and each pair i < j is offered once.

    rows     uint64 (blocks, words, ROWS)   codes i0..i1, laid
    minima   uint16 (n, blocks)             blocks of `size` codes, a multiple of GROUP
    """
    counts = np.empty((ROWS, GROUP), np.int32)
    least = np.empty(GROUP, np.int32)  # of every column, from the rows of one block
    panels = np.empty((GROUP // COLUMNS, rows.shape[1], COLUMNS), np.uint64)
    limits = limits_of(distances)
    ones = np.zeros(GROUP, np.int32)
    for j in range(j0, j1, GROUP):
        width = min(GROUP, j1 - j)
        used = (width + COLUMNS - 1) // COLUMNS
        lay(words, j, j + width, panels[:used])
        for c in range(width):
            ones[c] = sizes[j + c]
            limits[c] = limit(distances[j + c, 0], limits)
        least[:] = np.int32(2**31 - 1)
        for block in range(len(rows)):
            first = i0 + block * ROWS
            if first >= j + width:
                break
            for p in range(used):
                tiles.distances(rows, block, panels, p, counts, p * COLUMNS)
            for i in range(first, min(i1, first + ROWS)):
                found = counts[i - first]
                mine = np.int32(2**31 - 1)
                for c in range(width):
                    mine = min(mine, found[c])
                    least[c] = min(least[c], found[c])
                note(minima, i, j // size, mine, shift)
                for at in range(0, width, MASK):
                    mask = promising(
                        counts, i - first, at, limit(distances[i, 0], limits), limits, at, sizes[i], ones
                    )
                    while mask:
                        c = at + lowest(mask)
                        mask &= mask - np.uint32(1)
                        if c >= width or j + c <= i:
                            continue
                        d = distance(distances[i, 0], found[c], sizes[i], ones[c])
                        offer(distances, indices, i, d, names[j + c])
                        offer(distances, indices, j + c, d, names[i])
                        limits[c] = limit(distances[j + c, 0], limits)
            after = first + ROWS
            if after % size == 0 or after >= i1 or after >= j + width:
                for c in range(width):
                    if least[c] < 2**31 - 1:
                        note(minima, j + c, first // size, least[c], shift)
                    least[c] = 2**31 - 1


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def nearest(words, sizes, names, distances, indices, minima, size, shift, pairs, step):
    """pairs int64 (tasks, 2): blocks x <= y of `step` codes; none is in two pairs, so nothing has two writers."""
    n = len(words)
    for task in prange(len(pairs)):
        i0, j0 = pairs[task, 0] * step, pairs[task, 1] * step
        i1, j1 = min(n, i0 + step), min(n, j0 + step)
        rows = laid(words, i0, i1)
        meet(rows, i0, i1, words, j0, j1, sizes, names, distances, indices, minima, size, shift)


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def shorten(distances, indices, bound, last):
    """Heaps without codes beyond a bound, which stands there as `last` instead: what equals it can still enter."""
    for i in prange(len(bound)):
        if distances[i, 0] > bound[i]:
            for t in range(distances.shape[1]):
                if distances[i, t] > bound[i]:
                    distances[i, t] = bound[i]
                    indices[i, t] = last


@njit(cache=True, nogil=True, error_model="numpy")
def scan(i, words, sizes, names, j0, j1, cores, components, weights, points, at):
    """Offers the codes j0..j1 of other components to row i, whose answer is at `at`; how many were counted."""
    counted = 0
    mine = words[i]
    for j in range(j0, j1):
        if components[j] == components[i] or cores[j] > weights[at]:
            continue
        other = words[j]
        total = np.uint64(0)
        for w in range(len(mine)):
            total += popcount(mine[w] ^ other[w])
        counted += 1
        d = distance(cores[j], np.int32(total), sizes[i], sizes[j])
        w = max(d, max(cores[i], cores[j]))
        if w <= weights[at]:
            answer(weights, points, at, w, names[j])
    return counted


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def foreign(
    words, sizes, names, minima, size, shift, rows, cores, components, near, full, pure, weights, points, counted
):
    """The least edge of each of the rows to another component.

    words    uint64 (n, words)
    near     cores' dtype (blocks)   least core distance of a block; full int32: most ones; pure int64: the one
                                     component of its codes, or -1
    weights  cores' dtype (r)        the bound, then the answer; points int64 (r), counted int64 (r)
    """
    n, blocks = len(words), len(near)
    for at in prange(len(rows)):
        i = rows[at]
        below = np.empty(blocks, cores.dtype)  # no edge into a block weighs less
        first = -1
        for b in range(blocks):
            d = distance(cores[i], np.int32(minima[i, b]) << shift, sizes[i], full[b])
            below[b] = max(d, max(cores[i], near[b]))
        for b in range(blocks):
            if pure[b] >= 0 and pure[b] != components[i] and (first < 0 or below[b] < below[first]):
                first = b
        if first >= 0 and below[first] <= weights[at]:
            end = min(n, (first + 1) * size)
            counted[at] += scan(i, words, sizes, names, first * size, end, cores, components, weights, points, at)
        for b in range(blocks):
            if below[b] <= weights[at] and b != first and pure[b] != components[i]:
                end = min(n, (b + 1) * size)
                counted[at] += scan(i, words, sizes, names, b * size, end, cores, components, weights, points, at)
