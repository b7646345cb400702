"""Linear layers and their codes in one pass: product, bias, signs, words; activations only if asked for.

    z = W x + b                 bit[k * units + u] = z[u] > thresholds[k]           `signs`: IEEE float32
    z = anchor + W delta        the same, about an anchor                          `step`: float16, float32 sums

Sums of products are float32 in an order of the backend's own, so z is known up to

    |error| <= (inputs + 2) 2**-23 (|W| |x| + |b|)        of `signs`
    |error| <= (inputs + 2) 2**-23 |W| |delta|            of `step`, |W| and |delta| in their units

as long as no sum leaves the range of float32. A bit farther from its threshold is the same on every backend, and
so is every bit where all sums are exact, as those of small integers are. TF32 is never used. What `step` does
behind the product is prescribed as in `polykern_kernels.narrow`, but nothing is rounded to float16 in between.

The bit is taken from the pre-activation (Black et al. 2022, "Interpreting Neural Networks through the Polytope
Lens").
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from polykern_kernels import _check, grid, narrow, pack
from polykern_kernels._bits import WORD_BITS, words_for
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose
from polykern_kernels.grid import GridTotals
from polykern_kernels.narrow import Layer

FLOAT32 = (torch.float32,)
FLOAT16 = (torch.float16,)

# --- contract -----------------------------------------------------------------------------------


def signs(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    thresholds: Sequence[float] = (0.0,),
    *,
    slopes: Sequence[float] | None = None,
    value: float = 0.0,
    backend: str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Packed codes of a linear layer, and what flows on behind its activation where that is wanted.

    x           float32 (rows, inputs)
    weight      float32 (units, inputs)
    bias        float32 (units), or None
    thresholds  K >= 1 ascending kinks of the activation    (ReLU: [0])
    slopes      K + 1 slopes left to right (ReLU: [0, 1]); None: nothing but words is written
    value       the activation at thresholds[0]
    backend     "triton" | "reference"; None takes the first that can run
    returns     int32 (rows, words)             codes of K * units bits
                float32 (rows, units), or None  value + slopes[0] (z - thresholds[0]) + ... , piece by piece

    Pre-activations are rounded as said above; a threshold is compared as the real number it is. Raises ValueError
    when the arguments do not fit, and when a pre-activation is NaN, saying how many. On CUDA tensors the NaN are
    counted by the kernel and the counter is read at the end of the call.
    """
    op = "linear.signs"
    _check.tensor(op, "x", x, FLOAT32, "rows", "inputs")
    _check.tensor(op, "weight", weight, FLOAT32, "units", "inputs")
    _check.sized(op, "weight", weight, torch.float32, len(weight), x.shape[1])
    if bias is not None:
        _check.sized(op, "bias", bias, torch.float32, len(weight))
        _check.same_device(op, x=x, bias=bias)
    _check.same_device(op, x=x, weight=weight)
    exact = torch.tensor(list(thresholds), dtype=torch.float64)
    pieces = None if slopes is None else _pieces(op, thresholds, slopes, value).to(x.device)
    if not len(exact) or bool(exact.isnan().any()):
        raise ValueError(f"{op}: thresholds must be numbers, got {exact.tolist()}")
    floor = pack.round_down(exact, torch.float32).to(x.device)
    own = None if bias is None else bias.detach()
    words, out, nans = choose(op, IMPLS["signs"], backend, x).run(x.detach(), weight.detach(), own, floor, pieces)
    if int(nans):
        raise ValueError(f"{op}: {int(nans)} pre-activations are NaN, and NaN has no sign")
    if len(exact) > 1 and len(weight) % WORD_BITS:
        return pack.join(words.unbind(1), [len(weight)] * len(exact)), out
    return words.flatten(1), out


def step(
    anchor: Tensor,
    delta: Tensor,
    weight: Tensor,
    *,
    height: int,
    width: int,
    thresholds: Sequence[float],
    slopes: Sequence[float],
    bit_offset: int,
    total: GridTotals,
    unit: float = 1.0,
    unit_out: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    """Deltas behind a linear layer and its activation, its bits added to `total`.

    anchor          float64 (groups, units)                     pre-activations at the anchors, with the bias
    delta           float16 (groups, height * width, inputs)    inputs less the anchor's; may be expanded over the
                    groups
    weight          float16 (units, inputs)
    height, width   the raster of points of a group, row by row
    thresholds      K >= 1 ascending kinks of the activation    (ReLU: [0])
    slopes          K + 1 slopes left to right                  (ReLU: [0, 1])
    bit_offset      position of the layer's first bit in the whole code
    total           accumulators on anchor's device, changed in place; `nans` counts infinities too
    unit, unit_out  powers of two: of delta's times weight's, and of what is returned
    backend         "triton" | "reference"; None takes the first that can run
    returns         float16 (groups, height * width, units), in `unit_out`

    `polykern_kernels.narrow.step` of the product in float32. Raises ValueError when the arguments do not fit; what
    is not finite is counted only, and `total.require_numbers()` reports it.
    """
    op = "linear.step"
    _check.tensor(op, "anchor", anchor, (torch.float64,), "groups", "units")
    groups, units = anchor.shape
    _check.tensor(op, "weight", weight, FLOAT16, "units", "inputs")
    _check.sized(op, "weight", weight, torch.float16, units, weight.shape[1])
    _check.sized(op, "delta", delta, torch.float16, groups, height * width, weight.shape[1])
    grid.check_total(op, total, anchor, height, width, bit_offset)
    _check.same_device(op, anchor=anchor, delta=delta, weight=weight)
    kinks, tilts = narrow.bends(op, thresholds, slopes)
    layer = Layer(height, width, 1, bit_offset, unit, 1 / unit_out, kinks, tilts)
    chosen = choose(op, IMPLS["step"], backend, anchor, delta)
    return chosen.run(anchor.detach(), delta.detach(), weight.detach(), layer, total)  # type: ignore[no-any-return]


def cost(rows: int, inputs: int, units: int, *, thresholds: int = 1, activated: bool = False) -> Cost:
    """`signs`: read rows and weights once, write the codes, and the activations where they are wanted."""
    written = rows * (4 * words_for(thresholds * units) + (4 * units if activated else 0))
    return Cost(bytes=4 * (rows + units) * inputs + 4 * units + written, flops=2 * rows * inputs * units)


def cost_step(groups: int, height: int, width: int, inputs: int, units: int, *, thresholds: int = 1) -> Cost:
    """`step`: as `narrow.step`, with the product's inputs in place of the pre-activations."""
    points = groups * height * width
    behind = narrow.cost(groups, height, width, units, thresholds=thresholds)
    return Cost(
        bytes=behind.bytes + 2 * points * (inputs - units) + 2 * units * inputs,
        popcounts=behind.popcounts,
        flops=behind.flops + 2 * points * inputs * units,
    )


def _pieces(op: str, thresholds: Sequence[float], slopes: Sequence[float], value: float) -> Tensor:
    """float32 (K + 1, 2): intercept and slope of every piece."""
    narrow.bends(op, thresholds, slopes)
    values = [value]  # at the kinks
    for (before, after), slope in zip(pairwise(thresholds), slopes[1:], strict=False):
        values.append(values[-1] + slope * (after - before))
    at = [(thresholds[0], value), *zip(thresholds, values, strict=True)]
    lines = [(height - slope * kink, slope) for (kink, height), slope in zip(at, slopes, strict=True)]
    if not all(math.isfinite(x) for line in lines for x in line):
        raise ValueError(f"{op}: the activation must be finite, got slopes {list(slopes)} and value {value}")
    return torch.tensor(lines, dtype=torch.float64).float()


# --- reference: products in float64, rounded once ------------------------------------------------------


def _signs_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None, floor: Tensor, pieces: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    z = x.double() @ weight.double().T
    z = (z if bias is None else z + bias.double()).float()
    words = torch.stack([pack.words_of(z > t) for t in floor], 1)
    return words, None if pieces is None else _activated(z, floor, pieces), z.isnan().sum()


def _activated(z: Tensor, floor: Tensor, pieces: Tensor) -> Tensor:
    """The activation, piece by piece; a flat piece is flat up to infinity."""
    lines = [torch.where(slope == 0, start, start + slope * z) for start, slope in pieces]
    out = lines[0]
    for t, line in zip(floor, lines[1:], strict=True):
        out = torch.where(z > t, line, out)
    return out


def _step_reference(anchor: Tensor, delta: Tensor, weight: Tensor, layer: Layer, total: GridTotals) -> Tensor:
    product = (delta.double() @ weight.double().T).float()
    out = torch.empty(product.shape, dtype=torch.float16, device=product.device)
    narrow.step_reference(anchor, product, layer, None, total, out)
    return out


IMPLS = {
    "signs": backends("linear", "signs", reference=_signs_reference),
    "step": backends("linear", "step", reference=_step_reference),
}
