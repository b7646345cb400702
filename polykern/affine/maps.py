"""The affine map of a network at a point: on the polytope of the point it is the network itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from polykern.affine.frozen import Kind, dual, passed, slope_of
from polykern.errors import UsageError
from polykern.lines import float64_tail
from polykern.lines.networks import require_points
from polykern.models import Subject
from polykern.selectors import Select
from polykern.tail import Tail

MEMORY = 1 << 29  # bytes of activations that a batch of passes keeps
KINDS = ("exact", "interpolated", "jacobian")


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x -> matrix x + offset.

    matrix        float64 (outputs, inputs), both flattened row-major
    offset        float64 (outputs)
    input_shape   of a point
    output_shape  of what it becomes
    kind          "exact", "interpolated" or "jacobian"
    """

    matrix: Tensor
    offset: Tensor
    input_shape: torch.Size
    output_shape: torch.Size
    kind: Kind = "exact"

    def __call__(self, points: Tensor) -> Tensor:
        """float64 (n, *output_shape): what the map makes of points (n, *input_shape)."""
        flat = points.to(self.matrix).reshape(len(points), self.input_shape.numel())
        return (flat @ self.matrix.T + self.offset).reshape(len(points), *self.output_shape)

    def __sub__(self, other: "AffineMap") -> "AffineMap":
        """The difference of two maps, as a map."""
        if (self.input_shape, self.output_shape) != (other.input_shape, other.output_shape):
            raise UsageError("maps between different spaces")
        return AffineMap(
            self.matrix - other.matrix, self.offset - other.offset, self.input_shape, self.output_shape, self.kind
        )


def affine_map(
    network: Subject | Tail | nn.Module,
    x: Tensor,
    *,
    kind: Kind = "exact",
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    device: str | torch.device = "cpu",
) -> AffineMap:
    """The affine map that a network is around a point: A and c with f(x) = A x + c.

    network  a `Subject`, a `Tail` or a model in eval mode; its output (or that of `stop`) is one tensor
    x        float (*shape)   the point, in the input space of `start`
    kind     "exact": of a piecewise-linear network, max-pools with the winners that they have at x: it holds on the
             whole linear region of x. "interpolated": a smooth f(z) = q(z) z has its gate q frozen, GELU's
             Phi(z), SiLU's sigma(z): f(x) = A x + c holds at x. "jacobian": the derivative, of any network; c is
             f(x) - A x
    start, stop, select  as in `polykern.lines.float64_tail`
    device   where it is evaluated
    returns  AffineMap in float64

    Exact up to the rounding of float64. A comes from derivatives, backwards with one row for every output or
    forwards with one for every input, whichever are fewer; c is what the network with frozen masks makes of 0.
    Errors: UsageError naming an operator that the kind does not admit (a gate, an attention, a norm; smooth
    activations), a point that does not fit or is not finite. Black et al. 2022, "Interpreting Neural Networks
    through the Polytope Lens", footnote 8 and appendix C; Balestriero, Baraniuk 2018.
    """
    (found,) = affine_maps(network, x[None], kind=kind, start=start, stop=stop, select=select, device=device)
    return found


def affine_maps(
    network: Subject | Tail | nn.Module,
    points: Tensor,
    *,
    kind: Kind = "exact",
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    device: str | torch.device = "cpu",
) -> list[AffineMap]:
    """`affine_map` of points float (n, *shape), together; all else as there."""
    if kind not in KINDS:
        raise UsageError(f"no kind of map is called {kind!r}", fix=f"there are {', '.join(KINDS)}")
    if not len(points):
        return []
    tail = float64_tail(network, points[0], start=start, stop=stop, select=select, device=device)
    points = require_points(tail, points, "the point")
    shape = output_of(tail)
    matrices = matrices_of(tail, points, kind)
    values, offsets = values_of(tail, points, kind)
    if kind == "jacobian":
        offsets = values - torch.einsum("noi,ni->no", matrices, points.flatten(1))
    return [AffineMap(a, c, tail.input_shape, shape, kind) for a, c in zip(matrices, offsets, strict=True)]


def output_of(tail: Tail) -> torch.Size:
    """The shape of one point's output; UsageError where it is not one tensor."""
    if tail.output_shape is None:
        raise UsageError(
            "the output is not one tensor, so there is no map to it", fix="stop at a module that gives one"
        )
    return tail.output_shape


def values_of(tail: Tail, points: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """float64 (n, outputs) each: f(x), and what the frozen maps make of 0 (of "jacobian": zeros)."""
    found = [passed(tail, part.clone(), kind, origin=kind != "jacobian") for part in points.split(rows_of(tail))]
    values = torch.cat([out.value.flatten(1) for out in found])
    origins = [out.origin.flatten(1) for out in found if out.origin is not None]
    return values, torch.cat(origins) if origins else torch.zeros_like(values)


def matrices_of(tail: Tail, points: Tensor, kind: Kind) -> Tensor:
    """float64 (n, outputs, inputs): the matrices at points (n, *input_shape)."""
    outputs, inputs = output_of(tail).numel(), tail.input_shape.numel()
    across = torch.cartesian_prod(torch.arange(len(points)), torch.arange(min(outputs, inputs))).reshape(-1, 2)
    backwards, found = outputs <= inputs, []
    for part in across.split(rows_of(tail)):
        which, number = part.to(points.device).unbind(1)
        if backwards:
            x = points[which].requires_grad_()
            out = passed(tail, x, kind).value
            with torch.enable_grad():
                total = out.flatten(1).gather(1, number[:, None]).sum()
            (slopes,) = torch.autograd.grad(total, x)
            found.append(slopes.flatten(1))
        else:
            axes = torch.nn.functional.one_hot(number, inputs).double()
            found.append(pushed(tail, points[which], axes.view(-1, *tail.input_shape), kind))
    rows = torch.cat(found).view(len(points), min(outputs, inputs), -1)
    return rows if backwards else rows.transpose(1, 2)


def pushed(tail: Tail, points: Tensor, directions: Tensor, kind: Kind) -> Tensor:
    """float64 (n, outputs): A v, for a direction v (n, *input_shape) at each point."""
    with forward_ad.dual_level():
        return slope_of(passed(tail, dual(points, directions), kind).value).flatten(1)


def rows_of(tail: Tail) -> int:
    """Points of one batch of passes: a pass keeps about four copies of its activations, eight bytes each."""
    units = tail.input_shape.numel() + sum(f.units for f in tail.layout.fields)
    return max(1, MEMORY // (32 * units))
