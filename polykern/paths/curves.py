"""Curves between two activations, and points of a sphere: where densities are measured."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polykern.errors import UsageError
from polykern.lines.sampled import on_line

KINDS = ("slerp", "lerp", "direction")
STRAIGHT = 1e-3  # rad: an arc of a smaller angle is its chord
OPPOSED = 1e-6  # rad from opposite: the arc has no plane


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve from a to b.

    a, b   float64 (*shape)   its ends
    kind   "slerp", "lerp" or "direction": what is followed
    angle  rad, between a and b as vectors; nan where one of them is zero
    note   why another kind is followed than was asked for, or ""
    """

    a: Tensor
    b: Tensor
    kind: str
    angle: float
    note: str = ""

    def __call__(self, t: Tensor) -> Tensor:
        """float64 (n, *shape): the points at t, float64 (n) in [0, 1]; exactly a at 0 and b at 1."""
        a, b = self.a, self.b
        share = t.reshape(-1, *(1,) * a.ndim)
        points: Tensor
        if self.kind == "lerp":
            points = on_line(a[None], b[None], t)
        else:
            norms = (1.0, 1.0) if self.kind == "slerp" else (float(a.norm()), float(b.norm()))
            length = 1.0 if self.kind == "slerp" else (1 - share) * norms[0] + share * norms[1]
            turned = ((1 - share) * self.angle).sin() / norms[0] * a + (share * self.angle).sin() / norms[1] * b
            points = length * turned / math.sin(self.angle)
        points[t == 0], points[t == 1] = a, b
        return points


def curve(a: Tensor, b: Tensor, kind: str = "slerp") -> Curve:
    """The curve of a kind between two activations.

    a, b  float (*shape)
    kind  "slerp"      (sin((1-t) w) a + sin(t w) b) / sin w, w the angle between a and b: their great arc, with a
                       norm between theirs
          "lerp"       a + t (b - a)
          "direction"  the direction along the great arc, the norm linearly
    returns  a Curve; where w < 1e-3 it is the chord, and says so in its note

    Exact ends; float64. Errors: UsageError for a kind that there is not, ends that are equal, not finite or of
    different shapes, and for arcs between a zero vector or opposite ones, which no plane holds. Shoemake 1985,
    "Animating rotation with quaternion curves".
    """
    if kind not in KINDS:
        raise UsageError(f"no interpolation is called {kind!r}", fix=f"choose one of {', '.join(KINDS)}")
    if a.shape != b.shape:
        raise UsageError(f"the ends of a path have shapes {list(a.shape)} and {list(b.shape)}")
    a, b = a.detach().double(), b.detach().double()
    if not bool(a.isfinite().all() & b.isfinite().all()):
        raise UsageError("an end of the path holds NaN or infinity")
    if torch.equal(a, b):
        raise UsageError("the two ends of the path are the same point", why="a path without length has no density")
    if not (a.norm() > 0 and b.norm() > 0):
        if kind == "lerp":
            return Curve(a, b, kind, math.nan)
        raise UsageError("an end of the path is the zero vector, which has no direction", fix="interpolate by lerp")
    angle = _angle(a.flatten(), b.flatten())
    if kind == "lerp":
        return Curve(a, b, kind, angle)
    if math.pi - angle < OPPOSED:
        raise UsageError(
            "the two ends of the path are opposite vectors", why="no single great arc joins them",
            fix="interpolate by lerp",
        )  # fmt: skip
    if angle < STRAIGHT:
        return Curve(a, b, "lerp", angle, f"lerp: the angle of the ends is only {angle:.2g} rad")
    return Curve(a, b, kind, angle)


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two vectors, accurate for small angles and for opposite vectors (Kahan 2006)."""
    u, v = a / a.norm(), b / b.norm()
    return 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))


def directions(shape: torch.Size | tuple[int, ...], count: int, seed: int) -> Tensor:
    """float64 (count, *shape): unit vectors, uniform on the sphere; the same for a seed."""
    drawn = torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found: Tensor = drawn / drawn.flatten(1).norm(dim=1).reshape(-1, *(1,) * len(shape))
    return found


def crofton(dimension: int) -> float:
    """c_d = Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)): boundaries that a random unit step crosses, per area in a unit
    of volume.

    dimension  d of the space, 1 or more

    A boundary of area S per unit of volume is crossed c_d S times per unit of length in a random direction, so
    density / c_d compares spaces of different dimension; c_1 = 1, about sqrt(2 / (pi d)). Cauchy-Crofton formula:
    Santalo 1976, "Integral Geometry and Geometric Probability".
    """
    if dimension < 1:
        raise UsageError(f"a space has one dimension at least, got {dimension}")
    return math.exp(math.lgamma(dimension / 2) - math.lgamma((dimension + 1) / 2)) / math.sqrt(math.pi)
