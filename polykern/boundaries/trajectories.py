"""Transitions: how many boundaries a closed trajectory crosses, counted between neighbouring points of it.

    t = sum_i d_H(c(z_i), c(z_{i+1})),      z_0, z_1, ..., z_m = z_0

A step that is too long misses pairs of crossings of one neuron; t never counts too many, and never falls when
points are put between. Novak, Bahri, Abolafia, Pennington, Sohl-Dickstein 2018, "Sensitivity and Generalization in
Neural Networks: an Empirical Study" (arXiv:1802.08760).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polykern.boundaries.local import signs
from polykern.codes import Codes
from polykern.counting import placed
from polykern.errors import UsageError
from polykern.layout import Layout
from polykern.plane import Plane
from polykern.selectors import Select
from polykern.tail import Tail, tail_of


@dataclass(frozen=True, eq=False)
class Transitions:
    """What a closed trajectory of m steps crosses.

    counts   int32 (layers, m)   boundaries between point i and point i + 1, the last step leads back to the first
    lengths  float64 (m)         L2 of the steps
    layout   of the codes
    """

    counts: Tensor
    lengths: Tensor
    layout: Layout

    @property
    def total(self) -> int:
        """t: all steps, all layers."""
        return int(self.counts.sum())

    @property
    def length(self) -> float:
        """L2 of the whole trajectory."""
        return float(self.lengths.sum())

    @property
    def density(self) -> float:
        """Transitions per L2 unit."""
        return self.total / self.length


def circle(points: Tensor, steps: int) -> Tensor:
    """float64 (steps, *shape): equidistant points of the circle through three points, closed, the first one first.

    points  float (3, *shape), not on one line
    steps   points of the circle, three or more

    Errors: UsageError for points on a line.
    """
    if points.shape[0] != 3 or steps < 3:
        raise UsageError(f"a circle goes through 3 points in 3 steps or more, got {points.shape[0]} and {steps}")
    plane = Plane.through(points)
    sides = plane.uv[1:]
    middle = torch.linalg.solve(
        2 * sides, sides.square().sum(1)
    )  # equally far from the origin, A, and the other two
    angle = torch.atan2(-middle[1], -middle[0]) + torch.arange(steps, dtype=torch.float64) * (2 * torch.pi / steps)
    uv = middle + middle.norm() * torch.stack([angle.cos(), angle.sin()], 1)
    return plane.points(uv)


def loop(points: Tensor, steps: int) -> Tensor:
    """float64 (k * steps, *shape): the closed polygon through k points, `steps` equal steps a side.

    points  float (k, *shape), two or more; translated or turned versions of an image make a loop of augmentations
    steps   points of a side

    Errors: UsageError for fewer than two points.
    """
    if len(points) < 2 or steps < 1:
        raise UsageError(f"a loop goes through 2 points or more, got {len(points)} and {steps} steps a side")
    corners = points.to(torch.float64)
    share = torch.arange(steps, dtype=torch.float64, device=points.device) / steps
    share = share.view(-1, *(1,) * (points.ndim - 1))
    sides = [a + share * (b - a) for a, b in zip(corners, corners.roll(-1, 0), strict=True)]
    return torch.cat(sides)


def transitions(
    network: Tail | nn.Module, trajectory: Tensor, *, dtype: torch.dtype = torch.float64, select: Select = "*"
) -> Transitions:
    """What a closed trajectory crosses, step by step and layer by layer.

    network     a `Tail`, or a model in eval mode, whose inputs the points are
    trajectory  float (m, *shape)   points in the space of the tail's start, as `circle` and `loop` give them; the
                step from the last to the first is the last one
    dtype       float64, or float32 for three times the speed
    select      with a model: which nonlinearities count

    A lower bound of the crossings, for every neuron of their parity; exact for the codes of the points in `dtype`.
    Errors: UsageError for fewer than two points or another shape.
    """
    tail = tail_of(network, trajectory, select)
    if len(trajectory) < 2 or trajectory.shape[1:] != tail.input_shape:
        raise UsageError(
            f"a trajectory has 2 points or more of shape {list(tail.input_shape)}, got {list(trajectory.shape)}"
        )
    tail = placed(tail, dtype, tail.device)
    codes = Codes(signs(tail, trajectory), tail.layout)
    following = Codes(codes.words.roll(-1, 0), tail.layout)
    steps = trajectory.to(torch.float64)
    lengths = (steps.roll(-1, 0) - steps).flatten(1).norm(dim=1)
    return Transitions(codes.aligned_by_field(following), lengths, tail.layout)
