"""Outlines of convex polygons that were found in pieces: the sides that two share, the hulls of their corners.

    pairs   sides of one line that are one side in either sense
    hulls   the corners of each group that are extreme, in the sense that turns u to v, from the least (u, v) on

Sides of a line stand in the order of their middles along a direction, where the two senses of a side come next to
each other. Hulls are by Andrew's monotone chain, and then without the corners at which the outline turns by less
than STRAIGHT, or that lie within NEAR of the one before: a side in two pieces is one side again, and two roundings
of a corner are one corner. At least three corners stay. In float64, without a tolerance between backends. Andrew
1979, "Another efficient algorithm for convex hulls in two dimensions".
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection

STRAIGHT = 1e-9  # sine of a turn
NEAR = 1e-12  # of the larger extent of a polygon

COSINE, SINE = 0.7390851332151607, 0.6736120291832148  # of a direction; hardly any side is at right angles to it

Point = tuple[float, float]

# --- contract -----------------------------------------------------------------------------------


def pairs(line: Tensor, ends: Tensor, near: float, *, backend: str | None = None) -> Tensor:
    """The sides that are there twice, in either sense.

    line     int64 (s)          the line that each side is on, a number from 0 on
    ends     float64 (s, 2, 2)  (u, v) of where it begins and ends
    near     how far apart two ends may be, in u and in v, that are one
    backend  "cpu" | "reference"; None takes the first that can run
    returns  int64 (m, 2)       places of sides, ordered by line and along it; no side is in two pairs

    Exact given `near`. Raises ValueError when the arguments do not fit.
    """
    op = "outlines.pairs"
    _check.tensor(op, "line", line, _check.INT64, "sides")
    _check.sized(op, "ends", ends, torch.float64, len(line), 2, 2)
    if len(line) and int(line.min()) < 0:
        raise ValueError(f"{op}: lines are numbered from 0 on, got {int(line.min())}")
    return choose(op, IMPLS["pairs"], backend, ends).run(line, ends, near)  # type: ignore[no-any-return]


def hulls(first: Tensor, corner: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """The hulls of groups of points.

    first    int64 (n + 1)      first point of each group, which has three at least
    corner   float64 (c, 2)     (u, v) of the points, group after group
    backend  "cpu" | "reference"; None takes the first that can run
    returns  int64 (n + 1)      first corner of each hull
             float64 (k, 2)     its corners

    Every corner is one of the points as given. Points on one line give their two ends and a third.
    Raises ValueError when the arguments do not fit.
    """
    op = "outlines.hulls"
    _check.tensor(op, "first", first, _check.INT64, "groups + 1")
    _check.tensor(op, "corner", corner, (torch.float64,), "points", "2")
    if corner.shape[1] != 2:
        _check.fail(op, "corner", "float64 (points, 2)", corner)
    if not len(first) or first[0] != 0 or first[-1] != len(corner) or bool((first.diff() < 3).any()):
        raise ValueError(f"{op}: first must rise from 0 to {len(corner)}, by three at least")
    return choose(op, IMPLS["hulls"], backend, corner).run(first, corner)  # type: ignore[no-any-return]


def cost_pairs(sides: int, pairs: int) -> Cost:
    """Read the sides once, write the pairs once."""
    return Cost(bytes=40 * sides + 16 * pairs)


def cost(groups: int, points: int, corners: int) -> Cost:
    """Read the points once, write the corners once."""
    return Cost(bytes=16 * groups + 16 * points + 16 * corners)


# --- reference ----------------------------------------------------------------------------------


def _reference_pairs(line: Tensor, ends: Tensor, near: float) -> Tensor:
    sides = ends.tolist()
    middle = [(a[0] + b[0]) * COSINE + (a[1] + b[1]) * SINE for a, b in sides]
    order = sorted(range(len(sides)), key=lambda k: (int(line[k]), middle[k], k))
    found, k = [], 0
    while k + 1 < len(order):
        i, j = order[k], order[k + 1]
        (a, b), (c, d) = sides[i], sides[j]
        gaps = a[0] - d[0], a[1] - d[1], b[0] - c[0], b[1] - c[1]
        one = bool(line[i] == line[j]) and max(map(abs, gaps)) < near
        if one:
            found.append((i, j))
        k += 2 if one else 1
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2)


def _reference(first: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    bounds = first.tolist()
    points = [(u, v) for u, v in corner.tolist()]
    found = [_outline(points[a:b]) for a, b in pairwise(bounds)]
    counts = torch.tensor([0, *map(len, found)])
    corners = torch.tensor([p for polygon in found for p in polygon], dtype=torch.float64)
    return counts.cumsum(0), corners.reshape(-1, 2)


def _outline(points: list[Point]) -> list[Point]:
    ordered = sorted(points)
    hull = _half(ordered)[:-1] + _half(ordered[::-1])[:-1]
    if len(hull) < 3:
        return [ordered[0], ordered[1], ordered[-1]]
    near = NEAR * max(ordered[-1][0] - ordered[0][0], max(v for _, v in points) - min(v for _, v in points))
    kept: list[Point] = []
    left = len(hull)
    for k, here in enumerate(hull):
        before = kept[-1] if kept else hull[-1]
        after = hull[k + 1] if k + 1 < len(hull) else kept[0] if kept else hull[0]
        if left > 3 and _straight(before, here, after, near):
            left -= 1
        else:
            kept.append(here)
    return kept


def _half(ordered: list[Point]) -> list[Point]:
    chain: list[Point] = []
    for p in ordered:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], p) <= 0.0:
            chain.pop()
        chain.append(p)
    return chain


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


def _straight(a: Point, b: Point, c: Point, near: float) -> bool:
    come = (b[0] - a[0]) * (b[0] - a[0]) + (b[1] - a[1]) * (b[1] - a[1])
    go = (c[0] - b[0]) * (c[0] - b[0]) + (c[1] - b[1]) * (c[1] - b[1])
    turn = _turn(a, b, c)
    return come <= near * near or turn * turn <= STRAIGHT * STRAIGHT * come * go


# --- cpu: numba, `_numba.outlines` --------------------------------------------------------------


def _cpu_pairs(line: Tensor, ends: Tensor, near: float) -> Tensor:
    from polykern_kernels._numba import outlines as loops

    run: Any = loops.pairs
    out, lines = np.empty((len(line) // 2, 2), np.int64), int(line.max()) + 1 if len(line) else 0
    count = run(line.numpy(), np.ascontiguousarray(ends.numpy()), lines, near, COSINE, SINE, out)
    return torch.from_numpy(out[:count].copy())


def _cpu(first: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import outlines as loops

    run: Any = loops.hulls
    begins, out = np.zeros(len(first), np.int64), np.empty((len(corner), 2))
    count = run(first.numpy(), np.ascontiguousarray(corner.numpy()), STRAIGHT, NEAR, begins, out)
    return torch.from_numpy(begins), torch.from_numpy(out[:count].copy())


IMPLS = {
    "pairs": (Impl("cpu", _cpu_pairs, cpu_objection), Impl("reference", _reference_pairs, cpu_objection)),
    "hulls": (Impl("cpu", _cpu, cpu_objection), Impl("reference", _reference, cpu_objection)),
}
