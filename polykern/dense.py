"""Dense evaluation: every point of a grid through the network, in plain float32 or float64.

The baseline that other engines are measured against and audited with. TF32 is off whatever the caller's
settings (`polykern.arithmetic.ieee`).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from polykern.arithmetic import ieee
from polykern.block import Block, BlockMaps, blank, paste
from polykern.codes import packed
from polykern.counting import Counts, Footprint, gaps, has_classes, pixels, placed, points_within
from polykern.errors import UsageError
from polykern.halves import halved
from polykern.plane import Grid
from polykern.tail import Meeting, Tail
from polykern_kernels import pack

MEMORY = 2 << 30
LESS = "start at a later layer, or more memory"

Job = tuple[int, Block]  # number of the block it belongs to, piece


class DenseEngine:
    """Maps by plain evaluation of all points.

    tail           the network; it is copied to `dtype` and `device` where it is not there already
    dtype          float32 or float64
    device         where it runs
    memory_budget  bytes that the activations of a batch may take
    classes        also compute the argmax of the output; None: when it is a vector
    """

    margin = "computed"

    def __init__(
        self,
        tail: Tail,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | str = "cpu",
        memory_budget: int = MEMORY,
        classes: bool | None = None,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise UsageError(f"dense evaluation is float32 or float64, not {dtype}")
        self.dtype = self.name = str(dtype).removeprefix("torch.")
        self.tail = placed(tail, dtype, device)
        self._type, self._device, self._budget = dtype, torch.device(device), memory_budget
        self.classes = has_classes(tail) if classes is None else classes
        self._each: int | None = None

    def blocks(self, grid: Grid, blocks: Sequence[Block]) -> list[BlockMaps]:
        """The maps of `blocks`, in order; pieces of one shape run together, as many as the budget allows."""
        fields = len(self.tail.layout.fields)
        maps = [blank(b, fields, self.classes) for b in blocks]
        if self._each is None:
            seen = Footprint()
            self._run(grid, [Block(0, 0, 1, 1)], seen)
            self._each = seen.bytes(4)
        fit = points_within(self._budget, self._each, 4, "a pixel with its neighbours", self._device)
        side = int(fit**0.5) - 1
        alike: dict[tuple[int, int], list[Job]] = defaultdict(list)
        for k, block in enumerate(blocks):
            for piece in _cut(block, side):
                alike[piece.height, piece.width].append((k, piece))
        for (height, width), jobs in alike.items():
            size = max(1, fit // ((height + 1) * (width + 1)))
            for first in range(0, len(jobs), size):
                for batch, found in self._done(grid, jobs[first : first + size]):
                    for (k, piece), done in zip(batch, found, strict=True):
                        paste(done, piece, blocks[k], maps[k])
        return maps

    def _done(self, grid: Grid, jobs: list[Job]) -> list[tuple[list[Job], list[BlockMaps]]]:
        """Pieces of one shape with their maps, in halves when memory does not hold them; a single one is cut."""
        return halved(
            lambda some: (some, self._run(grid, [piece for _, piece in some])), jobs, what="a pixel", fix=LESS,
            halves=_halves,
        )  # fmt: skip

    def _run(self, grid: Grid, pieces: Sequence[Block], seen: Footprint | None = None) -> list[BlockMaps]:
        """The maps of pieces of one shape, in one batch."""
        height, width = pieces[0].height + 1, pieces[0].width + 1
        rows, columns = pixels(pieces, height, width)
        points = grid.points(rows, columns).to(self._device, self._type)
        if points.ndim == 4 and self._type == torch.float32:
            points = points.contiguous(memory_format=torch.channels_last)  # oneDNN's and cuDNN's own order
        counts = Counts(self.tail.layout, len(pieces), height, width, self._device)

        def reach(meeting: Meeting) -> Tensor:
            if meeting.field is not None:
                counts.tally(meeting.field, meeting.z)
            out: Tensor = meeting.proceed()
            if seen is not None:
                seen.see(meeting.z, out)
            return out

        with ieee():
            out = self.tail.run(points, reach, output=self.classes)
        return counts.maps(out.expand(len(points), -1).argmax(1) if self.classes else None)


def codes(tail: Tail, points: Tensor, *, memory_budget: int = MEMORY) -> Tensor:
    """The full packed codes of arbitrary points, evaluated in float64.

    tail           the network; it is copied to float64 unless it is float64 already
    points         float (n, *input_shape)
    memory_budget  bytes that the activations of a batch may take
    returns        int32 (n, layout.words) on the tail's device
    raises         CorruptError naming the field when a pre-activation is NaN
    """
    return read(tail, points, memory_budget=memory_budget)[0]


def margins(tail: Tail, points: Tensor, *, memory_budget: int = MEMORY) -> Tensor:
    """float64 (n,): the smallest |pre-activation - threshold| of every point; arguments as for `codes`."""
    return read(tail, points, memory_budget=memory_budget)[1]


def read(tail: Tail, points: Tensor, *, memory_budget: int = MEMORY) -> tuple[Tensor, Tensor]:
    """Codes and margins together, for the price of one; arguments as for `codes`."""
    tail = placed(tail, torch.float64, tail.device)
    points = points.to(tail.device, torch.float64)
    seen = Footprint()
    few = _read(tail, points[:2], seen)
    if len(points) <= 2:
        return few
    fit = points_within(memory_budget, seen.bytes(2), 1, "a point", points.device)
    parts = [
        done
        for part in points[2:].split(fit)
        for done in halved(lambda some: _read(tail, some), part, what="a point", fix=LESS)
    ]
    return torch.cat([few[0], *(c for c, _ in parts)]), torch.cat([few[1], *(m for _, m in parts)])


def _read(tail: Tail, points: Tensor, seen: Footprint | None = None) -> tuple[Tensor, Tensor]:
    words: list[Tensor] = []
    margin = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)

    def reach(meeting: Meeting) -> Tensor:
        if meeting.field is not None:
            words.append(packed(meeting.field, meeting.z))
            torch.minimum(margin, gaps(meeting.field, meeting.z), out=margin)
        out: Tensor = meeting.proceed()
        if seen is not None:
            seen.see(meeting.z, out)
        return out

    with ieee():
        tail.run(points.clone(), reach, output=False)  # the first module may overwrite its input
    every = [w.expand(len(points), -1).contiguous() for w in words]
    return pack.join(every, [f.bits for f in tail.layout.fields]), margin


def _halves(jobs: list[Job]) -> list[list[Job]]:
    """Half of the pieces each, or both halves of a single one; nothing of a single pixel."""
    if len(jobs) > 1:
        return [jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]]
    (k, b), *_ = jobs
    height, width = -(-b.height // 2), -(-b.width // 2)
    if b.height > 1:
        return [[(k, Block(b.row, b.column, height, b.width))],
                [(k, Block(b.row + height, b.column, b.height - height, b.width))]]  # fmt: skip
    if b.width > 1:
        return [[(k, Block(b.row, b.column, 1, width))], [(k, Block(b.row, b.column + width, 1, b.width - width))]]
    return []


def _cut(block: Block, side: int) -> Iterator[Block]:
    """Pieces of at most side x side pixels."""
    for row in range(0, block.height, side):
        for column in range(0, block.width, side):
            height, width = min(side, block.height - row), min(side, block.width - column)
            yield Block(block.row + row, block.column + column, height, width)
