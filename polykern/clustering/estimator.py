"""HDBSCAN as a scikit-learn estimator: exact, of packed codes by Hamming or Jaccard, or of real vectors.

    from polykern import HDBSCAN
    labels = HDBSCAN(min_cluster_size=15).fit_predict(codes)

Names and meanings are those of the package hdbscan. Differences: distances of codes are counts of bits; labels do
not depend on the order of rows (`tie_order="multiway"`) and are numbered by falling size; a distance of 0 counts as
half a bit (else as half of the least positive weight), so that nothing is infinite. min_samples counts other rows,
as hdbscan, fast_hdbscan and cuML do; scikit-learn counts the row itself: its min_samples is ours + 1.

Campello, Moulavi, Sander 2013, "Density-based clustering based on hierarchical density estimates"; Black et al.
2022, "Interpreting Neural Networks through the Polytope Lens", for codes of polytopes.
"""

import copy
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from polykern.clustering import inputs
from polykern.clustering.dendrogram import TIE_ORDERS, condense, dendrogram, known
from polykern.clustering.exports import CondensedTree, MinimumSpanningTree, SingleLinkageTree
from polykern.clustering.reachability import METRICS, Reachability, reachabilities
from polykern.clustering.selection import METHODS, select
from polykern.clustering.space import REAL
from polykern.errors import UsageError
from polykern.progress import Progress
from polykern.ranks import Ranks, ranks

PROCESSES = ("all", "one")


class HDBSCAN(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Exact hierarchical density-based clusters.

    min_cluster_size           2 ... n - 1; a smaller part of a cluster is points that leave it
    min_samples                1 ... n - 1 other rows; None: min_cluster_size
    metric                     "hamming" (bits that differ), "jaccard" (of the bits set in either, the share that
                               differs): X is codes, bits or packed words.  "euclidean", "cosine" (the chord between
                               directions): X is real vectors
    cluster_selection_method   "eom" (excess of mass) | "leaf"
    cluster_selection_epsilon  a distance: clusters born below it are not told apart; 0.0: none
    allow_single_cluster       all rows may be one cluster; "eom" only
    max_cluster_size           largest cluster that "eom" takes where it may; 0: any
    tie_order                  "multiway": all edges of one weight at once.  "hdbscan": one after the other
    backend                    of the kernels, "triton" | "cpu" | "reference"; None takes the first that can run.
                               "cuml" takes cuML's spanning tree, which is not exact (`polykern.clustering._cuml`)
    processes                  "all" of torchrun or srun, each given all of X, divide the search and get the same
                               result.  "one": this process alone, whatever the others do
    progress                   called with (stage, done, total)

    Fitted:
    labels_                 int64 (n)     -1 for noise; clusters by falling size, then by smallest row
    probabilities_          float64 (n)   how firmly a row belongs to its cluster, 0 for noise
    outlier_scores_         float64 (n)   GLOSH, 0 ... 1
    cluster_persistence_    float64 (k)   0 ... 1
    core_distances_         float64 (n)   distance to the min_samples-th nearest other row
    condensed_tree_, single_linkage_tree_, minimum_spanning_tree_   with `to_numpy`, `to_pandas`, and `hdbscan` for
                            the plotting classes of that package
    n_features_in_          columns of X, or bits of the codes

    What X may be is in `polykern.clustering.inputs`. The same X gives the same result on every machine and with any
    number of threads. Raises UsageError, which is a ValueError, when a parameter or X does not fit.
    """

    labels_: NDArray[np.int64]
    probabilities_: NDArray[np.float64]
    outlier_scores_: NDArray[np.float64]
    cluster_persistence_: NDArray[np.float64]
    core_distances_: NDArray[np.float64]
    condensed_tree_: CondensedTree
    single_linkage_tree_: SingleLinkageTree
    minimum_spanning_tree_: MinimumSpanningTree
    n_features_in_: int

    def __init__(
        self,
        min_cluster_size: int = 5,
        min_samples: int | None = None,
        *,
        metric: str = "hamming",
        cluster_selection_method: str = "eom",
        cluster_selection_epsilon: float = 0.0,
        allow_single_cluster: bool = False,
        max_cluster_size: int = 0,
        tie_order: str = "multiway",
        backend: str | None = None,
        processes: str = "all",
        progress: Progress | None = None,
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.metric = metric
        self.cluster_selection_method = cluster_selection_method
        self.cluster_selection_epsilon = cluster_selection_epsilon
        self.allow_single_cluster = allow_single_cluster
        self.max_cluster_size = max_cluster_size
        self.tie_order = tie_order
        self.backend = backend
        self.processes = processes
        self.progress = progress

    def fit(self, X: Any, y: object = None) -> Self:
        """Cluster the rows of X; y is not looked at."""
        samples = self._samples()
        return self._read(self._reach(X, [samples])[samples], samples)

    def fit_predict(self, X: Any, y: object = None, **kwargs: Any) -> NDArray[np.int64]:
        """`labels_` of the rows of X, int64 (n)."""
        return self.fit(X).labels_

    def sweep(self, X: Any, min_samples: Sequence[int]) -> dict[int, Self]:
        """Fitted estimators for several min_samples, for little more than the price of the greatest.

        Exact for each of them: distances are found once (CORE-SG: Neto, Naldi, Campello, Sander 2022). This
        estimator itself is not fitted.
        """
        if not len(min_samples):
            raise UsageError("a sweep needs at least one min_samples")
        each = {k: copy.copy(self).set_params(min_samples=k) for k in dict.fromkeys(min_samples)}
        for other in each.values():
            other._samples()
        first = next(iter(each.values()))
        found = first._reach(X, list(each))
        for k, other in each.items():
            vars(other).update({name: value for name, value in vars(first).items() if name.endswith("_in_")})
            other._read(found[k], k)
        return each

    def relabelled(
        self,
        *,
        min_cluster_size: int | None = None,
        cluster_selection_method: str | None = None,
        cluster_selection_epsilon: float | None = None,
        allow_single_cluster: bool | None = None,
        max_cluster_size: int | None = None,
        tie_order: str | None = None,
    ) -> Self:
        """Other clusters of the same rows: a fitted estimator that shares the distances and the tree of this one.

        What is not given stays. min_samples stays the number that this one was fitted with.
        """
        check_is_fitted(self)
        given = {
            "min_cluster_size": min_cluster_size, "cluster_selection_method": cluster_selection_method,
            "cluster_selection_epsilon": cluster_selection_epsilon, "allow_single_cluster": allow_single_cluster,
            "max_cluster_size": max_cluster_size, "tie_order": tie_order,
        }  # fmt: skip
        asked = {name: value for name, value in given.items() if value is not None}
        other: Self = copy.copy(self).set_params(min_samples=self._min_samples, **asked)
        other._samples()
        other._require_below(len(self.labels_), self._min_samples)
        return other._read(self._tree, self._min_samples)

    def _samples(self) -> int:
        """min_samples as a number, once all parameters fit."""
        known("metric", self.metric, METRICS)
        known("cluster_selection_method", self.cluster_selection_method, METHODS)
        known("tie_order", self.tie_order, TIE_ORDERS)
        known("processes", self.processes, PROCESSES)
        samples = self.min_cluster_size if self.min_samples is None else self.min_samples
        for name, value, least in (
            ("min_cluster_size", self.min_cluster_size, 2),
            ("min_samples", samples, 1),
            ("max_cluster_size", self.max_cluster_size, 0),
        ):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise UsageError(f"{name} must be a whole number >= {least}, got {value!r}")
        epsilon = self.cluster_selection_epsilon
        if not isinstance(epsilon, Real) or not 0 <= epsilon < np.inf:
            raise UsageError(f"cluster_selection_epsilon must be a distance >= 0, got {epsilon!r}")
        return int(samples)

    def _reach(self, X: Any, samples: list[int]) -> dict[int, Reachability]:
        rows = self._rows(X)
        self._require_below(len(rows), max(samples))
        at = ranks() if self.processes == "all" else Ranks()
        found = reachabilities(rows, self.metric, samples, backend=self.backend, progress=self.progress, at=at)
        if found[samples[0]].distinct == 1 and not self.allow_single_cluster:
            warnings.warn(
                f"all {len(rows)} rows are equal: one group, which is noise unless allow_single_cluster=True",
                UserWarning,
                stacklevel=3,
            )
        return found

    def _require_below(self, rows: int, samples: int) -> None:
        for name, value in (("min_cluster_size", self.min_cluster_size), ("min_samples", samples)):
            if value >= rows:
                raise UsageError(f"{name} {value} of {rows} rows", fix=f"take {name} below {rows}")

    def _rows(self, X: Any) -> Tensor:
        """X as rows; sets n_features_in_, and feature_names_in_ where X has names."""
        if inputs.is_codes(X):
            rows, self.n_features_in_ = inputs.rows_of_codes(X, self.metric)
            return rows
        if isinstance(X, torch.Tensor):
            if X.device.type != "cpu":
                rows = inputs.rows_of_tensor(X, self.metric)
                self.n_features_in_ = rows.shape[1]
                return rows
            X = (X.float() if X.dtype in (torch.float16, torch.bfloat16) else X).detach().numpy()
        kind = [np.float64, np.float32] if self.metric in REAL else None
        try:
            checked: Any = validate_data(self, X, dtype=kind, ensure_min_samples=2)
        except ValueError as error:
            raise UsageError(str(error).splitlines()[0]) from error
        return inputs.rows_of_array(checked, self.metric)

    def _read(self, found: Reachability, samples: int) -> Self:
        """Set everything that is read from a spanning tree."""
        self._tree, self._min_samples = found, samples
        tree = dendrogram(found.tree, tie_order=self.tie_order)
        condensed = condense(tree, self.min_cluster_size, zero=found.zero)
        flat = select(
            condensed,
            method=self.cluster_selection_method,
            cluster_selection_epsilon=self.cluster_selection_epsilon,
            allow_single_cluster=self.allow_single_cluster,
            max_cluster_size=self.max_cluster_size,
        )
        self.labels_, self.probabilities_ = flat.labels, flat.probabilities
        self.cluster_persistence_ = flat.persistence
        self.outlier_scores_ = condensed.outlier_scores
        self.core_distances_ = found.cores.double().numpy()
        self.condensed_tree_ = CondensedTree(condensed, flat.labels)
        self.single_linkage_tree_ = SingleLinkageTree(tree)
        self.minimum_spanning_tree_ = MinimumSpanningTree.of(found.tree, found.zero)
        return self
