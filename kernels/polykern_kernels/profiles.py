"""Which bits the codes of a group have: counts a bit, and sums of a number a bit over the bits of a code.

    counts[g, j]    = number of members of group g whose bit j is 1
    sums(x; w)      = sum over set bits j of x of w[g, j],  g the group of x
    scatter(x)      = sum over members y of g of hamming(x, y)
                    = sum over j of counts[g, j] + sum over set bits j of x of (size - 2 counts[g, j])

So the sum of the distances of a code from all members of its group costs one look at its bits, not one at every
member: a medoid is exact in O(members x bits). Exact: integers; the same on every backend. A group is a range of
a list of rows, so no code is moved. Counts fit int32 for groups below 2**31 rows, sums are int64.
"""

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._bits import WORD_BITS, spread, words_for
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose

# --- contract -----------------------------------------------------------------------------------


def counts(words: Tensor, rows: Tensor, starts: Tensor, bits: int, *, backend: str | None = None) -> Tensor:
    """How many members of every group have each bit.

    words    int32 (n, words)     packed codes
    rows     int64 (r)            rows of words, those of one group next to each other; a row may be in several
    starts   int64 (groups + 1)   group g holds rows[starts[g] : starts[g + 1]]; a group may be empty
    bits     bits of a code
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int32 (groups, bits)

    Exact. Memory: the result; give a block of groups at a time where all do not fit. Raises ValueError when the
    arguments do not fit.
    """
    op = "profiles.counts"
    _check_groups(op, words, rows, starts)
    _check.codes(op, "words", words, bits, "n")
    chosen = choose(op, IMPLS["counts"], backend, words, rows, starts)
    return chosen.run(words, rows, starts, bits)  # type: ignore[no-any-return]


def sums(words: Tensor, rows: Tensor, starts: Tensor, weights: Tensor, *, backend: str | None = None) -> Tensor:
    """For every row the sum of its group's weights over the bits that are set.

    words    int32 (n, words)         packed codes
    rows     int64 (r)                rows of words, those of one group next to each other
    starts   int64 (groups + 1)       group g holds rows[starts[g] : starts[g + 1]]
    weights  int32 (groups, bits)     a number for every bit of every group
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int64 (r)                in the order of `rows`

    Exact. Raises ValueError when the arguments do not fit.
    """
    op = "profiles.sums"
    _check_groups(op, words, rows, starts)
    _check.tensor(op, "weights", weights, _check.INT32, "groups", "bits")
    _check.same_device(op, words=words, weights=weights)
    if len(weights) != len(starts) - 1 or words.shape[1] != words_for(weights.shape[1]):
        _check.fail(op, "weights", f"int32 ({len(starts) - 1}, bits of {words.shape[1]} words)", weights)
    chosen = choose(op, IMPLS["sums"], backend, words, rows, starts, weights)
    return chosen.run(words, rows, starts, weights)  # type: ignore[no-any-return]


def cost_counts(rows: int, groups: int, bits: int) -> Cost:
    """`counts`: read every member once, write every count once."""
    return Cost(bytes=rows * (8 + 4 * words_for(bits)) + 8 * (groups + 1) + 4 * groups * bits)


def cost_sums(rows: int, groups: int, bits: int) -> Cost:
    """`sums`: read every member and every weight once, write a sum a row."""
    return Cost(bytes=rows * (16 + 4 * words_for(bits)) + 8 * (groups + 1) + 4 * groups * bits)


def _check_groups(op: str, words: Tensor, rows: Tensor, starts: Tensor) -> None:
    _check.tensor(op, "words", words, _check.INT32, "n", "words")
    _check.tensor(op, "rows", rows, _check.INT64, "r")
    _check.tensor(op, "starts", starts, _check.INT64, "groups + 1")
    _check.same_device(op, words=words, rows=rows, starts=starts)
    if not len(starts) or int(starts[0]) or int(starts[-1]) != len(rows) or bool((starts.diff() < 0).any()):
        _check.fail(op, "starts", f"ascending from 0 to {len(rows)}", starts)
    _check.within(op, "rows", rows, len(words), f"rows of {len(words)} codes")


# --- reference: unpack every bit and add -----------------------------------------------------------


def _bits(words: Tensor, bits: int) -> Tensor:
    return spread(words).flatten(1)[:, :bits]


def _groups(starts: Tensor) -> Tensor:
    """int64 (r): the group of every position."""
    return torch.arange(len(starts) - 1, device=starts.device).repeat_interleave(starts.diff())


def _counts_reference(words: Tensor, rows: Tensor, starts: Tensor, bits: int) -> Tensor:
    out = torch.zeros((len(starts) - 1, bits), dtype=torch.int32, device=words.device)
    return out.index_add_(0, _groups(starts), _bits(words[rows], bits))


def _sums_reference(words: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    on = _bits(words[rows], weights.shape[1])
    return (on.long() * weights[_groups(starts)]).sum(1)


# --- parts: groups of any size as tasks of about the same size ----------------------------------------


def parts(starts: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Groups cut into ranges of at most `most` rows.

    starts   int64 (groups + 1)
    most     rows of a part, >= 1
    returns  int64 (p + 1)   edges of the parts, in order; an empty group has none
             int64 (p)       the group of each part
    """
    sizes = starts.diff()
    pieces = (sizes + most - 1) // most
    group = torch.arange(len(sizes), device=starts.device).repeat_interleave(pieces)
    first = pieces.cumsum(0) - pieces  # parts before each group
    within = torch.arange(len(group), device=starts.device) - first[group]
    edges = torch.cat([starts[group] + within * most, starts[-1:]])
    return edges, group


# --- cpu: numba, `_numba.profiles` -------------------------------------------------------------------

_COUNTED = 1 << 16  # rows of a part with counts of its own: enough to forget the cost of adding the parts up
_SUMMED = 64  # rows of a part that share a table of weights in L2


def _counts_cpu(words: Tensor, rows: Tensor, starts: Tensor, bits: int) -> Tensor:
    from polykern_kernels._numba import profiles as loops

    edges, group = parts(starts, _COUNTED)
    counted = torch.zeros((len(group), words.shape[1] * WORD_BITS), dtype=torch.int32)
    loops.counts(words.contiguous().numpy().view(np.uint32), rows.numpy(), edges.numpy(), counted.numpy())
    if len(group) == len(starts) - 1 and bool((starts.diff() > 0).all()):
        return counted[:, :bits].contiguous()  # a part for every group
    out = torch.zeros((len(starts) - 1, bits), dtype=torch.int32)
    return out.index_add_(0, group, counted[:, :bits])


def _sums_cpu(words: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    from polykern_kernels._numba import profiles as loops

    edges, group = parts(starts, _SUMMED)
    wide = torch.zeros((len(weights), words.shape[1] * WORD_BITS), dtype=torch.int64)  # a word meets 32 weights
    wide[:, : weights.shape[1]] = weights
    out = torch.empty(len(rows), dtype=torch.int64)
    packed = words.contiguous().numpy().view(np.uint32)
    loops.sums(packed, rows.numpy(), edges.numpy(), group.numpy(), wide.numpy(), out.numpy())
    return out


IMPLS = {
    "counts": backends("profiles", "counts", cpu=_counts_cpu, reference=_counts_reference),
    "sums": backends("profiles", "sums", cpu=_sums_cpu, reference=_sums_reference),
}
