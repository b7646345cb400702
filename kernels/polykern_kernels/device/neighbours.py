# pyright: reportArgumentType=false
"""Triton: nearest codes by the minima of blocks of columns, and counts within radii.

Of a row's k nearest codes none lies outside the k blocks that are least by (minimum, block): each of those holds a
code that comes before any code outside. So one kernel keeps the minimum of every block, torch picks k blocks a row,
and a second kernel counts their codes again: no threshold, no list that can overflow, no order of arrival.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.device import hamming
from polykern_kernels.device.hamming import popcount

BLOCK_N, BLOCK_M, BLOCK_W = 128, 32, 32  # rows, columns of a block, words of a code counted again
FARTHEST = tl.constexpr(2**31 - 1)  # of a pair that is none: no column, or the row itself
BUDGET_BYTES = 1 << 30  # for the minima of a chunk of rows
MOST_ROWS = 1 << 20  # of a chunk: a grid has 65,535 lines
WARPS = 4


@triton.jit
def _differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr):
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.int32)
    a_at, b_at = a_ptr + n, b_ptr + m
    for _ in range(WORDS):
        a = tl.load(a_at, mask=n < N, other=0)
        b = tl.load(b_at, mask=m < M, other=0)
        total += popcount(a[:, None] ^ b[None, :])
        a_at += N
        b_at += M
    return total


@triton.jit
def _jaccard(differing, ones):
    # differing / union; the union has (ones of both + differing) / 2 ones
    union2 = tl.maximum(ones + differing, 1)
    return (2 * differing).to(tl.float64) / union2.to(tl.float64)


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
    differing = _differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N, BLOCK_M)
    none = (m >= M)[None, :] | (m[None, :] == tl.load(skip_ptr + n, mask=n < N, other=-1)[:, None])
    if JACCARD:
        a_ones = tl.load(a_ones_ptr + n, mask=n < N, other=0)
        b_ones = tl.load(b_ones_ptr + m, mask=m < M, other=0)
        distance = tl.where(none, FARTHEST, _jaccard(differing, a_ones[:, None] + b_ones[None, :]))
    else:
        distance = tl.where(none, FARTHEST, differing)
    tl.store(out_ptr + n * BLOCKS + block, tl.min(distance, 1), mask=n < N)


@triton.jit
def neighbours_rescan_kernel(
    a_ptr,  # int32 [N, WORDS]
    b_ptr,  # int32 [M, WORDS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    skip_ptr,  # int64 [N]
    chosen_ptr,  # int64 [N, CHOSEN]: blocks of columns
    out_ptr,  # int32 | fp64 [N, CHOSEN, BLOCK_M]
    M,
    WORDS,
    CHOSEN,
    JACCARD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    slot = tl.program_id(0).to(tl.int64)
    n = slot // CHOSEN
    m = tl.load(chosen_ptr + slot) * BLOCK_M + tl.arange(0, BLOCK_M)
    total = tl.zeros((BLOCK_M, BLOCK_W), tl.int32)
    for first in range(0, WORDS, BLOCK_W):
        w = first + tl.arange(0, BLOCK_W)
        a = tl.load(a_ptr + n * WORDS + w, mask=w < WORDS, other=0)
        b = tl.load(b_ptr + m[:, None] * WORDS + w[None, :], mask=(m < M)[:, None] & (w < WORDS)[None, :], other=0)
        total += popcount(a[None, :] ^ b)
    differing = tl.sum(total, 1)
    none = (m >= M) | (m == tl.load(skip_ptr + n))
    if JACCARD:
        ones = tl.load(a_ones_ptr + n) + tl.load(b_ones_ptr + m, mask=m < M, other=0)
        distance = tl.where(none, FARTHEST, _jaccard(differing, ones))
    else:
        distance = tl.where(none, FARTHEST, differing)
    tl.store(out_ptr + slot * BLOCK_M + tl.arange(0, BLOCK_M), distance)


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
    distance = _differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N, BLOCK_M)
    if JACCARD:
        a_ones = tl.load(a_ones_ptr + n, mask=n < N, other=0)
        b_ones = tl.load(b_ones_ptr + m, mask=m < M, other=0)
        distance = _jaccard(distance, a_ones[:, None] + b_ones[None, :])
    for q in range(RADII):
        inside = (distance <= tl.load(radii_ptr + q)) & (m < M)[None, :]
        counted = tl.sum(inside.to(tl.int32), 1).to(tl.int64)
        tl.atomic_add(out_ptr + n * RADII + q, counted, mask=n < N, sem="relaxed")


def nearest(
    a: Tensor, b: Tensor, k: int, skip: Tensor | None, metric: str, progress: Callable[[int, int], None]
) -> tuple[Tensor, Tensor]:
    n, m = len(a), len(b)
    kind = torch.float64 if metric == "jaccard" else torch.int32
    distances = torch.empty((n, k), dtype=kind, device=a.device)
    indices = torch.empty((n, k), dtype=torch.int64, device=a.device)
    if not distances.numel():
        return distances, indices
    a, b = a.contiguous(), b.contiguous()
    skipped = torch.full((n,), -1, device=a.device) if skip is None else skip.contiguous()
    sides = b, b.t().contiguous(), _ones(b, kind == torch.float64)
    # a minimum, two masks and a count a block; the distances counted again, their order
    blocks = triton.cdiv(m, BLOCK_M)
    chunk = min(MOST_ROWS, max(BLOCK_N, BUDGET_BYTES // (18 * blocks + 24 * min(k, blocks) * BLOCK_M)))
    for first in range(0, n, chunk):
        part = slice(first, min(n, first + chunk))
        distances[part], indices[part] = _chunk(a[part], *sides, k, skipped[part], kind)
        progress(part.stop, n)
    return distances, indices


def _chunk(
    a: Tensor, b: Tensor, by_word: Tensor, b_ones: Tensor, k: int, skip: Tensor, kind: torch.dtype
) -> tuple[Tensor, Tensor]:
    n, m, words, jaccard = len(a), len(b), a.shape[1], kind == torch.float64
    blocks, a_ones = triton.cdiv(m, BLOCK_M), _ones(a, jaccard)
    minima = torch.empty((n, blocks), dtype=kind, device=a.device)
    sizes = {"JACCARD": jaccard, "BLOCK_M": BLOCK_M, "num_warps": WARPS}
    neighbours_minima_kernel[(blocks, triton.cdiv(n, BLOCK_N))](
        *(a.t().contiguous(), by_word, a_ones, b_ones, skip, minima, n, m, words, blocks), BLOCK_N=BLOCK_N, **sizes
    )
    chosen = _least(minima, min(k, blocks))
    found = torch.empty((n, chosen.shape[1] * BLOCK_M), dtype=kind, device=a.device)
    neighbours_rescan_kernel[(chosen.numel(),)](
        *(a, b, a_ones, b_ones, skip, chosen, found, m, words, chosen.shape[1]), BLOCK_W=BLOCK_W, **sizes
    )
    # blocks and their columns ascend, so a stable order is one by (distance, index)
    near, order = torch.sort(found, dim=1, stable=True)
    order = order[:, :k]
    return near[:, :k], chosen.gather(1, order // BLOCK_M) * BLOCK_M + order % BLOCK_M


def _least(minima: Tensor, count: int) -> Tensor:
    """The blocks that are least by (minimum, block), ascending by block: int64 (n, count)."""
    last = torch.topk(minima, count, largest=False).values.amax(1, keepdim=True)
    before, equal = minima < last, minima == last
    wanted = count - before.sum(1, keepdim=True, dtype=torch.int32)
    take = before | (equal & (equal.cumsum(1, dtype=torch.int32) <= wanted))
    return take.nonzero()[:, 1].view(len(minima), count).contiguous()


def _ones(words: Tensor, jaccard: bool) -> Tensor:
    """The ones of every code, int32 (n); nobody reads them for Hamming distances."""
    if not jaccard:
        return torch.zeros(1, dtype=torch.int32, device=words.device)
    return hamming.aligned(words, torch.zeros_like(words))


def self_nearest(words: Tensor, k: int, metric: str, progress: Callable[[int, int], None]) -> tuple[Tensor, Tensor]:
    return nearest(words, words, k, torch.arange(len(words), device=words.device), metric, progress)


def within(a: Tensor, b: Tensor, radii: Tensor, metric: str) -> Tensor:
    n, m = len(a), len(b)
    out = torch.zeros((n, len(radii)), dtype=torch.int64, device=a.device)
    jaccard = metric == "jaccard"
    sizes: dict[str, Any] = {"JACCARD": jaccard, "BLOCK_N": BLOCK_N, "BLOCK_M": BLOCK_M}
    by_word, b_ones = b.t().contiguous(), _ones(b, jaccard)
    for first in range(0, n if m and len(radii) else 0, MOST_ROWS):
        part = a[first : first + MOST_ROWS]
        grid = (triton.cdiv(m, BLOCK_M), triton.cdiv(len(part), BLOCK_N))
        neighbours_within_kernel[grid](
            *(part.t().contiguous(), by_word, _ones(part, jaccard), b_ones, radii, out[first : first + MOST_ROWS]),
            *(len(part), m, a.shape[1], len(radii)),
            **sizes,
            num_warps=WARPS,
        )
    return out
