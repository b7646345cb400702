# pyright: reportArgumentType=false
"""Triton: affine forms of thousands of tiles at a time, a lane a unit, a window or a chosen form.

A lane walks over the rows of its tile in order, as the loops of the CPU do, so that every bound is the same to the
last bit. Bytes are the limit: rows are read once by `ranges`, once by `surviving`, once by `rescale`. Convolutions
are float64 products, on the tensor cores of Ampere and Hopper; their windows come out of L1 and are never written.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

OPTIONS = {"enable_fp_fusion": False}  # bounds are prescribed to the last bit
BLOCK_U = 256  # units a program: two a thread, 16-byte loads
BLOCK_N = 128  # windows, rivals or chosen forms a program
WIDE_U = 512  # units of a row at a time
# Outputs, pixels and channels of a convolution at a time: 64 registers a thread hold the sums. From 64 outputs on
# the compiler would want the tensor memory of Blackwell, which knows no float64.
BLOCK_O, BLOCK_P, BLOCK_K = 32, 128, 16


@triton.jit
def forms_ranges_kernel(
    rows_ptr,  # float64 [ROWS, UNITS]
    ptr_ptr,  # int64 [TILES + 1]
    low_ptr,  # float64 [ROWS]
    high_ptr,  # float64 [ROWS]
    out_low_ptr,  # float64 [TILES, UNITS]
    out_high_ptr,  # float64 [TILES, UNITS]
    size_ptr,  # float64 [TILES, UNITS]
    UNITS,
    BLOCK_U: tl.constexpr,
):
    blocks = tl.cdiv(UNITS, BLOCK_U)
    t = (tl.program_id(0) // blocks).to(tl.int64)
    unit = (tl.program_id(0) % blocks) * BLOCK_U + tl.arange(0, BLOCK_U)  # [BLOCK_U]
    mask = unit < UNITS
    low = tl.zeros((BLOCK_U,), tl.float64)
    high = tl.zeros((BLOCK_U,), tl.float64)
    size = tl.zeros((BLOCK_U,), tl.float64)
    for r in range(tl.load(ptr_ptr + t), tl.load(ptr_ptr + t + 1)):
        a, b = tl.load(low_ptr + r), tl.load(high_ptr + r)
        c = tl.load(rows_ptr + r * UNITS + unit, mask=mask, other=0)
        low += tl.minimum(c * a, c * b)
        high += tl.maximum(c * a, c * b)
        size += tl.abs(c) * tl.maximum(tl.abs(a), tl.abs(b))
    at = t * UNITS + unit
    tl.store(out_low_ptr + at, low, mask=mask)
    tl.store(out_high_ptr + at, high, mask=mask)
    tl.store(size_ptr + at, size, mask=mask)


@triton.jit
def forms_rescale_kernel(
    rows_ptr,  # float64 [ROWS, UNITS]
    source_ptr,  # int64 [OUT]
    tile_ptr,  # int64 [OUT]
    slope_ptr,  # float64 [TILES, UNITS]
    rank_ptr,  # int64 [OUT]: which new symbol
    fresh_ptr,  # int64 [NEW]
    jump_ptr,  # float64 [NEW]
    out_ptr,  # float64 [OUT, UNITS]
    UNITS,
    BLOCK_U: tl.constexpr,
):
    blocks = tl.cdiv(UNITS, BLOCK_U)
    o = (tl.program_id(0) // blocks).to(tl.int64)
    unit = (tl.program_id(0) % blocks) * BLOCK_U + tl.arange(0, BLOCK_U)  # [BLOCK_U]
    mask = unit < UNITS
    source = tl.load(source_ptr + o)
    if source >= 0:
        row = tl.load(rows_ptr + source * UNITS + unit, mask=mask, other=0)
        slope = tl.load(slope_ptr + tl.load(tile_ptr + o) * UNITS + unit, mask=mask, other=0)
        tl.store(out_ptr + o * UNITS + unit, row * slope, mask=mask)
    else:
        rank = tl.load(rank_ptr + o)
        own = unit == tl.load(fresh_ptr + rank)
        tl.store(out_ptr + o * UNITS + unit, tl.where(own, tl.load(jump_ptr + rank), 0.0), mask=mask)


@triton.jit
def forms_surviving_kernel(
    rows_ptr,  # float64 [ROWS, UNITS]
    tile_ptr,  # int64 [ROWS]
    slope_ptr,  # float64 [TILES, UNITS]
    out_ptr,  # uint8 [ROWS]
    UNITS,
    WIDE_U: tl.constexpr,
):
    r = tl.program_id(0).to(tl.int64)
    t = tl.load(tile_ptr + r)
    found = tl.zeros((WIDE_U,), tl.int32)
    for start in range(0, UNITS, WIDE_U):
        unit = start + tl.arange(0, WIDE_U)  # [WIDE_U]
        mask = unit < UNITS
        row = tl.load(rows_ptr + r * UNITS + unit, mask=mask, other=0)
        slope = tl.load(slope_ptr + t * UNITS + unit, mask=mask, other=0)
        found |= ((row != 0.0) & (slope != 0.0)).to(tl.int32)
    tl.store(out_ptr + r, tl.max(found, 0).to(tl.uint8))


@triton.jit
def forms_key_sums_kernel(
    on_ptr,  # uint8 [TILES, UNITS]
    keys_ptr,  # int64 [UNITS, 2]
    out_ptr,  # int64 [TILES, 2]
    UNITS,
    WIDE_U: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64)
    a = tl.zeros((WIDE_U,), tl.int64)
    b = tl.zeros((WIDE_U,), tl.int64)
    for start in range(0, UNITS, WIDE_U):
        unit = start + tl.arange(0, WIDE_U)  # [WIDE_U]
        mask = unit < UNITS
        on = tl.load(on_ptr + t * UNITS + unit, mask=mask, other=0) != 0
        a += tl.where(on, tl.load(keys_ptr + 2 * unit, mask=mask, other=0), 0)
        b += tl.where(on, tl.load(keys_ptr + 2 * unit + 1, mask=mask, other=0), 0)
    tl.store(out_ptr + 2 * t, tl.sum(a, 0))
    tl.store(out_ptr + 2 * t + 1, tl.sum(b, 0))


@triton.jit
def forms_winner_kernel(
    rows_ptr,  # float64 [ROWS, UNITS]
    ptr_ptr,  # int64 [TILES + 1]
    members_ptr,  # int64 [WINDOWS, MEMBERS]
    ceiling_ptr,  # float64 [TILES, UNITS]
    winner_ptr,  # int64 [TILES, WINDOWS]
    UNITS,
    WINDOWS,
    MEMBERS,
    BLOCK_N: tl.constexpr,
):
    blocks = tl.cdiv(WINDOWS, BLOCK_N)
    t = (tl.program_id(0) // blocks).to(tl.int64)
    window = (tl.program_id(0) % blocks) * BLOCK_N + tl.arange(0, BLOCK_N).to(tl.int64)  # [BLOCK_N]
    mask = window < WINDOWS
    first = tl.load(ptr_ptr + t)
    here = mask & (first < tl.load(ptr_ptr + t + 1))
    best = tl.full((BLOCK_N,), -1, tl.int64)
    most = tl.full((BLOCK_N,), float("-inf"), tl.float64)
    roof = tl.full((BLOCK_N,), float("-inf"), tl.float64)
    for j in range(MEMBERS):
        m = tl.load(members_ptr + window * MEMBERS + j, mask=mask, other=-1)
        real = here & (m >= 0)
        value = tl.load(rows_ptr + first * UNITS + m, mask=real, other=0)
        top = tl.load(ceiling_ptr + t * UNITS + m, mask=real, other=0)
        better = real & ((best < 0) | (value > most) | ((value == most) & (top > roof)))
        best, most, roof = tl.where(better, m, best), tl.where(better, value, most), tl.where(better, top, roof)
    tl.store(winner_ptr + t * WINDOWS + window, tl.maximum(best, 0), mask=mask)


@triton.jit
def forms_rise_kernel(
    rows_ptr,  # float64 [ROWS, UNITS]
    ptr_ptr,  # int64 [TILES + 1]
    low_ptr,  # float64 [ROWS]
    high_ptr,  # float64 [ROWS]
    members_ptr,  # int64 [WINDOWS, MEMBERS]
    floor_ptr,  # float64 [TILES, UNITS]
    ceiling_ptr,  # float64 [TILES, UNITS]
    winner_ptr,  # int64 [TILES, WINDOWS]
    rise_ptr,  # float64 [TILES, WINDOWS, MEMBERS]
    UNITS,
    WINDOWS,
    MEMBERS,
    BLOCK_N: tl.constexpr,
):
    rivals = WINDOWS * MEMBERS
    blocks = tl.cdiv(rivals, BLOCK_N)
    t = (tl.program_id(0) // blocks).to(tl.int64)
    at = (tl.program_id(0) % blocks) * BLOCK_N + tl.arange(0, BLOCK_N)  # [BLOCK_N]
    mask = at < rivals
    first, last = tl.load(ptr_ptr + t), tl.load(ptr_ptr + t + 1)
    m = tl.load(members_ptr + at, mask=mask, other=-1)
    best = tl.load(winner_ptr + t * WINDOWS + at // MEMBERS, mask=mask, other=0)
    real = mask & (m >= 0) & (m != best) & (first < last)
    top = tl.load(ceiling_ptr + t * UNITS + m, mask=real, other=float("-inf"))
    cap = top - tl.load(floor_ptr + t * UNITS + best, mask=real, other=0)
    open_ = cap > 0.0
    bound = tl.zeros((BLOCK_N,), tl.float64)
    if tl.max(open_.to(tl.int32), 0) > 0:  # most windows are decided by the intervals of their members
        for r in range(first, last):
            gap = tl.load(rows_ptr + r * UNITS + m, mask=open_, other=0)
            gap -= tl.load(rows_ptr + r * UNITS + best, mask=open_, other=0)
            bound += tl.maximum(gap * tl.load(low_ptr + r), gap * tl.load(high_ptr + r))
    tl.store(rise_ptr + t * rivals + at, tl.where(open_, tl.minimum(bound, cap), cap), mask=mask)


@triton.jit
def forms_terms_kernel(
    rows_ptr,  # float64 [ROWS, UNITS]
    ptr_ptr,  # int64 [TILES + 1]
    tile_ptr,  # int64 [FORMS]
    unit_ptr,  # int64 [FORMS]
    minus_ptr,  # int64 [FORMS]
    first_ptr,  # int64 [FORMS + 1]: number of terms behind each form's place, or where its terms begin
    symbol_ptr,  # int32 [ROWS]
    term_ptr,  # int32 [TERMS]
    coefficient_ptr,  # float64 [TERMS]
    FORMS,
    UNITS,
    FILL: tl.constexpr,  # write the terms, do not count them
    BLOCK_N: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)  # [BLOCK_N]
    mask = n < FORMS
    t = tl.load(tile_ptr + n, mask=mask, other=0)
    begin = tl.load(ptr_ptr + t, mask=mask, other=0)
    rows = tl.load(ptr_ptr + t + 1, mask=mask, other=0) - begin
    unit = tl.load(unit_ptr + n, mask=mask, other=0)
    minus = tl.load(minus_ptr + n, mask=mask, other=-1)
    at = tl.zeros((BLOCK_N,), tl.int64)
    if FILL:
        at = tl.load(first_ptr + n, mask=mask, other=0)
    for k in range(tl.max(rows, 0)):
        own = mask & (k < rows)
        r = begin + k
        c = tl.load(rows_ptr + r * UNITS + unit, mask=own, other=0)
        c -= tl.load(rows_ptr + r * UNITS + minus, mask=own & (minus >= 0), other=0)
        some = own & (c != 0.0)
        if FILL:
            tl.store(term_ptr + at, tl.load(symbol_ptr + r, mask=some, other=0), mask=some)
            tl.store(coefficient_ptr + at, c, mask=some)
        at += some.to(tl.int64)
    if not FILL:
        tl.store(first_ptr + n + 1, at, mask=mask)


@triton.jit
def forms_convolve_kernel(
    rows_ptr,  # float64 [ROWS, CHANNELS, HIGH, WIDE]
    weight_ptr,  # float64 [OUTPUTS, KERNEL_Y, KERNEL_X, CHANNELS]
    out_ptr,  # float64 [ROWS, OUTPUTS, OUT_HIGH, OUT_WIDE]
    POINTS,  # ROWS * OUT_HIGH * OUT_WIDE
    CHANNELS,
    HIGH,
    WIDE,
    OUTPUTS,
    KERNEL_Y,
    KERNEL_X,
    OUT_HIGH,
    OUT_WIDE,
    STRIDE_Y,
    STRIDE_X,
    PAD_Y,
    PAD_X,
    STEP_Y,
    STEP_X,
    BLOCK_O: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    blocks = tl.cdiv(OUTPUTS, BLOCK_O)
    output = (tl.program_id(0) % blocks) * BLOCK_O + tl.arange(0, BLOCK_O)  # [BLOCK_O]
    p = (tl.program_id(0) // blocks).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)  # [BLOCK_P]
    inside = p < POINTS
    area = OUT_HIGH * OUT_WIDE
    r, pixel = p // area, (p % area).to(tl.int32)
    top, left = pixel // OUT_WIDE * STRIDE_Y - PAD_Y, pixel % OUT_WIDE * STRIDE_X - PAD_X
    own = r * CHANNELS * HIGH * WIDE  # [BLOCK_P]
    parts = tl.cdiv(CHANNELS, BLOCK_K)
    total = tl.zeros((BLOCK_O, BLOCK_P), tl.float64)
    for step in range(KERNEL_Y * KERNEL_X * parts):
        tap = step // parts  # one offset of the kernel at a time: a window is a shifted image, channel by channel
        c = step % parts * BLOCK_K + tl.arange(0, BLOCK_K)  # [BLOCK_K]
        y, x = top + tap // KERNEL_X * STEP_Y, left + tap % KERNEL_X * STEP_X  # [BLOCK_P]
        there = inside & (y >= 0) & (y < HIGH) & (x >= 0) & (x < WIDE)
        at = (own + y * WIDE + x)[None, :] + (c * (HIGH * WIDE))[:, None]
        window = tl.load(rows_ptr + at, mask=there[None, :] & (c < CHANNELS)[:, None], other=0)
        known = (output < OUTPUTS)[:, None] & (c < CHANNELS)[None, :]
        weight_at = (output[:, None] * (KERNEL_Y * KERNEL_X) + tap) * CHANNELS + c[None, :]
        weight = tl.load(weight_ptr + weight_at, mask=known, other=0)
        total = tl.dot(weight, window, total, out_dtype=tl.float64)
    at = (r * OUTPUTS * area + pixel)[None, :] + output[:, None].to(tl.int64) * area
    tl.store(out_ptr + at, total, mask=(output < OUTPUTS)[:, None] & inside[None, :])


# --- launchers: the arguments of the family's public functions -------------------------------------


def ranges(rows: Tensor, ptr: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `forms.ranges`."""
    units, tiles = rows.shape[1], len(ptr) - 1
    out = tuple(torch.empty((tiles, units), dtype=torch.float64, device=rows.device) for _ in range(3))
    if tiles and units:
        grid = (tiles * triton.cdiv(units, BLOCK_U),)
        given = [x.contiguous() for x in (rows, ptr, low, high)]
        forms_ranges_kernel[grid](*given, *out, units, BLOCK_U=BLOCK_U, **OPTIONS)
    return out  # type: ignore[return-value]


def rescale(rows: Tensor, source: Tensor, tile: Tensor, slope: Tensor, fresh: Tensor, jump: Tensor) -> Tensor:
    """As `forms.rescale`."""
    units = rows.shape[1]
    out = torch.empty((len(source), units), dtype=torch.float64, device=rows.device)
    rank = (source < 0).cumsum(0) - 1
    if out.numel():
        given = [x.contiguous() for x in (rows, source, tile, slope, rank, fresh, jump)]
        grid = (len(source) * triton.cdiv(units, BLOCK_U),)
        forms_rescale_kernel[grid](*given, out, units, BLOCK_U=BLOCK_U, **OPTIONS)
    return out


def surviving(rows: Tensor, tile: Tensor, slope: Tensor) -> Tensor:
    """As `forms.surviving`."""
    out = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    if len(rows):
        given = [x.contiguous() for x in (rows, tile, slope)]
        more = out.view(torch.uint8), rows.shape[1]
        forms_surviving_kernel[(len(rows),)](*given, *more, WIDE_U=WIDE_U, **OPTIONS)
    return out


def key_sums(on: Tensor, keys: Tensor) -> Tensor:
    """As `forms.key_sums`."""
    out = torch.empty((len(on), 2), dtype=torch.int64, device=on.device)
    if len(on):
        given = (on.contiguous().view(torch.uint8), keys.contiguous(), out, on.shape[1])
        forms_key_sums_kernel[(len(on),)](*given, WIDE_U=WIDE_U, **OPTIONS)
    return out


def pool_rivals(
    rows: Tensor, ptr: Tensor, low: Tensor, high: Tensor, members: Tensor, floor: Tensor, ceiling: Tensor
) -> tuple[Tensor, Tensor]:
    """As `forms.pool_rivals`."""
    tiles, units, (windows, k) = len(ptr) - 1, rows.shape[1], members.shape
    winner = torch.empty((tiles, windows), dtype=torch.int64, device=rows.device)
    rise = torch.empty((tiles, windows, k), dtype=torch.float64, device=rows.device)
    if not rise.numel():
        return winner.zero_(), rise
    given = [x.contiguous() for x in (rows, ptr, low, high, members, floor, ceiling)]
    rows, ptr, low, high, members, floor, ceiling = given
    forms_winner_kernel[(tiles * triton.cdiv(windows, BLOCK_N),)](
        rows, ptr, members, ceiling, winner, units, windows, k, BLOCK_N=BLOCK_N, **OPTIONS
    )
    forms_rise_kernel[(tiles * triton.cdiv(windows * k, BLOCK_N),)](
        rows, ptr, low, high, members, floor, ceiling, winner, rise, units, windows, k, BLOCK_N=BLOCK_N, **OPTIONS
    )
    return winner, rise


def columns(
    rows: Tensor, ptr: Tensor, symbol: Tensor, tile: Tensor, unit: Tensor, minus: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `forms.columns`."""
    first = torch.zeros(len(tile) + 1, dtype=torch.int64, device=rows.device)
    term, coefficient = symbol[:0], rows.new_empty(0)
    if not len(tile):
        return first, term, coefficient
    grid, size = (triton.cdiv(len(tile), BLOCK_N),), (len(tile), rows.shape[1])
    given, symbol = [x.contiguous() for x in (rows, ptr, tile, unit, minus)], symbol.contiguous()
    forms_terms_kernel[grid](
        *given, first, symbol, term, coefficient, *size, FILL=False, BLOCK_N=BLOCK_N, **OPTIONS
    )
    first = first.cumsum(0)
    term = torch.empty(int(first[-1]), dtype=torch.int32, device=rows.device)
    coefficient = rows.new_empty(len(term))
    forms_terms_kernel[grid](*given, first, symbol, term, coefficient, *size, FILL=True, BLOCK_N=BLOCK_N, **OPTIONS)
    return first, term, coefficient


def convolve(
    rows: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """As `forms.convolve`."""
    high, wide = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(rows.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
    )
    out = rows.new_empty((len(rows), len(weight), high, wide))
    points = len(rows) * high * wide
    if out.numel():
        forms_convolve_kernel[(triton.cdiv(points, BLOCK_P) * triton.cdiv(len(weight), BLOCK_O),)](
            rows.contiguous(), weight.permute(0, 2, 3, 1).contiguous(), out, points, *rows.shape[1:],
            len(weight), *weight.shape[2:], high, wide, *stride, *padding, *dilation,
            BLOCK_O=BLOCK_O, BLOCK_P=BLOCK_P, BLOCK_K=BLOCK_K, **OPTIONS,
        )  # fmt: skip
    return out
