"""Pieces become faces: what touches along a tile's side is one face, what shares a kink's line are two.

A tile's side is no boundary of the network: two pieces that touch along a part of it are of one face. On a side
that two pieces of a tile share lies a kink of that tile, and the side appears once in either sense. Tiles come some
at a time. A face is finished when every tile that it reaches has all its neighbours; until then a `Front` holds it
as one polygon, with the sides it shares. So memory is that of the border of what is done.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.subdivision import seams
from polykern.subdivision.pieces import SEAM, Pieces
from polykern_kernels import forest, outlines

TOUCHING = 1e-9  # of the window's side: shorter contacts say nothing

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Faces:
    """n faces, m sides between two; the columns of `polykern.subdivision.result.Partition`, `first` from 0 on."""

    first: Indices
    corner: NDArray[np.float64]
    area: NDArray[np.float64]
    digest: Indices
    winner: NDArray[np.int32]
    faces: Indices
    ends: NDArray[np.float64]
    what: NDArray[np.int32]


class Front:
    """The faces that are not finished, and what is known of their surroundings.

    side   of the window, L2 units

    torn   contacts along seams that join different codes, so far
    alone  sides, longer than nothing, whose counterpart was not found
    """

    def __init__(self, side: float) -> None:
        self.near = TOUCHING * side
        self.torn = self.alone = 0
        self._numbered = 0  # faces that are finished
        self._open = _nothing()  # a face of its sides that is not finished is -1 - its number here
        self._borders, self._seams = seams.none()

    def add(self, pieces: Pieces) -> Faces:
        """Take the pieces of some tiles; gives the faces that they finish, and the sides between finished ones."""
        held = len(self._open.area)
        borders, found = seams.of(pieces)
        found = self._seams.joined(found, len(self._borders.place), held)
        borders = self._borders.joined(borders)
        pairs, alone = twins(pieces, self.near)
        self.alone += alone
        face = self._faces(pieces, borders, found, pairs)
        united = _united(self._open, pieces, face, pairs)
        waiting = np.zeros(len(united.area), bool)
        waiting[face[found.owner[borders.open[found.border]]]] = True
        self._seams = found.waiting(borders, (np.cumsum(waiting) - 1)[face])
        self._borders = borders.of(borders.open)
        return self._parted(united, waiting)

    def rest(self) -> Faces:
        """The faces that are held still: those at the border of what was done."""
        return self._parted(self._open, np.zeros(len(self._open.area), bool))

    def _faces(self, pieces: Pieces, borders: seams.Borders, found: seams.Seams, pairs: Indices) -> Indices:
        """int64: the face of each open face and each new piece, numbered in this order.

        Those that touch along a seam are of one, and so are pieces that only an overtaken rival parts.
        """
        held = len(self._open.area)
        one, two = seams.touching(borders.place[found.border], borders.behind[found.border], found.low, found.high)
        length = np.minimum(found.high[one], found.high[two]) - np.maximum(found.low[one], found.low[two])
        digest = np.concatenate([self._open.digest, pieces.digest])
        winner = np.concatenate([self._open.winner, pieces.winner])
        i, j = found.owner[one], found.owner[two]
        same = (digest[i] == digest[j]).all(1) & (winner[i] == winner[j])
        fresh = (i >= held) | (j >= held)
        self.torn += int((~same & fresh & (length > self.near)).sum())
        left, right = pieces.owner[pairs].T
        whole = pieces.region[left] == pieces.region[right]
        source = np.concatenate([i[same], held + left[whole]])
        target = np.concatenate([j[same], held + right[whole]])
        _, face = forest.join(torch.arange(len(winner)), torch.from_numpy(source), torch.from_numpy(target))
        return face.numpy()

    def _parted(self, found: Faces, waiting: NDArray[np.bool_]) -> Faces:
        """Hold the faces that are waiting, and number the others."""
        done = ~waiting
        name = np.where(waiting, -waiting.cumsum(dtype=np.int64), self._numbered + done.cumsum() - 1)
        self._numbered += int(done.sum())
        faces = found.faces.copy()
        faces[faces < 0] = name[-1 - faces[faces < 0]]
        both = np.asarray((faces >= 0).all(1))
        self._open = _some(found, waiting, faces, ~both)
        return _some(found, done, faces, both)


def twins(pieces: Pieces, near: float) -> tuple[Indices, int]:
    """int64 (m, 2): sides that appear in two pieces, in either sense; and how many longer ones appear in one only.

    near  how far apart two corners that are one may be, L2 units
    """
    inner = np.flatnonzero(pieces.what != SEAM)
    ends = np.stack([pieces.corner[inner], pieces.corner[pieces.next[inner]]], 1)
    found = outlines.pairs(torch.from_numpy(pieces.kink[inner]), torch.from_numpy(ends), near).numpy()
    single = np.abs(ends[:, 1] - ends[:, 0]).max(1, initial=0) > near
    single[found] = False
    return inner[found], int(single.sum())


def _united(held: Faces, pieces: Pieces, face: Indices, pairs: Indices) -> Faces:
    """Open faces and new pieces put together, with the sides between two; a face of a side is -1 - its number."""
    count = int(face.max()) + 1
    mine = face[len(held.area) :]
    of = np.concatenate([np.repeat(face[: len(held.area)], np.diff(held.first)), mine[pieces.owner]])
    order = np.argsort(of, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=count))])
    corner = np.concatenate([held.corner, pieces.corner])[order]
    first, corner = (x.numpy() for x in outlines.hulls(torch.from_numpy(begins), torch.from_numpy(corner)))
    one = np.empty(count, np.int64)
    one[face[::-1]] = np.arange(len(face))[::-1]  # the first of each
    old = held.faces.copy()
    old[old < 0] = -1 - face[-1 - old[old < 0]]
    faces = np.concatenate([old, -1 - mine[pieces.owner[pairs]]])
    apart = faces[:, 0] != faces[:, 1]
    ends = pieces.corner[np.stack([pairs[:, 0], pieces.next[pairs[:, 0]]], 1)]
    return Faces(
        first,
        corner,
        area=np.bincount(face, np.concatenate([held.area, pieces.area])).astype(np.float64),
        digest=np.concatenate([held.digest, pieces.digest])[one],
        winner=np.concatenate([held.winner, pieces.winner])[one],
        faces=faces[apart],
        ends=np.concatenate([held.ends, ends])[apart],
        what=np.concatenate([held.what, pieces.what[pairs[:, 0]]])[apart],
    )


def _some(found: Faces, kept: NDArray[np.bool_], faces: Indices, sides: NDArray[np.bool_]) -> Faces:
    """Some of the faces, and some of the sides with other names of theirs."""
    count = np.diff(found.first)
    return Faces(
        np.concatenate([[0], np.cumsum(count[kept])]), found.corner[np.repeat(kept, count)], found.area[kept],
        found.digest[kept], found.winner[kept], faces[sides], found.ends[sides], found.what[sides],
    )  # fmt: skip


def _nothing() -> Faces:
    return Faces(
        np.zeros(1, np.int64), np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2), np.int64), np.zeros(0, np.int32),
        np.zeros((0, 2), np.int64), np.zeros((0, 2, 2)), np.zeros(0, np.int32),
    )  # fmt: skip
