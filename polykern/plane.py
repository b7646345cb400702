"""Planes through three points of a space, and the pixel grids laid on them.

A point of the plane is  x(u, v) = origin + u e1 + v e2  with e1, e2 orthonormal, so u and v are Euclidean
(L2) lengths in the space. Everything is float64. Pixel (row i, column j) of a grid sits at the centre of its
cell: u grows with the column, v with the row. Black et al. 2022, figure "slice through three activations".
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polykern.errors import UsageError

COLLINEAR = 1e-9  # relative height of the triangle below which three points span no plane


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane through three anchors.

    anchors  float64 (3, *shape)   the points A, B, C
    origin   float64 (*shape)      A
    e1, e2   float64 (*shape)      orthonormal; e1 points from A to B, e2 to C's side
    uv       float64 (3, 2)        plane coordinates of the anchors, L2 units
    """

    anchors: Tensor
    origin: Tensor
    e1: Tensor
    e2: Tensor
    uv: Tensor

    @classmethod
    def through(cls, anchors: Tensor) -> "Plane":
        """The plane through `anchors` (3, *shape); raises UsageError when they span none."""
        if anchors.shape[0] != 3 or anchors.ndim < 2:
            raise UsageError(f"a plane needs three points, got a tensor of shape {list(anchors.shape)}")
        if not anchors.isfinite().all():
            raise UsageError("an anchor holds NaN or infinity", fix="check the images and the weights")
        points = anchors.detach().to("cpu", torch.float64)
        a, ab, ac = points[0], points[1] - points[0], points[2] - points[0]
        e1 = _unit(ab)
        along = (ac * e1).sum()
        height = ac - along * e1
        height = height - (height * e1).sum() * e1  # twice is enough
        sides = [float(x.norm()) for x in (ab, ac, ac - ab)]
        if min(sides) == 0 or float(height.norm()) <= COLLINEAR * max(sides):
            same = "two of them are the same point"
            flat = f"the triangle's height is {float(height.norm()):.3g}, its longest side {max(sides):.3g}"
            raise UsageError(
                "the three anchors lie on one line, so they span no plane",
                why=same if min(sides) == 0 else flat,
                fix="choose three different images",
            )
        uv = torch.zeros(3, 2, dtype=torch.float64)
        uv[1, 0], uv[2, 0], uv[2, 1] = ab.norm(), along, height.norm()
        return cls(points, a, e1, _unit(height), uv)

    def to(self, device: torch.device | str) -> "Plane":
        """The same plane with its points on another device."""
        return Plane(*(x.to(device) for x in (self.anchors, self.origin, self.e1, self.e2, self.uv)))

    def points(self, uv: Tensor) -> Tensor:
        """float64 (n, *shape): the points at plane coordinates uv (n, 2)."""
        one = (1,) * self.origin.ndim
        u, v = (uv[:, k].double().reshape(-1, *one) for k in (0, 1))
        return self.origin + u * self.e1 + v * self.e2

    def window(self, margin: float = 0.5) -> "Window":
        """The anchors' bounding box, enlarged on every side by `margin` of its larger side, made square."""
        low, high = self.uv.min(0).values, self.uv.max(0).values
        centre, half = (low + high) / 2, float((high - low).max()) * (0.5 + margin)
        return Window(float(centre[0]) - half, float(centre[1]) - half, 2 * half)


@dataclass(frozen=True, slots=True)
class Window:
    """A square of the plane: its corner (u, v) of row 0, column 0 and its side, in L2 units."""

    u: float
    v: float
    side: float

    def zoomed(self, factor: float, centre: tuple[float, float] | None = None) -> "Window":
        """The window `factor` times smaller about `centre` (u, v), by default its own centre."""
        if not 0 < factor < math.inf:
            raise UsageError(f"a window is magnified by a positive number, got {factor:g}")
        cu, cv = centre or (self.u + self.side / 2, self.v + self.side / 2)
        side = self.side / factor
        return Window(cu - side / 2, cv - side / 2, side)


@dataclass(frozen=True, eq=False)
class Grid:
    """resolution x resolution pixel centres over a window of a plane."""

    plane: Plane
    window: Window
    resolution: int

    def __post_init__(self) -> None:
        if self.resolution < 2:
            raise UsageError(f"resolution must be at least 2, got {self.resolution}")
        u, v, side = self.window.u, self.window.v, self.window.side
        if not (math.isfinite(u) and math.isfinite(v) and 0 < side < math.inf):
            raise UsageError(f"a window needs finite u and v and a positive side, got {u}, {v}, {side}")

    @property
    def step(self) -> float:
        """Distance of neighbouring pixel centres, L2 units."""
        return self.window.side / self.resolution

    def uv(self, rows: Tensor, columns: Tensor) -> Tensor:
        """float64 (n, 2): plane coordinates at (possibly fractional) pixel rows and columns (n,)."""
        u = self.window.u + (columns.double() + 0.5) * self.step
        v = self.window.v + (rows.double() + 0.5) * self.step
        return torch.stack([u, v], 1)

    def pixel(self, u: float, v: float) -> tuple[float, float]:
        """Fractional (row, column) of a point of the plane."""
        return (v - self.window.v) / self.step - 0.5, (u - self.window.u) / self.step - 0.5

    def points(self, rows: Tensor, columns: Tensor) -> Tensor:
        """float64 (n, *shape): the points at pixel rows and columns (n,)."""
        return self.plane.points(self.uv(rows, columns))


def _unit(x: Tensor) -> Tensor:
    length = x.norm()
    return x / length if length > 0 else x
