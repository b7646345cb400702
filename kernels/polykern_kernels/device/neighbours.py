# pyright: reportArgumentType=false
"""Triton: the minima of blocks of columns, of which `blocks` makes lists of nearest codes; counts within radii."""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.device import hamming
from polykern_kernels.device.blocks import BLOCK, FARTHEST, Search, chunks, jaccard
from polykern_kernels.device.hamming import BLOCK_N, WARPS, differing


@triton.jit
def neighbours_minima_kernel(
    a_ptr,  # int32 [WORDS, N]: word-major
    b_ptr,  # int32 [WORDS, M]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    skip_ptr,  # int64 [N]
    out_ptr,  # int32 | fp64 [N, BLOCKS]
    N,
    M,
    WORDS,
    BLOCKS,
    JACCARD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    block = tl.program_id(0)
    n = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = block.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    distance = differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N, BLOCK_M)
    none = (m >= M)[None, :] | (m[None, :] == tl.load(skip_ptr + n, mask=n < N, other=-1)[:, None])
    if JACCARD:
        a_ones = tl.load(a_ones_ptr + n, mask=n < N, other=0)
        b_ones = tl.load(b_ones_ptr + m, mask=m < M, other=0)
        distance = tl.where(none, FARTHEST, jaccard(distance, a_ones[:, None] + b_ones[None, :]))
    else:
        distance = tl.where(none, FARTHEST, distance)
    tl.store(out_ptr + n * BLOCKS + block, tl.min(distance, 1), mask=n < N)


@triton.jit
def neighbours_within_kernel(
    a_ptr,  # int32 [WORDS, N]: word-major
    b_ptr,  # int32 [WORDS, M]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    radii_ptr,  # int32 | fp64 [RADII]
    out_ptr,  # int64 [N, RADII]: added to
    N,
    M,
    WORDS,
    RADII,
    JACCARD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    n = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    distance = differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N, BLOCK_M)
    if JACCARD:
        a_ones = tl.load(a_ones_ptr + n, mask=n < N, other=0)
        b_ones = tl.load(b_ones_ptr + m, mask=m < M, other=0)
        distance = jaccard(distance, a_ones[:, None] + b_ones[None, :])
    for q in range(RADII):
        inside = (distance <= tl.load(radii_ptr + q)) & (m < M)[None, :]
        counted = tl.sum(inside.to(tl.int32), 1).to(tl.int64)
        tl.atomic_add(out_ptr + n * RADII + q, counted, mask=n < N, sem="relaxed")


def nearest(
    a: Tensor, b: Tensor, k: int, skip: Tensor | None, metric: str, progress: Callable[[int, int], None]
) -> tuple[Tensor, Tensor]:
    skipped = torch.full((len(a),), -1, device=a.device) if skip is None else skip
    search, columns = Search(a, b, k, skipped, metric), b.t().contiguous()

    def minima(rows: slice) -> Tensor:
        part, blocks = search.a[rows], triton.cdiv(len(b), BLOCK)
        out = torch.empty((len(part), blocks), dtype=search.held.dtype, device=a.device)
        neighbours_minima_kernel[(blocks, triton.cdiv(len(part), BLOCK_N))](
            *(part.t().contiguous(), columns, search.a_ones[rows], search.b_ones, search.skip[rows], out),
            *(len(part), len(b), a.shape[1], blocks),
            JACCARD=metric == "jaccard",
            BLOCK_N=BLOCK_N,
            BLOCK_M=BLOCK,
            num_warps=WARPS,
        )
        return out

    return search.run(minima, search.held.element_size(), progress)


def self_nearest(words: Tensor, k: int, metric: str, progress: Callable[[int, int], None]) -> tuple[Tensor, Tensor]:
    return nearest(words, words, k, torch.arange(len(words), device=words.device), metric, progress)


def mutual(
    a: Tensor, b: Tensor, k: int, metric: str, progress: Callable[[int, int], None]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, m = len(a), len(b)
    ours = nearest(a, b, k, None, metric, lambda done, total: progress(done, n + m))
    return *ours, *nearest(b, a, k, None, metric, lambda done, total: progress(n + done, n + m))


def within(a: Tensor, b: Tensor, radii: Tensor, metric: str) -> Tensor:
    n, m = len(a), len(b)
    out = torch.zeros((n, len(radii)), dtype=torch.int64, device=a.device)
    columns, b_ones = b.t().contiguous(), hamming.ones(b, metric)
    for rows in chunks(n if m and len(radii) else 0, 0):
        part = a[rows]
        neighbours_within_kernel[(triton.cdiv(m, BLOCK), triton.cdiv(len(part), BLOCK_N))](
            *(part.t().contiguous(), columns, hamming.ones(part, metric), b_ones, radii, out[rows]),
            *(len(part), m, a.shape[1], len(radii)),
            JACCARD=metric == "jaccard",
            BLOCK_N=BLOCK_N,
            BLOCK_M=BLOCK,
            num_warps=WARPS,
        )
    return out
