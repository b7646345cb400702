"""Torch's own operations on CUDA tensors: products, a limit from an upper bound, and the pairs inside of it."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from polykern_kernels import euclid
from polykern_kernels.euclid import Progress, Rows

PRODUCTS = 1 << 27  # products of a block of rows with all: 512 MiB in float32
PAIRS = 1 << 20  # pairs computed at a time: 128 MiB of lanes


def pairs(rows: Rows, i: Tensor, j: Tensor) -> Tensor:
    parts = [euclid.distances(rows.x, a, b) for a, b in zip(i.split(PAIRS), j.split(PAIRS), strict=True)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64, device=i.device)


def nearest(rows: Rows, k: int, progress: Progress) -> tuple[Tensor, Tensor]:
    n, device = len(rows.x), rows.x.device
    near = torch.full((n, k), math.inf, dtype=torch.float64, device=device)
    index = torch.full((n, k), n, dtype=torch.int64, device=device)
    for i in _blocks(torch.arange(n if k else 0, device=device), n):
        product, at = rows.short[i] @ rows.short.T, torch.arange(len(i), device=device)
        over = rows.high - 2 * product
        over[at, i] = math.inf
        limit = _farthest(rows, over.topk(k, largest=False).values[:, -1].double(), i)
        inside = rows.low - 2 * product <= rows.limit(limit, i)[:, None]
        inside[at, i] = False
        del over, product
        for first, own, j in _inside(inside):
            last = first + int(own[-1]) + 1
            d = pairs(rows, i[first + own], j)
            near[i[first:last]], index[i[first:last]] = _least(own, d, j, last - first, k)
        progress(int(i[-1]) + 1, n)
    return near, index


def foreign(rows: Rows, asking: Tensor, cores: Tensor, components: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    weights, points = bound.clone(), torch.full_like(asking, -1)
    for at in _blocks(torch.arange(len(asking), device=asking.device), len(rows.x)):
        i = asking[at]
        product = rows.short[i] @ rows.short.T
        strange = components[i][:, None] != components
        least = torch.maximum(cores[i][:, None], cores)
        over = _farthest(rows, (rows.high - 2 * product).double(), i[:, None])
        over = torch.maximum(over, least).masked_fill(~strange, math.inf)
        best = torch.minimum(over.amin(1), bound[at])
        del over
        inside = strange & (least <= best[:, None]) & (rows.low - 2 * product <= rows.limit(best, i)[:, None])
        for first, own, j in _inside(inside):
            w = torch.maximum(pairs(rows, i[first + own], j), least[first + own, j])
            found, point = (t[:, 0] for t in _least(own, w, j, int(own[-1]) + 1, 1))
            mine = at[first : first + len(found)]
            lower = found < weights[mine]
            points[mine] = torch.where(lower, point, points[mine])
            weights[mine] = torch.where(lower, found, weights[mine])
    return weights, points


def _blocks(rows: Tensor, n: int) -> tuple[Tensor, ...]:
    return rows.split(max(1, PRODUCTS // max(1, n))) if len(rows) else ()


def _farthest(rows: Rows, over: Tensor, i: Tensor) -> Tensor:
    """float64: no pair with high[j] - 2 g = over is farther apart than this."""
    columns = rows.short.shape[1]
    squared = (over + rows.high[i].double()).clamp(min=0) + 8 * columns * euclid.TINY
    return (squared.sqrt() + rows.reach[i]) / rows.scale * (1 + (columns + 16) * 2.0**-52)


def _inside(inside: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Row by row the pairs that are True, some rows at a time: the first of them, rows counted from it, columns."""
    pending = inside.sum(1).cumsum(0).tolist()
    first = before = 0
    while first < len(pending):
        last = first + 1
        while last < len(pending) and pending[last] - before <= 8 * PAIRS:
            last += 1
        if pending[last - 1] > before:
            own, j = inside[first:last].nonzero(as_tuple=True)
            yield first, own, j
        first, before = last, pending[last - 1]


def _least(own: Tensor, d: Tensor, j: Tensor, rows: int, k: int) -> tuple[Tensor, Tensor]:
    """(rows, k): the k least (d, j) of each row; own ascends, and so does j within a row."""
    order = d.sort(dim=0, stable=True).indices
    order = order[own[order].sort(dim=0, stable=True).indices]
    counts = torch.bincount(own, minlength=rows)
    place = torch.arange(len(own), device=own.device) - (counts.cumsum(0) - counts)[own]  # own is sorted already
    kept = place < k
    values = torch.full((rows, k), math.inf, dtype=torch.float64, device=d.device)
    columns = torch.full((rows, k), -1, dtype=torch.int64, device=d.device)
    values[own[kept], place[kept]] = d[order][kept]
    columns[own[kept], place[kept]] = j[order][kept]
    return values, columns
