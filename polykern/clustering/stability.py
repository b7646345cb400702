"""How often clusters come again when only a part of the rows is clustered."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.clustering.compute import extracted
from polykern.clustering.reachability import reachability
from polykern.clustering.recipe import Recipe, prepare
from polykern.clustering.result import Clusters
from polykern.errors import UsageError
from polykern.progress import Progress
from polykern.scores.agreement import Stability, stability
from polykern.store import Store

Run = tuple[NDArray[np.int64], NDArray[np.int64]]


def recipe_of(clusters: Clusters, store: Store, *, device: str = "cpu", backend: str | None = None) -> Recipe:
    """The recipe that a clustering was made by, for the store that it was made from.

    Errors: UsageError when this is another store.
    """
    told, how = clusters.about["store"], clusters.about["parameters"]
    if told["fingerprint"] != store.fingerprint:
        raise UsageError(f"{clusters.folder} was not made from {store.path}", fix="name the store it was made from")
    codes = told["of"] == "codes"
    return prepare(
        store, select=told["fields"] if codes else "*", activations=None if codes else told["fields"][0],
        metric=how["metric"], min_cluster_size=how["min_cluster_size"], min_samples=how["min_samples"],
        method=how["cluster_selection_method"], epsilon=how["cluster_selection_epsilon"],
        allow_single_cluster=how["allow_single_cluster"], max_cluster_size=how["max_cluster_size"],
        tie_order=how["tie_order"], device=device, backend=backend,
    )  # fmt: skip


def resampled(
    clusters: Clusters,
    recipe: Recipe,
    runs: int = 5,
    *,
    share: float = 0.8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Stability:
    """How the clusters compare with those of random parts of the rows.

    recipe    `recipe_of` the clusters
    runs      parts, each drawn without replacement and clustered by the same recipe
    share     of the rows in a part, below 1
    seed      of the draws
    progress  called with (stage, done, total)

    Hennig 2007, "Cluster-wise assessment of cluster stability". Errors: UsageError for a share that leaves too few
    rows.
    """
    n = len(clusters)
    taken = int(share * n)
    least = max(*recipe.runs[0]) + 1
    if not (0 < share < 1 and taken >= least):
        raise UsageError(
            f"a share of {share:g} of {n} rows is no part to cluster",
            why=f"it needs {least} rows and not all of them",
        )
    return stability(clusters.labels, _clustered(recipe, n, taken, runs, seed, progress))


def _clustered(
    recipe: Recipe, n: int, taken: int, runs: int, seed: int, progress: Progress | None
) -> Iterator[Run]:
    rows, draw = recipe.rows().to(recipe.device), np.random.default_rng(seed)
    samples, size = recipe.runs[0]
    for run in range(runs):
        if progress:
            progress("parts", run, runs)
        part = np.sort(draw.permutation(n)[:taken])
        mine = rows[torch.from_numpy(part).to(rows.device)]
        reach = reachability(mine, recipe.metric, samples, backend=recipe.backend)
        yield part, extracted(recipe, reach, size)[1].labels
    if progress:
        progress("parts", runs, runs)
