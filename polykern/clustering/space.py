"""Points with a metric, as the search for an exact minimum spanning tree asks for them.

A space holds distinct points. It can find the nearest points of all, the nearest point in another component of
some, and the distances of pairs. Distances are exact: int32 counts for Hamming, float64 for the others.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from polykern.clustering import panels
from polykern.clustering.lists import of_all, united
from polykern.clustering.seriation import seriated
from polykern.errors import UsageError, out_of_memory
from polykern.halves import halved
from polykern.progress import Progress
from polykern.ranks import Ranks
from polykern_kernels import foreign, hamming, survey

METRICS = ("hamming", "jaccard")  # of codes
REAL = ("euclidean", "cosine")  # of rows of real numbers
_PAIRS = 1 << 14  # codes compared at a time
SURVEYED = 1 << 10  # points from which minima of blocks are kept
SPARE = 4 << 30  # bytes
SAMPLE = 64  # rows that tell whether they are worth it
LESS = "fewer rows, or more memory"
DEAR = 3  # price of a distance taken alone, in distances of a tile


class Space(Protocol):
    """n distinct points and their distances.

    n     points
    zero  the distance that stands for 0 where 1 / distance is wanted: 0.5 for counts of bits; 0 means half of the
          least positive weight of the tree
    """

    @property
    def n(self) -> int:
        """Points."""
        ...

    @property
    def zero(self) -> float:
        """The distance that stands for 0."""
        ...

    def nearest(self, k: int, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """The k nearest other points of each point, 0 <= k < n.

        returns  int32|float64 (n, k), int64 (n, k)   distances and points, ascending by (distance, point)
        """
        ...

    def foreign(
        self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The least mutual reachability of some points to other components.

        rows        int64 (r)              points that ask
        cores       int32|float64 (n)      core distances, in the dtype of the distances
        components  int64 (n)
        bound       None | cores' dtype (r)   only weights below it are of interest
        returns     cores' dtype (r), int64 (r)   the least (max(core, core, distance), point); the point may be -1
                                                  where the weight is not below the bound, and is where all points
                                                  are of one component
        """
        ...

    def between(self, i: Tensor, j: Tensor) -> Tensor:
        """The distances of aligned pairs, int64 (m) and int64 (m) -> int32|float64 (m)."""
        ...


class Packed:
    """Packed codes under the Hamming or the Jaccard distance.

    words    int32 (n, words)   distinct codes, on any device
    metric   "hamming": bits that differ; "jaccard": their share of the bits that are set in either, 0 for two
             empty codes
    backend  of the kernels; None takes the first that can run
    spare    bytes that may be spent on the minima of blocks
    at       ranks that hold the same words and divide the pairs of `nearest`; they ask together, `foreign` perhaps
             for different rows; None: this process alone
    through  the device on which distances are computed, when it does not hold the words: they pass through it by
             panels (`polykern.clustering.panels`)

    On the CPU `nearest` keeps the minima of blocks of codes (`polykern_kernels.survey`), 2 KiB a code at most, in
    an order in which near codes stand together: a row that asks `foreign` later then takes some hundred distances
    instead of all. Where the minima would not fit, or not help, by a sample, all are taken. The answers are the
    same.
    """

    def __init__(
        self,
        words: Tensor,
        metric: str = "hamming",
        *,
        backend: str | None = None,
        spare: int = SPARE,
        at: Ranks | None = None,
        through: panels.Device | None = None,
    ) -> None:
        if metric not in METRICS:
            raise UsageError(f"no metric {metric!r} between codes", fix=f"take one of {', '.join(METRICS)}")
        self.words, self.metric, self.backend = words.contiguous(), metric, backend
        self.at, self.through = at or Ranks(), through
        kept = survey.minima_bytes(self.n) + self.words.nbytes  # and the codes in another order
        on_cpu = words.device.type == "cpu" and through is None and backend in (None, "cpu")
        self._surveys = on_cpu and self.n >= SURVEYED and kept <= spare
        self._surveyed: tuple[Tensor, Tensor, Tensor] | None = None  # order, codes in it, minima of blocks
        self._partly = False  # whether the minima are those of this rank alone

    @property
    def n(self) -> int:
        """Points."""
        return len(self.words)

    @property
    def zero(self) -> float:
        """Half a bit; for Jaccard half of the least positive weight."""
        return 0.5 if self.metric == "hamming" else 0.0

    def nearest(self, k: int, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """The k nearest other points of each point; see `Space`."""
        told = None if progress is None else partial(self._told, progress)
        if self._surveys:
            try:
                return self._survey(k, told)
            except Exception as error:
                if self.at.size > 1 or not out_of_memory(error):
                    raise  # of several ranks all take the same way
                self._surveys = False  # minima only save time
        given = panels.Panels.of(self.words, k, self.at, self.through)
        return of_all(*given.nearest(k, self.metric, self.backend, self.at, told), self.at)

    def _survey(self, k: int, told: Callable[[int, int], None] | None) -> tuple[Tensor, Tensor]:
        """The lists, and the minima of blocks on the way."""
        order = seriated(self.words, self.at)
        laid, share = self.words[order], (self.at.rank, self.at.size)
        near, who, minima = survey.nearest(
            laid, order, k, share=share, agreed=self.at.least, metric=self.metric, progress=told
        )
        near, who = of_all(near, who, self.at)
        self._surveyed, self._partly = (order, laid, minima), self.at.size > 1
        distances, indices = torch.empty_like(near), torch.empty_like(who)
        distances[order], indices[order] = near, who
        return distances, indices

    def _told(self, progress: Progress, done: int, total: int) -> None:
        """The work of a search, in rows."""
        progress("neighbours", self.n * done // total, self.n)

    def foreign(
        self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The least mutual reachability to other components; see `Space`."""
        if self._partly and self._surveyed is not None:
            united(self._surveyed[2], self.at)
            self._partly = False
        return by_rows(lambda some, below: self._foreign(some, cores, components, below), rows, bound)

    def _foreign(
        self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if len(rows) and self._surveyed is not None and self._short(rows, cores, components, bound):
            weights, points, _ = self._opened(rows, cores, components, bound)
            return weights, points
        if self.through is not None:
            given = panels.Panels.of(self.words, 0, self.at, self.through)
            return given.foreign(rows, cores, components, bound, self.metric, self.backend)
        return foreign.nearest(
            self.words, rows, cores, components, bound=bound, metric=self.metric, backend=self.backend
        )

    def _short(self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None) -> bool:
        """Whether the minima of blocks spare enough, by a sample of the rows."""
        some = torch.arange(min(len(rows), SAMPLE)) * len(rows) // min(len(rows), SAMPLE)
        counted = self._opened(rows[some], cores, components, None if bound is None else bound[some])[2]
        return float(counted.double().mean()) * DEAR < self.n - len(rows) / 2

    def _opened(
        self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert self._surveyed is not None
        order, laid, minima = self._surveyed
        place = torch.empty_like(order)
        place[order] = torch.arange(self.n)
        asked = place[rows].sort().indices  # rows that stand together open the same blocks
        weights, points, counted = survey.foreign(
            *(laid, order, minima, place[rows[asked]], cores[order], components[order]),
            bound=None if bound is None else bound[asked],
            metric=self.metric,
        )
        back = asked.argsort()
        return weights[back], points[back], counted[back]

    def between(self, i: Tensor, j: Tensor) -> Tensor:
        """The distances of aligned pairs; see `Space`."""
        pairs = zip(i.split(_PAIRS), j.split(_PAIRS), strict=True)
        return torch.cat([self._apart(self.words[a], self.words[b]) for a, b in pairs])

    def _apart(self, a: Tensor, b: Tensor) -> Tensor:
        differing = hamming.aligned(a, b, backend=self.backend)
        if self.metric == "hamming":
            return differing
        union = hamming.aligned(a | b, torch.zeros_like(a), backend=self.backend)
        return differing.double() / union.clamp(min=1).double()


def by_rows(
    ask: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]], rows: Tensor, bound: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What rows that ask are told, in halves of them when memory does not hold all.

    ask    of int64 (r) rows and None | (r) bounds, gives two tensors (r)
    rows   int64 (n)
    bound  None | (n)
    """

    def told(some: Tensor) -> tuple[Tensor, Tensor]:
        return ask(rows[some], None if bound is None else bound[some])

    parts = halved(told, torch.arange(len(rows), device=rows.device), what="a row's search", fix=LESS)
    weights, points = (torch.cat(found) for found in zip(*parts, strict=True))
    return weights, points


def never(dtype: torch.dtype) -> float:
    """Larger than every distance of this dtype."""
    return float("inf") if dtype.is_floating_point else torch.iinfo(dtype).max
