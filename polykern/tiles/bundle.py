"""What the tiles of one compression share: their symbols, the instructions written so far, the constant bits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern_kernels import digest
from polykern_kernels.program import Programs

ONE, U, V = 0, 1, 2  # the first symbols of every tile
UNIT_ROUNDOFF = 2.0**-53


def gamma(terms: int) -> float:
    """Twice Higham's gamma_n: bounds the relative rounding error of a sum of n products in float64.

    The factor two pays for the rounding of the bounds themselves.
    """
    return 2 * (terms + 2) * UNIT_ROUNDOFF


@dataclass(slots=True)
class Instructions:
    """Instructions of many tiles, ordered by tile; columns as in `Programs`."""

    tile: NDArray[np.int64]
    kind: NDArray[np.int8]
    target: NDArray[np.int32]
    field: NDArray[np.int32]
    key: NDArray[np.int64]
    tolerance: NDArray[np.float64]
    first: NDArray[np.int64]
    term: NDArray[np.int32]
    coefficient: NDArray[np.float64]


@dataclass(slots=True)
class Bundle:
    """State of a batch of tiles on their way through a network.

    tiles         how many
    limit         symbols beyond which a tile is given up (too loose at this size)
    keys          int64 (bits, 2) fingerprint keys of the code
    count         symbols of each tile so far
    low, high     interval of every symbol, (tiles, capacity)
    alive         tiles that have not been given up
    coefficients  how many went through an activation: what compression costs
    """

    tiles: int
    limit: int
    half: tuple[float, float]
    keys: Tensor
    count: NDArray[np.int64] = field(init=False)
    low: NDArray[np.float64] = field(init=False)
    high: NDArray[np.float64] = field(init=False)
    alive: NDArray[np.bool_] = field(init=False)
    digest: NDArray[np.int64] = field(init=False)
    margin: NDArray[np.float64] = field(init=False)
    winner: NDArray[np.int32] = field(init=False)
    scale: NDArray[np.int32] = field(init=False)
    coefficients: int = 0
    written: list[Instructions] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = self.tiles
        self.count = np.full(n, 3, np.int64)
        self.low = np.zeros((n, self.limit + 4))
        self.high = np.zeros((n, self.limit + 4))
        self.low[:, ONE] = self.high[:, ONE] = 1.0
        for symbol, half in ((U, self.half[0]), (V, self.half[1])):
            self.low[:, symbol], self.high[:, symbol] = -half, half
        self.alive = np.ones(n, bool)
        self.digest = np.zeros((n, 2), np.int64)
        self.margin = np.full(n, np.inf)
        self.winner = np.full(n, -1, np.int32)
        self.scale = np.full(n, -1, np.int32)

    @property
    def rounding(self) -> float:
        """Relative rounding error of a form's sum; the same whatever other tiles are in the batch."""
        return gamma(self.limit + 1)

    def new_symbols(
        self, tile: NDArray[np.int64], high: NDArray[np.float64], slot: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Give numbers to new symbols with intervals [0, high]; tiles that outgrow the limit are given up.

        tile is sorted; returns which entries survive and, for those, the symbols' numbers.
        """
        wanted = np.bincount(tile, minlength=self.tiles)
        self.alive &= self.count + wanted <= self.limit
        kept = self.alive[tile]
        mine = tile[kept]
        first = np.searchsorted(mine, mine)  # first entry of the same tile
        number = self.count[mine] + np.arange(len(mine)) - first
        self.high[mine, number] = high[kept]
        self.count += np.where(self.alive, wanted, 0)
        return kept, number

    def programs(self) -> Programs:
        """The finished programs; tiles that were given up have none."""
        parts = self.written
        tile = _joined([p.tile for p in parts], np.int64)
        keep = self.alive[tile]
        order = np.flatnonzero(keep)[np.argsort(tile[keep], kind="stable")]
        lengths = _joined([np.diff(p.first) for p in parts], np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        term = _joined([p.term for p in parts], np.int32)
        coefficient = _joined([p.coefficient for p in parts], np.float64)
        picked = _ranges(starts[order], lengths[order])
        columns = {
            name: torch.from_numpy(_joined([getattr(p, name) for p in parts], dtype)[order])
            for name, dtype in (
                ("kind", np.int8),
                ("target", np.int32),
                ("field", np.int32),
                ("tolerance", np.float64),
            )
        }
        key = np.concatenate([p.key for p in parts])[order] if parts else np.zeros((0, 2), np.int64)
        return Programs(
            first=torch.from_numpy(np.searchsorted(tile[order], np.arange(self.tiles + 1))),
            key=torch.from_numpy(key),
            start=torch.from_numpy(np.concatenate([[0], np.cumsum(lengths[order])])),
            term=torch.from_numpy(term[picked]),
            coefficient=torch.from_numpy(coefficient[picked]),
            symbols=torch.from_numpy(self.count.astype(np.int32)),
            scale=torch.from_numpy(self.scale),
            digest=torch.from_numpy(self.digest),
            margin=torch.from_numpy(self.margin),
            winner=torch.from_numpy(self.winner),
            **columns,
        )


def bundle_of(tiles: int, half: tuple[float, float], limit: int, bits: int) -> Bundle:
    """A fresh bundle for a code of `bits` bits."""
    return Bundle(tiles, limit, half, digest.keys(bits))


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _ranges(first: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """first[0] .. first[0] + length[0], then first[1] .. and so on."""
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(first - np.concatenate([[0], ends[:-1]]), length) + np.arange(total)
