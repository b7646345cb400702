# pyright: reportArgumentType=false
"""Triton: nearest codes of other components; a program keeps the least edges of a block of rows over many columns.

Rows and columns come ordered by component, so that a tile inside one component is left out before it is counted, as
is one whose core distances are above all that its rows have found.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.device import hamming
from polykern_kernels.device.hamming import BLOCK_M, BLOCK_N, WARPS, differing

FARTHEST = tl.constexpr(2**31 - 1)  # of a pair that is none; above every distance, component and name
PROGRAMS = 1024  # wanted at least: when few rows ask, their columns are dealt out to several programs
MOST_ROWS = 1 << 21  # of a launch: a grid has 65,535 lines


@triton.jit
def foreign_nearest_kernel(
    a_ptr,  # int32 [WORDS, N]: the rows that ask, word-major
    b_ptr,  # int32 [WORDS, M]: all rows
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    a_core_ptr,  # int32 | fp64 [N]
    b_core_ptr,  # int32 | fp64 [M]
    a_component_ptr,  # int32 [N]
    b_component_ptr,  # int32 [M]
    b_name_ptr,  # int32 [M]: which row each column is
    near_ptr,  # int32 | fp64 [BLOCKS]: least core distance of a block of columns
    bound_ptr,  # int32 | fp64 [N]
    weight_ptr,  # int32 | fp64 [SPLITS, N]
    point_ptr,  # int32 [SPLITS, N]
    N,
    M,
    WORDS,
    BLOCKS,
    SHARE,  # blocks of columns a program
    JACCARD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    split = tl.program_id(0)
    n = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    core = tl.load(a_core_ptr + n, mask=n < N, other=0)
    own = tl.load(a_component_ptr + n, mask=n < N, other=-1)
    low, high = tl.min(tl.where(n < N, own, FARTHEST), 0), tl.max(own, 0)
    weight = tl.load(bound_ptr + n, mask=n < N, other=0)
    point = tl.full((BLOCK_N,), -1, tl.int32)
    for block in range(split * SHARE, tl.minimum(split * SHARE + SHARE, BLOCKS)):
        m = block * BLOCK_M + tl.arange(0, BLOCK_M)
        first = tl.load(b_component_ptr + block * BLOCK_M)
        last = tl.load(b_component_ptr + tl.minimum(block * BLOCK_M + BLOCK_M, M) - 1)
        inside = (first == last) & (low == high) & (first == low)
        if (not inside) & (tl.load(near_ptr + block) <= tl.max(weight, 0)):
            total = differing(a_ptr, b_ptr, n, m, N, M, WORDS, BLOCK_N, BLOCK_M)
            others = tl.load(b_component_ptr + m, mask=m < M, other=-1)
            cores = tl.load(b_core_ptr + m, mask=m < M, other=0)
            if JACCARD:
                ones = tl.load(a_ones_ptr + n, mask=n < N, other=0)[:, None]
                ones += tl.load(b_ones_ptr + m, mask=m < M, other=0)[None, :]
                # differing / union; the union has (ones of both + differing) / 2 ones
                distance = (2 * total).to(tl.float64) / tl.maximum(ones + total, 1).to(tl.float64)
            else:
                distance = total
            edge = tl.maximum(distance, tl.maximum(core[:, None], cores[None, :]))
            foreign = (own[:, None] != others[None, :]) & (m < M)[None, :]
            edge = tl.where(foreign, edge, FARTHEST)
            least = tl.min(edge, 1)
            name = tl.load(b_name_ptr + m, mask=m < M, other=0)
            found = tl.min(tl.where(edge == least[:, None], name[None, :], FARTHEST), 1)
            better = (least < FARTHEST) & ((least < weight) | ((least == weight) & (found < point)))
            weight = tl.where(better, least, weight)
            point = tl.where(better, found, point)
    tl.store(weight_ptr + split * N + n, weight, mask=n < N)
    tl.store(point_ptr + split * N + n, point, mask=n < N)


class Side(NamedTuple):
    """Rows in the order of their components: words (n, words), core distances, components, all (n)."""

    words: Tensor
    cores: Tensor
    components: Tensor


class Columns(NamedTuple):
    """All rows as a side; which row each is, int32 (n); the least core distance of every block of them."""

    side: Side
    names: Tensor
    near: Tensor


Launch = Callable[[Side, Tensor, Columns, str], tuple[Tensor, Tensor]]


def nearest(
    words: Tensor,
    rows: Tensor,
    cores: Tensor,
    components: Tensor,
    bound: Tensor,
    metric: str,
    progress: Callable[[int, int], None],
    *,
    launch: Launch | None = None,
    block: int = BLOCK_M,
) -> tuple[Tensor, Tensor]:
    """`launch` answers for a side of rows and their bounds, among columns of which `block` share a tile."""
    weights, points = bound.clone(), torch.full_like(rows, -1)
    if not (len(rows) and len(words)):
        return weights, points
    number = torch.unique(components, return_inverse=True)[1].int()
    order = _by_component(cores, number)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    asked = place[rows].sort().indices  # the rows that ask, in the order of the columns
    side = Side(words[order], cores[order], number[order])
    columns = Columns(side, order.int(), _least_of_blocks(side.cores, block))
    for some in asked.split(MOST_ROWS):
        which = rows[some]
        given = Side(words[which], cores[which], number[which])
        weights[some], points[some] = (launch or _launch)(given, bound[some], columns, metric)
    progress(len(rows), len(rows))
    return weights, points


def _launch(given: Side, bound: Tensor, columns: Columns, metric: str) -> tuple[Tensor, Tensor]:
    (n, words), m = given.words.shape, len(columns.names)
    lines, blocks = triton.cdiv(n, BLOCK_N), triton.cdiv(m, BLOCK_M)
    share = triton.cdiv(blocks, min(blocks, triton.cdiv(PROGRAMS, lines)))
    splits = triton.cdiv(blocks, share)
    weights = torch.empty((splits, n), dtype=bound.dtype, device=bound.device)
    points = torch.empty((splits, n), dtype=torch.int32, device=bound.device)
    sides = given, columns.side
    foreign_nearest_kernel[(splits, lines)](
        *(side.words.t().contiguous() for side in sides),
        *(hamming.ones(side.words, metric) for side in sides),
        *(side.cores for side in sides),
        *(side.components for side in sides),
        *(columns.names, columns.near, bound, weights, points),
        *(n, m, words, blocks, share),
        JACCARD=metric == "jaccard",
        BLOCK_N=BLOCK_N,
        BLOCK_M=BLOCK_M,
        num_warps=WARPS,
    )
    # a program that found nothing says its bound, which no edge found is above
    weight = weights.amin(0)
    point = points.masked_fill((points < 0) | (weights != weight), FARTHEST.value).amin(0)
    return weight, point.masked_fill(point == FARTHEST.value, -1).long()


def _by_component(cores: Tensor, components: Tensor) -> Tensor:
    """All rows by (component, core distance)."""
    order = cores.sort(stable=True).indices
    return order[components[order].sort(stable=True).indices]


def _least_of_blocks(cores: Tensor, block: int) -> Tensor:
    """The least core distance of every block of columns."""
    more = cores[-1:].expand(-len(cores) % block)
    return torch.cat([cores, more]).view(-1, block).amin(1)
