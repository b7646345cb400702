# pyright: reportArgumentType=false
"""Triton: lists of nearest codes from the minima of blocks of BLOCK codes.

Of a row's k nearest codes none lies outside the k blocks that are least by (minimum, block): each of those holds a
code that comes before any code outside. So a tile kernel of some backend writes the minimum of every block, one
kernel here keeps k blocks a row, and another counts their codes again: no threshold, no list that can overflow, no
order of arrival.
"""

from collections.abc import Callable
from itertools import combinations_with_replacement, product
from math import isqrt
from typing import Protocol, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from polykern_kernels._bits import WORD_BITS
from polykern_kernels.device import hamming
from polykern_kernels.device.hamming import BLOCK_M, WARPS, popcount

BLOCK = BLOCK_M  # codes
BLOCK_W = 32  # words of a code that is counted again
MINIMA = 1024  # looked at together
FARTHEST = tl.constexpr(2**31 - 1)  # of a pair that is none: no code, or the row itself
BUDGET_BYTES = 1 << 30  # for minima, and for codes counted again
LEAST_ROWS, MOST_ROWS = 128, 1 << 20  # of a chunk: a line of tiles; a grid has 65,535 of them


@triton.jit
def jaccard(differing, ones):
    # differing / union; the union has (ones of both + differing) / 2 ones
    union2 = tl.maximum(ones + differing, 1)
    return (2 * differing).to(tl.float64) / union2.to(tl.float64)


@triton.jit
def blocks_choose_kernel(
    minima_ptr,  # int16 | int32 | fp64 [N, BLOCKS]
    held_ptr,  # int32 | fp64 [N, COUNT]: least minima yet, in no order
    chosen_ptr,  # int32 [N, COUNT]: their blocks
    FIRST,  # number of the first block, above all that were seen
    BLOCKS,
    COUNT,
    WIDE: tl.constexpr,  # a power of two, at least COUNT
    MINIMA: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, WIDE)
    at = n * COUNT + slot
    held = tl.load(held_ptr + at, mask=slot < COUNT, other=-1)
    chosen = tl.load(chosen_ptr + at, mask=slot < COUNT, other=0)
    last = tl.max(held, 0)
    for first in range(0, BLOCKS, MINIMA):
        block = first + tl.arange(0, MINIMA)
        minimum = tl.load(minima_ptr + n * BLOCKS + block, mask=block < BLOCKS, other=0).to(held.dtype)
        minimum = tl.where(block < BLOCKS, minimum, FARTHEST)
        least = tl.min(minimum, 0)
        while least < last:
            # the first of the least comes in, the last by (minimum, block) goes out
            found = tl.min(tl.where(minimum == least, block, BLOCKS), 0)
            gone = tl.max(tl.where(held == last, chosen, -COUNT - 1), 0)
            out = (held == last) & (chosen == gone)
            held = tl.where(out, least, held)
            chosen = tl.where(out, FIRST + found, chosen)
            minimum = tl.where(block == found, FARTHEST, minimum)
            last = tl.max(held, 0)
            least = tl.min(minimum, 0)
    tl.store(held_ptr + at, held, mask=slot < COUNT)
    tl.store(chosen_ptr + at, chosen, mask=slot < COUNT)


@triton.jit
def blocks_rescan_kernel(
    a_ptr,  # int32 [N, WORDS]
    b_ptr,  # int32 [M, WORDS]
    a_ones_ptr,  # int32 [N]
    b_ones_ptr,  # int32 [M]
    skip_ptr,  # int64 [N]
    chosen_ptr,  # int32 [N, CHOSEN]: blocks of columns; below 0 for none
    out_ptr,  # int32 | fp64 [N, CHOSEN, BLOCK]
    M,
    WORDS,
    CHOSEN,
    JACCARD: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    slot = tl.program_id(0).to(tl.int64)
    n = slot // CHOSEN
    m = tl.load(chosen_ptr + slot).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    known = (m >= 0) & (m < M)
    total = tl.zeros((BLOCK, BLOCK_W), tl.int32)
    for first in range(0, WORDS, BLOCK_W):
        w = first + tl.arange(0, BLOCK_W)
        a = tl.load(a_ptr + n * WORDS + w, mask=w < WORDS, other=0)
        b = tl.load(b_ptr + m[:, None] * WORDS + w[None, :], mask=known[:, None] & (w < WORDS)[None, :], other=0)
        total += popcount(a[None, :] ^ b)
    differing = tl.sum(total, 1)
    wanted = known & (m != tl.load(skip_ptr + n))
    if JACCARD:
        ones = tl.load(a_ones_ptr + n) + tl.load(b_ones_ptr + m, mask=known, other=0)
        distance = tl.where(wanted, jaccard(differing, ones), FARTHEST)
    else:
        distance = tl.where(wanted, differing, FARTHEST)
    tl.store(out_ptr + slot * BLOCK + tl.arange(0, BLOCK), distance)


class Search:
    """The k rows of b nearest to each row of a, from minima of blocks.

    a, b    int32 (n, words), (m, words)   packed codes
    k       neighbours a row
    skip    int64 (n)                      row of b that a row must not find, -1 for none
    metric  "hamming" | "jaccard"
    """

    def __init__(self, a: Tensor, b: Tensor, k: int, skip: Tensor, metric: str) -> None:
        self.a, self.b, self.k, self.skip = a.contiguous(), b.contiguous(), k, skip.contiguous()
        self.a_ones, self.b_ones = hamming.ones(a, metric), hamming.ones(b, metric)
        kind = torch.float64 if metric == "jaccard" else torch.int32
        self.count = min(k, triton.cdiv(len(b), BLOCK))
        self.held = torch.full((len(a), self.count), FARTHEST.value, dtype=kind, device=a.device)
        none = torch.arange(-self.count, 0, dtype=torch.int32, device=a.device)
        self.chosen = none.expand(len(a), -1).contiguous()
        self.distances = torch.empty((len(a), k), dtype=kind, device=a.device)
        self.indices = torch.empty((len(a), k), dtype=torch.int64, device=a.device)

    @property
    def bytes_settled(self) -> int:
        """Bytes that a row takes while its codes are counted again and sorted."""
        return 28 * self.count * BLOCK

    def take(self, rows: slice, minima: Tensor, first: int = 0) -> None:
        """Minima of some rows, (rows, blocks); `first` is the first block, above all that these rows have seen."""
        wide = triton.next_power_of_2(self.count)
        blocks_choose_kernel[(len(minima),)](
            *(minima, self.held[rows], self.chosen[rows], first, minima.shape[1], self.count),
            WIDE=wide,
            MINIMA=MINIMA,
            num_warps=max(1, min(8, wide // 256)),
        )

    def settle(self, rows: slice) -> None:
        """The lists of some rows, which have seen all minima."""
        chosen = self.chosen[rows].sort(1).values
        found = torch.empty((len(chosen), self.count * BLOCK), dtype=self.held.dtype, device=chosen.device)
        blocks_rescan_kernel[(chosen.numel(),)](
            *(self.a[rows], self.b, self.a_ones[rows], self.b_ones, self.skip[rows], chosen, found),
            *(len(self.b), self.b.shape[1], self.count),
            JACCARD=found.dtype == torch.float64,
            BLOCK=BLOCK,
            BLOCK_W=BLOCK_W,
            num_warps=WARPS,
        )
        # blocks and their columns ascend, so a stable order is one by (distance, index)
        near, order = torch.sort(found, dim=1, stable=True)
        order = order[:, : self.k]
        self.distances[rows] = near[:, : self.k]
        self.indices[rows] = chosen.gather(1, order // BLOCK).long() * BLOCK + order % BLOCK

    def run(
        self,
        minima: Callable[[slice], Tensor],
        minimum_bytes: int,
        progress: Callable[[int, int], None],
        *,
        row_bytes: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The lists of all rows: distances, indices. `minima` gives those of some rows over all blocks.

        A row takes `minimum_bytes` a block, and `row_bytes`, while they are made.
        """
        n, blocks = len(self.a), triton.cdiv(len(self.b), BLOCK)
        for rows in chunks(n if self.k else 0, minimum_bytes * blocks + row_bytes + self.bytes_settled):
            self.take(rows, minima(rows))
            self.settle(rows)
            progress(rows.stop, n)
        return self.distances, self.indices

    def among(
        self,
        parts: list[slice],
        minima: Callable[[slice, slice], tuple[Tensor, ...]],
        progress: Callable[[int, int], None],
    ) -> tuple[Tensor, Tensor]:
        """The lists of all rows of one set: distances, indices. Its parts, whole blocks, meet in pairs.

        `minima` gives those of a part over the blocks of another and, where it is another, the other way round.
        Only the k least blocks of a row are kept meanwhile.
        """
        pairs = list(combinations_with_replacement(parts, 2))
        for done, (x, y) in enumerate(pairs):  # blocks ascend, for the rows of x and for those of y
            for rows, others, some in zip((x, y), (y, x), minima(x, y), strict=False):
                self.take(rows, some, others.start // BLOCK)
            progress(done + 1, len(pairs))
        for rows in chunks(len(self.a) if parts else 0, self.bytes_settled):
            self.settle(rows)
        return self.distances, self.indices


def both(a: Tensor, b: Tensor, k: int, metric: str) -> tuple[Search, Search]:
    """The searches of two sets of codes, each among the other."""
    none_a, none_b = (torch.full((len(x),), -1, device=x.device) for x in (a, b))
    return Search(a, b, k, none_a, metric), Search(b, a, k, none_b, metric)


def mutual(
    ours: Search,
    theirs: Search,
    rows: list[slice],
    columns: list[slice],
    minima: Callable[[slice, slice], tuple[Tensor, ...]],
    progress: Callable[[int, int], None],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The lists of two searches, each among the other's codes: distances, indices of the one, then of the other.

    rows, columns  parts of whole blocks of their codes; none when k is 0
    minima         those of a part of rows over the blocks of a part of columns, and the other way round
    """
    pairs = list(product(rows, columns))
    for done, (x, y) in enumerate(pairs):  # blocks ascend, for the rows of x and for those of y
        mine, others = minima(x, y)
        ours.take(x, mine, y.start // BLOCK)
        theirs.take(y, others, x.start // BLOCK)
        progress(done + 1, len(pairs))
    for search in (ours, theirs):
        for part in chunks(len(search.a) if pairs else 0, search.bytes_settled):
            search.settle(part)
    return ours.distances, ours.indices, theirs.distances, theirs.indices


class Side(Protocol):
    """Codes as the tiles of a backend read them."""

    @property
    def ones(self) -> Tensor:
        """int32 (n)."""


S = TypeVar("S", bound=Side)
# rows, columns, skip of the rows, minima of rows and of columns; whether both, whether no tile below the diagonal
Launch = Callable[[S, S, Tensor, Tensor, Tensor, bool, bool], None]


def against(launch: Launch[S], rows: S, columns: S, skip: Tensor, kind: torch.dtype) -> Tensor:
    """Minima of rows over the blocks of columns."""
    ours = _empty(rows, columns, kind)
    launch(rows, columns, skip, ours, ours, False, False)
    return ours


def among(launch: Launch[S], rows: S, columns: S, kind: torch.dtype) -> tuple[Tensor, ...]:
    """Minima of rows over the blocks of columns and, where these are others, of columns over the blocks of rows."""
    ours, own = _empty(rows, columns, kind), torch.arange(len(rows.ones), device=rows.ones.device)
    if rows is columns:
        launch(rows, columns, own, ours, ours, True, True)
        return (ours,)
    theirs = _empty(columns, rows, kind)
    launch(rows, columns, torch.full_like(own, -1), ours, theirs, True, False)
    return ours, theirs


def _empty(rows: Side, columns: Side, kind: torch.dtype) -> Tensor:
    shape = len(rows.ones), triton.cdiv(len(columns.ones), BLOCK)
    return torch.empty(shape, dtype=kind, device=rows.ones.device)


def kind(words: int) -> torch.dtype:
    """What a minimum of distances fits in beside a larger number for none."""
    return torch.int16 if WORD_BITS * words < 2**15 - 1 else torch.int32


def square(minimum_bytes: int) -> int:
    """Rows of two parts whose minima, both ways, keep to the budget."""
    return isqrt(BUDGET_BYTES * BLOCK // (2 * minimum_bytes))


def chunks(n: int, row_bytes: int) -> list[slice]:
    """Rows in parts that keep to the budget."""
    rows = min(MOST_ROWS, max(LEAST_ROWS, BUDGET_BYTES // max(row_bytes, 1)))
    return [slice(first, min(n, first + rows)) for first in range(0, n, rows)]
