"""The best intervals of numbers on a line.

    intervals = the cut of the sorted values into k runs with the least sum of squared distances from run means

Exact k-means in one dimension by dynamic programming: the best start of the last run moves right with its end, so
each layer is solved by halving (Wang and Song 2011, "Ckmeans.1d.dp"; Gronlund et al. 2017).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError
from polykern.scores.tables import Integers

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """Intervals that cover numbers.

    labels  int64 (n)     the interval of every number, 0 ... k - 1 from the left
    low     float64 (k)   least number of each
    high    float64 (k)   greatest number of each
    within  sum of squared distances from the means of the intervals
    """

    labels: Integers
    low: Reals
    high: Reals
    within: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the labels."""
        return {"low": self.low.tolist(), "high": self.high.tolist(), "within": self.within}


def intervals(values: ArrayLike, k: int) -> Intervals:
    """The k best intervals of numbers.

    values  float (n)   finite
    k       intervals; fewer when fewer numbers differ

    Equal numbers share an interval. The least sum up to the rounding of float64; of equal sums the run starts
    farther left. O(k n log n). Errors: UsageError for NaN, infinity, no numbers or k below 1.
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all() or k < 1:
        raise UsageError(f"intervals need finite numbers and k >= 1, got {list(x.shape)} and {k}")
    distinct, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    starts = _starts(distinct, counts.astype(np.float64), min(k, len(distinct)))
    label = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(distinct)))
    ends = np.append(starts[1:], len(distinct)) - 1
    mean = np.bincount(label, counts * distinct) / np.bincount(label, counts)
    within = float((counts * (distinct - mean[label]) ** 2).sum())
    return Intervals(label[inverse].astype(np.int64), distinct[starts], distinct[ends], within)


def _starts(x: Reals, weight: Reals, k: int) -> Integers:
    """Where each of k runs of ascending numbers starts."""
    x = x - np.average(x, weights=weight)  # sums of squares lose less
    sums = [np.concatenate([[0.0], np.cumsum(weight * x**power)]) for power in (0, 1, 2)]

    def spread(first: NDArray[np.intp], last: NDArray[np.intp]) -> Reals:
        total, linear, square = (s[last + 1] - s[first] for s in sums)
        apart: Reals = np.maximum(square - linear * linear / total, 0.0)
        return apart

    n = len(x)
    places = np.arange(n)
    best = spread(np.zeros(n, np.intp), places)
    began = [np.zeros(n, np.intp)]
    for run in range(1, k):
        best, start = _layer(best, spread, run, n)
        began.append(start)
    found, last = [], n - 1
    for start in reversed(began):
        found.append(int(start[last]))
        last = found[-1] - 1
    return np.array(found[::-1], np.int64)


def _layer(before: Reals, spread: Any, run: int, n: int) -> tuple[Reals, NDArray[np.intp]]:
    """Best sums of run + 1 runs that end at each place, and where the last of them starts."""
    best, start = np.full(n, np.inf), np.full(n, run, np.intp)
    solved = np.zeros(n, bool)
    step = 1 << max(0, n - 1).bit_length()
    while step:
        mine = np.arange(step - 1, n, 2 * step)  # in the middle between places that are solved
        mine = mine[mine >= run]
        if len(mine):
            _solve(mine, before, spread, run, best, start, solved)
        step //= 2
    return best, start


def _solve(
    mine: NDArray[np.intp],
    before: Reals,
    spread: Any,
    run: int,
    best: Reals,
    start: NDArray[np.intp],
    solved: NDArray[np.bool_],
) -> None:
    """The best start of the last run for some places, between those of the solved places on either side."""
    known = np.flatnonzero(solved)
    left, right = np.searchsorted(known, mine) - 1, np.searchsorted(known, mine)
    low = np.where(left >= 0, start[known[left]] if len(known) else run, run)
    inner = right < len(known)
    high = np.where(inner, start[known[np.minimum(right, max(0, len(known) - 1))]] if len(known) else mine, mine)
    high = np.minimum(high, mine)
    length = high - low + 1
    edges = np.concatenate([[0], np.cumsum(length)[:-1]])
    owner = np.repeat(np.arange(len(mine)), length)
    first = low[owner] + np.arange(int(length.sum())) - edges[owner]
    cost = before[first - 1] + spread(first, mine[owner])
    least = np.minimum.reduceat(cost, edges)
    hit = np.flatnonzero(cost == least[owner])
    best[mine], start[mine] = least, first[hit[np.searchsorted(hit, edges)]]
    solved[mine] = True
