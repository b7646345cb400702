"""Which engine makes a map: measured on a coarse sample of it, and said why."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from polykern.anchored import AnchoredEngine
from polykern.block import Block, Engine
from polykern.dense import DenseEngine
from polykern.errors import UsageError
from polykern.plane import Grid
from polykern.scanline import ScanlineEngine
from polykern.tail import Tail
from polykern.tiles import Choice, TileEngine

ENGINES = ("auto", "tiles", "anchored", "scanline", "float32", "float64")
PROBES = 3  # blocks of pixels that engines are timed on
PROBE = {"cpu": 32, "cuda": 256}  # a GPU is not busy with less


@dataclass(frozen=True, slots=True)
class Chosen:
    """An engine, why it was taken, and what makes the same one again.

    settings  goes into progress.json; `again` reads it
    """

    engine: Engine
    reason: str
    settings: dict[str, Any]


def choose(
    tail: Tail, grid: Grid, wanted: str, *, arithmetic: str | None = None, device: str = "cpu", seed: int = 0,
    memory: int = 2 << 30, classes: bool = False,
) -> Chosen:  # fmt: skip
    """The engine called `wanted`, or for "auto" the cheapest of those that can run.

    tail        the network, float32
    wanted      one of ENGINES
    arithmetic  of anchored differences: "float32", "float16", "bfloat16"; None: what suits the device
    memory      bytes a batch may take
    classes     also compute the argmax of the output
    """
    if wanted not in ENGINES:
        raise UsageError(f"no engine {wanted!r}", fix=f"choose one of {', '.join(ENGINES)}")
    given = {"arithmetic": arithmetic, "device": device, "memory": memory, "classes": classes}
    if wanted != "auto":
        engine = make(tail, {"name": wanted, **given})
        tile = None
        if isinstance(engine, TileEngine):
            engine.calibrate(grid, seed=seed)
            tile = engine.choice  # the smallest tiles, where even they are too loose to pay
        return Chosen(engine, "asked for by name", _settings(wanted, given, tile))
    reasons = []
    try:
        engine = ScanlineEngine(tail, classes=classes or None)
        return Chosen(engine, "every selected unit is affine on the plane", _settings("scanline", given, None))
    except UsageError as no:
        reasons.append(f"scanline: {no.what}")
    anchored = Chosen(make(tail, {"name": "anchored", **given}), "", _settings("anchored", given, None))
    try:
        tiles = make(tail, {"name": "tiles", **given})
        assert isinstance(tiles, TileEngine)
        tile = tiles.calibrate(grid, seed=seed)
    except UsageError as no:
        return replace(anchored, reason="; ".join([*reasons, f"tiles: {no.what}"]))
    if tile is None:
        return replace(anchored, reason="too many kinks even in a small tile for tile programs to pay")
    ours, theirs = (_seconds(engine, grid, seed, device) for engine in (tiles, anchored.engine))
    told = f"tiles of {tile.side} pixels with {tile.symbols:.0f} symbols take {ours * 1e6:.3g} us a pixel"
    against = f"{theirs * 1e6:.3g} us anchored"
    if ours <= theirs:
        return Chosen(tiles, f"{told}, {against}", _settings("tiles", given, tile))
    return replace(anchored, reason=f"{told}, only {against}")


def make(tail: Tail, settings: dict[str, Any]) -> Engine:
    """The engine that `settings` describe."""
    name, device, memory, classes = (settings[k] for k in ("name", "device", "memory", "classes"))
    if name == "tiles":
        tile = Choice(**settings["tile"]) if settings.get("tile") else None
        return TileEngine(tail, tile, device=device, classes=classes)
    if name == "anchored":
        return AnchoredEngine(
            tail, arithmetic=settings["arithmetic"], device=device, memory_budget=memory, classes=classes
        )
    if name == "scanline":
        return ScanlineEngine(tail, classes=classes)
    dtype = torch.float32 if name == "float32" else torch.float64
    return DenseEngine(tail, dtype, device=device, memory_budget=memory, classes=classes)


def _settings(name: str, given: dict[str, Any], tile: Choice | None) -> dict[str, Any]:
    shown = None if tile is None else {k: getattr(tile, k) for k in Choice.__slots__}
    return {"name": name, **given, "tile": shown}


def _seconds(engine: Engine, grid: Grid, seed: int, device: str) -> float:
    """Seconds a pixel, on a few blocks at random places."""
    side = PROBE[torch.device(device).type]
    side = min(grid.resolution, max(side, engine.choice.side) if isinstance(engine, TileEngine) else side)
    corners = np.random.default_rng(seed).integers(0, grid.resolution - side + 1, (PROBES, 2))
    blocks = [Block(int(r), int(c), side, side) for r, c in corners]
    engine.blocks(grid, blocks[:1])  # compiles, and warms caches
    start = time.perf_counter()
    engine.blocks(grid, blocks)
    return (time.perf_counter() - start) / (len(blocks) * side * side)
