"""`pk.cluster`: from a store to a folder of clusters, and on from where an interrupted run stopped."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from polykern.clustering import medoids
from polykern.clustering.dendrogram import Condensed, condense, dendrogram
from polykern.clustering.euclidean import normalised
from polykern.clustering.provenance import provenance
from polykern.clustering.reachability import Reachability, reachabilities
from polykern.clustering.recipe import Recipe, prepare
from polykern.clustering.result import Clusters, write
from polykern.clustering.selection import Selection, select
from polykern.clustering.work import ONE_OF_SEVERAL, SWEEP, Work
from polykern.progress import Progress
from polykern.ranks import Ranks, ranks
from polykern.store import Store
from polykern.store.disk import make_folder, put
from polykern.store.sealed import sealed, unsealed

SWEEP_SCHEMA = "polykern-sweep/1"


def cluster(
    store: Store | Path | str,
    out: Path | str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    **how: Any,
) -> list[Clusters]:
    """The exact HDBSCAN clusters of the rows of a store, as folders.

    store      a complete `Store`, its folder or its URL
    out        folder of the result; an interrupted run in it is finished
    overwrite  replace what another run left in `out`
    progress   called with (stage, done, total)
    how        select                 which nonlinearities of the code: globs over module names ("*")
               activations            cluster the activations kept under this name instead of codes (None)
               metric                 "hamming", "jaccard"; "euclidean", "cosine" of activations (the first)
               min_cluster_size       rows of the smallest cluster; or several (10)
               min_samples            a row's core distance is that to its min_samples-th neighbour, itself not
                                      counted; or several; None: each min_cluster_size with itself (None)
               method                 "eom": greatest stability in sum; "leaf": the leaves of the tree ("eom")
               epsilon                clusters closer than this are not split (0)
               allow_single_cluster   the whole may be one cluster (False)
               max_cluster_size       larger ones are split where they may, 0: no limit (0)
               tie_order              "multiway": equal distances merge at once; "hdbscan": one by one ("multiway")
               device, backend        where and by which kernels ("cpu", None)
    returns    one clustering in `out`; of several sizes or min_samples one in each folder
               `out`/size-N-samples-K, by (min_samples, min_cluster_size), from one search of neighbours, one tree

    Under torchrun or srun all processes call this and divide the search; the first writes, the others return none.

    Exact: the distances, the weight of the spanning tree and, with multiway ties, the clusters, whatever the order
    of the rows, the device and the backend; the backend "cuml" alone is not (`polykern.clustering._cuml`). Errors:
    UsageError for what does not fit, MismatchError when `out` holds another run's results. Campello, Moulavi,
    Zimek, Sander 2015, "Hierarchical Density Estimates for Data Clustering, Visualization, and Outlier Detection".
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    return compute(prepare(opened, **how), out, overwrite=overwrite, progress=progress)


def compute(
    recipe: Recipe,
    out: Path | str,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    at: Ranks | None = None,
) -> list[Clusters]:
    """Follow a recipe; else as `cluster`.

    at  ranks that divide the work; None: all that were launched with this process
    """
    root, runs, at = Path(out), recipe.runs, at or ranks()
    samples, sizes = zip(*runs, strict=True)
    work = None
    try:
        if at.first:
            work = Work(root, recipe.config(samples, sizes), overwrite=overwrite)
        if not at.sent(work.finished if work else None):
            _make(recipe, work, progress, at)
        if work:
            work.finish()  # also of a run that was killed behind its last step
    finally:
        if work:
            work.close()
    return [Clusters.open(folder) for folder in _folders(root, runs)] if at.first else []


def _folders(root: Path, runs: Sequence[tuple[int, int]]) -> list[Path]:
    if len(runs) == 1:
        return [root]
    return [root / ONE_OF_SEVERAL.format(size=size, samples=samples) for samples, size in runs]


def _make(recipe: Recipe, work: Work | None, progress: Progress | None, at: Ranks) -> None:
    """Divide the search among the ranks; the one that has the folder does the rest."""
    timings: dict[str, float] = {}
    with _timed(timings, "read"):
        rows, through = recipe.rows(), recipe.through(at)
        rows = rows.to(recipe.device) if through is None else rows
    reached = reachabilities(
        rows, recipe.metric, [k for k, _ in recipe.runs], backend=recipe.backend, spare=recipe.spare, stages=work,
        progress=progress, at=at, through=through,
    )  # fmt: skip
    if work:
        _write_all(recipe, work, rows, reached, timings)


def _write_all(
    recipe: Recipe, work: Work, rows: Tensor, reached: Mapping[int, Reachability], timings: Mapping[str, float]
) -> None:
    table = []
    for (samples, size), folder in zip(recipe.runs, _folders(work.root, recipe.runs), strict=True):
        reach = reached[samples]
        spent = {**timings, **reach.seconds}
        with _timed(spent, "tree of clusters"):
            tree, chosen = extracted(recipe, reach, size)
        with _timed(spent, "medoids"):
            members = _members(recipe, rows, chosen)
        make_folder(folder)
        found = _write(recipe, folder, (samples, size), reach, tree, chosen, members, spent)
        table.append({"folder": folder.name, **found.about["parameters"], **found.about["counts"]})
    if len(table) > 1:
        whole = {"schema": SWEEP_SCHEMA, "complete": True, "config": work.config, "runs": table}
        put(work.root / SWEEP, [sealed(whole)])


def extracted(recipe: Recipe, reach: Reachability, min_cluster_size: int) -> tuple[Condensed, Selection]:
    """The condensed tree of some rows, and the clusters that a recipe takes from it."""
    merged = dendrogram(reach.tree, tie_order=recipe.tie_order)
    tree = condense(merged, min_cluster_size, zero=reach.zero)
    return tree, select(
        tree,
        method=recipe.method,
        cluster_selection_epsilon=recipe.epsilon,
        allow_single_cluster=recipe.allow_single_cluster,
        max_cluster_size=recipe.max_cluster_size,
    )


def sweep(folder: Path) -> list[dict[str, Any]]:
    """The table of a run with several sizes or min_samples: one entry a folder, with parameters and counts."""
    found: list[dict[str, Any]] = unsealed((folder / SWEEP).read_bytes())["runs"]
    return found


def _members(recipe: Recipe, rows: Tensor, chosen: Selection) -> medoids.Members:
    if recipe.metric == "cosine":
        rows = normalised(rows)
    if recipe.activations is not None:
        return medoids.of_rows(rows, chosen.labels)
    return medoids.of_codes(rows, recipe.width, chosen.labels, metric=recipe.metric)


def _write(
    recipe: Recipe,
    folder: Path,
    run: tuple[int, int],
    reach: Reachability,
    tree: Condensed,
    chosen: Selection,
    members: medoids.Members,
    timings: Mapping[str, float],
) -> Clusters:
    noise = int((chosen.labels < 0).sum())
    about = provenance(recipe, folder, run, reach, timings)
    about["counts"] = {
        "rows": len(chosen.labels), "distinct": reach.distinct, "clusters": len(chosen.selected), "noise": noise,
        "noise_share": noise / len(chosen.labels),
    }  # fmt: skip
    points = {
        "label": chosen.labels, "probability": chosen.probabilities,
        "outlier_score": tree.outlier_scores, "core": reach.cores.double().numpy(),
    }  # fmt: skip
    edges, leaves = reach.tree, tree.rows
    trees = {
        "mst_source": edges.source.numpy(), "mst_target": edges.target.numpy(), "mst_weight": edges.weight.numpy(),
        "condensed_parent": leaves.parent.numpy(), "condensed_child": leaves.child.numpy(),
        "condensed_lambda": leaves.lambdas.numpy(), "condensed_size": leaves.sizes.numpy(),
        "selected": chosen.selected,
    }  # fmt: skip
    listed = {
        "size": members.size, "persistence": chosen.persistence, "medoid": members.medoid,
        "mean_distance": members.mean_distance, "distance": members.distance,
        "order": members.order, "starts": members.starts,
    }  # fmt: skip
    return write(folder, about, points, trees, listed)


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start
