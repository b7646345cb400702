"""Anchored evaluation in float16: activations with their bits, and max-pools, in a pass each.

As `polykern_kernels.grid`, with deltas of 16 bits and a unit, a power of two that the caller chooses so that they
stay in range:

    d = unit * gain[channel] * delta                      the gain of a BatchNorm, if one lies between
    z = anchor + d                                        the anchor as two float32, the sum as two float32
    bit[k] = z > thresholds[k]
    delta' = (f(z) - f(anchor)) / unit_out                rounded to float16 once

    f(z) - f(anchor) = slopes[0] d + sum_k (slopes[k + 1] - slopes[k]) (relu(z - t_k) - relu(anchor - t_k))

where a difference of two relus is d, 0, z - t_k or t_k - anchor: nothing cancels. float64 instructions are few on
most devices, so every step is a float32 sum of two terms, in an order that is the same on every backend; the sum of
two float32 keeps 2**-47 of the anchor. Bits, counts and fingerprints are integers.

Units lie position by position, as channels-last images do: unit s * channels + c is bit c * positions + s of the
layer, the order of the code. Codes are scratch in the order of the units; they are counted and dropped. What left
the range of float16 on the way is infinite or NaN, and is counted as that.

Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens" (the density of polytope boundaries).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from polykern_kernels import _check, grid
from polykern_kernels._bits import words_for
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose
from polykern_kernels.grid import GridTotals

LARGEST_WINDOW = 9  # elements of a max-pool's window: they stay in registers


@dataclass(frozen=True, slots=True)
class Layer:
    """An activation, as the kernels take it: every number float32.

    height, width  points of a raster
    positions      of the layer's units; channels = units / positions
    bit_offset     position of the layer's first bit in the whole code
    unit, inverse  of the deltas that come, 1 / that of those that go
    kinks          (threshold rounded to float32, what is left of it) of every kink
    tilts          the first slope, then the change of slope at every kink
    """

    height: int
    width: int
    positions: int
    bit_offset: int
    unit: float
    inverse: float
    kinks: tuple[tuple[float, float], ...]
    tilts: tuple[float, ...]


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
    positions: int = 1,
    unit: float = 1.0,
    unit_out: float = 1.0,
    gain: Tensor | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Deltas behind one layer, its bits added to `total`.

    anchor          float64 (groups, units)                     pre-activations at the anchors
    delta           float16 (groups, height * width, units) or (groups, height * width, positions, channels)
                    pre-activations less the anchor's, in `unit`; may be expanded over the groups, and be some of
                    the channels of a wider layer
    height, width   the raster of points of a group, row by row
    thresholds      K >= 1 ascending kinks of the activation    (ReLU: [0])
    slopes          K + 1 slopes left to right                  (ReLU: [0, 1])
    bit_offset      position of the layer's first bit in the whole code; its bits are threshold-major
    total           accumulators on anchor's device, changed in place; `nans` counts infinities too
    positions       units lie position by position, `units / positions` channels each
    unit, unit_out  powers of two: of delta, and of what is returned
    gain            float32 (channels), or None for ones
    out             float16 (groups, height * width, positions, channels): where they are written, perhaps some of
                    the channels of a wider layer; None makes room
    backend         "triton" | "reference"; None takes the first that can run
    returns         float16, in `unit_out`, shaped like delta

    Exact as said above. Raises ValueError when the arguments do not fit; what is not finite is counted only, and
    `total.require_numbers()` reports it.
    """
    op = "narrow.step"
    _check.tensor(op, "anchor", anchor, (torch.float64,), "groups", "units")
    groups, units = anchor.shape
    if positions < 1 or units % positions:
        raise ValueError(f"{op}: {units} units do not lie on {positions} positions")
    shape = groups, height * width, positions, units // positions
    _check.sized(op, "delta", delta, torch.float16, *(shape if delta.ndim == 4 else (*shape[:2], units)))
    grid.check_total(op, total, anchor, height, width, bit_offset)
    if out is None:
        out = torch.empty(shape, dtype=torch.float16, device=delta.device)
    _check.sized(op, "out", out, torch.float16, *shape)
    if gain is not None:
        _check.sized(op, "gain", gain, torch.float32, units // positions)
        _check.same_device(op, anchor=anchor, gain=gain)
    _check.same_device(op, anchor=anchor, delta=delta, out=out)
    kinks, tilts = bends(op, thresholds, slopes)
    layer = Layer(height, width, positions, bit_offset, unit, 1 / unit_out, kinks, tilts)
    chosen = choose(op, IMPLS["step"], backend, anchor, delta)
    chosen.run(anchor.detach(), delta.detach().reshape(shape), layer, gain, total, out)
    return out.reshape(delta.shape)


def pool(
    anchor: Tensor, pooled: Tensor, delta: Tensor, rivals: Tensor, *, unit: float = 1.0, backend: str | None = None
) -> Tensor:
    """Deltas behind a max-pool: max_j (anchor_j - pooled + delta_j) over the places j of a window.

    anchor   float64 (groups, places, channels)             what is pooled, at the anchors
    pooled   float64 (groups, windows, channels)            its maxima
    delta    float16 (groups, points, places, channels)     what is pooled less the anchor's, in `unit`; may be
             expanded over the groups
    rivals   int32 (windows, 1 ... 9)                      places of every window; -1 for none
    unit     a power of two
    backend  "triton" | "reference"; None takes the first that can run
    returns  float16 (groups, points, windows, channels), in `unit`

    The difference of the anchors is float64, all else float32, the result rounded to float16 once. Raises
    ValueError when the arguments do not fit; places are not checked.
    """
    op = "narrow.pool"
    _check.tensor(op, "anchor", anchor, (torch.float64,), "groups", "places", "channels")
    groups, places, channels = anchor.shape
    _check.tensor(op, "rivals", rivals, _check.INT32, "windows", "1 ... 9")
    if not 1 <= rivals.shape[1] <= LARGEST_WINDOW:
        _check.fail(op, "rivals", "int32 (windows, 1 ... 9)", rivals)
    _check.sized(op, "pooled", pooled, torch.float64, groups, len(rivals), channels)
    _check.tensor(op, "delta", delta, (torch.float16,), "groups", "points", "places", "channels")
    _check.sized(op, "delta", delta, torch.float16, groups, delta.shape[1], places, channels)
    _check.same_device(op, anchor=anchor, pooled=pooled, delta=delta, rivals=rivals)
    chosen = choose(op, IMPLS["pool"], backend, anchor, delta)
    return chosen.run(anchor.detach(), pooled.detach(), delta.detach(), rivals, 1 / unit)  # type: ignore[no-any-return]


def cost(groups: int, height: int, width: int, units: int, *, thresholds: int = 1) -> Cost:
    """`step`: read anchors and deltas once, write deltas once, read and write the accumulators."""
    points = groups * height * width
    pairs = groups * (height * (width - 1) + (height - 1) * width)
    return Cost(
        bytes=8 * groups * units + 4 * points * units + 2 * (4 * pairs + 20 * points),
        popcounts=pairs * thresholds * words_for(units),
        flops=points * units * (9 + 5 * thresholds),
    )


def cost_pool(groups: int, points: int, places: int, windows: int, size: int, channels: int) -> Cost:
    """`pool`: read anchors, maxima and deltas once, write deltas once; a sum and a comparison a rival."""
    each = groups * channels
    return Cost(
        bytes=each * (8 * (places + windows) + 2 * points * (places + windows)),
        flops=2 * each * points * windows * size,
    )


def bends(
    op: str, thresholds: Sequence[float], slopes: Sequence[float]
) -> tuple[tuple[tuple[float, float], ...], tuple[float, ...]]:
    """The kinks and tilts of a `Layer`; ValueError where thresholds and slopes are none."""
    if len(slopes) != len(thresholds) + 1:
        raise ValueError(f"{op}: slopes must be one more than thresholds, got {len(slopes)} and {len(thresholds)}")
    high, low = _halves(torch.tensor(list(thresholds), dtype=torch.float64))
    ascending = all(a < b for a, b in pairwise(high.tolist()))
    if not len(high) or not ascending or not bool(high.isfinite().all()):
        raise ValueError(f"{op}: thresholds must be finite and ascending, got {high.tolist()}")
    tilts = (slopes[0], *(after - before for before, after in pairwise(slopes)))
    return tuple(zip(high.tolist(), low.tolist(), strict=True)), tilts


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """float64 values as two float32 each."""
    high = values.float()
    return high, (values - high.double()).float()


# --- reference: the same sums, every bit as a boolean -------------------------------------------------


def step_reference(
    anchor: Tensor, delta: Tensor, layer: Layer, gain: Tensor | None, total: GridTotals, out: Tensor
) -> None:
    """Of float16 differences, or of float32 ones that have not been rounded yet."""
    delta, units = delta.flatten(2), anchor.shape[1]
    high, low = (half[:, None] for half in _halves(anchor))
    factor = torch.full((units // layer.positions,), layer.unit, device=delta.device)
    factor = (factor if gain is None else factor * gain).repeat(layer.positions)
    d = delta.float() * factor
    s = high + d
    v = s - high
    rest = ((high - (s - v)) + (d - v)) + low
    change = layer.tilts[0] * d
    on, gaps = [], []
    for (t, t_low), tilt in zip(layer.kinks, layer.tilts[1:], strict=True):
        z, a = (s - t) + (rest - t_low), (high - t) + (low - t_low)
        passes = torch.where(a > 0, d, z), torch.where(a > 0, -a, 0)
        change = change + tilt * torch.where(z > 0, *passes)
        on.append(z > 0)
        gaps.append(z.abs())
    if units:
        gap = torch.stack(gaps).amin((0, 3))
        torch.minimum(total.margin, gap, out=total.margin)
    bits = torch.stack(on, 2).unflatten(3, (layer.positions, units // layer.positions))
    bits = bits.transpose(3, 4).flatten(2)
    grid.add_bits(bits, layer.height, layer.width, layer.bit_offset, total)
    total.nans += (~s.isfinite()).sum()
    out.copy_((change * layer.inverse).view(out.shape))


def _pool_reference(anchor: Tensor, pooled: Tensor, delta: Tensor, rivals: Tensor, inverse: float) -> Tensor:
    place = rivals.clamp(min=0).long()
    gap = (anchor[:, place] - pooled[:, :, None]).float() * inverse  # (groups, windows, size, channels)
    gap = torch.where(rivals[:, :, None] >= 0, gap, -torch.inf)
    return (gap[:, None] + delta[:, :, place].float()).amax(3).half()


IMPLS = {
    "step": backends("narrow", "step", reference=step_reference),
    "pool": backends("narrow", "pool", reference=_pool_reference),
}
