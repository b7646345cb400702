"""The density map, against resolution, against zoom and against dense float32.

The gate: in three windows of the map every count equals that of dense float64. Times are of the whole map in a
fresh folder (choice of the tiles, map, census, smoothing, audit), without the pictures. Dense float32 is timed on a
sample of the same window by plain torch, forward pass only, and scaled to the map.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from polykern.block import Block
from polykern.dense import DenseEngine
from polykern.heat import prepare
from polykern.maps.compute import Recipe, compute
from polykern.maps.result import HeatMap
from polykern.models import load
from polykern_benches._harness import describe_machine

RESOLUTIONS = (512, 1024, 2048, 4096, 8192)  # and 16384 with --large
ZOOMS = (1, 10, 100, 1000)
GATE, SAMPLE = 256, 64  # pixels a side of a gated window, of a window that dense float32 is timed on
REPETITIONS = 9


@dataclass(frozen=True, slots=True)
class Row:
    """One map."""

    resolution: int
    zoom: float
    seconds: float
    microseconds_a_pixel: float
    tile: int
    symbols: float
    mean_flips: float
    wrong_bits: int
    dense_float32_seconds: float
    speedup: float


def gate(recipe: Recipe, result: HeatMap) -> None:
    """Three windows against dense float64; a wrong count ends the bench without a time."""
    side = min(GATE, recipe.grid.resolution - 1)
    room = recipe.grid.resolution - 1 - side
    engine = DenseEngine(recipe.tail, torch.float64, memory_budget=256 << 20, classes=False)
    for row, column in np.random.default_rng(1).integers(0, room + 1, (3, 2)).tolist():
        (true,) = engine.blocks(recipe.grid, [Block(row, column, side, side)])
        area = slice(row, row + side), slice(column, column + side)
        wrong = int((result.right[area] != true.right.sum(0)).sum() + (result.down[area] != true.down.sum(0)).sum())
        if wrong:
            raise SystemExit(f"{wrong} wrong counts at ({row}, {column}), so no time")


def dense_seconds(recipe: Recipe) -> float:
    """Plain float32 torch, forward only, for as many points as the map has pixels."""
    grid = recipe.grid
    at = torch.arange(SAMPLE)
    rows, columns = (t.flatten() for t in torch.meshgrid(at, at, indexing="ij"))
    points = grid.points(rows, columns).float()
    times = []
    with torch.no_grad():
        for _ in range(REPETITIONS + 1):  # the first warms caches
            start = time.perf_counter()
            recipe.tail.model(points)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / len(points) * grid.resolution**2


def measure(resolution: int, zoom: float, gated: bool) -> Row:
    """One map of the digits network in a fresh folder."""
    recipe = prepare(load("digits"), resolution=resolution, zoom=zoom, engine="tiles")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = compute(recipe, Path(folder) / "map")
        seconds = time.perf_counter() - start
        if gated:
            gate(recipe, result)
        found = result.provenance
        dense = dense_seconds(recipe)
        return Row(
            resolution=resolution,
            zoom=zoom,
            seconds=seconds,
            microseconds_a_pixel=seconds / resolution**2 * 1e6,
            tile=found["arithmetic"]["tile"]["side"],
            symbols=found["arithmetic"]["tile"]["symbols"],
            mean_flips=found["density"]["mean"] * result.step,
            wrong_bits=found["audit"]["wrong_bits"],
            dense_float32_seconds=dense,
            speedup=dense / seconds,
        )


def main() -> None:
    """Print the tables; with --json also write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--small", action="store_true", help="toy sizes: does it run?")
    parser.add_argument("--large", action="store_true", help="also 16384: minutes, and 4 GB of disk")
    parser.add_argument("--device", default="cpu", help="accepted for symmetry; the programs run on the CPU")
    given = parser.parse_args()
    resolutions = (64, 128) if given.small else (*RESOLUTIONS, 16384) if given.large else RESOLUTIONS
    zooms = (1, 100) if given.small else ZOOMS
    measure(64, 100, False)  # compiles
    shown = (
        "resolution     zoom   seconds    us/pixel   tile  symbols  flips/pixel  wrong bits  dense float32   ratio"
    )
    print(shown)
    rows = []
    largest = 4096 if not given.small else resolutions[-1]
    for resolution, zoom in [*((largest, z) for z in zooms[1:]), *((r, 1) for r in resolutions)]:
        row = measure(resolution, zoom, gated=True)
        rows.append(row)
        print(
            f"{row.resolution:10} {row.zoom:8g} {row.seconds:9.2f} {row.microseconds_a_pixel:11.3f} {row.tile:6} "
            f"{row.symbols:8.0f} {row.mean_flips:12.3f} {row.wrong_bits:11} {row.dense_float32_seconds:12.1f} s "
            f"{row.speedup:7.1f}",
            flush=True,
        )
        if given.json:
            report = {"schema": "polykern-bench/1", **describe_machine(), "heatmap": [asdict(r) for r in rows]}
            given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
