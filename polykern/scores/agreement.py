"""Two clusterings of the same rows beside each other, and clusters that come again.

    Jaccard(A, B) = rows in both / rows in either

The adjusted Rand index and the adjusted mutual information are 1 for equal clusterings and about 0 for unrelated
ones (Hubert and Arabie 1985; Vinh, Epps, Bailey 2010). A cluster is stable when clusterings of other samples, seeds
or layers hold one like it: its mean best Jaccard over them (Hennig 2007, "Cluster-wise assessment of cluster
stability"). Noise is no cluster: it is matched with nothing, and the indices are given with and without it.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError
from polykern.scores.tables import Integers, Table, labelling, sizes, table

CELLS = 10**7  # clusters times clusters up to which the adjusted mutual information is computed


@dataclass(frozen=True)
class Indices:
    """Agreement of two labellings.

    rows  rows compared
    ari   adjusted Rand index
    ami   adjusted mutual information, arithmetic mean of the entropies; None where it would take too long
    """

    rows: int
    ari: float
    ami: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"rows": self.rows, "ari": self.ari, "ami": self.ami}


@dataclass(frozen=True)
class Matches:
    """Pairs of clusters, each the other's best by Jaccard; sorted by falling Jaccard, then by first.

    first    int64 (m)     cluster of the first clustering
    second   int64 (m)     cluster of the second
    both     int64 (m)     rows that are in both
    jaccard  float64 (m)
    """

    first: Integers
    second: Integers
    both: Integers
    jaccard: NDArray[np.float64]

    def as_dict(self) -> dict[str, list[Any]]:
        """Lists, for JSON."""
        return {name: getattr(self, name).tolist() for name in ("first", "second", "both", "jaccard")}


@dataclass(frozen=True)
class Agreement:
    """Two clusterings of the same rows.

    all_rows   indices with noise as one more cluster
    clustered  indices of the rows that are in a cluster of both
    matches    clusters that are each other's best
    cells      how often each pair of labels occurs, noise as -1
    """

    all_rows: Indices
    clustered: Indices
    matches: Matches
    cells: Table

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name).as_dict() for name in ("all_rows", "clustered", "matches", "cells")}


@dataclass(frozen=True)
class Stability:
    """How often the clusters of one clustering come again in others.

    size     int64 (c)            rows of each cluster
    jaccard  float64 (c, runs)    best Jaccard with a cluster of each run, on the rows that it shares; nan where the
             run has none of the cluster's rows
    mean     float64 (c)          over the runs that have some; nan where none has
    ari      float64 (runs)       adjusted Rand index on the shared rows, noise as one more cluster
    shared   int64 (runs)         rows each run shares
    """

    size: Integers
    jaccard: NDArray[np.float64]
    mean: NDArray[np.float64]
    ari: NDArray[np.float64]
    shared: Integers

    def as_dict(self) -> dict[str, Any]:
        """For JSON; nan is None."""
        lists = {name: _listed(getattr(self, name)) for name in ("jaccard", "mean", "ari")}
        return {"size": self.size.tolist(), **lists, "shared": self.shared.tolist()}


def compare(first: ArrayLike, second: ArrayLike) -> Agreement:
    """How two clusterings of the same rows agree.

    first, second  int (n)   labels, -1 is noise

    Exact; O(n log n), but the adjusted mutual information takes clusters x clusters and is left out above `CELLS`.
    Errors: UsageError for arrays that do not fit.
    """
    a = labelling(first)
    b = labelling(second, len(a))
    inside = (a >= 0) & (b >= 0)
    return Agreement(_indices(a, b), _indices(a[inside], b[inside]), matched(a, b), table(a, b))


def matched(first: Integers, second: Integers) -> Matches:
    """Clusters of two labellings int64 (n) that are each other's best by Jaccard; of equal ones the smaller."""
    cells, jaccard = _overlaps(first, second)
    order = np.lexsort((cells.second, -jaccard, cells.first))
    forth = _firsts(order, cells.first)
    order = np.lexsort((cells.first, -jaccard, cells.second))
    back = _firsts(order, cells.second)
    mutual = np.intersect1d(forth, back)
    mutual = mutual[np.lexsort((cells.first[mutual], -jaccard[mutual]))]
    return Matches(cells.first[mutual], cells.second[mutual], cells.count[mutual], jaccard[mutual])


def stability(labels: ArrayLike, runs: Iterable[tuple[ArrayLike, ArrayLike]]) -> Stability:
    """How often each cluster comes again.

    labels  int (n)   the clustering in question
    runs    pairs of (rows, labels), int (m) each: another clustering of some of the n rows, each named once; of a
            subsample, another seed, another order

    Exact; O(n log n) a run. A cluster's rows that a run does not have count for nothing. A stability below 0.5 is a
    cluster dissolved, 0.75 and more one that can be relied on (Hennig 2007). Errors: UsageError for rows that do
    not exist or come twice, and for no runs.
    """
    mine = labelling(labels)
    size = sizes(mine)
    columns, ari, shared = [], [], []
    for rows, other in runs:
        where = labelling(rows)
        theirs = labelling(other, len(where))
        if len(where) and (where.min() < 0 or where.max() >= len(mine) or len(np.unique(where)) < len(where)):
            raise UsageError(f"rows of a run must be different rows of {len(mine)}")
        here = mine[where]
        columns.append(_best(here, theirs, len(size)))
        ari.append(_indices(here, theirs, ami=False).ari)
        shared.append(len(where))
    if not columns:
        raise UsageError("stability needs another clustering")
    jaccard = np.stack(columns, 1)
    known = ~np.isnan(jaccard)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, jaccard, 0.0).sum(1) / known.sum(1)
    return Stability(size, jaccard, mean, np.array(ari), np.array(shared, np.int64))


def _indices(a: Integers, b: Integers, *, ami: bool = True) -> Indices:
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

    if not len(a):
        return Indices(0, 1.0, 1.0 if ami else None)
    small = len(np.unique(a)) * len(np.unique(b)) <= CELLS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that many clusters might be measurements
        mutual = float(adjusted_mutual_info_score(a, b)) if ami and small else None
        return Indices(len(a), float(adjusted_rand_score(a, b)), mutual)


def _overlaps(first: Integers, second: Integers) -> tuple[Table, NDArray[np.float64]]:
    """The cells of clusters, noise left out, and their Jaccard; noise still counts in the sizes."""
    inside = (first >= 0) & (second >= 0)
    cells = table(first[inside], second[inside])
    either = sizes(first)[cells.first] + sizes(second)[cells.second] - cells.count
    return cells, cells.count / either


def _firsts(order: NDArray[np.intp], key: Integers) -> NDArray[np.intp]:
    """The first place in an order of each value of its key."""
    ordered = key[order]
    return order[np.flatnonzero(np.diff(ordered, prepend=-1))]


def _best(mine: Integers, theirs: Integers, clusters: int) -> NDArray[np.float64]:
    cells, jaccard = _overlaps(mine, theirs)
    best = np.zeros(clusters)
    np.maximum.at(best, cells.first, jaccard)
    best[np.bincount(mine[mine >= 0], minlength=clusters) == 0] = np.nan
    return best


def _listed(values: NDArray[np.float64]) -> list[Any]:
    nested = values.astype(object)
    nested[np.isnan(values)] = None
    return list(nested.tolist())
