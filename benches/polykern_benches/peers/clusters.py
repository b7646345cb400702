"""HDBSCAN of codes: `run(words, size)` gives labels int64 (n), -1 for noise; size is both parameters of it.

Every peer counts min_samples without the row itself here: scikit-learn, which counts it, is given one more.
fast_hdbscan builds its tree on approximate neighbours and cuML on a graph of neighbours; neither tree is exact.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polykern_benches.peers._wanted import octets, on_cpu, on_cuda
from polykern_kernels import hamming, pack
from polykern_kernels._dispatch import Impl

Labels = NDArray[np.int64]


def distances(words: Tensor) -> NDArray[np.float64]:
    """All distances, which some peers want to be given."""
    found = np.empty((len(words), len(words)))
    for first in range(0, len(words), 512):
        found[first : first + 512] = hamming.pairwise(words[first : first + 512], words).numpy()
    return found


def _hdbscan(words: Tensor, size: int) -> Labels:
    import hdbscan

    return _labels(hdbscan.HDBSCAN(min_cluster_size=size, metric="precomputed").fit(distances(words)))


def _scikit_learn(words: Tensor, size: int) -> Labels:
    from sklearn.cluster import HDBSCAN

    settings: dict[str, Any] = {"min_samples": size + 1, "metric": "precomputed", "copy": False}
    model = HDBSCAN(min_cluster_size=size, **settings)
    return _labels(model.fit(distances(words)))


def _fast_hdbscan(words: Tensor, size: int) -> Labels:
    import fast_hdbscan

    model = fast_hdbscan.HDBSCAN(min_cluster_size=size, metric="bit_hamming")
    return _labels(model.fit(np.asarray(octets(words))))


def _cuml(words: Tensor, size: int) -> Labels:
    """Of 0 and 1 as numbers: the root of the distance, so not the same hierarchy."""
    import cupy
    from cuml.cluster import HDBSCAN

    numbers = cupy.from_dlpack(pack.unpack(words, 32 * words.shape[1]).float().contiguous())
    return _labels(HDBSCAN(min_cluster_size=size, min_samples=size, output_type="numpy").fit(numbers))


def _labels(model: Any) -> Labels:
    return np.asarray(model.labels_, np.int64)


PEERS = (
    Impl("hdbscan", _hdbscan, on_cpu("hdbscan", "hdbscan==0.8.44")),
    Impl("scikit-learn", _scikit_learn, on_cpu("sklearn", "scikit-learn==1.9.1")),
    Impl("fast_hdbscan", _fast_hdbscan, on_cpu("fast_hdbscan", "fast_hdbscan==0.3.4")),
    Impl("cuml", _cuml, on_cuda("cuml", "cuml-cu13==26.10.*")),
)
