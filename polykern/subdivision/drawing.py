"""Pictures of partitions: faces filled, their sides coloured by layer, as SVG or PNG."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.report import colours, figures
from polykern.report.script import visible
from polykern.store.disk import put
from polykern.subdivision.result import Partition

SIDE = 1080  # px of the window
OTHER, INK = (0.35, 0.35, 0.38), (0.05, 0.05, 0.05)
DRAWN = 500_000  # sides beyond which a picture shows nothing


def draw(found: Partition, path: Path) -> Path:
    """Write a picture of a partition; the name says whether it is .svg or .png.

    Faces are tinted by class, or by their fingerprint where there are none; sides have the colour of the layer of
    their nonlinearity, and those at which the class changes are black. Raises UsageError for another name and for
    more sides than a picture shows.
    """
    if path.suffix not in (".svg", ".png"):
        raise UsageError(f"no picture {path.name}", fix="end the name with .png or .svg")
    if len(found.what) > DRAWN:
        raise UsageError(
            f"a picture of {len(found.what):,} sides shows nothing", fix="zoom in, or look at the page"
        )
    if path.suffix == ".svg":
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, [_svg(found).encode()])
    else:
        figures.partition(
            path, *texts(found), found.about["window"], _polygons(found), fills(found), np.asarray(found.ends),
            strokes(found), _heavy(found), legend(found),
        )  # fmt: skip
    return path


def texts(found: Partition) -> tuple[str, str, str]:
    """Title, subtitle and footer."""
    about = found.about
    title = f"Partition: {visible(str(about['model']['name']))}"
    part = "" if about["complete"] else f", {about['covered']:.1%} of the window: a budget ran out"
    count = f"{len(found):,} faces, {found.codes:,} codes of {about['bits']:,} bits{part}"
    space = visible(about["start"]) if about["start"] else "the model"
    note = f"window {about['window'][2]:.4g} a side, L2 in the input space of {space}; exact in float64"
    return title, count, note


def fills(found: Partition) -> NDArray[np.float64]:
    """float64 (n, 3): the colour of each face, light."""
    if (found.winner >= 0).any():
        return np.array([tint(k) for k in range(len(colours.CLASSES))])[found.winner % len(colours.CLASSES)]
    lightness = (found.digest[:, 0].view(np.uint64) >> np.uint64(40)).astype(np.float64) / (1 << 24)
    return np.repeat(0.90 + 0.09 * lightness[:, None], 3, axis=1)


def tint(k: int) -> tuple[float, float, float]:
    """The colour of a class, light, so that sides are seen on it."""
    r, g, b = (1 - 0.35 * (1 - x) for x in colours.rgb(colours.CLASSES[k % len(colours.CLASSES)]))
    return r, g, b


def strokes(found: Partition) -> NDArray[np.float64]:
    """float64 (m, 3): the colour of each side, by its layer."""
    table = np.concatenate([colours.depths(len(found.about["layers"])), [INK, OTHER]])
    drawn = table[found.what]
    drawn[found.decision] = INK
    return drawn


def legend(found: Partition) -> list[tuple[str, tuple[float, float, float]]]:
    """Names and colours of the layers that have a side."""
    table = [(r, g, b) for r, g, b in colours.depths(len(found.about["layers"])).tolist()]
    names = [visible(f["module"]) or "the model" for f in found.about["layers"]]
    kinds = np.unique(found.what).tolist()
    seen = [(names[k], table[k]) for k in kinds if k >= 0]
    seen += [("class changes", INK)] if len(found.decision) else []
    return [*seen, ("pools, others", OTHER)] if -1 in kinds else seen


def _polygons(found: Partition) -> list[NDArray[np.float64]]:
    return np.split(found.corner, found.first[1:-1])


def _heavy(found: Partition) -> NDArray[np.bool_]:
    """bool (m): the sides at which the class changes."""
    heavy = np.zeros(len(found.what), bool)
    heavy[found.decision] = True
    return heavy


def _svg(found: Partition) -> str:
    title, count, note = (html.escape(t) for t in texts(found))
    u, v, side = found.about["window"]
    scale = SIDE / side

    def at(points: NDArray[np.float64]) -> str:
        return " ".join(f"{x:.3f},{y:.3f}" for x, y in ((points - (u, v)) * scale).tolist())

    shade, ink = ([hexadecimal(c) for c in table.tolist()] for table in (fills(found), strokes(found)))
    faces = [f'<polygon points="{at(p)}" fill="{c}"/>' for p, c in zip(_polygons(found), shade, strict=True)]
    heavy = _heavy(found)
    order = np.lexsort((found.what, heavy)).tolist()
    wide = (f' stroke-width="{w}"' for w in np.where(heavy[order], "1.6", "0.7").tolist())
    sides = [
        f'<polyline points="{at(found.ends[k])}" stroke="{ink[k]}"{w}/>' for k, w in zip(order, wide, strict=True)
    ]
    key = [
        f'<rect x="{12 + 180 * k}" y="{SIDE + 46}" width="14" height="14" fill="{hexadecimal(c)}"/>'
        f'<text x="{32 + 180 * k}" y="{SIDE + 58}">{html.escape(name)}</text>'
        for k, (name, c) in enumerate(legend(found)[:6])
    ]
    box, font = f'viewBox="0 0 {SIDE} {SIDE + 100}"', 'font-family="sans-serif" font-size="13"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} {font}>',
            f"<title>{title}</title>",
            '<g stroke="none">', *faces, "</g>",
            '<g fill="none" stroke-linecap="round">', *sides, "</g>",
            f'<text x="12" y="{SIDE + 20}" font-weight="bold">{title}, {count}</text>',
            f'<text x="12" y="{SIDE + 38}">{note}</text>', *key, "</svg>", "",
        ]
    )  # fmt: skip


def hexadecimal(colour: Sequence[float]) -> str:
    """Three numbers in 0 .. 1 as `#rrggbb`."""
    return "#" + "".join(f"{round(255 * x):02x}" for x in colour)
