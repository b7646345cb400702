"""map.json: what a heat map is of, how it was made and how far it can be believed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from polykern.maps.audit import Audit
from polykern.maps.census import Polytopes
from polykern.maps.choose import Chosen
from polykern.maps.density import Summary
from polykern.maps.result import SCHEMA
from polykern.versions import recorded

if TYPE_CHECKING:
    from polykern.maps.compute import Recipe

RECORDED = ("polykern", "torch", "numpy", "numba", "triton", "scipy")


def provenance(
    recipe: "Recipe",
    chosen: Chosen,
    flips: Sequence[int],
    audit: Audit,
    polytopes: Polytopes,
    summary: Summary,
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """The object that map.json holds (docs/FORMAT.md).

    flips  bits that change between neighbouring pixels, summed over the map, for every field
    """
    grid, tail, about = recipe.grid, recipe.tail, recipe.about
    return {
        "schema": SCHEMA,
        "complete": True,
        "model": {
            "name": about.get("name", type(tail.model).__name__),
            "weights": about.get("weights"),
            "start": tail.start,
            "stop": tail.stop or None,
            "bits": tail.layout.bits,
            "layers": [
                {**asdict(f), "bits": f.bits, "flips": n} for f, n in zip(tail.layout.fields, flips, strict=True)
            ],
            "classes": about.get("classes"),
            "note": about.get("note", ""),
        },
        "plane": {
            "unit": f"L2 in the input space of {tail.start or 'the model'}",
            "anchors": _anchors(recipe),
            "window": asdict(grid.window),
            "resolution": grid.resolution,
            "step": grid.step,
        },
        "arithmetic": {
            "engine": chosen.engine.name,
            "reason": chosen.reason,
            "dtype": chosen.engine.dtype,
            "margin": chosen.engine.margin,
            "tile": chosen.settings.get("tile"),
        },
        "smoothing": {"sigma": recipe.sigma, "mode": "reflect"},
        "audit": audit.as_dict(),
        "polytopes": polytopes.as_dict(),
        "density": {k: None if math.isnan(v) else v for k, v in asdict(summary).items()},
        "timings": dict(timings),
        "seed": recipe.seed,
        "versions": recorded(*RECORDED),
        "config": recipe.config,
    }


def _anchors(recipe: "Recipe") -> list[dict[str, Any]]:
    about, grid = recipe.about, recipe.grid
    labels = about.get("labels", ["A", "B", "C"])
    classes = about.get("anchor_classes", [None] * 3)
    pictures = about.get("pictures", [None] * 3)
    thumbnails = [None if p is None else f"anchor-{k}.png" for k, p in enumerate(pictures)]
    return [
        {"label": label, "class": c, "u": u, "v": v, "pixel": list(grid.pixel(u, v)), "thumbnail": thumbnail}
        for label, c, (u, v), thumbnail in zip(labels, classes, grid.plane.uv.tolist(), thumbnails, strict=True)
    ]
