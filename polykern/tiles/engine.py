"""The tile engine: exact, certified maps of piecewise-linear networks."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern.block import Block, BlockMaps
from polykern.carrier import NotCarried
from polykern.counting import has_classes, placed
from polykern.dense import DenseEngine
from polykern.errors import UsageError
from polykern.halves import halved
from polykern.plane import Grid
from polykern.tail import Tail
from polykern.tiles.bundle import Bundle
from polykern.tiles.compress import compress
from polykern.tiles.costs import Choice, seconds
from polykern.tiles.raster import Raster
from polykern_kernels import program
from polykern_kernels.program import Outcome, Programs

SMALLEST = 4  # pixels of a tile's side; smaller ones are evaluated densely
TRIED = (16, 32, 64, 128, 256, 512)
MOST_SYMBOLS = 4096
ROWS = 4 << 20  # coefficients of one batch of forms at its widest layer, on a core: 32 MiB
COPIES = 6  # of the widest layer's forms that are alive together: into and out of an operator, magnitudes, indices
SHARE = 0.5  # of a GPU's free memory that a batch may take: tiles may be looser than the sample was
LESS = "--engine anchored, or more memory"
BANDS = {"cpu": 128, "cuda": 1024}  # rows of a map that are worth starting for

Done = tuple[Tensor, Outcome, Bundle]  # corners of the tiles, on the host; what became of them


class TileEngine:
    """Maps by tile programs: affine forms with exact symbols (`polykern.tiles`), float64.

    tail     the network; it is copied to float64 and `device`
    choice   tile size, from `calibrate`
    classes  also compute the argmax of the output; None: when it is a vector
    device   where tiles are compressed and run, "cpu", "cuda:0", ...
    errors   UsageError when an operator is not piecewise linear

    On a CPU batches of a few tiles run side by side, a core each; on a GPU one batch takes what its memory holds.
    Counts, fingerprints and classes are the same on both.

    Derived for an H200 and not measured: 4096 x 4096 pixels of the digits network in tiles of 64 with 92 symbols.
    Compression passes 5e8 coefficients (4.1 GB) about ten times, 10 ms at 4 TB/s, with 0.28 TFLOP in float64, 9 ms
    at 30 TFLOP/s; the run adds 2.5e10 terms, 5 to 10 ms out of L1 (`device/program.py`); the maps, 1.1 GB, are
    written, put together and copied to the host, 1 + 1 + 20 ms.
    """

    name = "tiles"
    dtype = "float64"
    margin = "certified lower bound"

    def __init__(
        self, tail: Tail, choice: Choice | None = None, *, classes: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        self.device = torch.device(device)
        self.tail = placed(tail, torch.float64, device)
        self.classes = has_classes(tail) if classes is None else classes
        self.choice = choice or Choice(64, 1024, 128.0, 0.0)
        if self.choice.side & (self.choice.side - 1):
            raise ValueError(f"TileEngine: a tile's side must be a power of two, got {self.choice.side}")
        self._widest = max(f.units for f in self.tail.layout.fields)
        self._dense: DenseEngine | None = None
        self._free: list[Tail] = []  # twins that no thread is running

    @property
    def band(self) -> int:
        """Rows of pixels that are worth starting for: whole tiles."""
        rows = BANDS[self.device.type]
        return max(self.choice.side, rows // self.choice.side * self.choice.side)

    def blocks(self, grid: Grid, blocks: Sequence[Block]) -> list[BlockMaps]:
        """The maps of `blocks`: cut into tiles, compressed in batches, run, put together."""
        return [raster.maps() for raster in self.rasters(grid, blocks)]

    def rasters(self, grid: Grid, blocks: Sequence[Block]) -> list[Raster]:
        """The maps of `blocks` where they were computed, padded to whole tiles."""
        fields, side = len(self.tail.layout.fields), self.choice.side
        rasters = [Raster(b, side, fields, self.classes, self.device) for b in blocks]
        todo = [raster.cut(side) for raster in rasters]
        with self._hands() as side_by_side:
            while any(map(len, todo)):
                if side < SMALLEST:
                    for raster, corners in zip(rasters, todo, strict=True):
                        self._densely(grid, raster, corners, side)
                    break
                failed = self._pass(grid, rasters, todo, side, side_by_side)
                side //= 2
                todo = [_quartered(corners, side) for corners in failed]
        return rasters

    def batch(self, side: int) -> int:
        """Tiles of `side` pixels that are compressed together."""
        expected = max(16.0, self.choice.symbols * side / self.choice.side)
        if self.device.type == "cpu":
            return int(np.clip(ROWS / (expected * self._widest), 1, 64))
        free, _ = torch.cuda.mem_get_info(self.device)
        idle = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        maps = (side + 1) ** 2 * (8 * len(self.tail.layout.fields) + 24 + expected)
        each = 8 * COPIES * expected * self._widest + maps
        return max(1, int(SHARE * (free + idle) / each))

    def _pass(
        self, grid: Grid, rasters: Sequence[Raster], todo: Sequence[Tensor], side: int, side_by_side: "SideBySide"
    ) -> list[Tensor]:
        """Fill in the tiles that can be compressed; gives back, for each raster, the corners of the others."""
        owner = torch.cat([torch.full((len(c),), k) for k, c in enumerate(todo)])
        corners, size = torch.cat(list(todo)), self.batch(side)
        batches = list(zip(owner.split(size), corners.split(size), strict=True))
        failed: list[list[Tensor]] = [[corners[:0]] for _ in rasters]
        for (whose, _), done in zip(
            batches, side_by_side(lambda b: self._done(grid, b[1], side), batches), strict=True
        ):
            at = 0
            for part, outcome, bundle in done:
                mine = whose[at : at + len(part)]
                at += len(part)
                alive = bundle.alive.cpu()
                for k in mine.unique().tolist():
                    _put(rasters[k], part, outcome, alive & (mine == k))
                    failed[k].append(part[~alive & (mine == k)])
        return [torch.cat(parts) for parts in failed]

    def _done(self, grid: Grid, corners: Tensor, side: int) -> list[Done]:
        """Compress and run a batch, in halves when memory does not hold it after all."""

        def done(some: Tensor) -> Done:
            programs, bundle = self._compressed(grid, some, side)
            return some, program.run(programs, side, side, len(self.tail.layout.fields)), bundle

        return halved(done, corners, what=f"a tile of {side} pixels", fix=LESS)

    def _densely(self, grid: Grid, raster: Raster, corners: Tensor, side: int) -> None:
        """Tiles that are too loose even when small: dense float64."""
        if not len(corners):
            return
        if self._dense is None:
            self._dense = DenseEngine(self.tail, torch.float64, device=self.device, classes=self.classes)
        tiles = [Block(row, column, side, side) for row, column in corners.tolist()]
        raster.put(corners.to(self.device), _outcome(self._dense.blocks(grid, tiles), self.device))

    def _compressed(self, grid: Grid, corners: Tensor, side: int) -> tuple[Programs, Bundle]:
        at = corners.to(self.device, torch.float64) + side / 2
        plane = grid.plane.to(self.device)
        centres = plane.points(grid.uv(at[:, 0], at[:, 1]))
        du, dv = grid.step * plane.e1, grid.step * plane.e2
        half, limit = (side / 2, side / 2), self.choice.limit
        tail = self._free.pop() if self._free else self.tail.twin()
        try:
            bundle = compress(tail, centres, du, dv, half, limit=limit, classes=self.classes)
        except NotCarried as reason:
            raise UsageError(
                f"tile programs cannot follow this network: {reason}",
                why="they are exact for piecewise-linear operators only",
                fix="--engine anchored handles any operator",
            ) from reason
        finally:
            self._free.append(tail)
        return bundle.programs(), bundle

    @contextmanager
    def _hands(self) -> Iterator["SideBySide"]:
        """How batches are worked on: by threads of a core each, or one after the other on a GPU."""
        if self.device.type != "cpu":
            with self._there():
                yield map
            return
        with hands() as side_by_side:
            yield side_by_side

    def _there(self) -> AbstractContextManager[Any]:
        """A context in which kernels are launched on the engine's device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def calibrate(self, grid: Grid, *, seed: int = 0, tiles: int = 8) -> Choice | None:
        """Try tile sizes on a random sample of the grid and keep the one the cost model calls cheapest.

        grid     the map to come
        seed     of the sample
        tiles    sampled at each size
        returns  the choice, which is also kept; None when tiles of every size are too loose to pay
        """
        best: Choice | None = None
        places = torch.from_numpy(np.random.default_rng(seed).random((tiles, 2)))
        for side in TRIED:
            if best is not None and side > grid.resolution:
                break
            room = max(0, grid.resolution - side)
            found = self._measure(grid, (places * room).long(), side, best)
            if found is None or (best is not None and found.cost > best.cost):
                break  # larger tiles are looser still
            best = found
        self.choice = best or self.choice
        return best

    def _measure(self, grid: Grid, sample: Tensor, side: int, smaller: Choice | None) -> Choice | None:
        """Cost of one tile size; None when most tiles are too loose at this size."""
        limit = min(side * side, MOST_SYMBOLS)  # with more symbols than pixels, dense would be cheaper
        self.choice = Choice(side, limit, 2 * smaller.symbols if smaller else limit, 0.0)

        def measured(some: Tensor) -> tuple[list[int], float]:
            programs, bundle = self._compressed(grid, some, side)
            return bundle.count[bundle.alive].tolist(), seconds(programs, bundle, side)

        symbols, cost = list[int](), 0.0
        with self._there():
            for corners in sample.split(self.batch(side)):
                for counted, spent in halved(measured, corners, what=f"a tile of {side} pixels", fix=LESS):
                    symbols += counted
                    cost += spent
        if len(symbols) < len(sample) / 2:
            return None
        mean = sum(symbols) / len(symbols)
        return Choice(side, min(limit, int(4 * mean) + 64), mean, cost / (len(sample) * side * side))


SideBySide = Callable[[Callable[..., list[Done]], list[tuple[Tensor, Tensor]]], Iterator[list[Done]]]


@contextmanager
def alone() -> Iterator[int]:
    """A context in which torch gives every thread one core; gives the number of threads it used before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def hands() -> Iterator[Callable[..., Iterator[Any]]]:
    """A context that gives how batches are worked on: as `map`, by threads of a core each; one needs no pool."""
    with alone() as threads:
        if threads == 1:
            yield map
            return
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map


def _put(raster: Raster, corners: Tensor, outcome: Outcome, chosen: Tensor) -> None:
    """Put the chosen tiles of a batch, bool (tiles) on the host, into a raster."""
    device = raster.margin.device
    if not chosen.all():
        which = chosen.nonzero()[:, 0]
        corners, outcome = corners[which], outcome.of(which.to(device))
    raster.put(corners.to(device), outcome)


def _quartered(corners: Tensor, side: int) -> Tensor:
    """int64 (4 tiles, 2): corners of the four quarters, of `side` pixels, of every tile."""
    steps = torch.tensor([[0, 0], [0, side], [side, 0], [side, side]])
    return (corners[:, None] + steps).flatten(0, 1)


def _outcome(maps: Sequence[BlockMaps], device: torch.device) -> Outcome:
    """Equal blocks of another engine as tiles."""
    stacked = [
        torch.from_numpy(np.stack([getattr(m, name) for m in maps])).to(device)
        for name in ("right", "down", "margin", "digest")
    ]
    right, down, margin, digest = stacked
    classes = margin.new_zeros(margin.shape, dtype=torch.int32)
    if maps[0].classes is not None:
        classes = torch.from_numpy(np.stack([m.classes for m in maps if m.classes is not None])).to(device)
    uncertain = torch.tensor([m.uncertain for m in maps], device=device)
    return Outcome(right, down, classes, margin, digest, uncertain, None)
