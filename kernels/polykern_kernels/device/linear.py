# pyright: reportArgumentType=false
"""Triton: products of a linear layer, and all that follows them while they are in registers.

Programs that follow each other share rows, and the weights of a layer stay in L2: what is compulsory is read once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels._bits import words_for
from polykern_kernels.device import narrow
from polykern_kernels.grid import GridTotals
from polykern_kernels.narrow import Layer

WARPS = 8
BLOCK_N, BLOCK_U, BLOCK_K = 64, 128, 16  # rows, units and inputs of a float32 tile: 32 sums a thread
# a float16 tile of points, units and inputs: of a ReLU; of one on Blackwell, whose products come from a memory of
# their own; and what leaves registers for more pieces, or for rows that no wide load reaches
LARGE = {"BLOCK_N": 128, "BLOCK_U": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3}
MEDIUM = {**LARGE, "BLOCK_U": 64}
SMALL = {"BLOCK_N": 64, "BLOCK_U": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3}


@triton.jit
def linear_products(
    x_ptr, weight_ptr, ROWS, UNITS, INPUTS, BLOCK_N: tl.constexpr, BLOCK_U: tl.constexpr, BLOCK_K: tl.constexpr
):
    """float32 (BLOCK_N, BLOCK_U): products of the first rows of both; 0 from ROWS and from UNITS on."""
    n, u, k = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_U), tl.arange(0, BLOCK_K)
    x_at, weight_at = n[:, None] * INPUTS + k[None, :], u[:, None] * INPUTS + k[None, :]
    total = tl.zeros((BLOCK_N, BLOCK_U), tl.float32)
    for first in range(0, INPUTS, BLOCK_K):
        inside = (first + k < INPUTS)[None, :]
        x = tl.load(x_ptr + x_at, mask=(n < ROWS)[:, None] & inside, other=0)
        weight = tl.load(weight_ptr + weight_at, mask=(u < UNITS)[:, None] & inside, other=0)
        total = tl.dot(x, tl.trans(weight), total, input_precision="ieee")
        x_ptr += BLOCK_K
        weight_ptr += BLOCK_K
    return total


@triton.jit
def linear_store(words_ptr, row, held, on, block, WORDS, BLOCK_N: tl.constexpr, BLOCK_U: tl.constexpr):
    """Comparisons (BLOCK_N, BLOCK_U) as words of their rows."""
    bits = tl.reshape(on.to(tl.int32), (BLOCK_N, BLOCK_U // 32, 32)) << tl.arange(0, 32)[None, None, :]
    word = block * (BLOCK_U // 32) + tl.arange(0, BLOCK_U // 32)
    at = words_ptr + row[:, None] + word[None, :]
    tl.store(at, tl.sum(bits, 2), mask=held[:, None] & (word < WORDS)[None, :])


@triton.jit
def linear_signs_kernel(
    x_ptr,  # float32 [ROWS, INPUTS]
    weight_ptr,  # float32 [UNITS, INPUTS]
    bias_ptr,  # float32 [UNITS]; not read unless BIAS
    floor_ptr,  # float32 [KINKS]
    pieces_ptr,  # float32 [KINKS + 1, 2]: intercept and slope; not read unless ACTIVATED
    words_ptr,  # int32 [ROWS, KINKS, WORDS]
    out_ptr,  # float32 [ROWS, UNITS]; not written unless ACTIVATED
    nans_ptr,  # int64 [1]
    ROWS,
    UNITS,
    INPUTS,
    WORDS,
    KINKS: tl.constexpr,
    BIAS: tl.constexpr,
    ACTIVATED: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_U: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    blocks = tl.cdiv(UNITS, BLOCK_U)
    block = tl.program_id(0) % blocks
    first_n, first_u = (tl.program_id(0) // blocks).to(tl.int64) * BLOCK_N, block.to(tl.int64) * BLOCK_U
    row, u = first_n + tl.arange(0, BLOCK_N), block * BLOCK_U + tl.arange(0, BLOCK_U)
    held = row < ROWS
    inside = held[:, None] & (u < UNITS)[None, :]
    x_ptr += first_n * INPUTS
    weight_ptr += first_u * INPUTS
    z = linear_products(x_ptr, weight_ptr, ROWS - first_n, UNITS - first_u, INPUTS, BLOCK_N, BLOCK_U, BLOCK_K)
    if BIAS:
        z += tl.load(bias_ptr + u, mask=u < UNITS, other=0)[None, :]
    for k in tl.static_range(KINKS):
        on = (z > tl.load(floor_ptr + k)) & (u < UNITS)[None, :]
        linear_store(words_ptr + k * WORDS, row * (KINKS * WORDS), held, on, block, WORDS, BLOCK_N, BLOCK_U)
    if ACTIVATED:
        intercept, slope = tl.load(pieces_ptr), tl.load(pieces_ptr + 1)
        value = tl.where(slope == 0, intercept, intercept + slope * z)
        for k in tl.static_range(KINKS):
            intercept, slope = tl.load(pieces_ptr + 2 * k + 2), tl.load(pieces_ptr + 2 * k + 3)
            beyond = tl.where(slope == 0, intercept, intercept + slope * z)
            value = tl.where(z > tl.load(floor_ptr + k), beyond, value)
        tl.store(out_ptr + row[:, None] * UNITS + u[None, :], value, mask=inside)
    bad = tl.sum(((z != z) & inside).to(tl.int32))
    if bad > 0:
        tl.atomic_add(nans_ptr, bad.to(tl.int64), sem="relaxed")


@triton.jit
def linear_behind(
    d, anchor_ptr, constants_ptr, out_ptr, words_ptr, row, held, block, UNITS, WORDS,
    KINKS: tl.constexpr, RELU: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_U: tl.constexpr,
):  # fmt: skip
    """What `narrow_step_kernel` does, with float32 (BLOCK_N, BLOCK_U); margins, and how many are not finite."""
    u = block * BLOCK_U + tl.arange(0, BLOCK_U)
    inside = held[:, None] & (u < UNITS)[None, :]
    d *= tl.load(constants_ptr)
    a = tl.load(anchor_ptr + u, mask=u < UNITS, other=-3e38)  # no bit, and a margin above all others
    high = a.to(tl.float32)
    low = (a - high.to(tl.float64)).to(tl.float32)[None, :]
    high = high[None, :]
    s = high + d
    v = s - high
    rest = ((high - (s - v)) + (d - v)) + low
    bad = tl.sum((((tl.abs(s) < float("inf")) == 0) & inside).to(tl.int32))
    change = d if RELU else tl.load(constants_ptr + 2) * d
    gap = tl.full((BLOCK_N,), float("inf"), tl.float32)
    for k in tl.static_range(KINKS):
        if RELU:
            z, at = s + rest, high + low
        else:
            t, t_low = tl.load(constants_ptr + 3 + 3 * k), tl.load(constants_ptr + 4 + 3 * k)
            z, at = (s - t) + (rest - t_low), (high - t) + (low - t_low)
        passed = tl.where(z > 0, tl.where(at > 0, d, z), tl.where(at > 0, 0 - at, 0.0))
        if RELU:
            change = passed
        else:
            change += tl.load(constants_ptr + 5 + 3 * k) * passed
        gap = tl.minimum(gap, tl.min(tl.abs(z), 1))
        linear_store(words_ptr + k * WORDS, row * (KINKS * WORDS), held, z > 0, block, WORDS, BLOCK_N, BLOCK_U)
    change = change * tl.load(constants_ptr + 1)
    tl.store(out_ptr + row[:, None] * UNITS + u[None, :], change.to(tl.float16), mask=inside)
    return gap, bad


@triton.jit
def linear_step_kernel(
    anchor_ptr,  # float64 [GROUPS, UNITS]
    delta_ptr,  # float16 [GROUPS, POINTS, INPUTS], groups STRIDE apart
    weight_ptr,  # float16 [UNITS, INPUTS]
    constants_ptr,  # as of `narrow_step_kernel`
    out_ptr,  # float16 [GROUPS, POINTS, UNITS]
    margin_ptr,  # int32 [GROUPS, POINTS]: patterns of floats >= 0, ordered like them
    nans_ptr,  # int64 [1]
    words_ptr,  # int32 [GROUPS, POINTS, KINKS, WORDS]
    POINTS,
    UNITS,
    INPUTS,
    WORDS,
    STRIDE,
    KINKS: tl.constexpr,
    RELU: tl.constexpr,  # one kink, at 0, slopes 0 and 1
    BLOCK_N: tl.constexpr,
    BLOCK_U: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    blocks, chunks = tl.cdiv(UNITS, BLOCK_U), tl.cdiv(POINTS, BLOCK_N)
    block = tl.program_id(0) % blocks
    g = (tl.program_id(0) // blocks // chunks).to(tl.int64)
    first_p, first_u = (tl.program_id(0) // blocks % chunks).to(tl.int64) * BLOCK_N, block.to(tl.int64) * BLOCK_U
    delta_ptr += g * STRIDE + first_p * INPUTS
    weight_ptr += first_u * INPUTS
    d = linear_products(delta_ptr, weight_ptr, POINTS - first_p, UNITS - first_u, INPUTS, BLOCK_N, BLOCK_U, BLOCK_K)
    p = first_p + tl.arange(0, BLOCK_N)
    held, row = p < POINTS, g * POINTS + p
    # half a tile at a time: half the registers
    near, far = tl.split(tl.permute(tl.reshape(d, (BLOCK_N, 2, BLOCK_U // 2)), (0, 2, 1)))
    gap, bad = linear_behind(
        near, anchor_ptr + g * UNITS, constants_ptr, out_ptr, words_ptr, row, held, 2 * block, UNITS, WORDS,
        KINKS, RELU, BLOCK_N, BLOCK_U // 2,
    )  # fmt: skip
    far_gap, far_bad = linear_behind(
        far, anchor_ptr + g * UNITS, constants_ptr, out_ptr, words_ptr, row, held, 2 * block + 1, UNITS, WORDS,
        KINKS, RELU, BLOCK_N, BLOCK_U // 2,
    )  # fmt: skip
    gap = tl.minimum(gap, far_gap)
    tl.atomic_min(margin_ptr + row, gap.to(tl.int32, bitcast=True), mask=held)
    if bad + far_bad > 0:
        tl.atomic_add(nans_ptr, (bad + far_bad).to(tl.int64))


def signs(
    x: Tensor, weight: Tensor, bias: Tensor | None, floor: Tensor, pieces: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    (rows, inputs), units, kinks = x.shape, len(weight), len(floor)
    size = words_for(units)
    words = torch.empty((rows, kinks, size), dtype=torch.int32, device=x.device)
    out = None if pieces is None else torch.empty((rows, units), dtype=torch.float32, device=x.device)
    nans = torch.zeros(1, dtype=torch.int64, device=x.device)
    if words.numel():
        linear_signs_kernel[(triton.cdiv(rows, BLOCK_N) * triton.cdiv(units, BLOCK_U),)](
            x.contiguous(), weight.contiguous(), floor if bias is None else bias.contiguous(), floor,
            floor if pieces is None else pieces, words, floor if out is None else out, nans,
            rows, units, inputs, size,
            KINKS=kinks, BIAS=bias is not None, ACTIVATED=out is not None,
            BLOCK_N=BLOCK_N, BLOCK_U=BLOCK_U, BLOCK_K=BLOCK_K, num_warps=WARPS,
        )  # fmt: skip
    return words, out, nans


def _tile(delta: Tensor, relu: bool) -> dict[str, int]:
    if not relu or delta.shape[2] % 16:
        return SMALL
    new = delta.is_cuda and torch.cuda.get_device_capability(delta.device)[0] >= 10
    return MEDIUM if new else LARGE


def step(anchor: Tensor, delta: Tensor, weight: Tensor, layer: Layer, total: GridTotals) -> Tensor:
    (groups, points, inputs), units = delta.shape, len(weight)
    out = torch.empty((groups, points, units), dtype=torch.float16, device=delta.device)
    kinks, size = len(layer.kinks), words_for(units)
    words = torch.empty((groups, points, kinks * size), dtype=torch.int32, device=delta.device)
    if not words.numel():
        return out
    constants, relu = narrow.constants(layer, delta.device)
    delta = narrow.rows(delta)
    tile = _tile(delta, relu)
    programs = groups * triton.cdiv(points, tile["BLOCK_N"]) * triton.cdiv(units, tile["BLOCK_U"])
    linear_step_kernel[(programs,)](
        anchor.contiguous(), delta, weight.contiguous(), constants, out,
        total.margin.view(torch.int32), total.nans, words,
        points, units, inputs, size, delta.stride(0),
        KINKS=kinks, RELU=relu, enable_fp_fusion=False, **tile,
    )  # fmt: skip
    narrow.count(words, layer, units, total)
    return out
