"""Lists of nearest codes put together: those of several parts of the pairs, on one rank or on all."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from polykern.ranks import Ranks

_TRAVEL = 1 << 24  # minima that travel together


def merged(distances: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k of each row, by (distance, index).

    distances  int32|float64 (n, m)   in any order
    indices    int64 (n, m)           0 ... 2**32 - 1; of a place left over any number
    k          at most m, and at most the places of a row that are not left over
    returns    distances (n, k), indices (n, k)

    Exact.
    """
    if distances.dtype == torch.int32:
        return _parted(_keys(distances, indices).sort(1).values[:, :k])
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
    if distances.dtype == torch.int32:
        (keys,) = _shared(at, [_keys(distances, indices)], lambda x: [x.sort(1).values[:, : indices.shape[1]]])
        return _parted(keys)
    near, who = _shared(at, [distances, indices], lambda x, y: merged(x, y, indices.shape[1]))
    return near, who


def _shared(at: Ranks, own: Sequence[Tensor], join: Callable[..., Sequence[Tensor]]) -> list[Tensor]:
    """Tensors (n, k) that every rank has, joined side by side: each rank joins its share of the rows."""
    joined = join(*(torch.cat(at.dealt(x), 1) for x in own))
    return [torch.cat(at.gathered(x)) for x in joined]


def _keys(distances: Tensor, indices: Tensor) -> Tensor:
    """int64: whole distances and indices below 2**32 as one number, in the order of (distance, index)."""
    return distances.long() << 32 | (indices & 0xFFFFFFFF)


def _parted(keys: Tensor) -> tuple[Tensor, Tensor]:
    """int32 distances and int64 indices of `_keys`."""
    return (keys >> 32).int(), keys & 0xFFFFFFFF


def united(minima: Tensor, at: Ranks) -> Tensor:
    """The minima that the ranks found, each on one rank and 65535 on the others; int16, changed in place.

    They travel four at a time, as sums of what is below 65535: a lane of a sum has one addend that is not 0.
    """
    if at.size > 1:
        for part in minima.flatten().split(_TRAVEL):
            below = torch.nn.functional.pad(~part, (0, -len(part) % 4)).view(torch.int64)
            part.copy_(~at.total(below).view(torch.int16)[: len(part)])
    return minima
