"""The tile engine: exact, certified maps of piecewise-linear networks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from polykern.block import Block, BlockMaps, blank, paste
from polykern.carrier import NotCarried
from polykern.dense import DenseEngine
from polykern.errors import UsageError
from polykern.plane import Grid
from polykern.tail import Tail
from polykern.tiles.bundle import Bundle
from polykern.tiles.compress import compress
from polykern_kernels import program
from polykern_kernels.program import Outcome, Programs

SMALLEST = 4  # pixels of a tile's side; smaller ones are evaluated densely
TRIED = (16, 32, 64, 128, 256, 512)
MOST_SYMBOLS = 4096
ROWS = 4 << 20  # coefficients of one batch of forms at its widest layer: 32 MiB

Job = tuple[int, Block]  # number of the block it belongs to, tile


@dataclass(frozen=True, slots=True)
class Choice:
    """A tile size and what it costs.

    side     pixels
    limit    symbols beyond which a tile is cut into four
    symbols  mean symbols of a tile
    cost     model seconds a pixel on one reference core (`seconds`)
    """

    side: int
    limit: int
    symbols: float
    cost: float


class TileEngine:
    """Maps by tile programs: affine forms with exact symbols (`polykern.tiles`), float64.

    tail     the network; it is copied to float64
    choice   tile size, from `calibrate`
    classes  also compute the argmax of the output; None: when it is a vector
    device   where the programs run; they are always compressed on the CPU
    errors   UsageError when an operator is not piecewise linear
    """

    name = "tiles"
    dtype = "float64"
    margin = "certified lower bound"

    def __init__(
        self, tail: Tail, choice: Choice | None = None, *, classes: bool | None = None, device: str = "cpu"
    ) -> None:
        self.tail = tail if tail.dtype == torch.float64 else tail.to(torch.float64)
        vector = tail.output_shape is not None and len(tail.output_shape) == 1
        self.classes = vector if classes is None else classes
        self.device = device
        self.choice = choice or Choice(64, 1024, 128.0, 0.0)
        self._widest = max(f.units for f in self.tail.layout.fields)
        self._dense: DenseEngine | None = None
        self._free: list[Tail] = []  # twins that no thread is running

    def blocks(self, grid: Grid, blocks: Sequence[Block]) -> list[BlockMaps]:
        """The maps of `blocks`: cut into tiles, compressed in batches side by side, run, put together."""
        fields = len(self.tail.layout.fields)
        maps = [blank(b, fields, self.classes) for b in blocks]
        todo: list[Job] = [(k, tile) for k, b in enumerate(blocks) for tile in _cut(b, self.choice.side)]
        with alone() as threads, ThreadPoolExecutor(threads) as pool:
            while todo:
                side = todo[0][1].height
                if side < SMALLEST:
                    self._densely(grid, todo, blocks, maps)
                    break
                batches = list(_batches(todo, self.batch(side)))
                failed: list[Job] = []
                for batch, (outcome, bundle) in zip(
                    batches, pool.map(lambda b: self._run(grid, [tile for _, tile in b]), batches), strict=True
                ):
                    failed += self._put(batch, outcome, bundle, blocks, maps)
                todo = [(k, part) for k, tile in failed for part in _cut(tile, side // 2)]
        return maps

    def batch(self, side: int) -> int:
        """Tiles of `side` pixels that are compressed together."""
        expected = self.choice.symbols * side / self.choice.side
        return int(np.clip(ROWS / (max(16.0, expected) * self._widest), 1, 64))

    def _put(
        self, batch: Sequence[Job], outcome: Outcome, bundle: Bundle, blocks: Sequence[Block], maps: list[BlockMaps]
    ) -> list[Job]:
        """Fill in the maps of a batch; gives back the tiles that were too loose."""
        for t, (k, tile) in enumerate(batch):
            if bundle.alive[t]:
                paste(_pixels(outcome, t, self.classes), tile, blocks[k], maps[k])
        return [job for t, job in enumerate(batch) if not bundle.alive[t]]

    def _densely(self, grid: Grid, batch: Sequence[Job], blocks: Sequence[Block], maps: list[BlockMaps]) -> None:
        """Tiles that are too loose even when small: dense float64."""
        if self._dense is None:
            self._dense = DenseEngine(self.tail, torch.float64)
        for (k, tile), done in zip(batch, self._dense.blocks(grid, [b for _, b in batch]), strict=True):
            paste(done, tile, blocks[k], maps[k])

    def _run(self, grid: Grid, tiles: Sequence[Block]) -> tuple[Outcome, Bundle]:
        programs, bundle = self._compressed(grid, tiles)
        side = tiles[0].height
        return program.run(programs.to(self.device), side, side, len(self.tail.layout.fields)), bundle

    def _compressed(self, grid: Grid, tiles: Sequence[Block]) -> tuple[Programs, Bundle]:
        side = tiles[0].height
        corner = torch.tensor([[t.row, t.column] for t in tiles], dtype=torch.float64)
        centres = grid.points(corner[:, 0] + side / 2, corner[:, 1] + side / 2)
        du, dv = grid.step * grid.plane.e1, grid.step * grid.plane.e2
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

    def calibrate(self, grid: Grid, *, seed: int = 0, tiles: int = 8) -> Choice | None:
        """Try tile sizes on a random sample of the grid and keep the one the cost model calls cheapest.

        grid     the map to come
        seed     of the sample
        tiles    sampled at each size
        returns  the choice, which is also kept; None when tiles of every size are too loose to pay
        """
        best: Choice | None = None
        places = np.random.default_rng(seed).random((tiles, 2))
        for side in TRIED:
            if best is not None and side > grid.resolution:
                break
            room = max(0, grid.resolution - side)
            sample = [Block(int(a * room), int(b * room), side, side) for a, b in places]
            found = self._measure(grid, sample, best)
            if found is None or (best is not None and found.cost > best.cost):
                break  # larger tiles are looser still
            best = found
        self.choice = best or self.choice
        return best

    def _measure(self, grid: Grid, sample: Sequence[Block], smaller: Choice | None) -> Choice | None:
        """Cost of one tile size; None when most tiles are too loose at this size."""
        side = sample[0].height
        limit = min(side * side, MOST_SYMBOLS)  # with more symbols than pixels, dense would be cheaper
        self.choice = Choice(side, limit, 2 * smaller.symbols if smaller else limit, 0.0)
        symbols, cost = [], 0.0
        for batch in _batches([(0, b) for b in sample], self.batch(side)):
            programs, bundle = self._compressed(grid, [b for _, b in batch])
            symbols.append(bundle.count[bundle.alive])
            cost += seconds(programs, bundle, side)
        counts = np.concatenate(symbols)
        if len(counts) < len(sample) / 2:
            return None
        mean = float(counts.mean())
        return Choice(side, min(limit, int(4 * mean) + 64), mean, cost / (len(sample) * side * side))


def seconds(programs: Programs, bundle: Bundle, side: int) -> float:
    """What compressing and running these tiles costs on one reference core: the same number everywhere.

    Nanoseconds fitted on a Zen 4 core: a coefficient on its way through a layer, a term at a pixel, an
    instruction at a pixel, and a tile's share of the batch.
    """
    pixels = (side + 1) ** 2
    run = pixels * (0.08 * len(programs.term) + 1.0 * len(programs.kind))
    return 1e-9 * (20 * bundle.coefficients + run + 200_000 * bundle.tiles)


@contextmanager
def alone() -> Iterator[int]:
    """A context in which torch gives every thread one core; gives the number of threads it used before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _pixels(outcome: Outcome, tile: int, classes: bool) -> BlockMaps:
    """One tile's part of an outcome."""
    names = ("right", "down", "classes", "margin", "digest")
    right, down, winner, margin, digest = (getattr(outcome, name)[tile].cpu().numpy() for name in names)
    return BlockMaps(right, down, winner if classes else None, margin, digest, int(outcome.uncertain[tile]))


def _cut(block: Block, side: int) -> Iterator[Block]:
    """Square tiles that cover a block; the last ones may hang over its edge."""
    for row in range(block.row, block.row + block.height, side):
        for column in range(block.column, block.column + block.width, side):
            yield Block(row, column, side, side)


def _batches(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    for at in range(0, len(jobs), size):
        yield jobs[at : at + size]
