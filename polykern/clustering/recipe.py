"""What is clustered and how: a store, some of its fields, a metric, and how clusters are taken from the tree."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern.clustering.dendrogram import TIE_ORDERS, known
from polykern.clustering.panels import Device, through
from polykern.clustering.selection import METHODS
from polykern.clustering.space import METRICS as OF_CODES
from polykern.clustering.space import REAL as OF_ACTIVATIONS
from polykern.clustering.space import SPARE
from polykern.errors import UsageError
from polykern.layout import Layout
from polykern.ranks import Ranks
from polykern.selectors import Select, matches, require_used
from polykern.store import Store


@dataclass(frozen=True, eq=False)
class Recipe:
    """A clustering that has not been made.

    store                 complete
    metric                "hamming" or "jaccard" of codes, "euclidean" or "cosine" of activations
    fields                names of the layout's fields that are clustered, in its order; empty with activations
    activations           name of the activations that are clustered; None: the codes are
    min_cluster_size      each >= 2, ascending
    min_samples           each >= 1, ascending; empty: every min_cluster_size with itself
    method                "eom" or "leaf"
    epsilon               clusters closer than this are not split
    allow_single_cluster  the whole may be a cluster
    max_cluster_size      larger ones are split; 0: no limit
    tie_order             "multiway" or "hdbscan"
    device, backend       where and by which kernels; neither changes the result, but for the backend "cuml"
    spare                 bytes that may be spent on what only saves time
    """

    store: Store
    metric: str
    fields: tuple[str, ...]
    activations: str | None
    min_cluster_size: tuple[int, ...]
    min_samples: tuple[int, ...]
    method: str = "eom"
    epsilon: float = 0.0
    allow_single_cluster: bool = False
    max_cluster_size: int = 0
    tie_order: str = "multiway"
    device: str = "cpu"
    backend: str | None = None
    spare: int = SPARE

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(min_samples, min_cluster_size) of every result, ascending."""
        if not self.min_samples:
            return [(size, size) for size in self.min_cluster_size]
        return list(itertools.product(self.min_samples, self.min_cluster_size))

    @property
    def layout(self) -> Layout:
        """Of the codes that are clustered."""
        chosen = [f for f in self.store.layout.fields if f.name in self.fields]
        return Layout.of(chosen)

    @property
    def width(self) -> int:
        """Bits of a code, or numbers of an activation."""
        if self.activations is None:
            return self.layout.bits
        return int(torch.Size(self.store.manifest.activations[self.activations].shape).numel())

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return 4 * self.layout.words if self.activations is None else 4 * self.width

    def config(self, min_samples: Sequence[int], min_cluster_size: Sequence[int]) -> dict[str, Any]:
        """What determines the result of some runs, as JSON."""
        return {
            "store": self.store.fingerprint,
            "metric": self.metric,
            "of": self.activations if self.activations is not None else list(self.fields),
            "min_samples": list(min_samples),
            "min_cluster_size": list(min_cluster_size),
            "cluster_selection_method": self.method,
            "cluster_selection_epsilon": self.epsilon,
            "allow_single_cluster": self.allow_single_cluster,
            "max_cluster_size": self.max_cluster_size,
            "tie_order": self.tie_order,
            "tree": "cuml" if self.backend == "cuml" else "exact",
        }

    def rows(self) -> Tensor:
        """int32 (n, words) codes of the chosen fields, or float32 (n, units) activations, on the CPU."""
        if self.activations is not None:
            return self.store.activations(self.activations).flatten(1).float()
        every = len(self.fields) == len(self.store.layout.fields)
        return self.store.rows(fields=None if every else self.fields).codes.words

    def through(self, at: Ranks) -> Device | None:
        """The device, when it does not hold the codes; None when those of all ranks do."""
        if self.activations is not None:
            return None
        return through(len(self.store), self.row_bytes, max(k for k, _ in self.runs), self.device, at)


def prepare(
    store: Store,
    *,
    select: Select = "*",
    activations: str | None = None,
    metric: str | None = None,
    min_cluster_size: int | Sequence[int] = 10,
    min_samples: int | Sequence[int] | None = None,
    method: str = "eom",
    epsilon: float = 0.0,
    allow_single_cluster: bool = False,
    max_cluster_size: int = 0,
    tie_order: str = "multiway",
    device: str = "cpu",
    backend: str | None = None,
) -> Recipe:
    """A recipe that can be followed; arguments as of `polykern.clustering.compute.cluster`.

    Errors: UsageError saying what does not fit, before anything is computed.
    """
    if not store.complete:
        raise UsageError(
            f"{store.path} is not complete", fix="finish it with the `polykern capture` command that began it"
        )
    metric = metric or (OF_ACTIVATIONS[0] if activations is not None else OF_CODES[0])
    known("metric", metric, OF_CODES + OF_ACTIVATIONS)
    known("method", method, METHODS)
    known("tie order", tie_order, TIE_ORDERS)
    if not 0 <= epsilon < float("inf"):
        raise UsageError(f"epsilon must be a distance, 0 or more, got {epsilon}")
    if max_cluster_size < 0:
        raise UsageError(f"max_cluster_size must be 0 or more, got {max_cluster_size}", fix="0 is no limit")
    fields = () if activations is not None else _fields(store, select)
    return Recipe(
        store=store, metric=metric, fields=fields, activations=_activations(store, activations, metric),
        min_cluster_size=_counts("min_cluster_size", min_cluster_size, 2, len(store)),
        min_samples=() if min_samples is None else _counts("min_samples", min_samples, 1, len(store)),
        method=method, epsilon=float(epsilon), allow_single_cluster=allow_single_cluster,
        max_cluster_size=max_cluster_size, tie_order=tie_order, device=device, backend=backend,
    )  # fmt: skip


def _fields(store: Store, select: Select) -> tuple[str, ...]:
    require_used(store.layout.fields, select)
    return tuple(f.name for f in store.layout.fields if matches(f, select))


def _activations(store: Store, name: str | None, metric: str) -> str | None:
    """The activations to cluster; a metric of the other kind is refused."""
    kept = list(store.manifest.activations)
    if name is None and metric in OF_ACTIVATIONS:
        shown = ", ".join(kept)
        raise UsageError(
            f"the metric {metric} is of activations, not of codes",
            why=f"{store.path} keeps {shown or 'codes only'}",
            fix=f"--activations {kept[0]}" if kept else "capture with --activations, or take hamming",
        )
    if name is not None and name not in kept:
        raise UsageError(
            f"{store.path} keeps no activations of {name!r}",
            fix=f"there are {', '.join(kept)}" if kept else "capture with --activations",
        )
    if name is not None and metric not in OF_ACTIVATIONS:
        raise UsageError(f"the metric {metric} is of codes, not of activations", fix="take euclidean or cosine")
    return name


def _counts(what: str, given: int | Sequence[int], least: int, rows: int) -> tuple[int, ...]:
    """Ascending numbers without repeats, each of them possible."""
    numbers = sorted({int(k) for k in ([given] if isinstance(given, int | np.integer) else given)})
    if not numbers:
        raise UsageError(f"no {what} is given")
    if numbers[0] < least:
        raise UsageError(f"{what} must be at least {least}, got {numbers[0]}")
    if numbers[-1] >= rows:
        raise UsageError(
            f"{what} {numbers[-1]} of {rows} rows",
            why="no row would have so many others" if what == "min_samples" else "no cluster could be so large",
            fix=f"take {what} below {rows}, or capture more rows",
        )
    return tuple(numbers)
