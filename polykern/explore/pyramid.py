"""A resolution pyramid over a plane: tiles of 256 x 256 pixels, each evaluated at its own resolution.

Level z lays 256 * 2**z pixels a side over the window, so tile (z, row, column) covers the square
    u in window.u + side * [column, column + 1) / 2**z,    v in window.v + side * [row, row + 1) / 2**z.
The plane goes on beyond the window: rows and columns may be negative or large, and levels below 0 show more than
the window. No tile is made from another one.

Down is the end where float64 is: the rounding of u, of v and of the point x(u, v) together moves a pixel by at most
1 / FINE of its width, that is
    step >= FINE * 2**-53 * (|u| + |v| + |x|)    over the tile, |x| <= |origin| + |u| + |v|.
"""

import math
from dataclasses import dataclass

from polykern.block import Block
from polykern.errors import UsageError
from polykern.plane import Grid, Plane, Window

TILE = 256  # pixels a side
WIDEST = -6  # the window is 4 pixels wide
FINE = 256  # a pixel is this many times wider than its place is uncertain


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A square of 256 x 256 pixels of a level; negative rows and columns lie before the window."""

    level: int
    row: int
    column: int


class Pyramid:
    """Levels and tiles over a window of a plane.

    plane    through three anchors
    window   that level 0 shows in 256 pixels a side
    deepest  the last level that float64 tells apart all over the window
    """

    def __init__(self, plane: Plane, window: Window) -> None:
        self.plane, self.window = plane, window
        self._origin = float(plane.origin.norm())
        u, v = (max(abs(a), abs(a + window.side)) for a in (window.u, window.v))
        if not window.side / TILE >= self.finest(u, v):
            raise UsageError(
                f"the window is {window.side:.3g} wide, too narrow for float64 where it lies",
                why=f"its points are told apart to {self.finest(u, v) / FINE:.3g}",
                fix="a larger --window",
            )
        self.deepest = math.floor(math.log2(window.side / TILE / self.finest(u, v)))

    def step(self, level: int) -> float:
        """Distance of neighbouring pixels of a level, L2 units."""
        return math.ldexp(self.window.side / TILE, -level)

    def finest(self, u: float, v: float) -> float:
        """The smallest step that float64 serves at a point of the plane, L2 units."""
        return FINE * 2.0**-53 * (self._origin + 2 * (abs(u) + abs(v)))

    def grid(self, level: int) -> Grid:
        """The pixels of a level; those of the window have rows and columns 0 .. 256 * 2**level."""
        return Grid(self.plane, self.window, TILE << level if level >= 0 else TILE >> -level)

    def block(self, tile: Tile) -> Block:
        """The pixels of a tile in the grid of its level."""
        return Block(tile.row * TILE, tile.column * TILE, TILE, TILE)

    def alone(self, tile: Tile) -> Grid:
        """The pixels of a tile as a grid of their own."""
        side = self.step(tile.level) * TILE
        return Grid(self.plane, Window(*self._corner(tile), side), TILE)

    def require(self, tile: Tile) -> None:
        """Raise UsageError naming the deepest level where float64 does not tell the pixels of `tile` apart."""
        if not WIDEST <= tile.level <= self.deepest:
            raise UsageError(
                f"there is no level {tile.level}",
                why=f"float64 ends at level {self.deepest}, a magnification of {2.0**self.deepest:.3g}",
                fix=f"levels are {WIDEST} .. {self.deepest}",
            )
        side = self.step(tile.level) * TILE
        u, v = (max(abs(a), abs(a + side)) for a in self._corner(tile))
        if self.finest(u, v) > self.step(tile.level):
            raise UsageError(
                f"float64 does not tell the pixels of level {tile.level} apart so far from the anchors",
                fix="zoom out, or go back to the window",
            )

    def _corner(self, tile: Tile) -> tuple[float, float]:
        """(u, v) of the corner of row 0, column 0; infinite where no float64 is so large."""
        side = self.step(tile.level) * TILE
        try:
            return self.window.u + tile.column * side, self.window.v + tile.row * side
        except OverflowError:
            return math.inf, math.inf
