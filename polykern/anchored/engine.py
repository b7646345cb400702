"""Maps by anchored evaluation: dense and smooth networks at low-precision speed with float32 accuracy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from polykern.activations import Activation
from polykern.anchored.narrow import Narrow
from polykern.anchored.points import Anchored
from polykern.arithmetic import Arithmetic, ieee
from polykern.block import Block, BlockMaps, blank, paste
from polykern.carrier import NotCarried
from polykern.counting import Counts, Footprint, has_classes, memory_for, placed, points_within
from polykern.errors import CorruptError, UsageError, out_of_memory
from polykern.halves import halved
from polykern.plane import Grid, Plane
from polykern.tail import Meeting, Tail

MEMORY = 2 << 30
TILE = 16
LESS = "start at a later layer, or more memory"
WIDER = 8  # parts of a batch that is done again: differences in float32 and their copies take more room

Job = tuple[int, Block]  # number of the block it belongs to, tile


class AnchoredEngine:
    """Maps in tiles about their centres (`polykern.anchored.Anchored`).

    A tile of `tile` x `tile` pixels is evaluated as (tile + 1) x (tile + 1) points about one anchor, so that
    neighbours are always compared within one tile; tiles that hang over a block's edge are computed whole.
    A pre-activation that is exactly 0 at points where it is not 0 at the anchor (a ReLU straight behind a ReLU) is
    known to the rounding of a difference only, so its bit may be either.

    tail           the network; it is copied to float64 and `device`: anchors are float64, and so are the weights
                   that the differences' weights are cast from
    arithmetic     of linear operators on differences, see `polykern.arithmetic.Arithmetic`; None: "float16" on
                   CUDA, "float32" elsewhere
    tile           pixels of a tile's side
    device         where it runs
    memory_budget  bytes of the host that the activations of a batch may take; on CUDA half of the device's free
                   memory is taken instead. How many a point takes is measured on four points at the first call
                   (`polykern.counting.Footprint`)
    classes        also compute the argmax of the output; None: when it is a vector
    narrow         keep differences in float16 between operators (`polykern.anchored.narrow`); None: in "float16"
                   on CUDA. Elsewhere it gives the same roundings, slowly
    """

    name = "anchored"
    margin = "computed"

    def __init__(
        self,
        tail: Tail,
        *,
        arithmetic: str | None = None,
        tile: int = TILE,
        device: torch.device | str = "cpu",
        memory_budget: int = MEMORY,
        classes: bool | None = None,
        narrow: bool | None = None,
    ) -> None:
        if tile < 1:
            raise UsageError(f"a tile has at least one pixel a side, got {tile}")
        self._device, self._budget, self.tile = torch.device(device), memory_budget, tile
        self.tail = placed(tail, torch.float64, device)
        chosen = arithmetic or ("float16" if self._device.type == "cuda" else "float32")
        narrow = chosen == "float16" and self._device.type == "cuda" if narrow is None else narrow
        self.arithmetic = Arithmetic(chosen, self.tail.model, narrow=narrow)
        self.dtype = f"{chosen} differences about float64 anchors"
        self.classes = has_classes(tail) if classes is None else classes
        self._each: int | None = None
        self._plane: tuple[Plane, Plane] | None = None  # of the grid, and the same on the device
        self._measured: Grid | None = None  # the grid that the units of narrow differences belong to

    def blocks(self, grid: Grid, blocks: Sequence[Block]) -> list[BlockMaps]:
        """The maps of `blocks`, in order; tiles of all blocks run together, as many as the budget allows."""
        maps = [blank(b, len(self.tail.layout.fields), self.classes) for b in blocks]
        jobs = [(k, tile) for k, block in enumerate(blocks) for tile in _cut(block, self.tile)]
        size = self.batch(grid)
        self._measure(grid)
        begun: list[tuple[list[Job], Callable[[], list[BlockMaps]]]] = []
        for first in range(0, len(jobs), size):
            batch = jobs[first : first + size]
            begun.append((batch, self._begin(grid, [t for _, t in batch], self.tile)))
            if len(begun) == 2:  # a device computes one batch while the one before it is put away
                _put_away(*begun.pop(0), blocks, maps)
        for batch, collect in begun:
            _put_away(batch, collect, blocks, maps)
        return maps

    def batch(self, grid: Grid) -> int:
        """Tiles that run together."""
        if self._each is None:
            seen = Footprint()
            self._begin(grid, [Block(0, 0, 1, 1)], 1, seen)()
            self._each = seen.bytes(4)
            self._budget = memory_for(self._budget, self._each, seen.units(4), self._device)
        points = (self.tile + 1) ** 2
        what = f"a tile of {self.tile} pixels"
        return points_within(self._budget, self._each, points, what, self._device) // points

    def _begin(
        self, grid: Grid, tiles: Sequence[Block], side: int, seen: Footprint | None = None
    ) -> Callable[[], list[BlockMaps]]:
        """Begin the maps of tiles and give what collects them.

        Narrow differences that overflow are done again, and what memory does not hold is done in halves, both when
        they are collected: the batch before has gone by then.
        """
        begun: list[Callable[[], list[BlockMaps]]] = []
        if self._device.type == "cuda":  # elsewhere everything is done when it is asked for
            try:
                begun.append(self._pass(self.arithmetic, grid, tiles, side, seen))
            except Exception as error:
                if not out_of_memory(error):
                    raise

        def done(some: Sequence[Block]) -> list[BlockMaps]:
            try:
                return begun.pop()() if begun else self._pass(self.arithmetic, grid, some, side, seen)()
            except CorruptError:
                if self.arithmetic.units is None:
                    raise
            steady = Arithmetic(self.arithmetic.name, self.tail.model)
            few = -(-len(some) // WIDER)
            parts = [some[k : k + few] for k in range(0, len(some), few)]
            return [found for part in parts for found in self._pass(steady, grid, part, side, seen)()]

        what = f"a tile of {side} pixels"
        return lambda: [found for part in halved(done, tiles, what=what, fix=LESS) for found in part]

    def _pass(
        self, arithmetic: Arithmetic, grid: Grid, tiles: Sequence[Block], side: int, seen: Footprint | None
    ) -> Callable[[], list[BlockMaps]]:
        points = self._points(arithmetic, grid, tiles, side)
        counts = Counts(self.tail.layout, len(tiles), side + 1, side + 1, self._device)
        if arithmetic.units is not None:
            arithmetic.units.begin()

        def reach(meeting: Meeting) -> Anchored | Tensor:
            out = met(meeting, counts)
            if seen is not None:
                seen.see(*(x.held if isinstance(x, Anchored) else x for x in (meeting.z, out)))
            return out

        def called(func: Any, module: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            if seen is not None:
                seen.span(max((x.numel() for x in args if isinstance(x, Anchored)), default=0))

        try:
            with ieee():
                out = self.tail.run(points, reach, output=self.classes, called=called)
        except NotCarried as reason:
            raise UsageError(
                f"anchored evaluation cannot follow this network: {reason}", fix="--engine float32 follows any"
            ) from reason
        if not self.classes:
            return counts.sent(None)
        scores = out.full() if isinstance(out, Anchored) else out.expand(len(points), -1)
        if arithmetic.units is not None:
            counts.require_finite(scores)
        return counts.sent(scores.argmax(1))

    def _measure(self, grid: Grid) -> None:
        """Let one tile in the middle of the grid find the units of narrow differences."""
        units = self.arithmetic.units
        if units is not None and self._measured is not grid:
            units.forget()
            middle = Block(grid.resolution // 2, grid.resolution // 2, self.tile, self.tile)
            self._begin(grid, [middle], self.tile)()
            self._measured = grid

    def _points(self, arithmetic: Arithmetic, grid: Grid, tiles: Sequence[Block], side: int) -> Anchored:
        corner = torch.tensor([[t.row, t.column] for t in tiles], dtype=torch.float64)
        uv = grid.uv(corner[:, 0] + side / 2, corner[:, 1] + side / 2)
        reach = (torch.arange(side + 1, dtype=torch.float64) - side / 2) * grid.step
        at = torch.stack([reach.repeat(side + 1), reach.repeat_interleave(side + 1)], 1)
        if self._plane is None or self._plane[0] is not grid.plane:
            self._plane = grid.plane, grid.plane.to(self._device)
        plane = self._plane[1]
        axes = torch.stack([plane.e1, plane.e2])
        return Anchored.along(plane.points(self._sent(uv)), axes, self._sent(at), arithmetic)

    def _sent(self, x: Tensor) -> Tensor:
        """A small tensor on its way to the device, which may be busy with the batch before."""
        return x.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else x


def met(meeting: Meeting, counts: Counts) -> Anchored | Tensor:
    """What flows on behind a nonlinearity, its bits counted.

    Piecewise-linear ones with numbers as slopes take one fused pass; the others are counted at their points and
    go through their own function.
    """
    field, activation, z = meeting.field, meeting.activation, meeting.z
    slopes = activation.numbers
    if isinstance(z, Anchored) and slopes is not None:
        if z.arithmetic.units is not None:
            return z.beside_narrow(_at(activation, slopes, z.anchor), _narrow(meeting, slopes, z, counts))
        delta = counts.step(field, activation.thresholds, slopes, z.anchor, z.delta)
        return z.beside(_at(activation, slopes, z.anchor), delta)
    if field is not None:
        counts.tally(field, z.full() if isinstance(z, Anchored) else z)
    out: Anchored | Tensor = meeting.proceed()
    return out


def _narrow(meeting: Meeting, slopes: Sequence[float], z: Anchored, counts: Counts) -> Narrow:
    """Differences in float16 behind a piecewise-linear activation, its bits counted."""
    units = z.arithmetic.units
    assert units is not None
    steepest = max(abs(s) for s in slopes)
    unit = units.next(lambda: z.narrow.largest() * steepest)
    bends = meeting.field, meeting.activation.thresholds, slopes
    if z.product is not None:
        x, (weight, scale) = z.product.x, z.arithmetic.narrow_weight(z.product.weight)
        rows = counts.linear_step(*bends, z.anchor, x.rows, weight, unit=x.unit * scale, unit_out=unit)
        return Narrow(rows, unit, place=units.place)
    x = z.narrow if z.narrow.rows.ndim in (3, 5) else z.narrow.plain()
    image = x.rows.ndim == 5
    out = units.room(x.rows.permute(0, 1, 3, 4, 2).shape, x.rows.device) if image else None
    rows = counts.narrow_step(*bends, z.anchor, x.rows, unit=x.unit, unit_out=unit, gain=x.gain, out=out)
    return Narrow(rows, unit, place=units.place)


def _at(activation: Activation, slopes: Sequence[float], z: Tensor) -> Tensor:
    """A piecewise-linear activation of z, piece by piece: nothing is added up that could cancel."""
    kinks, value = activation.thresholds, activation.value
    out = value + slopes[0] * (z - kinks[0])
    for k, (kink, slope) in enumerate(zip(kinks, slopes[1:], strict=True)):
        if k:
            value += slopes[k] * (kink - kinks[k - 1])
        out = torch.where(z > kink, value + slope * (z - kink), out)
    return out


def _put_away(
    batch: Sequence[Job], collect: Callable[[], list[BlockMaps]], blocks: Sequence[Block], maps: Sequence[BlockMaps]
) -> None:
    """Paste the maps of a batch of tiles into those of their blocks."""
    for (k, tile), done in zip(batch, collect(), strict=True):
        paste(done, tile, blocks[k], maps[k])


def _cut(block: Block, side: int) -> Iterator[Block]:
    """Square tiles that cover a block; the last ones may hang over its edge."""
    for row in range(block.row, block.row + block.height, side):
        for column in range(block.column, block.column + block.width, side):
            yield Block(row, column, side, side)
