"""Flat clusterings of a condensed tree: which clusters, whose points, how firmly."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.clustering.dendrogram import Condensed, known
from polykern.errors import UsageError
from polykern_kernels import extraction

METHODS = ("eom", "leaf")


@dataclass(frozen=True, eq=False)
class Selection:
    """A flat clustering of n points into k clusters, numbered by falling size, then by smallest row.

    labels         int64 (n)     -1 for noise
    probabilities  float64 (n)   how firmly a point belongs: 1 in the core of its cluster, 0 for noise
    persistence    float64 (k)   stability of a cluster, as a share of the greatest it could have; 0 ... 1
    selected       int64 (k)     the node of the condensed tree that is cluster 0 ... k - 1
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    persistence: NDArray[np.float64]
    selected: NDArray[np.int64]


def select(
    tree: Condensed,
    *,
    method: str = "eom",
    cluster_selection_epsilon: float = 0.0,
    allow_single_cluster: bool = False,
    max_cluster_size: int = 0,
    backend: str | None = None,
) -> Selection:
    """The clusters of a condensed tree.

    method                     "eom": those of greatest stability in sum (excess of mass).  "leaf": the leaves
    cluster_selection_epsilon  a distance: a cluster born below it is not told from its siblings, and their nearest
                               ancestor born at it or above is taken (Malzer, Baum 2020); 0: none
    allow_single_cluster       the whole may be one cluster; "eom" only
    max_cluster_size           largest cluster that "eom" takes where it may, 0 for any
    backend                    "cpu" | "reference"

    Equal to hdbscan where no distances are tied and none equals epsilon. Of two clusterings of equal stability the
    coarser is taken. Raises UsageError for another method and for negative numbers.
    """
    known("cluster_selection_method", method, METHODS)
    if not (np.isfinite(cluster_selection_epsilon) and cluster_selection_epsilon >= 0):
        raise UsageError(f"cluster_selection_epsilon must be >= 0, got {cluster_selection_epsilon}")
    if max_cluster_size < 0:
        raise UsageError(f"max_cluster_size must be >= 0, got {max_cluster_size}", fix="0 is for any size")
    asked: dict[str, Any] = {"epsilon": float(cluster_selection_epsilon), "backend": backend}
    chosen, credit = extraction.select(
        tree.clusters, leaf=method == "leaf", single=allow_single_cluster, most=max_cluster_size, **asked
    )
    labels, probabilities, nodes = extraction.labels(tree.rows, tree.clusters, chosen, **asked)
    size = torch.bincount(labels[labels >= 0], minlength=len(nodes))
    greatest = float(tree.rows.lambdas.max()) if len(tree.rows.lambdas) else 1.0
    persistence = credit[nodes] / (size * greatest)
    return Selection(labels.numpy(), probabilities.numpy(), persistence.numpy(), tree.n + nodes.numpy())
