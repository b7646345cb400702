"""Points with a metric, as the search for an exact minimum spanning tree asks for them.

A space holds distinct points. It can find the nearest points of all, the nearest point in another component of
some, and the distances of pairs. Distances are exact: int32 counts for Hamming, float64 for the others.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from polykern.errors import UsageError
from polykern_kernels import hamming

Progress = Callable[[str, int, int], None]  # stage, done, total

METRICS = ("hamming", "jaccard")
_PAIRS = 1 << 22  # distances held at a time


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
    """

    def __init__(self, words: Tensor, metric: str = "hamming", *, backend: str | None = None) -> None:
        if metric not in METRICS:
            raise UsageError(f"no metric {metric!r} between codes", fix=f"take one of {', '.join(METRICS)}")
        self.words, self.metric, self.backend = words.contiguous(), metric, backend

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
        parts = []
        for rows in self._blocks(torch.arange(self.n, device=self.words.device)):
            d = self._to_all(rows)
            d[torch.arange(len(rows)), rows] = never(d.dtype)
            near, order = d.sort(dim=1, stable=True)
            parts.append((near[:, :k], order[:, :k]))
            if progress:
                progress("neighbours", int(rows[-1]) + 1, self.n)
        if not parts:
            raise UsageError("there are no points")
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def foreign(
        self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The least mutual reachability to other components; see `Space`."""
        weights, points = cores.new_zeros(len(rows)), torch.full_like(rows, -1)
        at = 0
        for some in self._blocks(rows):
            w = torch.maximum(torch.maximum(self._to_all(some), cores), cores[some][:, None])
            own = components[some][:, None] == components
            w[own] = never(w.dtype)
            least, point = w.min(1)
            weights[at : at + len(some)] = least
            points[at : at + len(some)] = torch.where(own.all(1), -1, point)
            at += len(some)
        return weights, points

    def between(self, i: Tensor, j: Tensor) -> Tensor:
        """The distances of aligned pairs; see `Space`."""
        parts = [self._aligned(a, b) for a, b in zip(i.split(1 << 16), j.split(1 << 16), strict=True)]
        return torch.cat(parts)

    def _blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(max(1, _PAIRS // max(1, self.n))) if len(rows) else ()

    def _to_all(self, rows: Tensor) -> Tensor:
        d = hamming.pairwise(self.words[rows], self.words, backend=self.backend)
        return d if self.metric == "hamming" else _jaccard(d, self._sizes()[rows][:, None], self._sizes())

    def _aligned(self, i: Tensor, j: Tensor) -> Tensor:
        d = hamming.aligned(self.words[i], self.words[j], backend=self.backend)
        return d if self.metric == "hamming" else _jaccard(d, self._sizes()[i], self._sizes()[j])

    def _sizes(self) -> Tensor:
        """int32 (n): bits that are set."""
        return hamming.aligned(self.words, torch.zeros_like(self.words), backend=self.backend)


def _jaccard(differing: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Bits that differ of those set in either, float64, correctly rounded."""
    union = (differing + a + b) // 2
    return differing.double() / union.clamp(min=1).double()


def never(dtype: torch.dtype) -> float:
    """Larger than every distance of this dtype."""
    return float("inf") if dtype.is_floating_point else torch.iinfo(dtype).max
