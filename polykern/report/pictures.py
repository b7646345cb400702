"""Heat maps as arrays small enough to draw; the reductions conserve counts.

Nothing here knows a plotting library. A picture's element (i, j) covers the map's cells [i block,
(i+1) block) x [j block, (j+1) block); at the lower and right edge it covers those that exist.
"""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.maps import blocks
from polykern.maps.result import HeatMap
from polykern.report import colours

CROWDED = 0.5  # share of boundary cells above which absolute counts leave no contrast
LEGEND = 12  # classes with a colour of their own
LABELLED = 0.02  # share of the map a class needs to bear its name there


@dataclass(frozen=True, eq=False)
class Field:
    """One number a block: float32 (h, w) `values`, the range `low` .. `high` to show, and `block`."""

    values: NDArray[np.float32]
    low: float
    high: float
    block: int


@dataclass(frozen=True, eq=False)
class Coloured:
    """One colour a block.

    pixels  uint8 (h, w, 3)
    legend  (name, colour) of every colour
    note    what was done, in words
    block   side of a block, map pixels
    labels  (row, column, name) of names to write on the map, map pixels
    """

    pixels: NDArray[np.uint8]
    legend: list[tuple[str, tuple[float, float, float]]]
    note: str
    block: int
    labels: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ClassShare:
    """A class of the map: its `index`, `name`, `colour` (#rrggbb) and `share` of the pixels."""

    index: int
    name: str
    colour: str
    share: float


def density(result: HeatMap, pixels: int, clip: float = 0.5) -> Field:
    """The smoothed density, per unit L2, as block means; range without `clip` per cent at either end."""
    side = result.resolution - 1
    block = max(1, side // pixels)
    total = blocks.sums(partial(_rows, result.smoothed), (side, side), block, np.float32)
    values = (total / blocks.areas((side, side), block)).astype(np.float32)
    low, high = np.percentile(values, (clip, 100 - clip))
    return Field(values, float(low), float(high), block)


def margin(result: HeatMap, pixels: int) -> Field:
    """log10 of the smallest margin in every block; zeros are shown as the smallest positive one."""
    assert result.margin is not None
    n = result.resolution
    block = max(1, n // pixels)
    least = blocks.minima(partial(_rows, result.margin), (n, n), block).astype(np.float32)
    positive = least[least > 0]
    floor = positive.min() if positive.size else np.float32(1e-30)
    values = np.log10(np.maximum(least, floor))
    low, high = np.percentile(values, (0.5, 99.5))
    return Field(values, float(low), float(high), block)


def boundaries(result: HeatMap, pixels: int) -> Coloured:
    """Every block in the colour of the layer with most flips there, as strong as log(1 + flips).

    Where more than half of the cells hold a boundary, each layer is compared with its own mean
    instead (else the widest layer would win everywhere) and strength spans the 1st to 99th
    percentile; `note` says which.
    """
    side = result.resolution - 1
    block = max(1, side // pixels)
    cells = sum(np.count_nonzero(result.count_rows(*s)) for s in blocks.stripes(side))
    crowded = bool(cells > CROWDED * side * side)
    total: NDArray[Any] = np.zeros((), np.uint32)
    first: NDArray[Any] = np.zeros((), np.intp)
    best: NDArray[Any] = np.zeros((), np.float32)
    flips = []
    for k, layer in enumerate(result.layers):
        one = blocks.sums(partial(_rows, layer), (side, side), block)
        flips.append(int(one.sum(dtype=np.uint64)))
        score = one.astype(np.float32) / np.float32(max(1, flips[-1]) if crowded else 1)
        first = np.where(score > best, k, first)
        best = np.maximum(best, score)
        total = total + one
    base = colours.depths(len(flips))
    strength = _strength(total, crowded)[..., None]
    pixels_rgb = 255 * (1 - strength * (1 - base[np.broadcast_to(first, total.shape)]))
    share = f"{100 * cells / side**2:.3g}% of the cells hold a boundary"
    how = (
        "colour: the layer furthest above its own mean; strength: log(1 + flips), 1st to 99th percentile"
        if crowded
        else "colour: the layer with most flips; strength: log(1 + flips)"
    )
    everything = max(1, sum(flips))
    legend = [
        (f"{name}  {100 * f / everything:.2g}%", (float(c[0]), float(c[1]), float(c[2])))
        for name, f, c in zip(result.fields, flips, base, strict=True)
    ]
    return Coloured(pixels_rgb.round().astype(np.uint8), legend, f"{share}; {how}", block)


def classes(result: HeatMap, pixels: int) -> Coloured:
    """Every block in the colour of the class most of its pixels have; the largest classes have one."""
    assert result.classes is not None
    n = result.resolution
    block = max(1, n // pixels)
    shares = class_shares(result)
    counts = [blocks.sums(partial(_equal, result.classes, c.index), (n, n), block) for c in shares]
    counts.append(blocks.areas((n, n), block) - sum(c.astype(np.int64) for c in counts))
    table = [colours.rgb(c.colour) for c in shares] + [colours.rgb(colours.OTHERS)]
    winner = np.argmax(np.stack([c.astype(np.int32) for c in counts]), axis=0)
    legend = [(f"{c.name}  {100 * c.share:.3g}%", rgb) for c, rgb in zip(shares, table, strict=False)]
    rest = 1 - sum(c.share for c in shares)
    if rest > 0.5 / n**2:
        legend.append((f"others  {100 * rest:.2g}%", table[-1]))
    lookup = (255 * np.array(table)).round().astype(np.uint8)
    names = [c.name for c in shares if c.share > LABELLED]
    labels = tuple(_labels(winner, names, block))
    return Coloured(lookup[winner], legend, "argmax of the output", block, labels)


def class_shares(result: HeatMap, most: int = LEGEND) -> list[ClassShare]:
    """The classes of the map by area, at most `most`; past the twelfth all share one colour."""
    assert result.classes is not None
    n = result.resolution
    areas = np.zeros(1 << 16, np.int64)
    for start, stop in blocks.stripes(n):
        areas += np.bincount(result.classes[start:stop].view(np.uint16).ravel(), minlength=1 << 16)
    order = np.argsort(-areas, kind="stable")[: min(most, np.count_nonzero(areas))]
    palette = (*colours.CLASSES, *(colours.OTHERS,) * len(order))
    indices = order.astype(np.uint16).view(np.int16).tolist()
    return [
        ClassShare(index, result.class_name(index), colour, float(areas[i]) / n**2)
        for i, index, colour in zip(order, indices, palette, strict=False)
    ]


def thumbnail(path: Path | None, pixels: int) -> NDArray[np.uint8] | None:
    """uint8 (h, w, 3), at most `pixels` a side; None where there is no PNG or it cannot be read."""
    from PIL import Image

    if path is None or path.is_symlink():
        return None
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if max(image.size) > 1 << 13:
                return None
            small = image.convert("RGB")
            small.thumbnail((pixels, pixels))
            return np.asarray(small)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def embedded(picture: NDArray[np.uint8], pixels: int) -> str:
    """A data: URI of a picture uint8 (h, w, 3), at most `pixels` a side, encoded anew: only pixels come along."""
    from PIL import Image

    small, out = Image.fromarray(picture), io.BytesIO()
    small.thumbnail((pixels, pixels))
    small.save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _labels(winner: NDArray[np.intp], names: list[str], block: int) -> Iterator[tuple[float, float, str]]:
    """For each of the first classes, the point of its area farthest from any other."""
    from scipy.ndimage import distance_transform_edt

    thin = max(1, len(winner) // 256)
    small = winner[::thin, ::thin]
    for k, name in enumerate(names):
        inside = np.pad(small == k, 1)  # the map's edge bounds an area, too
        depth: NDArray[np.float64] = np.asarray(distance_transform_edt(inside))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[row, column] > 0.03 * len(small):
            yield (float(row) + 0.5) * thin * block, (float(column) + 0.5) * thin * block, name


def _strength(total: NDArray[np.uint32], crowded: bool) -> NDArray[np.float32]:
    """float32 (h, w) in 0 .. 1; a block with a flip always shows."""
    x = np.log1p(total.astype(np.float32))
    if crowded:
        low, high = np.percentile(x, (1, 99))
        floor = np.float32(0.15)
    else:
        low, high = 0.0, np.percentile(x[x > 0], 99) if (x > 0).any() else 1.0
        floor = np.float32(0.55)
    level = np.clip((x - low) / max(1e-6, float(high - low)), 0, 1).astype(np.float32)
    return np.where(total > 0, floor + (1 - floor) * level, np.float32(0))


def _rows(array: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    return array[start:stop]


def _equal(array: NDArray[np.int16], index: int, start: int, stop: int) -> NDArray[Any]:
    return np.equal(array[start:stop], index)
