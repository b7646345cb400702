# pyright: reportArgumentType=false
"""Triton: popcounts of exclusive ors, a tile of distances a program."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_N, BLOCK_M = 128, 32  # a tile: a word of a code of b is met by a warp's 32 rows
WARPS = 4
PLAIN = tl.constexpr(triton.knobs.runtime.interpret or torch.version.hip is not None)  # where there is no PTX
ROWS_COUNTED = 1 << 16  # codes whose ones are counted at once, beside as many zeros


@triton.jit
def popcount(x):
    # the shape LLVM knows as one POPC; unsigned, so that the shifts are logical
    x = x.to(tl.uint32, bitcast=True)
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return ((x * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def _sum(x, y, z):
    if PLAIN:
        out = x ^ y ^ z
    else:
        out = tl.inline_asm_elementwise("lop3.b32 $0, $1, $2, $3, 0x96;", "=r,r,r,r", [x, y, z], tl.int32, True, 1)
    return out


@triton.jit
def _carry(x, y, z):
    if PLAIN:
        out = (x & y) | (z & (x | y))
    else:
        out = tl.inline_asm_elementwise("lop3.b32 $0, $1, $2, $3, 0xE8;", "=r,r,r,r", [x, y, z], tl.int32, True, 1)
    return out


@triton.jit
def differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr):
    """Bits that differ between codes n and codes m, int32 [BLOCK_N, BLOCK_M]; a is [WORDS, N], b [WORDS, M].

    Carry-save: two words and the odd bits of all before add up, bit by bit, to odd bits and to carries that count
    twice. One population count then serves two words (Harley and Seal).
    """
    odd = tl.zeros((BLOCK_N, BLOCK_M), tl.int32)
    twice = tl.zeros((BLOCK_N, BLOCK_M), tl.int32)
    a_at, b_at = a_ptr + n, b_ptr + m
    a_step, b_step = 2 * tl.cast(N, tl.int64), 2 * tl.cast(M, tl.int64)
    a = tl.load(a_at, mask=(n < N) & (WORDS > 0), other=0)
    b = tl.load(b_at, mask=(m < M) & (WORDS > 0), other=0)
    a1 = tl.load(a_at + N, mask=(n < N) & (WORDS > 1), other=0)
    b1 = tl.load(b_at + M, mask=(m < M) & (WORDS > 1), other=0)
    for w in range(2, WORDS + 2, 2):  # the next words are on their way while these are counted
        a_at += a_step
        b_at += b_step
        next_a = tl.load(a_at, mask=(n < N) & (w < WORDS), other=0)
        next_b = tl.load(b_at, mask=(m < M) & (w < WORDS), other=0)
        next_a1 = tl.load(a_at + N, mask=(n < N) & (w + 1 < WORDS), other=0)
        next_b1 = tl.load(b_at + M, mask=(m < M) & (w + 1 < WORDS), other=0)
        x, y = a[:, None] ^ b[None, :], a1[:, None] ^ b1[None, :]
        twice += popcount(_carry(x, y, odd))
        odd = _sum(x, y, odd)
        a, b, a1, b1 = next_a, next_b, next_a1, next_b1
    return 2 * twice + popcount(odd)


@triton.jit
def hamming_pairwise_kernel(
    a_ptr,  # int32 [WORDS, N]: word-major, so that a load of one word of many codes is coalesced
    b_ptr,  # int32 [WORDS, M]
    out_ptr,  # int32 [N, M]
    N,
    M,
    WORDS,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    lanes = tl.cdiv(M, BLOCK_M)
    n = (tl.program_id(0) // lanes).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = (tl.program_id(0) % lanes).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    total = differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N, BLOCK_M)
    inside = (n < N)[:, None] & (m < M)[None, :]
    tl.store(out_ptr + n[:, None] * M + m[None, :], total, mask=inside)


@triton.jit
def hamming_aligned_kernel(
    a_ptr,  # int32 [N, WORDS]
    b_ptr,  # int32 [N, WORDS]
    out_ptr,  # int32 [N]
    N,
    WORDS,
    BLOCK_N: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_N, BLOCK_W), tl.int32)
    for first in range(0, WORDS, BLOCK_W):
        w = first + tl.arange(0, BLOCK_W)
        inside = (n < N)[:, None] & (w < WORDS)[None, :]
        at = n[:, None] * WORDS + w[None, :]
        a = tl.load(a_ptr + at, mask=inside, other=0)
        total += popcount(a ^ tl.load(b_ptr + at, mask=inside, other=0))
    tl.store(out_ptr + n, tl.sum(total, 1), mask=n < N)


@triton.jit
def hamming_neighbours_kernel(
    words_ptr,  # int32 [RASTERS, HEIGHT, WIDTH, WORDS]
    right_ptr,  # int32 [RASTERS, HEIGHT, WIDTH - 1]
    down_ptr,  # int32 [RASTERS, HEIGHT - 1, WIDTH]
    HEIGHT,
    WIDTH,
    WORDS,
    ADD: tl.constexpr,  # to what is there
    BLOCK_X: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    line = tl.program_id(0).to(tl.int64)
    x = tl.program_id(1) * BLOCK_X + tl.arange(0, BLOCK_X)
    pixel = line * WIDTH + x
    here_ptr = words_ptr + pixel[:, None] * WORDS
    below_ptr = words_ptr + (pixel + WIDTH)[:, None] * WORDS
    has_right = x + 1 < WIDTH
    has_below = (x < WIDTH) & (line % HEIGHT + 1 < HEIGHT)
    right = tl.zeros((BLOCK_X, BLOCK_W), tl.int32)
    down = tl.zeros((BLOCK_X, BLOCK_W), tl.int32)
    for first in range(0, WORDS, BLOCK_W):
        w = (first + tl.arange(0, BLOCK_W))[None, :]
        here = tl.load(here_ptr + w, mask=(x < WIDTH)[:, None] & (w < WORDS), other=0)
        beside = tl.load(here_ptr + WORDS + w, mask=has_right[:, None] & (w < WORDS), other=0)
        below = tl.load(below_ptr + w, mask=has_below[:, None] & (w < WORDS), other=0)
        right += popcount(here ^ beside)
        down += popcount(here ^ below)
    right_ptr += line * (WIDTH - 1) + x
    down_ptr += pixel - line // HEIGHT * WIDTH
    flips_right, flips_down = tl.sum(right, 1), tl.sum(down, 1)
    if ADD:
        flips_right += tl.load(right_ptr, mask=has_right, other=0)
        flips_down += tl.load(down_ptr, mask=has_below, other=0)
    tl.store(right_ptr, flips_right, mask=has_right)
    tl.store(down_ptr, flips_down, mask=has_below)


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    (n, words), m = a.shape, b.shape[0]
    out = torch.empty((n, m), dtype=torch.int32, device=a.device)
    if out.numel():
        by_word = a.t().contiguous(), b.t().contiguous()
        hamming_pairwise_kernel[(triton.cdiv(n, BLOCK_N) * triton.cdiv(m, BLOCK_M),)](
            *by_word, out, n, m, words, BLOCK_N=BLOCK_N, BLOCK_M=BLOCK_M, num_warps=WARPS
        )
    return out


def aligned(a: Tensor, b: Tensor, *, block_n: int = 16, block_w: int = 64) -> Tensor:
    n, words = a.shape
    out = torch.empty(n, dtype=torch.int32, device=a.device)
    if n:
        codes = a.contiguous(), b.contiguous()
        hamming_aligned_kernel[(triton.cdiv(n, block_n),)](
            *codes, out, n, words, BLOCK_N=block_n, BLOCK_W=block_w, num_warps=WARPS
        )
    return out


def ones(words: Tensor, metric: str = "jaccard") -> Tensor:
    """Set bits of every code, int32 (n); zeros for Hamming distances, which do not ask for them."""
    if metric == "hamming":
        return torch.zeros(len(words), dtype=torch.int32, device=words.device)
    return torch.cat([aligned(part, torch.zeros_like(part)) for part in words.split(ROWS_COUNTED)])


def neighbours(words: Tensor) -> tuple[Tensor, Tensor]:
    height, width, _ = words.shape
    right = torch.empty((height, width - 1), dtype=torch.int32, device=words.device)
    down = torch.empty((height - 1, width), dtype=torch.int32, device=words.device)
    _flips(words.contiguous(), right, down, height, height, width, add=False)
    return right, down


def add_flips(words: Tensor, right: Tensor, down: Tensor, rasters: int, height: int, width: int) -> None:
    """Adds the distances between the neighbours of several rasters, words (rasters * height * width, words)."""
    _flips(words, right, down, rasters * height, height, width, add=True)


def _flips(words: Tensor, right: Tensor, down: Tensor, lines: int, height: int, width: int, *, add: bool) -> None:
    block_x, size = 16, words.shape[-1]
    hamming_neighbours_kernel[(lines, triton.cdiv(width, block_x))](
        words, right, down, height, width, size, ADD=add, BLOCK_X=block_x, BLOCK_W=64, num_warps=WARPS
    )
