"""Spanning tree to dendrogram to condensed tree.

    lambda = 1 / weight

The dendrogram merges all edges of one weight at once, so that it is the same for every minimum spanning tree of
the same distances, whatever the order of the edges; or one edge after the other in stable order, as the package
hdbscan does. The n rows have ids 0 ... n - 1, merges n, n + 1, ... by weight; the condensed tree has the clusters
n (the root), n + 1, ..., breadth first. Exact, and lambda is finite: a weight of 0 counts as a small positive one,
and no lambda is above 2**900. O(n log n). Campello, Moulavi, Zimek, Sander 2015, "Hierarchical Density Estimates
for Data Clustering, Visualization, and Outlier Detection".
"""

from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection

HIGHEST = 2.0**900  # of a lambda: sums of 2**53 of them stay finite

# --- contract -----------------------------------------------------------------------------------


class Dendrogram(NamedTuple):
    """The m merges of n rows, by weight. Children of merge k: children[starts[k] : starts[k + 1]].

    children  int64 (n + m - 1)   rows 0 ... n - 1, merges n ... n + m - 1; each but the last merge once
    starts    int64 (m + 1)
    heights   float64 (m)         weights, never falling
    sizes     int64 (m)           rows below
    """

    children: Tensor
    starts: Tensor
    heights: Tensor
    sizes: Tensor


class Condensed(NamedTuple):
    """The condensed tree, a row for each point and each cluster but the root; parents stand before children.

    parent   int64 (r)     cluster that is left
    child    int64 (r)     point, or the cluster that is born
    lambdas  float64 (r)   1 / weight at which that happens
    sizes    int64 (r)     points of the child
    """

    parent: Tensor
    child: Tensor
    lambdas: Tensor
    sizes: Tensor


def dendrogram(
    source: Tensor, target: Tensor, weight: Tensor, *, multiway: bool = True, backend: str | None = None
) -> Dendrogram:
    """The single linkage dendrogram of a spanning tree.

    source    int64 (n - 1)
    target    int64 (n - 1)     edges between rows 0 ... n - 1, in any order
    weight    float64 (n - 1)   finite, >= 0
    multiway  True: one merge for all that joins at one weight, children and merges of one weight by smallest row.
              False: two children a merge, in stable order of weights; `linkage` of it is hdbscan's
    backend   "cpu" | "reference"

    Exact. Raises ValueError for edges that are no spanning tree and for weights that are NaN, infinite or negative.
    """
    op = "hierarchy.dendrogram"
    for name, x, kinds in (("source", source, _check.INT64), ("target", target, _check.INT64)):
        _check.tensor(op, name, x, kinds, "edges")
    _check.tensor(op, "weight", weight, (torch.float64,), "edges")
    if not len(source) == len(target) == len(weight):
        raise ValueError(f"{op}: {len(source)} sources, {len(target)} targets, {len(weight)} weights")
    _check.same_device(op, source=source, target=target, weight=weight)
    if not bool((weight.isfinite() & (weight >= 0)).all()):
        raise ValueError(f"{op}: weights must be finite and >= 0")
    for name, x in (("source", source), ("target", target)):
        if bool(((x < 0) | (x > len(weight))).any()):
            raise ValueError(f"{op}: {name} must be rows of 0 ... {len(weight)}")
    return Dendrogram(*choose(op, IMPLS["dendrogram"], backend, weight).run(source, target, weight, multiway))


def linkage(tree: Dendrogram, *, backend: str | None = None) -> Tensor:
    """The dendrogram as scipy and hdbscan write it; k children of a merge become k - 1 merges of one height.

    returns  float64 (n - 1, 4)   two ids, height, rows below
    """
    out: Tensor = choose("hierarchy.linkage", IMPLS["linkage"], backend, *tree).run(*tree)
    return out


def condense(
    tree: Dendrogram, min_cluster_size: int, *, zero: float = 0.0, backend: str | None = None
) -> Condensed:
    """The condensed tree: splits into parts of at least min_cluster_size rows; smaller ones are points that leave.

    tree              at a merge where two or more children are large, each of them is a new cluster
    min_cluster_size  >= 2
    zero              the weight that 0 stands for, at most the least positive one; 0.0 takes half of that, or 1
                      where all weights are 0
    backend           "cpu" | "reference"
    returns           rows in hdbscan's order: clusters breadth first; at a split the clusters, then the points

    Raises ValueError for another min_cluster_size or zero.
    """
    op = "hierarchy.condense"
    if min_cluster_size < 2:
        raise ValueError(f"{op}: min_cluster_size must be >= 2, got {min_cluster_size}")
    lambdas = _lambdas(tree.heights, zero)
    run = choose(op, IMPLS["condense"], backend, *tree).run
    return Condensed(*run(tree.children, tree.starts, lambdas, tree.sizes, min_cluster_size))


def cost(n: int) -> Cost:
    """`dendrogram` and `condense`: read the edges, write the binary merges, read them, write a row a point."""
    return Cost(bytes=(24 + 40 + 40 + 32) * n)


def _lambdas(heights: Tensor, zero: float) -> Tensor:
    positive = heights[heights > 0]
    least = float(positive.min()) if len(positive) else 0.0
    if not 0 <= zero < np.inf or (least and zero > least):
        raise ValueError(f"hierarchy.condense: zero must be 0 ... {least} (the least positive weight), got {zero}")
    stand_in = zero or least / 2 or least or 1.0
    return (1.0 / torch.where(heights > 0, heights, stand_in)).clamp(max=HIGHEST)


def _no_tree(edge: int) -> ValueError:
    return ValueError(f"hierarchy.dendrogram: the edges are no spanning tree: edge {edge} closes a cycle")


# --- reference: lists and loops, the definitions one after the other -----------------------------------


def _dendrogram_reference(source: Tensor, target: Tensor, weight: Tensor, multiway: bool) -> tuple[Tensor, ...]:
    edges = list(zip(source.tolist(), target.tolist(), weight.tolist(), range(len(weight)), strict=True))
    edges.sort(key=lambda edge: edge[2])
    n = len(edges) + 1
    of, node = list(range(n)), list(range(n))  # the component of each row, the node of each component
    below = [[i] for i in range(n)]  # rows below each node
    kids: list[list[int]] = []
    heights: list[float] = []
    for height, group in groupby(edges, key=lambda edge: edge[2] if multiway else edge[3]):
        joined: dict[int, list[int]] = {}
        for s, t, weight_of_edge, number in group:
            a, b = of[s], of[t]
            if a == b:
                raise _no_tree(number)
            joined[a] = joined.pop(a, [node[a]]) + joined.pop(b, [node[b]])
            of = [a if c == b else c for c in of]
            height = weight_of_edge
        for a, parts in sorted(joined.items(), key=lambda item: of.index(item[0])):
            node[a] = n + len(kids)
            below.append([i for i in range(n) if of[i] == a])
            kids.append(sorted(parts, key=lambda x: below[x][0]) if multiway else parts)
            heights.append(height)
    starts = np.cumsum([0, *map(len, kids)])
    arrays = (
        np.array([x for parts in kids for x in parts], np.int64),
        starts.astype(np.int64),
        np.array(heights, np.float64),
        np.array([len(rows) for rows in below[n:]], np.int64),
    )
    return tuple(torch.from_numpy(x).to(weight.device) for x in arrays)


def _linkage_reference(children: Tensor, starts: Tensor, heights: Tensor, sizes: Tensor) -> Tensor:
    n = len(children) - len(heights) + 1
    node, count = list(range(n)), [1] * n
    rows: list[list[float]] = []
    for k, height in enumerate(heights.tolist()):
        first, *others = children[starts[k] : starts[k + 1]].tolist()
        last, total = node[first], count[first]
        for x in others:
            total += count[x]
            rows.append([last, node[x], height, total])
            last = n + len(rows) - 1
        node.append(last)
        count.append(total)
    return torch.tensor(rows, dtype=torch.float64, device=heights.device).reshape(-1, 4)


def _condense_reference(
    children: Tensor, starts: Tensor, lambdas: Tensor, sizes: Tensor, least: int
) -> tuple[Tensor, ...]:
    m = len(lambdas)
    n = len(children) - m + 1
    bounds = starts.tolist()
    kids = [children[a:b].tolist() for a, b in pairwise(bounds)]
    size = [1] * n + sizes.tolist()

    def points(x: int) -> list[int]:
        level, found = [x], []
        while level:
            found += [y for y in level if y < n]
            level = [z for y in level if y >= n for z in kids[y - n]]
        return found

    rows: list[tuple[int, int, float, int]] = []
    queue, fresh = [(n + m - 1, n)] if m else [], n + 1
    for x, own in queue:
        at = float(lambdas[x - n])
        large = [y for y in kids[x - n] if size[y] >= least]
        if len(large) == 1:
            queue.append((large[0], own))
        else:
            rows += [(own, fresh + i, at, size[y]) for i, y in enumerate(large)]
            queue += [(y, fresh + i) for i, y in enumerate(large)]
            fresh += len(large)
        rows += [(own, i, at, 1) for y in kids[x - n] if size[y] < least for i in points(y)]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    kinds = (torch.int64, torch.int64, torch.float64, torch.int64)
    return tuple(torch.tensor(x, dtype=k, device=lambdas.device) for x, k in zip(columns, kinds, strict=True))


# --- cpu: numba, `_numba.hierarchy` --------------------------------------------------------------------


def _loops() -> Any:
    from polykern_kernels._numba import hierarchy as loops

    return loops


def _dendrogram_cpu(source: Tensor, target: Tensor, weight: Tensor, multiway: bool) -> tuple[Tensor, ...]:
    n = len(weight) + 1
    ends = [x.contiguous().numpy() for x in (source, target)]
    w = weight.contiguous().numpy()
    order = np.argsort(w, kind="stable")
    pairs, sizes, heights = np.empty(2 * n - 2, np.int64), np.empty(n - 1, np.int64), w[order]
    closing = _loops().merge(*ends, order, pairs, sizes)
    if closing >= 0:
        raise _no_tree(int(closing))
    if not multiway or n == 1:
        return tuple(map(torch.from_numpy, (pairs, np.arange(0, 2 * n, 2), heights, sizes)))
    children, starts = np.empty(2 * n - 2, np.int64), np.empty(n, np.int64)
    levels, members = np.empty(n - 1), np.empty(n - 1, np.int64)
    m = _loops().contract(pairs, heights, sizes, children, starts, levels, members)
    kept = children[: n + m - 1], starts[: m + 1], levels[:m], members[:m]
    return tuple(torch.from_numpy(x.copy()) for x in kept)


def _linkage_cpu(children: Tensor, starts: Tensor, heights: Tensor, sizes: Tensor) -> Tensor:
    out = np.empty((len(children) - len(heights), 4))
    _loops().linkage(*_arrays(children, starts, heights), out)
    return torch.from_numpy(out)


def _condense_cpu(
    children: Tensor, starts: Tensor, lambdas: Tensor, sizes: Tensor, least: int
) -> tuple[Tensor, ...]:
    n = len(children) - len(lambdas) + 1
    room = n + 2 * (n // least) if n > 1 else 0  # a point each, fewer than 2 n / least clusters
    out = [np.empty(room, kind) for kind in (np.int64, np.int64, np.float64, np.int64)]
    rows = _loops().condense(*_arrays(children, starts, lambdas, sizes), least, *out) if room else 0
    return tuple(torch.from_numpy(x[:rows].copy()) for x in out)


def _arrays(*tensors: Tensor) -> list[Any]:
    return [x.contiguous().numpy() for x in tensors]


IMPLS = {
    name: (Impl("cpu", cpu, cpu_objection), Impl("reference", reference, lambda *args: None))
    for name, cpu, reference in (
        ("dendrogram", _dendrogram_cpu, _dendrogram_reference),
        ("linkage", _linkage_cpu, _linkage_reference),
        ("condense", _condense_cpu, _condense_reference),
    )
}
