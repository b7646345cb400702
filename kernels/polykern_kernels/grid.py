"""One layer of anchored evaluation: activations, sign counts, margins and fingerprints in a pass.

A point of group g is anchor[g] + delta[g, p]; the points of a group are a raster of height x width pixels.

    z = anchor + delta                          in the anchor's dtype
    bit[k] = z > thresholds[k]                  counted against the right and the lower neighbour
    delta' = f(z) - f(anchor)                   f continuous and piecewise linear
           = slope * delta                      when z and anchor lie on one piece,
           = sum over pieces of slope * (length of the piece between anchor and z)     otherwise

so that no rounding of the anchor reaches delta': nothing cancels. Bits, counts and fingerprints are integers
and the same on every backend; so is delta', whose few roundings are prescribed (products and sums in the
anchor's dtype, in the order of the pieces, the result to float32). Thresholds are rounded down to the
anchor's dtype, which changes no comparison. Codes are scratch of one bit where a delta has 32, counted while
they are cached and dropped unless asked for. Counts are int32: they hold codes of up to 2**31 - 1 bits.

Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens" (the density of polytope
boundaries); the fingerprint is that of `polykern_kernels.digest`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern_kernels import _check, digest, pack
from polykern_kernels._bits import WORD_BITS, words_for
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose

FLOATS = (torch.float32, torch.float64)


@dataclass(slots=True)
class GridTotals:
    """Accumulators of `step` and `tally`; every call adds to them.

    right   int32 (groups, height, width - 1)     bits that differ from the right neighbour
    down    int32 (groups, height - 1, width)     bits that differ from the lower neighbour
    margin  float32 (groups, height * width)      smallest |z - threshold| so far; infinity before the first
    digest  int64 (groups, height * width, 2)     fingerprint of the code so far
    nans    int64 (1)                             NaN met so far

    Counts of one layer: `take_counts` after it.
    """

    right: Tensor
    down: Tensor
    margin: Tensor
    digest: Tensor
    nans: Tensor

    @classmethod
    def zeros(cls, groups: int, height: int, width: int, device: torch.device | str = "cpu") -> "GridTotals":
        """Accumulators of nothing yet for `groups` rasters of height x width points."""
        points = height * width
        return cls(
            right=torch.zeros((groups, height, width - 1), dtype=torch.int32, device=device),
            down=torch.zeros((groups, height - 1, width), dtype=torch.int32, device=device),
            margin=torch.full((groups, points), torch.inf, dtype=torch.float32, device=device),
            digest=torch.zeros((groups, points, digest.LANES), dtype=torch.int64, device=device),
            nans=torch.zeros(1, dtype=torch.int64, device=device),
        )

    def take_counts(self) -> tuple[Tensor, Tensor]:
        """right and down as they stand; zeros take their place."""
        counts = self.right, self.down
        self.right, self.down = torch.zeros_like(self.right), torch.zeros_like(self.down)
        return counts

    def require_numbers(self) -> None:
        """Raise ValueError when a pre-activation was NaN. On CUDA this waits for the device."""
        if int(self.nans):
            raise ValueError(f"grid: {int(self.nans)} pre-activations are NaN, and NaN has no sign")


@dataclass(frozen=True, slots=True)
class Step:
    """What `step` returns.

    delta  float32 (groups, height * width, units)   activation at the points less that at the anchor
    words  int32 (groups * height * width, words)    packed codes of this layer, or None
    """

    delta: Tensor
    words: Tensor | None


# --- contract -----------------------------------------------------------------------------------


def step(
    anchor: Tensor,
    delta: Tensor,
    *,
    height: int,
    width: int,
    thresholds: Sequence[float],
    slopes: Sequence[float],
    bit_offset: int,
    total: GridTotals,
    emit: bool = False,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Step:
    """Activations behind one layer, with its bits added to `total`.

    anchor         float32|float64 (groups, units)              pre-activations at the anchors
    delta          float32 (groups, height * width, units)      pre-activations less the anchor's
    height, width  the raster of points of a group, row by row
    thresholds     K >= 1 ascending kinks of the activation     (ReLU: [0]; ReLU6: [0, 6])
    slopes         K + 1 slopes left to right                   (ReLU: [0, 1]; ReLU6: [0, 1, 0])
    bit_offset     position of the layer's first bit in the whole code; its bits are threshold-major
    total          accumulators on anchor's device, changed in place
    emit           also return the packed codes of this layer
    out            where the new delta goes: a contiguous tensor like delta, or delta itself; None makes one
    backend        "triton" | "cpu" | "reference"; None takes the first that can run

    Exact as said above. Raises ValueError when the arguments do not fit, and on NaN: at once on the CPU; on
    CUDA tensors they are counted in `total.nans`, and `total.require_numbers()` reports them.
    """
    op = "grid.step"
    _check.tensor(op, "anchor", anchor, FLOATS, "groups", "units")
    _check.tensor(op, "delta", delta, (torch.float32,), "groups", "height * width", "units")
    groups, units = anchor.shape
    _check.sized(op, "delta", delta, torch.float32, groups, height * width, units)
    if len(slopes) != len(thresholds) + 1:
        raise ValueError(f"{op}: slopes must be one more than thresholds, got {len(slopes)} and {len(thresholds)}")
    kinks = _kinks(op, thresholds, anchor.dtype)
    check_total(op, total, anchor, height, width, bit_offset)
    _check.same_device(op, anchor=anchor, delta=delta)
    tilts = torch.tensor(list(slopes), dtype=anchor.dtype)
    out = torch.empty(delta.shape, dtype=delta.dtype, device=delta.device) if out is None else out
    _check.sized(op, "out", out, torch.float32, *delta.shape)
    if out.device != delta.device or not out.is_contiguous():
        raise ValueError(f"{op}: out must be contiguous and on delta's device")
    chosen = choose(op, IMPLS["step"], backend, anchor, delta)
    layer = (height, width, kinks, tilts, bit_offset)
    words = chosen.run(anchor.detach(), delta.detach(), *layer, total, emit, out.detach())
    if anchor.device.type == "cpu":
        total.require_numbers()
    return Step(out, words.flatten(0, 1) if emit else None)


def tally(
    z: Tensor,
    *,
    height: int,
    width: int,
    thresholds: Sequence[float],
    bit_offset: int,
    total: GridTotals,
    emit: bool = False,
    backend: str | None = None,
) -> Tensor | None:
    """The bits of pre-activations added to `total`; returns their packed codes when asked to.

    z              float32|float64 (groups, height * width, units)   pre-activations
    height, width  the raster of points of a group, row by row
    thresholds     K >= 1 ascending numbers
    bit_offset     position of the layer's first bit in the whole code; its bits are threshold-major
    total          accumulators on z's device, changed in place
    emit           return the packed codes of this layer
    backend        "triton" | "cpu" | "reference"; None takes the first that can run
    returns        int32 (groups * height * width, words), or None

    Exact; errors as for `step`.
    """
    op = "grid.tally"
    _check.tensor(op, "z", z, FLOATS, "groups", "height * width", "units")
    _check.sized(op, "z", z, z.dtype, z.shape[0], height * width, z.shape[2])
    kinks = _kinks(op, thresholds, z.dtype)
    check_total(op, total, z, height, width, bit_offset)
    chosen = choose(op, IMPLS["tally"], backend, z)
    words = chosen.run(z.detach(), height, width, kinks, bit_offset, total, emit)
    if z.device.type == "cpu":
        total.require_numbers()
    return words.flatten(0, 1) if emit else None


def cost(groups: int, height: int, width: int, units: int, *, thresholds: int = 1, itemsize: int = 8) -> Cost:
    """`step`: read anchors and deltas once, write deltas once, read and write the accumulators."""
    points = groups * height * width
    pairs = groups * (height * (width - 1) + (height - 1) * width)
    moved = groups * units * itemsize + 8 * points * units + 2 * (4 * pairs + 20 * points)
    return Cost(
        bytes=moved,
        popcounts=pairs * words_for(thresholds * units),
        flops=points * units * (2 + thresholds),
    )


def cost_tally(groups: int, height: int, width: int, units: int, *, thresholds: int = 1, itemsize: int = 8) -> Cost:
    """`tally`: read the pre-activations once, read and write the accumulators."""
    points = groups * height * width
    pairs = groups * (height * (width - 1) + (height - 1) * width)
    return Cost(
        bytes=points * units * itemsize + 2 * (4 * pairs + 20 * points),
        popcounts=pairs * words_for(thresholds * units),
        flops=points * units * thresholds,
    )


def _kinks(op: str, thresholds: Sequence[float], dtype: torch.dtype) -> Tensor:
    if not thresholds or not all(a < b for a, b in pairwise([-torch.inf, *thresholds, torch.inf])):
        raise ValueError(f"{op}: thresholds must be finite and ascending, got {list(thresholds)}")
    return pack.round_down(torch.tensor(list(thresholds), dtype=torch.float64), dtype)


def check_total(op: str, total: GridTotals, x: Tensor, height: int, width: int, bit_offset: int) -> None:
    """Accumulators of rasters of x (groups, ...) must be those of height x width points, on its device."""
    groups = x.shape[0]
    if height < 1 or width < 1 or bit_offset < 0:
        given = f"{height}, {width}, {bit_offset}"
        raise ValueError(f"{op}: height, width >= 1 and bit_offset >= 0 are needed, got {given}")
    _check.sized(op, "total.right", total.right, torch.int32, groups, height, width - 1)
    _check.sized(op, "total.down", total.down, torch.int32, groups, height - 1, width)
    _check.sized(op, "total.margin", total.margin, torch.float32, groups, height * width)
    _check.sized(op, "total.digest", total.digest, torch.int64, groups, height * width, 2)
    _check.sized(op, "total.nans", total.nans, torch.int64, 1)
    parts = {f"total.{name}": getattr(total, name) for name in total.__slots__}
    _check.same_device(op, z=x, **parts)
    for name, part in parts.items():
        if not part.is_contiguous():
            raise ValueError(f"{op}: {name} must be contiguous, for it is changed in place")


# --- reference: every bit as a boolean ---------------------------------------------------------------


def _step_reference(
    anchor: Tensor,
    delta: Tensor,
    height: int,
    width: int,
    kinks: Tensor,
    tilts: Tensor,
    bit_offset: int,
    total: GridTotals,
    emit: bool,
    out: Tensor,
) -> Tensor:
    a, t, s = anchor[:, None], kinks.tolist(), tilts.tolist()
    z = a + delta
    words = _tally_reference(z, height, width, kinks, bit_offset, total, emit)
    ends = [-torch.inf, *t, torch.inf]
    lengths = [z.clamp(low, high) - a.clamp(low, high) for low, high in pairwise(ends)]
    across = s[0] * lengths[0]
    for slope, length in zip(s[1:], lengths[1:], strict=True):
        across = across + slope * length
    piece = torch.stack([(a > k).long() for k in t]).sum(0)
    same = piece == torch.stack([(z > k).long() for k in t]).sum(0)
    own = tilts.to(anchor.device)[piece]
    out.copy_(torch.where(same, own * delta, across))
    return words


def _tally_reference(
    z: Tensor, height: int, width: int, kinks: Tensor, bit_offset: int, total: GridTotals, emit: bool
) -> Tensor:
    t = kinks.to(z.device)[:, None]
    if z.shape[2]:
        gap = (z[:, :, None, :] - t).abs().flatten(2).amin(2)
        torch.minimum(total.margin, gap.float(), out=total.margin)
    total.nans += z.isnan().sum()
    return add_bits((z[:, :, None, :] > t).flatten(2), height, width, bit_offset, total)


def add_bits(on: Tensor, height: int, width: int, bit_offset: int, total: GridTotals) -> Tensor:
    """Bits bool (groups, height * width, bits) added to counts and fingerprints; their words."""
    groups, points, bits = on.shape
    raster = on.view(groups, height, width, bits)
    total.right += (raster[:, :, 1:] != raster[:, :, :-1]).sum(3, dtype=torch.int32)
    total.down += (raster[:, 1:] != raster[:, :-1]).sum(3, dtype=torch.int32)
    words = pack.words_of(on.flatten(0, 1))
    prints = digest.fingerprints(words, bits, offset=bit_offset, backend="reference")
    total.digest += prints.view(groups, points, digest.LANES)
    return words.view(groups, points, words.shape[1])


# --- cpu: numba, `_numba.grid` ------------------------------------------------------------------------

_SCRATCH_BYTES = 1 << 20  # codes of so many groups at a time that the counts find them in L2


def _step_cpu(
    anchor: Tensor,
    delta: Tensor,
    height: int,
    width: int,
    kinks: Tensor,
    tilts: Tensor,
    bit_offset: int,
    total: GridTotals,
    emit: bool,
    out: Tensor,
) -> Tensor | None:
    from polykern_kernels._numba import grid as loops

    a, d, o = anchor.contiguous().numpy(), delta.contiguous().numpy(), out.numpy()
    t, s, infinity = _scalars(kinks), _scalars(tilts), _infinity(anchor.dtype)
    margin = total.margin.numpy()

    def rows(part: slice, words: NDArray[np.uint32]) -> int:
        return loops.step(a[part], d[part], t, s, infinity, o[part], words, margin[part])  # type: ignore[no-any-return]

    return _in_parts(rows, delta, width, len(kinks), bit_offset, total, emit)


def _tally_cpu(
    z: Tensor, height: int, width: int, kinks: Tensor, bit_offset: int, total: GridTotals, emit: bool
) -> Tensor | None:
    from polykern_kernels._numba import grid as loops

    values, margin = z.contiguous().numpy(), total.margin.numpy()
    t, infinity = _scalars(kinks), _infinity(z.dtype)

    def rows(part: slice, words: NDArray[np.uint32]) -> int:
        return loops.tally(values[part], t, infinity, words, margin[part])  # type: ignore[no-any-return]

    return _in_parts(rows, z, width, len(kinks), bit_offset, total, emit)


def _in_parts(
    rows: Callable[[slice, NDArray[np.uint32]], int],
    z: Tensor,
    width: int,
    kinks: int,
    bit_offset: int,
    total: GridTotals,
    emit: bool,
) -> Tensor | None:
    """Some groups after the other: `rows` writes their codes, and these are counted while they are cached."""
    from polykern_kernels._numba import grid as loops

    groups, points, units = z.shape
    size = words_for(kinks * units)
    key = digest.keys(size * WORD_BITS, offset=bit_offset, backend="cpu").T.contiguous().numpy()
    together = max(1, _SCRATCH_BYTES // max(1, 4 * points * size))
    kept = groups if emit else min(groups, together)
    words = torch.empty((kept, points, size), dtype=torch.int32)
    codes = words.numpy().view(np.uint32)
    right, down, prints = total.right.numpy(), total.down.numpy(), total.digest.numpy()
    for first in range(0, groups, together):
        part = slice(first, min(groups, first + together))
        here = codes[part] if emit else codes[: part.stop - part.start]
        total.nans += rows(part, here)
        loops.count(here, key, width, right[part], down[part], prints[part])
    return words if emit else None


def _scalars(x: Tensor) -> tuple[np.floating[Any], ...]:
    """The elements as numbers of their own dtype: numba compiles one loop for each length."""
    return tuple(x.numpy())


def _infinity(dtype: torch.dtype) -> NDArray[np.signedinteger[Any]]:
    """The pattern of +inf, its dtype that of the patterns."""
    return pack.patterns(torch.tensor([torch.inf], dtype=dtype)).numpy()


IMPLS = {
    "step": backends("grid", "step", cpu=_step_cpu, reference=_step_reference),
    "tally": backends("grid", "tally", cpu=_tally_cpu, reference=_tally_reference),
}
