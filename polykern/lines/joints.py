"""Pieces put together to lines: what happens exactly between two of them, and in the gaps that were left."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polykern.codes import Codes
from polykern.errors import PolykernError
from polykern.lines.pieces import Pieces
from polykern.lines.result import Crossings
from polykern.lines.sampled import evaluated, on_line
from polykern.tail import Tail
from polykern_kernels import digest, pack


@dataclass(frozen=True, slots=True)
class _Met:
    """Bits that change at joints, in no order: int64, float64, int64, bool, bool (n)."""

    line: Tensor
    t: Tensor
    bit: Tensor
    up: Tensor
    gap: Tensor  # in a gap, not at a point where two pieces touch


class Joints:
    """The joints of lines: from t `low`, where the piece `left` ends, to t `high`, where the piece `right` begins.

    Where pieces touch, low is high. A line begins with a joint without a left piece and ends with one without a
    right piece; its own ends stand for them.

    tail     the network, in float64
    a, b     float64 (lines, *input_shape)   the ends of the lines
    found    their pieces
    classes  whether the pieces know classes
    """

    def __init__(self, tail: Tail, a: Tensor, b: Tensor, found: Pieces, *, classes: bool) -> None:
        self.tail, self.a, self.b, self.found, self.classes = tail, a, b, found, classes
        self.keys = digest.keys(tail.layout.bits)
        words, winners = evaluated(tail, torch.stack([a, b], 1).flatten(0, 1), classes=classes)
        self.ends = words.cpu()  # a and b of each line in turn
        self.end_classes = torch.full((2 * len(a),), -1) if winners is None else winners.cpu()
        piece = torch.from_numpy(np.lexsort((found.low.numpy(), found.owner.numpy())))
        owner = found.owner[piece]
        count = torch.bincount(owner, minlength=len(a)) + 1
        self.first = count.cumsum(0) - count  # joint of each line
        self.line = torch.repeat_interleave(torch.arange(len(a)), count)
        before = torch.arange(len(piece)) + owner  # the joint in front of each piece
        joints = len(self.line)
        self.left, self.right = torch.full((joints,), -1), torch.full((joints,), -1)
        self.low, self.high = torch.zeros(joints, dtype=torch.float64), torch.ones(joints, dtype=torch.float64)
        self.right[before], self.left[before + 1] = piece, piece
        self.high[before], self.low[before + 1] = found.low[piece], found.high[piece]

    def results(self, length: Tensor) -> list[Crossings]:
        """One a line; float64 (lines) are their lengths."""
        found, met = self.found, self._met()
        line = torch.cat([found.line, met.line])
        order = torch.from_numpy(np.lexsort((torch.cat([found.t, met.t]).numpy(), line.numpy())))
        lines = len(length)
        cuts = torch.bincount(line, minlength=lines).cumsum(0)[:-1].numpy()
        both = (found.t, met.t), (found.bit, met.bit), (found.up, met.up)
        t, bit, up = (np.split(torch.cat(pair)[order].numpy(), cuts) for pair in both)
        switches = _by_line(found.switch_line, found.switch, lines)
        changes = self._changes(lines)
        merged, tied = (torch.bincount(met.line[w], minlength=lines).tolist() for w in (met.gap, ~met.gap))
        return [
            Crossings(
                length=float(length[k]), t=t[k], bit=bit[k], up=up[k],
                ends=Codes(self.ends[2 * k : 2 * k + 2], self.tail.layout),
                change=changes[k][0], classes=changes[k][1], switches=switches[k][0],
                merged=merged[k], tied=tied[k],
            )
            for k in range(lines)
        ]  # fmt: skip

    # --- bits -----------------------------------------------------------------------------------------

    def _met(self) -> _Met:
        """What changes at joints: where fingerprints differ, and in gaps."""
        gap = self.low < self.high
        prints = digest.fingerprints(self.ends, self.tail.layout.bits)
        sides = [
            torch.where(piece[:, None] >= 0, self.found.ends[piece, end], prints[2 * self.line + 1 - end])
            for piece, end in ((self.left, 1), (self.right, 0))
        ]
        wanted = (gap | (sides[0] != sides[1]).any(1)).nonzero()[:, 0]
        before = self._codes(wanted, self.left, self.low, end=1)
        behind = self._codes(wanted, self.right, self.high, end=0)
        once = ~gap[wanted] & (self.right[wanted] >= 0)  # one evaluation of one point: either side is rounded alike
        behind[once] = before[once]
        once = ~gap[wanted] & (self.right[wanted] < 0)
        before[once] = behind[once]
        for k, j in enumerate(wanted.tolist()):
            self._agree(before[k], int(self.left[j]), 1)
            self._agree(behind[k], int(self.right[j]), 0)
        row, bit = (before != behind).nonzero().unbind(1)
        joint = wanted[row]
        middle = (self.low + self.high)[joint] / 2
        return _Met(self.line[joint], middle, bit, behind[row, bit], gap[joint])

    def _codes(self, wanted: Tensor, piece: Tensor, t: Tensor, *, end: int) -> Tensor:
        """bool (n, bits): the codes of one side of the wanted joints, by dense float64."""
        line = self.line[wanted]
        words = self.ends[2 * line + 1 - end].clone()
        inner = (piece[wanted] >= 0).nonzero()[:, 0]
        there = line[inner].to(self.a.device)
        points = on_line(self.a[there], self.b[there], t[wanted][inner].to(self.a.device))
        words[inner] = evaluated(self.tail, points, classes=False)[0].cpu()
        return pack.unpack(words, self.tail.layout.bits)

    def _agree(self, bits: Tensor, piece: int, end: int) -> None:
        """Give the bits that are 0 up to rounding at the end of a piece the values that the piece goes on with."""
        if piece < 0:
            return
        found = self.found
        mine = slice(*torch.searchsorted(found.piece, torch.tensor([piece, piece + 1])).tolist())
        loose, on, tied = found.loose[mine], found.on[mine, end], found.tied[mine, end]
        bits[loose[tied]] = on[tied]
        if not torch.equal(self.keys[bits].sum(0), found.ends[piece, end]):
            at = float(found.high[piece] if end else found.low[piece])
            raise PolykernError(
                f"the codes at t = {at:.17g} differ by more than rounding",
                why="pre-activations there are smaller than what float64 resolves",
                fix="move the segment a little",
            )

    # --- classes --------------------------------------------------------------------------------------

    def _changes(self, lines: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each line: where its class changes, and its classes in turn."""
        if not self.classes:
            return [(np.zeros(0), np.zeros(0, np.int32))] * lines
        found, gap = self.found, self.low < self.high
        sides = []
        for piece, other, end in ((self.left, self.right, 1), (self.right, self.left, 0)):
            dense = self.end_classes[2 * self.line + 1 - end]
            own = torch.where(piece >= 0, found.winners[piece, end].long(), dense)
            there = torch.where(other >= 0, found.winners[other, 1 - end].long(), own)
            sides.append(torch.where((piece < 0) & ~gap, there, own))  # an end within rounding of a change
        before, behind = sides
        changed = before != behind
        line = torch.cat([found.change_line, self.line[changed]])
        t = torch.cat([found.change, (self.low + self.high)[changed] / 2])
        to = torch.cat([found.to, behind[changed].int()])
        return [
            (at, np.concatenate([[start], classes]).astype(np.int32))
            for (at, classes), start in zip(_by_line(line, t, lines, to), before[self.first].tolist(), strict=True)
        ]


def _by_line(line: Tensor, t: Tensor, lines: int, *more: Tensor) -> list[tuple[np.ndarray, ...]]:
    """t and more, line by line, sorted."""
    order = np.lexsort((t.numpy(), line.numpy()))
    cuts = torch.bincount(line, minlength=lines).cumsum(0)[:-1].numpy()
    return list(zip(*(np.split(x.numpy()[order], cuts) for x in (t, *more)), strict=True))
