"""Numbers read off the columns of a partition, a part of them at a time: they may be files larger than memory."""

from collections.abc import Iterator
from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # rows looked at together
MOST = 1 << 22  # rows compared with each other: 64 MiB

Indices = NDArray[np.int64]


def distinct(rows: Indices) -> int:
    """How many of the rows int64 (n, 2) differ: rows are dealt out by their sum, and each share counted."""
    shares = -(-len(rows) // MOST)
    return sum(len(np.unique(_share(rows, k, shares).view("i8,i8"))) for k in range(shares))


def pairs(faces: Indices) -> int:
    """How many pairs of faces share a side: int64 (m, 2), in either order."""
    shares = -(-len(faces) // MOST)
    return sum(len(np.unique(np.sort(_share(faces, k, shares), 1).view("i8,i8"))) for k in range(shares))


def _share(rows: Indices, k: int, shares: int) -> Indices:
    """The rows whose sum, which does not depend on their order, leaves k."""
    found = [part[part.sum(1) % shares == k] for part in _blocks(rows)]
    return np.ascontiguousarray(np.concatenate([rows[:0], *found]))


def boundary(what: NDArray[np.int32], ends: NDArray[np.float64], kinds: int) -> NDArray[np.float64]:
    """float64 (kinds): length of the sides of each kind; -1 is the last, -2 the last but one."""
    total = np.zeros(kinds)
    for kind, part in zip(_blocks(what), _blocks(ends), strict=True):
        total += np.bincount(kind % kinds, lengths(part), kinds)
    return total


def lengths(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (m): length of each side (m, 2, 2)."""
    return np.asarray(np.hypot(ends[:, 1, 0] - ends[:, 0, 0], ends[:, 1, 1] - ends[:, 0, 1]))


def decision(winner: NDArray[np.int32], faces: Indices) -> Indices:
    """int64 (k): the sides between two classes."""
    found = [np.flatnonzero(winner[part[:, 0]] != winner[part[:, 1]]) for part in _blocks(faces)]
    return np.concatenate([np.zeros(0, np.int64), *(k * BLOCK + part for k, part in enumerate(found))])


def centres(first: Indices, corner: NDArray[np.float64], faces: Indices) -> NDArray[np.float64]:
    """float64 (k, 2): the mean of the corners of each face."""
    begin, count = first[faces], first[faces + 1] - first[faces]
    start = np.cumsum(count) - count
    at = np.repeat(begin - start, count) + np.arange(int(count.sum()))
    return np.asarray(np.add.reduceat(corner[at], start) / count[:, None]) if len(faces) else np.zeros((0, 2))


def face_at(first: Indices, corner: NDArray[np.float64], u: float, v: float) -> int:
    """The first face that a point is in, -1 outside of all."""
    for begin in range(0, len(first) - 1, BLOCK):
        bounds = first[begin : begin + BLOCK + 1]
        part, start = corner[bounds[0] : bounds[-1]], bounds[:-1] - bounds[0]
        after = np.roll(part, -1, 0)
        after[bounds[1:] - 1 - bounds[0]] = part[start]
        edge = after - part
        side = edge[:, 0] * (v - part[:, 1]) - edge[:, 1] * (u - part[:, 0])
        inside = np.flatnonzero(np.minimum.reduceat(side, start) >= 0)
        if len(inside):
            return begin + int(inside[0])
    return -1


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some rows at a time; those of a file are mapped anew, so that the memory is given back before the next."""
    for begin in range(0, len(rows), BLOCK):
        part = rows[begin : begin + BLOCK]
        if isinstance(rows, np.memmap) and isinstance(rows.base, mmap) and rows.filename is not None:
            part = np.memmap(rows.filename, rows.dtype, "r", rows.offset + begin * rows.strides[0], part.shape)
        yield part
