"""Bits that are affine in the plane, or affine behind one LayerNorm: their flips without visiting every pixel.

Bit b is on at row i, column j of a lattice where

    f = ((c[b, 0] + v[i] c[b, 2]) + u[j] c[b, 1]) + bend[b] radius[i, j]  >  0,

evaluated in float64 in exactly this order. `radius` is the length of an affine vector, so along a row or a column f
is convex or concave: it changes its sign at most twice, once where bend = 0. The cpu implementation brackets the
changes and reads the sign off f itself next to them; what lies beyond is certain because |f| exceeds twice its
rounding error there. Exact: counts and fingerprints equal those of f evaluated at every pixel, bit for bit.
Work: O(bits) a row and a column, not O(bits x pixels). Black et al. 2022, the slice through three activations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection

ROUNDING = 2.0**-49  # 16 units of float64: six roundings of f, and as many of u, v and radius


@dataclass(frozen=True, slots=True)
class Curves:
    """The zero sets of the bits.

    coefficient  float64 (bits, 3)  of 1, u, v
    bend         float64 (bits)     of the radius
    key          int64 (bits, 2)    fingerprint keys (`digest.keys`)
    field        int32 (bits)       field of each bit
    tolerance    float64 (bits)     error bound of f, the coefficients' own errors included
    """

    coefficient: Tensor
    bend: Tensor
    key: Tensor
    field: Tensor
    tolerance: Tensor


@dataclass(frozen=True, slots=True)
class Lattice:
    """height x width pixels and their right and lower neighbours.

    u       float64 (width + 1)              of the columns, ascending, equally spaced up to rounding
    v       float64 (height + 1)             of the rows, likewise
    radius  float64 (height + 1, width + 1)  positive, the length of an affine vector up to `blur`
    blur    absolute error of `radius`
    """

    u: Tensor
    v: Tensor
    radius: Tensor
    blur: float = 0.0


# --- contract -----------------------------------------------------------------------------------


def crossings(
    curves: Curves, lattice: Lattice, fields: int, *, backend: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Bits that flip between neighbouring pixels, and fingerprints.

    curves   the bits
    lattice  the pixels
    fields   number of fields
    backend  "cpu" | "reference"; None takes the first that can run
    returns  right, down int32 (fields, height, width): bits that differ from the right / lower neighbour;
             digest int64 (height, width, 2): sum of the keys of the bits that are on

    Exact. Raises ValueError when an argument does not fit.
    """
    _check_arguments("scanline.crossings", curves, lattice)
    _check.within("scanline.crossings", "field", curves.field, fields, f"numbers of {fields} fields")
    run = choose("scanline.crossings", IMPLS["crossings"], backend, curves.coefficient).run
    return run(curves, lattice, fields)  # type: ignore[no-any-return]


def margins(curves: Curves, lattice: Lattice, *, backend: str | None = None) -> tuple[Tensor, int]:
    """The smallest distance of a pre-activation to its threshold at every pixel.

    curves   the bits
    lattice  the pixels
    backend  "cpu" | "reference"; None takes the first that can run
    returns  margin float32 (height, width): min over bits of (|f| - tolerance) / radius, at least 0;
             the number of (pixel, bit) with |f| <= tolerance

    Exact: the float64 minimum, rounded once. Raises ValueError when an argument does not fit.
    """
    _check_arguments("scanline.margins", curves, lattice)
    run = choose("scanline.margins", IMPLS["margins"], backend, curves.coefficient).run
    return run(curves, lattice)  # type: ignore[no-any-return]


def rounding(coefficient: Tensor, bend: Tensor, lattice: Lattice) -> Tensor:
    """How far f as evaluated lies from the f of exact arithmetic, anywhere on the lattice.

    coefficient  float64 (bits, 3)
    bend         float64 (bits)
    lattice      the pixels
    returns      float64 (bits)   upper bounds; 0 only where all coefficients are 0
    """
    reach = torch.stack([torch.ones_like(lattice.u[0]), lattice.u.abs().max(), lattice.v.abs().max()])
    size = coefficient.abs() @ reach + bend.abs() * lattice.radius.max()
    return ROUNDING * size + bend.abs() * lattice.blur


def cost(bits: int, height: int, width: int, fields: int) -> Cost:
    """`crossings`: write the maps once; two evaluations of f for each bit on each row and column."""
    wrote = height * width * (8 * fields + 16)
    return Cost(bytes=64 * bits + wrote, flops=12 * bits * (height + width))


def _check_arguments(op: str, c: Curves, at: Lattice) -> None:
    bits, points = len(c.coefficient), (len(at.v), len(at.u))
    if min(points) < 2:
        raise ValueError(f"{op}: a lattice has at least two rows and columns of points, got {points}")
    _check.sized(op, "coefficient", c.coefficient, torch.float64, bits, 3)
    _check.sized(op, "bend", c.bend, torch.float64, bits)
    _check.sized(op, "key", c.key, torch.int64, bits, 2)
    _check.sized(op, "field", c.field, torch.int32, bits)
    _check.sized(op, "tolerance", c.tolerance, torch.float64, bits)
    _check.sized(op, "u", at.u, torch.float64, points[1])
    _check.sized(op, "v", at.v, torch.float64, points[0])
    _check.sized(op, "radius", at.radius, torch.float64, *points)


# --- reference: f at every pixel, one row after the other ------------------------------------------


def _row(c: Curves, at: Lattice, i: int) -> Tensor:
    """float64 (bits, width + 1)"""
    c0, c1, c2 = (c.coefficient[:, k, None] for k in range(3))
    return ((c0 + at.v[i] * c2) + at.u * c1) + c.bend[:, None] * at.radius[i]


def _crossings_reference(c: Curves, at: Lattice, fields: int) -> tuple[Tensor, Tensor, Tensor]:
    height, width = len(at.v) - 1, len(at.u) - 1
    right = torch.zeros((fields, height, width), dtype=torch.int32, device=at.u.device)
    down, digest = torch.zeros_like(right), at.u.new_zeros((height, width, 2), dtype=torch.int64)
    on = _row(c, at, 0) > 0
    for i in range(height):
        below = _row(c, at, i + 1) > 0
        right[:, i].index_add_(0, c.field, (on[:, :-1] != on[:, 1:]).int())
        down[:, i].index_add_(0, c.field, (on != below)[:, :-1].int())
        digest[i] = torch.where(on[:, :-1, None], c.key[:, None], 0).sum(0)
        on = below
    return right, down, digest


def _margins_reference(c: Curves, at: Lattice) -> tuple[Tensor, int]:
    margin, uncertain = [], 0
    for i in range(len(at.v) - 1):
        room = (_row(c, at, i).abs() - c.tolerance[:, None])[:, :-1]
        uncertain += int((room <= 0).sum())
        least = torch.cat([room, torch.full_like(room[:1], torch.inf)]).amin(0)
        margin.append((least.clamp(min=0) / at.radius[i, :-1]).float())
    return torch.stack(margin), uncertain


# --- cpu: numba, `_numba.scanline` -----------------------------------------------------------------


def _arrays(c: Curves, at: Lattice) -> tuple[object, ...]:
    given = (c.coefficient, c.bend, c.field, c.key, c.tolerance, at.u, at.v, at.radius)
    return tuple(x.contiguous().numpy() for x in given)


def _loop(name: str) -> Callable[..., Any]:
    from polykern_kernels._numba import scanline as loops

    return getattr(loops, name)  # type: ignore[no-any-return]


def _crossings_cpu(c: Curves, at: Lattice, fields: int) -> tuple[Tensor, Tensor, Tensor]:
    height, width = len(at.v) - 1, len(at.u) - 1
    right = torch.zeros((fields, height, width), dtype=torch.int32)
    down, digest = torch.zeros_like(right), torch.zeros((height, width, 2), dtype=torch.int64)
    doubt = 2 * rounding(c.coefficient, c.bend, at)
    _loop("crossings")(*_arrays(c, at), doubt.numpy(), right.numpy(), down.numpy(), digest.numpy())
    return right, down, digest


def _margins_cpu(c: Curves, at: Lattice) -> tuple[Tensor, int]:
    margin = torch.empty((len(at.v) - 1, len(at.u) - 1), dtype=torch.float32)
    doubt = 2 * rounding(c.coefficient, c.bend, at)
    return margin, int(_loop("margins")(*_arrays(c, at), doubt.numpy(), margin.numpy()))


IMPLS = {
    "crossings": (
        Impl("cpu", _crossings_cpu, cpu_objection),
        Impl("reference", _crossings_reference, lambda *a: None),
    ),
    "margins": (
        Impl("cpu", _margins_cpu, cpu_objection),
        Impl("reference", _margins_reference, lambda *a: None),
    ),
}
