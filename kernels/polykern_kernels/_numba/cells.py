"""Cells of tile programs, depth first: a convex polygon is followed until a kink cuts it, and its on part waits.

Single-threaded and without the GIL; callers run batches of tiles side by side.
"""

import numpy as np
from numba import njit

KINK, FOLD, RIVAL, CLASS = 0, 1, 2, 3
NEAR = 1e-13  # a difference of two forms is 0 below this share of what was added up
THIN = 1e-12  # of a tile: no part of a cell is thinner


@njit(cache=True, nogil=True, error_model="numpy")
def _magnitude(first, last, term, coefficient, form, u, v):
    """Sum of the magnitudes of what makes a form up to (u, v) from 0."""
    total = 0.0
    for k in range(first, last):
        one = form[np.uint32(term[k])]
        total += abs(coefficient[k]) * (abs(one[0]) + abs(u * one[1]) + abs(v * one[2]))
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _follow(
    i, end, kind, target, key, tolerance, start, term, coefficient, form, size, corner, n, z, digest, winner
):  # fmt: skip
    """Run a cell's instructions from i on; returns the first that cuts it, its form and slack, or end.

    size  height and width of the tile
    z     z at the n vertices, behind the call
    """
    best = len(form) - 1
    while i < end:
        a = b = c = p = q = r = 0.0
        k, last = start[i], start[i + 1]
        while k + 2 <= last:
            one, two = form[np.uint32(term[k])], form[np.uint32(term[k + 1])]
            x, y = coefficient[k], coefficient[k + 1]
            a += x * one[0]
            b += x * one[1]
            c += x * one[2]
            p += y * two[0]
            q += y * two[1]
            r += y * two[2]
            k += 2
        if k < last:
            one, x = form[np.uint32(term[k])], coefficient[k]
            a += x * one[0]
            b += x * one[1]
            c += x * one[2]
        a, b, c = a + p, b + q, c + r
        what, to = kind[i], target[i]
        slack, above = tolerance[i], 0.0
        if what >= RIVAL:
            rival = best if what == CLASS else to
            p, q, r = a - form[rival, 0], b - form[rival, 1], c - form[rival, 2]
            u = v = 0.0
            for k in range(n):
                u, v = max(u, abs(corner[k, 0])), max(v, abs(corner[k, 1]))
            slack = NEAR * _magnitude(start[i], last, term, coefficient, form, u, v)
            above = slack  # where two are equal the earlier one stays
        else:
            p, q, r = a, b, c
        slack = max(slack, THIN * (size[1] * abs(q) + size[0] * abs(r)))
        low, high = np.inf, -np.inf
        for k in range(n):
            value = p + q * corner[k, 0] + r * corner[k, 1]
            z[k] = value
            low, high = min(low, value), max(high, value)
        if low < -slack and high > slack:
            return i, a, b, c, slack
        _enter(form, what, to, a, b, c, low >= -slack and high > above, key, i, digest, winner)
        i += 1
    return end, 0.0, 0.0, 0.0, 0.0


@njit(cache=True, nogil=True)
def _mixed(x):
    """SplitMix64 of an instruction's number, 0 for none."""
    z = np.uint64(x) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


@njit(cache=True, nogil=True, inline="always")
def _enter(form, what, to, a, b, c, on, key, i, digest, winner):
    """Write what an instruction gives where its side is known."""
    if what == KINK:
        form[to, 0], form[to, 1], form[to, 2] = (a, b, c) if on else (0.0, 0.0, 0.0)
    elif what == FOLD:
        form[to, 0], form[to, 1], form[to, 2] = (0.0, 0.0, 0.0) if on else (-a, -b, -c)
    elif on:
        rival = len(form) - 1 if what == CLASS else to
        digest[2] += _mixed(i + 1) - _mixed(int(form[rival, 3]))
        form[rival, 0], form[rival, 1], form[rival, 2], form[rival, 3] = a, b, c, i + 1
        if what == CLASS:
            winner[0] = to
    if on and what <= FOLD:
        digest[0] += key[i, 0]
        digest[1] += key[i, 1]
        digest[2] += _mixed(i + 1)


@njit(cache=True, nogil=True)
def _split(corner, side, n, z, line, slack, off, off_side, on, on_side):
    """Cut a polygon along z = 0 into the part where z <= 0 and that where z >= 0; returns their vertices.

    A side starts at the vertex of the same place and is named by what lies on it. A vertex within the slack is one
    of both parts.
    """
    few = many = 0
    for k in range(n):
        other = k + 1 if k + 1 < n else 0
        here, there = z[k], z[other]
        x, y = corner[k, 0], corner[k, 1]
        below, above = here < -slack, here > slack
        if not above:
            off[few, 0], off[few, 1] = x, y
            off_side[few] = line if (not below and there > slack) else side[k]
            few += 1
        if not below:
            on[many, 0], on[many, 1] = x, y
            on_side[many] = line if (not above and there < -slack) else side[k]
            many += 1
        if (below and there > slack) or (above and there < -slack):
            share = here / (here - there)
            x += share * (corner[other, 0] - x)
            y += share * (corner[other, 1] - y)
            off[few, 0], off[few, 1], on[many, 0], on[many, 1] = x, y, x, y
            off_side[few] = side[k] if above else line
            on_side[many] = line if above else side[k]
            few += 1
            many += 1
    return few, many


@njit(cache=True, nogil=True)
def _area(corner, n):
    """Shoelace, from the first vertex."""
    total = 0.0
    for k in range(1, n - 1):
        ax, ay = corner[k, 0] - corner[0, 0], corner[k, 1] - corner[0, 1]
        bx, by = corner[k + 1, 0] - corner[0, 0], corner[k + 1, 1] - corner[0, 1]
        total += 0.5 * (ax * by - ay * bx)
    return total


@njit(cache=True, nogil=True)
def _shared(first, last, kind, target, start, term, symbols):
    """Symbols that a cell may read after another one wrote them: written twice, or read before; the best class."""
    written, found = np.zeros(symbols + 1, np.bool_), np.zeros(symbols + 1, np.bool_)
    written[:3] = found[symbols] = True
    for i in range(first, last):
        for k in range(start[i], start[i + 1]):
            found[term[k]] |= not written[term[k]]
        if kind[i] != CLASS:
            found[target[i]] |= written[target[i]] or kind[i] == RIVAL
            written[target[i]] = True
    return np.flatnonzero(found)


@njit(cache=True, nogil=True, error_model="numpy")
def _cells(
    begin, end, program, form, shared, size, corner, side, digest, winner, waiting,
    starts, corners, sides, prints, regions, winners, areas, made,
):  # fmt: skip
    """Write the cells of a tile, those where an instruction is off before those where it is on.

    shared   symbols that are put back when another cell is taken up; any other one is written by one instruction,
             before those that read it
    waiting  the on parts of cells that were cut on the way: corners and sides of all, one behind the other; of each
             the instruction, its form, the end of its corners, fingerprint, class and shared symbols
    returns  0, or 1 where there is no room for another cell, 2 for another part that waits
    """
    kind, target, key, tolerance, start, term, coefficient = program
    held, held_side, at, forms, last, digests, classes, kept = waiting
    i, n, depth, z = begin, len(side), 0, np.empty(end - begin + 6)
    ours, ours_side = np.empty((end - begin + 6, 2)), np.empty(end - begin + 6, np.int32)
    other, other_side = np.empty_like(ours), np.empty_like(ours_side)
    ours[:n], ours_side[:n] = corner, side
    while True:
        i, a, b, c, slack = _follow(
            i, end, kind, target, key, tolerance, start, term, coefficient, form, size, ours, n, z, digest, winner
        )
        if i < end:
            top = last[depth - 1] if depth else 0
            if top + n + 2 > len(held):
                return 2
            few, many = _split(
                ours, ours_side, n, z, i - begin, slack, other, other_side, held[top:], held_side[top:]
            )
            at[depth], last[depth], classes[depth] = i, top + many, winner[0]
            forms[depth, 0], forms[depth, 1], forms[depth, 2] = a, b, c
            digests[depth] = digest
            for k in range(len(shared)):
                kept[depth, k] = form[shared[k]]
            depth += 1
            _enter(form, kind[i], target[i], a, b, c, False, key, i, digest, winner)
            ours, ours_side, other, other_side, n = other, other_side, ours, ours_side, few
            i += 1
            continue
        cell, vertex = made[0], starts[made[0]]
        if cell + 1 >= len(starts) or vertex + n > len(sides):
            return 1
        corners[vertex : vertex + n], sides[vertex : vertex + n] = ours[:n], ours_side[:n]
        prints[cell, 0], prints[cell, 1], regions[cell] = digest[0], digest[1], digest[2]
        winners[cell], areas[cell] = winner[0], _area(ours, n)
        starts[cell + 1] = vertex + n
        made[0] = cell + 1
        if not depth:
            return 0
        depth -= 1
        top = last[depth - 1] if depth else 0
        n, i = last[depth] - top, at[depth]
        ours[:n], ours_side[:n] = held[top : top + n], held_side[top : top + n]
        digest[:], winner[0] = digests[depth], classes[depth]
        for k in range(len(shared)):
            form[shared[k]] = kept[depth, k]
        a, b, c = forms[depth]
        _enter(form, kind[i], target[i], a, b, c, True, key, i, digest, winner)
        i += 1


@njit(cache=True, nogil=True)
def _waiting(corners, instructions, symbols):
    """Room for the parts that wait; their arrays as in `_cells`."""
    return (
        np.empty((corners, 2)), np.empty(corners, np.int32), np.empty(instructions, np.int64),
        np.empty((instructions, 3)), np.empty(instructions, np.int64), np.empty((instructions, 3), np.int64),
        np.empty(instructions, np.int32), np.empty((instructions, symbols + 1, 4)),
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def cut(
    first, kind, target, key, tolerance, start, term, coefficient, symbols, base_digest, base_winner, height, width,
    tile, starts, corners, sides, prints, regions, winners, areas, made, cells_of,
):  # fmt: skip
    """The cells of the tiles from `tile` on; returns the tile that had no room, or how many tiles there are.

    made     int64 (1)   cells so far
    others   the columns of `polykern_kernels.cells.Cells`, starts[0] being 0
    """
    program = (kind, target, key, tolerance, start, term, coefficient)
    x, y = 0.5 * width, 0.5 * height
    corner = np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
    side = np.array([-1, -2, -3, -4], np.int32)
    instructions = most = 0
    for t in range(tile, len(symbols)):
        instructions, most = max(instructions, first[t + 1] - first[t]), max(most, symbols[t])
    room = 64 + 6 * instructions
    waiting = _waiting(room, instructions, most)
    for t in range(tile, len(symbols)):
        shared = _shared(first[t], first[t + 1], kind, target, start, term, symbols[t])
        before, full = made[0], 2
        while full == 2:
            # symbols as 1, u, v, and the instruction that a maximum is of; the last one: the best class
            form = np.zeros((symbols[t] + 1, 4))
            form[0, 0] = form[1, 1] = form[2, 2] = 1.0
            digest, winner = np.zeros(3, np.int64), base_winner[t : t + 1].copy()
            digest[:2] = base_digest[t]
            made[0] = before
            full = _cells(
                first[t], first[t + 1], program, form, shared, (height, width), corner, side, digest, winner,
                waiting, starts, corners, sides, prints, regions, winners, areas, made,
            )  # fmt: skip
            if full == 2:
                room *= 2
                waiting = _waiting(room, instructions, most)
        if full:
            made[0] = before
            return t
        cells_of[t + 1] = made[0]
    return len(symbols)
