# pyright: reportArgumentType=false
"""Triton: the ones that two codes share, c = a . b, as products of zeros and ones, a byte a bit.

    distance(a, b) = |a| + |b| - 2 c(a, b)

Compute capability 10 and above emulates products of bits by eight of bytes. So codes are spread out once, before
they are read many times, and a program gives a tile of ROWS x COLUMNS counts by int8 products into int32: exact for
every length of code.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels._bits import WORD_BITS
from polykern_kernels.device import blocks, hamming

ROWS = tl.constexpr(128)
COLUMNS = tl.constexpr(256)
STEP = tl.constexpr(64)  # bytes of a code that are multiplied at once
GROUP = tl.constexpr(16)  # lines of tiles that go through the columns together, which are then read once from afar
LONGEST = tl.constexpr(1 << 28)  # no distance is longer; and the ones that a pair which is none lacks to be counted
NONE = tl.constexpr(1 << 29)  # ones of a code that is none: it is farther than LONGEST from every other
OPTIONS = {"num_warps": 8, "num_stages": 4}  # 72 KiB of shared memory

MOST_ROWS = 1 << 22  # of a part: a grid has programs for the tiles of two
LOWEST_BITS = 0x01010101  # of the bytes of a word


@triton.jit
def place(LINES, LANES):
    """Line and column of tiles of this program: GROUP lines together, column by column."""
    program = tl.program_id(0)
    across = GROUP * LANES
    first = program // across * GROUP
    lines = tl.minimum(LINES - first, GROUP)
    at = program % across
    return first + at % lines, at // lines


@triton.jit
def shared_ones(
    a_ptr,  # int8 [N, STEP * STEPS], 16-byte aligned
    b_ptr,  # int8 [M, STEP * STEPS], 16-byte aligned
    line,
    lane,
    N,
    M,
    STEPS,
):
    """c of a tile: int32 [ROWS, COLUMNS]. Beyond the last row and column it is that of the last."""
    n = tl.minimum(line * ROWS + tl.arange(0, ROWS), N - 1).to(tl.int64)
    m = tl.minimum(lane * COLUMNS + tl.arange(0, COLUMNS), M - 1).to(tl.int64)
    at = tl.arange(0, STEP)
    a_at = a_ptr + n[:, None] * (STEPS * STEP) + at[None, :]
    b_at = b_ptr + m[None, :] * (STEPS * STEP) + at[:, None]
    count = tl.zeros((ROWS, COLUMNS), tl.int32)
    for _ in range(STEPS):
        count = tl.dot(tl.load(a_at), tl.load(b_at), count, out_dtype=tl.int32)
        a_at += STEP
        b_at += STEP
    return count


class Codes(NamedTuple):
    """Codes as a tile reads them: a byte a bit, int8 (n, STEP * steps); their ones, int32 (n)."""

    bits: Tensor
    ones: Tensor

    @property
    def steps(self) -> int:
        return self.bits.shape[1] // STEP.value


def codes(words: Tensor) -> Codes:
    """Codes spread out, with zeros behind each up to a whole step.

    Byte 4 j + i of a word's 32 is bit j + 8 i: the order of the bits is free, as long as all codes have the same.
    """
    ones = hamming.ones(words)
    size = STEP.value // WORD_BITS
    words = torch.nn.functional.pad(words, (0, max(size, -(-words.shape[1] // size) * size) - words.shape[1]))
    shifts = torch.arange(8, dtype=torch.int32, device=words.device)
    spread = (words.contiguous()[:, :, None] >> shifts).bitwise_and_(LOWEST_BITS)
    return Codes(spread.view(torch.int8).flatten(1), ones)


def parts(n: int, words: int, most: int = MOST_ROWS) -> list[slice]:
    """Rows in parts of whole tiles, `most` rows at most, that keep to the budget when they are spread out."""
    most = min(most, MOST_ROWS, blocks.BUDGET_BYTES // (2 * code_bytes(words)))
    size = max(most // COLUMNS.value, 1) * COLUMNS.value
    return [slice(first, min(n, first + size)) for first in range(0, n, size)]


def code_bytes(words: int) -> int:
    """Bytes of a code that is spread out."""
    return max(words, 1) * WORD_BITS


def tiles(n: int, m: int) -> int:
    """Programs of a launch over n rows and m columns."""
    return triton.cdiv(n, ROWS.value) * triton.cdiv(m, COLUMNS.value)
