"""Pieces of one face, found along the seams of the tiles, and the sides that two faces share.

A tile's side is no boundary of the network: two pieces that touch along a part of it are of one face. On a side
that two pieces of a tile share lies a kink of that tile, and the side appears once in either sense.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.subdivision.pieces import SEAM, Pieces
from polykern_kernels import forest

TOUCHING = 1e-9  # of the window's side: shorter contacts say nothing
TURN = 0.7390851332151607  # radians; hardly any side is at right angles to it

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shared:
    """m sides between two faces each.

    faces  int64 (m, 2)       on the left and on the right of it
    ends   float64 (m, 2, 2)  (u, v) of where it begins and ends
    what   int32 (m)          field of the nonlinearity, or OUTSIDE
    alone  sides, longer than nothing, whose counterpart was not found
    """

    faces: Indices
    ends: NDArray[np.float64]
    what: NDArray[np.int32]
    alone: int


def faces_of(pieces: Pieces, twins: Indices, side: float) -> tuple[Indices, int]:
    """The face of each piece, int64 (n), numbered by first pieces; and how many contacts join different codes.

    twins  of `twins`
    side   of the window, L2 units

    Pieces that touch along a seam are of one face, and so are those that only an overtaken rival parts.
    """
    seam = np.flatnonzero(pieces.what == SEAM)
    place, behind = pieces.kink[seam] >> 1, (pieces.kink[seam] & 1).astype(bool)
    along = 1 - (place & 1)  # the coordinate that runs along the line: v where u is constant
    a, b = (pieces.corner[s, along] for s in (seam, _next(pieces)[seam]))
    low, high = np.minimum(a, b), np.maximum(a, b)
    before = _touching(place, low, high, ~behind, behind)
    after = _touching(place, low, high, behind, ~behind)
    one, two = np.concatenate([before, after]).T
    length = np.minimum(high[one], high[two]) - np.maximum(low[one], low[two])
    i, j = pieces.owner[seam[one]], pieces.owner[seam[two]]
    same = (pieces.digest[i] == pieces.digest[j]).all(1) & (pieces.winner[i] == pieces.winner[j])
    left, right = pieces.owner[twins].T
    whole = pieces.region[left] == pieces.region[right]
    source, target = np.concatenate([i[same], left[whole]]), np.concatenate([j[same], right[whole]])
    _, face = forest.join(torch.arange(len(pieces.area)), torch.from_numpy(source), torch.from_numpy(target))
    return face.numpy(), int((~same & (length > TOUCHING * side)).sum())


def _touching(
    place: Indices,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    mine: NDArray[np.bool_],
    theirs: NDArray[np.bool_],
) -> Indices:
    """(k, 2): seams, and the seam on the other side of the line in which the middle of each lies."""
    asked, given = np.flatnonzero(mine), np.flatnonzero(theirs)
    given = given[np.lexsort((low[given], place[given]))]
    asked = asked[np.argsort(place[asked], kind="stable")]
    middle, found = (low[asked] + high[asked]) / 2, np.full(len(asked), -1)
    lines, first = np.unique(place[asked], return_index=True)
    for line, start, stop in zip(lines, first, [*first[1:], len(asked)], strict=True):
        begin, end = np.searchsorted(place[given], [line, line + 1])
        if end > begin:
            at = np.searchsorted(low[given[begin:end]], middle[start:stop], side="right") - 1
            other = given[begin + np.maximum(at, 0)]
            inside = (at >= 0) & (middle[start:stop] <= high[other])
            found[start:stop] = np.where(inside, other, -1)
    return np.stack([asked, found], 1)[found >= 0]


def twins(pieces: Pieces, side: float) -> Indices:
    """int64 (m, 2): the sides that appear in two pieces, in either sense.

    Sides of one kink stand in the order of their middles along one direction, where the two senses of a side come
    next to each other.
    """
    inner, follower = np.flatnonzero(pieces.what != SEAM), _next(pieces)
    a, b = pieces.corner[inner], pieces.corner[follower[inner]]
    middle = (a + b) @ np.array([np.cos(TURN), np.sin(TURN)])
    order = np.lexsort((middle, pieces.kink[inner]))
    left, right = order[:-1], order[1:]
    near = TOUCHING * side
    facing = (np.abs(a[left] - b[right]) < near).all(1) & (np.abs(b[left] - a[right]) < near).all(1)
    match = facing & (pieces.kink[inner[left]] == pieces.kink[inner[right]])
    places = np.arange(len(match))
    begins = match & ~np.concatenate([np.zeros(min(1, len(match)), bool), match[:-1]])
    run = places - np.maximum.accumulate(np.where(begins, places, 0))
    taken = np.flatnonzero(match & (run % 2 == 0))  # in a run of matches every second one is a pair
    return np.stack([inner[left[taken]], inner[right[taken]]], 1)


def shared(pieces: Pieces, twins: Indices, face: Indices, side: float) -> Shared:
    """The sides between different faces; `side` of the window, L2 units."""
    faces, follower = face[pieces.owner[twins]], _next(pieces)
    apart = faces[:, 0] != faces[:, 1]
    one = twins[apart, 0]
    extent = np.abs(pieces.corner[follower] - pieces.corner).max(1)
    single = (pieces.what != SEAM) & (extent > TOUCHING * side)
    single[twins] = False
    return Shared(
        faces[apart], pieces.corner[np.stack([one, follower[one]], 1)], pieces.what[one], int(single.sum())
    )


def outlines(pieces: Pieces, face: Indices) -> tuple[Indices, NDArray[np.float64]]:
    """The faces as convex polygons: int64 (faces + 1) first corners, and float64 (corners, 2) in the pieces' sense.

    Corners at which a face does not turn, where a tile's side met its border, are left out.
    """
    count, mine = int(face.max()) + 1, face[pieces.owner]
    single = (np.bincount(face, minlength=count) == 1)[mine]
    # of a face in several pieces all corners in turn about their mean; those inside of their hull fall away
    several = np.flatnonzero(~single)
    corner, of = pieces.corner[several], mine[several]
    number = np.maximum(np.bincount(of, minlength=count), 1)
    mean = np.stack([np.bincount(of, corner[:, k], count) / number for k in (0, 1)], 1)
    away = corner - mean[of]
    order = np.lexsort((np.arctan2(away[:, 1], away[:, 0]), of))
    corner, mine = np.concatenate([pieces.corner[single], corner[order]]), np.concatenate([mine[single], of[order]])
    order = np.argsort(mine, kind="stable")
    return _turning(corner[order], mine[order], count)


def _turning(corner: NDArray[np.float64], mine: Indices, count: int) -> tuple[Indices, NDArray[np.float64]]:
    """Polygons, each star-shaped, without the corners at which they do not turn to their inside: their hulls."""
    while True:
        start = np.searchsorted(mine, np.arange(count + 1))
        before, after = np.arange(len(mine)) - 1, np.arange(len(mine)) + 1
        before[start[:-1]], after[start[1:] - 1] = start[1:] - 1, start[:-1]
        come, go = corner - corner[before], corner[after] - corner
        come_length, go_length = np.hypot(come[:, 0], come[:, 1]), np.hypot(go[:, 0], go[:, 1])
        extent = np.maximum.reduceat(come_length, start[:-1])[mine]
        turn = come[:, 0] * go[:, 1] - come[:, 1] * go[:, 0]
        straight = (turn <= 1e-9 * come_length * go_length) | (come_length <= 1e-12 * extent)
        straight &= ~straight[before]  # not two neighbours at once
        straight &= (start[1:] - start[:-1])[mine] > 3
        if not straight.any():
            return start, corner
        corner, mine = corner[~straight], mine[~straight]


def _next(pieces: Pieces) -> Indices:
    """int64 (s): the corner at which each side ends."""
    follower = np.arange(1, len(pieces.what) + 1)
    follower[pieces.start[1:] - 1] = pieces.start[:-1]
    return follower
