"""What the tiles of one compression share: their symbols, the instructions written so far, the constant bits.

Everything is a tensor on the device that compresses; sizes that the host must know are asked for once a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polykern.arithmetic import gamma
from polykern_kernels import digest
from polykern_kernels.program import Programs

ONE, U, V = 0, 1, 2  # the first symbols of every tile


@dataclass(slots=True)
class Instructions:
    """Instructions of many tiles, ordered by tile; columns as in `Programs`."""

    tile: Tensor
    kind: Tensor
    target: Tensor
    field: Tensor
    key: Tensor
    tolerance: Tensor
    first: Tensor
    term: Tensor
    coefficient: Tensor


@dataclass(slots=True)
class Bundle:
    """State of a batch of tiles on their way through a network.

    tiles         how many
    limit         symbols beyond which a tile is given up (too loose at this size)
    half          (u, v): half the extent of a tile, pixels
    keys          int64 (bits, 2)           fingerprint keys of the code; its device is the bundle's
    count         int64 (tiles)             symbols of each tile so far
    low, high     float64 (tiles, capacity) interval of every symbol
    alive         bool (tiles)              tiles that have not been given up
    digest        int64 (tiles, 2)          fingerprint of the constant bits
    margin        float64 (tiles)           certified distance of the constant bits to their thresholds
    winner        int32 (tiles)             class at the centre, -1 without classes
    scale         int32 (tiles)             the norm symbol, or -1
    coefficients  how many went through an activation: what compression costs
    products      multiply-adds of the linear operators for one row
    """

    tiles: int
    limit: int
    half: tuple[float, float]
    keys: Tensor
    count: Tensor = field(init=False)
    low: Tensor = field(init=False)
    high: Tensor = field(init=False)
    alive: Tensor = field(init=False)
    digest: Tensor = field(init=False)
    margin: Tensor = field(init=False)
    winner: Tensor = field(init=False)
    scale: Tensor = field(init=False)
    coefficients: int = 0
    products: int = 0
    written: list[Instructions] = field(default_factory=list)

    def __post_init__(self) -> None:
        n, device = self.tiles, self.device
        self.count = torch.full((n,), 3, dtype=torch.int64, device=device)
        self.low = torch.zeros((n, self.limit + 4), dtype=torch.float64, device=device)
        self.low[:, ONE] = 1.0
        self.high = self.low.clone()
        for symbol, half in ((U, self.half[0]), (V, self.half[1])):
            self.low[:, symbol], self.high[:, symbol] = -half, half
        self.alive = torch.ones(n, dtype=torch.bool, device=device)
        self.digest = torch.zeros((n, 2), dtype=torch.int64, device=device)
        self.margin = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self.winner = torch.full((n,), -1, dtype=torch.int32, device=device)
        self.scale = self.winner.clone()

    @property
    def device(self) -> torch.device:
        """Where the state and the forms are."""
        return self.keys.device

    @property
    def rounding(self) -> float:
        """Relative rounding error of a form's sum; the same whatever other tiles are in the batch."""
        return gamma(self.limit + 1)

    def numbers(self) -> Tensor:
        """int64 (tiles): 0, 1, ..."""
        return torch.arange(self.tiles, device=self.device)

    def edges(self, tile: Tensor) -> Tensor:
        """int64 (tiles + 1): where each tile begins in the sorted numbers `tile`."""
        return torch.searchsorted(tile, torch.arange(self.tiles + 1, device=self.device))

    def new_symbols(self, tile: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Give numbers to new symbols with intervals [0, high]; tiles that outgrow the limit are given up.

        tile     int64 (n), sorted
        high     float64 (n)
        returns  int64: the entries that survive, and the numbers of their symbols
        """
        edges = self.edges(tile)
        wanted = edges.diff()
        self.alive &= self.count + wanted <= self.limit
        kept = self.alive[tile].nonzero()[:, 0]
        mine = tile[kept]
        number = self.count[mine] + kept - edges[mine]  # a tile's entries survive together
        self.high[mine, number] = high[kept]
        self.count += torch.where(self.alive, wanted, 0)
        return kept, number

    def programs(self) -> Programs:
        """The finished programs; tiles that were given up have none."""
        parts = self.written
        tile = self._joined([p.tile for p in parts], torch.int64)
        order = self.alive[tile].nonzero()[:, 0]
        order = order[torch.sort(tile[order], stable=True).indices]
        lengths = self._joined([p.first.diff() for p in parts], torch.int64)
        picked = ranges(lengths.cumsum(0)[order] - lengths[order], lengths[order])
        return Programs(
            first=self.edges(tile[order]),
            kind=self._joined([p.kind for p in parts], torch.int8)[order],
            target=self._joined([p.target for p in parts], torch.int32)[order],
            field=self._joined([p.field for p in parts], torch.int32)[order],
            key=(torch.cat([p.key for p in parts]) if parts else self.keys[:0])[order],
            tolerance=self._joined([p.tolerance for p in parts], torch.float64)[order],
            start=starts(lengths[order]),
            term=self._joined([p.term for p in parts], torch.int32)[picked],
            coefficient=self._joined([p.coefficient for p in parts], torch.float64)[picked],
            symbols=self.count.int(),
            scale=self.scale,
            digest=self.digest,
            margin=self.margin,
            winner=self.winner,
        )

    def _joined(self, parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=dtype, device=self.device)


def bundle_of(tiles: int, half: tuple[float, float], limit: int, bits: int, device: torch.device) -> Bundle:
    """A fresh bundle for a code of `bits` bits."""
    return Bundle(tiles, limit, half, digest.keys(bits, device=device))


def starts(lengths: Tensor) -> Tensor:
    """int64 (n + 1): 0 and the sums of the first 1, 2, ... lengths."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def ranges(first: Tensor, length: Tensor) -> Tensor:
    """first[0] .. first[0] + length[0], then first[1] .. and so on."""
    shift = first - (length.cumsum(0) - length)
    repeated = torch.repeat_interleave(shift, length)
    return repeated + torch.arange(len(repeated), device=repeated.device)
