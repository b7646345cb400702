"""The features of a neuron: its examples in clusters by their embeddings, and numbers for its polysemanticity.

Embeddings are e = h * w, their distance 1 - cosine; a zero embedding is at distance 1 from everything. Clusters are
those of agglomerative clustering cut below a distance, which no merge reaches: average linkage, or single linkage,
which is the connected components of the graph of similarities above 1 - cut (the released variant).

    max_distance, mean_distance      over all pairs of examples
    intra_cluster_distance           mean over pairs in one cluster, nan where there are none
    inter_cluster_distance           mean over pairs in two, nan where there are none

Foote 2024, "Tackling Polysemanticity with Neuron Embeddings"; names of the metrics as released with it.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import CorruptError, UsageError

Linkage = Literal["average", "single"]
LINKAGES = ("average", "single")
CUT = 0.2
SWEEP = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
METRICS = ("max_distance", "mean_distance", "intra_cluster_distance", "inter_cluster_distance")


@dataclass(frozen=True, eq=False)
class Features:
    """The clusters of n neurons' examples.

    label    int32 (n, k)       cluster of each example, 0 the largest; -1 where there is none
    size     int64 (n)          examples of each neuron
    count    int64 (n)          clusters of each
    sweep    int64 (n, cuts)    clusters at every cut of SWEEP
    metrics  float64 (n, 4)     as in METRICS; nan where undefined
    central  int64 (c, 3)       of each cluster neuron, number, and the example most like the others on average
    members  int64 (c)          examples of each cluster
    """

    label: NDArray[np.int32]
    size: NDArray[np.int64]
    count: NDArray[np.int64]
    sweep: NDArray[np.int64]
    metrics: NDArray[np.float64]
    central: NDArray[np.int64]
    members: NDArray[np.int64]

    def ordered(self, cluster: int) -> list[int]:
        """The examples of a cluster: the central one, then the others, the strongest first."""
        neuron, number, central = self.central[cluster].tolist()
        inside = np.flatnonzero(self.label[neuron] == number).tolist()
        return [central, *(e for e in inside if e != central)]


KINDS = {f.name: {"label": np.int32, "metrics": np.float64}.get(f.name, np.int64) for f in fields(Features)}


def embed(received: Tensor, weight: Tensor) -> Tensor:
    """float32 (n, k, d): received (n, k, d) times weights (n, d), element by element."""
    return received * weight.to(received.device)[:, None]


def distances(embedded: Tensor) -> NDArray[np.float64]:
    """float64 (n, k, k): 1 - cosine of every pair of a neuron's embeddings; 1 where one is zero; diagonal 0.

    Computed where the embeddings are. Raises CorruptError where they hold NaN or infinity.
    """
    x = embedded.double()
    if not bool(x.isfinite().all()):
        raise CorruptError("embeddings hold NaN or infinity, which is at no distance", fix="check the activations")
    length = x.norm(dim=2, keepdim=True)
    unit = torch.where(length > 0, x / length.clamp_min(1e-300), 0.0)
    d = (1 - unit @ unit.transpose(1, 2)).clamp(0, 2)
    d.diagonal(dim1=1, dim2=2).zero_()
    return d.cpu().numpy()


def features(
    received: Tensor, weight: Tensor, kept: NDArray[np.int64], *, cut: float = CUT, linkage: Linkage = "average"
) -> Features:
    """The clusters of the examples of some neurons.

    received  float (n, k, d)   what each neuron received at its examples, the strongest first
    weight    float (n, d)      input weights
    kept      int64 (n)         how many of its k examples count
    cut       distance below which clusters merge
    linkage   "average" or "single"

    Labels equal those of scikit-learn's AgglomerativeClustering(metric="cosine", distance_threshold=cut) up to
    their numbers. Errors: UsageError for another linkage or a cut outside 0 .. 2.
    """
    if linkage not in LINKAGES:
        raise UsageError(f"no linkage {linkage!r}", fix=f"choose one of {', '.join(LINKAGES)}")
    if not 0 < cut <= 2:
        raise UsageError(f"distances lie in 0 .. 2, a cut of {cut:g} does not")
    n, k = received.shape[:2]
    every = distances(embed(received[:, : max(kept, default=0)], weight))
    label = np.full((n, k), -1, np.int32)
    count, sweep = np.zeros(n, np.int64), np.zeros((n, len(SWEEP)), np.int64)
    metrics = np.full((n, len(METRICS)), np.nan)
    central, members = [], []
    for j in range(n):
        m = int(kept[j])
        if not m:
            continue
        d = every[j, :m, :m]
        mine, sweep[j] = _labels(d, cut, linkage)
        label[j, :m], count[j], metrics[j] = mine, mine.max() + 1, measured(d, mine)
        together = mine[:, None] == mine
        near = np.where(together, 1 - d, 0).sum(1) / together.sum(1)
        for c in range(count[j]):
            inside = np.flatnonzero(mine == c)
            central.append((j, c, int(inside[near[inside].argmax()])))
            members.append(len(inside))
    return Features(
        label, np.asarray(kept, np.int64), count, sweep, metrics, np.array(central, np.int64).reshape(-1, 3),
        np.array(members, np.int64),
    )  # fmt: skip


def measured(d: NDArray[np.float64], label: NDArray[np.int32]) -> NDArray[np.float64]:
    """float64 (4): the METRICS of one neuron, from the distances (m, m) and clusters (m) of its examples."""
    first, second = np.triu_indices(len(d), 1)
    pairs = d[first, second]
    if not len(pairs):
        return np.array([0.0, 0.0, np.nan, np.nan])
    same = label[first] == label[second]
    intra = pairs[same].mean() if same.any() else np.nan
    inter = pairs[~same].mean() if (~same).any() else np.nan
    return np.array([pairs.max(), pairs.mean(), intra, inter])


def _labels(d: NDArray[np.float64], cut: float, linkage: Linkage) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Clusters at a cut, numbered by size and then by their strongest example; how many at every cut of SWEEP."""
    from scipy.cluster.hierarchy import fcluster
    from scipy.cluster.hierarchy import linkage as tree
    from scipy.spatial.distance import squareform

    if len(d) == 1:
        return np.zeros(1, np.int32), np.ones(len(SWEEP), np.int64)
    merges = tree(squareform(d, checks=False), method=linkage)
    counts = 1 + (merges[:, 2][:, None] >= np.array(SWEEP)).sum(0)
    raw = fcluster(merges, np.nextafter(cut, 0), "distance")
    _, first, inverse, size = np.unique(raw, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -size))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    return rank[inverse], counts
