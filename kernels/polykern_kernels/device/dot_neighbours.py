# pyright: reportArgumentType=false
"""Triton: minima of blocks by products of zeros and ones, of which `blocks` makes lists of nearest codes.

Among the codes themselves a tile gives the minima of its rows and of its columns, so none lies below the diagonal.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels.device import blocks, dot
from polykern_kernels.device.blocks import Search
from polykern_kernels.device.dot import COLUMNS, LONGEST, NONE, OPTIONS, ROWS, Codes, place, shared_ones

BLOCK = tl.constexpr(blocks.BLOCK)


@triton.jit
def _folded(LANES):
    """Line and column of tiles on and above the diagonal; two lines of tiles are as high as a column is wide."""
    program = tl.program_id(0)
    odd = LANES % 2
    width = LANES + 1 - odd
    x, y = program // 2 % width, program // 2 // width
    # behind a long row of the triangle lies the short one that fills it up
    own = x < LANES - y
    square = tl.where(own, y, LANES - 1 - y + odd)
    return 2 * square + program % 2, tl.where(own, x + y, x - 1 + odd)


@triton.jit
def _write(out_ptr, least, ones_ptr, first, block, N, BLOCKS, LONE: tl.constexpr):
    """Minima [codes, blocks] of codes `first` ... against `block` ..., without the codes' own ones so far."""
    n = first + tl.arange(0, least.shape[0])
    block = block + tl.arange(0, least.shape[1])
    ones = tl.load(ones_ptr + n, mask=n < N, other=0)
    inside = (n < N)[:, None] & (block < BLOCKS)[None, :]
    at = out_ptr + n.to(tl.int64)[:, None] * BLOCKS + block[None, :]
    tl.store(at, tl.minimum(least + ones[:, None], LONE).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["N", "M", "STEPS"])
def dot_minima_kernel(
    a_ptr,  # int8 [N, 64 STEPS]
    b_ptr,  # int8 [M, 64 STEPS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    skip_ptr,  # int64 [N]
    rows_ptr,  # int16 | int32 [N, blocks of M]
    columns_ptr,  # int16 | int32 [M, blocks of N]
    N,
    M,
    STEPS,
    LONE: tl.constexpr,  # the largest number; the minimum of a block without a pair
    BOTH: tl.constexpr,  # the columns' minima too
    HALF: tl.constexpr,  # a is b: no tile below the diagonal
):
    if HALF:
        line, lane = _folded(tl.cdiv(M, COLUMNS))
    else:
        line, lane = place(tl.cdiv(N, ROWS), tl.cdiv(M, COLUMNS))
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    n = line * ROWS + tl.arange(0, ROWS)
    m = lane * COLUMNS + tl.arange(0, COLUMNS)
    skip = tl.load(skip_ptr + n, mask=n < N, other=-1).to(tl.int32)
    met = (skip >= lane * COLUMNS) & (skip < lane * COLUMNS + COLUMNS)
    if tl.max(met.to(tl.int32), 0) > 0:
        count = tl.where(m[None, :] == skip[:, None], -LONGEST, count)
    b_ones = tl.load(b_ones_ptr + m, mask=m < M, other=NONE)
    least = tl.min(tl.reshape(b_ones[None, :] - 2 * count, (ROWS, COLUMNS // BLOCK, BLOCK)), 2)
    across = tl.cdiv(M, BLOCK)
    _write(rows_ptr, least, a_ones_ptr, line * ROWS, lane * (COLUMNS // BLOCK), N, across, LONE)
    if BOTH and (not HALF or lane > line // 2):  # a square on the diagonal has its rows' minima both ways
        a_ones = tl.load(a_ones_ptr + n, mask=n < N, other=NONE)
        other = tl.min(tl.reshape(a_ones[:, None] - 2 * count, (ROWS // BLOCK, BLOCK, COLUMNS)), 1)
        down = tl.cdiv(N, BLOCK)
        _write(columns_ptr, tl.trans(other), b_ones_ptr, lane * COLUMNS, line * (ROWS // BLOCK), M, down, LONE)


@triton.jit(do_not_specialize=["N", "M", "STEPS", "RADII"])
def dot_within_kernel(
    a_ptr,  # int8 [N, 64 STEPS]
    b_ptr,  # int8 [M, 64 STEPS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    radii_ptr,  # int32 [RADII]
    out_ptr,  # int64 [N, RADII]: added to
    N,
    M,
    STEPS,
    RADII,
):
    line, lane = place(tl.cdiv(N, ROWS), tl.cdiv(M, COLUMNS))
    count = shared_ones(a_ptr, b_ptr, line, lane, N, M, STEPS)
    n = line * ROWS + tl.arange(0, ROWS)
    m = lane * COLUMNS + tl.arange(0, COLUMNS)
    beyond = tl.load(b_ones_ptr + m, mask=m < M, other=NONE)[None, :] - 2 * count
    for q in range(RADII):
        # the rows' ones are read again, for want of registers
        radius = tl.minimum(tl.load(radii_ptr + q), LONGEST) - tl.load(a_ones_ptr + n, mask=n < N, other=0)
        inside = tl.sum((beyond <= radius[:, None]).to(tl.int32), 1).to(tl.int64)
        tl.atomic_add(out_ptr + n.to(tl.int64) * RADII + q, inside, mask=n < N, sem="relaxed")


def nearest(
    a: Tensor, b: Tensor, k: int, skip: Tensor | None, metric: str, progress: Callable[[int, int], None]
) -> tuple[Tensor, Tensor]:
    skipped = torch.full((len(a),), -1, device=a.device) if skip is None else skip
    search, words, kind = Search(a, b, k, skipped, metric), a.shape[1], blocks.kind(a.shape[1])

    def minima(rows: slice) -> Tensor:
        given, found = dot.codes(a[rows]), []
        for part in dot.parts(len(b), words):
            skip = search.skip[rows] - part.start
            found.append(blocks.against(_launch, given, dot.codes(b[part]), skip, kind))
        return torch.cat(found, 1)

    # a part's minima are there twice while they are joined
    return search.run(minima, 2 * kind.itemsize, progress, row_bytes=dot.code_bytes(words))


def self_nearest(words: Tensor, k: int, metric: str, progress: Callable[[int, int], None]) -> tuple[Tensor, Tensor]:
    everyone = torch.arange(len(words), device=words.device)
    search, kind = Search(words, words, k, everyone, metric), blocks.kind(words.shape[1])

    def minima(x: slice, y: slice) -> tuple[Tensor, ...]:
        rows = dot.codes(words[x])
        return blocks.among(_launch, rows, rows if x == y else dot.codes(words[y]), kind)

    parts = dot.parts(len(words) if k else 0, words.shape[1], blocks.square(kind.itemsize))
    return search.among(parts, minima, progress)


def mutual(
    a: Tensor, b: Tensor, k: int, metric: str, progress: Callable[[int, int], None]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ours, theirs = blocks.both(a, b, k, metric)
    words, kind = a.shape[1], blocks.kind(a.shape[1])

    def minima(x: slice, y: slice) -> tuple[Tensor, ...]:
        return blocks.among(_launch, dot.codes(a[x]), dot.codes(b[y]), kind)

    most = blocks.square(kind.itemsize)
    lines, lanes = (dot.parts(len(codes) if k else 0, words, most) for codes in (a, b))
    return blocks.mutual(ours, theirs, lines, lanes, minima, progress)


def within(a: Tensor, b: Tensor, radii: Tensor, metric: str) -> Tensor:
    out = torch.zeros((len(a), len(radii)), dtype=torch.int64, device=a.device)
    for x in dot.parts(len(a) if len(radii) else 0, a.shape[1]):
        rows = dot.codes(a[x])
        for y in dot.parts(len(b), a.shape[1]):
            columns = dot.codes(b[y])
            dot_within_kernel[(dot.tiles(len(rows.ones), len(columns.ones)),)](
                *(rows.bits, columns.bits, rows.ones, columns.ones, radii, out[x]),
                *(len(rows.ones), len(columns.ones), rows.steps, len(radii)),
                **OPTIONS,
            )
    return out


def _launch(
    rows: Codes, columns: Codes, skip: Tensor, ours: Tensor, theirs: Tensor, both: bool, half: bool
) -> None:
    n, m = len(rows.ones), len(columns.ones)
    side = triton.cdiv(n, COLUMNS.value)
    dot_minima_kernel[(side * (side + 1) if half else dot.tiles(n, m),)](
        *(rows.bits, columns.bits, rows.ones, columns.ones, skip, ours, theirs, n, m, rows.steps),
        LONE=torch.iinfo(ours.dtype).max,
        BOTH=both,
        HALF=half,
        **OPTIONS,
    )
