"""Sides of lines, pair by pair; hulls of small groups of points by insertion sort and a monotone chain."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def _turn(a, b, c):
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


@njit(cache=True, nogil=True)
def _straight(a, b, c, least, near):
    come = (b[0] - a[0]) * (b[0] - a[0]) + (b[1] - a[1]) * (b[1] - a[1])
    go = (c[0] - b[0]) * (c[0] - b[0]) + (c[1] - b[1]) * (c[1] - b[1])
    turn = _turn(a, b, c)
    return come <= near * near or turn * turn <= least * least * come * go


@njit(cache=True, nogil=True)
def _sort(points, n):
    """By (u, v), in place."""
    for k in range(1, n):
        u, v = points[k, 0], points[k, 1]
        j = k - 1
        while j >= 0 and (points[j, 0] > u or (points[j, 0] == u and points[j, 1] > v)):
            points[j + 1, 0], points[j + 1, 1] = points[j, 0], points[j, 1]
            j -= 1
        points[j + 1, 0], points[j + 1, 1] = u, v


@njit(cache=True, nogil=True)
def _chain(points, n, hull):
    """The hull of sorted points; returns how many corners it has."""
    m = 0
    for turn in range(2):
        base = m
        for i in range(n):
            p = points[i] if turn == 0 else points[n - 1 - i]
            while m - base > 1 and _turn(hull[m - 2], hull[m - 1], p) <= 0.0:
                m -= 1
            hull[m, 0], hull[m, 1] = p[0], p[1]
            m += 1
        m -= 1
    return m


@njit(cache=True, nogil=True)
def _bent(hull, m, least, near, out):
    """Write the corners at which a hull turns, three at least; returns how many they are."""
    kept, left = 0, m
    for k in range(m):
        before = out[kept - 1] if kept else hull[m - 1]
        after = hull[k + 1] if k + 1 < m else (out[0] if kept else hull[0])
        if left > 3 and _straight(before, hull[k], after, least, near):
            left -= 1
        else:
            out[kept, 0], out[kept, 1] = hull[k, 0], hull[k, 1]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def hulls(first, corner, least, near, begins, out):
    """Write the hulls of the groups one behind the other; returns how many corners they have."""
    most = 0
    for g in range(len(first) - 1):
        most = max(most, first[g + 1] - first[g])
    points, hull = np.empty((most, 2)), np.empty((2 * most, 2))
    count = 0
    for g in range(len(first) - 1):
        n = first[g + 1] - first[g]
        points[:n] = corner[first[g] : first[g + 1]]
        low, high = points[:n, 1].min(), points[:n, 1].max()
        _sort(points, n)
        m = _chain(points, n, hull)
        if m < 3:
            out[count], out[count + 1], out[count + 2] = points[0], points[1], points[n - 1]
            count += 3
        else:
            extent = max(points[n - 1, 0] - points[0, 0], high - low)
            count += _bent(hull, m, least, near * extent, out[count:])
        begins[g + 1] = count
    return count


@njit(cache=True, nogil=True)
def pairs(line, ends, lines, near, cosine, sine, out):
    """Write the pairs of sides; returns how many. A counting sort by line, an insertion sort along each."""
    start = np.zeros(lines + 1, np.int64)
    for k in line:
        start[k + 1] += 1
    for k in range(lines):
        start[k + 1] += start[k]
    place, middle = np.empty(len(line), np.int64), np.empty(len(line))
    held = start[:-1].copy()
    for k in range(len(line)):
        x = (ends[k, 0, 0] + ends[k, 1, 0]) * cosine + (ends[k, 0, 1] + ends[k, 1, 1]) * sine
        j = held[line[k]]
        held[line[k]] = j + 1
        while j > start[line[k]] and middle[j - 1] > x:
            place[j], middle[j] = place[j - 1], middle[j - 1]
            j -= 1
        place[j], middle[j] = k, x
    count = k = 0
    while k + 1 < len(place):
        i, j = place[k], place[k + 1]
        one = line[i] == line[j]
        for axis in range(2):
            one = one and abs(ends[i, 0, axis] - ends[j, 1, axis]) < near
            one = one and abs(ends[i, 1, axis] - ends[j, 0, axis]) < near
        if one:
            out[count, 0], out[count, 1] = i, j
            count += 1
        k += 2 if one else 1
    return count
