"""Tiles as numbers: the engine of every level, and what it gives.

Which engine is cheapest depends on the level: zooming in leaves fewer kinks in a tile. With "auto" what the cost
model says of tile programs at a level is held against the measured time of anchored evaluation, which no zoom
changes. Where tile programs run the counts are exact and certified, whatever the size of their tiles.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.arithmetic import ieee
from polykern.block import Block, BlockMaps, Engine, blank, paste
from polykern.errors import UsageError
from polykern.explore.pyramid import TILE, Pyramid, Tile
from polykern.maps.choose import ENGINES, make
from polykern.maps.compute import Recipe
from polykern.plane import Grid
from polykern.tiles import Choice, TileEngine

SAMPLED = 2  # tiles of each size that a level's tile size is chosen on
PART = 64  # pixels a side that other engines evaluate between two looks at whether anybody still waits
PROBE = 32  # pixels a side that an engine is tried and timed on
TOGETHER = 16  # tiles in one call at most
OVERVIEW = Tile(0, 0, 0)

Wanted = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Level:
    """How a level is evaluated: the engine, the tile size of tile programs, and why."""

    engine: Engine
    choice: Choice | None
    reason: str


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers of a tile.

    counts     int64 (256, 256)   bits that differ from the right and from the lower neighbour, together
    classes    int32 (256, 256)   argmax of the output, or None
    uncertain  bits within the engine's own error bound
    seconds    that the tile took
    engine     its name and its arithmetic
    """

    counts: NDArray[np.int64]
    classes: NDArray[np.int32] | None
    uncertain: int
    seconds: float
    engine: str


class Evaluation:
    """The tiles of a pyramid, evaluated as a recipe says.

    pyramid  where tiles lie
    recipe   network, engine, arithmetic, device, seed, memory, classes; its grid is not used
    errors   UsageError where the engine that was named cannot follow the network
    """

    def __init__(self, pyramid: Pyramid, recipe: Recipe) -> None:
        if recipe.engine not in ENGINES:
            raise UsageError(f"no engine {recipe.engine!r}", fix=f"choose one of {', '.join(ENGINES)}")
        self.pyramid, self.recipe = pyramid, recipe
        self._tiles: TileEngine | None = None
        self._other: Engine | None = None
        self._seconds = 0.0  # of the other engine, a pixel
        self._why = "asked for by name"
        self._levels: dict[int, Level] = {}
        with ieee():
            self._engines(recipe.engine)
            self.level(OVERVIEW)  # refuses what tile programs cannot follow

    @property
    def batch(self) -> int:
        """Tiles that are worth evaluating together: one a core, or what fills a device."""
        return TOGETHER if self.recipe.device != "cpu" else max(1, min(TOGETHER, torch.get_num_threads()))

    def values(self, tiles: Sequence[Tile], wanted: Wanted) -> list[Values] | None:
        """The numbers of tiles of one level; None when nobody wanted them any more half way.

        Exact where the level's engine is. Raises CorruptError where the network gives NaN.
        """
        start = time.perf_counter()
        with ieee():
            level = self.level(tiles[0])
            grid, blocks = self.pyramid.grid(tiles[0].level), [self.pyramid.block(t) for t in tiles]
            if isinstance(level.engine, TileEngine):
                level.engine.choice = level.choice or level.engine.choice
                found = level.engine.blocks(grid, blocks)
            else:
                found = [m for block in blocks if (m := self._in_parts(level.engine, grid, block, wanted))]
        if len(found) < len(blocks):
            return None
        each = (time.perf_counter() - start) / len(tiles)
        engine = f"{level.engine.name}, {level.engine.dtype}"
        return [
            Values((m.right + m.down).sum(0, dtype=np.int64), m.classes, m.uncertain, each, engine) for m in found
        ]

    def level(self, tile: Tile) -> Level:
        """How the level of `tile` is evaluated; measured on `tile` when the level is first met."""
        if tile.level not in self._levels:
            self._levels[tile.level] = self._measured(tile)
        return self._levels[tile.level]

    def _measured(self, tile: Tile) -> Level:
        if self._tiles is None:
            assert self._other
            return Level(self._other, None, self._why)
        above = [known for z, known in self._levels.items() if z < tile.level and known.engine is self._tiles]
        full = next((known for known in above if known.choice and known.choice.side == TILE), None)
        if full:  # tiles are as large as they can be, and deeper levels are looser nowhere
            return full
        choice = self._tiles.calibrate(self.pyramid.alone(tile), seed=self.recipe.seed, tiles=SAMPLED)
        if self._other is None:
            return Level(self._tiles, choice or self._tiles.choice, self._why)
        if choice is None:
            return Level(self._other, None, "too many kinks even in a small tile for tile programs to pay")
        ours, theirs = choice.cost / torch.get_num_threads(), self._seconds
        said = f"tiles of {choice.side} pixels with {choice.symbols:.0f} symbols take {ours * 1e6:.3g} us a pixel"
        if ours <= theirs or above:
            return Level(self._tiles, choice, f"{said}, {theirs * 1e6:.3g} us anchored")
        return Level(self._other, None, f"{said}, only {theirs * 1e6:.3g} us anchored")

    def _engines(self, wanted: str) -> None:
        """The engine that was named; for "auto" scanlines, or tile programs and anchored evaluation."""
        if wanted == "tiles":
            self._tiles = self._made("tiles")
            return
        if wanted != "auto":
            self._other = self._tried(self._made(wanted))
            return
        try:
            self._other, self._why = self._made("scanline"), "every selected unit is affine on the plane"
            return
        except UsageError as no:
            self._why = f"scanline: {no.what}"
        self._other = self._tried(self._made("anchored"))
        self._tiles = self._made("tiles")
        try:
            self.level(OVERVIEW)
        except UsageError as no:
            self._tiles = None
            self._why += f"; tiles: {no.what}"

    def _made(self, name: str) -> Any:
        r = self.recipe
        given = {"arithmetic": r.arithmetic, "device": r.device, "memory": r.memory, "classes": r.classes}
        return make(r.tail, {"name": name, **given})

    def _tried(self, engine: Engine) -> Engine:
        """The engine, after it has evaluated a few pixels twice; the second time counts."""
        grid, block = self.pyramid.alone(OVERVIEW), Block(TILE // 2, TILE // 2, PROBE, PROBE)
        for _ in range(2):  # the first compiles, and warms caches
            start = time.perf_counter()
            engine.blocks(grid, [block])
            self._seconds = (time.perf_counter() - start) / PROBE**2
        return engine

    def _in_parts(self, engine: Engine, grid: Grid, block: Block, wanted: Wanted) -> BlockMaps | None:
        """The maps of a block, square by square for as long as somebody wants them."""
        side = TILE if engine.name == "scanline" else PART  # scanlines pay for columns
        maps = blank(block, len(self.recipe.tail.layout.fields), self.recipe.classes)
        for row in range(block.row, block.row + block.height, side):
            for column in range(block.column, block.column + block.width, side):
                if not wanted():
                    return None
                part = Block(row, column, side, side)
                paste(engine.blocks(grid, [part])[0], part, block, maps)
        return maps
