"""Which clusters are near each other: the distances of their medoids, in the metric of the clustering."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.clustering.euclidean import normalised
from polykern.report.clusters.source import Source
from polykern_kernels import neighbours

SHOWN = 8  # neighbours of a cluster
BLOCK = 1 << 24  # distances held at a time


def nearest(source: Source, backend: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The nearest medoids of every medoid.

    source   a clustering of c clusters
    backend  of the kernel; None takes the first that can run
    returns  float64 (c, k) distances, int64 (c, k) clusters, nearest first, the smaller number first among equals;
             k = min(8, c - 1)

    Exact for codes; activations are compared in float64, for "cosine" divided by their norms first.
    """
    medoids = np.asarray(source.clusters.members["medoid"])
    k = min(SHOWN, len(medoids) - 1)
    if k < 1:
        return np.zeros((len(medoids), 0)), np.zeros((len(medoids), 0), np.int64)
    if source.activations is not None:
        points = source.store.activations(source.activations, medoids).flatten(1).float()
        return _euclidean(normalised(points) if source.metric == "cosine" else points, k)
    words = source.words(medoids)
    found = neighbours.self_nearest(words, k, metric=source.metric, backend=backend)
    return found[0].double().numpy(), found[1].numpy()


def _euclidean(points: Tensor, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    points = points.double()
    every, step = torch.arange(len(points)), max(1, BLOCK // len(points))
    distances, indices = [], []
    for at in range(0, len(points), step):
        block = points[at : at + step]
        apart = torch.cdist(block, points, compute_mode="donot_use_mm_for_euclid_dist")
        apart[torch.arange(len(block)), every[at : at + step]] = torch.inf
        order = apart.sort(dim=1, stable=True).indices[:, :k]
        distances.append(apart.gather(1, order))
        indices.append(order)
    return torch.cat(distances).numpy(), torch.cat(indices).numpy()
