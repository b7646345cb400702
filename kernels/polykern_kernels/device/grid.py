# pyright: reportArgumentType=false
"""Triton: pre-activations to activations, margins and words in one pass; counts from the words.

The words are a thirty-second of the deltas, so writing them and reading them three times costs a tenth of the pass;
counting in the same kernel would cost shuffles for every row of every tile.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels._bits import words_for
from polykern_kernels.device.digest import add_fingerprints
from polykern_kernels.device.hamming import add_flips
from polykern_kernels.grid import GridTotals

WARPS = 4
BLOCK_P = 4  # points a program: one a warp, so that a reduction stays in its warp
BLOCK_U = 128  # units at a time: a 16-byte load a thread, with room in the registers for float64
CHUNK_U = 2048  # units a program
# delta' is prescribed to the last bit; 168 registers are three instances an SM, and ptxas would rather spill
OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": False, "maxnreg": 168}


@triton.jit
def activated(a, d, z, kinks_ptr, tilts_ptr, KINKS: tl.constexpr):
    """f(z) - f(a), as slope * d where z and a lie on one piece."""
    change = d.to(z.dtype)
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
    anchor_ptr,  # float32|float64 [ROWS / POINTS, UNITS]; not read unless ACTIVATE
    delta_ptr,  # float32 [ROWS, UNITS]; the pre-activations themselves unless ACTIVATE
    out_ptr,  # float32 [ROWS, UNITS], may be delta
    kinks_ptr,  # [KINKS], the anchor's dtype
    tilts_ptr,  # [KINKS + 1], the anchor's dtype
    margin_ptr,  # int32 [ROWS]: patterns of floats >= 0, ordered like them
    nans_ptr,  # int64 [1]
    words_ptr,  # int32 [ROWS, WORDS], zeros when KINKS > 1
    ROWS,
    POINTS,
    UNITS,
    WORDS,
    KINKS: tl.constexpr,
    ACTIVATE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_U: tl.constexpr,
    CHUNK_U: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    own_ptr = anchor_ptr + ((row // POINTS) * UNITS)[:, None]
    gap = tl.full((BLOCK_P, BLOCK_U), float("inf"), anchor_ptr.dtype.element_ty)
    bad = tl.zeros((BLOCK_P, BLOCK_U), tl.int32)
    for step in range(0, CHUNK_U, BLOCK_U):
        start = tl.program_id(1) * CHUNK_U + step
        u = start + tl.arange(0, BLOCK_U)
        inside = (row < ROWS)[:, None] & (u < UNITS)[None, :]
        at = row[:, None] * UNITS + u[None, :]
        z = tl.load(delta_ptr + at, mask=inside, other=0)
        if ACTIVATE:
            a = tl.load(own_ptr + u[None, :], mask=inside, other=0)
            d = z
            z = a + d
            tl.store(out_ptr + at, activated(a, d, z, kinks_ptr, tilts_ptr, KINKS), mask=inside)
        bad += (z != z).to(tl.int32)
        for k in tl.static_range(KINKS):
            kink = tl.load(kinks_ptr + k)
            gap = tl.minimum(gap, tl.where(inside, tl.abs(z - kink), float("inf")))
            on = ((z > kink) & inside).to(tl.int32)
            bits = tl.reshape(on, (BLOCK_P, BLOCK_U // 32, 32)) << tl.arange(0, 32)[None, None, :]
            word = tl.sum(bits, 2)
            bit = k * UNITS + start + 32 * tl.arange(0, BLOCK_U // 32)
            target = words_ptr + row[:, None] * WORDS + (bit // 32)[None, :]
            wanted = (row < ROWS)[:, None] & (bit // 32 < WORDS)[None, :]
            if KINKS == 1:
                tl.store(target, word, mask=wanted)
            else:
                # fields of later thresholds begin inside a word; a shift by 32 is undefined, hence two
                shift = (bit % 32)[None, :]
                over = (word.to(tl.uint32, bitcast=True) >> 1) >> (31 - shift).to(tl.uint32)
                tl.atomic_or(target, word << shift, mask=wanted)
                hangs = (row < ROWS)[:, None] & (bit // 32 + 1 < WORDS)[None, :]
                tl.atomic_or(target + 1, over.to(tl.int32, bitcast=True), mask=hangs)
    least = tl.min(gap, 1).to(tl.float32)
    tl.atomic_min(margin_ptr + row, least.to(tl.int32, bitcast=True), mask=row < ROWS)
    nans = tl.sum(bad)
    if nans > 0:
        tl.atomic_add(nans_ptr, nans.to(tl.int64))


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
    activate: bool,
) -> Tensor:
    groups, points, units = delta.shape
    rows, bits = groups * points, len(kinks) * units
    size = words_for(bits)
    make = torch.empty if len(kinks) == 1 else torch.zeros
    words = make((rows, size), dtype=torch.int32, device=delta.device)
    if words.numel():
        constants = [_constants(tuple(x.tolist()), anchor.dtype, delta.device) for x in (kinks, tilts)]
        margin = total.margin.view(torch.int32)
        grid_step_kernel[(triton.cdiv(rows, BLOCK_P), triton.cdiv(units, CHUNK_U))](
            anchor.contiguous(), delta.contiguous(), out, *constants, margin, total.nans, words,
            rows, points, units, size,
            KINKS=len(kinks), ACTIVATE=activate, BLOCK_P=BLOCK_P, BLOCK_U=BLOCK_U, CHUNK_U=CHUNK_U,
            **OPTIONS,
        )  # fmt: skip
        add_flips(words, total.right, total.down, groups, *raster)
        add_fingerprints(words, total.digest.view(rows, -1), bit_offset)
    return words.view(groups, points, size)


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
) -> Tensor:
    return _launch(anchor, delta, out, (height, width), kinks, tilts, bit_offset, total, True)


def tally(
    z: Tensor, height: int, width: int, kinks: Tensor, bit_offset: int, total: GridTotals, emit: bool
) -> Tensor:
    return _launch(z, z, z, (height, width), kinks, kinks, bit_offset, total, False)
