# pyright: reportArgumentType=false
"""Gluon: the ones that two codes share, c = popcount(a & b), on the 1-bit tensor cores of Ampere, Ada and Hopper.

    distance(a, b) = |a| + |b| - 2 c(a, b)

A program gives a tile of ROWS x COLUMNS counts. Codes come in steps of 512 bits through a ring of swizzled shared
memory; `mma.sync.m16n8k256 .and.popc` multiplies them. Which elements an assembly block is handed is a matter of
layouts, so all of them are written down here: TILE is where counts are, the axes in `shared_ones` are how a tile of
words falls apart into fragments. Tests run the kernels' own text over these axes and read the machine code; on a
device `b1_hamming.failure` compares some tiles with popcounts before anybody uses them.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

from polykern_kernels.device import hamming

ROWS = gl.constexpr(128)
COLUMNS = gl.constexpr(256)
STEP = gl.constexpr(16)  # words of a code that are multiplied at once: two fragments of 256 bits
STAGES = gl.constexpr(4)  # of the ring
WARPS = 8  # 2 x 4 of them, 64 x 64 counts each
GROUP = gl.constexpr(16)  # lines of tiles that go through the columns together, which are then read once from afar
LONGEST = gl.constexpr(1 << 28)  # no distance is longer; and the ones that a pair which is none lacks to be counted
NONE = gl.constexpr(1 << 29)  # ones of a code that is none: it is farther than LONGEST from every other

# lane 4 g + t has 8 registers of a: rows g, g + 8 of words t, t + 4, t + 8, t + 12; of b: columns g, g + 8
MULTIPLY = gl.constexpr(
    """{
mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {$0,$1,$2,$3},{$8,$9,$10,$11},{$16,$17},{$0,$1,$2,$3};
mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {$4,$5,$6,$7},{$8,$9,$10,$11},{$20,$21},{$4,$5,$6,$7};
mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {$0,$1,$2,$3},{$12,$13,$14,$15},{$18,$19},{$0,$1,$2,$3};
mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {$4,$5,$6,$7},{$12,$13,$14,$15},{$22,$23},{$4,$5,$6,$7};
}"""
)
# counts are written where they were read from
REGISTERS = gl.constexpr(",".join(["=&r"] * 8 + ["r"] * 16 + [str(i) for i in range(8)]))

FRAGMENTS = gl.constexpr(gl.BlockedLayout([1, 1, 8], [1, 1, 32], [2, 4, 1], [2, 1, 0]))  # [8, 16, 256]
WORDS_A = gl.constexpr(
    gl.DistributedLinearLayout(
        [[8, 0], [0, 4], [0, 8], [16, 0], [32, 0]],
        [[0, 1], [0, 2], [1, 0], [2, 0], [4, 0]],
        [[0, 0], [0, 0], [64, 0]],
        [],
        [128, 16],
    )
)
WORDS_B = gl.constexpr(
    gl.DistributedLinearLayout(
        [[0, 4], [0, 8], [8, 0], [16, 0], [32, 0]],
        [[0, 1], [0, 2], [1, 0], [2, 0], [4, 0]],
        [[64, 0], [128, 0], [0, 0]],
        [],
        [256, 16],
    )
)
TILE = gl.constexpr(
    gl.DistributedLinearLayout(
        [[0, 1], [8, 0], [0, 8], [0, 16], [0, 32], [16, 0], [32, 0]],
        [[0, 2], [0, 4], [1, 0], [2, 0], [4, 0]],
        [[0, 64], [0, 128], [64, 0]],
        [],
        [128, 256],
    )
)
COPIED = gl.constexpr(gl.BlockedLayout([1, 4], [8, 4], [8, 1], [1, 0]))  # 16 bytes a thread
SHARED = gl.constexpr(gl.SwizzledSharedLayout(4, 2, 4, [1, 0]))

MOST_PROGRAMS = 2**31 - 1  # of a grid

_barrier = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier  # Triton 3.7, 3.6


@gluon.jit
def place(LINES, LANES):
    """Line and column of tiles of this program: GROUP lines together, column by column."""
    program = gl.program_id(0)
    across = GROUP * LANES
    first = program // across * GROUP
    lines = gl.minimum(LINES - first, GROUP)
    at = program % across
    return first + at % lines, at // lines


@gluon.jit
def shared_ones(
    a_ptr,  # int32 [N, STEP * STEPS], 16-byte aligned
    b_ptr,  # int32 [M, STEP * STEPS], 16-byte aligned
    line,
    lane,
    N,
    M,
    STEPS,
):
    """c of a tile: int32 [ROWS, COLUMNS]. Beyond the last row and column it is that of the last."""
    ring_a = gl.allocate_shared_memory(gl.int32, [STAGES, ROWS, STEP], SHARED)
    ring_b = gl.allocate_shared_memory(gl.int32, [STAGES, COLUMNS, STEP], SHARED)
    w = gl.arange(0, STEP, layout=gl.SliceLayout(0, COPIED))[None, :]
    n = gl.minimum(line * ROWS + gl.arange(0, ROWS, layout=gl.SliceLayout(1, COPIED)), N - 1)
    m = gl.minimum(lane * COLUMNS + gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, COPIED)), M - 1)
    a_at = a_ptr + n.to(gl.int64)[:, None] * (STEPS * STEP) + w
    b_at = b_ptr + m.to(gl.int64)[:, None] * (STEPS * STEP) + w
    for s in gl.static_range(STAGES - 1):
        if s < STEPS:
            async_copy.async_copy_global_to_shared(ring_a.index(s), a_at + s * STEP)
            async_copy.async_copy_global_to_shared(ring_b.index(s), b_at + s * STEP)
        async_copy.commit_group()
    count = gl.zeros([8, 16, 256], gl.int32, layout=FRAGMENTS)
    for s in range(STEPS):
        async_copy.wait_group(STAGES - 2)
        _barrier()  # what was read a turn ago may be overwritten
        ahead = s + STAGES - 1
        if ahead < STEPS:
            async_copy.async_copy_global_to_shared(ring_a.index(ahead % STAGES), a_at + ahead * STEP)
            async_copy.async_copy_global_to_shared(ring_b.index(ahead % STAGES), b_at + ahead * STEP)
        async_copy.commit_group()
        a = ring_a.index(s % STAGES).load(WORDS_A)
        b = ring_b.index(s % STAGES).load(WORDS_B)
        # row: warp, repeat, half, g; word: fragment, half, t
        a = a.reshape([2, 4, 2, 8, 2, 2, 4]).permute([1, 0, 3, 6, 4, 5, 2]).reshape([8, 1, 256])
        # column: warp, repeat, group, g; word: fragment, half, t
        b = b.reshape([4, 4, 2, 8, 2, 2, 4]).permute([1, 0, 3, 6, 2, 4, 5]).reshape([1, 16, 256])
        a = gl.convert_layout(a, FRAGMENTS, assert_trivial=True)
        b = gl.convert_layout(b, FRAGMENTS, assert_trivial=True)
        count = gl.inline_asm_elementwise(MULTIPLY, REGISTERS, [a, b, count], dtype=gl.int32, is_pure=True, pack=8)
    # repeat and warp of rows, repeat and warp of columns; g, t, group of columns, half of rows, column of a pair
    count = count.reshape([4, 2, 4, 4, 8, 4, 2, 2, 2]).permute([1, 0, 7, 4, 3, 2, 6, 5, 8]).reshape([128, 256])
    return gl.convert_layout(count, TILE, assert_trivial=True)


class Codes(NamedTuple):
    """Codes as a tile reads them: int32 (n, STEP * steps), 16-byte aligned; their ones, int32 (n)."""

    words: Tensor
    ones: Tensor

    @property
    def steps(self) -> int:
        return self.words.shape[1] // STEP.value

    def part(self, rows: slice) -> "Codes":
        return Codes(self.words[rows], self.ones[rows])


def codes(words: Tensor) -> Codes:
    """Zeros behind each code up to a whole step; no copy where there is nothing to change."""
    ones = hamming.ones(words)
    width = max(words.shape[1], 1)
    words = torch.nn.functional.pad(words, (0, width - words.shape[1] + -width % STEP.value)).contiguous()
    return Codes(words.clone() if words.data_ptr() % 16 else words, ones)


def tiles(n: int, m: int) -> int:
    """Programs of a launch over n rows and m columns."""
    return triton.cdiv(n, ROWS.value) * triton.cdiv(m, COLUMNS.value)


def chunks(n: int, m: int) -> list[slice]:
    """Rows in parts whose tiles fit a grid."""
    most = max(1, MOST_PROGRAMS // triton.cdiv(m, COLUMNS.value)) * ROWS.value
    return [slice(first, min(n, first + most)) for first in range(0, n, most)]
