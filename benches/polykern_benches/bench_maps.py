"""Maps where they are computed: all tiles of a plane, without files; and a network that needs differences.

`maps.exact` is the digits network from its pixels by tile programs: compressed, run and put together, the maps left
on the device. `maps.googlenet` is GoogLeNet from inception5a to its output, anchored, with files and audit; its
weights are random and its norms calibrated, since no trained ones are in a package. Beside it stand plain passes of
the same network in float32 and, on a GPU, TF32: a pass over a sample of the pixels, scaled, and what its codes are
worth.

The gates: three windows of the exact map equal dense float64; an anchored map has at most 0.3 wrong bits a point
and a mean distance between neighbours within 0.2 % of float64, by its own audit.
"""

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from polykern.block import Block
from polykern.dense import DenseEngine
from polykern.heat import prepare
from polykern.maps.choose import choose
from polykern.maps.compute import Recipe, compute
from polykern.maps.result import HeatMap
from polykern.models import load
from polykern.tiles import TileEngine
from polykern.tiles.raster import Raster
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches._memory import Peak
from polykern_benches.peers import dense
from polykern_kernels._dispatch import Impl

RESOLUTION = {"cpu": 1024, "cuda": 4096}
GATE = 64  # pixels a side of a window that is compared
WRONG_BITS, DISTANCE = 0.3, 0.002  # a point; relative
WARM = 256  # pixels a side of the map that compiles
A_PIXEL = 400  # bytes of maps, fingerprints and what is made on the way
GOOGLENET = "inception5a"


def cases(setting: Setting) -> list[Case]:
    """A map of the default network everywhere, the large network where there is a GPU for it."""
    found = [_exact(setting, setting.pick(RESOLUTION[setting.device], 64))]
    return [*found, googlenet(setting)] if setting.device == "cuda" else found


def _ways(setting: Setting) -> tuple[Impl, ...]:
    return (Impl("triton" if setting.device == "cuda" else "cpu", lambda *args: None, lambda *args: None),)


def _where(setting: Setting) -> str:
    return f"cuda:{torch.cuda.current_device()}" if setting.device == "cuda" else "cpu"


# --- exact --------------------------------------------------------------------------------------


def _exact(setting: Setting, n: int) -> Case:
    return Case(
        operation="maps.exact",
        params={"resolution": n},
        dtype="float64",
        cost=None,
        ways=_ways(setting),
        setup=lambda: _exact_trial(_where(setting), n),
        memory=A_PIXEL * n * n,
        samples=5,
    )


def _exact_trial(device: str, n: int) -> Trial:
    recipe = prepare(load("digits"), resolution=n, engine="tiles", device=device)
    engine = choose(recipe.tail, recipe.grid, "tiles", device=device).engine
    assert isinstance(engine, TileEngine)
    side = n - n % engine.choice.side  # whole tiles; what is left has no lower or right neighbour
    whole = Block(0, 0, min(side, n), min(side, n))

    def holds(got: list[Raster]) -> bool:
        (raster,) = got
        return all(_window(recipe, raster, place, device) for place in _places(whole.height - GATE))

    return Trial(
        inputs=(torch.empty(0, device=device),),
        run=lambda way: engine.rasters(recipe.grid, [whole]),
        holds=holds,
    )


def _places(room: int) -> list[tuple[int, int]]:
    return [(r, c) for r, c in np.random.default_rng(1).integers(0, max(room, 0) + 1, (3, 2)).tolist()]


def _window(recipe: Recipe, raster: Raster, place: tuple[int, int], device: str) -> bool:
    """Whether the counts of a window are those of dense float64."""
    row, column = place
    side = min(GATE, raster.block.height - 1)
    area = slice(None), slice(row, row + side), slice(column, column + side)
    engine = DenseEngine(recipe.tail, torch.float64, device=device, classes=False)
    (true,) = engine.blocks(recipe.grid, [Block(row, column, side, side)])
    pairs = (raster.right, true.right), (raster.down, true.down)
    return all(np.array_equal(ours[area].sum(0).cpu().numpy(), counts.sum(0)) for ours, counts in pairs)


# --- anchored -----------------------------------------------------------------------------------


def googlenet(setting: Setting) -> Case:
    """The large network, beside plain passes of it."""
    n = setting.pick(RESOLUTION[setting.device], 16)
    peers = dense.peers(setting.device)
    return Case(
        operation="maps.googlenet",
        params={"resolution": n, "start": GOOGLENET},
        dtype="float16",
        cost=None,
        ways=_ways(setting),
        setup=lambda: _googlenet_trial(_where(setting), n),
        peers=peers,
        memory=A_PIXEL * n * n,
        heavy=True,
        samples=1,
    )


def _googlenet_trial(device: str, n: int) -> Trial:
    prepared = partial(prepare, load("googlenet"), start=GOOGLENET, engine="anchored", device=device)
    recipe = prepared(resolution=n)
    folder = tempfile.TemporaryDirectory(prefix="polykern-bench-")
    place = Path(folder.name) / "map"
    compute(prepared(resolution=min(n, WARM)), Path(folder.name) / "warm")  # compiles

    def run(way: str) -> Measured:
        shutil.rmtree(place, ignore_errors=True)
        peak, start = Peak(device), time.perf_counter()
        result = compute(recipe, place)
        seconds = time.perf_counter() - start
        told = {"stages_s": result.provenance["timings"], "audit": result.provenance["audit"]}
        return Measured(place, seconds, peak.added(), told)

    def holds(got: object) -> bool:
        return _audited(HeatMap.open(got)) if isinstance(got, Path) else isinstance(got, dense.Worth)

    return Trial(
        inputs=(torch.empty(0, device=device),),
        run=run,
        holds=holds,
        beside=partial(_beside, recipe, device),
        close=folder.cleanup,
    )


def _audited(result: HeatMap) -> bool:
    audit = result.provenance["audit"]
    return bool(audit["wrong_bits_per_point"] <= WRONG_BITS and abs(audit["density_relative_error"]) <= DISTANCE)


def _beside(recipe: Recipe, device: str, peer: dense.Peer) -> Measured:
    """A pass of a sample, scaled to the map, and what its codes are worth."""
    found = peer(recipe, device)
    share = found.points / recipe.grid.resolution**2
    told = {
        "measured_share": share,
        "wrong_bits_a_point": found.wrong_bits,
        "distance_error": found.distance_error,
    }
    return Measured(found, found.seconds / share, None, told)
