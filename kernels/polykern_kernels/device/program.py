# pyright: reportArgumentType=false
"""Triton: tile programs, two pixels a thread, and the counts of what they flipped.

`program_run_kernel` is persistent: each instance, one warp, owns a slice of scratch and walks over (tile, chunk of
pixels). `program_count_kernel` turns the signs into counts by field.

What it takes, derived for an H200 (132 SM, 1.83 GHz) and not measured: 4096 x 4096 pixels of the digits network in
tiles of 64 are 4096 tiles with 104 instructions and 1,423 terms, so 2.5e10 terms at a pixel. A warp's term is six
passes through L1 for 64 pixels, four of symbols, one of the number and one of the coefficient: 9.6 ms. Signs are a
byte each, 1.8 GB written and read once out of L2: 1 ms.
"""

import dataclasses

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.program import CLASS, FOLD, NORM, RIVAL, Outcome, Programs, blank

# Triton cannot index registers or shared memory by a run-time symbol number, so the symbols live in global memory
# that stays in L1: (symbol, pixel) with the pixel innermost is four coalesced lines a warp, and a slice that is
# reused for tile after tile, not one for each, keeps them there. L1 gives 16 doubles a clock and SM of Hopper
# against 64 multiply-adds, so a term costs at least four times its arithmetic; two pixels a thread halve the cost
# of fetching its number and coefficient, and one warp an instance makes the barrier behind a new symbol free.
WARPS = 1
PIXELS = 64
L1_BYTES = 200 << 10  # of a Hopper SM's 256 KiB; the rest holds terms and coefficients
COUNTED = 256  # pixels an instance of the counting kernel, two a thread
RESIDENT = (4, 16)  # instances an SM: one a scheduler at least, at most what hides the latency of L2

_FOLD, _RIVAL, _CLASS, _NORM = (tl.constexpr(x) for x in (FOLD, RIVAL, CLASS, NORM))


@triton.jit
def _weighted_sum(begin, end, term_ptr, coefficient_ptr, mine_ptr, PIX: tl.constexpr):
    """Sum of coefficient * symbol at every pixel of the instance."""
    z = tl.zeros((PIX,), tl.float64)
    for k in tl.range(begin, end, loop_unroll_factor=4):
        symbol = tl.load(mine_ptr + tl.load(term_ptr + k).to(tl.int64) * PIX)
        z += tl.load(coefficient_ptr + k) * symbol
    return z


@triton.jit
def _quadratic(begin, end, term_ptr, coefficient_ptr, u, v):
    """Sum of coefficient * (1, u, v, uu, uv, vv)[term]."""
    z = tl.zeros_like(u)
    one = z + 1.0
    for k in range(begin, end):
        which = tl.load(term_ptr + k)
        first = tl.where((which == 1) | (which == 3) | (which == 4), u, tl.where(which == 0, one, v))
        second = tl.where(which == 3, u, tl.where(which > 3, v, one))
        z += tl.load(coefficient_ptr + k) * (first * second)
    return z


@triton.jit
def program_run_kernel(
    first_ptr,  # int64 [TILES + 1]
    kind_ptr,  # int8 [INSTRUCTIONS]
    target_ptr,  # int32 [INSTRUCTIONS]
    field_ptr,  # int32 [INSTRUCTIONS]
    key_ptr,  # int64 [INSTRUCTIONS, 2]
    tolerance_ptr,  # float64 [INSTRUCTIONS]
    start_ptr,  # int64 [INSTRUCTIONS + 1]
    term_ptr,  # int32 [TERMS]
    coefficient_ptr,  # float64 [TERMS]
    symbols_ptr,  # int32 [TILES]
    scale_ptr,  # int32 [TILES]
    base_digest_ptr,  # int64 [TILES, 2]
    base_margin_ptr,  # float64 [TILES]
    base_winner_ptr,  # int32 [TILES]
    scratch_ptr,  # float64 [PROGRAMS, MOST, PIX]
    classes_ptr,  # int32 [TILES, HEIGHT, WIDTH]
    margin_ptr,  # float32 [TILES, HEIGHT, WIDTH]
    digest_ptr,  # int64 [TILES, HEIGHT, WIDTH, 2]
    uncertain_ptr,  # int64 [TILES]
    signs_ptr,  # uint8 [INSTRUCTIONS, HEIGHT + 1, WIDTH + 1]
    TILES,
    HEIGHT,
    WIDTH,
    MOST,  # symbols of the largest tile
    PIX: tl.constexpr,
):
    lane = tl.arange(0, PIX)  # [PIX]
    mine_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * MOST * PIX + lane
    points = (HEIGHT + 1) * (WIDTH + 1)
    chunks = tl.cdiv(points, PIX)
    for work in range(tl.program_id(0), TILES * chunks, tl.num_programs(0)):
        t = tl.zeros((), tl.int64) + work // chunks
        at = (work % chunks) * PIX + lane  # [PIX] point of the tile
        row, column = at // (WIDTH + 1), at % (WIDTH + 1)
        there = at < points
        inside = (row < HEIGHT) & (column < WIDTH)
        u = column.to(tl.float64) - WIDTH * 0.5
        v = row.to(tl.float64) - HEIGHT * 0.5
        zero = tl.zeros((PIX,), tl.float64)
        tl.store(mine_ptr, zero + 1.0)
        tl.store(mine_ptr + PIX, u)
        tl.store(mine_ptr + 2 * PIX, v)
        for s in range(3, tl.load(symbols_ptr + t)):
            tl.store(mine_ptr + s * PIX, zero)  # a rival starts from 0
        tl.debug_barrier()
        scale = tl.load(scale_ptr + t).to(tl.int64)
        low = zero + float("inf")
        best = zero
        winner = tl.load(base_winner_ptr + t) + tl.zeros((PIX,), tl.int32)
        print_a = tl.load(base_digest_ptr + 2 * t) + tl.zeros((PIX,), tl.int64)
        print_b = tl.load(base_digest_ptr + 2 * t + 1) + tl.zeros((PIX,), tl.int64)
        doubt = tl.zeros((PIX,), tl.int64)
        for i in range(tl.load(first_ptr + t), tl.load(first_ptr + t + 1)):
            kind = tl.load(kind_ptr + i)
            to = tl.load(target_ptr + i)
            begin, end = tl.load(start_ptr + i), tl.load(start_ptr + i + 1)
            if kind == _NORM:
                z = _quadratic(begin, end, term_ptr, coefficient_ptr, u, v)
                tl.store(mine_ptr + to.to(tl.int64) * PIX, tl.sqrt(tl.maximum(z, 0.0)))
                tl.debug_barrier()
            else:
                z = _weighted_sum(begin, end, term_ptr, coefficient_ptr, mine_ptr, PIX)
                if kind == _CLASS:
                    winner = tl.where((z > best) | ((z == best) & (to < winner)), to, winner)
                    best = tl.maximum(best, z)
                elif kind == _RIVAL:
                    own_ptr = mine_ptr + to.to(tl.int64) * PIX
                    tl.store(own_ptr, tl.maximum(tl.load(own_ptr), z))
                    tl.debug_barrier()
                else:
                    turned = tl.where(kind == _FOLD, -z, z)
                    tl.store(mine_ptr + to.to(tl.int64) * PIX, tl.maximum(turned, 0.0))
                    tl.debug_barrier()
                    if tl.load(field_ptr + i) >= 0:
                        on = z > 0.0
                        tl.store(signs_ptr + i * points + at, on.to(tl.uint8), mask=there)
                        print_a += tl.where(on, tl.load(key_ptr + 2 * i), 0)
                        print_b += tl.where(on, tl.load(key_ptr + 2 * i + 1), 0)
                        slack = tl.abs(z) - tl.load(tolerance_ptr + i)
                        doubt += ((slack <= 0.0) & inside).to(tl.int64)
                        room = tl.maximum(slack, 0.0)
                        if scale >= 0:
                            room = room / tl.load(mine_ptr + scale * PIX)
                        low = tl.minimum(low, room)
        low = tl.minimum(low, tl.load(base_margin_ptr + t))
        pixel = (t * HEIGHT + row) * WIDTH + column
        tl.store(margin_ptr + pixel, low.to(tl.float32), mask=inside)
        tl.store(classes_ptr + pixel, winner, mask=inside)
        tl.store(digest_ptr + 2 * pixel, print_a, mask=inside)
        tl.store(digest_ptr + 2 * pixel + 1, print_b, mask=inside)
        tl.atomic_add(uncertain_ptr + t, tl.sum(doubt, 0))
        tl.debug_barrier()  # the next chunk overwrites the symbols


@triton.jit
def _flush(right_ptr, down_ptr, r, d, mask):
    """Add what one field has collected; no other instance owns these pixels."""
    tl.store(right_ptr, tl.load(right_ptr, mask=mask, other=0) + r, mask=mask)
    tl.store(down_ptr, tl.load(down_ptr, mask=mask, other=0) + d, mask=mask)


@triton.jit
def program_count_kernel(
    first_ptr,  # int64 [TILES + 1]
    kind_ptr,  # int8 [INSTRUCTIONS]
    field_ptr,  # int32 [INSTRUCTIONS]
    signs_ptr,  # uint8 [INSTRUCTIONS, HEIGHT + 1, WIDTH + 1]
    right_ptr,  # int32 [TILES, FIELDS, HEIGHT, WIDTH], zero
    down_ptr,  # int32 [TILES, FIELDS, HEIGHT, WIDTH], zero
    FIELDS,
    HEIGHT,
    WIDTH,
    PIX: tl.constexpr,
):
    chunks = tl.cdiv(HEIGHT * WIDTH, PIX)
    t = (tl.program_id(0) // chunks).to(tl.int64)
    at = (tl.program_id(0) % chunks) * PIX + tl.arange(0, PIX)  # [PIX] pixel of the tile
    mask = at < HEIGHT * WIDTH
    point = at // WIDTH * (WIDTH + 1) + at % WIDTH
    here = tl.zeros((PIX,), tl.uint8)
    r = tl.zeros((PIX,), tl.int32)
    d = tl.zeros((PIX,), tl.int32)
    field = tl.full((), -1, tl.int32)
    for i in range(tl.load(first_ptr + t), tl.load(first_ptr + t + 1)):
        f = tl.load(field_ptr + i)
        if (tl.load(kind_ptr + i) <= _FOLD) & (f >= 0):
            if f != field:
                if field >= 0:  # fields come in runs, so the maps are touched once a run
                    whole = (t * FIELDS + field) * HEIGHT * WIDTH + at
                    _flush(right_ptr + whole, down_ptr + whole, r, d, mask)
                field = f
                r = tl.zeros_like(r)
                d = tl.zeros_like(d)
            sign_ptr = signs_ptr + i * (HEIGHT + 1) * (WIDTH + 1) + point
            here = tl.load(sign_ptr, mask=mask, other=0)
            r += (here ^ tl.load(sign_ptr + 1, mask=mask, other=0)).to(tl.int32)
            d += (here ^ tl.load(sign_ptr + WIDTH + 1, mask=mask, other=0)).to(tl.int32)
    if field >= 0:
        whole = (t * FIELDS + field) * HEIGHT * WIDTH + at
        _flush(right_ptr + whole, down_ptr + whole, r, d, mask)


def run(p: Programs, height: int, width: int, fields: int, keep: bool) -> Outcome:
    out = blank(p, height, width, fields, True)  # counts are read off the signs
    if p.tiles and out.signs is not None:
        _fill(p, out, out.signs.view(torch.uint8), height, width)
    return out if keep else dataclasses.replace(out, signs=None)


def _fill(p: Programs, out: Outcome, signs: Tensor, height: int, width: int) -> None:
    most = int(p.symbols.max())
    chunks = triton.cdiv((height + 1) * (width + 1), PIXELS)
    instances = min(p.tiles * chunks, _resident(most, p.coefficient))
    scratch = torch.empty((instances, most, PIXELS), dtype=torch.float64, device=p.coefficient.device)
    program_run_kernel[(instances,)](
        p.first, p.kind, p.target, p.field, p.key, p.tolerance, p.start, p.term, p.coefficient, p.symbols,
        p.scale, p.digest, p.margin, p.winner, scratch, out.classes, out.margin, out.digest, out.uncertain, signs,
        p.tiles, height, width, most, PIX=PIXELS, num_warps=WARPS,
    )  # fmt: skip
    program_count_kernel[(p.tiles * triton.cdiv(height * width, COUNTED),)](
        p.first, p.kind, p.field, signs, out.right, out.down, out.right.shape[1], height, width,
        PIX=COUNTED, num_warps=4,
    )  # fmt: skip


def _resident(symbols: int, like: Tensor) -> int:
    """How many instances run at a time, so that their symbols share L1."""
    if like.device.type != "cuda":
        return 2  # the interpreter: enough to test the walk over the work
    fewest, most = RESIDENT
    each = max(fewest, min(most, L1_BYTES // (8 * symbols * PIXELS)))
    return each * torch.cuda.get_device_properties(like.device).multi_processor_count
