"""Breakpoints of tile programs: a tile is walked from left to right, an interval without breakpoints at a time.

Single-threaded and without the GIL; callers run batches of tiles side by side.
"""

import numpy as np
from numba import njit

FOLD, RIVAL, CLASS, NORM = 1, 2, 3, 4
NEAR = 1e-13  # a difference of two forms is 0 below this share of what was added up
HALVINGS = 100


@njit(cache=True, nogil=True, inline="always")
def _value(a, b, c, quadratic, u):
    """a + b u + c s(u)."""
    if c == 0.0:
        return a + b * u
    return a + b * u + c * np.sqrt(max(0.0, quadratic[0] + u * (quadratic[1] + u * quadratic[2])))


@njit(cache=True, nogil=True)
def _magnitude(first, last, term, coefficient, form, quadratic, u):
    """Sum of the magnitudes of what makes a form at a point."""
    total = 0.0
    for k in range(first, last):
        one = form[np.uint32(term[k])]
        total += abs(coefficient[k]) * _value(abs(one[0]), abs(one[1]), abs(one[2]), quadratic, abs(u))
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _turn(b, c, quadratic, low, high):
    """Where b u + c s(u) turns inside an interval, or `high`."""
    q0, q1, q2 = quadratic[0], quadratic[1], quadratic[2]
    if c == 0.0 or q2 <= 0.0:
        return high
    k = -b / (c * q2)
    steep = 1.0 - k * k * q2
    if steep <= 0.0:
        return high
    u = -q1 / (2.0 * q2) + k * np.sqrt(max(0.0, q0 - q1 * q1 / (4.0 * q2)) / steep)
    return u if low < u < high else high


@njit(cache=True, nogil=True, error_model="numpy")
def _zero(a, b, c, quadratic, x, y, there):
    """The zero of a form between two points."""
    if c == 0.0:
        return min(y, max(x, -a / b))
    for _ in range(HALVINGS):
        middle = 0.5 * (x + y)
        if (_value(a, b, c, quadratic, middle) > 0.0) == (there > 0.0):
            y = middle
        else:
            x = middle
    return 0.5 * (x + y)


@njit(cache=True, nogil=True, error_model="numpy")
def _followed(a, b, c, quadratic, low, high, slack):
    """The sign of a form from `low` on, 0 where it is 0 all over, and its first zero, or `high`."""
    x, here = low, _value(a, b, c, quadratic, low)
    side = (here > slack) - (here < -slack)
    turn = _turn(b, c, quadratic, low, high)
    for part in range(2):
        if part == 0 and turn == high:
            continue
        y = turn if part == 0 else high
        there = _value(a, b, c, quadratic, y)
        now = (there > slack) - (there < -slack)
        if side != 0 and now == -side:
            zero = _zero(a, b, c, quadratic, x, y, there)
            return side, zero if low < zero < high else high
        if side == 0:
            side = now
        x = y
    return side, high


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _interval(begin, end, program, form, quadratic, low, high, on, z, won, winner):
    """Run a tile's instructions on [low, high]; returns where the first breakpoint ends the interval.

    on   bool (instructions)        of the kinks
    z    float64 (instructions, 4)  of all but norms: the form, and what is 0 in it
    won  int64 (symbols + 1)        which instruction wins; the last one: of the classes
    """
    kind, target, tolerance, start, term, coefficient = program
    best = len(form) - 1
    for i in range(begin, end):
        a = b = c = 0.0
        k, last = start[i], start[i + 1]
        if kind[i] == NORM:
            quadratic[0], quadratic[1], quadratic[2] = coefficient[k], coefficient[k + 1], coefficient[k + 3]
            form[target[i], 2] = 1.0
            continue
        while k < last:
            one, x = form[np.uint32(term[k])], coefficient[k]
            a += x * one[0]
            b += x * one[1]
            c += x * one[2]
            k += 1
        what, to = kind[i], target[i]
        z[i - begin, 0], z[i - begin, 1], z[i - begin, 2] = a, b, c
        if what <= FOLD:
            side, high = _followed(a, b, c, quadratic, low, high, tolerance[i])
            above = side > 0
            on[i - begin] = above
            sign = 1.0 if what != FOLD else -1.0
            if above == (what != FOLD):
                form[to, 0], form[to, 1], form[to, 2] = sign * a, sign * b, sign * c
            else:
                form[to, 0] = form[to, 1] = form[to, 2] = 0.0
            continue
        against = best if what == CLASS else to
        slack = NEAR * _magnitude(start[i], last, term, coefficient, form, quadratic, low)
        z[i - begin, 3] = slack
        p, q, r = a - form[against, 0], b - form[against, 1], c - form[against, 2]
        side, high = _followed(p, q, r, quadratic, low, high, slack)
        if side > 0:
            form[against, 0], form[against, 1], form[against, 2] = a, b, c
            won[against] = i
            if what == CLASS:
                winner[0] = to
    return high


@njit(cache=True, nogil=True)
def _largest(member, winner, begin, z, best, quadratic, low, high):
    """Whether a member of a window (-1: the centre's winner) equals its winner `best` all over an interval."""
    a, b, c = -best[0], -best[1], -best[2]
    slack = z[(member if member >= 0 else winner) - begin, 3]
    if member >= 0:
        a, b, c = a + z[member - begin, 0], b + z[member - begin, 1], c + z[member - begin, 2]
    left, right = _value(a, b, c, quadratic, low), _value(a, b, c, quadratic, high)
    return abs(left) <= slack and abs(right) <= slack


@njit(cache=True, nogil=True)
def _noted(begin, kinds, before, now, quadratic, made, ats, which, ups, winners):
    """Write what differs between two intervals, from `made` on; returns the number behind it, -1 without room.

    before, now  low, high, on, z, won, form, winner of each
    """
    low, high, on, z, won, form, winner = now
    low_before, _, on_before, z_before, won_before, form_before, winner_before = before
    room = len(ats)
    for k in range(len(on)):
        if kinds[k] <= FOLD and on[k] != on_before[k]:
            if made == room:
                return -1
            ats[made], which[made], ups[made], winners[made] = low, begin + k, on[k], winner
            made += 1
    for s in range(len(won)):
        was, is_now, classes = won_before[s], won[s], s == len(won) - 1
        if was == is_now or (classes and winner == winner_before):
            continue
        if not classes and (
            _largest(was, is_now, begin, z, form[s], quadratic, low, high)
            or _largest(is_now, was, begin, z_before, form_before[s], quadratic, low_before, low)
        ):
            continue
        if made == room:
            return -1
        ats[made], which[made] = low, is_now if is_now >= 0 else was
        ups[made], winners[made] = is_now >= 0, winner
        made += 1
    return made


@njit(cache=True, nogil=True)
def _ended(kinds, on, z, quadratic, u, ons, zs):
    """Write the signs and values of the kinks at an end of a tile."""
    for k in range(len(kinds)):
        if kinds[k] <= FOLD:
            ons[k] = on[k]
            zs[k] = _value(z[k, 0], z[k, 1], z[k, 2], quadratic, u)


@njit(cache=True, nogil=True, error_model="numpy")
def along(
    first, kind, target, tolerance, start, term, coefficient, symbols, base_winner, width,
    tile, ats, which, ups, winners, firsts, ons, zs, classes,
):  # fmt: skip
    """The breakpoints of the tiles from `tile` on; returns the tile that had no room, or how many tiles there are.

    others  the columns of `polykern_kernels.breakpoints.Breakpoints`
    """
    program = (kind, target, tolerance, start, term, coefficient)
    for t in range(tile, len(symbols)):
        begin, end = first[t], first[t + 1]
        n, made = end - begin, firsts[t]
        on, on_before = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        z, z_before = np.zeros((n, 4)), np.zeros((n, 4))
        won, won_before = np.empty(symbols[t] + 1, np.int64), np.empty(symbols[t] + 1, np.int64)
        form, form_before = np.empty((symbols[t] + 1, 3)), np.empty((symbols[t] + 1, 3))
        winner, winner_before = np.empty(1, base_winner.dtype), base_winner[t]
        quadratic = np.zeros(3)
        low = low_before = -0.5 * width
        last = 0.5 * width
        while True:
            form[:] = 0.0
            form[0, 0] = form[1, 1] = 1.0
            won[:] = -1
            winner[0] = base_winner[t]
            high = _interval(begin, end, program, form, quadratic, low, last, on, z, won, winner)
            if low == -0.5 * width:
                _ended(kind[begin:end], on, z, quadratic, low, ons[begin:end, 0], zs[begin:end, 0])
                classes[t, 0] = winner[0]
            else:
                before = (low_before, low, on_before, z_before, won_before, form_before, winner_before)
                now = (low, high, on, z, won, form, winner[0])
                made = _noted(begin, kind[begin:end], before, now, quadratic, made, ats, which, ups, winners)
                if made < 0:
                    return t
            if high >= last:
                break
            low_before, low, winner_before = low, high, winner[0]
            on, on_before, z, z_before = on_before, on, z_before, z
            won, won_before, form, form_before = won_before, won, form_before, form
        _ended(kind[begin:end], on, z, quadratic, last, ons[begin:end, 1], zs[begin:end, 1])
        classes[t, 1] = winner[0]
        firsts[t + 1] = made
    return len(symbols)
