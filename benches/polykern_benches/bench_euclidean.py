"""Clusters of float rows end to end, beside scikit-learn's brute force, on the CPU.

Every run is a process of its own (`_child`). The gate: on a few rows our tree weighs what scipy's tree of all
float64 distances weighs, edge by edge, to 1e-9; the planted clusters are found (adjusted Rand index above 0.9); and
the weights of all trees of the same rows agree, one by one, to 1e-4, for scikit-learn's distances are float32.
scikit-learn counts the row itself, so its min_samples is one more.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern_benches._child import Found, Job, apart
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches._machine import threads
from polykern_kernels import euclid
from polykern_kernels._dispatch import Impl

COLUMNS, CLUSTERS, NOISE = 768, 20, 0.2
MIN_SIZE = 15  # min_cluster_size and min_samples
ROWS, AT_ONCE = (5_000, 20_000), 5_000  # rows; those that need not be asked for
WARM = 300  # rows of the run that compiles
AGREEMENT, EXACT, ROUNDED = 0.9, 1e-9, 1e-4


def cases(setting: Setting) -> list[Case]:
    """Rows of 768 columns, around 20 centres and a fifth of noise."""
    return [_clusters(setting, n) for n in setting.pick(ROWS, (400,))] if setting.device == "cpu" else []


def _clusters(setting: Setting, n: int) -> Case:
    return Case(
        operation="hdbscan.activations",
        params={"n": n, "columns": COLUMNS, "min_cluster_size": MIN_SIZE},
        dtype="float32",
        cost=euclid.cost(n, COLUMNS, MIN_SIZE),
        ways=(Impl("cpu", lambda *args: None, lambda *args: None),),
        setup=lambda: _trial(setting, n),
        precision="float32",
        peers=(Impl("scikit-learn", lambda *args: None, lambda *args: None),),
        memory=n * n * 16,  # the matrix of distances of the peer, and a copy
        heavy=n > AT_ONCE,
        samples=3,
    )


def planted(n: int, clusters: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """float32 (n, 768) around centres with a fifth of noise, and int64 (n) which centre, -1 for noise."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(clusters, COLUMNS))
    truth = np.where(rng.random(n) < NOISE, -1, rng.integers(0, clusters, n))
    spread = np.where(truth < 0, 1.2, 0.5)[:, None] * rng.normal(size=(n, COLUMNS))
    return (np.where(truth[:, None] < 0, 0.0, centres[truth]) + spread).astype(np.float32), truth


def _trial(setting: Setting, n: int) -> Trial:
    folder = tempfile.TemporaryDirectory(prefix="polykern-bench-")
    number = threads(None)
    rows, truth = planted(n, setting.pick(CLUSTERS, 3))
    np.save(Path(folder.name) / "rows.npy", rows)
    trees: list[NDArray[np.float64]] = []

    def run(way: str) -> Measured:
        found = apart("bench_euclidean", way, Path(folder.name), setting.device, number)
        labels = found.result["labels"]
        found.told.update(clusters=int(labels.max()) + 1, agreement=_agreement(truth, labels))
        return found

    def holds(found: dict[str, NDArray[Any]]) -> bool:
        trees.append(found["weights"])
        plain, error = plain_tree(rows[:WARM]), EXACT if len(trees) == 1 else ROUNDED
        return (
            np.allclose(found["warm_weights"], plain, rtol=error, atol=0)
            and np.allclose(trees[-1], trees[0], rtol=ROUNDED, atol=0)
            and _agreement(truth, found["labels"]) > AGREEMENT
        )

    return Trial((torch.empty(0),), run, holds, close=folder.cleanup)


def plain_tree(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The weights of the spanning tree of mutual reachability, ascending, from all float64 distances by scipy."""
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    distances = cdist(rows.astype(np.float64), rows.astype(np.float64))
    core = np.sort(distances, axis=1)[:, MIN_SIZE]  # the row itself is the first
    reach = np.maximum(distances, np.maximum(core, core[:, None]))
    return np.sort(minimum_spanning_tree(np.triu(reach, 1)).data)


def _agreement(truth: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, labels))


# --- in the child -------------------------------------------------------------------------------


def job(way: str, folder: Path, device: str) -> Job:
    """Ours, or scikit-learn's."""
    rows = np.load(folder / "rows.npy")
    work = _sklearn if way == "scikit-learn" else _ours
    return Job(lambda: work(rows[:WARM]), lambda: work(rows))


def _ours(rows: NDArray[np.float32]) -> tuple[Found, dict[str, Any]]:
    from polykern.clustering.estimator import HDBSCAN

    model = HDBSCAN(MIN_SIZE, metric="euclidean").fit(rows)
    found = model._tree
    told = {"stages_s": dict(found.seconds), "rounds": found.tree.rounds, "passes": found.tree.passes}
    return _found(model.labels_, found.tree.weight.numpy()), told


def _sklearn(rows: NDArray[np.float32]) -> tuple[Found, dict[str, Any]]:
    from sklearn.cluster import HDBSCAN

    told: dict[str, Any] = {"min_samples": MIN_SIZE + 1, "algorithm": "brute", "copy": True}
    model: Any = HDBSCAN(MIN_SIZE, **told).fit(rows)
    return _found(model.labels_, model._single_linkage_tree_["value"]), {}


def _found(labels: NDArray[Any], weights: NDArray[Any]) -> Found:
    return {"labels": labels, "weights": np.sort(np.asarray(weights, np.float64))}
