"""The door to cuML: its HDBSCAN on a GPU, of activations and, by name, of codes.

cuML clusters float32 rows by Euclidean distance, and that is all it can do: no other metric, no precomputed
distances, 1 <= min_samples <= 1023, every row and its rounded copy on the GPU. Its spanning tree is not exact: it
is the forest of a graph of min_samples + 1 neighbours with its components connected by nearest pairs, never looked
at again, and its weights are float32. Which of several equal edges it takes is not fixed by the order of rows. Of
its options only the brute-force search on the device is used: `build_algo="nn_descent"` is approximate, and
`knn_n_clusters` above 1 connects parts of the data by pairs drawn at random.

For 0/1 rows the squared Euclidean distance is the Hamming distance. A spanning tree is the same for both, clusters
by excess of mass are not, because they weigh 1 / distance. So of codes only cuML's tree is taken, its weights are
squared back, which is exact below 2**22 bits, and the clusters are selected from that tree as from any other.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.clustering.duplicates import distinct_rows
from polykern.clustering.reachability import Reachability
from polykern.clustering.spanning import SpanningTree
from polykern.codes import WORD
from polykern.errors import MismatchError, MissingExtra, ResourceError, UsageError
from polykern_kernels import pack

MOST_SAMPLES = 1023
MOST_BITS = 1 << 22  # of a distance whose float32 root still squares to it


@dataclass(frozen=True, eq=False)
class Fit:
    """What cuML found.

    tree           its spanning tree; weights float64 distances of rows, int32 bits of codes
    cores          core distances (n), of the same kind
    labels         int64 (n)     its own clusters, -1 for noise; None for codes, whose distances it took for roots
    probabilities  float64 (n)   its own; None for codes
    """

    tree: SpanningTree
    cores: Tensor
    labels: NDArray[np.int64] | None
    probabilities: NDArray[np.float64] | None


def fit_rows(
    x: Tensor,
    min_cluster_size: int,
    min_samples: int,
    *,
    cluster_selection_method: str = "eom",
    cluster_selection_epsilon: float = 0.0,
    allow_single_cluster: bool = False,
    max_cluster_size: int = 0,
) -> Fit:
    """cuML's HDBSCAN of activations.

    x                 float (n, d)   rounded to float32; n >= 2
    min_cluster_size  2 ... n
    min_samples       1 ... min(1023, n - 1); a row is not its own neighbour
    others            as in `pk.HDBSCAN`

    Not exact, and not the same for another order of rows: see above. `polykern.clustering.euclidean` is both.
    Raises MissingExtra without cuML, MismatchError when it is not the cuML that is known here, ResourceError when
    the GPU has not the memory, UsageError for arguments that do not fit.
    """
    if x.ndim != 2 or not x.is_floating_point():
        raise UsageError(f"rows must be float (n, d), got {x.dtype} {list(x.shape)}")
    model = _fitted(
        x.float(),
        min_cluster_size,
        min_samples,
        cluster_selection_method=cluster_selection_method,
        cluster_selection_epsilon=float(cluster_selection_epsilon),
        allow_single_cluster=allow_single_cluster,
        max_cluster_size=max_cluster_size,
    )
    source, target, weight, cores = _found(model, len(x))
    labels, probabilities = np.asarray(model.labels_), np.asarray(model.probabilities_)
    tree = SpanningTree(source, target, weight)
    return Fit(tree, cores, labels.astype(np.int64), probabilities.astype(np.float64))


def fit_codes(words: Tensor, bits: int, min_samples: int) -> Fit:
    """cuML's spanning tree of codes, in bits.

    words        int32 (n, words)   packed codes; unpacked they take 4 bytes a bit on the GPU, 32 times as much
    bits         bits of a code, at most 2**22
    min_samples  1 ... min(1023, n - 1)

    The weights are exact Hamming distances or core distances; that their sum is the least there is, is not said.
    Raises as `fit_rows`, and MismatchError when a weight is not the root of an integer.
    """
    if bits > MOST_BITS:
        raise UsageError(
            f"{bits} bits are too many for cuML", why="float32 roots of such distances do not square back"
        )
    model = _fitted(pack.unpack(words, bits).float(), 2, min_samples)
    source, target, weight, cores = _found(model, len(words))
    return Fit(SpanningTree(source, target, _squared(weight)), _squared(cores), None, None)


def reachability(rows: Tensor, metric: str, min_samples: int) -> Reachability:
    """cuML's spanning tree of rows as what clusters are read from; see `fit_rows` and `fit_codes`.

    rows         int32 (n, words) packed codes for "hamming"; float (n, units) for "euclidean"
    metric       "hamming" | "euclidean"
    min_samples  1 ... min(1023, n - 1)
    """
    if metric not in ("hamming", "euclidean"):
        raise UsageError(f"cuML has no metric {metric!r}", fix="take hamming or euclidean, or another backend")
    codes = metric == "hamming"
    start = time.perf_counter()
    fit = fit_codes(rows, WORD * rows.shape[1], min_samples) if codes else fit_rows(rows, 2, min_samples)
    seconds = {"cuML": time.perf_counter() - start}
    distinct = len(distinct_rows(rows if codes else rows.float()).first)
    return Reachability(fit.tree, fit.cores, 0.5 if codes else 0.0, distinct, seconds)


def _fitted(x: Tensor, min_cluster_size: int, min_samples: int, **selection: Any) -> Any:
    n = len(x)
    if not 2 <= min_cluster_size <= n:
        raise UsageError(f"min_cluster_size must be 2 ... {n}, got {min_cluster_size}")
    if not 1 <= min_samples <= min(MOST_SAMPLES, n - 1):
        raise UsageError(
            f"cuML takes min_samples 1 ... {min(MOST_SAMPLES, n - 1)} here, got {min_samples}",
            fix="take fewer, or another backend",
        )
    estimator = _estimator()
    try:
        model = estimator(
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            metric="euclidean",
            alpha=1.0,
            gen_min_span_tree=True,
            build_algo="brute_force",
            output_type="numpy",
            **selection,
        )
    except TypeError as error:
        raise _another(str(error)) from error
    try:
        return model.fit(x.detach().contiguous() if x.is_cuda else x.detach().contiguous().numpy())
    except MemoryError as error:
        raise ResourceError(
            f"cuML has not the memory for {n} rows of {x.shape[1]} float32",
            why=str(error),
            fix="take fewer rows or a GPU with more memory; other backends need less",
        ) from error


def _estimator() -> Any:
    try:
        from cuml.cluster import HDBSCAN
    except ImportError as error:
        raise MissingExtra("clustering by cuML needs cuML and a CUDA device", "cuda13") from error
    return HDBSCAN


def _found(model: Any, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """int64 (n - 1) twice, float64 (n - 1), float64 (n): edges, their weights, core distances.

    The public attribute of the tree needs the package hdbscan; what it shows is this array.
    """
    try:
        edges, cores = model._min_spanning_tree, model._state.to_dict()["core_dists"]
    except (AttributeError, KeyError) as error:
        raise _another(str(error)) from error
    cores = np.asarray(cores.get() if hasattr(cores, "get") else cores, np.float64)
    if edges is None or edges.shape != (n - 1, 3) or cores.shape != (n,):
        raise _another("its spanning tree has another form")
    source, target = (torch.from_numpy(edges[:, k].astype(np.int64)) for k in (0, 1))
    weight = torch.from_numpy(np.ascontiguousarray(edges[:, 2], np.float64))
    order = weight.sort(stable=True).indices
    return source[order], target[order], weight[order], torch.from_numpy(cores)


def _squared(roots: Tensor) -> Tensor:
    """int32: the integers whose float32 roots these are."""
    squares = roots.square()
    whole = squares.round()
    if bool(((squares - whole).abs() > 0.25).any()):
        raise _another("a distance of two codes is not the root of an integer")
    return whole.to(torch.int32)


def _another(why: str) -> MismatchError:
    return MismatchError("this is not the cuML that is known here", why=why, fix="pip install 'polykern[cuda13]'")
