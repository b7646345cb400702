# pyright: reportArgumentType=false
"""Triton: 32 comparisons summed into a word, byte by byte.

Every element is read once, and once a threshold where the fields of a code do not begin at words.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels._bits import WORD_BITS, words_for
from polykern_kernels.device.hamming import popcount

WARPS = 4
BLOCK_R, BLOCK_W = 8, 8  # rows and words of a pass: two loads of 16 bytes in flight a thread with 16-bit numbers
PROGRAMS = 1 << 13  # that fill any device several times over


@triton.jit
def pack_column(j, UNITS, KINKS: tl.constexpr, ALIGNED: tl.constexpr):
    """The threshold and the unit of bit j of a code; of its first field alone where fields are ALIGNED."""
    k = tl.zeros_like(j)
    if not ALIGNED:
        for i in tl.static_range(1, KINKS):
            k += (j >= i * UNITS).to(tl.int32)
    return k, j - k * UNITS


@triton.jit
def pack_signs_kernel(
    x_ptr,  # float16|bfloat16|float32|float64 [ROWS, UNITS]
    floor_ptr,  # thresholds in x's dtype, 16-bit ones as float32: [KINKS] or, EACH, [KINKS, UNITS]
    words_ptr,  # int32 [ROWS, WORDS]
    ones_ptr,  # int32 [ROWS]; zeros where several programs share a row
    nans_ptr,  # int64 [1], zero
    ROWS,
    UNITS,
    WORDS,
    SPAN,  # columns of a program
    KINKS: tl.constexpr,
    EACH: tl.constexpr,
    ALIGNED: tl.constexpr,  # every threshold begins a word: one read of x serves all of them
    ALONE: tl.constexpr,  # a program has whole rows
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    begin = tl.program_id(1) * SPAN
    last = tl.minimum(begin + SPAN, UNITS if ALIGNED else KINKS * UNITS)
    counted = tl.zeros((BLOCK_R, BLOCK_W), tl.int32)
    bad = tl.zeros((BLOCK_R, BLOCK_W * 32), tl.int32)
    j = begin + tl.arange(0, BLOCK_W * 32)
    k, u = pack_column(j, UNITS, KINKS, ALIGNED)
    at = x_ptr + row[:, None] * UNITS
    below = float("-inf")  # above no threshold
    ahead = tl.load(at + u[None, :], mask=(row < ROWS)[:, None] & (j < last)[None, :], other=below)
    for first in range(begin, last, BLOCK_W * 32):
        x = ahead
        j = first + tl.arange(0, BLOCK_W * 32)
        k, _ = pack_column(j, UNITS, KINKS, ALIGNED)
        _, u = pack_column(j + BLOCK_W * 32, UNITS, KINKS, ALIGNED)
        inside = (row < ROWS)[:, None] & (j + BLOCK_W * 32 < last)[None, :]
        ahead = tl.load(at + u[None, :], mask=inside, other=below)  # in flight while x is packed
        w = first // 32 + tl.arange(0, BLOCK_W)
        if x.dtype == tl.bfloat16:
            # by its bits: the interpreter's conversion loses subnormals
            x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
        elif x.dtype == tl.float16:
            x = x.to(tl.float32)
        bad += ((x != x) & (j < UNITS)[None, :]).to(tl.int32)
        for i in tl.static_range(KINKS if ALIGNED else 1):
            if EACH:
                floor = tl.load(floor_ptr + i * UNITS + j, mask=j < last, other=0)[None, :]
            elif ALIGNED:
                floor = tl.load(floor_ptr + i)
            else:
                floor = tl.load(floor_ptr + k, mask=j < last, other=0)[None, :]
            # bytes first: their shifts are constants
            on = tl.reshape(x > floor, (BLOCK_R, BLOCK_W, 4, 8))
            octet = tl.sum(tl.where(on, 1 << tl.arange(0, 8)[None, None, None, :], 0), 3)
            word = tl.sum(octet << (8 * tl.arange(0, 4))[None, None, :], 2)
            counted += popcount(word)
            held = (row < ROWS)[:, None] & (w * 32 < last)[None, :]
            tl.store(words_ptr + row[:, None] * WORDS + (i * (UNITS // 32) + w)[None, :], word, mask=held)
    if ALONE:
        tl.store(ones_ptr + row, tl.sum(counted, 1), mask=row < ROWS)
    else:
        tl.atomic_add(ones_ptr + row, tl.sum(counted, 1), mask=row < ROWS, sem="relaxed")
    found = tl.sum(tl.sum(bad, 1), 0)
    if found > 0:
        tl.atomic_add(nans_ptr, found.to(tl.int64), sem="relaxed")


@triton.jit
def pack_unpack_kernel(
    words_ptr,  # int32 [ROWS, WORDS]
    out_ptr,  # uint8 [ROWS, BITS]
    WORDS,
    BITS,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    word = tl.load(words_ptr + row * WORDS + j // 32, mask=j < BITS, other=0)
    tl.store(out_ptr + row * BITS + j, ((word >> (j % 32)) & 1).to(tl.uint8), mask=j < BITS)


@triton.jit
def pack_place_kernel(
    part_ptr,  # int32 [ROWS, SIZE]
    out_ptr,  # int32 [ROWS, WORDS], zeros from bit START on
    SIZE,
    WORDS,
    START,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    w = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    shift = START % 32
    here = tl.load(part_ptr + row * SIZE + w, mask=w < SIZE, other=0).to(tl.uint32, bitcast=True)
    before = tl.load(part_ptr + row * SIZE + w - 1, mask=(w > 0) & (w <= SIZE), other=0).to(tl.uint32, bitcast=True)
    # a shift by 32 is undefined, hence two
    word = (here << shift) | ((before >> 1) >> (31 - shift))
    inside = (w <= SIZE) & (START // 32 + w < WORDS)
    at = out_ptr + row * WORDS + START // 32 + w
    tl.store(at, tl.load(at, mask=inside, other=0) | word.to(tl.int32, bitcast=True), mask=inside)


@triton.jit
def exchange(x, SHIFT: tl.constexpr, MASK: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr):
    """In squares of 2 SHIFT bits the blocks beside the diagonal change places: rows of x are registers."""
    x = tl.reshape(x, (16 // SHIFT, 2, SHIFT, BLOCK_R, BLOCK_W))
    a, b = tl.split(tl.permute(x, (0, 2, 3, 4, 1)))
    differing = ((a >> SHIFT) ^ b) & MASK
    x = tl.permute(tl.join(a ^ (differing << SHIFT), b ^ differing), (0, 4, 1, 2, 3))
    return tl.reshape(x, (32, BLOCK_R, BLOCK_W))


@triton.jit
def pack_transpose_kernel(
    words_ptr,  # int32 [ROWS, WORDS]
    out_ptr,  # int32 [BITS, SIZE]
    ROWS,
    WORDS,
    BITS,
    SIZE,
    BLOCK_R: tl.constexpr,  # words of a row of `out`: 32 bytes of memory together
    BLOCK_W: tl.constexpr,
):
    tall = tl.cdiv(SIZE, BLOCK_R)
    r = (tl.program_id(0) % tall).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    w = (tl.program_id(0) // tall).to(tl.int64) * BLOCK_W + tl.arange(0, BLOCK_W)
    k = tl.arange(0, 32)
    row = k[:, None] + 32 * r[None, :]
    inside = (row < ROWS)[:, :, None] & (w < WORDS)[None, None, :]
    x = tl.load(words_ptr + row[:, :, None] * WORDS + w[None, None, :], mask=inside, other=0)
    x = x.to(tl.uint32, bitcast=True)
    x = exchange(x, 16, 0x0000FFFF, BLOCK_R, BLOCK_W)
    x = exchange(x, 8, 0x00FF00FF, BLOCK_R, BLOCK_W)
    x = exchange(x, 4, 0x0F0F0F0F, BLOCK_R, BLOCK_W)
    x = exchange(x, 2, 0x33333333, BLOCK_R, BLOCK_W)
    x = exchange(x, 1, 0x55555555, BLOCK_R, BLOCK_W)
    x = tl.permute(x, (2, 0, 1)).to(tl.int32, bitcast=True)
    bit = w[:, None] * 32 + k[None, :]
    held = (bit < BITS)[:, :, None] & (r < SIZE)[None, None, :]
    tl.store(out_ptr + bit[:, :, None] * SIZE + r[None, None, :], x, mask=held)


def signs(x: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    (rows, units), kinks = x.shape, len(floor)
    words = torch.empty((rows, words_for(kinks * units)), dtype=torch.int32, device=x.device)
    nans = torch.zeros(1, dtype=torch.int64, device=x.device)
    aligned = kinks == 1 or units % WORD_BITS == 0
    blocks = triton.cdiv(units if aligned else kinks * units, BLOCK_W * WORD_BITS)
    tall = triton.cdiv(rows, BLOCK_R)
    passes = max(1, min(blocks, tall * blocks // PROGRAMS))  # few rows: several programs a row
    wide = triton.cdiv(blocks, passes)
    ones = (torch.empty if wide == 1 else torch.zeros)(rows, dtype=torch.int32, device=x.device)
    if words.numel():
        floor = floor.float() if x.element_size() == 2 else floor
        pack_signs_kernel[(tall, wide)](
            x.contiguous(), floor.contiguous(), words, ones, nans,
            rows, units, words.shape[1], passes * BLOCK_W * WORD_BITS,
            KINKS=kinks, EACH=floor.shape[1] > 1, ALIGNED=aligned, ALONE=wide == 1,
            BLOCK_R=BLOCK_R, BLOCK_W=BLOCK_W, num_warps=WARPS,
        )  # fmt: skip
    return words, ones, nans


def unpack(words: Tensor, bits: int, *, block: int = 1024) -> Tensor:
    rows, size = words.shape
    out = torch.empty((rows, bits), dtype=torch.bool, device=words.device)
    if out.numel():
        grid = (rows, triton.cdiv(bits, block))
        pack_unpack_kernel[grid](
            words.contiguous(), out.view(torch.uint8), size, bits, BLOCK=block, num_warps=WARPS
        )
    return out


def join(parts: Sequence[Tensor], bits: Sequence[int], *, block: int = 256) -> Tensor:
    """One launch a part: the words that two parts share are safe because launches follow each other."""
    rows, size = len(parts[0]), words_for(sum(bits))
    out = torch.zeros((rows, size), dtype=torch.int32, device=parts[0].device)
    start = 0
    for part, count in zip(parts, bits, strict=True):
        if rows and count:
            grid = (rows, triton.cdiv(part.shape[1] + 1, block))
            pack_place_kernel[grid](
                part.contiguous(), out, part.shape[1], size, start, BLOCK=block, num_warps=WARPS
            )
        start += count
    return out


def transpose(words: Tensor, bits: int, *, block_r: int = 8, block_w: int = 16) -> Tensor:
    rows, count = words.shape
    size = words_for(rows)
    out = torch.empty((bits, size), dtype=torch.int32, device=words.device)
    if out.numel():
        grid = (triton.cdiv(size, block_r) * triton.cdiv(count, block_w),)
        pack_transpose_kernel[grid](
            words.contiguous(), out, rows, count, bits, size, BLOCK_R=block_r, BLOCK_W=block_w, num_warps=WARPS
        )
    return out
