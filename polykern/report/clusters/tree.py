"""The condensed tree as columns a page can draw: a node for every branch that ever had enough rows.

A node lives from the distance at which its rows come together with others (its birth) down to the distance at which
it splits or its last rows leave (its death); distance is 1 / lambda. Campello, Moulavi, Sander 2013.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from polykern.clustering.result import Clusters
from polykern.report.clusters.parts import Columns
from polykern.report.clusters.source import PIECE

Ids = NDArray[np.int64]


def columns(clusters: Clusters) -> Columns:
    """The nodes of the condensed tree, root first.

    clusters  n rows, c clusters
    returns   parent int32 (m), -1 for the root; birth, death float32 (m) distances, the root's birth being the
              largest distance at which anything leaves it; size int32 (m) at birth, left int32 (m) just above its
              death; label int32 (m), the cluster that a node is, else -1
    """
    n, trees = len(clusters), clusters.trees
    nodes = _count(trees["condensed_parent"], n)
    parent, birth = np.full(nodes, -1, np.int64), np.zeros(nodes)
    size, left = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    size[0] = n
    last, first = np.zeros(nodes), np.inf
    for above, child, rate, many in _pieces(clusters):
        np.maximum.at(last, above, rate)
        inner = child >= 0
        parent[child[inner]], birth[child[inner]], size[child[inner]] = above[inner], rate[inner], many[inner]
        of_root = rate[(above == 0) & (rate > 0)]
        first = min(first, float(of_root.min(initial=np.inf)))
    for above, _, rate, many in _pieces(clusters):
        ends = rate == last[above]
        np.add.at(left, above[ends], many[ends])
    label = np.full(nodes, -1, np.int64)
    label[clusters.trees["selected"] - n] = np.arange(clusters.count)
    birth[0] = first if np.isfinite(first) else 0.0
    away = [_distance(lifted) for lifted in (birth, last)]
    return {"parent": parent, "birth": away[0], "death": away[1], "size": size, "left": left, "label": label}


def _pieces(clusters: Clusters) -> Iterator[tuple[Ids, Ids, NDArray[np.float64], Ids]]:
    """Rows of the condensed tree: parent, child (-1 for a row of the store), lambda, size; nodes from 0."""
    n, trees = len(clusters), clusters.trees
    names = ("condensed_parent", "condensed_child", "condensed_lambda", "condensed_size")
    for at in range(0, len(trees[names[0]]), PIECE):
        above, child, rate, many = (trees[name][at : at + PIECE] for name in names)
        yield above - n, np.where(child >= n, child - n, -1), _finite(rate), many


def _count(parents: Ids, n: int) -> int:
    return max((int(parents[at : at + PIECE].max()) for at in range(0, len(parents), PIECE)), default=n) - n + 1


def _finite(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(rate, np.finfo(np.float32).max)


def _distance(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / lambda; 0 where nothing ever left."""
    return np.divide(1.0, rate, out=np.zeros_like(rate), where=rate > 0)
