"""Sign changes of convex and concave functions along rows and columns."""

import numpy as np
from numba import njit, prange

TILE = 16  # pixels of a side within which the margin's candidates are chosen
TRIES = 40  # cuts after which a line is simply walked


@njit(cache=True, nogil=True, inline="always")
def _at(a, b, c, s, x, y, r, k):
    return ((a + y[k] * c) + x[k] * b) + s * r[k]


@njit(cache=True, nogil=True)
def _walked(a, b, c, s, x, y, r, low, high, out, count):
    """Append every k in (low, high] where the sign differs from that at k - 1."""
    before = _at(a, b, c, s, x, y, r, low) > 0.0
    for k in range(low + 1, high + 1):
        on = _at(a, b, c, s, x, y, r, k) > 0.0
        if on != before:
            out[count] = k
            count += 1
        before = on
    return count


@njit(cache=True, nogil=True)
def _between(a, b, c, s, x, y, r, doubt, low, f_low, high, f_high, out, count):
    """Append the sign changes between two points of certain, opposite sign with one exact root between them."""
    side = 0
    while high - low > 1:  # Illinois: a secant that cannot get stuck at one end
        k = low + int((high - low) * (f_low / (f_low - f_high)))
        k = min(max(k, low + 1), high - 1)
        f = _at(a, b, c, s, x, y, r, k)
        if not (abs(f) > doubt):
            break
        if (f > 0.0) == (f_low > 0.0):
            low, f_low = k, f
            f_high = 0.5 * f_high if side == 1 else f_high
            side = 1
        else:
            high, f_high = k, f
            f_low = 0.5 * f_low if side == -1 else f_low
            side = -1
    return _walked(a, b, c, s, x, y, r, low, high, out, count)


@njit(cache=True, nogil=True)
def _dips(a, b, c, s, x, y, r, doubt, f_first, f_last, out):
    """Sign changes of a function that bends towards 0 between two ends of one certain sign.

    h = turn * f is convex and positive at both ends. Chords bound it from below; each cut is made where
    the left and the right bound meet, until they meet above 0, or h is below 0 there.
    """
    last = len(x) - 1
    turn = 1.0 if s > 0.0 else -1.0
    left, right = 0, last
    h_left, h_right = turn * f_first, turn * f_last
    fall = turn * (_at(a, b, c, s, x, y, r, 1) - f_first)  # slope of the left chord
    rise = turn * (f_last - _at(a, b, c, s, x, y, r, last - 1))
    for _ in range(TRIES):
        if fall > doubt or rise < -doubt:
            return 0  # monotone between the anchors, and certain at both
        p, q = fall - doubt, -rise - doubt  # steepest exact chords
        wide = right - left
        meet = (h_right - h_left + q * wide) / (p + q) if p + q < 0.0 else 0.0
        meet = min(max(meet, 0.0), float(wide))
        if max(h_left + p * meet, h_right + q * (wide - meet)) > 2.0 * doubt:
            return 0
        if wide <= 3:
            break
        k = left + min(max(int(meet), 1), wide - 2)
        f = _at(a, b, c, s, x, y, r, k)
        h = turn * f
        if h < -doubt:
            count = _between(a, b, c, s, x, y, r, doubt, left, turn * h_left, k, f, out, 0)
            return _between(a, b, c, s, x, y, r, doubt, k, f, right, turn * h_right, out, count)
        slope = turn * (_at(a, b, c, s, x, y, r, k + 1) - f)
        if not (h > doubt and abs(slope) > doubt):
            break
        if slope < 0.0:
            left, h_left, fall = k, h, slope
        else:
            right, h_right, rise = k, h, slope
    return _walked(a, b, c, s, x, y, r, 0, last, out, 0)


@njit(cache=True, nogil=True)
def _flips(a, b, c, s, x, y, r, doubt, out):
    """Write every k whose sign differs from that at k - 1; gives how many."""
    last = len(x) - 1
    f_first = _at(a, b, c, s, x, y, r, 0)
    f_last = _at(a, b, c, s, x, y, r, last)
    if doubt > 0.0 and not (abs(f_first) > doubt and abs(f_last) > doubt):
        return _walked(a, b, c, s, x, y, r, 0, last, out, 0)
    if (f_first > 0.0) != (f_last > 0.0):
        return _between(a, b, c, s, x, y, r, doubt, 0, f_first, last, f_last, out, 0)
    if s == 0.0 or (f_first > 0.0) != (s > 0.0) or last < 2:
        return 0  # it bends away from 0
    return _dips(a, b, c, s, x, y, r, doubt, f_first, f_last, out)


@njit(cache=True, nogil=True, error_model="numpy")
def _active(coefficient, bend, u, v, radius, doubt):
    """int8 (bits): 0 off or 1 on all over the lattice, 2 undecided."""
    bits = len(bend)
    i, j = len(v) // 2, len(u) // 2
    middle = radius[i, j]
    reach = max(abs(radius.max() - middle), abs(radius.min() - middle))
    across, along = max(u[-1] - u[j], u[j] - u[0]), max(v[-1] - v[i], v[i] - v[0])
    out = np.empty(bits, np.int8)
    for b in range(bits):
        f = ((coefficient[b, 0] + v[i] * coefficient[b, 2]) + u[j] * coefficient[b, 1]) + bend[b] * middle
        change = abs(coefficient[b, 1]) * across + abs(coefficient[b, 2]) * along + abs(bend[b]) * reach
        out[b] = 2 if abs(f) <= change * (1 + 1e-12) + 2 * doubt[b] else int(f > 0.0)
    return out


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def crossings(coefficient, bend, field, key, tolerance, u, v, radius, doubt, right, down, digest):
    fields, height, width = right.shape
    state = _active(coefficient, bend, u, v, radius, doubt)
    base_a, base_b = np.int64(0), np.int64(0)
    for b in range(len(bend)):
        if state[b] == 1:
            base_a += key[b, 0]
            base_b += key[b, 1]
    active = np.flatnonzero(state == 2)
    for i in prange(height):
        y = np.full(width + 1, v[i])
        at = np.empty(width + 1, np.int64)
        step = np.zeros((width + 2, 2), np.int64)
        step[0, 0], step[0, 1] = base_a, base_b
        for bit in active:
            p, q, w, s = coefficient[bit, 0], coefficient[bit, 1], coefficient[bit, 2], bend[bit]
            on = _at(p, q, w, s, u, y, radius[i], 0) > 0.0
            if on:
                step[0, 0] += key[bit, 0]
                step[0, 1] += key[bit, 1]
            for n in range(_flips(p, q, w, s, u, y, radius[i], doubt[bit], at)):
                k = at[n]
                right[field[bit], i, k - 1] += 1
                on = not on
                sign = np.int64(1) if on else np.int64(-1)
                step[k, 0] += sign * key[bit, 0]
                step[k, 1] += sign * key[bit, 1]
        sum_a, sum_b = np.int64(0), np.int64(0)
        for j in range(width):
            sum_a += step[j, 0]
            sum_b += step[j, 1]
            digest[i, j, 0], digest[i, j, 1] = sum_a, sum_b
    for j in prange(width):
        x = np.full(height + 1, u[j])
        r = radius[:, j].copy()
        at = np.empty(height + 1, np.int64)
        counted = np.zeros((fields, height), np.int32)
        for bit in active:
            p, q, w, s = coefficient[bit, 0], coefficient[bit, 1], coefficient[bit, 2], bend[bit]
            for n in range(_flips(p, q, w, s, x, v, r, doubt[bit], at)):
                counted[field[bit], at[n] - 1] += 1
        down[:, :, j] = counted


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def margins(coefficient, bend, field, key, tolerance, u, v, radius, doubt, margin):
    """Every pixel of a tile meets only the bits that can be the nearest somewhere in the tile."""
    height, width = margin.shape
    bits = len(bend)
    rows, columns = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
    doubts = np.zeros(rows * columns, np.int64)
    for t in prange(rows * columns):
        i0, j0 = t // columns * TILE, t % columns * TILE
        i1, j1 = min(i0 + TILE, height), min(j0 + TILE, width)
        i, j = (i0 + i1) // 2, (j0 + j1) // 2
        across, along = max(u[j1] - u[j], u[j] - u[j0]), max(v[i1] - v[i], v[i] - v[i0])
        middle, reach = radius[i, j], 0.0
        for a in range(i0, i1):
            for b in range(j0, j1):
                reach = max(reach, abs(radius[a, b] - middle))
        low = np.empty(bits)
        best = np.inf
        for b in range(bits):
            f = ((coefficient[b, 0] + v[i] * coefficient[b, 2]) + u[j] * coefficient[b, 1]) + bend[b] * middle
            change = abs(coefficient[b, 1]) * across + abs(coefficient[b, 2]) * along + abs(bend[b]) * reach
            change = change * (1 + 1e-12) + 2 * doubt[b]
            low[b] = abs(f) - change - tolerance[b]
            best = min(best, abs(f) + change - tolerance[b])
        least = np.full((TILE, TILE), np.inf)
        for b in range(bits):
            if low[b] > max(best, 0.0):
                continue
            p, q, w, s, tol = coefficient[b, 0], coefficient[b, 1], coefficient[b, 2], bend[b], tolerance[b]
            for a in range(i0, i1):
                row = least[a - i0]
                base = p + v[a] * w
                for k in range(j0, j1):
                    room = abs((base + u[k] * q) + s * radius[a, k]) - tol
                    doubts[t] += room <= 0.0
                    row[k - j0] = min(row[k - j0], room)
        for a in range(i0, i1):
            for k in range(j0, j1):
                margin[a, k] = max(least[a - i0, k - j0], 0.0) / radius[a, k]
    return doubts.sum()
