# pyright: reportArgumentType=false
"""Triton: a program holds a count for every bit of some words, or a sum for some rows of one group."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels import profiles

WARPS = 4
COUNTED = 512  # rows of a part: programs enough for one large group; their counts meet in integer atomics
SUMMED = 8  # rows of a part that share the weights
BLOCK_R, BLOCK_W = 4, 16  # rows and words of a tile: 16 bits a thread
SUM_W = 4  # words of a tile of sums: eight 64-bit sums a thread


@triton.jit
def profiles_counts_kernel(
    words_ptr,  # int32 [N, WORDS]
    rows_ptr,  # int64 [R]
    edges_ptr,  # int64 [PARTS + 1]
    group_ptr,  # int64 [PARTS]
    out_ptr,  # int32 [GROUPS, BITS], added to
    WORDS,
    BITS,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    part = tl.program_id(0).to(tl.int64)
    first = tl.load(edges_ptr + part)
    last = tl.load(edges_ptr + part + 1)
    w = tl.program_id(1) * BLOCK_W + tl.arange(0, BLOCK_W)
    count = tl.zeros((BLOCK_W, 32), tl.int32)
    for start in range(first, last, BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        row = tl.load(rows_ptr + r, mask=r < last, other=0)
        inside = (r < last)[:, None] & (w < WORDS)[None, :]
        word = tl.load(words_ptr + row[:, None] * WORDS + w[None, :], mask=inside, other=0)
        on = (word[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
        count += tl.sum(on, 0)
    j = w[:, None] * 32 + tl.arange(0, 32)[None, :]
    target = out_ptr + tl.load(group_ptr + part) * BITS + j
    tl.atomic_add(target, count, mask=j < BITS, sem="relaxed")


@triton.jit
def profiles_sums_kernel(
    words_ptr,  # int32 [N, WORDS]
    rows_ptr,  # int64 [R]
    edges_ptr,  # int64 [PARTS + 1]
    group_ptr,  # int64 [PARTS]
    weights_ptr,  # int32 [GROUPS, BITS]
    out_ptr,  # int64 [R]
    WORDS,
    BITS,
    SUMMED: tl.constexpr,
    SUM_W: tl.constexpr,
):
    part = tl.program_id(0).to(tl.int64)
    last = tl.load(edges_ptr + part + 1)
    r = tl.load(edges_ptr + part) + tl.arange(0, SUMMED)
    row = tl.load(rows_ptr + r, mask=r < last, other=0)
    table_ptr = weights_ptr + tl.load(group_ptr + part) * BITS
    # a sum for each bit of a tile, so that the threads need each other only once
    total = tl.zeros((SUMMED, SUM_W * 32), tl.int64)
    for start in range(0, WORDS, SUM_W):
        w = start + tl.arange(0, SUM_W)
        inside = (r < last)[:, None] & (w < WORDS)[None, :]
        word = tl.load(words_ptr + row[:, None] * WORDS + w[None, :], mask=inside, other=0)
        on = (word[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
        on = tl.reshape(on, (SUMMED, SUM_W * 32)) != 0
        j = start * 32 + tl.arange(0, SUM_W * 32)
        weight = tl.load(table_ptr + j, mask=j < BITS, other=0).to(tl.int64)
        total += tl.where(on, weight[None, :], 0)
    tl.store(out_ptr + r, tl.sum(total, 1), mask=r < last)


def counts(words: Tensor, rows: Tensor, starts: Tensor, bits: int) -> Tensor:
    out = torch.zeros((len(starts) - 1, bits), dtype=torch.int32, device=words.device)
    edges, group = profiles.parts(starts, COUNTED)
    if len(group) and bits:
        size = words.shape[1]
        grid = (len(group), triton.cdiv(size, BLOCK_W))
        profiles_counts_kernel[grid](
            words.contiguous(), rows.contiguous(), edges, group, out, size, bits,
            BLOCK_R=BLOCK_R, BLOCK_W=BLOCK_W, num_warps=WARPS,
        )  # fmt: skip
    return out


def sums(words: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    out = torch.zeros(len(rows), dtype=torch.int64, device=words.device)
    edges, group = profiles.parts(starts, SUMMED)
    if len(group) and weights.shape[1]:
        size, bits = words.shape[1], weights.shape[1]
        profiles_sums_kernel[(len(group),)](
            words.contiguous(), rows.contiguous(), edges, group, weights.contiguous(), out, size, bits,
            SUMMED=SUMMED, SUM_W=SUM_W, num_warps=WARPS,
        )  # fmt: skip
    return out
