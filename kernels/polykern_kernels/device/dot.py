# pyright: reportArgumentType=false
"""Triton: distances as products of zeros and ones, for GPUs without 1-bit tensor cores; d = |a| + |b| - 2 a.b.

Compute capability 10 and above emulates products of bits by eight of bytes. Here words are unpacked in registers, a
byte a bit, and multiplied as int8 into int32: exact for every length of code.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.device.hamming import popcount

WARPS = 8
BLOCK_N, BLOCK_M = 128, 128
BLOCK_W = 2  # words a step: 64 bytes a row; more would not leave registers enough


@triton.jit
def dot_unpack(words, ROWS: tl.constexpr, WORDS: tl.constexpr):
    """int32 (ROWS, WORDS) -> int8 (ROWS, 32 WORDS), a byte a bit, in one order for every row."""
    on = (words[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
    return tl.reshape(on.to(tl.int8), (ROWS, WORDS * 32))


@triton.jit
def dot_distances(
    a_ptr, b_ptr, first_n, first_m, N, M, WORDS, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_W: tl.constexpr
):
    """int32 (BLOCK_N, BLOCK_M): rows beyond N and M count as codes of zeros."""
    n, m, w = first_n + tl.arange(0, BLOCK_N), first_m + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_W)
    both = tl.zeros((BLOCK_N, BLOCK_M), tl.int32)
    a_ones = tl.zeros((BLOCK_N, BLOCK_W), tl.int32)
    b_ones = tl.zeros((BLOCK_M, BLOCK_W), tl.int32)
    a_at = a_ptr + n[:, None] * WORDS + w[None, :]
    b_at = b_ptr + m[:, None] * WORDS + w[None, :]
    for first in range(0, WORDS, BLOCK_W):
        held = (first + w < WORDS)[None, :]
        a = tl.load(a_at + first, mask=(n < N)[:, None] & held, other=0)
        b = tl.load(b_at + first, mask=(m < M)[:, None] & held, other=0)
        a_ones += popcount(a)
        b_ones += popcount(b)
        left, right = dot_unpack(a, BLOCK_N, BLOCK_W), dot_unpack(b, BLOCK_M, BLOCK_W)
        both = tl.dot(left, tl.trans(right), both, out_dtype=tl.int32)
    return tl.sum(a_ones, 1)[:, None] + tl.sum(b_ones, 1)[None, :] - 2 * both


@triton.jit
def dot_pairwise_kernel(
    a_ptr,  # int32 [N, WORDS]
    b_ptr,  # int32 [M, WORDS]
    out_ptr,  # int32 [N, M]
    N,
    M,
    WORDS,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    first_n, first_m = tl.program_id(0).to(tl.int64) * BLOCK_N, tl.program_id(1).to(tl.int64) * BLOCK_M
    d = dot_distances(a_ptr, b_ptr, first_n, first_m, N, M, WORDS, BLOCK_N, BLOCK_M, BLOCK_W)
    # half a tile at a time: half the addresses
    n, m = first_n + tl.arange(0, BLOCK_N), first_m + tl.arange(0, BLOCK_M // 2)
    near, far = tl.split(tl.permute(tl.reshape(d, (BLOCK_N, 2, BLOCK_M // 2)), (0, 2, 1)))
    at = out_ptr + n[:, None] * M + m[None, :]
    tl.store(at, near, mask=(n < N)[:, None] & (m < M)[None, :])
    tl.store(at + BLOCK_M // 2, far, mask=(n < N)[:, None] & (m + BLOCK_M // 2 < M)[None, :])


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    (n, words), m = a.shape, len(b)
    out = torch.empty((n, m), dtype=torch.int32, device=a.device)
    if out.numel():
        dot_pairwise_kernel[(triton.cdiv(n, BLOCK_N), triton.cdiv(m, BLOCK_M))](
            a.contiguous(), b.contiguous(), out, n, m, words,
            BLOCK_N=BLOCK_N, BLOCK_M=BLOCK_M, BLOCK_W=BLOCK_W, num_warps=WARPS,
        )  # fmt: skip
    return out
