"""An order of codes in which near ones stand together, cheaply: it makes searches short and changes no answer.

Some codes are pivots; every code goes to its nearest one. Pivots come in the order of leaves of their single
linkage tree, and the codes of a pivot by their distance from it, but those that lie far outside of their pivot's
crowd come last of all: they are what stands between the clusters.
"""

import torch
from torch import Tensor

from polykern.clustering import shared
from polykern.ranks import Ranks
from polykern_kernels import forest, hamming

CROWD = 192  # codes a pivot
MOST_PIVOTS = 1 << 10
OUTSIDE = 1.25  # in medians of the distances from a pivot


def seriated(words: Tensor, at: Ranks | None = None) -> Tensor:
    """int64 (n): the rows of int32 (n, words) packed codes, on the CPU, in such an order; ranks share it."""
    n = len(words)
    count = min(MOST_PIVOTS, -(-n // CROWD))
    pivots = torch.arange(count) * n // max(count, 1)
    if count < 2:
        return torch.arange(n)
    distance, nearest = shared.nearest(words, words[pivots], 1, at or Ranks())
    rank = torch.empty(count, dtype=torch.int64)
    rank[_leaves(hamming.pairwise(words[pivots], words[pivots]))] = torch.arange(count)
    crowd, away = rank[nearest[:, 0]], distance[:, 0]
    order = away.sort(stable=True).indices
    order = order[crowd[order].sort(stable=True).indices]  # by crowd, then by distance
    sizes = crowd.bincount(minlength=count)
    middle = (sizes.cumsum(0) - sizes + sizes // 2).clamp(max=n - 1)
    far = away[order] > OUTSIDE * away[order][middle][crowd[order]]
    return torch.cat([order[~far], order[far]])


def _leaves(distances: Tensor) -> Tensor:
    """int64 (n): points in an order of the leaves of their single linkage tree."""
    n = len(distances)
    i, j = torch.triu_indices(n, n, 1)
    kept = forest.spanning(n, i, j, distances[i, j].contiguous())
    groups = {point: [point] for point in range(n)}
    where = list(range(n))
    for a, b in zip(i[kept].tolist(), j[kept].tolist(), strict=True):
        first, second = sorted((where[a], where[b]), key=lambda g: -len(groups[g]))
        moved = groups.pop(second)
        groups[first] += moved
        for point in moved:
            where[point] = first
    return torch.tensor(next(iter(groups.values())), dtype=torch.int64)
