# pyright: reportArgumentType=false
"""Triton: distances by products of zeros and ones."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.device import dot
from polykern_kernels.device.dot import COLUMNS, OPTIONS, ROWS, place, shared_ones

MOST_WORDS = 4096  # of a code that is spread out whole: a budget of memory holds thousands of such codes


@triton.jit(do_not_specialize=["N", "M", "STEPS"])
def dot_pairwise_kernel(
    a_ptr,  # int8 [N, 64 STEPS]
    b_ptr,  # int8 [M, 64 STEPS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    out_ptr,  # int32 [N, WIDE]: M columns of it
    N,
    M,
    STEPS,
    WIDE,
):
    line, lane = place(tl.cdiv(N, ROWS), tl.cdiv(M, COLUMNS))
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    n = line * ROWS + tl.arange(0, ROWS)
    m = lane * COLUMNS + tl.arange(0, COLUMNS)
    a_ones = tl.load(a_ones_ptr + n, mask=n < N, other=0)
    b_ones = tl.load(b_ones_ptr + m, mask=m < M, other=0)
    at = out_ptr + n.to(tl.int64)[:, None] * WIDE + m[None, :]
    inside = (n < N)[:, None] & (m < M)[None, :]
    tl.store(at, a_ones[:, None] + b_ones[None, :] - 2 * count, mask=inside)


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    """Distances of long codes are added up, words by words."""
    n, m = len(a), len(b)
    if a.shape[1] > MOST_WORDS:
        out = torch.zeros((n, m), dtype=torch.int32, device=a.device)
        for left, right in zip(a.split(MOST_WORDS, 1), b.split(MOST_WORDS, 1), strict=True):
            out += pairwise(left, right)
        return out
    out = torch.empty((n, m), dtype=torch.int32, device=a.device)
    for x in dot.parts(n, a.shape[1]):
        rows = dot.codes(a[x])
        for y in dot.parts(m, a.shape[1]):
            columns = dot.codes(b[y])
            dot_pairwise_kernel[(dot.tiles(len(rows.ones), len(columns.ones)),)](
                *(rows.bits, columns.bits, rows.ones, columns.ones, out[x, y]),
                *(len(rows.ones), len(columns.ones), rows.steps, m),
                **OPTIONS,
            )
    return out
