"""What a clustering will take before it is begun: rows, memory, disk, time.

Memory is an estimate of the largest resident set: the process as it is, the rows and the distinct ones of them, the
lists of neighbours, the trees; what a budget leaves is spent on saving time. Time is the rate of the search,
measured on a sample of the rows, times the pairs.
"""

import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from polykern.amounts import resident, shown
from polykern.clustering.reachability import space_of
from polykern.clustering.recipe import Recipe
from polykern.clustering.space import REAL
from polykern.errors import ResourceError
from polykern.launch import launch

LIBRARIES = 120 << 20  # numba and what it compiles
TREES = 260  # bytes a row: spanning tree, dendrogram, condensed tree, labels, and their sorted copies
RESULT = 20 + 72 + 20  # bytes a row of the three files; clusters are far fewer
SAMPLE, ENOUGH = 512, 0.3  # rows a sample begins with; seconds of search that tell the rate
PASSES, HALF = 1.5, 0.5  # over all pairs: half of one for the lists, about one for the tree


@dataclass(frozen=True, slots=True)
class Plan:
    """A clustering that has not been made.

    rows     of the store
    ranks    processes that divide the search
    share    rows that one of them searches
    width    bits of a code, or numbers of an activation
    process  bytes resident now, and libraries yet to be loaded
    codes    bytes of the rows and of the distinct ones
    lists    bytes of the neighbours
    trees    bytes of everything behind
    disk     bytes of the finished folders
    seconds  about
    """

    rows: int
    ranks: int
    share: int
    width: int
    process: int
    codes: int
    lists: int
    trees: int
    disk: int
    seconds: float

    @property
    def memory(self) -> int:
        """Bytes of the host's memory that suffice."""
        return self.process + self.codes + self.lists + self.trees

    def left(self, budget: int) -> int:
        """What a budget leaves for what saves time; ResourceError with the amount needed when it is too small."""
        if self.memory > budget:
            parts = {name: shown(getattr(self, name)) for name in ("process", "codes", "lists", "trees")}
            raise ResourceError(
                f"a memory budget of {shown(budget)} is too small: about {shown(self.memory)} are needed",
                why=", ".join(f"{name} {size}" for name, size in parts.items()),
                fix=f"--memory-budget {math.ceil(self.memory / 2**20)}MiB, fewer layers or a smaller --min-samples",
            )
        return budget - self.memory

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "memory": self.memory}


def plan(recipe: Recipe, *, timed: bool = True) -> Plan:
    """What a recipe will take.

    timed  also search a sample of the rows for a fraction of a second; else the time is 0
    """
    n, ranks = len(recipe.store), launch().size
    distance = 4 if recipe.metric == "hamming" else 8
    most = min(max(k for k, _ in recipe.runs), n - 1)
    return Plan(
        rows=n,
        ranks=ranks,
        share=-(-n // ranks),
        width=recipe.width,
        process=resident() + LIBRARIES,
        codes=2 * n * recipe.row_bytes,  # as read, and the distinct ones
        lists=(2 if ranks == 1 else 3) * n * most * (distance + 8),  # as found, as they travel, merged
        trees=n * TREES,
        disk=len(recipe.runs) * n * RESULT + n * most * (distance + 8),
        seconds=_seconds(recipe) if timed else 0.0,
    )


def fitted(recipe: Recipe, budget: int) -> Recipe:
    """The recipe with what the budget leaves to spare; ResourceError when it is too small."""
    return replace(recipe, spare=plan(recipe, timed=False).left(budget))


def require_disk(recipe: Recipe, out: Path) -> None:
    """Raise ResourceError when the disk under `out` cannot hold the result and what is kept on the way."""
    standing = next(p for p in (out, *out.absolute().parents) if p.is_dir())
    wanted, free = plan(recipe, timed=False).disk, shutil.disk_usage(standing).free
    if wanted > free:
        raise ResourceError(
            f"the clusters take {shown(wanted)} of disk, {shown(free)} are free in {standing}",
            fix="another --out",
        )


def _seconds(recipe: Recipe) -> float:
    """All pairs at the rate of a sample that grows until it takes long enough to be measured."""
    n, rows, ranks = len(recipe.store), recipe.rows(), launch().size
    most = max(k for k, _ in recipe.runs)

    def searched(size: int) -> float:
        places = torch.linspace(0, n - 1, size).round().long()
        space = space_of(rows[places].to(recipe.device), recipe.metric, backend=recipe.backend)
        start = time.perf_counter()
        space.nearest(min(most, size - 1))
        return time.perf_counter() - start

    size = min(SAMPLE, n)
    searched(size)  # what is compiled on first use
    while (spent := searched(size)) < ENOUGH and size < n:
        size = min(2 * size, n)
    lists = HALF if recipe.metric in REAL else HALF / ranks  # of real rows every rank makes all of them
    return spent * (n / size) ** 2 * (lists + (PASSES - HALF) / ranks) / HALF
