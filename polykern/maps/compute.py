"""Making a heat map: choose an engine, go through the bands, audit, write what was found."""

import io
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.arithmetic import ieee
from polykern.block import Block, Engine
from polykern.errors import UsageError
from polykern.maps import audit as audits
from polykern.maps import census, density
from polykern.maps.choose import Chosen, choose, make
from polykern.maps.folder import MapFolder, fingerprint, flush
from polykern.maps.provenance import provenance
from polykern.maps.result import MAX_RESOLUTION, HeatMap
from polykern.plane import Grid
from polykern.progress import Progress, silent
from polykern.ranks import Ranks, ranks
from polykern.store.disk import put
from polykern.tail import Tail
from polykern.tiles import BANDS, TileEngine

BAND = 128  # rows that are computed, written and recorded together


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that determines a map.

    tail        the network behind the start module, float32
    grid        the pixels
    sigma       of the Gaussian, pixels
    engine      one of `polykern.maps.choose.ENGINES`
    arithmetic  of anchored evaluation
    device      "cpu", "cuda:0", ...
    seed        of every random choice
    audited     share of the pixels that are done again in float64
    memory      bytes a batch may take
    classes     also map the argmax of the output
    about       of the model: name, weights, note, classes; of the anchors: labels, anchor_classes, pictures

    Errors: UsageError for a sigma or a resolution that there cannot be.
    """

    tail: Tail
    grid: Grid
    sigma: float
    engine: str = "auto"
    arithmetic: str | None = None
    device: str = "cpu"
    seed: int = 0
    audited: float = 1e-3
    memory: int = 2 << 30
    classes: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise UsageError(f"sigma is a number of pixels from 0, got {self.sigma:g}")
        if self.grid.resolution > MAX_RESOLUTION:
            raise UsageError(f"resolution must be within 2 .. {MAX_RESOLUTION}, got {self.grid.resolution}")

    @property
    def config(self) -> dict[str, Any]:
        """What a resumed run must agree with, JSON."""
        layout, window = self.tail.layout, self.grid.window
        return {
            "model": self.about.get("name"),
            "weights": self.about.get("weights"),
            "start": self.tail.start,
            "stop": self.tail.stop or None,
            "fields": [[f.name, f.kind, f.offset, f.bits] for f in layout.fields],
            "anchors": fingerprint(self.grid.plane.anchors.numpy()),
            "window": [window.u, window.v, window.side],
            "resolution": self.grid.resolution,
            "sigma": self.sigma,
            "engine": self.engine,
            "arithmetic": self.arithmetic,
            "audited": self.audited,
            "classes": self.classes,
            "seed": self.seed,
        }


def compute(
    recipe: Recipe, root: Path | str, *, overwrite: bool = False, progress: Progress | None = None
) -> HeatMap:
    """Make the map of `recipe` in the folder `root`, or finish it, or open it when it is complete.

    overwrite  replace what another run left there
    progress   called with (stage, done, total) as rows are finished
    errors     MismatchError when the folder holds another run's results

    Of W processes (`polykern.ranks`) each makes every W-th band, in files that all of them map; the first one
    chooses the engine and does census, smoothing and audit.
    """
    group, timings = ranks(), dict[str, float]()
    spots = audits.places(recipe.grid.resolution, recipe.audited, recipe.seed)
    with ieee():
        if group.first:
            folder = _folder(recipe, root, overwrite=overwrite)
            chosen = _chosen(recipe, folder, spots, timings)
            group.meet()
        else:
            group.meet()  # the first has laid the files out
            folder = _folder(recipe, root)
            chosen = _chosen(recipe, folder, spots, timings)
        group.meet()  # nobody writes before all have come in
        if chosen is not None:
            with _timed(timings, "map"):
                _fill(chosen.engine, recipe.grid, folder, spots, group, progress or silent)
                group.meet()
            if group.first:
                _finish(recipe, folder, chosen, spots, timings)
    group.meet()
    return HeatMap.open(folder.root)


def _folder(recipe: Recipe, root: Path | str, *, overwrite: bool = False) -> MapFolder:
    shape = recipe.grid.resolution, len(recipe.tail.layout.fields)
    return MapFolder(Path(root), recipe.config, shape, classes=recipe.classes, overwrite=overwrite)


def _chosen(recipe: Recipe, folder: MapFolder, spots: Sequence[Block], timings: dict[str, float]) -> Chosen | None:
    """The engine of a run that was begun, or a freshly chosen one; None when the map is finished."""
    if folder.finished:
        return None
    with _timed(timings, "choose"):
        if "engine" in folder.state:
            settings = folder.state["engine"]
            return Chosen(make(recipe.tail, settings), settings["reason"], settings)
        chosen = chosen_for(recipe)
        folder.begin({**chosen.settings, "reason": chosen.reason}, len(spots), spots[0].height)
    return chosen


def chosen_for(recipe: Recipe) -> Chosen:
    """The engine that a fresh run of `recipe` takes."""
    return choose(
        recipe.tail,
        recipe.grid,
        recipe.engine,
        arithmetic=recipe.arithmetic,
        device=recipe.device,
        seed=recipe.seed,
        memory=recipe.memory,
        classes=recipe.classes,
    )


def _fill(
    engine: Engine, grid: Grid, folder: MapFolder, spots: Sequence[Block], group: Ranks, progress: Progress
) -> None:
    n, height = grid.resolution, band_rows(engine)
    checked, done = folder.array("parts/audit"), folder.bands
    for row in range(height * group.rank, n, height * group.size):
        if row in done:
            continue
        progress("map", row, n)
        band = Block(row, 0, min(height, n - row), n)
        (maps,) = engine.blocks(grid, [band])
        for k, spot in enumerate(spots):
            _note(checked[k], spot, band, maps.digest)
        flush(checked)
        seen = census.sightings(maps.digest, row)
        folder.write(row, maps.right, maps.down, maps.classes, maps.margin, seen, maps.uncertain)
    progress("map", n, n)


def band_rows(engine: Engine) -> int:
    """Rows of a band: whole tiles of the engine; scanlines, which pay for columns, want twice as many."""
    if engine.name == "scanline":
        return 2 * BAND
    return engine.band if isinstance(engine, TileEngine) else BAND


def most_rows(recipe: Recipe) -> int:
    """Rows of the tallest band that an engine of this recipe may want."""
    tiled = recipe.engine in ("auto", "tiles")
    return max(BAND, BANDS[torch.device(recipe.device).type]) if tiled else BAND


def _note(out: NDArray[np.int64], spot: Block, band: Block, digest: NDArray[np.int64]) -> None:
    """Keep the fingerprints of an audited block as far as it lies in the band."""
    first, last = max(spot.row, band.row), min(spot.row + spot.height, band.row + band.height)
    if first < last:
        columns = slice(spot.column, spot.column + spot.width)
        out[first - spot.row : last - spot.row] = digest[first - band.row : last - band.row, columns]


def _finish(
    recipe: Recipe,
    folder: MapFolder,
    chosen: Chosen,
    spots: Sequence[Block],
    timings: dict[str, float],
) -> None:
    grid = recipe.grid
    right, down = folder.array("right"), folder.array("down")
    sightings, uncertain = folder.sightings()
    with _timed(timings, "census"):
        polytopes = census.polytopes(sightings)
    with _timed(timings, "smooth"):
        out = folder.array("smoothed")
        density.smoothed(right, down, grid.step, recipe.sigma, out)
        flush(out)
        summary = density.summary(grid, right, down)
    with _timed(timings, "audit"):
        compared = grid, spots, folder.array("parts/audit"), right, down, uncertain
        audit = audits.audit(recipe.tail, *compared, device=recipe.device, memory=recipe.memory)
    flips = folder.array("layers").sum((1, 2), dtype=np.int64)
    _save_thumbnails(folder.root, recipe.about)
    folder.finish(provenance(recipe, chosen, flips.tolist(), audit, polytopes, summary, timings))


def _save_thumbnails(root: Path, about: dict[str, Any]) -> None:
    """Write the anchors' pictures, uint8 (H, W, 3), beside the maps."""
    from PIL import Image

    for k, picture in enumerate(about.get("pictures", ())):
        if picture is not None:
            png = io.BytesIO()
            Image.fromarray(picture).save(png, "PNG")
            put(root / f"anchor-{k}.png", [png.getbuffer()])


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - start
