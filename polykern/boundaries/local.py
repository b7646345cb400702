"""Local complexity: how many boundaries a small cross around a point meets, layer by layer.

Around x lie the 2 P vertices x + r v_p and x - r v_p, with P orthonormal directions v_p that are the same for every
point. All vertices go through the network; in layer l a neuron counts when its bits there are not all equal:

    LC_l(x) = #{i in layer l: the bit of neuron i differs between some vertex and the first} .

Behind the first layer this asks whether a boundary separates the images of the vertices, not whether it enters
their hull: a boundary that bends into the hull without separating vertices is missed. In the first layer, which is
affine, it is exact and grows with r:  LC_1(x) = #{i: |z_i(x)| < r max_p |w_i . v_p|}.

Humayun, Balestriero, Baraniuk 2024, "Deep Networks Always Grok and Here is Why" (arXiv:2402.15555). Their code
compares torch.sign, which has three states: there a pre-activation of exactly 0 differs from a negative one, here
both have bit 0. Without zeros the counts are equal. Where an activation has two thresholds each of its bits counts.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.codes import Codes
from polykern.counting import placed
from polykern.errors import UsageError
from polykern.layout import Layout
from polykern.points import codes_of
from polykern.selectors import Select
from polykern.tail import Tail, tail_of

DIRECTIONS = 25  # 50 vertices, as published for a small network
VERTICES = 64 << 20  # bytes of vertices held at a time
NUMBER, COPIES = 8, 4  # bytes; of activations and points that live together
BATCH = 256  # points of a pass: their activations stay in the caches of a CPU


@dataclass(frozen=True, eq=False)
class LocalComplexity:
    """Local complexities of n points.

    counts  int32 (radii, layers, n)   boundaries, by radius and by nonlinearity
    radii   L2 in the space of the points
    layout  of the codes: the layers and their sizes
    """

    counts: Tensor
    radii: tuple[float, ...]
    layout: Layout

    @property
    def total(self) -> Tensor:
        """int64 (radii, n): all layers together."""
        return self.counts.sum(1)

    @property
    def shares(self) -> Tensor:
        """float64 (radii, layers, n): of the bits of the layer."""
        bits = torch.tensor([f.bits for f in self.layout.fields], dtype=torch.float64, device=self.counts.device)
        return self.counts / bits[:, None]


def frame(directions: int, dimensions: int, *, seed: int = 0) -> Tensor:
    """float64 (directions, dimensions): orthonormal rows, uniform over all such frames (Haar).

    directions  how many, at most `dimensions`
    dimensions  of the space
    seed        the same seed gives the same frame

    Errors: UsageError saying the most.
    """
    if not 1 <= directions <= dimensions:
        raise UsageError(
            f"{directions} orthonormal directions in a space of {dimensions} dimensions",
            fix=f"take 1 to {dimensions}",
        )
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(dimensions, directions, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    uniform: Tensor = q * r.diagonal().sign()  # Mezzadri 2007
    return uniform.T.contiguous()


def axes_of(tail: Tail, directions: int | Tensor | None, seed: int) -> Tensor:
    """The directions in the space of a tail that the argument of `local_complexity` stands for."""
    if isinstance(directions, Tensor):
        return directions
    dimensions = tail.input_shape.numel()
    return frame(min(DIRECTIONS, dimensions) if directions is None else directions, dimensions, seed=seed)


def vertices(points: Tensor, axes: Tensor, radius: float, *, centre: bool = False) -> Tensor:
    """The vertices around points: first all x + r v, then all x - r v, then x itself where `centre` is set.

    points   float (n, *shape)
    axes     float (directions, dimensions)   orthonormal
    radius   L2
    returns  float64 (n, vertices, *shape)
    """
    around = radius * axes.to(points.device, torch.float64)
    steps = torch.cat([around, -around, *([torch.zeros_like(around[:1])] if centre else [])])
    flat = points.to(torch.float64).reshape(len(points), 1, -1) + steps
    return flat.reshape(len(points), len(steps), *points.shape[1:])


def local_complexity(
    network: Tail | nn.Module,
    points: Tensor,
    radii: Sequence[float],
    *,
    directions: int | Tensor | None = None,
    centre: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    select: Select = "*",
    memory: int = 2 << 30,
) -> LocalComplexity:
    """The local complexity of points, by layer, at several radii.

    network     a `Tail`, or a model in eval mode, whose inputs the points are; smooth ones have boundaries too
    points      float (n, *shape)   in the space of the tail's start
    radii       L2 in that space, above 0
    directions  how many, drawn as `frame` does, or the orthonormal float (directions, dimensions) themselves;
                None: 25, or as many as there are dimensions
    centre      whether the point itself is one of the vertices
    seed        of the directions
    dtype       float64, or float32 for three times the speed
    select      with a model: which nonlinearities count
    memory      bytes that the activations of a batch may take

    Exact for the signs in `dtype`. Errors: UsageError for a radius that is not positive, directions that do not fit
    the space or are not orthonormal, points of another shape; CorruptError where a pre-activation is NaN.
    """
    tail = tail_of(network, points, select)
    tail = placed(tail, dtype, tail.device)
    axes = axes_of(tail, directions, seed)
    _require(tail, points, radii, axes)
    found = [_counts(tail, points, axes, float(radius), centre, memory) for radius in radii]
    return LocalComplexity(torch.stack(found), tuple(map(float, radii)), tail.layout)


def _counts(tail: Tail, points: Tensor, axes: Tensor, radius: float, centre: bool, memory: int) -> Tensor:
    """int32 (layers, n)."""
    parts = [torch.empty(len(tail.layout.fields), 0, dtype=torch.int32, device=tail.device)]
    for around in neighbourhoods(points, axes, radius, centre=centre):
        n, corners = around.shape[:2]
        words = signs(tail, around.flatten(0, 1), memory=memory).view(n, corners, -1)
        differing = torch.zeros_like(words[:, 0])
        for corner in range(1, corners):
            differing |= words[:, corner] ^ words[:, 0]
        bits = Codes(differing, tail.layout)
        parts.append(bits.aligned_by_field(Codes(torch.zeros_like(differing), tail.layout)))
    return torch.cat(parts, 1)


def signs(tail: Tail, points: Tensor, *, memory: int = 2 << 30) -> Tensor:
    """int32 (n, words): the codes of points float (n, *shape) in the tail's dtype, in batches that fit `memory`."""
    each = NUMBER * COPIES * (tail.layout.bits + tail.input_shape.numel())
    with ieee():
        return codes_of(tail, points, batch=max(1, min(BATCH, memory // each))).words


def neighbourhoods(points: Tensor, axes: Tensor, radius: float, *, centre: bool = False) -> Iterator[Tensor]:
    """The `vertices` of points, so many points at a time that 64 MiB hold them."""
    each = 8 * (2 * len(axes) + centre) * max(1, points[:1].numel())
    for part in points.split(max(1, VERTICES // each)):
        if len(part):
            yield vertices(part, axes, radius, centre=centre)


def require_radii(radii: Sequence[float]) -> None:
    """Raise UsageError unless there is a radius, and all are positive numbers."""
    if not len(radii):
        raise UsageError("no radius is given", fix="give at least one, L2 in the space of the points")
    for radius in radii:
        if not 0 < radius < math.inf:
            raise UsageError(f"a radius of {radius}", fix="take a positive number, L2 in the space of the points")


def _require(tail: Tail, points: Tensor, radii: Sequence[float], axes: Tensor) -> None:
    where = tail.start or "the model"
    if points.shape[1:] != tail.input_shape or not points.is_floating_point():
        raise UsageError(
            f"points in the input space of {where} are float (n, {list(tail.input_shape)}), got "
            f"{str(points.dtype).removeprefix('torch.')} {list(points.shape)}",
            fix="" if points.is_floating_point() else "start at a module whose input is activations",
        )
    require_radii(radii)
    dimensions = tail.input_shape.numel()
    if axes.ndim != 2 or axes.shape[1] != dimensions or not 1 <= len(axes) <= dimensions:
        raise UsageError(
            f"directions of shape {list(axes.shape)} in a space of {dimensions} dimensions",
            fix=f"give orthonormal rows, (1 to {dimensions}, {dimensions})",
        )
    gram = axes.double() @ axes.double().T
    if not torch.allclose(gram, torch.eye(len(axes), dtype=torch.float64, device=axes.device), atol=1e-4):
        raise UsageError("the directions are not orthonormal", fix="take polykern.boundaries.frame")
