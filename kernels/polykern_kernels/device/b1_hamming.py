"""Gluon: distances on 1-bit tensor cores, and the test of the tile that all kernels of these cores share."""

from functools import cache

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from polykern_kernels._dispatch import on
from polykern_kernels.device import b1, hamming
from polykern_kernels.device.b1 import COLUMNS, ROWS, TILE, place, shared_ones

# rows, columns, words: one tile, ragged tiles, more steps than stages, an odd number of words
TESTED = ((128, 256, 16), (131, 270, 33), (1, 600, 130), (300, 1, 1))


@gluon.jit(do_not_specialize=["N", "STEPS"])
def b1_pairwise_kernel(
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
    a_ones = gl.load(a_ones_ptr + n, mask=n < N, other=0)
    b_ones = gl.load(b_ones_ptr + m, mask=m < M, other=0)
    at = out_ptr + n.to(gl.int64)[:, None] * M + m[None, :]
    inside = (n < N)[:, None] & (m < M)[None, :]
    gl.store(at, a_ones[:, None] + b_ones[None, :] - 2 * count, mask=inside)


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    n, m = len(a), len(b)
    out = torch.empty((n, m), dtype=torch.int32, device=a.device)
    if out.numel():
        rows, columns = b1.codes(a), b1.codes(b)
        b1_pairwise_kernel[(b1.tiles(n, m),)](
            *(rows.words, columns.words, rows.ones, columns.ones, out), *(n, m, rows.steps), num_warps=b1.WARPS
        )
    return out


@cache
def failure(device: torch.device) -> str | None:
    """What is wrong with the tile on a device, or None: its distances are compared with those of popcounts."""
    rng = torch.Generator().manual_seed(0)
    try:
        with on(device):
            for n, m, words in TESTED:
                a, b = (torch.randint(-(2**31), 2**31, (k, words), generator=rng).int().to(device) for k in (n, m))
                if not torch.equal(pairwise(a, b), hamming.pairwise(a, b)):
                    return f"its self-test failed on {device}: wrong distances of {n} x {m} codes of {words} words"
    except Exception as error:  # a compiler that cannot build the tile is a reason like any other
        return f"its self-test failed on {device}: {type(error).__name__}: {str(error).strip()}"
    return None
