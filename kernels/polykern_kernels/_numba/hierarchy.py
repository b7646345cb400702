"""Loops over spanning trees and dendrograms. No recursion: every walk is a queue or goes by ids."""

import numpy as np
from numba import njit

from polykern_kernels._numba.forest import root


@njit(cache=True, nogil=True)
def merge(source, target, order, pairs, sizes):
    """pairs int64 (2 (n - 1)), sizes int64 (n - 1). Gives the edge that closes a cycle, -1 where there is none."""
    n = len(order) + 1
    up, count, node = np.arange(n), np.ones(n, np.int64), np.arange(n)
    for k in range(n - 1):
        e = order[k]
        a, b = root(up, source[e]), root(up, target[e])
        if a == b:
            return e
        pairs[2 * k], pairs[2 * k + 1] = node[a], node[b]
        if count[a] < count[b]:
            a, b = b, a
        up[b] = a
        count[a] += count[b]
        node[a] = n + k
        sizes[k] = count[a]
    return -1


@njit(cache=True, nogil=True)
def _levels(pairs, heights, up, smallest, top):
    """The parent and the smallest row of every node; for every merge the last one of its height that holds it."""
    n = len(heights) + 1
    for i in range(n):
        smallest[i] = i
    for k in range(n - 1):
        a, b = pairs[2 * k], pairs[2 * k + 1]
        up[a], up[b] = n + k, n + k
        smallest[n + k] = min(smallest[a], smallest[b])
    for k in range(n - 2, -1, -1):
        above = up[n + k] - n
        top[k] = top[above] if above >= 0 and heights[above] == heights[k] else k


@njit(cache=True, nogil=True)
def _number(heights, smallest, top, number):
    """Ids of the merges that stay: by height, then by smallest row. Gives how many there are."""
    n = len(heights) + 1
    kept = np.empty(n - 1, np.int64)
    m = 0
    for k in range(n - 1):
        if top[k] == k:
            kept[m] = k
            m += 1
    low = 0
    while low < m:
        high = low + 1
        while high < m and heights[kept[high]] == heights[kept[low]]:
            high += 1
        if high - low > 1:
            rows = np.empty(high - low, np.int64)
            for i in range(low, high):
                rows[i - low] = smallest[n + kept[i]]
            for i, j in enumerate(np.argsort(rows)):
                number[kept[low + j]] = low + i
        else:
            number[kept[low]] = low
        low = high
    return m


@njit(cache=True, nogil=True)
def contract(pairs, heights, sizes, children, starts, levels, members):
    """A binary dendrogram with merges of one height made one. Gives the number of merges that stay."""
    n = len(heights) + 1
    up, smallest = np.full(2 * n - 1, -1, np.int64), np.empty(2 * n - 1, np.int64)
    top, number = np.empty(n - 1, np.int64), np.empty(n - 1, np.int64)
    _levels(pairs, heights, up, smallest, top)
    m = _number(heights, smallest, top, number)
    head, following = np.full(n, -1, np.int64), np.empty(n - 1, np.int64)  # merges by smallest row
    starts[: m + 1] = 0
    for k in range(n - 1):
        if top[k] == k:
            levels[number[k]], members[number[k]] = heights[k], sizes[k]
            following[k] = head[smallest[n + k]]
            head[smallest[n + k]] = k
            if up[n + k] >= 0:
                starts[number[top[up[n + k] - n]] + 1] += 1
    for i in range(n):
        starts[number[top[up[i] - n]] + 1] += 1
    for j in range(m):
        starts[j + 1] += starts[j]
    free = starts[:m].copy()
    for i in range(n):
        above = number[top[up[i] - n]]
        children[free[above]] = i
        free[above] += 1
        k = head[i]
        while k >= 0:
            if up[n + k] >= 0:
                above = number[top[up[n + k] - n]]
                children[free[above]] = n + number[k]
                free[above] += 1
            k = following[k]
    return m


@njit(cache=True, nogil=True)
def linkage(children, starts, heights, out):
    """out float64 (n - 1, 4)."""
    m = len(heights)
    n = len(children) - m + 1
    node, count = np.arange(n + m), np.ones(n + m, np.int64)
    row = 0
    for k in range(m):
        first = children[starts[k]]
        last, total = node[first], count[first]
        for j in range(starts[k] + 1, starts[k + 1]):
            total += count[children[j]]
            out[row, 0], out[row, 1], out[row, 2], out[row, 3] = last, node[children[j]], heights[k], total
            last = n + row
            row += 1
        node[n + k], count[n + k] = last, total


@njit(cache=True, nogil=True)
def condense(children, starts, lambdas, sizes, least, parent, child, levels, members):
    """The rows of the condensed tree, breadth first. Gives their number."""
    m = len(lambdas)
    n = len(children) - m + 1
    queue, cluster = np.empty(m, np.int64), np.empty(m, np.int64)
    falling = np.empty(min(2 * least, n + m), np.int64)  # a subtree of fewer than `least` rows
    queue[0], cluster[0] = m - 1, n
    done, waiting, fresh, rows = 0, 1, n + 1, 0
    while done < waiting:
        node, own = queue[done], cluster[done]
        done += 1
        big = 0
        for j in range(starts[node], starts[node + 1]):
            big += children[j] >= n and sizes[children[j] - n] >= least
        for j in range(starts[node], starts[node + 1]):
            x = children[j]
            if x < n or sizes[x - n] < least:
                continue
            queue[waiting], cluster[waiting] = x - n, own
            if big > 1:
                parent[rows], child[rows], levels[rows], members[rows] = own, fresh, lambdas[node], sizes[x - n]
                cluster[waiting] = fresh
                fresh += 1
                rows += 1
            waiting += 1
        for j in range(starts[node], starts[node + 1]):
            x = children[j]
            if x >= n and sizes[x - n] >= least:
                continue
            falling[0] = x
            seen, known = 0, 1
            while seen < known:
                x = falling[seen]
                seen += 1
                if x >= n:
                    for i in range(starts[x - n], starts[x - n + 1]):
                        falling[known] = children[i]
                        known += 1
                else:
                    parent[rows], child[rows], levels[rows], members[rows] = own, x, lambdas[node], 1
                    rows += 1
    return rows
