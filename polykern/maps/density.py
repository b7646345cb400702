"""Density of polytope boundaries: from counts to numbers per unit length, smoothed, inside the triangle and out.

    D = (right + down) / (2 step)     on the common (n-1) x (n-1) grid
Black et al. 2022, figure "heat map of polytope density" (method after Novak et al. 2018).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polykern.maps.blocks import stripes
from polykern.plane import Grid

TRUNCATE = 4.0  # the Gaussian ends at four sigma


@dataclass(slots=True)
class Summary:
    """Means over the map, per unit L2; `inside` and `outside` refer to the anchors' triangle, NaN when empty."""

    mean: float
    max: float
    inside_triangle: float
    outside_triangle: float


def smoothed(
    right: NDArray[np.uint16], down: NDArray[np.uint16], step: float, sigma: float, out: NDArray[np.float32]
) -> None:
    """Fill `out` (n-1, n-1) with the density under a Gaussian of sigma pixels, reflected at the edges.

    Worked on in stripes with a halo; the result is the same for any stripe height.
    """
    from scipy.ndimage import gaussian_filter

    n = len(out)
    halo = int(TRUNCATE * sigma + 0.5)
    for first, last in stripes(n):
        top, bottom = max(0, first - halo), min(n, last + halo)
        raw = np.add(right[top:bottom], down[top:bottom, :-1], dtype=np.float32)
        raw /= 2 * step
        if sigma > 0:
            raw = gaussian_filter(raw, sigma, mode="reflect", truncate=TRUNCATE)
        out[first:last] = raw[first - top : last - top]


def summary(grid: Grid, right: NDArray[np.uint16], down: NDArray[np.uint16]) -> Summary:
    """Mean and maximum density, and the means inside and outside the anchors' triangle."""
    n = grid.resolution - 1
    totals, cells, largest = np.zeros(2), np.zeros(2), 0
    for first, last in stripes(n):
        counts = right[first:last].astype(np.int64) + down[first:last, :-1]
        inside = triangle(grid, first, last)
        for k, where in enumerate((inside, ~inside)):
            totals[k] += counts[where].sum()
            cells[k] += where.sum()
        largest = max(largest, int(counts.max()))
    unit = 2 * grid.step
    share = [float(t / c / unit) if c else float("nan") for t, c in zip(totals, cells, strict=True)]
    return Summary(float(totals.sum() / cells.sum() / unit), largest / unit, share[0], share[1])


def triangle(grid: Grid, first: int, last: int) -> NDArray[np.bool_]:
    """bool (last - first, n-1): pixels of these rows inside the triangle of the anchors."""
    corners = np.array([grid.pixel(float(u), float(v)) for u, v in grid.plane.uv])
    rows = np.arange(first, last)[:, None]
    columns = np.arange(grid.resolution - 1)[None]
    sides = []
    for k in range(3):
        (r0, c0), (r1, c1) = corners[k], corners[(k + 1) % 3]
        sides.append((r1 - r0) * (columns - c0) - (c1 - c0) * (rows - r0) >= 0)
    inside: NDArray[np.bool_] = (sides[0] == sides[1]) & (sides[1] == sides[2])
    return inside
