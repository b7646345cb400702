from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from polykern_kernels.device.b1 import COLUMNS, NONE, ROWS, TILE, place, shared_ones

BLOCK = gl.constexpr(32)
BY_ROW = gl.constexpr(gl.BlockedLayout([1, 4], [16, 2], [8, 1], [1, 0]))  # [ROWS, blocks of columns]
BY_COLUMN = gl.constexpr(gl.BlockedLayout([1, 4], [32, 1], [8, 1], [1, 0]))  # [COLUMNS, blocks of rows]


@gluon.jit
def _folded(LANES):
    """Line and column of tiles on and above the diagonal; two lines of tiles are as high as a column is wide."""
    program = gl.program_id(0)
    odd = LANES % 2
    width = LANES + 1 - odd
    x, y = program // 2 % width, program // 2 // width
    # a short row of the triangle is laid behind a long one
    long = x < LANES - y
    square = gl.where(long, y, LANES - 1 - y + odd)
    lane = gl.where(long, x + y, x - 1 + odd)
    return 2 * square + program % 2, lane


@gluon.jit(do_not_specialize=["N", "M", "STEPS"])
def b1_minima_kernel(
    a_ptr,  # int32 [N, 16 STEPS]
    b_ptr,  # int32 [M, 16 STEPS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    skip_ptr,  # int64 [N]
    rows_ptr,  # int16 | int32 [N, blocks of M]
    columns_ptr,  # int16 | int32 [M, blocks of N]
    N,
    M,
    STEPS,
    FARTHEST: gl.constexpr,
    BOTH: gl.constexpr,  # the columns' minima too
    HALF: gl.constexpr,  # a is b: no tile below the diagonal
):
    if HALF:
        line, lane = _folded(gl.cdiv(M, COLUMNS))
    else:
        line, lane = place(gl.cdiv(N, ROWS), gl.cdiv(M, COLUMNS))
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    n = line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, TILE))
    m = lane * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, TILE))
    skip = gl.load(skip_ptr + n, mask=n < N, other=-1).to(gl.int32)
    hit = (skip >= lane * COLUMNS) & (skip < lane * COLUMNS + COLUMNS)
    if gl.max(hit.to(gl.int32), 0) > 0:
        count = gl.where(m[None, :] == skip[:, None], -(NONE // 2), count)
    ones = gl.load(b_ones_ptr + m, mask=m < M, other=NONE)
    least = gl.min((ones[None, :] - 2 * count).reshape([ROWS, COLUMNS // BLOCK, BLOCK]), 2)
    least = gl.convert_layout(least, BY_ROW)
    n = line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, BY_ROW))
    block = lane * (COLUMNS // BLOCK) + gl.arange(0, COLUMNS // BLOCK, layout=gl.SliceLayout(0, BY_ROW))
    blocks = gl.cdiv(M, BLOCK)
    least = gl.minimum(least + gl.load(a_ones_ptr + n, mask=n < N, other=0)[:, None], FARTHEST)
    at = rows_ptr + n.to(gl.int64)[:, None] * blocks + block[None, :]
    gl.store(at, least.to(rows_ptr.dtype.element_ty), mask=(n < N)[:, None] & (block < blocks)[None, :])
    if BOTH and (not HALF or lane > line // 2):
        n = line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, TILE))
        ones = gl.load(a_ones_ptr + n, mask=n < N, other=NONE)
        least = gl.min((ones[:, None] - 2 * count).reshape([ROWS // BLOCK, BLOCK, COLUMNS]), 1)
        least = gl.convert_layout(least.permute([1, 0]), BY_COLUMN)
        m = lane * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, BY_COLUMN))
        block = line * (ROWS // BLOCK) + gl.arange(0, ROWS // BLOCK, layout=gl.SliceLayout(0, BY_COLUMN))
        blocks = gl.cdiv(N, BLOCK)
        least = gl.minimum(least + gl.load(b_ones_ptr + m, mask=m < M, other=0)[:, None], FARTHEST)
        at = columns_ptr + m.to(gl.int64)[:, None] * blocks + block[None, :]
        gl.store(at, least.to(columns_ptr.dtype.element_ty), mask=(m < M)[:, None] & (block < blocks)[None, :])


@gluon.jit(do_not_specialize=["N", "M", "STEPS", "RADII"])
def b1_within_kernel(
    a_ptr,  # int32 [N, 16 STEPS]
    b_ptr,  # int32 [M, 16 STEPS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    radii_ptr,  # int32 [RADII]
    out_ptr,  # int64 [N, RADII]: added to
    N,
    M,
    STEPS,
    RADII,
):
    line, lane = place(gl.cdiv(N, ROWS), gl.cdiv(M, COLUMNS))
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    n = line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, TILE))
    m = lane * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, TILE))
    ones = gl.load(b_ones_ptr + m, mask=m < M, other=NONE)
    distance = gl.load(a_ones_ptr + n, mask=n < N, other=0)[:, None] + ones[None, :] - 2 * count
    for q in range(RADII):
        radius = gl.minimum(gl.load(radii_ptr + q), NONE // 2)
        inside = gl.sum((distance <= radius).to(gl.int32), 1).to(gl.int64)
        gl.atomic_add(out_ptr + n.to(gl.int64) * RADII + q, inside, mask=n < N, sem="relaxed")
