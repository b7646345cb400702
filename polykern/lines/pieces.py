"""Lines in pieces: tiles of one dimension, and the breakpoints of their programs.

A line is cut into pieces, and a piece whose program has too many symbols into two, so that pieces are short where
boundaries are dense. The pieces of all lines are compressed in batches, a core each, and walked from one end to the
other (`polykern_kernels.breakpoints`). Where too many boundaries meet within 2**-40 of a line a gap stays.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from polykern.arithmetic import gamma
from polykern.carrier import NotCarried
from polykern.errors import UsageError
from polykern.halves import halved
from polykern.lines.sampled import LESS, on_line
from polykern.progress import Progress
from polykern.tail import Tail
from polykern.tiles import compress
from polykern.tiles.engine import hands
from polykern_kernels import breakpoints, digest
from polykern_kernels.breakpoints import Breakpoints
from polykern_kernels.program import CLASS, FOLD, RIVAL, Programs

LIMIT = 192  # symbols of a piece
SHORTEST = 2.0**-40  # of a line: a piece is at least this long
MOST = 1 << 17  # pieces of a line
COEFFICIENTS = {"cpu": 1 << 22, "cuda": 1 << 28}  # of one batch at its widest layer: 32 MiB a core, or 2 GiB
TIE = 4.0  # dense float64 rounds about as much as a program's tolerance allows for


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of lines and what lies on them; tensors on the host, in no order.

    line, t, bit, up               int64, float64, int64, bool (m)     changes of bits
    switch_line, switch            int64, float64 (j)                  changes of winners in windows of max-pools
    change_line, change, to        int64, float64, int32 (k)           changes of the class, and the class behind
    owner, low, high               int64, float64, float64 (p)         the pieces: their line, from t to t
    ends                           int64 (p, 2, 2)                     fingerprints of the codes at both ends
    winners                        int32 (p, 2)                        classes at both ends
    piece, loose, on, tied         int64, int64, bool (n, 2), bool (n, 2)  bits that change in a piece or might: are
                                   they on at its ends, and do they lie within rounding of 0 there
    """

    line: Tensor
    t: Tensor
    bit: Tensor
    up: Tensor
    switch_line: Tensor
    switch: Tensor
    change_line: Tensor
    change: Tensor
    to: Tensor
    owner: Tensor
    low: Tensor
    high: Tensor
    ends: Tensor
    winners: Tensor
    piece: Tensor
    loose: Tensor
    on: Tensor
    tied: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Pieces"]) -> "Pieces":
        """The pieces of several batches."""
        counts = torch.tensor([0, *(len(p.owner) for p in parts)]).cumsum(0).tolist()
        columns = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        columns["piece"] = torch.cat([p.piece + n for p, n in zip(parts, counts, strict=False)])
        return cls(**columns)


class Cut:
    """Lines to be cut into pieces.

    tail      the network, in float64, on the device that compresses
    a, b      float64 (lines, *input_shape)   the ends of each
    classes   also find where the argmax of the output changes
    segments  pieces to begin with
    """

    def __init__(self, tail: Tail, a: Tensor, b: Tensor, *, classes: bool, segments: int) -> None:
        self.tail, self.a, self.b, self.classes, self.segments = tail, a, b, classes, segments
        self.size = max(1, COEFFICIENTS[a.device.type] // (LIMIT * max(f.units for f in tail.layout.fields)))
        keys = digest.keys(tail.layout.bits)[:, 0]  # of a bit; no two have the same
        self.key, self.bit = torch.sort(keys)
        self.free: list[Tail] = []  # twins that no thread is running

    def pieces(self, progress: Progress | None = None) -> Pieces:
        """All pieces; UsageError naming the first operator that is not piecewise linear."""
        lines, parts, covered = len(self.a), [], 0.0
        for width, todo in self._levels():
            for part in self._cut(width, todo):
                parts.append(part)
                covered += width * len(part.owner)
                if progress:
                    progress("lines", round(1e4 * covered / lines), 10_000)
        return Pieces.joined(parts)

    def _levels(self) -> Iterator[tuple[float, Tensor]]:
        """Pieces of one length after the other: it, and int64 (n, 2) their lines and numbers on these."""
        numbers = torch.arange(len(self.a)), torch.arange(self.segments)
        width, todo = 1 / self.segments, torch.cartesian_prod(*numbers).reshape(-1, 2)
        while len(todo) and width >= SHORTEST:
            if len(todo) > MOST * len(self.a):
                raise UsageError(
                    f"more than {MOST} pieces of a line have more than {LIMIT} kinks each",
                    why="many pre-activations are zero all along it up to rounding",
                    fix="move the segment, or select fewer nonlinearities",
                )
            self.failed: list[Tensor] = []
            yield width, todo
            failed = torch.cat(self.failed)
            first = failed * torch.tensor([1, 2])
            width, todo = width / 2, torch.cat([first, first + torch.tensor([0, 1])])

    def _cut(self, width: float, todo: Tensor) -> Iterator[Pieces]:
        """The pieces that have few symbols enough, batch after batch; the others are put away."""
        with self._hands() as side_by_side:
            for done in side_by_side(lambda p: self._halved(width, p), todo.split(self.size)):
                for failed, part in done:
                    self.failed.append(failed)
                    yield part

    def _halved(self, width: float, todo: Tensor) -> list[tuple[Tensor, Pieces]]:
        """A batch, in halves when memory does not hold it."""
        return halved(lambda some: self._batch(width, some), todo, what="a piece of a line", fix=LESS)

    @contextmanager
    def _hands(self) -> Iterator[Callable[..., Iterator[list[tuple[Tensor, Pieces]]]]]:
        """How batches are worked on: by threads of a core each, or one after the other on a GPU."""
        if self.a.device.type == "cuda":
            with torch.cuda.device(self.a.device):
                yield map
            return
        with hands() as side_by_side:
            yield side_by_side

    def _batch(self, width: float, todo: Tensor) -> tuple[Tensor, Pieces]:
        """The pieces that have too many symbols, and what is found on the others."""
        line, number = todo.unbind(1)
        there = line.to(self.a.device)
        a, b = self.a[there], self.b[there]
        middle = ((number.double() + 0.5) * width).to(a.device)
        step = width * (b - a)
        tail = self.free.pop() if self.free else self.tail.twin()
        try:
            bundle = compress(
                tail, on_line(a, b, middle), step, torch.zeros_like(step), (0.5, 0.0), limit=LIMIT,
                classes=self.classes, astray=gamma(2) * (a.abs() + b.abs()),
            )  # fmt: skip
        except NotCarried as reason:
            raise UsageError(
                f"the crossings of this network cannot be listed: {reason}",
                why="they are where straight pieces meet, and it has others",
                fix="sampled_crossings looks between samples, in any network",
            ) from reason
        finally:
            self.free.append(tail)
        alive = bundle.alive.cpu()
        programs = bundle.programs().to("cpu")
        return todo[~alive], self._found(width, todo, programs, breakpoints.along(programs, 1.0), alive)

    def _found(self, width: float, todo: Tensor, p: Programs, found: Breakpoints, alive: Tensor) -> Pieces:
        line, number = todo[:, 0], todo[:, 1].double()
        tile = torch.repeat_interleave(torch.arange(len(todo)), found.first.diff())  # of each breakpoint
        t = (number[tile] + 0.5 + found.at) * width
        kind, coded = p.kind[found.instruction], p.field[found.instruction] >= 0
        bits, windows, changes = (kind <= FOLD) & coded, kind == RIVAL, kind == CLASS
        own = torch.repeat_interleave(torch.arange(len(todo)), p.first.diff())  # tile of each instruction
        loose = ((p.kind <= FOLD) & (p.field >= 0)).nonzero()[:, 0]
        ends = p.digest[:, None].expand(-1, 2, -1).clone()
        for end in range(2):
            ends[:, end].index_add_(0, own[loose], found.on[loose, end, None] * p.key[loose])
        place = torch.cumsum(alive, 0) - 1  # of a tile among the pieces
        return Pieces(
            line=line[tile][bits],
            t=t[bits],
            bit=self._bits(p.key[found.instruction[bits]]),
            up=found.up[bits],
            switch_line=line[tile][windows],
            switch=t[windows],
            change_line=line[tile][changes],
            change=t[changes],
            to=found.winner[changes],
            owner=line[alive],
            low=(number * width)[alive],
            high=((number + 1) * width)[alive],
            ends=ends[alive],
            winners=found.classes[alive],
            piece=place[own[loose]],
            loose=self._bits(p.key[loose]),
            on=found.on[loose],
            tied=found.z[loose].abs() <= TIE * p.tolerance[loose, None],
        )

    def _bits(self, key: Tensor) -> Tensor:
        """int64 (n): the bits that fingerprint keys (n, 2) belong to."""
        return self.bit[torch.searchsorted(self.key, key[:, 0].contiguous())]
