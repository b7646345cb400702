"""Codes part by part: to deal their pairs to ranks, and to pass more of them through a device than it holds.

Panels are contiguous parts of the codes of nearly equal length. Every two of them meet once, and each meets itself:
the upper triangle of a table of tiles. Ranks take turns at the tiles on the diagonal, which are half the work, and
at the others. What tiles find is put together by (distance, index), so neither the number of ranks nor the size of
a panel shows in an answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor

from polykern.clustering.lists import merged
from polykern.halves import halved
from polykern.ranks import Ranks
from polykern_kernels import foreign, neighbours

Told = Callable[[int, int], None]  # work done, all of it
_List = tuple[int, Tensor, Tensor]  # first code, distances and names of the nearest of each

LESS = "fewer neighbours, fewer rows, or more memory"
A_RANK = 2  # panels for each rank: two tiles of the diagonal and 2 W - 1 others for each of W ranks
ASKING = 8  # panels are so many times longer than what asks beside one
WORKSPACE = 3 << 30  # bytes of a device that kernels take beside the codes
HELD, LISTED = 4, 36  # bytes of a device: copies of codes it holds whole; a neighbour listed, and sorted
PASSING = 12  # copies of a panel: two met, two on their way, those that ask among them, padded and laid


@dataclass(frozen=True, slots=True)
class Device:
    """A device through which codes pass.

    name   where
    codes  of a panel, at most
    """

    name: torch.device
    codes: int


class Panels:
    """Codes in contiguous parts.

    words   int32 (n, words)   all of them, where they are kept
    starts  first code of each panel, and n
    name    the device on which they are compared
    """

    def __init__(self, words: Tensor, starts: Sequence[int], name: torch.device) -> None:
        self.words, self.starts, self.name = words, starts, name
        travels = name.type == "cuda" and words.device.type == "cpu"
        self._way = torch.cuda.Stream(name) if travels else None

    @classmethod
    def of(cls, words: Tensor, k: int, at: Ranks, through: Device | None) -> "Panels":
        """Panels of more than k codes each, as far as there are so many, for some ranks and a device."""
        n = len(words)
        wanted = A_RANK * at.size if at.size > 1 else 1
        if through is not None:
            wanted = max(wanted, -(-n // through.codes))
        count = max(1, min(wanted, n // (k + 1)))
        starts = [n * part // count for part in range(count + 1)]
        return cls(words, starts, words.device if through is None else through.name)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, panel: int) -> slice:
        """The codes of a panel."""
        return slice(self.starts[panel], self.starts[panel + 1])

    def nearest(
        self, k: int, metric: str, backend: str | None, at: Ranks, told: Told | None
    ) -> tuple[Tensor, Tensor]:
        """The k nearest codes of each among the tiles of this rank.

        returns  int32|float64 (n, k), int64 (n, k)   as of `polykern_kernels.neighbours.self_nearest`; places left
                                                      over hold the largest distance, 2**31 - 1 or 2.0

        Exact: the lists of all ranks, merged, are those of all pairs.
        """
        tiles, lists = self._tiles(at), None

        def found(tile: _Tile) -> list[_List]:
            return tile.lists(k, metric, backend, told if len(tiles) == 1 else None)

        for done, (x, y, a, b) in enumerate(self._met(tiles)):
            tile = _Tile(a, None if x == y else b, self.starts[x], self.starts[y])
            parts = halved(found, tile, what="codes and their nearest", fix=LESS, halves=lambda t: t.halves(k))
            if len(tiles) == len(parts) == at.size == 1:
                return parts[0][0][1:]  # of all pairs at once
            lists = lists or self._empty(k, metric)
            for first, near, who in chain.from_iterable(parts):
                rows = slice(first, first + len(near))
                distances, indices = (x[rows] for x in lists)
                every = torch.cat([distances, near.to(distances.device)], 1)
                names = torch.cat([indices, who.to(indices.device)], 1)
                lists[0][rows], lists[1][rows] = merged(every, names, k)
            if told and len(tiles) > 1:
                told(done + 1, len(tiles))
        return lists or self._empty(k, metric)

    def _empty(self, k: int, metric: str) -> tuple[Tensor, Tensor]:
        """Lists of nothing but places left over."""
        kind, farthest = (torch.int32, 2**31 - 1) if metric == "hamming" else (torch.float64, 2.0)
        shape, device = (len(self.words), k), self.words.device
        far = torch.full(shape, farthest, dtype=kind, device=device)
        return far, torch.full(shape, 2**32 - 1, dtype=torch.int64, device=device)

    def foreign(
        self,
        rows: Tensor,
        cores: Tensor,
        components: Tensor,
        bound: Tensor | None,
        metric: str,
        backend: str | None,
    ) -> tuple[Tensor, Tensor]:
        """The least mutual reachability of some codes to other components.

        rows, cores, components, bound, and what it returns: as of `polykern.clustering.space.Space.foreign`

        Exact. A part of the rows is put among the codes of one panel after the other, in the order of all codes, so
        that ties go to the smaller code there too.
        """
        weights = torch.full_like(cores[rows], _never(cores.dtype)) if bound is None else bound.clone()
        points = torch.full_like(rows, -1)
        length = max(self.rows(panel).stop - self.rows(panel).start for panel in range(len(self)))
        for some in torch.arange(len(rows)).split(max(1, length // ASKING)):
            asked = rows[some]
            own = self.words[asked].to(self.name)
            for panel, _, codes, _ in self._met([(panel, panel) for panel in range(len(self))]):
                names, place, beside = self._beside(panel, asked)
                words = torch.cat([codes, own])[beside.to(self.name)]
                known = torch.where(points[some] < 0, weights[some], _above(weights[some]))
                given = (x.to(self.name) for x in (place, cores[names], components[names]))
                weight, point = foreign.nearest(
                    words, *given, bound=known.to(self.name), metric=metric, backend=backend
                )
                weight, point = weight.to(rows.device), point.to(rows.device)
                name = names[point.clamp(0)]
                tied = (weight == weights[some]) & (name < points[some])
                better = (point >= 0) & ((weight < weights[some]) | tied)
                weights[some] = torch.where(better, weight, weights[some])
                points[some] = torch.where(better, name, points[some])
        return weights, points

    def _beside(self, panel: int, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A panel with some codes among its own.

        returns  int64 (m) names of the codes, ascending; where those that ask are among them; where each is in the
                 panel's codes followed by those that ask
        """
        rows = self.rows(panel)
        held = torch.arange(rows.start, rows.stop, device=asked.device)
        outside = ((asked < rows.start) | (asked >= rows.stop)).nonzero()[:, 0]
        names, order = torch.cat([held, asked[outside]]).sort()
        source = torch.cat([held - rows.start, outside + len(held)])
        return names, torch.searchsorted(names, asked), source[order]

    def _tiles(self, at: Ranks) -> list[tuple[int, int]]:
        """The tiles of a rank, those of a row of tiles one after the other."""
        diagonal = [(panel, panel) for panel in range(len(self))]
        others = list(combinations(range(len(self)), 2))
        return sorted([*diagonal[at.rank :: at.size], *others[at.rank :: at.size]])

    def _met(self, tiles: list[tuple[int, int]]) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Every tile with the codes of both panels on the device; those of the next one travel meanwhile."""
        held: dict[int, tuple[Tensor, Any]] = {}
        for tile, later in zip(tiles, [*tiles[1:], *tiles[-1:]], strict=True):
            for panel in (*tile, *later):
                if panel not in held:
                    held[panel] = self._sent(panel)
            x, y = tile
            yield x, y, self._arrived(*held[x]), self._arrived(*held[y])
            held = {panel: held[panel] for panel in later}

    def _sent(self, panel: int) -> tuple[Tensor, Any]:
        """The codes of a panel, perhaps on their way, and the event that says when they are there."""
        codes = self.words[self.rows(panel)]
        if self._way is None:
            return codes.to(self.name), None
        with torch.cuda.stream(self._way):
            return codes.pin_memory().to(self.name, non_blocking=True), self._way.record_event()

    def _arrived(self, codes: Tensor, event: Any) -> Tensor:
        if event is not None:
            now = torch.cuda.current_stream(self.name)
            now.wait_event(event)
            codes.record_stream(now)
        return codes


@dataclass(frozen=True, slots=True)
class _Tile:
    """Codes that meet others on the device, or themselves.

    a, b         int32 (n, words), int32 (m, words)   b None: a meets itself
    first, other what their first codes are called
    """

    a: Tensor
    b: Tensor | None
    first: int
    other: int

    def lists(self, k: int, metric: str, backend: str | None, told: Told | None) -> "list[_List]":
        """The k nearest of each code among those it meets, by their names."""
        if self.b is None:
            near, who = neighbours.self_nearest(self.a, k, metric=metric, backend=backend, progress=told)
            return [(self.first, near, who + self.first)]
        near, who, back, whose = neighbours.mutual(self.a, self.b, k, metric=metric, backend=backend)
        return [(self.first, near, who + self.other), (self.other, back, whose + self.first)]

    def halves(self, k: int) -> "list[_Tile]":
        """Tiles in which the same codes meet once each; none when a half would be shorter than a list."""
        if self.b is None:
            m = len(self.a) // 2
            low, high, at = self.a[:m], self.a[m:], self.first + m
            parts = [_Tile(low, None, self.first, self.first), _Tile(high, None, at, at)]
            return [*parts, _Tile(low, high, self.first, at)] if m > k else []
        if len(self.a) < len(self.b):
            return _Tile(self.b, self.a, self.other, self.first).halves(k)
        m = len(self.a) // 2
        parts = [_Tile(self.a[:m], self.b, self.first, self.other)]
        return [*parts, _Tile(self.a[m:], self.b, self.first + m, self.other)] if m >= max(1, k) else []


def through(rows: int, row_bytes: int, k: int, device: str | torch.device, at: Ranks) -> Device | None:
    """How codes pass through devices that do not hold them; None where those of all ranks do, and on the CPU.

    rows       codes
    row_bytes  of a code
    k          neighbours of each that are listed
    device     where distances are computed
    at         ranks that call this together
    """
    name, codes = torch.device(device), rows
    if name.type == "cuda":
        free = torch.cuda.mem_get_info(name)[0] - WORKSPACE
        if rows * (HELD * row_bytes + LISTED * k) > free:
            codes = min(rows - 1, max(1, free // (PASSING * row_bytes)))
    codes = int(at.least(torch.tensor(codes)))
    return Device(name, codes) if codes < rows else None


def _never(dtype: torch.dtype) -> float:
    return float("inf") if dtype.is_floating_point else torch.iinfo(dtype).max


def _above(weights: Tensor) -> Tensor:
    """The next number above each."""
    if weights.is_floating_point():
        return torch.nextafter(weights, torch.full_like(weights, float("inf")))
    return torch.where(weights < torch.iinfo(weights.dtype).max, weights + 1, weights)
