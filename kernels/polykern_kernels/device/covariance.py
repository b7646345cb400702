# pyright: reportArgumentType=false
"""Triton: products of 16-bit columns on the tensor cores, float32 for some thousand rows, then added in float64."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from polykern_kernels.covariance import State

FLUSH = 4096  # rows whose products are added in float32
GROUP = 8  # blocks of columns whose programs run near each other and share what L2 holds
# what fills the registers of Hopper and Blackwell without a spill (144 KiB of shared memory), and what any card has
LARGE = {"BLOCK_I": 128, "BLOCK_J": 256, "BLOCK_R": 64, "num_warps": 8, "num_stages": 3}
SMALL = {"BLOCK_I": 128, "BLOCK_J": 128, "BLOCK_R": 32, "num_warps": 8, "num_stages": 3}
WIDE = 1024  # rows of float64 differences at a time


@triton.jit
def _add_block(products_ptr, sums, first_i, first_j, D):
    """Each pair has one writer, but an atomic needs no registers for what is there."""
    i, j = tl.arange(0, sums.shape[0]), tl.arange(0, sums.shape[1])
    inside = (first_i + i < D)[:, None] & (first_j + j < D)[None, :]
    at = products_ptr + (first_i * D + first_j) + (i[:, None] * D + j[None, :])
    tl.atomic_add(at, sums.to(tl.float64), mask=inside, sem="relaxed")


@triton.jit
def covariance_products_kernel(
    x_ptr,  # float16|bfloat16 [ROWS, COLUMNS], zeros from column D on
    products_ptr,  # float64 [D, D], added to in the blocks that meet the half above the diagonal
    ROWS,
    COLUMNS,  # a multiple of both blocks
    D,
    GROUP: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    high, wide = COLUMNS // BLOCK_I, COLUMNS // BLOCK_J
    first = tl.program_id(0) // (GROUP * wide) * GROUP
    size = tl.minimum(high - first, GROUP)
    place = tl.program_id(0) % (GROUP * wide)
    block_i, block_j = first + place % size, place // size
    if (block_j + 1) * BLOCK_J > block_i * BLOCK_I:
        first_i, first_j = block_i.to(tl.int64) * BLOCK_I, block_j.to(tl.int64) * BLOCK_J
        r = tl.arange(0, BLOCK_R)
        left = x_ptr + first_i + r[:, None].to(tl.int64) * COLUMNS + tl.arange(0, BLOCK_I)[None, :]
        right = x_ptr + first_j + r[:, None].to(tl.int64) * COLUMNS + tl.arange(0, BLOCK_J)[None, :]
        total = tl.zeros((BLOCK_I, BLOCK_J), tl.float32)
        for row in range(0, ROWS, BLOCK_R):
            held = (row + r < ROWS)[:, None]
            a, b = tl.load(left, mask=held, other=0), tl.load(right, mask=held, other=0)
            total = tl.dot(tl.trans(a), b, total, input_precision="ieee")
            left += BLOCK_R * COLUMNS
            right += BLOCK_R * COLUMNS
        # half a block at a time: half the addresses
        near, far = tl.split(tl.permute(tl.reshape(total, (BLOCK_I, 2, BLOCK_J // 2)), (0, 2, 1)))
        _add_block(products_ptr, near, first_i, first_j, D)
        _add_block(products_ptr, far, first_i, first_j + BLOCK_J // 2, D)


def add(state: State, rows: Tensor) -> None:
    tilted = state.shift.nonzero().flatten()
    x = (rows.index_fill(1, tilted, 0) if len(tilted) else rows).contiguous()
    sums = x.sum(0, dtype=torch.float64)
    for part in rows.split(WIDE) if len(tilted) else ():
        y = part.double() - state.shift
        mine = y[:, tilted]
        sums.index_add_(0, tilted, mine.sum(0))
        cross = mine.T @ y
        state.products.index_add_(0, tilted, cross)
        # their pairs among themselves are in already
        state.products.index_add_(1, tilted, cross.index_fill(1, tilted, 0).T)
    state.sums.add_(sums)
    if len(tilted) < len(state.shift):
        _products(x, state.products)


def _products(x: Tensor, products: Tensor) -> None:
    d = x.shape[1]
    large = x.is_cuda and torch.cuda.get_device_capability(x.device)[0] in (9, 10) and d % 16 == 0
    shape = LARGE if large else SMALL
    x = functional.pad(x if x.is_cuda else x.float(), (0, -d % shape["BLOCK_J"]))  # the interpreter has no bfloat16
    columns = x.shape[1]
    programs = columns // shape["BLOCK_I"] * (columns // shape["BLOCK_J"])
    for part in x.split(FLUSH):
        covariance_products_kernel[(programs,)](part, products, len(part), columns, d, GROUP=GROUP, **shape)
