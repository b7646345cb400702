"""A window of a plane in pieces: tiles, and the cells of their programs.

The window is one tile; a tile with too many symbols is cut into four, so that tiles are small where boundaries are
dense. Depth first: what a quarter was cut into is done before its neighbour, so that few tiles wait and what is
done has a short border. Tiles are compressed in batches, a core each, and cut by their kinks
(`polykern_kernels.cells`).
"""

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.carrier import NotCarried
from polykern.errors import UsageError
from polykern.plane import Plane, Window
from polykern.tail import Tail
from polykern.tiles import Bundle, compress
from polykern.tiles.engine import hands
from polykern_kernels import cells, program
from polykern_kernels.program import NORM, Programs

# symbols of a tile: a cell costs as much as there are, a tile a pass of the network for each. Networks of more than
# PRODUCTS multiply-adds have larger tiles, fitted on networks of 3e4 to 1e6
LIMIT, PRODUCTS, LARGEST = 64, 1e5, 256
DEPTH = 30  # a tile is at least 2**-DEPTH of the window
COEFFICIENTS = 1 << 22  # of one batch at its widest layer: 32 MiB
BATCH, BATCHES = 64, 8  # tiles of a batch at most; batches between two stitches, whatever the number of cores
# what lies on a side that is no bit: a pool's choice or a kink that was not selected; another class; another tile
OUTSIDE, CLASS, SEAM = -1, -2, -3
QUARTERS = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])


@dataclass(frozen=True, slots=True)
class Pieces:
    """Convex pieces of whole tiles: n pieces, s sides, t tiles; a side starts at the corner of the same place.

    start   int64 (n + 1)    first side of each piece
    corner  float64 (s, 2)   (u, v), L2 units of the plane, in the sense that turns u to v
    what    int32 (s)        field of the nonlinearity that a side is a boundary of; OUTSIDE; CLASS; or SEAM
    kink    int64 (s)        which kink of which tile; at a seam which side of the tile: 0 low v, 1 high u,
                             2 high v, 3 low u
    digest  int64 (n, 2)     fingerprint of the code
    region  int64 (n)        equal for the pieces of one linear region in a tile
    winner  int32 (n)        class, -1 without classes
    area    float64 (n)      L2 units squared
    tile    int64 (n)        tile of each piece
    square  int64 (t, 3)     row and column of each tile's low corner, and its side, in 2**-DEPTH of the window
    """

    start: NDArray[np.int64]
    corner: NDArray[np.float64]
    what: NDArray[np.int32]
    kink: NDArray[np.int64]
    digest: NDArray[np.int64]
    region: NDArray[np.int64]
    winner: NDArray[np.int32]
    area: NDArray[np.float64]
    tile: NDArray[np.int64]
    square: NDArray[np.int64]

    @property
    def owner(self) -> NDArray[np.int64]:
        """int64 (s): the piece of each side."""
        return np.repeat(np.arange(len(self.area)), np.diff(self.start))

    @property
    def next(self) -> NDArray[np.int64]:
        """int64 (s): the corner at which each side ends."""
        follower = np.arange(1, len(self.what) + 1)
        follower[self.start[1:] - 1] = self.start[:-1]
        return follower


def pieces(
    tail: Tail, plane: Plane, window: Window, *, classes: bool
) -> Generator[tuple[float, Pieces], None, None]:
    """The pieces of a window, some tiles at a time, with the share of its area that is done by then.

    Raises UsageError naming the first operator that is not piecewise linear.
    """
    work = _Work(tail.to(torch.float64), plane, window, classes)
    todo = [torch.zeros((1, 2), dtype=torch.int64)]  # rows and columns of tiles by level
    covered = 0.0
    with hands() as side_by_side:
        while todo:
            level = len(todo) - 1
            taken, todo[level] = todo[level][: work.chunk], todo[level][work.chunk :]
            done = list(side_by_side(partial(work.cut, level), taken.split(work.batch)))
            loose = torch.cat([tiles for tiles, _ in done])
            covered += (len(taken) - len(loose)) / 4**level
            if len(loose):
                todo.append((2 * loose[:, None] + QUARTERS).flatten(0, 1))
            while todo and not len(todo[-1]):
                todo.pop()
            if len(loose) < len(taken):
                share = min(covered, 1 - 2**-53) if todo else 1.0  # 1 only when all is done
                yield share, _joined([found for _, found in done])


class _Work:
    """What the tiles have in common."""

    def __init__(self, tail: Tail, plane: Plane, window: Window, classes: bool) -> None:
        self.tail, self.plane, self.window, self.classes = tail, plane, window, classes
        self.free: list[Tail] = []  # twins that no thread is running
        point = torch.tensor([[window.u, window.v]])
        products = self._compressed(self.tail, point, window.side, (0.0, 0.0), LIMIT).products
        self.limit = max(LIMIT, min(LARGEST, round(LIMIT * (products / PRODUCTS) ** 0.25)))
        widest = max(f.units for f in tail.layout.fields)
        self.batch = min(BATCH, max(1, COEFFICIENTS // (self.limit * widest)))
        self.chunk = BATCHES * self.batch

    def cut(self, level: int, tiles: Tensor) -> tuple[Tensor, Pieces]:
        """Which of some tiles are too loose, and the pieces of the others, whose kinks are numbered from 0."""
        if level > DEPTH:
            raise UsageError(
                f"more than {self.limit} boundaries meet within {self.window.side / 2**DEPTH:.3g} of a point",
                fix="move the window, or select fewer nonlinearities",
            )
        side = self.window.side / 2**level
        at = torch.tensor([self.window.v, self.window.u]) + (tiles.double() + 0.5) * side
        tail = self.free.pop() if self.free else self.tail.twin()
        try:
            bundle = self._compressed(tail, at.flip(1), side, (0.5, 0.5), self.limit)
        finally:
            self.free.append(tail)
        programs = bundle.programs()
        if bool((programs.kind == NORM).any()):
            raise UsageError(
                "there is no exact partition behind a LayerNorm", fix="polykern heatmap maps any network"
            )
        found = _placed(level, tiles, side, at, programs, cells.cut(programs, 1.0, 1.0), bundle.alive)
        return tiles[~bundle.alive], found

    def _compressed(self, tail: Tail, at: Tensor, side: float, half: tuple[float, float], limit: int) -> Bundle:
        """Tiles about (u, v), float64 (tiles, 2), sent through the network; `side` is their unit of length."""
        e1, e2 = side * self.plane.e1, side * self.plane.e2
        try:
            return compress(tail, self.plane.points(at), e1, e2, half, limit=limit, classes=self.classes)
        except NotCarried as reason:
            raise UsageError(
                f"there is no exact partition of this network: {reason}",
                why="its pieces have straight sides for piecewise-linear operators only",
                fix="polykern heatmap maps any network",
            ) from reason


def _placed(
    level: int, tiles: Tensor, side: float, at: Tensor, programs: Programs, found: cells.Cells, alive: Tensor
) -> Pieces:
    """Cells of unit tiles as pieces of the plane, without those of tiles that were given up."""
    tile = torch.repeat_interleave(torch.arange(len(tiles)), found.first.diff())  # of each cell
    count = found.start.diff()
    mine = torch.repeat_interleave(tile, count)  # tile of each side
    inner = found.side >= 0
    kink = programs.first[mine] + found.side
    named = torch.where(programs.kind == program.CLASS, CLASS, programs.field)
    what = torch.cat([named, named.new_full((1,), SEAM)])[torch.where(inner, kink, -1)]
    corner = at[mine].flip(1) + side * found.corner
    kept, sides = alive[tile], alive[mine]
    return Pieces(
        start=torch.cat([torch.zeros(1, dtype=torch.int64), count[kept].cumsum(0)]).numpy(),
        corner=corner[sides].numpy(),
        what=what[sides].numpy(),
        kink=torch.where(inner, kink, cells.LOW_V - found.side)[sides].numpy(),
        digest=found.digest[kept].numpy(),
        region=found.region[kept].numpy(),
        winner=found.winner[kept].numpy(),
        area=(side * side * found.area[kept]).numpy(),
        tile=(alive.cumsum(0) - 1)[tile[kept]].numpy(),
        square=(torch.cat([tiles, torch.ones_like(tiles[:, :1])], 1)[alive] << (DEPTH - level)).numpy(),
    )


def _joined(parts: list[Pieces]) -> Pieces:
    """Batches behind each other; kinks and tiles are numbered through."""
    sides = np.cumsum([0, *(len(p.what) for p in parts)])
    start = [p.start[1:] + first for p, first in zip(parts, sides[:-1], strict=True)]
    kinks = np.cumsum([0, *(int(p.kink.max(initial=-1)) + 1 for p in parts)])
    tiles = np.cumsum([0, *(len(p.square) for p in parts)])
    kink = [np.where(p.what == SEAM, p.kink, p.kink + first) for p, first in zip(parts, kinks[:-1], strict=True)]
    tile = [p.tile + first for p, first in zip(parts, tiles[:-1], strict=True)]
    rest = {
        name: np.concatenate([getattr(p, name) for p in parts])
        for name in ("corner", "what", "digest", "region", "winner", "area", "square")
    }
    return Pieces(
        start=np.concatenate([np.zeros(1, np.int64), *start]), kink=np.concatenate(kink), tile=np.concatenate(tile),
        **rest,
    )  # fmt: skip
