"""Boundaries around a point: how far each neuron's is, and which one is nearest."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from polykern.affine.frozen import Frozen, dual, slope_of, watched
from polykern.affine.maps import rows_of
from polykern.layout import Field, Layout
from polykern.lines import float64_tail
from polykern.lines.networks import require_points
from polykern.models import Subject
from polykern.selectors import Select
from polykern.tail import Meeting, Tail


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The boundaries of all neurons, seen from one point x.

    layout  which bit is which unit of which nonlinearity
    gap     float64 (bits)   pre-activation at x less the threshold: the bit is 1 where it is positive
    steep   float64 (bits)   ||w||, the length of its gradient; 0 where it does not depend on the point
    step    float64 (*shape) from x to the nearest boundary; zeros where there is none
    """

    layout: Layout
    gap: Tensor
    steep: Tensor
    step: Tensor

    @cached_property
    def distance(self) -> Tensor:
        """float64 (bits): |z| / ||w||, L2 units; infinite where the pre-activation is constant around x."""
        moves = self.steep > 0
        return torch.where(moves, self.gap.abs() / torch.where(moves, self.steep, 1.0), torch.inf)

    @property
    def nearest(self) -> int:
        """The bit whose boundary is nearest; of equals the first."""
        return int(self.distance.argmin())

    def neuron(self, bit: int) -> tuple[Field, int]:
        """The nonlinearity that a bit belongs to, and the unit in it."""
        field = next(f for f in reversed(self.layout.fields) if f.offset <= bit)
        return field, (bit - field.offset) % field.units


def boundary_distances(
    network: Subject | Tail | nn.Module,
    x: Tensor,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    device: str | torch.device = "cpu",
) -> Boundaries:
    """The distances of a point from the boundaries of all neurons of a piecewise-linear network.

    network  a `Subject`, a `Tail` or a model in eval mode
    x        float (*shape)   the point, in the input space of `start`
    start, stop, select  as in `polykern.lines.float64_tail`
    device   where it is evaluated
    returns  Boundaries: gap and gradient of each neuron, and the step to the nearest

    On the linear region of x the pre-activation of neuron i is w_i . x' + b_i, and its boundary a hyperplane at
    distance |z_i| / ||w_i||. The least of them is the distance at which the code of x first changes, unless a
    max-pool takes another element before; a hyperplane farther off may be bent before it is reached. Exact up to
    the rounding of float64, from one forward derivative a dimension of the space. Errors: UsageError naming an
    operator that is not piecewise linear, a point that does not fit or is not finite. Hanin, Rolnick 2019,
    "Complexity of Linear Regions in Deep Networks".
    """
    tail = float64_tail(network, x, start=start, stop=stop, select=select, device=device)
    point = require_points(tail, x[None], "the point")
    gap, steep = _gaps(tail, point)
    found = Boundaries(tail.layout, gap, steep, torch.zeros_like(point[0]))
    if not bool(found.distance.isfinite().any()):
        return found
    normal = normals(tail, point[0], torch.tensor([found.nearest]))[0]
    return Boundaries(tail.layout, gap, steep, -found.gap[found.nearest] / normal.square().sum() * normal)


def normals(tail: Tail, x: Tensor, bits: Tensor) -> Tensor:
    """float64 (n, *input_shape): the gradients at x of the pre-activations of the bits int64 (n).

    tail  in float64
    x     float64 (*input_shape) on its device
    """
    points = x[None].repeat(len(bits), *(1,) * x.ndim).requires_grad_()
    picked: list[Tensor] = []

    def see(met: Meeting) -> None:
        field = met.field
        if field is None or not isinstance(met.z, Frozen):
            return
        mine = (bits >= field.offset) & (bits < field.offset + field.bits)
        unit = torch.where(mine, (bits - field.offset) % field.units, 0).to(x.device)
        with torch.enable_grad():
            z = met.z.value.flatten(1).gather(1, unit[:, None])[:, 0]
            picked.append(torch.where(mine.to(x.device), z, 0.0).sum())

    watched(tail, points, see)
    with torch.enable_grad():
        total = torch.stack(picked).sum() if picked else points.sum() * 0
    return torch.autograd.grad(total, points)[0]


def _gaps(tail: Tail, point: Tensor) -> tuple[Tensor, Tensor]:
    """float64 (bits) each: pre-activations less thresholds, and the lengths of their gradients."""
    layout, inputs = tail.layout, tail.input_shape.numel()
    gap = torch.zeros(layout.bits, dtype=torch.float64, device=point.device)
    squared = torch.zeros_like(gap)

    def see(met: Meeting) -> None:
        field = met.field
        if field is None:
            return
        moves = isinstance(met.z, Frozen)
        value = met.z.value if moves else met.z
        z, thresholds = forward_ad.unpack_dual(value).primal[0].flatten(), len(field.thresholds)
        span = slice(field.offset, field.offset + field.bits)
        gap[span] = torch.cat([z - t for t in field.thresholds])
        if moves:
            squared[span] += slope_of(value).flatten(1).square().sum(0).repeat(thresholds)

    for axes in torch.arange(inputs, device=point.device).split(rows_of(tail)):
        directions = torch.nn.functional.one_hot(axes, inputs).double().view(-1, *tail.input_shape)
        with forward_ad.dual_level():
            watched(tail, dual(point.repeat(len(axes), *(1,) * (point.ndim - 1)), directions), see)
    return gap, squared.sqrt()
