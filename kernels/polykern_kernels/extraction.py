"""Condensed tree to flat clusters: excess of mass or leaves, labels, probabilities, outlier scores.

    stability(c) = sum over the points of c of (lambda at which the point leaves c - lambda at which c is born)

Ids and rows are those of `polykern_kernels.hierarchy`. Sums run over lambdas in order, never over rows, so that
float64 results too do not depend on the order of rows; an equality of stabilities is decided for the parent.
O(n log n). Campello, Moulavi, Zimek, Sander 2015, "Hierarchical Density Estimates for Data Clustering,
Visualization, and Outlier Detection"; epsilon: Malzer, Baum 2020, "A Hybrid Approach To Hierarchical Density-based
Cluster Selection".
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection
from polykern_kernels.hierarchy import Condensed

# --- contract -----------------------------------------------------------------------------------


class Clusters(NamedTuple):
    """The c clusters of a condensed tree, n + 0 the root.

    above      int64 (c)     parent - n; -1 for the root
    birth      float64 (c)   lambda; 0 for the root
    death      float64 (c)   greatest lambda at which a point or cluster leaves it
    stability  float64 (c)
    sizes      int64 (c)     points
    """

    above: Tensor
    birth: Tensor
    death: Tensor
    stability: Tensor
    sizes: Tensor


def clusters(tree: Condensed, *, backend: str | None = None) -> Clusters:
    """Birth, death, stability and size of the clusters of a condensed tree."""
    return Clusters(*choose("extraction.clusters", IMPLS["clusters"], backend, *tree).run(*tree))


def select(
    found: Clusters,
    *,
    leaf: bool = False,
    epsilon: float = 0.0,
    single: bool = False,
    most: int = 0,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The clusters of a flat clustering; none lies in another.

    leaf     False: the antichain of greatest stability (excess of mass; on equality the parent).  True: the leaves
    epsilon  weight; a chosen cluster born below it gives way to its nearest ancestor born at epsilon or above, or
             to the last one below the root (the root itself with `single`). hdbscan differs for clusters born at
             exactly epsilon: it passes over them, and may choose one inside another
    single   the root may be chosen by excess of mass
    most     largest size by excess of mass, 0 for any; the size of the root is that of its children
    returns  bool (c), float64 (c)   chosen; the stability credited to each cluster: the greater of its own and that
             of the best below it, by excess of mass, its own by leaves
    """
    if not (epsilon >= 0 and most >= 0):
        raise ValueError(f"extraction.select: epsilon and most must be >= 0, got {epsilon}, {most}")
    limit = 1.0 / epsilon if epsilon > 0 else np.inf
    run = choose("extraction.select", IMPLS["select"], backend, *found).run
    chosen, credit = run(found, leaf, limit, single, most or np.iinfo(np.int64).max)
    return chosen, credit


def labels(
    tree: Condensed, found: Clusters, chosen: Tensor, *, epsilon: float = 0.0, backend: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The cluster of every point and how firmly it belongs.

    chosen   bool (c)   as from `select`
    epsilon  when the root is the only cluster, the points that leave it at this weight or below belong to it;
             0.0: those that stay until its last event
    returns  int64 (n)     -1 for noise; clusters are numbered by falling size, then by smallest row
             float64 (n)   probability: min(lambda of the point, death) / death of its cluster, 0 for noise
             int64 (k)     the clusters of labels 0 ... k - 1, as indices into `found`
    """
    floor = (1.0 / epsilon if epsilon > 0 else float(found.death[0])) if bool(chosen[0]) else 0.0
    run = choose("extraction.labels", IMPLS["labels"], backend, *tree, *found).run
    owner, strength = run(tree, found, chosen, floor)
    inside = (owner >= 0).nonzero()[:, 0]
    used, which, count = owner[inside].unique(return_inverse=True, return_counts=True)
    first = torch.full_like(used, len(owner)).scatter_reduce(0, which, inside, "amin")
    by_size = torch.from_numpy(np.lexsort((first.cpu().numpy(), -count.cpu().numpy()))).to(used.device)
    rank = torch.full((len(chosen) + 1,), -1, device=used.device)  # its last entry is that of owner -1
    rank[used[by_size]] = torch.arange(len(used), device=used.device)
    return rank[owner], strength, used[by_size]


def outliers(tree: Condensed, found: Clusters, *, backend: str | None = None) -> Tensor:
    """GLOSH: float64 (n), 1 - lambda of the point / greatest lambda below the cluster it leaves; 0 is an inlier."""
    out: Tensor = choose("extraction.outliers", IMPLS["outliers"], backend, *tree, *found).run(tree, found)
    return out


def cost(n: int) -> Cost:
    """Read the rows of n points; write a label, a probability and a score a point."""
    return Cost(bytes=(32 + 24) * n)


def _points(tree: Condensed) -> int:
    return int(tree.parent[0]) if len(tree.parent) else 1


# --- reference: the definitions one after the other ------------------------------------------------------


def _clusters_reference(parent: Tensor, child: Tensor, lambdas: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
    n = int(parent[0]) if len(parent) else 1
    above, birth, size = [-1], [0.0], [n]
    leaving: list[dict[float, int]] = [{}]  # of each cluster: how many points leave at each lambda
    for p, c, at, count in zip(parent.tolist(), child.tolist(), lambdas.tolist(), sizes.tolist(), strict=True):
        leaving[p - n][at] = leaving[p - n].get(at, 0) + count
        if c >= n:
            above.append(p - n)
            birth.append(at)
            size.append(count)
            leaving.append({})
    stability = [sum((at - born) * out[at] for at in sorted(out)) for born, out in zip(birth, leaving, strict=True)]
    columns = (above, birth, [max(out, default=0.0) for out in leaving], stability, size)
    kinds = (torch.int64, torch.float64, torch.float64, torch.float64, torch.int64)
    return tuple(torch.tensor(x, dtype=k, device=parent.device) for x, k in zip(columns, kinds, strict=True))


def _select_reference(found: Clusters, leaf: bool, limit: float, single: bool, most: int) -> tuple[Tensor, Tensor]:
    above, birth, _, stability, sizes = (x.tolist() for x in found)
    kids: list[list[int]] = [[c for c, p in enumerate(above) if p == q] for q in range(len(above))]
    credit, picked = list(stability), {c for c in range(1, len(above)) if leaf and not kids[c]}
    for c in reversed(range(0 if single else 1, 0 if leaf else len(above))):
        held = sum(sorted(credit[k] for k in kids[c]))
        if held > stability[c] or (sizes[c] if c else sum(sizes[k] for k in kids[c])) > most:
            credit[c] = held
        else:
            picked.add(c)
    lines = {c: _line(above, c) for c in picked}
    picked = {c for c in picked if not picked & set(lines[c][1:])}
    if 0 not in picked:
        tops = {c: [x for x in lines[c] if x or single] for c in picked}
        picked = {next((x for x in tops[c] if birth[x] <= limit), tops[c][-1]) for c in picked}
    chosen = torch.tensor([c in picked for c in range(len(above))], device=found.above.device)
    return chosen, torch.tensor(credit, dtype=torch.float64, device=found.above.device)


def _line(above: list[int], c: int) -> list[int]:
    """A cluster and its ancestors, up to the root."""
    line = [c]
    while line[-1]:
        line.append(above[line[-1]])
    return line


def _labels_reference(tree: Condensed, found: Clusters, chosen: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    n, above, death, picked = _points(tree), found.above.tolist(), found.death.tolist(), chosen.tolist()
    owner, strength = [-1] * n, [0.0] * n
    for p, i, at in zip(tree.parent.tolist(), tree.child.tolist(), tree.lambdas.tolist(), strict=True):
        if i < n and at >= floor:
            for c in _line(above, p - n):
                if picked[c]:
                    owner[i], strength[i] = c, min(at, death[c]) / death[c]
    device = chosen.device
    return torch.tensor(owner, device=device), torch.tensor(strength, dtype=torch.float64, device=device)


def _outliers_reference(tree: Condensed, found: Clusters) -> Tensor:
    n, above, reach = _points(tree), found.above.tolist(), found.death.tolist()
    for c in reversed(range(1, len(above))):
        reach[above[c]] = max(reach[above[c]], reach[c])
    scores = [0.0] * n
    for p, i, at in zip(tree.parent.tolist(), tree.child.tolist(), tree.lambdas.tolist(), strict=True):
        if i < n:
            scores[i] = (reach[p - n] - at) / reach[p - n]
    return torch.tensor(scores, dtype=torch.float64, device=tree.parent.device)


# --- cpu: numba, `_numba.extraction` --------------------------------------------------------------------


def _loops() -> Any:
    from polykern_kernels._numba import extraction as loops

    return loops


def _clusters_cpu(parent: Tensor, child: Tensor, lambdas: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
    if not len(parent):
        return _clusters_reference(parent, child, lambdas, sizes)
    count = int((child >= parent[0]).sum()) + 1
    above, members = np.empty(count, np.int64), np.empty(count, np.int64)
    birth, death, stability = np.empty(count), np.empty(count), np.empty(count)
    _loops().clusters(*_arrays(parent, child, lambdas, sizes), above, birth, death, stability, members)
    return tuple(map(torch.from_numpy, (above, birth, death, stability, members)))


def _select_cpu(found: Clusters, leaf: bool, limit: float, single: bool, most: int) -> tuple[Tensor, Tensor]:
    above, birth, _, stability, sizes = _arrays(*found)
    chosen, credit = np.zeros(len(above), np.bool_), stability.copy()
    if leaf:
        _loops().leaves(above, chosen)
    else:
        _loops().excess_of_mass(above, stability, sizes, single, most, chosen, credit)
    if not chosen[0]:
        _loops().lift(above, birth, single, limit, chosen)
    return torch.from_numpy(chosen), torch.from_numpy(credit)


def _labels_cpu(tree: Condensed, found: Clusters, chosen: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    n = _points(tree)
    owner, strength = np.full(n, -1), np.zeros(n)
    if len(tree.parent):
        given = _arrays(tree.parent, tree.child, tree.lambdas, found.above, found.death, chosen)
        _loops().label(*given, floor, owner, strength)
    return torch.from_numpy(owner), torch.from_numpy(strength)


def _outliers_cpu(tree: Condensed, found: Clusters) -> Tensor:
    scores = np.zeros(_points(tree))
    if len(tree.parent):
        _loops().outliers(*_arrays(tree.parent, tree.child, tree.lambdas, found.above, found.death), scores)
    return torch.from_numpy(scores)


def _arrays(*tensors: Tensor) -> list[Any]:
    return [x.contiguous().numpy() for x in tensors]


IMPLS = {
    name: (Impl("cpu", cpu, cpu_objection), Impl("reference", reference, lambda *args: None))
    for name, cpu, reference in (
        ("clusters", _clusters_cpu, _clusters_reference),
        ("select", _select_cpu, _select_reference),
        ("labels", _labels_cpu, _labels_reference),
        ("outliers", _outliers_cpu, _outliers_reference),
    )
}
