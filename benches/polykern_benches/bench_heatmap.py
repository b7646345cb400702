"""The density map, against resolution, against zoom and beside dense float32.

Times are of the whole map in a fresh folder (choice of the tiles, map, census, smoothing, audit), without the
pictures. Dense float32 is timed on a sample of the same window by plain torch, forward pass only, and scaled to the
map. The gate: in three windows of the map every count equals that of dense float64; the logits of the sample are
those of float64 to 1e-3.
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern.arithmetic import ieee
from polykern.block import Block
from polykern.counting import placed
from polykern.dense import DenseEngine
from polykern.heat import prepare
from polykern.maps.compute import Recipe, compute
from polykern.maps.result import HeatMap
from polykern.models import load
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches._memory import Peak
from polykern_kernels._dispatch import Impl

RESOLUTIONS, ZOOMS = (512, 1024, 2048, 4096, 8192), (10, 100, 1000)
ZOOMED = 4096  # pixels a side of the maps that are zoomed
AT_ONCE = 1024  # pixels a side of maps that need not be asked for
A_PIXEL = 40  # bytes in files and bands that the system may keep in memory
GATE, SAMPLE = 256, 64  # pixels a side of a gated window, of a window that dense float32 is timed on
REPETITIONS = 9  # of the sample


def cases(setting: Setting) -> list[Case]:
    """The digits network from its pixels, by tile programs."""
    maps = [(n, 1) for n in RESOLUTIONS] + [(ZOOMED, zoom) for zoom in ZOOMS]
    return [_map(setting, *size) for size in setting.pick(maps, [(64, 100)])]


def whole(setting: Setting) -> Case:
    """The map of the three anchors at 4096 x 4096."""
    return _map(setting, *setting.pick((ZOOMED, 1), (64, 100)))


def _map(setting: Setting, resolution: int, zoom: int) -> Case:
    own = "triton" if setting.device == "cuda" else "cpu"
    return Case(
        operation="heatmap.digits",
        params={"resolution": resolution, "zoom": zoom},
        dtype="float64",
        cost=None,
        ways=(Impl(own, lambda *args: None, lambda *args: None),),
        setup=lambda: _trial(setting.device, own, resolution, zoom),
        peers=(Impl("torch float32", lambda *args: None, lambda *args: None),),
        memory=A_PIXEL * resolution**2,
        heavy=resolution > AT_ONCE,
        samples=3,
    )


def _trial(device: str, own: str, resolution: int, zoom: int) -> Trial:
    recipe = prepare(load("digits"), resolution=resolution, zoom=zoom, engine="tiles", device=device)
    with tempfile.TemporaryDirectory() as warm:  # compiles
        compute(prepare(load("digits"), resolution=64, zoom=100, engine="tiles", device=device), Path(warm) / "map")
    folder = tempfile.TemporaryDirectory(prefix="polykern-bench-")
    place = Path(folder.name) / "map"

    def run(way: str) -> Measured:
        if way != own:
            return _dense(recipe)
        shutil.rmtree(place, ignore_errors=True)
        return _mapped(recipe, place)

    def holds(got: Any) -> bool:
        return _counts(recipe, got) if isinstance(got, Path) else _logits(recipe, got)

    return Trial((torch.empty(0, device=device),), run, holds, close=folder.cleanup)


def _mapped(recipe: Recipe, folder: Path) -> Measured:
    peak = Peak(recipe.device)
    start = time.perf_counter()
    result = compute(recipe, folder)
    seconds = time.perf_counter() - start
    of = result.provenance
    told = {
        "stages_s": of["timings"],
        "tile": of["arithmetic"]["tile"]["side"],
        "symbols": of["arithmetic"]["tile"]["symbols"],
        "flips_a_pixel": of["density"]["mean"] * result.step,
        "wrong_bits": of["audit"]["wrong_bits"],
    }
    return Measured(folder, seconds, peak.added(), told)


def _counts(recipe: Recipe, folder: Path) -> bool:
    """Three windows against dense float64, and not one wrong bit in the audit."""
    result = HeatMap.open(folder)
    side = min(GATE, recipe.grid.resolution - 1)
    room = recipe.grid.resolution - 1 - side
    engine = DenseEngine(recipe.tail, torch.float64, memory_budget=256 << 20, classes=False)
    for row, column in np.random.default_rng(1).integers(0, room + 1, (3, 2)).tolist():
        (true,) = engine.blocks(recipe.grid, [Block(row, column, side, side)])
        area = slice(row, row + side), slice(column, column + side)
        if (result.right[area] != true.right.sum(0)).any() or (result.down[area] != true.down.sum(0)).any():
            return False
    return bool(result.provenance["audit"]["wrong_bits"] == 0)


# --- beside it: plain torch ---------------------------------------------------------------------


def _points(recipe: Recipe) -> Tensor:
    at = torch.arange(SAMPLE)
    rows, columns = (t.flatten() for t in torch.meshgrid(at, at, indexing="ij"))
    return recipe.grid.points(rows, columns)


def _dense(recipe: Recipe) -> Measured:
    """Plain float32 torch, forward only, as long as it would take for as many points as the map has pixels."""
    tail = placed(recipe.tail, torch.float32, recipe.device)
    points = _points(recipe).to(recipe.device, torch.float32)
    wait = torch.cuda.synchronize if points.is_cuda else _nothing
    times = []
    with torch.no_grad(), ieee():
        logits = tail.model(points)  # and warms caches
        for _ in range(REPETITIONS):
            wait()
            start = time.perf_counter()
            tail.model(points)
            wait()
            times.append(time.perf_counter() - start)
    share = len(points) / recipe.grid.resolution**2
    return Measured(logits, statistics.median(times) / share, None, {"measured_share": share})


def _logits(recipe: Recipe, got: Tensor) -> bool:
    with torch.no_grad():
        model = recipe.tail.model.double()
        try:
            true = model(_points(recipe).double())
        finally:
            model.float()
    return torch.allclose(got.cpu().double(), true, rtol=1e-3, atol=1e-3)


def _nothing() -> None:
    return None
