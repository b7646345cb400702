# pyright: reportArgumentType=false
"""Triton: nearest codes of other components by products of zeros and ones.

The least (weight, name) of a row is one number of 64 bits, weight first, that tiles lower by an atomic minimum: no
order of arrival changes the answer, and what has arrived tells a later tile that it need not begin. Rows and
columns come ordered by component. Core distances are distances, or the largest number.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.device import dot, foreign
from polykern_kernels.device.dot import COLUMNS, LONGEST, NONE, OPTIONS, ROWS, place, shared_ones
from polykern_kernels.device.foreign import Columns, Side

UNNAMED = tl.constexpr(2**31 - 1)  # above every name


@triton.jit
def _weight(edge):
    return (edge >> 32).to(tl.int32)


@triton.jit(do_not_specialize=["N", "M", "STEPS"])
def dot_foreign_kernel(
    a_ptr,  # int8 [N, 64 STEPS]: the rows that ask
    b_ptr,  # int8 [M, 64 STEPS]: rows, some or all
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    a_core_ptr,  # int32 [N]
    b_core_ptr,  # int32 [M]
    a_component_ptr,  # int32 [N]: ascending
    b_component_ptr,  # int32 [M]: ascending
    b_name_ptr,  # int32 [M]: which row each column is
    near_ptr,  # int32 [tiles]: least core distance of a tile's columns
    edge_ptr,  # int64 [N]: least weight * 2**32 + name yet; lowered
    N,
    M,
    STEPS,
):
    line, lane = place(tl.cdiv(N, ROWS), tl.cdiv(M, COLUMNS))
    low = tl.load(a_component_ptr + line * ROWS)
    high = tl.load(a_component_ptr + tl.minimum(line * ROWS + ROWS, N) - 1)
    first = tl.load(b_component_ptr + lane * COLUMNS)
    last = tl.load(b_component_ptr + tl.minimum(lane * COLUMNS + COLUMNS, M) - 1)
    n = line * ROWS + tl.arange(0, ROWS)
    known = tl.load(edge_ptr + n, mask=n < N, other=-1, cache_modifier=".cg")
    # neither all of one component, nor farther than all that was found
    if ((low != last) | (first != high)) & (tl.load(near_ptr + lane) <= _weight(tl.max(known, 0))):
        count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
        m = lane * COLUMNS + tl.arange(0, COLUMNS)
        own = tl.load(a_component_ptr + n, mask=n < N, other=-1)
        others = tl.load(b_component_ptr + m, mask=m < M, other=-1)
        count = tl.where(own[:, None] == others[None, :], -LONGEST, count)
        a_ones = tl.load(a_ones_ptr + n, mask=n < N, other=0)
        b_ones = tl.load(b_ones_ptr + m, mask=m < M, other=NONE)
        cores = tl.load(b_core_ptr + m, mask=m < M, other=0)
        edge = tl.maximum(a_ones[:, None] + b_ones[None, :] - 2 * count, cores[None, :])
        least = tl.min(edge, 1)
        weight = tl.maximum(least, tl.load(a_core_ptr + n, mask=n < N, other=0))
        known = tl.load(edge_ptr + n, mask=n < N, other=-1, cache_modifier=".cg")
        better = (least <= LONGEST) & (weight <= _weight(known))
        if tl.max(better.to(tl.int32), 0) > 0:
            names = tl.load(b_name_ptr + m, mask=m < M, other=UNNAMED)
            # all edges that are no longer than the row's own core distance weigh the same
            name = tl.min(tl.where(edge <= weight[:, None], names[None, :], UNNAMED), 1)
            found = (weight.to(tl.int64) << 32) | name
            tl.atomic_min(edge_ptr + n, found, mask=(n < N) & better, sem="relaxed")


def nearest(
    words: Tensor,
    rows: Tensor,
    cores: Tensor,
    components: Tensor,
    bound: Tensor,
    metric: str,
    progress: Callable[[int, int], None],
) -> tuple[Tensor, Tensor]:
    asked = words, rows, cores, components, bound, metric, progress
    return foreign.nearest(*asked, launch=_launch, block=COLUMNS.value)


def _launch(given: Side, bound: Tensor, columns: Columns, metric: str) -> tuple[Tensor, Tensor]:
    everyone, words = columns.side, given.words.shape[1]
    limit = bound.long() << 32  # below every edge of this weight
    edges = limit.clone()
    for x in dot.parts(len(limit), words):
        a = dot.codes(given.words[x])
        for y in dot.parts(len(columns.names), words):
            b = dot.codes(everyone.words[y])
            near = columns.near[y.start // COLUMNS.value :]
            dot_foreign_kernel[(dot.tiles(len(a.ones), len(b.ones)),)](
                *(a.bits, b.bits, a.ones, b.ones, given.cores[x], everyone.cores[y]),
                *(given.components[x], everyone.components[y], columns.names[y], near, edges[x]),
                *(len(a.ones), len(b.ones), a.steps),
                **OPTIONS,
            )
    return (edges >> 32).int(), torch.where(edges < limit, edges & UNNAMED.value, -1)
