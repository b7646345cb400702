"""Lists of nearest codes put together: those of several parts of the pairs, on one rank or on all."""

import torch
from torch import Tensor

from polykern.ranks import Ranks

_ROWS = 1 << 18  # of the minima that travel together


def merged(distances: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k of each row, by (distance, index).

    distances  int32|float64 (n, m)   in any order
    indices    int64 (n, m)           0 ... 2**32 - 1; of a place left over any number
    k          at most m, and at most the places of a row that are not left over
    returns    distances (n, k), indices (n, k)

    Exact.
    """
    if distances.dtype == torch.int32:  # both are one number
        key = (distances.long() << 32 | (indices & 0xFFFFFFFF)).sort(1).values[:, :k]
        return (key >> 32).int(), key & 0xFFFFFFFF
    by_index = indices.sort(1).indices
    near = distances.gather(1, by_index).sort(dim=1, stable=True)
    order = by_index.gather(1, near.indices[:, :k])
    return near.values[:, :k], indices.gather(1, order)


def of_all(distances: Tensor, indices: Tensor, at: Ranks) -> tuple[Tensor, Tensor]:
    """Lists of the same n codes, each rank's from its part of the pairs, made into lists from all, on all ranks.

    distances  int32|float64 (n, k)
    indices    int64 (n, k)

    Exact. Every rank puts together its share of the rows.
    """
    if at.size == 1:
        return distances, indices
    n, k = distances.shape
    near, who = distances[:0], indices[:0]
    for rank in range(at.size):
        rows = slice(at.share(n, rank).start, at.share(n, rank).stop)
        every = torch.cat(at.gathered(distances[rows]), 1), torch.cat(at.gathered(indices[rows]), 1)
        if rank == at.rank:
            near, who = merged(*every, k)
    return torch.cat(at.gathered(near)), torch.cat(at.gathered(who))


def least_of_all(minima: Tensor, at: Ranks) -> Tensor:
    """The least minima of all ranks; int16 (n, blocks), patterns of uint16, changed in place."""
    if at.size > 1:
        for part in minima.split(_ROWS):
            part.copy_(at.least(part.int() & 0xFFFF))
    return minima
