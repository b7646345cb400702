"""Pictures of partitions: faces filled, their sides coloured by layer, as SVG or PNG."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.report import colours, figures
from polykern.report.script import visible
from polykern.subdivision.result import Partition

SIDE = 1080  # px of the window
OTHER = (0.35, 0.35, 0.38)
DRAWN = 2_000_000  # sides of an SVG that a program still opens


def draw(found: Partition, path: Path) -> Path:
    """Write a picture of a partition; the name says whether it is .svg or .png.

    Faces are tinted by class, or by their fingerprint where there are none; sides have the colour of the layer of
    their nonlinearity. Raises UsageError for another name and for an SVG that is too large.
    """
    if path.suffix == ".svg":
        if len(found.what) > DRAWN:
            raise UsageError(f"an SVG of {len(found.what):,} sides opens nowhere", fix="write a .png")
        path.write_text(_svg(found), encoding="utf-8")
    elif path.suffix == ".png":
        figures.partition(
            path, *texts(found), found.about["window"], _polygons(found), fills(found), found.ends, strokes(found),
            legend(found),
        )  # fmt: skip
    else:
        raise UsageError(f"no picture {path.name}", fix="end the name with .png or .svg")
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
        shown = np.array([colours.rgb(c) for c in colours.CLASSES])[found.winner % len(colours.CLASSES)]
        return 1 - 0.35 * (1 - shown)
    lightness = (found.digest[:, 0].view(np.uint64) >> np.uint64(40)).astype(np.float64) / (1 << 24)
    return np.repeat(0.90 + 0.09 * lightness[:, None], 3, axis=1)


def strokes(found: Partition) -> NDArray[np.float64]:
    """float64 (m, 3): the colour of each side, by its layer."""
    table = np.concatenate([colours.depths(len(found.about["layers"])), [OTHER]])
    return table[found.what]


def legend(found: Partition) -> list[tuple[str, tuple[float, float, float]]]:
    """Names and colours of the layers that have a side."""
    table = [(r, g, b) for r, g, b in colours.depths(len(found.about["layers"])).tolist()]
    names = [visible(f["module"]) or "the model" for f in found.about["layers"]]
    seen = [(names[k], table[k]) for k in np.unique(found.what[found.what >= 0]).tolist()]
    return [*seen, ("pools, classes, others", OTHER)] if (found.what < 0).any() else seen


def _polygons(found: Partition) -> list[NDArray[np.float64]]:
    return np.split(found.corner, found.first[1:-1])


def _svg(found: Partition) -> str:
    title, count, note = (html.escape(t) for t in texts(found))
    u, v, side = found.about["window"]
    scale = SIDE / side

    def at(points: NDArray[np.float64]) -> str:
        return " ".join(f"{x:.3f},{y:.3f}" for x, y in ((points - (u, v)) * scale).tolist())

    shade, ink = ([_hex(c) for c in table.tolist()] for table in (fills(found), strokes(found)))
    faces = [f'<polygon points="{at(p)}" fill="{c}"/>' for p, c in zip(_polygons(found), shade, strict=True)]
    order = np.argsort(found.what, kind="stable").tolist()
    sides = [f'<polyline points="{at(found.ends[k])}" stroke="{ink[k]}"/>' for k in order]
    key = [
        f'<rect x="{12 + 180 * k}" y="{SIDE + 46}" width="14" height="14" fill="{_hex(c)}"/>'
        f'<text x="{32 + 180 * k}" y="{SIDE + 58}">{html.escape(name)}</text>'
        for k, (name, c) in enumerate(legend(found)[:6])
    ]
    box, font = f'viewBox="0 0 {SIDE} {SIDE + 100}"', 'font-family="sans-serif" font-size="13"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} {font}>',
            f"<title>{title}</title>",
            '<g stroke="none">', *faces, "</g>",
            '<g fill="none" stroke-width="0.7" stroke-linecap="round">', *sides, "</g>",
            f'<text x="12" y="{SIDE + 20}" font-weight="bold">{title}, {count}</text>',
            f'<text x="12" y="{SIDE + 38}">{note}</text>', *key, "</svg>", "",
        ]
    )  # fmt: skip


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * x):02x}" for x in colour)
