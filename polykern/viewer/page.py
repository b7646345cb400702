"""The viewer of a heat map: a folder that opens from a disk, with nothing fetched and nothing executed but its own.

Text of strangers (model, class and anchor names) reaches the page as JSON through `json_for_script` or through
jinja2's escaping, and is shown as text only.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from polykern.maps import blocks
from polykern.maps.result import Anchor, HeatMap
from polykern.report import colours, pages, pictures, wording
from polykern.report.script import json_for_script, visible_all
from polykern.viewer import tiles

SCRIPTS = tuple(
    f"{name}.js"
    for name in ("numbers", "tiles", "colours", "marks", "paint", "map", "profile", "gestures", "viewer")
)
ARRAYS = ("right", "down", "layers", "smoothed", "classes", "margin")
THUMBNAIL = 128  # px


def write(result: HeatMap, folder: Path | str) -> Path:
    """The viewer of `result` as `folder`; returns the page to open, `folder`/index.html.

    result  an opened heat map
    folder  a viewer already there is replaced as a whole; any other folder that is not empty is refused

    Every count of the map can be read back from the page exactly. Raises UsageError where `folder` holds
    something else.
    """
    target = Path(folder)
    pages.require_place(target, "a viewer")
    beside = target.parent.resolve() == result.folder.resolve()
    return pages.replace(target, ".viewer-", lambda folder: _fill(result, folder, beside=beside))


def _fill(result: HeatMap, folder: Path, *, beside: bool) -> None:
    (folder / "tiles").mkdir()
    text = json_for_script(visible_all(_data(result, folder / "tiles")))
    arrays = [f"{a}.npy" for a in ARRAYS if (result.folder / f"{a}.npy").exists()] if beside else []
    pages.render(
        folder, "polykern.viewer", SCRIPTS, "viewer.css", text,
        name=wording.name(result), subtitle=wording.subtitle(result), credit=" · ".join(wording.footer(result)),
        rows=wording.rows(result), arrays=arrays,
    )  # fmt: skip


def _data(result: HeatMap, folder: Path) -> dict[str, Any]:
    u, v, side = result.window
    return {
        "name": wording.name(result),
        "caption": wording.subtitle(result),
        "credit": " · ".join(wording.footer(result)),
        "side": result.resolution - 1,
        "tile": tiles.TILE,
        "step": result.step,
        "window": {"u": u, "v": v, "side": side},
        "last": tiles.last_level(result.resolution - 1),
        "clips": tiles.CLIPS,
        "views": _views(result, folder),
        "palettes": {name: colours.hexadecimal(name) for name in colours.NAMES},
        "anchors": [_anchor(result, a) for a in result.anchors],
        "classes": _classes(result, folder),
        "profiles": [_profile(result, i, (i + 1) % 3) for i in range(3)],
    }


def _views(result: HeatMap, folder: Path) -> list[dict[str, Any]]:
    """The pictures to choose from; writes their tiles."""
    side, unit = result.resolution - 1, 2 * result.step
    last = tiles.last_level(side)
    total = tiles.Pyramid(folder, "sum", tiles.sums, side, 0, unit)
    peaks = tiles.Pyramid(folder, "max", tiles.maxima, side, 1, unit) if last else None
    for stripe in blocks.stripes(side):
        rows = result.count_rows(*stripe)
        total.push(rows)
        if peaks:
            peaks.push(tiles.maxima(rows))
    total.close()
    views = [_view(total, "Boundaries", "sum")]
    if peaks:
        peaks.close()
        ranges = [views[0]["ranges"][0], *peaks.ranges()]
        views.append(_view(peaks, "Boundaries, largest of each block", "max") | {"first": 0, "ranges": ranges})
    smooth = _smooth(result, folder)
    views.append(_view(smooth, "Smoothed density", "sum"))
    block = 1 << last
    for k, name in enumerate(result.fields):
        one = tiles.Pyramid(folder, f"layer{k}", tiles.sums, side, last, unit)
        one.push(blocks.sums(partial(_slice, result.layers[k]), (side, side), block))
        one.close()
        views.append(_view(one, name, "sum") | {"layer": True})
    return views


def _view(pyramid: tiles.Pyramid, title: str, pool: str) -> dict[str, Any]:
    return {
        "id": pyramid.name,
        "title": title,
        "pool": pool,
        "unit": pyramid.unit,
        "first": pyramid.first,
        "ranges": pyramid.ranges(),
    }


def _smooth(result: HeatMap, folder: Path) -> tiles.Pyramid:
    """The smoothed density, kept in blocks well below the width of its Gaussian."""
    side = result.resolution - 1
    sigma = result.provenance.get("smoothing", {}).get("sigma")
    sigma = float(sigma) if isinstance(sigma, int | float) else 0.0
    fine = max(0, math.floor(math.log2(max(1.0, sigma / 3))))
    coarse = max(0, math.ceil(math.log2(side / 2048)))  # at most 2,048 values a side
    first = min(tiles.last_level(side), max(fine, coarse))
    pyramid = tiles.Pyramid(folder, "smooth", tiles.sums, side, first, 1.0)
    rows = partial(_slice, result.smoothed)
    pyramid.push(blocks.sums(rows, (side, side), 1 << first, np.float32))
    pyramid.close()
    return pyramid


def _classes(result: HeatMap, folder: Path) -> list[dict[str, Any]]:
    """Every class of the map, largest first; writes the tiles of the class map."""
    if result.classes is None:
        return []
    pyramid = tiles.Pyramid(folder, "class", tiles.majorities, result.resolution, 0, 0.0)
    for start, stop in blocks.stripes(result.resolution):
        pyramid.push(result.classes[start:stop].view(np.uint16))
    pyramid.close()
    shares = pictures.class_shares(result, most=4096)
    return [{"index": c.index & 0xFFFF, "name": c.name, "colour": c.colour, "share": c.share} for c in shares]


def _profile(result: HeatMap, i: int, j: int) -> dict[str, Any]:
    """The map along the edge from anchor i to anchor j, a sample about every pixel; null outside."""
    a, b = result.anchors[i], result.anchors[j]
    n = result.resolution
    length = math.dist((a.row, a.column), (b.row, b.column))
    t = np.linspace(0, 1, max(2, min(2048, math.ceil(length) + 1)))
    rows, columns = a.row + t * (b.row - a.row), a.column + t * (b.column - a.column)
    inside = (rows >= 0) & (rows <= n - 1) & (columns >= 0) & (columns <= n - 1)
    y, x = (np.clip(np.floor(p), 0, n - 2).astype(np.intp) for p in (rows, columns))
    counts = result.right[y, x].astype(int) + result.down[y, x]
    smooth = result.smoothed[y, x]
    found = {
        "from": "ABC"[i],
        "to": "ABC"[j],
        "length": length * result.step,
        "counts": [int(c) if ok else None for c, ok in zip(counts, inside, strict=True)],
        "smooth": [float(f"{s:.6g}") if ok else None for s, ok in zip(smooth, inside, strict=True)],
    }
    if result.classes is not None:
        near = (np.clip(np.rint(p), 0, n - 1).astype(np.intp) for p in (rows, columns))
        labels = result.classes[tuple(near)].view(np.uint16).tolist()
        found["classes"] = [c if ok else None for c, ok in zip(labels, inside, strict=True)]
    return found


def _anchor(result: HeatMap, a: Anchor) -> dict[str, Any]:
    return {
        "label": a.label,
        "class": None if a.class_ is None else result.class_name(a.class_),
        "row": a.row,
        "column": a.column,
        "thumbnail": _thumbnail(a.thumbnail),
    }


def _thumbnail(path: Path | None) -> str | None:
    """A data: URI; None where there is no readable PNG."""
    pixels = pictures.thumbnail(path, THUMBNAIL)
    return None if pixels is None else pictures.embedded(pixels, THUMBNAIL)


def _slice(array: Any, start: int, stop: int) -> Any:
    return array[start:stop]
