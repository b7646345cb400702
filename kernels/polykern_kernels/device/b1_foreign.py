# pyright: reportArgumentType=false
"""Gluon: nearest codes of other components on 1-bit tensor cores.

The least (weight, name) of a row is one number of 64 bits, weight first, that tiles lower by an atomic minimum: no
order of arrival changes the answer, and what has arrived tells a later tile that it need not begin. Rows and
columns come ordered by component. Core distances are distances, or the largest number.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from polykern_kernels.device import b1, foreign
from polykern_kernels.device.b1 import COLUMNS, LONGEST, NONE, ROWS, TILE, place, shared_ones
from polykern_kernels.device.foreign import Columns, Side

UNNAMED = gl.constexpr(2**31 - 1)  # above every name
BY_THREAD = gl.constexpr(gl.BlockedLayout([1], [32], [8], [0]))  # [ROWS]: holds no register while counting


@gluon.jit
def _weight(edge):
    return (edge >> 32).to(gl.int32)


@gluon.jit(do_not_specialize=["N", "M", "STEPS"])
def b1_foreign_kernel(
    a_ptr,  # int32 [N, 16 STEPS]: the rows that ask
    b_ptr,  # int32 [M, 16 STEPS]: all rows
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
    line, lane = place(gl.cdiv(N, ROWS), gl.cdiv(M, COLUMNS))
    low = gl.load(a_component_ptr + line * ROWS)
    high = gl.load(a_component_ptr + gl.minimum(line * ROWS + ROWS, N) - 1)
    first = gl.load(b_component_ptr + lane * COLUMNS)
    last = gl.load(b_component_ptr + gl.minimum(lane * COLUMNS + COLUMNS, M) - 1)
    asking = line * ROWS + gl.arange(0, ROWS, layout=BY_THREAD)
    known = gl.load(edge_ptr + asking, mask=asking < N, other=-1, cache_modifier=".cg")
    if ((low == last) & (first == high)) | (gl.load(near_ptr + lane) > _weight(gl.max(known, 0))):
        return  # all of one component, or farther than all that was found
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    n = line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, TILE))
    m = lane * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, TILE))
    own = gl.load(a_component_ptr + n, mask=n < N, other=-1)
    others = gl.load(b_component_ptr + m, mask=m < M, other=-1)
    count = gl.where(own[:, None] == others[None, :], -LONGEST, count)
    a_ones = gl.load(a_ones_ptr + n, mask=n < N, other=0)
    b_ones = gl.load(b_ones_ptr + m, mask=m < M, other=NONE)
    cores = gl.load(b_core_ptr + m, mask=m < M, other=0)
    edge = gl.maximum(a_ones[:, None] + b_ones[None, :] - 2 * count, cores[None, :])
    least = gl.min(edge, 1)
    weight = gl.maximum(least, gl.load(a_core_ptr + n, mask=n < N, other=0))
    known = gl.load(edge_ptr + n, mask=n < N, other=-1, cache_modifier=".cg")
    better = (least <= LONGEST) & (weight <= _weight(known))
    if gl.max(better.to(gl.int32), 0) > 0:
        names = gl.load(b_name_ptr + m, mask=m < M, other=UNNAMED)
        # all edges that are no longer than the row's own core distance weigh the same
        name = gl.min(gl.where(edge <= weight[:, None], names[None, :], UNNAMED), 1)
        found = (weight.to(gl.int64) << 32) | name
        gl.atomic_min(edge_ptr + n, found, mask=(n < N) & better, sem="relaxed")


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
    a, b = b1.codes(given.words), b1.codes(columns.side.words)
    limit = bound.long() << 32  # below every edge of this weight
    edges = limit.clone()
    for part in b1.chunks(len(limit), len(b.ones)):
        some = a.part(part)
        b1_foreign_kernel[(b1.tiles(len(some.ones), len(b.ones)),)](
            *(some.words, b.words, some.ones, b.ones, given.cores[part], columns.side.cores),
            *(given.components[part], columns.side.components, columns.names, columns.near, edges[part]),
            *(len(some.ones), len(b.ones), b.steps),
            num_warps=b1.WARPS,
        )
    return (edges >> 32).int(), torch.where(edges < limit, edges & UNNAMED.value, -1)
