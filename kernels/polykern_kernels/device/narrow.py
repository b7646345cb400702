# pyright: reportArgumentType=false
"""Triton: float16 deltas to deltas, margins and words in a pass, counts and fingerprints from the words in another.

Everything that belongs to an anchor is loaded and split once for many points. A code differs from that of the point
beside it in a few bits of a hundred thousand, so a fingerprint follows from its neighbour's by the keys of those,
along a path through the raster in turns, left to right and back; only the first point is summed over its bits.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels._bits import words_for
from polykern_kernels.device.digest import splitmix64
from polykern_kernels.device.hamming import popcount
from polykern_kernels.grid import GridTotals
from polykern_kernels.narrow import Layer

WARPS = 4
BLOCK_P, BLOCK_U = 4, 256  # a point a warp: 16 bytes a thread, and reductions stay in their warp
CHUNK_P = 32  # points a program, all about one anchor
BLOCK_W = 128  # words a program counts, in one warp
POOL_WARPS = 8
BLOCK_S, BLOCK_C = 64, 16  # windows and channels of a program: whole sectors; windows that overlap share a cache
OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": False}  # roundings are prescribed


@triton.jit
def narrow_step_kernel(
    anchor_ptr,  # float64 [GROUPS, UNITS]
    delta_ptr,  # float16 [GROUPS, POINTS, UNITS], groups STRIDE apart, positions PITCH if APART
    gain_ptr,  # float32 [CHANNELS]; not read unless GAIN
    constants_ptr,  # float32: unit, inverse of the next, first slope; of every kink: high, low, change of slope
    out_ptr,  # float16 [GROUPS, POINTS, UNITS], positions OUT_PITCH apart if APART
    margin_ptr,  # int32 [GROUPS, POINTS]: patterns of floats >= 0, ordered like them
    nans_ptr,  # int64 [1]
    words_ptr,  # int32 [GROUPS, POINTS, KINKS, WORDS]
    POINTS,
    UNITS,
    CHANNELS,
    WORDS,
    STRIDE,
    PITCH,
    OUT_PITCH,
    KINKS: tl.constexpr,
    GAIN: tl.constexpr,
    APART: tl.constexpr,  # channels are some of those of a wider layer
    RELU: tl.constexpr,  # one kink, at 0, slopes 0 and 1
    BLOCK_P: tl.constexpr,
    BLOCK_U: tl.constexpr,
    CHUNK_P: tl.constexpr,
):
    chunks = tl.cdiv(POINTS, CHUNK_P)
    g = (tl.program_id(0) // chunks).to(tl.int64)
    start = tl.program_id(0) % chunks * CHUNK_P
    u = tl.program_id(1) * BLOCK_U + tl.arange(0, BLOCK_U)
    a = tl.load(anchor_ptr + g * UNITS + u, mask=u < UNITS, other=-3e38)  # no bit, and a margin above all others
    high = a.to(tl.float32)
    low = (a - high.to(tl.float64)).to(tl.float32)[None, :]
    high = high[None, :]
    factor = tl.load(constants_ptr) + tl.zeros((1, BLOCK_U), tl.float32)
    if GAIN:
        factor *= tl.load(gain_ptr + u % CHANNELS, mask=u < UNITS, other=0)[None, :]
    near, far, width, out_width = u, u, UNITS, UNITS
    if APART:
        near = u // CHANNELS * PITCH + u % CHANNELS
        far = u // CHANNELS * OUT_PITCH + u % CHANNELS
        width, out_width = UNITS // CHANNELS * PITCH, UNITS // CHANNELS * OUT_PITCH
    bad = tl.zeros((BLOCK_P, BLOCK_U), tl.int32)
    for step in range(0, CHUNK_P, BLOCK_P):
        p = (start + step + tl.arange(0, BLOCK_P)).to(tl.int64)
        inside = (p < POINTS)[:, None] & (u < UNITS)[None, :]
        row = g * POINTS + p
        d = tl.load(delta_ptr + g * STRIDE + p[:, None] * width + near[None, :], mask=inside, other=0)
        d = d.to(tl.float32) * factor
        s = high + d
        v = s - high
        rest = ((high - (s - v)) + (d - v)) + low
        bad += (((tl.abs(s) < float("inf")) == 0) & inside).to(tl.int32)
        change = d if RELU else tl.load(constants_ptr + 2) * d
        gap = tl.full((BLOCK_P, BLOCK_U), float("inf"), tl.float32)
        for k in tl.static_range(KINKS):
            if RELU:
                z, at = s + rest, high + low
            else:
                t = tl.load(constants_ptr + 3 + 3 * k)
                t_low = tl.load(constants_ptr + 4 + 3 * k)
                z, at = (s - t) + (rest - t_low), (high - t) + (low - t_low)
            passed = tl.where(z > 0, tl.where(at > 0, d, z), tl.where(at > 0, 0 - at, 0.0))
            if RELU:
                change = passed
            else:
                change += tl.load(constants_ptr + 5 + 3 * k) * passed
            gap = tl.minimum(gap, tl.abs(z))
            on = (z > 0).to(tl.int32)
            bits = tl.reshape(on, (BLOCK_P, BLOCK_U // 32, 32)) << tl.arange(0, 32)[None, None, :]
            word = tl.program_id(1) * (BLOCK_U // 32) + tl.arange(0, BLOCK_U // 32)
            target = words_ptr + (row * (KINKS * WORDS) + k * WORDS)[:, None] + word[None, :]
            tl.store(target, tl.sum(bits, 2), mask=(p < POINTS)[:, None] & (word < WORDS)[None, :])
        change = change * tl.load(constants_ptr + 1)
        tl.store(out_ptr + row[:, None] * out_width + far[None, :], change.to(tl.float16), mask=inside)
        least = tl.min(gap, 1)
        tl.atomic_min(margin_ptr + row, least.to(tl.int32, bitcast=True), mask=p < POINTS)
    worse = tl.sum(bad)
    if worse > 0:
        tl.atomic_add(nans_ptr, worse.to(tl.int64))


@triton.jit
def narrow_count_kernel(
    words_ptr,  # int32 [GROUPS, HEIGHT, WIDTH, KINKS * WORDS]
    right_ptr,  # int32 [GROUPS, HEIGHT, WIDTH - 1], added to
    down_ptr,  # int32 [GROUPS, HEIGHT - 1, WIDTH], added to
    digest_ptr,  # int64 [GROUPS, HEIGHT, WIDTH, 2], added to
    HEIGHT,
    WIDTH,
    TOTAL,  # KINKS * WORDS
    WORDS,
    UNITS,
    CHANNELS,
    OFFSET,  # position of the layer's first bit in the whole code
    BLOCK_W: tl.constexpr,
):
    g = tl.program_id(0).to(tl.int64)
    nothing = g * 0  # makes offsets int64
    w = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)
    inside = w < TOTAL
    positions = UNITS // CHANNELS
    begin = w // WORDS * UNITS  # the code's first bit of the threshold that this word belongs to
    points = HEIGHT * WIDTH
    raster_ptr = words_ptr + g * points * TOTAL + w
    digest_ptr += g * points * 2
    right_ptr += g * HEIGHT * (WIDTH - 1)
    down_ptr += g * (HEIGHT - 1) * WIDTH
    before = tl.zeros((BLOCK_W,), tl.int32)
    first = tl.zeros((BLOCK_W,), tl.int64)
    second = tl.zeros((BLOCK_W,), tl.int64)
    coming = tl.load(raster_ptr, mask=inside, other=0)
    for i in range(points):
        y = i // WIDTH
        back = y % 2  # this row is walked from its right end
        x = i % WIDTH
        x += back * (WIDTH - 1 - 2 * x)
        pixel = nothing + y * WIDTH + x
        here = coming
        above = tl.load(raster_ptr + (pixel - WIDTH) * TOTAL, mask=inside & (y > 0), other=0)
        # the next point is on its way while this one is counted
        y_next = (i + 1) // WIDTH
        x_next = (i + 1) % WIDTH
        x_next += y_next % 2 * (WIDTH - 1 - 2 * x_next)
        follows = nothing + y_next * WIDTH + x_next
        coming = tl.load(raster_ptr + follows * TOTAL, mask=inside & (i + 1 < points), other=0)
        left = here ^ before
        flips = tl.sum(popcount(left))
        if y > 0:
            tl.atomic_add(down_ptr + pixel - WIDTH, tl.sum(popcount(here ^ above)))
        if i % WIDTH > 0:
            tl.atomic_add(right_ptr + (nothing + y * (WIDTH - 1) + x - 1 + back), flips)
        while tl.sum((left != 0).to(tl.int32)) > 0:
            lowest = left & (0 - left)
            u = w % WORDS * 32 + popcount(lowest - 1)
            j = (OFFSET + begin + u % CHANNELS * positions + u // CHANNELS).to(tl.int64)
            sign = tl.where(left == 0, 0, tl.where((here & lowest) != 0, 1, -1)).to(tl.int64)
            first += sign * splitmix64(2 * j + 1)
            second += sign * splitmix64(2 * j + 2)
            left ^= lowest
        tl.atomic_add(digest_ptr + 2 * pixel, tl.sum(first))
        tl.atomic_add(digest_ptr + 2 * pixel + 1, tl.sum(second))
        before = here


@triton.jit
def narrow_pool_kernel(
    anchor_ptr,  # float64 [GROUPS, PLACES, CHANNELS]
    pooled_ptr,  # float64 [GROUPS, WINDOWS, CHANNELS]
    delta_ptr,  # float16 [GROUPS, POINTS, PLACES, CHANNELS], groups STRIDE apart
    rivals_ptr,  # int32 [WINDOWS, SIZE]
    inverse_ptr,  # float32 [1]
    out_ptr,  # float16 [GROUPS, POINTS, WINDOWS, CHANNELS]
    POINTS,
    PLACES,
    WINDOWS,
    CHANNELS,
    STRIDE,
    SIZE: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHUNK_P: tl.constexpr,
):
    chunks = tl.cdiv(POINTS, CHUNK_P)
    g = (tl.program_id(0) // chunks).to(tl.int64)
    start = tl.program_id(0) % chunks * CHUNK_P
    s = tl.program_id(2) * BLOCK_S + tl.arange(0, BLOCK_S)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (s < WINDOWS)[:, None] & (c < CHANNELS)[None, :]
    here = s[:, None] * CHANNELS + c[None, :]
    largest = tl.load(pooled_ptr + g * WINDOWS * CHANNELS + here, mask=inside, other=0)
    inverse = tl.load(inverse_ptr)
    gaps, places = (), ()
    for j in tl.static_range(SIZE):
        place = tl.load(rivals_ptr + s * SIZE + j, mask=s < WINDOWS, other=-1)
        held = inside & (place >= 0)[:, None]
        at = anchor_ptr + g * PLACES * CHANNELS + place[:, None] * CHANNELS + c[None, :]
        gap = (tl.load(at, mask=held, other=0) - largest).to(tl.float32) * inverse
        gaps = gaps + (tl.where(held, gap, float("-inf")),)  # noqa: RUF005  Triton knows no unpacking
        places = places + (place,)  # noqa: RUF005
    for step in range(0, tl.minimum(CHUNK_P, POINTS - start)):
        own_ptr = delta_ptr + g * STRIDE + (g * 0 + start + step) * (PLACES * CHANNELS)
        most = tl.full((BLOCK_S, BLOCK_C), float("-inf"), tl.float32)
        for j in tl.static_range(SIZE):
            near = own_ptr + places[j][:, None] * CHANNELS + c[None, :]
            there = inside & (places[j] >= 0)[:, None]
            risen = gaps[j] + tl.load(near, mask=there, other=0).to(tl.float32)
            # NaN stays NaN, so that the next activation counts it
            most = tl.maximum(most, risen, propagate_nan=tl.PropagateNan.ALL)
        row = g * POINTS + start + step
        tl.store(out_ptr + row * WINDOWS * CHANNELS + here, most.to(tl.float16), mask=inside)


@lru_cache(maxsize=1024)
def _constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Few layers and many calls: their numbers stay on the device."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def constants(layer: Layer, device: torch.device) -> tuple[Tensor, bool]:
    """What the kernels call constants, and whether the layer is a ReLU."""
    changes = [x for kink, tilt in zip(layer.kinks, layer.tilts[1:], strict=True) for x in (*kink, tilt)]
    values = (layer.unit, layer.inverse, layer.tilts[0], *changes)
    return _constants(values, device), changes == [0, 0, 1] and layer.tilts[0] == 0


def rows(delta: Tensor) -> Tensor:
    """delta with everything behind its groups contiguous; groups may lie anywhere, even on each other."""
    return delta if delta[:1].is_contiguous() else delta.contiguous()


def _apart(x: Tensor) -> int | None:
    """How far the positions of (groups, points, positions, channels) lie apart; None where not all do so evenly."""
    positions, channels = x.shape[2:]
    pitch = x.stride(1) // positions
    even = x.stride(1) == positions * pitch and (positions == 1 or x.stride(2) == pitch)
    return pitch if even and (channels == 1 or x.stride(3) == 1) else None


def step(anchor: Tensor, delta: Tensor, layer: Layer, gain: Tensor | None, total: GridTotals, out: Tensor) -> None:
    groups, points, _, channels = delta.shape
    units, kinks = anchor.shape[1], len(layer.kinks)
    size = words_for(units)
    words = torch.empty((groups, points, kinks * size), dtype=torch.int32, device=delta.device)
    if not words.numel():
        return
    made, pitch, out_pitch = out, _apart(delta), _apart(out)
    if pitch is None:
        delta, pitch = delta.contiguous(), channels
    if out_pitch is None or (groups > 1 and out.stride(0) != points * out.stride(1)):
        made, out_pitch = torch.empty(out.shape, dtype=out.dtype, device=out.device), channels
    numbers, relu = constants(layer, delta.device)
    programs = (groups * triton.cdiv(points, CHUNK_P), triton.cdiv(units, BLOCK_U))
    narrow_step_kernel[programs](
        anchor.contiguous(), delta, numbers if gain is None else gain.contiguous(), numbers, made,
        total.margin.view(torch.int32), total.nans, words,
        points, units, channels, size, delta.stride(0), pitch, out_pitch,
        KINKS=kinks, GAIN=gain is not None, APART=not pitch == out_pitch == channels, RELU=relu,
        BLOCK_P=BLOCK_P, BLOCK_U=BLOCK_U, CHUNK_P=CHUNK_P, **OPTIONS,
    )  # fmt: skip
    count(words, layer, units, total)
    if made is not out:
        out.copy_(made)


def count(words: Tensor, layer: Layer, units: int, total: GridTotals) -> None:
    """Add the counts and fingerprints of int32 (groups, points, KINKS * WORDS) to the totals."""
    size = words.shape[2]
    narrow_count_kernel[(len(words), triton.cdiv(size, BLOCK_W))](
        words, total.right, total.down, total.digest,
        layer.height, layer.width, size, words_for(units), units, units // layer.positions, layer.bit_offset,
        BLOCK_W=BLOCK_W, num_warps=1,
    )  # fmt: skip


def pool(anchor: Tensor, pooled: Tensor, delta: Tensor, rivals: Tensor, inverse: float) -> Tensor:
    groups, points, places, channels = delta.shape
    windows, size = rivals.shape
    out = torch.empty((groups, points, windows, channels), dtype=torch.float16, device=delta.device)
    if not out.numel():
        return out
    delta = rows(delta)
    programs = (
        groups * triton.cdiv(points, CHUNK_P), triton.cdiv(channels, BLOCK_C), triton.cdiv(windows, BLOCK_S)
    )  # fmt: skip
    narrow_pool_kernel[programs](
        anchor.contiguous(), pooled.contiguous(), delta, rivals.contiguous(),
        _constants((inverse,), delta.device), out,
        points, places, windows, channels, delta.stride(0),
        SIZE=size, BLOCK_S=BLOCK_S, BLOCK_C=BLOCK_C, CHUNK_P=CHUNK_P,
        num_warps=POOL_WARPS, enable_fp_fusion=False,
    )  # fmt: skip
    return out
