"""Rows to the minimum spanning tree of mutual reachability: duplicates united, neighbours, core distances, tree.

    reach(i, j) = max(core(i), core(j), distance(i, j))

min_samples counts other rows, as hdbscan and cuML do; scikit-learn counts the row itself too, its min_samples is one
more. Campello, Moulavi, Sander 2013, "Density-based clustering based on hierarchical density estimates".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polykern.clustering.cores import core_distances
from polykern.clustering.duplicates import Distinct, distinct_rows
from polykern.clustering.space import METRICS as PACKED
from polykern.clustering.space import Packed, Progress, Space
from polykern.clustering.spanning import SpanningTree, minimum_spanning_tree, sub_tree

METRICS = (*PACKED, "euclidean")


@dataclass(frozen=True, eq=False)
class Reachability:
    """What the clusters of n rows are read from.

    tree      minimum spanning tree of mutual reachability, all rows
    cores     int32|float64 (n)   core distances
    zero      the distance that 0 stands for; 0.0: half of the least positive weight of the tree
    distinct  rows that differ
    """

    tree: SpanningTree
    cores: Tensor
    zero: float
    distinct: int


def reachability(
    rows: Tensor, metric: str, min_samples: int, *, backend: str | None = None, progress: Progress | None = None
) -> Reachability:
    """The mutual reachability of rows.

    rows         int32 (n, words) packed codes for "hamming" and "jaccard"; float32|float64 (n, units) for "euclidean"
    metric       "hamming" | "jaccard" | "euclidean"
    min_samples  1 ... n - 1
    backend      of the kernels; None takes the first that can run
    progress     called with (stage, done, total)

    Exact: the sum of the weights is the least there is. Raises UsageError when min_samples is out of range.
    """
    return reachabilities(rows, metric, [min_samples], backend=backend, progress=progress)[min_samples]


def reachabilities(
    rows: Tensor,
    metric: str,
    min_samples: Sequence[int],
    *,
    backend: str | None = None,
    progress: Progress | None = None,
) -> dict[int, Reachability]:
    """The mutual reachability for several min_samples, from the distances of the greatest; else as `reachability`.

    Exact for every one of them (CORE-SG: Neto, Naldi, Campello, Sander 2022).
    """
    groups = distinct_rows(rows)
    space = space_of(rows[groups.first], metric, backend=backend)
    most, fewer = max(min_samples), sorted(set(min_samples) - {max(min_samples)}, reverse=True)
    distances, indices = space.nearest(min(most, space.n - 1), progress)
    cores = {k: core_distances(distances, indices, groups.counts, k) for k in (most, *fewer)}
    tree = minimum_spanning_tree(space, distances, indices, cores[most], progress)
    trees = {most: tree}
    for k in fewer:
        trees[k] = sub_tree(space, distances, indices, tree, cores[k])
    return {k: _of_all_rows(trees[k], cores[k], groups, space) for k in trees}


def space_of(points: Tensor, metric: str, *, backend: str | None = None) -> Space:
    """Distinct points with their metric: packed codes int32 (d, words), or float32|float64 (d, units)."""
    if metric == "euclidean":
        from polykern.clustering.euclidean import Euclidean

        return Euclidean(points)
    return Packed(points, metric, backend=backend)


def _of_all_rows(tree: SpanningTree, cores: Tensor, groups: Distinct, space: Space) -> Reachability:
    return Reachability(tree.expanded(groups, cores), cores[groups.inverse].cpu(), space.zero, len(groups.first))
