# pyright: reportArgumentType=false
"""Triton: a program walks down the rows of a raster with some units; codes live in registers for one row.

A tile is a run of pixels times BLOCK_U units. Flips to the right come from a gather along the pixels, flips
downwards from the words of the row above, which the loop carries. Runs overlap by one pixel, so that every pair
lies in one run. Counters, fingerprints and margins are united by integer atomics, whose order does not matter.
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

WARPS = 4
BLOCK_U = 128  # units a program: 2048 numbers a tile, 16 a thread, stay in registers with float64 anchors
BLOCK_X = 16  # pixels of a run


@triton.jit
def activated(a, d, z, kinks_ptr, tilts_ptr, KINKS: tl.constexpr):
    """f(z) - f(a), as slope * d where z and a lie on one piece."""
    change = d.to(z.dtype)
    a = a + tl.zeros_like(z)
    tilt = tl.load(tilts_ptr)
    low = tl.load(kinks_ptr)
    own = tilt + tl.zeros_like(z)
    across = tilt * (tl.minimum(z, low) - tl.minimum(a, low))
    same = tl.full(z.shape, 1, tl.int1)
    for k in tl.static_range(KINKS):
        low = tl.load(kinks_ptr + k)
        tilt = tl.load(tilts_ptr + k + 1)
        same = same & ((a > low) == (z > low))
        own = tl.where(a > low, tilt, own)
        z_end, a_end = tl.maximum(z, low), tl.maximum(a, low)
        if k + 1 < KINKS:
            high = tl.load(kinks_ptr + k + 1)
            z_end, a_end = tl.minimum(z_end, high), tl.minimum(a_end, high)
        across += tilt * (z_end - a_end)
    return tl.where(same, own * change, across).to(tl.float32)


@triton.jit
def grid_step_kernel(
    anchor_ptr,  # float32|float64 [GROUPS, UNITS]; not read unless ACTIVATE
    delta_ptr,  # float32 [GROUPS, HEIGHT * WIDTH, UNITS]; the pre-activations themselves unless ACTIVATE
    out_ptr,  # float32, like delta
    kinks_ptr,  # [KINKS], the anchor's dtype
    tilts_ptr,  # [KINKS + 1], the anchor's dtype
    right_ptr,  # int32 [GROUPS, HEIGHT, WIDTH - 1]
    down_ptr,  # int32 [GROUPS, HEIGHT - 1, WIDTH]
    margin_ptr,  # int32 [GROUPS, HEIGHT * WIDTH]: patterns of floats >= 0, ordered like them
    digest_ptr,  # int64 [GROUPS, HEIGHT * WIDTH, 2]
    nans_ptr,  # int64 [1]
    words_ptr,  # int32 [GROUPS, HEIGHT * WIDTH, WORDS] when EMIT, zeros when KINKS > 1
    HEIGHT,
    WIDTH,
    UNITS,
    WORDS,
    OFFSET,  # position of the layer's first bit in the whole code
    KINKS: tl.constexpr,
    ACTIVATE: tl.constexpr,
    EMIT: tl.constexpr,
    RUN: tl.constexpr,  # pixels of a run
    UNIT: tl.constexpr,  # units of a program, a multiple of 32
):
    g = tl.program_id(0).to(tl.int64)
    u = tl.program_id(1) * UNIT + tl.arange(0, UNIT)
    c = tl.arange(0, RUN)
    x = tl.program_id(2) * (RUN - 1) + c
    last = tl.program_id(2) == tl.num_programs(2) - 1
    owned = (x < WIDTH) & ((c < RUN - 1) | last)
    has_right = (c < RUN - 1) & (x + 1 < WIDTH)
    inside = (x < WIDTH)[:, None] & (u < UNITS)[None, :]
    beside = tl.minimum(c + 1, RUN - 1)[:, None] + tl.zeros((RUN, UNIT // 32), tl.int32)
    if ACTIVATE:
        a = tl.load(anchor_ptr + g * UNITS + u, mask=u < UNITS, other=0)[None, :]
    for k in tl.static_range(KINKS):
        kink = tl.load(kinks_ptr + k)
        j = OFFSET + (k * UNITS + u).to(tl.int64)
        above = tl.zeros((RUN, UNIT // 32), tl.int32)
        for y in range(HEIGHT):
            pixel = (g * HEIGHT + y) * WIDTH + x
            at = pixel[:, None] * UNITS + u[None, :]
            d = tl.load(delta_ptr + at, mask=inside, other=0)
            z = d
            if ACTIVATE:
                z = a + d
                # the last threshold's pass writes: out may be delta, which the others read
                if k == KINKS - 1:
                    f = activated(a, d, z, kinks_ptr, tilts_ptr, KINKS)
                    tl.store(out_ptr + at, f, mask=inside & owned[:, None])
            if k == 0:
                bad = tl.sum(((z != z) & inside & owned[:, None]).to(tl.int32))
                if bad > 0:
                    tl.atomic_add(nans_ptr, bad.to(tl.int64))
            on = (z > kink) & inside
            gap = tl.min(tl.where(inside, tl.abs(z - kink), float("inf")), 1).to(tl.float32)
            tl.atomic_min(margin_ptr + pixel, gap.to(tl.int32, bitcast=True), mask=owned)
            first = tl.sum(tl.where(on, splitmix64(2 * j + 1)[None, :], 0), 1)
            second = tl.sum(tl.where(on, splitmix64(2 * j + 2)[None, :], 0), 1)
            tl.atomic_add(digest_ptr + 2 * pixel, first, mask=owned)
            tl.atomic_add(digest_ptr + 2 * pixel + 1, second, mask=owned)
            bits = tl.reshape(on.to(tl.int32), (RUN, UNIT // 32, 32))
            word = tl.sum(bits << tl.arange(0, 32)[None, None, :], 2)
            flips = tl.sum(popcount(word ^ tl.gather(word, beside, 0)), 1)
            tl.atomic_add(right_ptr + (g * HEIGHT + y) * (WIDTH - 1) + x, flips, mask=has_right)
            flips = tl.sum(popcount(word ^ above), 1)
            tl.atomic_add(down_ptr + (g * (HEIGHT - 1) + y - 1) * WIDTH + x, flips, mask=owned & (y > 0))
            above = word
            if EMIT:
                bit = k * UNITS + tl.program_id(1) * UNIT + 32 * tl.arange(0, UNIT // 32)
                row = words_ptr + pixel[:, None] * WORDS + (bit // 32)[None, :]
                wanted = owned[:, None] & (bit // 32 < WORDS)[None, :]
                if KINKS == 1:
                    tl.store(row, word, mask=wanted)
                else:
                    shift = (bit % 32)[None, :]
                    over = (word.to(tl.uint32, bitcast=True) >> 1) >> (31 - shift).to(tl.uint32)
                    tl.atomic_or(row, word << shift, mask=wanted)
                    hangs = owned[:, None] & (bit // 32 + 1 < WORDS)[None, :]
                    tl.atomic_or(row + 1, over.to(tl.int32, bitcast=True), mask=hangs)


@lru_cache(maxsize=256)
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Few activations and many calls: their thresholds stay on the device."""
    return torch.tensor(values, dtype=dtype, device=device)


def _launch(
    anchor: Tensor,
    delta: Tensor,
    out: Tensor,
    raster: tuple[int, int],
    kinks: Tensor,
    tilts: Tensor,
    bit_offset: int,
    total: GridTotals,
    emit: bool,
    activate: bool,
) -> Tensor | None:
    (height, width), (groups, points, units) = raster, delta.shape
    size = words_for(len(kinks) * units)
    run = min(BLOCK_X, max(2, triton.next_power_of_2(width)))
    runs = max(1, triton.cdiv(width - 1, run - 1))
    words = torch.zeros((groups, points, size) if emit else 1, dtype=torch.int32, device=delta.device)
    if groups and units:
        delta = delta.contiguous()
        # a run reads one pixel of the next one
        delta = delta.clone() if runs > 1 and delta.data_ptr() == out.data_ptr() else delta
        constants = [_constants(tuple(x.tolist()), anchor.dtype, delta.device) for x in (kinks, tilts)]
        margin = total.margin.view(torch.int32)
        sums = (total.right, total.down, margin, total.digest, total.nans)
        grid_step_kernel[(groups, triton.cdiv(units, BLOCK_U), runs)](
            anchor.contiguous(), delta, out, *constants, *sums, words, height, width, units, size, bit_offset,
            KINKS=len(kinks), ACTIVATE=activate, EMIT=emit, RUN=run, UNIT=BLOCK_U, num_warps=WARPS,
            # delta' is prescribed to the last bit
            enable_fp_fusion=False,
        )  # fmt: skip
    return words if emit else None


def step(
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
    return _launch(anchor, delta, out, (height, width), kinks, tilts, bit_offset, total, emit, True)


def tally(
    z: Tensor, height: int, width: int, kinks: Tensor, bit_offset: int, total: GridTotals, emit: bool
) -> Tensor | None:
    return _launch(z, z, z, (height, width), kinks, kinks, bit_offset, total, emit, False)
