"""Clusters of codes end to end, against the number of rows and beside hdbscan.

Every run is a process of its own (`_child`); times are from packed codes to labels. The peer is given the float64
matrix of all distances for nothing, neither its time nor its memory is counted.

The gate: on a few rows the tree weighs what scipy's tree of all distances weighs, edge by edge; the planted
clusters are found (adjusted Rand index above 0.9); and all trees of the same codes have the same weights, one by
one.
"""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern_benches import _planted
from polykern_benches._child import Found, Job, apart
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches._machine import threads
from polykern_kernels import hamming, neighbours
from polykern_kernels._dispatch import Impl, choose

BITS = 3072
MIN_SIZE = 15  # min_cluster_size and min_samples
ROWS, BESIDE = (10_000, 20_000, 50_000, 100_000), 20_000  # rows; those that hdbscan clusters as well
AT_ONCE = 10_000  # rows that need not be asked for
WORLDS = ("flips", "layer")
CLUSTERS = 20  # planted
WARM = {"cpu": 300, "cuda": 5_000}  # rows of the run that compiles, which the gate looks at: on a GPU many tiles
AGREEMENT = 0.9


def cases(setting: Setting) -> list[Case]:
    """Planted codes of 3,072 bits, up to 100,000 of them; on a GPU a million and ten."""
    worlds, sizes = setting.pick((WORLDS, ROWS), (WORLDS[:1], (400,)))
    found = [_clusters(setting, world, n) for world in worlds for n in sizes]
    return [*found, million(setting), ten_millions(setting)] if setting.device == "cuda" else found


def million(setting: Setting) -> Case:
    """A million codes."""
    return _clusters(setting, "copies", setting.pick(1_000_000, 400))


def ten_millions(setting: Setting) -> Case:
    """Ten million codes."""
    return _clusters(setting, "copies", setting.pick(10_000_000, 500))


def _clusters(setting: Setting, world: str, n: int) -> Case:
    own = _own(setting)

    def setup() -> Trial:
        return _trial(setting, world, n)

    return Case(
        operation="hdbscan.codes",
        params={"world": world, "n": n, "bits": BITS, "min_cluster_size": MIN_SIZE},
        dtype="int32",
        cost=neighbours.cost_self(n, BITS // 32, MIN_SIZE),
        ways=(own,),
        setup=setup,
        peers=(HDBSCAN,) if n in (BESIDE, setting.pick(BESIDE, n)) else (),
        memory=n * n * 20 if n == BESIDE else None,  # the matrix, and what the peer makes of it
        heavy=n > AT_ONCE,
        samples=1 if n > ROWS[-1] else 3 if n > AT_ONCE else 5,
    )


def _trial(setting: Setting, world: str, n: int) -> Trial:
    folder = tempfile.TemporaryDirectory(prefix="polykern-bench-")
    number = threads(None)
    words, truth = getattr(_planted, world)(n, BITS, clusters=setting.pick(CLUSTERS, 3))
    np.save(Path(folder.name) / "words.npy", words.numpy())
    trees: list[NDArray[np.float64]] = []

    def run(way: str) -> Measured:
        found = apart("bench_hdbscan", way, Path(folder.name), setting.device, number)
        labels = found.result["labels"]
        found.told.update(clusters=int(labels.max()) + 1, agreement=_agreement(truth, labels))
        return found

    def holds(found: dict[str, NDArray[Any]]) -> bool:
        trees.append(found["weights"])
        return (
            np.array_equal(found["warm_weights"], plain_tree(words[: len(found["warm_labels"])]))
            and np.array_equal(trees[0], trees[-1])
            and _agreement(truth, found["labels"]) > AGREEMENT
        )

    return Trial((torch.empty(0, device=setting.device),), run, holds, close=folder.cleanup)


def _own(setting: Setting) -> Impl:
    """The way that the kernels take on this device."""
    few = torch.zeros((2, 1), dtype=torch.int32, device=setting.device)
    chosen = choose("hdbscan.codes", neighbours.IMPLS["self_nearest"], None, few)
    return Impl(chosen.name, chosen.run, lambda *args: None)


def plain_tree(words: Tensor) -> NDArray[np.float64]:
    """The weights of the spanning tree of mutual reachability, ascending, from all distances by scipy."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    backend = "reference" if len(words) <= WARM["cpu"] else "cpu"  # which does not unpack all pairs at once
    distances = hamming.pairwise(words, words, backend=backend).numpy().astype(np.float64)
    core = np.sort(distances, axis=1)[:, MIN_SIZE]  # the row itself is the first
    reach = np.maximum(distances, np.maximum(core, core[:, None]))
    return np.sort(minimum_spanning_tree(np.triu(reach, 1)).data)


def _agreement(truth: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, labels))


# --- the peer -----------------------------------------------------------------------------------


def _objection(*args: Tensor) -> str | None:
    return None if importlib.util.find_spec("hdbscan") else "not installed: pip install hdbscan"


HDBSCAN = Impl("hdbscan", lambda *args: None, _objection)


# --- in the child -------------------------------------------------------------------------------


def job(way: str, folder: Path, device: str) -> Job:
    """Ours, or the peer with the matrix of distances made before."""
    words = torch.from_numpy(np.load(folder / "words.npy")).to(device)
    few = words[: WARM[torch.device(device).type]]
    if way == "hdbscan":
        matrix, small = _matrix(words), _matrix(few)
        return Job(lambda: _hdbscan(small), lambda: _hdbscan(matrix))
    return Job(lambda: _ours(few), lambda: _ours(words))


def _matrix(words: Tensor) -> NDArray[np.float64]:
    matrix = np.empty((len(words), len(words)))
    for first in range(0, len(words), 512):
        matrix[first : first + 512] = hamming.pairwise(words[first : first + 512], words).cpu().numpy()
    return matrix


def _ours(words: Tensor) -> tuple[Found, dict[str, Any]]:
    from polykern.clustering.estimator import HDBSCAN as Estimator

    model = Estimator(MIN_SIZE).fit(words)
    found = model._tree
    told = {"stages_s": dict(found.seconds), "rounds": found.tree.rounds, "passes": found.tree.passes}
    return _found(model.labels_, found.tree.weight.numpy()), told


def _hdbscan(matrix: NDArray[np.float64]) -> tuple[Found, dict[str, Any]]:
    import hdbscan

    model = hdbscan.HDBSCAN(min_cluster_size=MIN_SIZE, metric="precomputed").fit(matrix)
    return _found(model.labels_, model.single_linkage_tree_.to_numpy()[:, 2]), {}


def _found(labels: NDArray[Any], weights: NDArray[Any]) -> Found:
    return {"labels": labels, "weights": np.sort(np.asarray(weights, np.float64))}
