"""clusters.json: what was clustered, how, and by which versions."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polykern.clustering.reachability import Reachability
from polykern.clustering.recipe import Recipe
from polykern.store import Store
from polykern.versions import recorded

RECORDED = ("polykern", "torch", "numpy", "numba", "triton")


def provenance(
    recipe: Recipe, folder: Path, run: tuple[int, int], reach: Reachability, timings: Mapping[str, float]
) -> dict[str, Any]:
    """What clusters.json says besides the counts.

    run      (min_samples, min_cluster_size)
    timings  stage -> seconds
    """
    store = recipe.store
    samples, size = run
    told = store.about.get("model")
    return {
        "config": recipe.config([samples], [size]),
        "store": {
            "path": _place(store, folder), "fingerprint": store.fingerprint, "config_hash": store.config_hash,
            "rows": len(store), "of": "codes" if recipe.activations is None else "activations",
            "bits": recipe.width, "fields": list(recipe.fields) or [recipe.activations], "items": store.items,
        },
        "model": dict(told) if isinstance(told, Mapping) else {"name": told},
        "parameters": {
            "metric": recipe.metric, "min_cluster_size": size, "min_samples": samples,
            "cluster_selection_method": recipe.method, "cluster_selection_epsilon": recipe.epsilon,
            "allow_single_cluster": recipe.allow_single_cluster, "max_cluster_size": recipe.max_cluster_size,
            "tie_order": recipe.tie_order, "device": recipe.device, "backend": recipe.backend,
        },
        "tree": {
            "weight": reach.tree.total, "rounds": reach.tree.rounds, "searched": reach.tree.searched,
            "passes": reach.tree.searched / reach.distinct, "zero": reach.zero,
        },
        "timings": dict(timings),
        "versions": recorded(*RECORDED),
    }  # fmt: skip


def _place(store: Store, folder: Path) -> str:
    """The store as seen from the result; a URL as it is."""
    if "://" in store.path:
        return store.path
    return os.path.relpath(Path(store.path).resolve(), folder.resolve())
