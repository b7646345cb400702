"""Uniting equal fingerprints."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def unite(fingerprints, marks, counts, unique, marked, counted):
    n = len(fingerprints)
    capacity = 16
    while capacity < 2 * n:
        capacity *= 2
    table = np.full(capacity, -1, np.int32)
    mask = np.uint64(capacity - 1)
    d = 0
    for i in range(n):
        a, b = fingerprints[i, 0], fingerprints[i, 1]
        slot = np.uint64(a) & mask
        while True:
            k = table[slot]
            if k < 0:
                table[slot] = d
                unique[d, 0], unique[d, 1] = a, b
                marked[d], counted[d] = marks[i], counts[i]
                d += 1
                break
            if unique[k, 0] == a and unique[k, 1] == b:
                marked[k] |= marks[i]
                counted[k] += counts[i]
                break
            slot = (slot + np.uint64(1)) & mask
    return d
