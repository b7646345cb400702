"""How far each cluster is of one class.

    purity(c)  = share of its rows that have its commonest class
    entropy(c) = - sum over classes of p log2 p, p = share of its rows that have the class; bits

1 and 0 for a cluster of one class. Classes are what somebody else says of the rows: the token, the class of the
image, any list. Purity of Manning, Raghavan, Schuetze 2008, "Introduction to Information Retrieval", section 16.3,
cluster by cluster.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.scores.tables import Integers, labelling, numbered, sizes, table

PURE = 0.9  # a cluster of at least this purity counts as pure


@dataclass(frozen=True)
class Purity:
    """The classes of every cluster.

    size      int64 (c)     rows
    purity    float64 (c)   0 ... 1; nan for a label that no row has
    entropy   float64 (c)   bits; nan for a label that no row has
    majority  (c)           the commonest class, of equal ones the smallest
    noise     share of all rows that are in no cluster
    """

    size: Integers
    purity: NDArray[np.float64]
    entropy: NDArray[np.float64]
    majority: NDArray[Any]
    noise: float

    @property
    def clusters(self) -> int:
        """Clusters that have rows."""
        return int((self.size > 0).sum())

    def summary(self, pure: float = PURE) -> dict[str, float]:
        """The whole in five numbers; nan where there are no clusters.

        pure     purity from which a cluster counts as pure
        returns  mean_purity      mean over clusters
                 weighted_purity  mean over the rows of clusters
                 pure_clusters    share of clusters that are pure
                 mean_entropy     mean over clusters, bits
                 noise            share of all rows
        """
        return {**_summary(self.size, self.purity, self.entropy, pure), "noise": self.noise}

    def as_dict(self) -> dict[str, Any]:
        """Lists and numbers, for JSON; nan is None."""
        reals = {k: [None if np.isnan(v) else v for v in getattr(self, k).tolist()] for k in ("purity", "entropy")}
        whole = {k: None if np.isnan(v) else v for k, v in self.summary().items()}
        return {"size": self.size.tolist(), **reals, "majority": self.majority.tolist(), "summary": whole}


def of_clusters(labels: ArrayLike, classes: ArrayLike) -> Purity:
    """The purity of every cluster.

    labels   int (n)   -1 is noise
    classes  (n)       integers or strings

    Exact counts. O(n log n) for any numbers of clusters and classes. Errors: UsageError for arrays that do not fit.
    """
    mine = labelling(labels)
    number, names = numbered(classes, len(mine))
    size, purity, entropy, majority = by_number(mine, number)
    noise = float((mine < 0).mean()) if len(mine) else 0.0
    return Purity(size, purity, entropy, names[majority] if len(names) else names, noise)


def by_number(
    labels: Integers, number: Integers
) -> tuple[Integers, NDArray[np.float64], NDArray[np.float64], Integers]:
    """Size, purity, entropy and number of the commonest class of every cluster; labels and numbers int64 (n)."""
    inside = labels >= 0
    cells = table(labels[inside], number[inside])
    size = sizes(labels)
    best, majority = np.zeros(len(size), np.int64), np.zeros(len(size), np.int64)
    np.maximum.at(best, cells.first, cells.count)
    top = np.flatnonzero(cells.count == best[cells.first])[::-1]  # the smallest class is written last
    majority[cells.first[top]] = cells.second[top]
    share = cells.count / size[cells.first]
    entropy = np.zeros(len(size))
    np.add.at(entropy, cells.first, -share * np.log2(share))
    with np.errstate(invalid="ignore"):
        return size, best / size, np.where(size > 0, entropy + 0.0, np.nan), majority


def _summary(
    size: Integers, purity: NDArray[np.float64], entropy: NDArray[np.float64], pure: float
) -> dict[str, float]:
    held = size > 0
    if not held.any():
        return dict.fromkeys(("mean_purity", "weighted_purity", "pure_clusters", "mean_entropy"), float("nan"))
    rows, share = size[held], purity[held]
    return {
        "mean_purity": float(share.mean()),
        "weighted_purity": float((share * rows).sum() / rows.sum()),
        "pure_clusters": float((share >= pure).mean()),
        "mean_entropy": float(entropy[held].mean()),
    }
