"""Exact nearest neighbours of packed codes, and how many codes lie within a radius.

    Hamming   d(a, b) = popcount(a ^ b)
    Jaccard   d(a, b) = 1 - |a & b| / |a | b|, and 0 between two codes without a one

Exhaustive and exact: every pair is counted, no index is built, no pair is guessed. Neighbours are ordered by
(distance, index), so that the answer is one and the same on every backend, for any number of threads and in any
size of block. A Jaccard distance is differing / union as correctly rounded float64; below 2**26 bits two different
fractions stay different, so its order is exact too. Nothing of size n x m is ever held.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check, _metric
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose
from polykern_kernels._metric import FARTHEST, METRICS, Progress, silent

# --- contract -----------------------------------------------------------------------------------


def nearest(
    a: Tensor,
    b: Tensor,
    k: int,
    *,
    skip: Tensor | None = None,
    metric: str = "hamming",
    backend: str | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """The k rows of b that are nearest to each row of a.

    a         int32 (n, words)   packed codes
    b         int32 (m, words)   packed codes, on a's device
    k         neighbours a row, at most m; at most m - 1 with `skip`
    skip      int64 (n)          row of b that a row of a must not find, -1 for none; None for no row
    metric    "hamming" | "jaccard"
    backend   "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run
    progress  called now and then with the work done and all of it, in rows; the last time they are equal
    returns   distances int32 (n, k) for Hamming, float64 (n, k) for Jaccard
              indices   int64 (n, k)   rows of b
              ascending by (distance, index)

    Exact, and the same on every backend. Raises ValueError when the arguments do not fit.
    """
    op = "neighbours.nearest"
    _check_two(op, a, b, metric)
    if skip is not None:
        _check_skip(op, skip, len(a), len(b))
        _check.same_device(op, a=a, skip=skip)
    _check_k(op, k, max(len(b) - (skip is not None), 0))
    chosen = choose(op, IMPLS["nearest"], backend, a, b, metric=metric)
    return chosen.run(a, b, k, skip, metric, progress or silent)  # type: ignore[no-any-return]


def self_nearest(
    words: Tensor,
    k: int,
    *,
    metric: str = "hamming",
    backend: str | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """The k other rows that are nearest to each row: `nearest(words, words, k, skip=arange)`, with half the work.

    words     int32 (n, words)   packed codes
    k         neighbours a row, at most n - 1
    metric    "hamming" | "jaccard"
    backend   "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run
    progress  called now and then with the work done and all of it; the last time they are equal
    returns   distances int32 (n, k) for Hamming, float64 (n, k) for Jaccard
              indices   int64 (n, k)   other rows
              ascending by (distance, index)

    Exact, and the same on every backend. Raises ValueError when the arguments do not fit.
    """
    op = "neighbours.self_nearest"
    _check_two(op, words, words, metric)
    _check_k(op, k, max(len(words) - 1, 0))
    chosen = choose(op, IMPLS["self_nearest"], backend, words, metric=metric)
    return chosen.run(words, k, metric, progress or silent)  # type: ignore[no-any-return]


def mutual(
    a: Tensor,
    b: Tensor,
    k: int,
    *,
    metric: str = "hamming",
    backend: str | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`nearest(a, b, k)` and `nearest(b, a, k)`, with half the work: a tile beside the diagonal of `self_nearest`.

    a         int32 (n, words)   packed codes
    b         int32 (m, words)   packed codes, on a's device
    k         neighbours a row, at most the smaller of n and m
    metric    "hamming" | "jaccard"
    backend   "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run
    progress  called now and then with the work done and all of it; the last time they are equal
    returns   distances, indices (n, k) of rows of b; distances, indices (m, k) of rows of a; as of `nearest`

    Exact, and the same on every backend. Raises ValueError when the arguments do not fit.
    """
    op = "neighbours.mutual"
    _check_two(op, a, b, metric)
    _check_k(op, k, min(len(a), len(b)))
    chosen = choose(op, IMPLS["mutual"], backend, a, b, metric=metric)
    return chosen.run(a, b, k, metric, progress or silent)  # type: ignore[no-any-return]


def within(
    a: Tensor, b: Tensor, radii: Sequence[float], *, metric: str = "hamming", backend: str | None = None
) -> Tensor:
    """How many rows of b lie within each radius of each row of a; a row that is among b counts itself.

    a        int32 (n, words)   packed codes
    b        int32 (m, words)   packed codes, on a's device
    radii    numbers; a distance equal to the radius is within it
    metric   "hamming" | "jaccard"
    backend  "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int64 (n, radii)   rows of b

    Exact, and the same on every backend. Raises ValueError when the arguments do not fit.
    """
    op = "neighbours.within"
    _check_two(op, a, b, metric)
    given = [float(r) for r in radii]
    if any(math.isnan(r) for r in given):
        raise ValueError(f"{op}: radii must be numbers, got {given}")
    if metric == "hamming":
        # whole distances: a radius between two of them is the lower
        bounds = torch.tensor([math.floor(min(max(r, -1.0), 2.0**31 - 1)) for r in given], dtype=torch.int32)
    else:
        bounds = torch.tensor(given, dtype=torch.float64)
    return choose(op, IMPLS["within"], backend, a, b, metric=metric).run(a, b, bounds.to(a.device), metric)  # type: ignore[no-any-return]


def cost(n: int, m: int, words: int, k: int, *, distance_bytes: int = 4) -> Cost:
    """`nearest`: read each code once, write each list once, count each pair's words."""
    return Cost(bytes=4 * (n + m) * words + n * k * (8 + distance_bytes), popcounts=n * m * words)


def cost_self(n: int, words: int, k: int, *, distance_bytes: int = 4) -> Cost:
    """`self_nearest`: read each code once, write each list once, count each pair's words once."""
    return Cost(bytes=4 * n * words + n * k * (8 + distance_bytes), popcounts=n * (n - 1) // 2 * words)


def cost_mutual(n: int, m: int, words: int, k: int, *, distance_bytes: int = 4) -> Cost:
    """`mutual`: read each code once, write each list once, count each pair's words once."""
    return Cost(bytes=4 * (n + m) * words + (n + m) * k * (8 + distance_bytes), popcounts=n * m * words)


def cost_within(n: int, m: int, words: int, radii: int) -> Cost:
    """`within`: read each code once, write each count once, count each pair's words."""
    return Cost(bytes=4 * (n + m) * words + 8 * n * radii, popcounts=n * m * words)


def _check_two(op: str, a: Tensor, b: Tensor, metric: str) -> None:
    for name, x in (("a", a), ("b", b)):
        _metric.check(op, name, x, metric)
    _check.same_device(op, a=a, b=b)
    if a.shape[1] != b.shape[1]:
        _check.fail(op, "b", f"int32 (rows, {a.shape[1]})", b)


def _check_skip(op: str, skip: Tensor, n: int, m: int) -> None:
    _check.sized(op, "skip", skip, torch.int64, n)
    if n and (int(skip.min()) < -1 or int(skip.max()) >= m):
        _check.fail(op, "skip", f"rows of b (-1 <= skip < {m})", skip)


def _check_k(op: str, k: int, most: int) -> None:
    if not 0 <= k <= most:
        raise ValueError(f"{op}: k must be 0 <= k <= {most}, got {k}")


# --- reference: all distances of a row, sorted ----------------------------------------------------


def _nearest_reference(
    a: Tensor, b: Tensor, k: int, skip: Tensor | None, metric: str, progress: Progress
) -> tuple[Tensor, Tensor]:
    distances = torch.empty((len(a), k), dtype=METRICS[metric], device=a.device)
    indices = torch.empty((len(a), k), dtype=torch.int64, device=a.device)
    for i in range(len(a)):
        found = _metric.distances(a[i], b, metric)
        order = torch.sort(found, stable=True).indices
        if skip is not None:
            order = order[order != skip[i]]
        indices[i] = order[:k]
        distances[i] = found[order[:k]]
        progress(i + 1, len(a))
    return distances, indices


def _self_nearest_reference(words: Tensor, k: int, metric: str, progress: Progress) -> tuple[Tensor, Tensor]:
    return _nearest_reference(words, words, k, torch.arange(len(words), device=words.device), metric, progress)


def _mutual_reference(
    a: Tensor, b: Tensor, k: int, metric: str, progress: Progress
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ours = _nearest_reference(a, b, k, None, metric, silent)
    return *ours, *_nearest_reference(b, a, k, None, metric, progress)


def _within_reference(a: Tensor, b: Tensor, radii: Tensor, metric: str) -> Tensor:
    out = torch.empty((len(a), len(radii)), dtype=torch.int64, device=a.device)
    for i in range(len(a)):
        out[i] = (_metric.distances(a[i], b, metric)[:, None] <= radii).sum(0)
    return out


# --- cpu: numba, `_numba.neighbours` ---------------------------------------------------------------

_CHUNKS = 64  # calls into compiled code, so that there is progress between them


def _lists(n: int, k: int, metric: str) -> tuple[Tensor, Tensor]:
    """Lists that any code can enter: their places are farther than every code."""
    last = torch.iinfo(torch.int64).max
    return torch.full((n, k), FARTHEST[metric], dtype=METRICS[metric]), torch.full((n, k), last, dtype=torch.int64)


def _nearest_cpu(
    a: Tensor, b: Tensor, k: int, skip: Tensor | None, metric: str, progress: Progress
) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import neighbours as loops

    n = len(a)
    distances, indices = _lists(n, k, metric)
    if distances.numel():
        codes = a.contiguous().numpy(), b.contiguous().numpy()
        sizes = _metric.ones(codes[0], metric), _metric.ones(codes[1], metric)
        skipped = torch.full((n,), -1) if skip is None else skip.contiguous()
        step = loops.step(n)
        chunk = -(-n // (step * _CHUNKS)) * step
        for first in range(0, n, chunk):
            last = min(n, first + chunk)
            loops.nearest(*codes, *sizes, skipped.numpy(), distances.numpy(), indices.numpy(), first, last, step)
            progress(last, n)
        loops.settle(distances.numpy(), indices.numpy())
    return distances, indices


def _self_nearest_cpu(words: Tensor, k: int, metric: str, progress: Progress) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import neighbours as loops

    n = len(words)
    distances, indices = _lists(n, k, metric)
    if distances.numel():
        codes, step = words.contiguous().numpy(), loops.step(n)
        none, sizes = np.full(n, -1, np.int64), _metric.ones(codes, metric)
        turns = _turns(-(-n // step))
        for turn, pairs in enumerate(turns):
            loops.nearest_in_turn(codes, sizes, none, distances.numpy(), indices.numpy(), pairs, step)
            progress(turn + 1, len(turns))
        loops.settle(distances.numpy(), indices.numpy())
    return distances, indices


def _mutual_cpu(
    a: Tensor, b: Tensor, k: int, metric: str, progress: Progress
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from polykern_kernels._numba import neighbours as loops

    n, m = len(a), len(b)
    codes = torch.cat([a, b]).numpy()
    distances, indices = _lists(n + m, k, metric)
    if distances.numel():
        step = loops.step(n + m)
        none, sizes = np.full(n + m, -1, np.int64), _metric.ones(codes, metric)
        rows, columns = (np.stack([np.arange(0, count, step)] * 2, 1) for count in (n, m))
        rows[:, 1], columns[:, 1] = np.minimum(rows[:, 0] + step, n), np.minimum(columns[:, 0] + step, m)
        turns = max(len(rows), len(columns))
        for turn in range(turns):  # row x meets column x + turn: none is in two pairs
            met = (np.arange(len(rows)) + turn) % turns
            some = met < len(columns)
            spans = np.concatenate([rows[some], columns[met[some]] + n], 1)
            loops.nearest_of_spans(codes, sizes, none, distances.numpy(), indices.numpy(), spans)
            progress(turn + 1, turns)
        loops.settle(distances.numpy(), indices.numpy())
    return distances[:n], indices[:n] - n, distances[n:], indices[n:]


def _turns(blocks: int) -> list[np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """Pairs of blocks, each with itself and with every other once; those of one turn share no block.

    The circle method of tournaments: one player stays, the others move around the table.
    """
    players = blocks + blocks % 2
    table = np.arange(players)
    turns = [np.stack([table[:blocks]] * 2, 1)]
    for _ in range(players - 1):
        pairs = np.stack([table[: players // 2], table[players // 2 :][::-1]], 1)
        pairs.sort(1)
        turns.append(pairs[pairs[:, 1] < blocks])
        table[1:] = np.roll(table[1:], 1)
    return [turn for turn in turns if len(turn)]


def _within_cpu(a: Tensor, b: Tensor, radii: Tensor, metric: str) -> Tensor:
    from polykern_kernels._numba import neighbours as loops

    out = torch.zeros((len(a), len(radii)), dtype=torch.int64)
    codes = a.contiguous().numpy(), b.contiguous().numpy()
    sizes = _metric.ones(codes[0], metric), _metric.ones(codes[1], metric)
    loops.within(*codes, *sizes, radii.numpy(), out.numpy(), loops.step(len(a)))
    return out


IMPLS = {
    "nearest": backends("neighbours", "nearest", cpu=_nearest_cpu, reference=_nearest_reference, b1=True, dot=True),
    "self_nearest": backends(
        "neighbours", "self_nearest", cpu=_self_nearest_cpu, reference=_self_nearest_reference, b1=True, dot=True
    ),
    "mutual": backends("neighbours", "mutual", cpu=_mutual_cpu, reference=_mutual_reference, b1=True, dot=True),
    "within": backends("neighbours", "within", cpu=_within_cpu, reference=_within_reference, b1=True, dot=True),
}
