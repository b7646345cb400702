"""Forests on n points: spanning forests of weighted edges, components, and the rounds of Boruvka.

    spanning(n, i, j, w)   Kruskal: edges by (w, place), each kept that joins two trees
    join(c, i, j)          Boruvka: edges in order, each kept that joins two components

Weights are int32 or float64 and compared as they are, so that everything here is exact. Order of edges of equal
weight: the row's neighbour with the smaller index, then the smaller pair. On the host it is O(m log m) for a sort
and a union-find with path halving. The rounds of Boruvka also run where the codes are, as a few operations on whole
tensors: least edges by scattered minima, components by hooking and pointer jumping. Kruskal 1956; Boruvka 1926,
after Nesetril, Milkova, Nesetrilova 2001, "Otakar Boruvka on minimum spanning tree problem"; Shiloach, Vishkin
1982, "An O(log n) parallel connectivity algorithm".
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection

WEIGHTS = (torch.int32, torch.float64)

Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]

# --- contract -----------------------------------------------------------------------------------


def spanning(n: int, source: Tensor, target: Tensor, weight: Tensor, *, backend: str | None = None) -> Tensor:
    """The edges of a minimum spanning forest.

    n        points
    source   int64 (m)           one end of each edge, 0 .. n - 1
    target   int64 (m)           the other end
    weight   int32|float64 (m)
    backend  "cpu" | "reference"; None takes the first that can run
    returns  int64 (n - trees)   places of the edges kept, ascending by (weight, place)

    Exact. Raises ValueError when the arguments do not fit.
    """
    op = "forest.spanning"
    _check_edges(op, n, source, target)
    _check.tensor(op, "weight", weight, WEIGHTS, "edges")
    if len(weight) != len(source):
        _check.fail(op, "weight", f"int32|float64[{len(source)}]", weight)
    return choose(op, IMPLS["spanning"], backend, source, target, weight).run(n, source, target, weight)  # type: ignore[no-any-return]


def join(
    components: Tensor, source: Tensor, target: Tensor, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Components joined by edges, and which edges did it.

    components  int64 (n)      component of each point, 0 .. n - 1
    source      int64 (m)      one end of each edge
    target      int64 (m)      the other end
    backend     "cpu" | "torch" | "reference"; None takes the first that can run
    returns     bool (m)       whether the edge joined two components when its turn came
                int64 (n)      components after all edges, numbered by their first points

    Exact. Raises ValueError when the arguments do not fit.
    """
    op = "forest.join"
    _check.tensor(op, "components", components, _check.INT64, "points")
    _check_edges(op, len(components), source, target)
    _check_within(op, "components", components, len(components))
    return choose(op, IMPLS["join"], backend, components, source, target).run(components, source, target)  # type: ignore[no-any-return]


def least(components: Tensor, weights: Tensor, indices: Tensor, *, backend: str | None = None) -> Tensor:
    """The row with the least edge of every component.

    components  int64 (n)           component of each point, 0 .. n - 1
    weights     int32|float64 (n)   weight of one edge of each row
    indices     int64 (n)           its other end; -1 where a row has none
    backend     "cpu" | "torch" | "reference"; None takes the first that can run
    returns     int64 (n)           for component c the row of its least (weight, smaller end, larger end), then of
                                    the smaller row; -1 where c has no edge

    Exact. Raises ValueError when the arguments do not fit.
    """
    op = "forest.least"
    _check.tensor(op, "components", components, _check.INT64, "points")
    _check.tensor(op, "weights", weights, WEIGHTS, "points")
    n = len(components)
    _check.sized(op, "weights", weights, weights.dtype, n)
    _check.sized(op, "indices", indices, torch.int64, n)
    _check_within(op, "components", components, n)
    return choose(op, IMPLS["least"], backend, components, weights, indices).run(components, weights, indices)  # type: ignore[no-any-return]


def listed(
    distances: Tensor, indices: Tensor, cores: Tensor, components: Tensor, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """The least edge of every row to another component among the neighbours in its list.

    distances   int32|float64 (n, k)   distances of the neighbours of each point, ascending
    indices     int64 (n, k)           which points these are
    cores       distances' dtype (n)   core distances
    components  int64 (n)
    backend     "cpu" | "torch" | "reference"; None takes the first that can run
    returns     distances' dtype (n)   least max(core of the row, core of the neighbour, distance)
                int64 (n)              neighbour of the least (weight, index); -1 where all are of its component

    Exact. A weight beside -1 says nothing. Raises ValueError when the arguments do not fit.
    """
    op = "forest.listed"
    _check.tensor(op, "distances", distances, WEIGHTS, "points", "k")
    n, k = distances.shape
    _check.sized(op, "indices", indices, torch.int64, n, k)
    _check.sized(op, "cores", cores, distances.dtype, n)
    _check.sized(op, "components", components, torch.int64, n)
    _check_within(op, "indices", indices, n)
    chosen = choose(op, IMPLS["listed"], backend, distances, indices, cores, components)
    return chosen.run(distances, indices, cores, components)  # type: ignore[no-any-return]


def cost(n: int, edges: int) -> Cost:
    """`spanning`: read every edge once (a weight of 8 bytes), write what is kept."""
    return Cost(bytes=24 * edges + 8 * max(0, n - 1))


def _check_edges(op: str, n: int, source: Tensor, target: Tensor) -> None:
    _check.tensor(op, "source", source, _check.INT64, "edges")
    _check.sized(op, "target", target, torch.int64, len(source))
    for name, ends in (("source", source), ("target", target)):
        _check_within(op, name, ends, n)


def _check_within(op: str, name: str, x: Tensor, n: int) -> None:
    if x.numel() and not (int(x.min()) >= 0 and int(x.max()) < n):
        raise ValueError(f"{op}: {name} must lie in 0 .. {n - 1}, got {int(x.min())} .. {int(x.max())}")


# --- reference: sets that are painted over ---------------------------------------------------------


def _join_reference(components: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    paint = components.clone()
    kept = torch.zeros(len(source), dtype=torch.bool)
    for e, (i, j) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        if paint[i] != paint[j]:
            kept[e] = True
            paint[paint == paint[j]] = paint[i].item()
    names: dict[int, int] = {}
    renamed = [names.setdefault(c, len(names)) for c in paint.tolist()]
    return kept, torch.tensor(renamed, dtype=torch.int64)


def _spanning_reference(n: int, source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    order = weight.argsort(stable=True)
    kept, _ = _join_reference(torch.arange(n), source[order], target[order])
    return order[kept]


def _least_reference(components: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
    best: dict[int, tuple[float, int, int, int]] = {}
    for i, (c, w, j) in enumerate(zip(components.tolist(), weights.tolist(), indices.tolist(), strict=True)):
        if j >= 0:
            edge = (w, min(i, j), max(i, j), i)
            best[c] = min(best.get(c, edge), edge)
    return torch.tensor([best[c][3] if c in best else -1 for c in range(len(components))], dtype=torch.int64)


def _listed_reference(
    distances: Tensor, indices: Tensor, cores: Tensor, components: Tensor
) -> tuple[Tensor, Tensor]:
    weights, neighbours = distances.new_zeros(len(distances)), torch.full((len(distances),), -1)
    for i in range(len(distances)):
        reach = torch.maximum(torch.maximum(distances[i], cores[i]), cores[indices[i]]).tolist()
        edges = zip(reach, indices[i].tolist(), strict=True)
        foreign = [(w, j) for w, j in edges if components[j] != components[i]]
        if foreign:
            weights[i], neighbours[i] = min(foreign)
    return weights, neighbours


# --- cpu: numba, `_numba.forest` -------------------------------------------------------------------


def _array(x: Tensor) -> Numbers:
    return x.contiguous().numpy()


def _order(weight: Tensor) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Places by ascending weight; small integers are sorted by their digits."""
    w = weight.numpy()
    if w.dtype == np.int32 and len(w) and w.min() >= 0 and w.max() < 1 << 16:
        w = w.astype(np.uint16)
    return np.argsort(w, kind="stable")


def _spanning_cpu(n: int, source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    from polykern_kernels._numba import forest as loops

    kept = torch.empty(max(0, n - 1), dtype=torch.int64)
    count = loops.spanning(n, _array(source), _array(target), _order(weight), kept.numpy())
    return kept[:count].clone()


def _join_cpu(components: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import forest as loops

    kept, renamed = torch.empty(len(source), dtype=torch.bool), torch.empty_like(components)
    loops.join(_array(components), _array(source), _array(target), kept.numpy(), renamed.numpy())
    return kept, renamed


def _least_cpu(components: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
    from polykern_kernels._numba import forest as loops

    rows = torch.empty_like(components)
    loops.least(_array(components), _array(weights), _array(indices), rows.numpy())
    return rows


def _listed_cpu(distances: Tensor, indices: Tensor, cores: Tensor, components: Tensor) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import forest as loops

    weights, neighbours = torch.empty_like(cores), torch.empty_like(components)
    lists = _array(distances), _array(indices)
    loops.listed(*lists, _array(cores), _array(components), weights.numpy(), neighbours.numpy())
    return weights, neighbours


# --- torch: whole tensors, on any device ------------------------------------------------------------

_ROWS = 1 << 20  # of lists looked at together


def _join_torch(components: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The forest of the edges with their places as weights: no two are equal, so it is the one that turns make."""
    n, m, device = len(components), len(source), components.device
    root = torch.arange(n, device=device)  # of each component
    kept = torch.zeros(m, dtype=torch.bool, device=device)
    a, b = components[source], components[target]
    edge = torch.arange(m, device=device)
    while True:
        apart = root[a] != root[b]
        a, b, edge = a[apart], b[apart], edge[apart]
        if not len(edge):
            break
        ends = torch.cat([root[a], root[b]])
        first = torch.full((n,), m, device=device).scatter_reduce(0, ends, edge.repeat(2), "amin")
        asking = (first < m).nonzero()[:, 0]
        taken = first[asking]
        kept[taken] = True
        i, j = root[components[source[taken]]], root[components[target[taken]]]
        other = torch.where(i == asking, j, i)
        # of two that take the same edge the smaller stays a root: there is no longer cycle
        parent = torch.arange(n, device=device)
        parent[asking] = torch.where((first[other] == taken) & (asking < other), asking, other)
        root = _roots(parent)[root]
    mine = root[components]
    places = torch.arange(n, device=device)
    earliest = torch.full_like(places, n).scatter_reduce(0, mine, places, "amin")[mine]
    return kept, torch.unique(earliest, return_inverse=True)[1]


def _roots(parent: Tensor) -> Tensor:
    """Pointer jumping: the root of every node of a forest."""
    while True:
        above = parent[parent]
        if torch.equal(above, parent):
            return parent
        parent = above


def _least_torch(components: Tensor, weights: Tensor, indices: Tensor) -> Tensor:
    n = len(components)
    i = (indices >= 0).nonzero()[:, 0]
    c, j = components[i], indices[i]
    edges = [weights[i], torch.minimum(i, j), torch.maximum(i, j), i]
    for k in range(len(edges)):  # one criterion after the other, among the rows that are least by those before
        most = torch.full((n,), _beyond(edges[k].dtype), dtype=edges[k].dtype, device=c.device)
        equal = most.scatter_reduce(0, c, edges[k], "amin")[c] == edges[k]
        c, edges = c[equal], [x[equal] for x in edges]
    return torch.full_like(components, -1).index_put((c,), edges[-1])


def _beyond(dtype: torch.dtype) -> float:
    """No number of the dtype is greater."""
    return float("inf") if dtype.is_floating_point else torch.iinfo(dtype).max


def _listed_torch(distances: Tensor, indices: Tensor, cores: Tensor, components: Tensor) -> tuple[Tensor, Tensor]:
    weights, neighbours = torch.empty_like(cores), torch.empty_like(components)
    n, k = distances.shape
    if not k:
        return cores.clone(), neighbours.fill_(-1)
    for first in range(0, n, _ROWS):
        part = slice(first, first + _ROWS)
        near = indices[part]
        reach = torch.maximum(torch.maximum(distances[part], cores[part, None]), cores[near])
        foreign = components[near] != components[part, None]
        least = reach.masked_fill(~foreign, _beyond(reach.dtype)).amin(1)
        found = near.masked_fill(~foreign | (reach != least[:, None]), n).amin(1)
        weights[part], neighbours[part] = least, found.masked_fill(found == n, -1)
    return weights, neighbours


def _anywhere(*args: Tensor) -> None:
    """Whole tensors have no objection."""
    return None


IMPLS = {
    "spanning": (Impl("cpu", _spanning_cpu, cpu_objection), Impl("reference", _spanning_reference, cpu_objection)),
    "join": (
        Impl("cpu", _join_cpu, cpu_objection),
        Impl("torch", _join_torch, _anywhere),
        Impl("reference", _join_reference, cpu_objection),
    ),
    "least": (
        Impl("cpu", _least_cpu, cpu_objection),
        Impl("torch", _least_torch, _anywhere),
        Impl("reference", _least_reference, cpu_objection),
    ),
    "listed": (
        Impl("cpu", _listed_cpu, cpu_objection),
        Impl("torch", _listed_torch, _anywhere),
        Impl("reference", _listed_reference, cpu_objection),
    ),
}
