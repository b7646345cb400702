"""A window of a plane in pieces: tiles, and the cells of their programs.

The window is one tile; a tile with too many symbols is cut into four, so that tiles are small where boundaries are
dense. Tiles are compressed in batches, a core each, and cut by their kinks (`polykern_kernels.cells`). Memory is
that of the tiles in work and of what is found.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.carrier import NotCarried
from polykern.errors import UsageError
from polykern.plane import Plane, Window
from polykern.tail import Tail
from polykern.tiles import compress
from polykern.tiles.engine import alone
from polykern_kernels import cells
from polykern_kernels.cells import HIGH_U, HIGH_V, LOW_V
from polykern_kernels.program import NORM, Programs

LIMIT = 40  # symbols of a tile: a cell costs as much as there are, a seam as much as there are tiles
DEPTH = 30  # a tile is at least 2**-DEPTH of the window
COEFFICIENTS = 1 << 22  # of one batch at its widest layer: 32 MiB
OUTSIDE, SEAM = (
    -1,
    -2,
)  # what lies on a side that is no bit: a pool, a class or a kink that was not selected; a tile

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Convex pieces of the window; arrays of n pieces and s sides, a side starting at the corner of the same place.

    start   int64 (n + 1)    first side of each piece
    corner  float64 (s, 2)   (u, v), L2 units of the plane, in the sense that turns u to v
    what    int32 (s)        field of the nonlinearity that a side is a boundary of; OUTSIDE; or SEAM
    kink    int64 (s)        which kink of which tile; at a seam the line it is on, in 2**-DEPTH of the window,
                             times 4, plus 2 for a line along u, plus 1 where the piece lies behind it
    digest  int64 (n, 2)     fingerprint of the code
    region  int64 (n)        equal for the pieces of one linear region in a tile
    winner  int32 (n)        class, -1 without classes
    area    float64 (n)      L2 units squared
    """

    start: NDArray[np.int64]
    corner: NDArray[np.float64]
    what: NDArray[np.int32]
    kink: NDArray[np.int64]
    digest: NDArray[np.int64]
    region: NDArray[np.int64]
    winner: NDArray[np.int32]
    area: NDArray[np.float64]

    @property
    def owner(self) -> NDArray[np.int64]:
        """int64 (s): the piece of each side."""
        return np.repeat(np.arange(len(self.area)), np.diff(self.start))


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop before all is done.

    regions  more pieces than this are not wanted
    seconds  nor more time
    """

    regions: float = math.inf
    seconds: float = math.inf


def pieces(
    tail: Tail, plane: Plane, window: Window, *, classes: bool, budget: Budget, progress: Progress | None = None
) -> tuple[Pieces, float]:
    """The pieces of a window, and the share of its area that they cover: 1 unless the budget ran out.

    Raises UsageError naming the first operator that is not piecewise linear.
    """
    work = _Work(tail.to(torch.float64), plane, window, classes)
    began, covered, parts, count = time.monotonic(), 0.0, [], 0
    for level, todo in work.levels():
        for tiles, part in work.cut(level, todo):
            parts.append(part)
            count += len(part.area)
            covered += tiles / 4**level
            if progress:
                progress("tiles", round(1e4 * covered), 10_000)
            if count > budget.regions or time.monotonic() - began > budget.seconds:
                return _joined(parts), covered
    return _joined(parts), 1.0


class _Work:
    """What the tiles have in common, and which of them were too loose."""

    def __init__(self, tail: Tail, plane: Plane, window: Window, classes: bool) -> None:
        self.tail, self.plane, self.window, self.classes = tail, plane, window, classes
        self.free: list[Tail] = []  # twins that no thread is running
        self.size = max(1, COEFFICIENTS // (LIMIT * max(f.units for f in tail.layout.fields)))
        self.loose: list[Tensor] = []
        self.kinks = 0  # of all tiles so far

    def levels(self) -> Iterator[tuple[int, Tensor]]:
        """Tiles of one size after the other: level, and int64 (tiles, 2) rows and columns."""
        level, todo = 0, torch.zeros((1, 2), dtype=torch.int64)
        while len(todo):
            if level > DEPTH:
                raise UsageError(
                    f"more than {LIMIT} boundaries meet within {self.window.side / 2**DEPTH:.3g} of a point",
                    fix="move the window, or select fewer nonlinearities",
                )
            self.loose = []
            yield level, todo
            quarters = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
            todo = torch.cat([(2 * t[:, None] + quarters).flatten(0, 1) for t in self.loose] or [todo[:0]])
            level += 1

    def cut(self, level: int, todo: Tensor) -> Iterator[tuple[int, Pieces]]:
        """The pieces of the tiles that are not too loose, batch after batch, with how many tiles those are."""
        with alone() as threads, ThreadPoolExecutor(threads) as pool:
            batches = todo.split(self.size)
            for tiles, (alive, found) in zip(
                batches, pool.map(lambda t: self._batch(level, t), batches), strict=True
            ):
                self.loose.append(tiles[~alive])
                self.kinks = _numbered(found, self.kinks)
                yield int(alive.sum()), found

    def _batch(self, level: int, tiles: Tensor) -> tuple[Tensor, Pieces]:
        """Which tiles are not too loose, and their pieces, whose kinks are numbered from 0."""
        side = self.window.side / 2**level
        at = torch.tensor([self.window.v, self.window.u]) + (tiles.double() + 0.5) * side
        tail = self.free.pop() if self.free else self.tail.twin()
        try:
            bundle = compress(
                tail, self.plane.points(at.flip(1)), side * self.plane.e1, side * self.plane.e2, (0.5, 0.5),
                limit=LIMIT, classes=self.classes,
            )  # fmt: skip
        except NotCarried as reason:
            raise UsageError(
                f"there is no exact partition of this network: {reason}",
                why="its pieces have straight sides for piecewise-linear operators only",
                fix="polykern heatmap maps any network",
            ) from reason
        finally:
            self.free.append(tail)
        programs = bundle.programs()
        if bool((programs.kind == NORM).any()):
            raise UsageError(
                "there is no exact partition behind a LayerNorm", fix="polykern heatmap maps any network"
            )
        return bundle.alive, _placed(level, tiles, side, at, programs, cells.cut(programs, 1.0, 1.0), bundle.alive)


def _placed(
    level: int, tiles: Tensor, side: float, at: Tensor, programs: Programs, found: cells.Cells, alive: Tensor
) -> Pieces:
    """Cells of unit tiles as pieces of the plane, without those of tiles that were given up."""
    tile = torch.repeat_interleave(torch.arange(len(tiles)), found.first.diff())  # of each cell
    count = found.start.diff()
    mine = torch.repeat_interleave(tile, count)  # tile of each side
    kink = programs.first[mine] + found.side
    inner = found.side >= 0
    what = torch.cat([programs.field, programs.field.new_full((1,), SEAM)])[torch.where(inner, kink, -1)]
    # seams by the line they are on
    along_u = (found.side == LOW_V) | (found.side == HIGH_V)
    far = (found.side == HIGH_U) | (found.side == HIGH_V)
    line = (torch.where(along_u, tiles[mine, 0], tiles[mine, 1]) + far) << (DEPTH - level)
    kink = torch.where(inner, kink, 4 * line + 2 * along_u + ~far)
    corner = at[mine].flip(1) + side * found.corner
    kept, sides = alive[tile], alive[mine]
    return Pieces(
        start=torch.cat([torch.zeros(1, dtype=torch.int64), count[kept].cumsum(0)]).numpy(),
        corner=corner[sides].numpy(),
        what=what[sides].numpy(),
        kink=kink[sides].numpy(),
        digest=found.digest[kept].numpy(),
        region=found.region[kept].numpy(),
        winner=found.winner[kept].numpy(),
        area=(side * side * found.area[kept]).numpy(),
    )


def _numbered(found: Pieces, first: int) -> int:
    """Number the kinks from `first` on; gives the number behind them."""
    inner = found.what != SEAM
    found.kink[inner] += first
    return int(found.kink[inner].max()) + 1 if inner.any() else first


def _joined(parts: list[Pieces]) -> Pieces:
    sides = np.cumsum([0, *(len(p.what) for p in parts)])
    start = [p.start[1:] + first for p, first in zip(parts, sides[:-1], strict=True)]
    rest = {
        name: np.concatenate([getattr(p, name) for p in parts])
        for name in ("corner", "what", "kink", "digest", "region", "winner", "area")
    }
    return Pieces(start=np.concatenate([np.zeros(1, np.int64), *start]), **rest)
