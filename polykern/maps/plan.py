"""What a heat map will take before it is begun: rows, disk, memory, time, and which engine.

Disk is exact up to the pictures. Memory is an estimate of the largest resident set: the process as it is, copies of
the network, and the larger of a band with its smallest batch and of the work at the end. Time is the rate that was
measured on a sample, times the pixels.
"""

import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polykern.amounts import resident, shown
from polykern.anchored import TILE
from polykern.arithmetic import ieee
from polykern.block import Block, Engine
from polykern.counting import Footprint
from polykern.errors import ResourceError
from polykern.launch import launch
from polykern.maps import census
from polykern.maps.audit import SIDE
from polykern.maps.blocks import STRIPE
from polykern.maps.compute import Recipe, band_rows, chosen_for, most_rows
from polykern.maps.density import TRUNCATE
from polykern.tail import Meeting

LIBRARIES = 160 << 20  # numba, scipy.ndimage and matplotlib, which are loaded on the way
COPIES = 5  # of the parameters: float64 for the engine and for the audit, float32 on a device
ALONE = 1 / 16  # polytopes a pixel that the census is prepared for
CENSUS = 320  # bytes a polytope while they are counted
PICTURES = 4  # bytes a pixel of figures and viewer together, at most
PROBES, PROBE, MOST = 4, 16, 256  # blocks that an engine is timed on, pixels a side at first and at last
ENOUGH = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the host's memory.

    process  what is resident now, and libraries yet to be loaded
    model    copies of the network
    band     maps of a band of rows
    batch    the smallest batch of points
    end      census and smoothing of the whole map
    """

    process: int
    model: int
    band: int
    batch: int
    end: int

    @property
    def needed(self) -> int:
        """The smallest budget that suffices."""
        return self.process + self.model + max(self.band + self.batch, self.end)

    def left(self, budget: int) -> int:
        """What a budget leaves for batches; raises ResourceError with the amount needed when that is too little."""
        if budget < self.needed:
            parts = ", ".join(f"{name} {shown(size)}" for name, size in asdict(self).items())
            raise ResourceError(
                f"a memory budget of {shown(budget)} is too small: about {shown(self.needed)} are needed",
                why=parts,
                fix=f"--memory-budget {math.ceil(self.needed / 2**20)}MiB, a lower resolution or a later start",
            )
        return budget - self.process - self.model - self.band


@dataclass(frozen=True, slots=True)
class Plan:
    """A map that has not been made.

    rows, band_rows  pixels; rows that are computed, written and recorded together
    ranks, share     processes that divide the bands; rows of the one that has most
    points           pixels of the map
    bits             of a code
    disk             bytes of the finished folder
    memory           bytes of the host's memory
    seconds          for the map itself, without audit and pictures
    engine, dtype    that was chosen
    reason           why
    """

    rows: int
    band_rows: int
    ranks: int
    share: int
    points: int
    bits: int
    disk: int
    memory: Memory
    seconds: float
    engine: str
    dtype: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "memory": {**asdict(self.memory), "needed": self.memory.needed}}


def plan(recipe: Recipe) -> Plan:
    """What the map of `recipe` will take; calibrates the engine on a sample of it and writes nothing."""
    grid = recipe.grid
    with ieee():
        chosen = chosen_for(recipe)
        each = _seconds(chosen.engine, recipe)
    rows, ranks = min(band_rows(chosen.engine), grid.resolution), launch().size
    share = min(grid.resolution, -(-grid.resolution // (rows * ranks)) * rows)
    return Plan(
        rows=grid.resolution,
        band_rows=rows,
        ranks=ranks,
        share=share,
        points=grid.resolution**2,
        bits=recipe.tail.layout.bits,
        disk=disk(recipe),
        memory=memory(recipe, rows),
        seconds=each * share * grid.resolution,
        engine=chosen.engine.name,
        dtype=chosen.engine.dtype,
        reason=chosen.reason,
    )


def fitted(recipe: Recipe, budget: int) -> Recipe:
    """The recipe with what `budget` (bytes, of the whole process) leaves for its batches.

    Raises ResourceError with the amount that is needed when the budget is too small for one band.
    """
    return replace(recipe, memory=memory(recipe).left(budget))


def memory(recipe: Recipe, rows: int | None = None) -> Memory:
    """Bytes that a map takes with bands of `rows` rows; None: the tallest that an engine may want."""
    n, fields = recipe.grid.resolution, len(recipe.tail.layout.fields)
    height = min(rows or most_rows(recipe), n)
    kept = 8 * fields + 28  # bytes a pixel of the maps, of their sums, of the band's census
    written, united = 4 * fields + 16, 96
    halo = 2 * int(TRUNCATE * recipe.sigma + 0.5)
    smoothing = min(n, STRIPE + halo) * n * 16 + min(n, STRIPE) * n * 48
    counting = int(n * n * ALONE * CENSUS)
    state = recipe.tail.model.state_dict().values()
    return Memory(
        process=resident() + LIBRARIES,
        model=COPIES * sum(t.numel() * 4 for t in state),
        band=height * n * (kept + max(written, united)),
        batch=_batch(recipe),
        end=max(smoothing, counting),
    )


def _batch(recipe: Recipe) -> int:
    """Bytes of the smallest batch: a pixel with its neighbours in float64, or a tile of anchored differences."""
    point = _point(recipe)
    anchored = recipe.engine in ("anchored", "auto") and torch.device(recipe.device).type == "cpu"
    return max(4 * point, (TILE + 1) ** 2 * -(-point // 2)) if anchored else 4 * point


def disk(recipe: Recipe) -> int:
    """Bytes of the finished folder: the maps exactly, the pictures at most."""
    n, fields = recipe.grid.resolution, len(recipe.tail.layout.fields)
    classes = 2 if recipe.classes else 0
    cells = (n - 1) ** 2
    audited = max(SIDE**2, int(recipe.audited * n * n))
    passing = 16 * audited + int(28 * ALONE * n * n)  # gone when the map is done
    return 4 * n * (n - 1) + 2 * fields * cells + (4 + classes) * n * n + 4 * cells + max(passing, PICTURES * n * n)


def require_disk(recipe: Recipe, root: Path) -> None:
    """Raise ResourceError when the disk under `root` cannot hold the folder.

    What an interrupted run already holds there counts as there.
    """
    standing = next(p for p in (root, *root.absolute().parents) if p.is_dir())
    held = sum(f.stat().st_blocks * 512 for f in root.glob("*.npy")) if root.is_dir() else 0
    wanted, free = disk(recipe) - held, shutil.disk_usage(standing).free
    if wanted > free:
        raise ResourceError(
            f"the map takes {shown(disk(recipe))} of disk, {shown(free)} are free in {standing}",
            why=f"{recipe.grid.resolution}^2 pixels in {len(recipe.tail.layout.fields)} layers",
            fix="a lower --resolution, fewer layers with --select, or another --out",
        )


def _point(recipe: Recipe) -> int:
    """Bytes of activations that a point takes in float64, from one pixel of the map."""
    tail, seen = recipe.tail, Footprint()
    one = recipe.grid.points(torch.zeros(1), torch.zeros(1)).to(tail.device, tail.dtype)

    def reach(meeting: Meeting) -> torch.Tensor:
        out: torch.Tensor = meeting.proceed()
        seen.see(meeting.z, out)
        return out

    tail.run(one, reach)
    return 2 * seen.bytes(1)


def _seconds(engine: Engine, recipe: Recipe) -> float:
    """Seconds a pixel: blocks at random places, evaluated and counted, larger ones until it takes a while."""
    n = recipe.grid.resolution
    side, random = min(PROBE, n), np.random.default_rng(recipe.seed)
    engine.blocks(recipe.grid, [Block(0, 0, side, side)])  # compiles, and warms caches
    while True:
        blocks = [Block(int(r), int(c), side, side) for r, c in random.integers(0, n - side + 1, (PROBES, 2))]
        start = time.perf_counter()
        for maps in engine.blocks(recipe.grid, blocks):
            census.sightings(maps.digest, 0)
        spent = time.perf_counter() - start
        if spent > ENOUGH or side == min(n, MOST):
            return spent / (PROBES * side * side)
        side = min(2 * side, n, MOST)
