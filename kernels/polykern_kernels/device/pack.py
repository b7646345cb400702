# pyright: reportArgumentType=false
"""Triton: 32 comparisons reshaped, shifted and summed into a word; every element is read once a threshold."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels._bits import words_for
from polykern_kernels.device.hamming import popcount

WARPS = 4


@triton.jit
def pack_signs_kernel(
    x_ptr,  # float16|bfloat16|float32|float64 [ROWS, UNITS]
    floor_ptr,  # thresholds in x's dtype, 16-bit ones as float32: [KINKS] or, EACH, [KINKS, UNITS]
    words_ptr,  # int32 [ROWS, WORDS]
    ones_ptr,  # int32 [ROWS], zeros
    nans_ptr,  # int64 [1], zero
    UNITS,
    WORDS,
    KINKS: tl.constexpr,
    EACH: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    w = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)
    j = tl.program_id(1) * BLOCK_W * 32 + tl.arange(0, BLOCK_W * 32)
    k = tl.zeros_like(j)
    for i in tl.static_range(1, KINKS):
        k += (j >= i * UNITS).to(tl.int32)
    u = j - k * UNITS
    inside = j < KINKS * UNITS
    x = tl.load(x_ptr + row * UNITS + u, mask=inside, other=0)
    if x.dtype == tl.bfloat16:
        # by its bits: the interpreter's conversion loses subnormals
        x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    elif x.dtype == tl.float16:
        x = x.to(tl.float32)
    if EACH:
        floor = tl.load(floor_ptr + j, mask=inside, other=0)
    else:
        floor = tl.load(floor_ptr + k, mask=inside, other=0)
    on = ((x > floor) & inside).to(tl.int32)
    word = tl.sum(tl.reshape(on, (BLOCK_W, 32)) << tl.arange(0, 32)[None, :], 1)
    tl.store(words_ptr + row * WORDS + w, word, mask=w < WORDS)
    tl.atomic_add(ones_ptr + row, tl.sum(popcount(word)))
    bad = tl.sum(((x != x) & (j < UNITS)).to(tl.int32))
    if bad > 0:
        tl.atomic_add(nans_ptr, bad.to(tl.int64))


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


def signs(x: Tensor, floor: Tensor, *, block_w: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    rows, units = x.shape
    size = words_for(len(floor) * units)
    words = torch.empty((rows, size), dtype=torch.int32, device=x.device)
    ones = torch.zeros(rows, dtype=torch.int32, device=x.device)
    nans = torch.zeros(1, dtype=torch.int64, device=x.device)
    if words.numel():
        wide = floor.float() if x.element_size() == 2 else floor
        pack_signs_kernel[(rows, triton.cdiv(size, block_w))](
            x.contiguous(), wide.contiguous(), words, ones, nans, units, size,
            KINKS=len(floor), EACH=floor.shape[1] > 1, BLOCK_W=block_w, num_warps=WARPS,
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
