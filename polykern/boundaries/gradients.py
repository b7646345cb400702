"""Derivatives: norms of Jacobians, and the density of boundaries where the data are.

The gradient of a pre-activation z_i at x is the normal of its boundary: |z_i| / ||grad z_i|| is the distance of x
from that boundary, continued as the hyperplane that it is inside the polytope of x. The mean of a kernel of it,

    D = sum_i E_x[ phi_s(z_i / ||grad z_i||) ]  ->  sum_i E_x[ ||grad z_i|| delta(z_i) ]      for s -> 0,

is the area of all boundaries, weighted by the density of the data (co-area formula); in one dimension, the expected
number of breakpoints. It is smooth in the weights, so that a training can be made to lower or to raise it.
Patel, Montufar 2025, "On the Local Complexity of Linear Regions in Deep ReLU Networks" (arXiv:2412.18283).

Gradients of all neurons come from forward derivatives, one pass a direction of the space; the Jacobian of the
output from one backward pass for every output.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from polykern.affine.frozen import dual, slope_of
from polykern.arithmetic import ieee
from polykern.boundaries.local import frame
from polykern.counting import placed
from polykern.errors import UsageError
from polykern.layout import Field
from polykern.selectors import Select
from polykern.tail import Meeting, Tail, tail_of

ROWS = 4096  # points that run through the network together


@dataclass(frozen=True, slots=True)
class Slopes:
    """One nonlinearity at n points: pre-activations float (n, units) and the squared norms of their gradients."""

    field: Field
    z: Tensor
    squared: Tensor

    def distances(self) -> Tensor:
        """float (n, thresholds, units): |z - t| / ||grad z||, L2; infinite where z is flat."""
        moving = self.squared > 0
        norms = torch.where(moving, self.squared, 1.0).sqrt()
        gaps = (self.z[:, None] - self.z.new_tensor(self.field.thresholds)[:, None]).abs() / norms[:, None]
        return torch.where(moving[:, None], gaps, torch.inf)


def jacobian_norms(
    network: Tail | nn.Module, points: Tensor, *, probabilities: bool = False, dtype: torch.dtype = torch.float64
) -> Tensor:
    """float64 (n): the Frobenius norm of the Jacobian of the output at points.

    network        a `Tail`, or a model in eval mode, whose inputs the points are; its output is a vector
    points         float (n, *shape)   in the space of the tail's start
    probabilities  of the softmax of the output, as Novak et al. have it, instead of the output itself
    dtype          of the passes

    Errors: UsageError where the output is not a vector.
    """
    tail = tail_of(network, points)
    shape = tail.output_shape
    if shape is None or len(shape) != 1:
        raise UsageError("the output is not a vector, so it has no Jacobian norm", fix="stop at another module")
    tail, outputs = placed(tail, dtype, tail.device), shape[0]
    found = []
    for part in points.split(max(1, ROWS // outputs)):
        x = part.to(tail.device, dtype).repeat_interleave(outputs, 0).requires_grad_()
        with ieee(), torch.enable_grad():
            y: Tensor = tail.run(x.clone(), lambda met: met.proceed(), graph=True)
            y = y.softmax(1) if probabilities else y
            chosen = y.view(-1, outputs, outputs).diagonal(dim1=1, dim2=2)  # output k of the k-th copy
            (slopes,) = torch.autograd.grad(chosen.sum(), x)
        found.append(slopes.reshape(len(part), outputs * tail.input_shape.numel()).double().norm(dim=1))
    return torch.cat(found)


def boundary_density(
    network: Tail | nn.Module,
    points: Tensor,
    bandwidth: float,
    *,
    directions: int | Tensor | None = None,
    seed: int = 0,
    select: Select = "*",
) -> Tensor:
    """D of each layer: the expected area of boundaries per volume where the data are, 1 / L2.

    network     a `Tail`, or a model in eval mode, whose inputs the points are
    points      float (n, *shape)   a sample of the data, in the dtype of the network and in the space of the start
    bandwidth   s, the standard deviation of the Gaussian kernel, L2
    directions  None: gradients along all axes of the space, exact. A number or an orthonormal float
                (directions, dimensions): their norm along these only, times sqrt(dimensions / directions)
    seed        of the directions
    select      with a model: which nonlinearities count
    returns     float (layers); its sum is D

    Differentiable with respect to weights and points that require gradients; one graph then holds all n points
    times directions. The kernel sees each hyperplane beyond the place where the boundary bends: a bias of the order
    of the bandwidth. Errors: UsageError for a bandwidth that is not positive.
    """
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise UsageError(
            f"a kernel of bandwidth {bandwidth}", fix="take a positive one, L2 in the space of the points"
        )
    tail = tail_of(network, points, select)
    dimensions = tail.input_shape.numel()
    if directions is None:
        axes = torch.eye(dimensions)
    else:
        axes = frame(directions, dimensions, seed=seed) if isinstance(directions, int) else directions
    graph = torch.is_grad_enabled()
    height = 1 / (bandwidth * math.sqrt(2 * math.pi))
    found = []
    with ieee():
        for slopes in _slopes(tail, points, axes.to(points), graph=graph):
            kernel = height * (-(slopes.distances() / bandwidth).square() / 2).exp()
            found.append(kernel.flatten(1).sum(1).mean())
    return torch.stack(found)


def _slopes(tail: Tail, points: Tensor, axes: Tensor, *, graph: bool) -> Iterator[Slopes]:
    """Pre-activations and gradients of every field at points float (n, *shape), along the rows of `axes`."""
    n, dimensions = len(points), tail.input_shape.numel()
    together = max(1, ROWS // max(1, n))
    seen: dict[Field, Slopes] = {}

    def reach(met: Meeting) -> Any:
        if met.field is not None:
            held = met.z.clone()  # an in-place activation overwrites what a backward pass needs
            z = forward_ad.unpack_dual(held).primal.view(-1, n, met.field.units)[0]
            along = slope_of(held).reshape(-1, n, met.field.units).square().sum(0)
            before = seen.get(met.field)
            whole = along if before is None else before.squared + along
            seen[met.field] = Slopes(met.field, z.clone(), whole)
        return met.proceed()

    for part in axes.split(together):
        with forward_ad.dual_level():
            copies = points.repeat(len(part), *(1,) * (points.ndim - 1))
            steps = part.view(len(part), 1, *tail.input_shape).expand(-1, n, *tail.input_shape)
            tail.run(dual(copies, steps.reshape(copies.shape)), reach, output=False, graph=graph)
    for field in tail.layout.fields:
        slopes = seen[field]
        yield Slopes(field, slopes.z, slopes.squared * (dimensions / len(axes)))
