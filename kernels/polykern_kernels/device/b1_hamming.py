"""x"""
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from polykern_kernels.device.b1 import COLUMNS, ROWS, TILE, place, shared_ones

@gluon.jit(do_not_specialize=["N", "M", "STEPS"])
def b1_hamming_kernel(
    a_ptr,  # int32 [N, 16 STEPS]
    b_ptr,  # int32 [M, 16 STEPS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    out_ptr,  # int32 [N, M]
    N,
    M,
    STEPS,
):
    line, lane = place(gl.cdiv(N, ROWS), gl.cdiv(M, COLUMNS))
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    n = line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, TILE))
    m = lane * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, TILE))
    ones = gl.load(a_ones_ptr + n, mask=n < N, other=0)[:, None] + gl.load(b_ones_ptr + m, mask=m < M, other=0)[None, :]
    at = out_ptr + n.to(gl.int64)[:, None] * M + m[None, :]
    gl.store(at, ones - 2 * count, mask=(n < N)[:, None] & (m < M)[None, :])
