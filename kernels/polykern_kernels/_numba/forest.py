"""Union-find by path halving, smaller roots on top, and the scans of Boruvka's rounds."""

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True)
def root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def spanning(n, source, target, order, kept):
    """Writes the places of the edges kept and returns how many; stops when one tree is left."""
    parent = np.arange(n)
    count = 0
    for e in order:
        i, j = root(parent, source[e]), root(parent, target[e])
        if i != j:
            parent[max(i, j)] = min(i, j)
            kept[count] = e
            count += 1
            if count == n - 1:
                break
    return count


@njit(cache=True, nogil=True)
def join(components, source, target, kept, renamed):
    n = len(components)
    parent = np.arange(n)
    for e in range(len(source)):
        i, j = root(parent, components[source[e]]), root(parent, components[target[e]])
        kept[e] = i != j
        parent[max(i, j)] = min(i, j)
    name = np.full(n, -1)
    count = 0
    for i in range(n):
        r = root(parent, components[i])
        if name[r] < 0:
            name[r] = count
            count += 1
        renamed[i] = name[r]


@njit(cache=True, nogil=True)
def least(components, weights, indices, rows):
    rows[:] = -1
    for i in range(len(components)):
        j = indices[i]
        if j < 0:
            continue
        c = components[i]
        r = rows[c]
        if r >= 0:
            if weights[i] > weights[r]:
                continue
            if weights[i] == weights[r]:
                low, high = min(i, j), max(i, j)
                known = min(r, indices[r])
                if low > known or (low == known and high >= max(r, indices[r])):
                    continue
        rows[c] = i


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def listed(distances, indices, cores, components, weights, neighbours):
    n, k = distances.shape
    for i in prange(n):
        mine, c = cores[i], components[i]
        best, found = mine, -1
        for t in range(k):
            d = max(distances[i, t], mine)
            if found >= 0 and d > best:  # lists ascend
                break
            j = indices[i, t]
            if components[j] == c:
                continue
            w = max(d, cores[j])
            if found < 0 or w < best or (w == best and j < found):
                best, found = w, j
        weights[i], neighbours[i] = best, found
