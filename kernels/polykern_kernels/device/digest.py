# pyright: reportArgumentType=false
"""Triton: keys by SplitMix64 in registers, summed under the bits of a tile of rows.

The keys are computed, not loaded: a program uses a key for all its rows, so its forty instructions are few
beside the two selects and two 64-bit additions of every bit, and a table would be 128 times the size of a code.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

WARPS = 4
BLOCK_R, BLOCK_W = 8, 4  # rows and words of a tile: eight bits a thread, two 64-bit sums each
CHUNK_W = 64  # words of a row a program sums: rows alone are too few programs when codes are long


@triton.jit
def splitmix64(counter):
    """Output number `counter` (from 1) of SplitMix64 seeded with 0, as int64."""
    x = counter.to(tl.uint64) * tl.full((1,), 0x9E3779B97F4A7C15, tl.uint64)
    x = (x ^ (x >> 30)) * tl.full((1,), 0xBF58476D1CE4E5B9, tl.uint64)
    x = (x ^ (x >> 27)) * tl.full((1,), 0x94D049BB133111EB, tl.uint64)
    return (x ^ (x >> 31)).to(tl.int64, bitcast=True)


@triton.jit
def digest_keys_kernel(
    out_ptr,  # int64 [COUNT]: both lanes of one bit after the other
    COUNT,
    FIRST,  # counter of the first key
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + i, splitmix64(FIRST + i), mask=i < COUNT)


@triton.jit
def digest_fingerprints_kernel(
    words_ptr,  # int32 [ROWS, WORDS]
    out_ptr,  # int64 [ROWS, 2], added to
    ROWS,
    WORDS,
    OFFSET,  # position of the first bit in the whole code
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    CHUNK_W: tl.constexpr,
):
    r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    start = tl.program_id(1) * CHUNK_W
    # a sum for each bit of a block, so that the threads need each other only once
    first = tl.zeros((BLOCK_R, BLOCK_W * 32), tl.int64)
    second = tl.zeros((BLOCK_R, BLOCK_W * 32), tl.int64)
    for step in range(0, CHUNK_W, BLOCK_W):
        w = start + step + tl.arange(0, BLOCK_W)
        inside = (r < ROWS)[:, None] & (w < WORDS)[None, :]
        word = tl.load(words_ptr + r[:, None] * WORDS + w[None, :], mask=inside, other=0)
        on = (word[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
        on = tl.reshape(on, (BLOCK_R, BLOCK_W * 32)) != 0
        j = OFFSET + ((start + step) * 32 + tl.arange(0, BLOCK_W * 32)).to(tl.int64)
        first += tl.where(on, splitmix64(2 * j + 1)[None, :], 0)
        second += tl.where(on, splitmix64(2 * j + 2)[None, :], 0)
    tl.atomic_add(out_ptr + 2 * r, tl.sum(first, 1), mask=r < ROWS)
    tl.atomic_add(out_ptr + 2 * r + 1, tl.sum(second, 1), mask=r < ROWS)


def keys(out: Tensor, offset: int, *, block: int = 512) -> None:
    count = out.numel()
    if count:
        grid = (triton.cdiv(count, block),)
        digest_keys_kernel[grid](out, count, 2 * offset + 1, BLOCK=block, num_warps=WARPS)


def fingerprints(words: Tensor, bits: int, offset: int) -> Tensor:
    out = torch.zeros((len(words), 2), dtype=torch.int64, device=words.device)
    add_fingerprints(words.contiguous(), out, offset)
    return out


def add_fingerprints(words: Tensor, out: Tensor, offset: int) -> None:
    """Adds the fingerprint of every row of words (rows, words) to out (rows, 2)."""
    rows, size = words.shape
    if words.numel():
        grid = (triton.cdiv(rows, BLOCK_R), triton.cdiv(size, CHUNK_W))
        digest_fingerprints_kernel[grid](
            words, out, rows, size, offset, BLOCK_R=BLOCK_R, BLOCK_W=BLOCK_W, CHUNK_W=CHUNK_W, num_warps=WARPS
        )


def distinct(fingerprints: Tensor) -> tuple[Tensor, Tensor]:
    """Two stable radix sorts of torch's, the lesser lane first, then a compaction."""
    order = fingerprints[:, 1].sort(stable=True).indices
    order = order[fingerprints[order, 0].sort(stable=True).indices]
    unique, counts = torch.unique_consecutive(fingerprints[order], dim=0, return_counts=True)
    return unique, counts
