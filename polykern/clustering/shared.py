"""Searches of packed codes that several ranks divide among themselves; the same bytes for any number of ranks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from polykern.ranks import Ranks
from polykern_kernels import neighbours


def nearest(
    queries: Tensor, words: Tensor, k: int, at: Ranks, *, metric: str = "hamming", backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """The k nearest of some codes to each of others. Every rank takes its share of the queries.

    queries  int32 (n, words)   packed codes, the same on every rank
    words    int32 (m, words)   packed codes, on the same device, the same on every rank
    k        at most m
    at       ranks that call this together
    metric   "hamming" | "jaccard"
    backend  of the kernels; None takes the first that can run
    returns  int32|float64 (n, k), int64 (n, k)   as of `polykern_kernels.neighbours.nearest`, on every rank

    Exact. Among the codes themselves `polykern.clustering.space.Packed` has half the work.
    """
    own = _share(queries, at)
    near, who = neighbours.nearest(own, words, k, metric=metric, backend=backend)
    return torch.cat(at.gathered(near)), torch.cat(at.gathered(who))


def within(
    queries: Tensor,
    words: Tensor,
    radii: Sequence[float],
    at: Ranks,
    *,
    metric: str = "hamming",
    backend: str | None = None,
) -> Tensor:
    """How many of some codes lie within each radius of each of others. Every rank takes its share of the queries.

    queries, words, at, metric, backend   as of `nearest`; a query that is among the words counts itself
    radii    numbers; a distance equal to the radius is within it
    returns  int64 (n, radii)   on every rank

    Exact.
    """
    own = _share(queries, at)
    return torch.cat(at.gathered(neighbours.within(own, words, radii, metric=metric, backend=backend)))


def _share(queries: Tensor, at: Ranks) -> Tensor:
    own = at.share(len(queries))
    return queries[own.start : own.stop]
