"""Sides of tiles, and the sides of pieces that lie on them.

A *border* is one side of a tile, a *seam* the side of a piece on it. Both are segments on a line of the grid of
tiles, with the tile before or behind the line; the segment of a smaller tile lies inside that of a larger one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.subdivision.pieces import DEPTH, SEAM, Pieces

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Borders:
    """n sides of tiles; lengths in 2**-DEPTH of the window.

    place    int64 (n)   twice the line's coordinate, plus 1 for a line along u
    behind   bool (n)    whether the tile lies behind the line
    begin    int64 (n)   where the side begins along the line
    length   int64 (n)
    missing  int64 (n)   how much of it has no tile on the other side yet
    """

    place: Indices
    behind: Flags
    begin: Indices
    length: Indices
    missing: Indices

    @property
    def open(self) -> Flags:
        """bool (n): which still miss something."""
        return self.missing > 0

    def of(self, kept: Flags) -> "Borders":
        """Some of them."""
        return Borders(*(getattr(self, name)[kept] for name in self.__slots__))

    def joined(self, other: "Borders") -> "Borders":
        """These and others behind them; what of either lies beyond the other is no longer missing."""
        both = Borders(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in self.__slots__))
        inner, outer = touching(both.place, both.behind, both.begin, both.begin + both.length)
        length = both.length
        inside = length[inner] <= length[outer]
        inner, outer = inner[inside], outer[inside]
        both.missing[inner] -= length[inner]
        larger = length[inner] < length[outer]
        np.subtract.at(both.missing, outer[larger], length[inner[larger]])
        return both


@dataclass(frozen=True, slots=True)
class Seams:
    """n sides of pieces on borders.

    border     int64 (n)     the border it is on
    owner      int64 (n)     whose side it is
    low, high  float64 (n)   from where to where along the line, L2 units
    """

    border: Indices
    owner: Indices
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def joined(self, other: "Seams", borders: int, owners: int) -> "Seams":
        """These and others behind them, whose borders and owners count from the numbers given."""
        return Seams(
            np.concatenate([self.border, borders + other.border]),
            np.concatenate([self.owner, owners + other.owner]),
            np.concatenate([self.low, other.low]), np.concatenate([self.high, other.high]),
        )  # fmt: skip

    def waiting(self, borders: Borders, owner: Indices) -> "Seams":
        """Those on borders that are open, with the numbers of open borders, and the owners renamed."""
        kept = borders.open[self.border]
        number = np.cumsum(borders.open) - 1
        return Seams(number[self.border[kept]], owner[self.owner[kept]], self.low[kept], self.high[kept])


def none() -> tuple[Borders, Seams]:
    """Nothing, to begin with."""
    no, real = np.zeros(0, np.int64), np.zeros(0)
    return Borders(no, np.zeros(0, bool), no, no, no), Seams(no, no, real, real)


def of(pieces: Pieces) -> tuple[Borders, Seams]:
    """The four borders of every tile in order, and the seams of its pieces. The window's own sides miss nothing."""
    row, column, side = (pieces.square[:, k, None] for k in range(3))
    line = np.concatenate([row, column + side, row + side, column], 1)
    begin = np.concatenate([column, row, column, row], 1)
    length = np.broadcast_to(side, line.shape)
    inside = (line > 0) & (line < 1 << DEPTH)
    along_u, behind = np.array([1, 0, 1, 0]), np.array([True, False, False, True])
    borders = Borders(
        (2 * line + along_u).ravel(), np.broadcast_to(behind, line.shape).ravel(), begin.ravel(), length.ravel(),
        np.where(inside, length, 0).ravel(),
    )  # fmt: skip
    seam = np.flatnonzero(pieces.what == SEAM)
    owner, which = pieces.owner[seam], pieces.kink[seam]
    along = which & 1  # the coordinate that runs along the line: v at the sides of high and of low u
    a, b = (pieces.corner[s, along] for s in (seam, pieces.next[seam]))
    return borders, Seams(4 * pieces.tile[owner] + which, owner, np.minimum(a, b), np.maximum(a, b))


def touching(place: Indices, behind: Flags, low: NDArray[Any], high: NDArray[Any]) -> tuple[Indices, Indices]:
    """int64 (k) each: segments, and the segment on the other side of the line in which the middle of each lies.

    place      int64 (n)   line of each segment
    behind     bool (n)    the side of the line that it is on; segments of one side do not overlap
    low, high  (n)         from where to where along the line
    """
    n, middle = len(place), (low + high) / 2
    key = np.concatenate([2 * place + behind, 2 * place + ~behind])  # n to find, then n to ask for
    order = np.lexsort((np.concatenate([low, middle]), key))
    before = order[np.maximum.accumulate(np.where(order < n, np.arange(2 * n), 0))]
    asked = (order >= n) & (before < n)
    one, two = order[asked] - n, before[asked]
    found = (key[n + one] == key[two]) & (middle[one] <= high[two])
    return one[found], two[found]
