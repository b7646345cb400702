"""Variograms of codes along a closed loop of inputs: smooth or rough, and from which length on.

    V(h) = E || P z(t + h) - P z(t) ||^2,      P a Gaussian projection to a few dimensions

A code of a one-dimensional input with eigenvalues n^-alpha has V(h) ~ h^min(alpha - 1, 2): a slope of 2 is a curve
with a tangent, less is a fractal one (Stringer et al. 2019; Marshall and Kirchner 2024). A network of ReLUs is
linear between two boundaries, so its slope is 2 wherever h is well below the mean length of a polytope on the loop;
a rougher regime can only lie above that length.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from polykern.errors import UsageError

Reals = NDArray[np.float64]
Code = Callable[[Tensor], Tensor]  # float64 (n) places on the loop in 0 .. 1 -> float64 (n, m)


@dataclass(frozen=True, eq=False)
class Variogram:
    """V at some lags.

    lags    float64 (k)          in turns of the loop
    values  float64 (k)          V, mean over places, projections and their dimensions
    places  float64 (k, places)  the same before the mean over places, for intervals
    """

    lags: Reals
    values: Reals
    places: Reals

    @property
    def slopes(self) -> Reals:
        """float64 (k - 1): of log V against log h, between neighbouring lags."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Reals = np.diff(np.log(self.values)) / np.diff(np.log(self.lags))
        return found

    def slope(self, low: float, high: float) -> float:
        """Of the least-squares line over the lags between `low` and `high`; UsageError for fewer than two."""
        inside = (self.lags >= low) & (self.lags <= high)
        if inside.sum() < 2:
            raise UsageError(f"fewer than two lags between {low:g} and {high:g} turns")
        return float(np.polyfit(np.log(self.lags[inside]), np.log(self.values[inside]), 1)[0])

    def crossover(self, below: float = 1.9) -> float:
        """The smallest lag from which the slope stays below a value; inf where it does not end there."""
        low = self.slopes < below
        first = len(low) - int(np.argmin(low[::-1])) if not low.all() else 0
        return float(np.sqrt(self.lags[first] * self.lags[first + 1])) if first < len(low) else float("inf")


def variogram(
    code: Code, lags: ArrayLike, *, places: int = 256, projections: Tensor | None = None, seed: int = 0
) -> Variogram:
    """V along a loop, from `places` random places and each of them moved by each lag.

    code         gives the code at places on the loop, in float64: differences at small lags are small
    lags         float (k)                       in turns, ascending, in 0 .. 1/2
    projections  float64 (m, k)                  `gaussian`; None: the code itself, the mean over all of them
    seed         of the places

    Errors: UsageError for lags that are none.
    """
    h = np.asarray(lags, np.float64)
    if h.ndim != 1 or len(h) < 2 or not ((np.diff(h) > 0).all() and h[0] > 0 and h[-1] <= 0.5):
        raise UsageError("lags must ascend inside 0 .. 1/2 turns, two or more")
    start = torch.from_numpy(np.random.default_rng(seed).random(places))
    here = _projected(code(start), projections)
    found = np.empty((len(h), places))
    for k, lag in enumerate(h.tolist()):
        moved = _projected(code((start + lag) % 1.0), projections) - here
        found[k] = moved.square().mean(1).numpy()
    return Variogram(h, found.mean(1), found)


def gaussian(m: int, dims: int = 3, repeats: int = 8, seed: int = 0) -> Tensor:
    """float64 (m, dims * repeats): `repeats` projections to `dims` dimensions, entries normal with variance 1."""
    return torch.randn(m, dims * repeats, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def power_law_code(alpha: float, m: int = 1000) -> Code:
    """The code of a loop with eigenvalues n^-alpha: m pairs of cos and sin of the n-th harmonic."""
    n = torch.arange(1, m + 1, dtype=torch.float64)

    def code(t: Tensor) -> Tensor:
        angle = 2 * torch.pi * t[:, None] * n
        return torch.cat([angle.cos(), angle.sin()], 1) * n.repeat(2) ** (-alpha / 2)

    return code


def circle(a: Tensor, b: Tensor, c: Tensor) -> Callable[[Tensor], Tensor]:
    """The circle through three points of a space, as a map of turns to points float64 (n, *shape).

    Errors: UsageError for points on a line, which have no circle.
    """
    flat = torch.stack([a, b, c]).double().flatten(1)
    p, q = flat[1] - flat[0], flat[2] - flat[0]
    cross = (p @ p) * (q @ q) - (p @ q) ** 2
    if not cross > 1e-12 * (p @ p) * (q @ q):  # sine of the angle above a millionth
        raise UsageError("three points on a line have no circle", fix="name other inputs")
    centre = ((q @ q) * ((p @ p) - (p @ q)) * p + (p @ p) * ((q @ q) - (p @ q)) * q) / (2 * cross)
    e1 = -centre / centre.norm()  # from the centre to a
    e2 = p - (p @ e1) * e1
    e2 = e2 / e2.norm()

    def at(t: Tensor) -> Tensor:
        angle = 2 * torch.pi * t.double()[:, None]
        points: Tensor = flat[0] + centre + centre.norm() * (angle.cos() * e1 + angle.sin() * e2)
        return points.view(-1, *a.shape)

    return at


def _projected(code: Tensor, projections: Tensor | None) -> Tensor:
    return code if projections is None else code @ projections
