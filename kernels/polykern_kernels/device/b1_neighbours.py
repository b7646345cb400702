# pyright: reportArgumentType=false
"""Gluon: minima of blocks on 1-bit tensor cores, of which `blocks` makes lists of nearest codes; counts in radii.

Among the codes themselves a tile gives the minima of its rows and of its columns, so none lies below the diagonal.
"""

from collections.abc import Callable

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from polykern_kernels.device import b1, blocks
from polykern_kernels.device.b1 import COLUMNS, LONGEST, NONE, ROWS, TILE, Codes, place, shared_ones
from polykern_kernels.device.blocks import Search

BLOCK = gl.constexpr(blocks.BLOCK)
BY_ROW = gl.constexpr(gl.BlockedLayout([1, 4], [16, 2], [8, 1], [1, 0]))  # [ROWS, blocks of a tile's columns]
BY_COLUMN = gl.constexpr(gl.BlockedLayout([1, 4], [32, 1], [8, 1], [1, 0]))  # [COLUMNS, blocks of a tile's rows]


@gluon.jit
def _folded(LANES):
    """Line and column of tiles on and above the diagonal; two lines of tiles are as high as a column is wide."""
    program = gl.program_id(0)
    odd = LANES % 2
    width = LANES + 1 - odd
    x, y = program // 2 % width, program // 2 // width
    # behind a long row of the triangle lies the short one that fills it up
    own = x < LANES - y
    square = gl.where(own, y, LANES - 1 - y + odd)
    return 2 * square + program % 2, gl.where(own, x + y, x - 1 + odd)


@gluon.jit
def _write(out_ptr, least, ones_ptr, first, block, N, BLOCKS, LONE: gl.constexpr, LAYOUT: gl.constexpr):
    """Minima [codes, blocks] of codes `first` ... against `block` ..., without the codes' own ones so far."""
    n = first + gl.arange(0, least.shape[0], layout=gl.SliceLayout(1, LAYOUT))
    block = block + gl.arange(0, least.shape[1], layout=gl.SliceLayout(0, LAYOUT))
    ones = gl.load(ones_ptr + n, mask=n < N, other=0)
    least = gl.minimum(gl.convert_layout(least, LAYOUT) + ones[:, None], LONE)
    inside = (n < N)[:, None] & (block < BLOCKS)[None, :]
    at = out_ptr + n.to(gl.int64)[:, None] * BLOCKS + block[None, :]
    gl.store(at, least.to(out_ptr.dtype.element_ty), mask=inside)


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
    LONE: gl.constexpr,  # the largest number; the minimum of a block without a pair
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
    met = (skip >= lane * COLUMNS) & (skip < lane * COLUMNS + COLUMNS)
    if gl.max(met.to(gl.int32), 0) > 0:
        count = gl.where(m[None, :] == skip[:, None], -LONGEST, count)
    b_ones = gl.load(b_ones_ptr + m, mask=m < M, other=NONE)
    least = gl.min((b_ones[None, :] - 2 * count).reshape([ROWS, COLUMNS // BLOCK, BLOCK]), 2)
    across = gl.cdiv(M, BLOCK)
    _write(rows_ptr, least, a_ones_ptr, line * ROWS, lane * (COLUMNS // BLOCK), N, across, LONE, BY_ROW)
    if BOTH and (not HALF or lane > line // 2):  # a square on the diagonal has its rows' minima both ways
        a_ones = gl.load(a_ones_ptr + n, mask=n < N, other=NONE)
        other = gl.min((a_ones[:, None] - 2 * count).reshape([ROWS // BLOCK, BLOCK, COLUMNS]), 1).permute([1, 0])
        down = gl.cdiv(N, BLOCK)
        _write(columns_ptr, other, b_ones_ptr, lane * COLUMNS, line * (ROWS // BLOCK), M, down, LONE, BY_COLUMN)


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
    a_ones = gl.load(a_ones_ptr + n, mask=n < N, other=0)
    b_ones = gl.load(b_ones_ptr + m, mask=m < M, other=NONE)
    distance = a_ones[:, None] + b_ones[None, :] - 2 * count
    for q in range(RADII):
        radius = gl.minimum(gl.load(radii_ptr + q), LONGEST)
        inside = gl.sum((distance <= radius).to(gl.int32), 1).to(gl.int64)
        gl.atomic_add(out_ptr + n.to(gl.int64) * RADII + q, inside, mask=n < N, sem="relaxed")


def nearest(
    a: Tensor, b: Tensor, k: int, skip: Tensor | None, metric: str, progress: Callable[[int, int], None]
) -> tuple[Tensor, Tensor]:
    skipped = torch.full((len(a),), -1, device=a.device) if skip is None else skip
    search, rows, columns = Search(a, b, k, skipped, metric), b1.codes(a), b1.codes(b)
    kind = blocks.kind(a.shape[1])

    def minima(part: slice) -> Tensor:
        return blocks.against(_launch, rows.part(part), columns, search.skip[part], kind)

    return search.run(minima, kind.itemsize, progress)


def self_nearest(words: Tensor, k: int, metric: str, progress: Callable[[int, int], None]) -> tuple[Tensor, Tensor]:
    everyone = torch.arange(len(words), device=words.device)
    search, given = Search(words, words, k, everyone, metric), b1.codes(words)
    kind = blocks.kind(words.shape[1])

    def minima(x: slice, y: slice) -> tuple[Tensor, ...]:
        rows = given.part(x)
        return blocks.among(_launch, rows, rows if x == y else given.part(y), kind)

    return search.among(_squares(len(words) if k else 0, kind.itemsize), minima, progress)


def mutual(
    a: Tensor, b: Tensor, k: int, metric: str, progress: Callable[[int, int], None]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ours, theirs = blocks.both(a, b, k, metric)
    rows, columns, kind = b1.codes(a), b1.codes(b), blocks.kind(a.shape[1])

    def minima(x: slice, y: slice) -> tuple[Tensor, ...]:
        return blocks.among(_launch, rows.part(x), columns.part(y), kind)

    lines, lanes = (_squares(len(codes) if k else 0, kind.itemsize) for codes in (a, b))
    return blocks.mutual(ours, theirs, lines, lanes, minima, progress)


def within(a: Tensor, b: Tensor, radii: Tensor, metric: str) -> Tensor:
    out = torch.zeros((len(a), len(radii)), dtype=torch.int64, device=a.device)
    if out.numel() and len(b):
        rows, columns = b1.codes(a), b1.codes(b)
        for part in b1.chunks(len(a), len(b)):
            some = rows.part(part)
            b1_within_kernel[(b1.tiles(len(some.ones), len(b)),)](
                *(some.words, columns.words, some.ones, columns.ones, radii, out[part]),
                *(len(some.ones), len(b), rows.steps, len(radii)),
                num_warps=b1.WARPS,
            )
    return out


def _squares(n: int, minimum_bytes: int) -> list[slice]:
    """Rows in parts of whole tiles; the minima of two parts, both ways, keep to the budget."""
    size = max(blocks.square(minimum_bytes) // COLUMNS.value, 1) * COLUMNS.value
    return [slice(first, min(n, first + size)) for first in range(0, n, size)]


def _launch(
    rows: Codes, columns: Codes, skip: Tensor, ours: Tensor, theirs: Tensor, both: bool, half: bool
) -> None:
    n, m = len(rows.ones), len(columns.ones)
    side = triton.cdiv(n, COLUMNS.value)
    b1_minima_kernel[(side * (side + 1) if half else b1.tiles(n, m),)](
        *(rows.words, columns.words, rows.ones, columns.ones, skip, ours, theirs, n, m, rows.steps),
        LONE=torch.iinfo(ours.dtype).max,
        BOTH=both,
        HALF=half,
        num_warps=b1.WARPS,
    )
