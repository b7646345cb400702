"""Rows to the minimum spanning tree of mutual reachability: duplicates united, neighbours, core distances, tree.

    reach(i, j) = max(core(i), core(j), distance(i, j))

min_samples counts other rows, as hdbscan and cuML do; scikit-learn counts the row itself too, its min_samples is
one more. Campello, Moulavi, Sander 2013, "Density-based clustering based on hierarchical density estimates".
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.clustering import panels
from polykern.clustering.cores import core_distances
from polykern.clustering.duplicates import Distinct, distinct_rows
from polykern.clustering.space import METRICS as PACKED
from polykern.clustering.space import REAL, SPARE, Packed, Space
from polykern.clustering.spanning import SpanningTree, minimum_spanning_tree, sub_tree
from polykern.errors import UsageError
from polykern.progress import Progress
from polykern.ranks import Ranks
from polykern.store.sealed import digest

METRICS = (*PACKED, *REAL)


@dataclass(frozen=True, eq=False)
class Reachability:
    """What the clusters of n rows are read from.

    tree      minimum spanning tree of mutual reachability, all rows
    cores     int32|float64 (n)   core distances
    zero      the distance that 0 stands for; 0.0: half of the least positive weight of the tree
    distinct  rows that differ
    seconds   stage -> time it took; a stage that was kept from an earlier run took none
    """

    tree: SpanningTree
    cores: Tensor
    zero: float
    distinct: int
    seconds: Mapping[str, float] = field(default_factory=dict)


class Stages(Protocol):
    """Where finished stages are kept, for a run that may be interrupted (`polykern.clustering.work.Work`)."""

    def load(self, stage: str) -> Mapping[str, NDArray[Any]] | None:
        """The arrays of a stage, None when it was not finished."""
        ...

    def save(self, stage: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays of a stage."""
        ...


def reachability(
    rows: Tensor, metric: str, min_samples: int, *, backend: str | None = None, progress: Progress | None = None
) -> Reachability:
    """The mutual reachability of rows.

    rows         int32 (n, words) packed codes for "hamming" and "jaccard"; float (n, units) for the others
    metric       "hamming" | "jaccard" | "euclidean" | "cosine"
    min_samples  1 ... n - 1
    backend      of the kernels; None takes the first that can run. "cuml" takes cuML's tree, which is not exact
                 (`polykern.clustering._cuml`)
    progress     called with (stage, done, total)

    Exact: the sum of the weights is the least there is. Raises UsageError when min_samples is out of range.
    """
    return reachabilities(rows, metric, [min_samples], backend=backend, progress=progress)[min_samples]


def reachabilities(
    rows: Tensor,
    metric: str,
    min_samples: Sequence[int],
    *,
    backend: str | None = None,
    spare: int = SPARE,
    stages: Stages | None = None,
    progress: Progress | None = None,
    at: Ranks | None = None,
    through: panels.Device | None = None,
) -> dict[int, Reachability]:
    """The mutual reachability for several min_samples, from the distances of the greatest; else as `reachability`.

    spare   bytes that may be spent on what only saves time
    stages  keeps the lists and the tree, and gives back those of an earlier run of the same arguments; with several
            ranks it is the first one's
    at      ranks that call this with the same rows and divide the search; None: this process alone
    through the device on which codes are compared, when it does not hold them

    Exact for every one of them (CORE-SG: Neto, Naldi, Campello, Sander 2022).
    """
    if backend == "cuml":
        from polykern.clustering import _cuml

        return {k: _cuml.reachability(rows, metric, k) for k in dict.fromkeys(min_samples)}
    clock, at = _Clock(), at or Ranks()
    _require_same(at, rows, metric, min_samples)
    spare = int(at.least(torch.tensor(spare)))  # all take the same way
    groups = distinct_rows(rows)
    space = space_of(rows[groups.first], metric, backend=backend, spare=spare, at=at, through=through)
    clock.lap("duplicates")
    most, fewer = max(min_samples), sorted(set(min_samples) - {max(min_samples)}, reverse=True)
    distances, indices = _lists(space, min(most, space.n - 1), rows.device, stages, progress, at)
    clock.lap("neighbours")
    cores = {k: core_distances(distances, indices, groups.counts, k) for k in (most, *fewer)}
    tree = _tree(space, distances, indices, cores[most], stages, progress, at)
    trees = {most: tree}
    for k in fewer:
        trees[k] = sub_tree(space, distances, indices, tree, cores[k])
    clock.lap("spanning tree")
    return {k: _of_all_rows(trees[k], cores[k], groups, space, clock.seconds) for k in trees}


def space_of(
    points: Tensor,
    metric: str,
    *,
    backend: str | None = None,
    spare: int = SPARE,
    at: Ranks | None = None,
    through: panels.Device | None = None,
) -> Space:
    """Distinct points with their metric: packed codes int32 (d, words), or float32|float64 (d, units).

    at, through  as of `polykern.clustering.space.Packed`; of real rows each rank makes all lists itself
    """
    if metric in REAL:
        from polykern.clustering.euclidean import Euclidean

        return Euclidean(points, metric, backend=backend)
    return Packed(points, metric, backend=backend, spare=spare, at=at, through=through)


def _require_same(at: Ranks, rows: Tensor, metric: str, min_samples: Sequence[int]) -> None:
    """Raise UsageError unless all ranks ask for the same."""
    if at.size > 1:
        asked = [digest(rows.contiguous().cpu().numpy().tobytes()), metric, *min_samples]
        each = at.heard(asked)
        if any(other != each[0] for other in each):
            raise UsageError(
                "the ranks cluster different rows, or differently",
                why="they divide the work of one clustering, so each must be given all of it",
                fix="HDBSCAN(processes='one') where each clusters rows of its own",
            )


def _lists(
    space: Space, k: int, device: torch.device, stages: Stages | None, progress: Progress | None, at: Ranks
) -> tuple[Tensor, Tensor]:
    kept = stages.load("lists") if stages else None
    if not at.sent(kept is not None):
        distances, indices = space.nearest(k, progress)
        if stages:
            stages.save("lists", {"distances": distances.cpu().numpy(), "indices": indices.cpu().numpy()})
        return distances, indices
    return _handed(at, kept, "distances", device), _handed(at, kept, "indices", device)


def _tree(
    space: Space,
    distances: Tensor,
    indices: Tensor,
    cores: Tensor,
    stages: Stages | None,
    progress: Progress | None,
    at: Ranks,
) -> SpanningTree:
    kept = stages.load("tree") if stages else None
    if not at.sent(kept is not None):
        tree = minimum_spanning_tree(space, distances, indices, cores, progress, at=at)
        if stages:
            edges = {"source": tree.source, "target": tree.target, "weight": tree.weight}
            effort = np.array([tree.rounds, tree.searched], np.int64)
            stages.save("tree", {**{k: v.numpy() for k, v in edges.items()}, "effort": effort})
        return tree
    source, target, weight = (_handed(at, kept, k, "cpu") for k in ("source", "target", "weight"))
    return SpanningTree(source, target, weight, *_handed(at, kept, "effort", "cpu").tolist())


def _handed(at: Ranks, kept: Mapping[str, NDArray[Any]] | None, name: str, device: torch.device | str) -> Tensor:
    """An array that the first rank has kept, on all."""
    return at.handed(None if kept is None else torch.from_numpy(kept[name]), device)


def _of_all_rows(
    tree: SpanningTree, cores: Tensor, groups: Distinct, space: Space, seconds: Mapping[str, float]
) -> Reachability:
    whole, every = tree.expanded(groups, cores), cores[groups.inverse].cpu()
    return Reachability(whole, every, space.zero, len(groups.first), seconds)


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now
