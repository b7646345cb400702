"""From a spanning tree to the tree of clusters: thin wrappers with names, and hdbscan's array as a view.

Every minimum spanning tree of the same distances gives the same dendrogram when all edges of one weight are merged
at once (`tie_order="multiway"`). That makes labels independent of the order of rows: distances of codes are small
integers, and most edges are tied. `tie_order="hdbscan"` merges one edge after the other in stable order.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import UsageError
from polykern_kernels import extraction, hierarchy

TIE_ORDERS = ("multiway", "hdbscan")
ROW = np.dtype([("parent", np.intp), ("child", np.intp), ("lambda_val", np.float64), ("child_size", np.intp)])


class Edges(Protocol):
    """A tree of n points: `polykern.clustering.spanning.SpanningTree`, or anything that has its edges."""

    @property
    def source(self) -> Tensor:
        """int64 (n - 1)."""
        ...

    @property
    def target(self) -> Tensor:
        """int64 (n - 1)."""
        ...

    @property
    def weight(self) -> Tensor:
        """int32|float64 (n - 1)."""
        ...


@dataclass(frozen=True, eq=False)
class Condensed:
    """The condensed tree of n points: what stays of a dendrogram when small parts only leave, never split.

    n         points; points are 0 ... n - 1, clusters n (the root), n + 1, ...
    rows      parent, child, lambdas, sizes (r): see `polykern_kernels.hierarchy.Condensed`
    clusters  above, birth, death, stability, sizes (c): see `polykern_kernels.extraction.Clusters`
    """

    n: int
    rows: hierarchy.Condensed
    clusters: extraction.Clusters

    def to_numpy(self) -> NDArray[Any]:
        """(r) with fields parent, child, lambda_val, child_size, as hdbscan has them."""
        out = np.empty(len(self.rows.parent), ROW)
        for name, column in zip(ROW.names or (), self.rows, strict=True):
            out[name] = column.numpy()
        return out

    @cached_property
    def outlier_scores(self) -> NDArray[np.float64]:
        """float64 (n): GLOSH, how much sparser a point's place is than the densest of the cluster it leaves.

        0 is an inlier, 1 the most an outlier can have. Campello, Moulavi, Zimek, Sander 2015.
        """
        return extraction.outliers(self.rows, self.clusters).numpy()


def dendrogram(tree: Edges, *, tie_order: str = "multiway", backend: str | None = None) -> hierarchy.Dendrogram:
    """The single linkage dendrogram of a spanning tree.

    tree       weights finite and >= 0; edges in any order
    tie_order  "multiway": all edges of one weight at once.  "hdbscan": one after the other, in stable order
    backend    "cpu" | "reference"

    Exact. Raises UsageError for another tie_order and for edges that are no spanning tree.
    """
    known("tie_order", tie_order, TIE_ORDERS)
    ends = (tree.source.cpu(), tree.target.cpu(), tree.weight.cpu().double())
    try:
        return hierarchy.dendrogram(*ends, multiway=tie_order == "multiway", backend=backend)
    except ValueError as error:
        raise UsageError(str(error)) from None


def condense(
    tree: hierarchy.Dendrogram, min_cluster_size: int, *, zero: float = 0.0, backend: str | None = None
) -> Condensed:
    """The condensed tree with its clusters.

    tree              of `dendrogram`
    min_cluster_size  2 ... n; a smaller part of a cluster is points that leave it
    zero              the distance that 0 stands for where 1 / distance is wanted, `Space.zero`; 0.0: half of the
                      least positive weight
    backend           "cpu" | "reference"

    Raises UsageError when min_cluster_size or zero does not fit.
    """
    n = len(tree.children) - len(tree.heights) + 1
    try:
        rows = hierarchy.condense(tree, min_cluster_size, zero=zero, backend=backend)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return Condensed(n, rows, extraction.clusters(rows, backend=backend))


def spanning_edges(source: Any, target: Any, weight: Any) -> Edges:
    """Edges given as arrays or tensors, for `dendrogram`."""
    return _Given(
        *(
            torch.as_tensor(np.asarray(x), dtype=kind)
            for x, kind in zip((source, target, weight), (torch.int64, torch.int64, torch.float64), strict=True)
        )
    )


@dataclass(frozen=True, eq=False)
class _Given:
    source: Tensor
    target: Tensor
    weight: Tensor


def known(name: str, value: object, values: tuple[str, ...]) -> None:
    """Raise UsageError with the nearest names when a value is none of those that exist."""
    if value not in values:
        near = get_close_matches(str(value), values, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"no {name} {value!r}", fix=f"{hint}it is one of {', '.join(values)}")
