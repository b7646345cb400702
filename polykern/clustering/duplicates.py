"""Rows that are equal, united: clustering works on distinct points that count for as many rows as they stand for.

Codes of tokens and of image cells repeat. Equal rows are found by their fingerprints (`polykern_kernels.digest`)
and then compared word by word, so that what is called equal is equal. Points come in order of first appearance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from polykern.errors import UsageError
from polykern_kernels import digest

_BLOCK = 1 << 14  # rows compared at a time


@dataclass(frozen=True, eq=False)
class Distinct:
    """The distinct rows of a table.

    first    int64 (d)   the row where each point first appears, ascending
    counts   int64 (d)   rows that are equal to it, itself counted
    inverse  int64 (n)   the point that each row is
    """

    first: Tensor
    counts: Tensor
    inverse: Tensor

    def copies(self) -> Tensor:
        """int64 (n - d): the rows that appeared before, ascending."""
        again = torch.ones(len(self.inverse), dtype=torch.bool, device=self.inverse.device)
        again[self.first] = False
        return again.nonzero()[:, 0]


def distinct_rows(rows: Tensor, *, backend: str | None = None) -> Distinct:
    """Which rows are equal.

    rows     int32|float32|float64 (n, width)   codes, or points; on any device
    backend  of `digest.fingerprints`
    returns  Distinct, on rows' device

    Exact: rows of equal fingerprints are compared. Floats are equal as numbers, 0 and -0 too. Raises UsageError for
    other dtypes, and for NaN, which is equal to nothing.
    """
    words = _as_words(rows)
    prints = digest.fingerprints(words, 32 * words.shape[1], backend=backend)[:, 0]
    order = prints.sort(stable=True).indices
    fresh = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    fresh[1:] = prints[order[1:]] != prints[order[:-1]]
    group = fresh.cumsum(0) - 1
    leaders = order[fresh]  # of a group, its lowest row
    leader = torch.empty_like(order)
    leader[order] = leaders[group]
    if not _equal(words, leader):
        leader = _by_comparison(words)
    first, inverse, counts = torch.unique(leader, return_inverse=True, return_counts=True)
    return Distinct(first, counts, inverse)


def _as_words(rows: Tensor) -> Tensor:
    """int32 (n, words): patterns that are equal where the numbers are."""
    if rows.ndim != 2 or rows.dtype not in (torch.int32, torch.float32, torch.float64):
        raise UsageError(f"rows must be int32, float32 or float64 (n, width), got {rows.dtype} {list(rows.shape)}")
    if rows.dtype == torch.int32:
        return rows
    if bool(rows.isnan().any()):
        raise UsageError("there is a NaN among the points", why="it is equal to nothing and near to nothing")
    return (rows + 0.0).contiguous().view(torch.int32)  # -0 + 0 is 0


def _equal(words: Tensor, leader: Tensor) -> bool:
    """Whether every row equals its leader."""
    led = (leader != torch.arange(len(leader), device=leader.device)).nonzero()[:, 0]
    return all(torch.equal(words[rows], words[leader[rows]]) for rows in led.split(_BLOCK))


def _by_comparison(words: Tensor) -> Tensor:
    """int64 (n): the lowest row that equals each row, without fingerprints."""
    _, inverse = torch.unique(words, dim=0, return_inverse=True)
    places = torch.arange(len(words), device=words.device)
    lowest = torch.full_like(places, len(words)).scatter_reduce(0, inverse, places, "amin")
    return lowest[inverse]
