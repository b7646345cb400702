from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from polykern_kernels.device.b1 import COLUMNS, NONE, ROWS, TILE, place, shared_ones
FARTHEST = gl.constexpr(2**31 - 1)

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
    n = line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, TILE))
    known = gl.load(edge_ptr + n, mask=n < N, other=-1, cache_modifier=".cg")
    if (low == last) & (first == high) | (gl.load(near_ptr + lane) > (gl.max(known, 0) >> 32).to(gl.int32)):
        return
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    m = lane * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, TILE))
    if (low <= last) & (first <= high):
        own = gl.load(a_component_ptr + n, mask=n < N, other=-1)
        others = gl.load(b_component_ptr + m, mask=m < M, other=-1)
        count = gl.where(own[:, None] == others[None, :], -(NONE // 2), count)
    ones = gl.load(b_ones_ptr + m, mask=m < M, other=NONE)[None, :]
    ones += gl.load(a_ones_ptr + n, mask=n < N, other=0)[:, None]
    cores = gl.load(b_core_ptr + m, mask=m < M, other=0)
    edge = gl.maximum(ones - 2 * count, cores[None, :])
    least = gl.min(edge, 1)
    core = gl.load(a_core_ptr + n, mask=n < N, other=0)
    known = gl.load(edge_ptr + n, mask=n < N, other=-1, cache_modifier=".cg")
    weight = gl.maximum(least, core)
    better = (weight <= (known >> 32).to(gl.int32)) & (least < NONE)
    if gl.max(better.to(gl.int32), 0) > 0:
        name = gl.load(b_name_ptr + m, mask=m < M, other=FARTHEST)
        # the row's own core distance may make many edges equal
        name = gl.min(gl.where(edge <= weight[:, None], name[None, :], FARTHEST), 1)
        found = (weight.to(gl.int64) << 32) | name
        gl.atomic_min(edge_ptr + n, found, mask=(n < N) & better, sem="relaxed")
