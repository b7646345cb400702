"""The tile-program interpreter: single-threaded, without the GIL; callers run batches of tiles side by side."""

import numpy as np
from numba import njit

CHUNK = 128  # pixels at a time: two hundred symbols of them fill a fifth of a 1 MiB cache
KINK, FOLD, RIVAL, CLASS, NORM = 0, 1, 2, 3, 4


@njit(cache=True, nogil=True, fastmath={"contract"}, inline="always")
def _evaluate(z, n, first, last, term, coefficient, symbol):
    """z[:n] = sum of coefficient * symbol, four terms at a time."""
    z[:n] = 0.0
    k = first
    while k + 4 <= last:
        a, b, c, d = coefficient[k], coefficient[k + 1], coefficient[k + 2], coefficient[k + 3]
        p, q = symbol[term[k]], symbol[term[k + 1]]
        r, s = symbol[term[k + 2]], symbol[term[k + 3]]
        for i in range(n):
            z[i] += (a * p[i] + b * q[i]) + (c * r[i] + d * s[i])
        k += 4
    while k < last:
        a, p = coefficient[k], symbol[term[k]]
        for i in range(n):
            z[i] += a * p[i]
        k += 1


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def run(
    first, kind, target, field, key, tolerance, start, term, coefficient, symbols, scale, base_digest,
    base_margin, base_winner, height, width, right, down, classes, margin, digest, uncertain, signs, keep,
):  # fmt: skip
    tiles = len(symbols)
    across = width + 1
    points = (height + 1) * across
    for t in range(tiles):
        begin, end = first[t], first[t + 1]
        on = np.empty((max(1, end - begin), points), np.uint8)
        symbol = np.empty((symbols[t], CHUNK), np.float64)
        square = np.empty((6, CHUNK), np.float64)
        z = np.empty(CHUNK, np.float64)
        low = np.empty(CHUNK, np.float64)
        best = np.empty(CHUNK, np.float64)
        winner = np.empty(CHUNK, np.int32)
        inside = np.empty(CHUNK, np.uint8)  # not the extra row or column
        print_a = np.empty(CHUNK, np.int64)
        print_b = np.empty(CHUNK, np.int64)
        doubt = 0
        for at in range(0, points, CHUNK):
            n = min(CHUNK, points - at)
            for i in range(n):
                row = (at + i) // across
                symbol[0, i] = 1.0
                symbol[1, i] = (at + i) - row * across - 0.5 * width
                symbol[2, i] = row - 0.5 * height
                inside[i] = row < height and (at + i) - row * across < width
            symbol[3:, :n] = 0.0
            low[:n] = np.inf
            best[:n] = 0.0
            winner[:n] = base_winner[t]
            print_a[:n] = base_digest[t, 0]
            print_b[:n] = base_digest[t, 1]
            for k in range(begin, end):
                what, to = kind[k], target[k]
                if what == NORM:
                    for i in range(n):
                        u, v = symbol[1, i], symbol[2, i]
                        square[0, i], square[1, i], square[2, i] = 1.0, u, v
                        square[3, i], square[4, i], square[5, i] = u * u, u * v, v * v
                    _evaluate(z, n, start[k], start[k + 1], term, coefficient, square)
                    for i in range(n):
                        symbol[to, i] = np.sqrt(max(z[i], 0.0))
                    continue
                _evaluate(z, n, start[k], start[k + 1], term, coefficient, symbol)
                if what == RIVAL:
                    e = symbol[to]
                    for i in range(n):
                        e[i] = max(e[i], z[i])
                    continue
                if what == CLASS:
                    for i in range(n):
                        if z[i] > best[i] or (z[i] == best[i] and to < winner[i]):
                            best[i] = z[i]
                            winner[i] = to
                    continue
                e = symbol[to]
                sign = 1.0 if what == KINK else -1.0
                for i in range(n):
                    e[i] = max(0.0, sign * z[i])
                if field[k] < 0:
                    continue
                a, b, tol = key[k, 0], key[k, 1], tolerance[k]
                bit = on[k - begin]
                for i in range(n):
                    up = z[i] > 0.0
                    bit[at + i] = up
                    print_a[i] += a if up else np.int64(0)
                    print_b[i] += b if up else np.int64(0)
                if scale[t] < 0:
                    for i in range(n):
                        low[i] = min(low[i], abs(z[i]) - tol)
                else:
                    by = symbol[scale[t]]
                    for i in range(n):
                        low[i] = min(low[i], (abs(z[i]) - tol) / by[i])
                for i in range(n):
                    doubt += inside[i] & (abs(z[i]) <= tol)
            for i in range(n):
                row = (at + i) // across
                column = (at + i) - row * across
                if row < height and column < width:
                    margin[t, row, column] = min(max(low[i], 0.0), base_margin[t])
                    classes[t, row, column] = winner[i]
                    digest[t, row, column, 0] = print_a[i]
                    digest[t, row, column, 1] = print_b[i]
        uncertain[t] = doubt
        for k in range(begin, end):
            if kind[k] > FOLD or field[k] < 0:
                continue
            bit, f = on[k - begin], field[k]
            for row in range(height):
                here = bit[row * across : row * across + across]
                below = bit[(row + 1) * across : (row + 2) * across]
                r, d = right[t, f, row], down[t, f, row]
                for i in range(width):
                    r[i] += here[i] ^ here[i + 1]
                    d[i] += here[i] ^ below[i]
            if keep:
                for row in range(height + 1):
                    for i in range(width + 1):
                        signs[k, row, i] = bit[row * across + i] != 0
