"""Pyramids of value tiles, built a stripe of rows at a time.

Level 0 holds the map itself, each further level blocks of 2 x 2 of the one before, until a level fits one tile.
Sums conserve the counts exactly; maxima keep thin boundaries in sight; classes take the majority.
A tile is a script that hands over its numbers, deflated and in base64: such a file opens from a disk, reads back
exactly, and is never touched by colour management.
"""

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.maps import blocks
from polykern.report.script import json_for_script

TILE = 512  # pixels
CLIPS = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # per cent cut at either end of the colours, a reader's choice
SAMPLE = 1 << 17  # values a level's percentiles come from

Fold = Callable[[NDArray[Any]], NDArray[Any]]


def last_level(side: int) -> int:
    """The first level that fits one tile."""
    level = 0
    while -(-side >> level) > TILE:
        level += 1
    return level


def sums(rows: NDArray[Any]) -> NDArray[Any]:
    """2 x 2 blocks added."""
    return blocks.halved(rows, np.add)


def maxima(rows: NDArray[Any]) -> NDArray[Any]:
    """The largest of 2 x 2 blocks."""
    return blocks.halved(rows, np.maximum)


def majorities(rows: NDArray[Any]) -> NDArray[Any]:
    """A value that at least two of a 2 x 2 block share, else the upper left one."""
    even = np.pad(rows, [(0, n % 2) for n in rows.shape], mode="edge")
    a, b, c, d = (even[i::2, j::2] for i in (0, 1) for j in (0, 1))
    out = np.where((a != d) & (a != b) & (a != c) & ((b == c) | (b == d)), b, a)
    return np.where((c == d) & (a != b) & (a != c) & (b != c), c, out)


class Pyramid:
    """Levels `first` .. `last` of one view; push rows from the top, then close.

    folder  where tiles go
    name    of the view; a tile is NAME-LEVEL-ROW-COLUMN.js
    fold    halves rows and columns
    side    of the map at level 0, pixels
    unit    divides a value into a density; 0 for classes, which have none
    """

    def __init__(self, folder: Path, name: str, fold: Fold, side: int, first: int, unit: float) -> None:
        self.folder, self.name, self.fold, self.side, self.unit = folder, name, fold, side, unit
        self.first, self.last = first, max(first, last_level(side))
        self._pending: list[list[NDArray[Any]]] = [[] for _ in range(self.last + 1)]
        self._rows = [0] * (self.last + 1)
        self._samples: list[list[NDArray[Any]]] = [[] for _ in range(self.last + 1)]

    def push(self, rows: NDArray[Any], level: int | None = None) -> None:
        """The next rows of `level`, by default the first one; full rows of tiles are written at once."""
        level = self.first if level is None else level
        waiting = self._pending[level]
        waiting.append(rows)
        while sum(map(len, waiting)) >= TILE:
            whole = np.concatenate(waiting)
            waiting[:] = [whole[TILE:]] if len(whole) > TILE else []
            self._emit(level, whole[:TILE])

    def close(self) -> None:
        """What is left of every level."""
        for level in range(self.first, self.last + 1):
            if self._pending[level]:
                whole = np.concatenate(self._pending[level])
                self._pending[level] = []
                self._emit(level, whole)

    def ranges(self) -> list[dict[str, Any]]:
        """For every level from the first: densities at each of CLIPS from below and above, the least positive."""
        return [self._range(level) for level in range(self.first, self.last + 1)]

    def _emit(self, level: int, rows: NDArray[Any]) -> None:
        start = self._rows[level]
        self._rows[level] += len(rows)
        for column in range(0, rows.shape[1], TILE):
            key = f"{self.name}-{level}-{start // TILE}-{column // TILE}"
            write_tile(self.folder, key, rows[:, column : column + TILE])
        if self.unit:
            self._samples[level].append(self._density(level, start, rows))
        if level < self.last:
            self.push(self.fold(rows), level + 1)

    def _density(self, level: int, start: int, rows: NDArray[Any]) -> NDArray[Any]:
        """A sample of the densities of these rows."""
        edge = -(-self.side >> level)
        thin = max(1, int(edge / SAMPLE**0.5))
        some = rows[::thin, ::thin].astype(np.float64)
        if self.fold is sums:
            tall, wide = (
                np.minimum(1 << level, self.side - (np.arange(a, a + n)[::thin] << level))
                for a, n in zip((start, 0), rows.shape, strict=True)
            )
            some /= np.multiply.outer(tall, wide)
        return (some / self.unit).astype(np.float32).ravel()

    def _range(self, level: int) -> dict[str, Any]:
        values = np.concatenate(self._samples[level])
        positive = values[values > 0]
        return {
            "low": np.percentile(values, CLIPS).tolist(),
            "high": np.percentile(values, [100 - c for c in CLIPS]).tolist(),
            "least": float(positive.min()) if positive.size else None,
        }


def packed(values: NDArray[Any]) -> tuple[str, bytes]:
    """`values` deflated, byte plane by byte plane, and their kind: the narrowest of u1, u2, u4 for integers, f4."""
    if values.dtype.kind == "f":
        kind, plain = "f4", values.astype("<f4")
    else:
        most = int(values.max())
        kind = "u1" if most < 1 << 8 else "u2" if most < 1 << 16 else "u4"
        plain = values.astype(f"<{kind}")
    planes = plain.view(np.uint8).reshape(plain.size, -1).T.tobytes()
    # runs and Huffman only: the numbers hardly repeat in longer phrases, and it is several times faster
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 8, zlib.Z_RLE)
    return kind, packer.compress(planes) + packer.flush()


def write_tile(folder: Path, key: str, values: NDArray[Any]) -> None:
    """`values` (h, w) as KEY.js, packed and in base64."""
    kind, numbers = packed(values)
    call = json_for_script([key, kind, *values.shape, base64.b64encode(numbers).decode("ascii")])
    (folder / f"{key}.js").write_text(f"polykern.tile({call});\n", encoding="ascii")
