"""Loops over the rows of affine forms: single-threaded, without the GIL; callers run batches side by side."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def ranges(rows, ptr, low, high, out_low, out_high, size):
    units = rows.shape[1]
    for t in range(len(ptr) - 1):
        lo, hi, sz = out_low[t], out_high[t], size[t]
        for r in range(ptr[t], ptr[t + 1]):
            a, b = low[r], high[r]
            reach = max(abs(a), abs(b))
            row = rows[r]
            if a == b:
                for i in range(units):
                    c = row[i]
                    lo[i] += c * a
                    hi[i] += c * a
                    sz[i] += abs(c) * reach
            else:
                for i in range(units):
                    c = row[i]
                    p, q = c * a, c * b
                    lo[i] += min(p, q)
                    hi[i] += max(p, q)
                    sz[i] += abs(c) * reach


@njit(cache=True, nogil=True, error_model="numpy")
def rescale(rows, source, tile, slope, rank, fresh, jump, out):
    units = rows.shape[1]
    for o in range(len(source)):
        r = source[o]
        if r >= 0:
            row, m = rows[r], slope[tile[o]]
            for i in range(units):
                out[o, i] = row[i] * m[i]
        else:
            out[o, :] = 0.0
            out[o, fresh[rank[o]]] = jump[rank[o]]


@njit(cache=True, nogil=True, error_model="numpy")
def pool_rivals(rows, ptr, low, high, members, floor, ceiling, winner, rise):
    windows, k = members.shape
    for t in range(len(ptr) - 1):
        first, last = ptr[t], ptr[t + 1]
        if first == last:
            continue
        for w in range(windows):
            best = -1
            for j in range(k):
                m = members[w, j]
                if m < 0:
                    continue
                if best < 0:
                    best = m
                    continue
                a, b = rows[first, m], rows[first, best]
                if a > b or (a == b and ceiling[t, m] > ceiling[t, best]):
                    best = m
            winner[t, w] = best
            for j in range(k):
                m = members[w, j]
                if m < 0 or m == best:
                    continue
                cap = ceiling[t, m] - floor[t, best]
                if cap <= 0.0:
                    rise[t, w, j] = cap
                    continue
                bound = 0.0
                for r in range(first, last):
                    gap = rows[r, m] - rows[r, best]
                    bound += max(gap * low[r], gap * high[r])
                rise[t, w, j] = min(bound, cap)


@njit(cache=True, nogil=True)
def count_terms(rows, ptr, tile, unit, minus, first):
    for n in range(len(tile)):
        count = 0
        u, m = unit[n], minus[n]
        for r in range(ptr[tile[n]], ptr[tile[n] + 1]):
            c = rows[r, u] - rows[r, m] if m >= 0 else rows[r, u]
            count += c != 0.0
        first[n + 1] = count


@njit(cache=True, nogil=True)
def fill_terms(rows, ptr, tile, unit, minus, first, symbol, term, coefficient):
    for n in range(len(tile)):
        at = first[n]
        u, m = unit[n], minus[n]
        for r in range(ptr[tile[n]], ptr[tile[n] + 1]):
            c = rows[r, u] - rows[r, m] if m >= 0 else rows[r, u]
            if c != 0.0:
                term[at] = symbol[r]
                coefficient[at] = c
                at += 1


@njit(cache=True, nogil=True)
def surviving(rows, tile, slope, out):
    """Which rows keep a non-zero coefficient behind the slopes."""
    units = rows.shape[1]
    for r in range(len(rows)):
        row, m = rows[r], slope[tile[r]]
        found = False
        for i in range(units):
            if row[i] != 0.0 and m[i] != 0.0:
                found = True
                break
        out[r] = found


@njit(cache=True, nogil=True)
def key_sums(on, keys, out):
    """out[t] = sum of keys[i] over i with on[t, i]."""
    for t in range(len(on)):
        a, b = np.int64(0), np.int64(0)
        for i in range(on.shape[1]):
            if on[t, i]:
                a += keys[i, 0]
                b += keys[i, 1]
        out[t, 0], out[t, 1] = a, b


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def convolve(rows, weight, stride_y, stride_x, pad_y, pad_x, step_y, step_x, out):
    """2-D convolution that does nothing for zeros; weight is (in, kernel, kernel, out channels)."""
    channels, high, wide = rows.shape[1:]
    kernel_y, kernel_x, outputs = weight.shape[1:]
    out_high, out_wide = out.shape[2:]
    for r in range(len(rows)):
        total = np.zeros((out_high, out_wide, outputs))
        for c in range(channels):
            for y in range(high):
                for x in range(wide):
                    a = rows[r, c, y, x]
                    if a == 0.0:
                        continue
                    for i in range(kernel_y):
                        down = y + pad_y - i * step_y
                        if down < 0 or down % stride_y:
                            continue
                        down //= stride_y
                        if down >= out_high:
                            continue
                        for j in range(kernel_x):
                            across = x + pad_x - j * step_x
                            if across < 0 or across % stride_x:
                                continue
                            across //= stride_x
                            if across >= out_wide:
                                continue
                            to, w = total[down, across], weight[c, i, j]
                            for o in range(outputs):
                                to[o] += a * w[o]
        for o in range(outputs):
            for y in range(out_high):
                for x in range(out_wide):
                    out[r, o, y, x] = total[y, x, o]
