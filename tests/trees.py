"""Spanning trees to cluster: any at all, those of points, and those of planted codes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """source, target int64 (n - 1), weight float64 (n - 1)."""

    source: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def of(cls, source: Any, target: Any, weight: Any) -> "Tree":
        kinds = (torch.int64, torch.int64, torch.float64)
        return cls(
            *(torch.tensor(x, dtype=k) for x, k in zip(map(list, (source, target, weight)), kinds, strict=True))
        )

    @property
    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.source, self.target, self.weight

    def sorted(self) -> Reals:
        """(n - 1, 3), stably by weight, as hdbscan wants it."""
        rows = np.column_stack([x.numpy() for x in self.edges]).astype(np.float64)
        return np.ascontiguousarray(rows[np.argsort(rows[:, 2], kind="stable")])

    def shuffled(self, rng: np.random.Generator) -> "Tree":
        """The same edges in another order, some the other way round."""
        order, turn = rng.permutation(len(self.weight)), rng.random(len(self.weight)) < 0.5
        ends = np.where(turn, self.target.numpy(), self.source.numpy())[order]
        others = np.where(turn, self.source.numpy(), self.target.numpy())[order]
        return Tree.of(ends, others, self.weight.numpy()[order])

    def renamed(self, name: Array) -> "Tree":
        """Row i is called name[i]."""
        return Tree.of(name[self.source.numpy()], name[self.target.numpy()], self.weight)


@st.composite
def trees(draw: st.DrawFn, weights: st.SearchStrategy[float]) -> Tree:
    """A tree of 1 ... 40 rows, edges in any order."""
    n = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    reach = draw(st.sampled_from([1, 3, 40]))  # a chain, something between, any tree
    target = [int(rng.integers(max(0, i - reach), i)) for i in range(1, n)]
    weight = draw(st.lists(weights, min_size=n - 1, max_size=n - 1))
    name = rng.permutation(n)
    return Tree.of(np.arange(1, n), target, weight).renamed(name).shuffled(rng)


def tied() -> st.SearchStrategy[Tree]:
    """Trees with few different weights, 0 among them."""
    return trees(st.integers(0, 4).map(float))


def spread_points(n: int, rng: np.random.Generator) -> Reals:
    """(n, 2): groups of several widths, and noise."""
    groups = max(1, n // 40)
    centres, widths = rng.normal(size=(groups, 2)) * 6, rng.uniform(0.2, 1.5, groups)
    which = rng.integers(0, groups, n)
    points = centres[which] + rng.normal(size=(n, 2)) * widths[which, None]
    stray = rng.random(n) < 0.15
    points[stray] = rng.uniform(-15, 15, (int(stray.sum()), 2))
    return points


def euclidean(points: Reals) -> Reals:
    """(n, n)"""
    return np.asarray(np.sqrt(((points[:, None] - points[None]) ** 2).sum(2)))


def hamming(bits: Array) -> Reals:
    """(n, n): bits that differ."""
    on = bits.astype(np.float32)
    return np.asarray(on.sum(1)[:, None] + on.sum(1)[None] - 2 * on @ on.T, dtype=np.float64).round()


def prim(distances: Reals, min_samples: int, rng: np.random.Generator | None = None) -> Tree:
    """A minimum spanning tree of mutual reachability; with `rng` any of those there are."""
    n = len(distances)
    core = np.sort(distances, 1)[:, min_samples]  # the row itself is the first
    reach = np.maximum(np.maximum(core[:, None], core[None]), distances)
    taste = np.zeros(n) if rng is None else rng.random(n)
    best, via, out = np.full(n, np.inf), np.zeros(n, np.int64), np.ones(n, bool)
    now, edges = 0, []
    for _ in range(n - 1):
        out[now] = False
        better = out & ((reach[now] < best) | ((reach[now] == best) & (taste[now] > 0.5)))
        best[better], via[better] = reach[now][better], now
        left = np.flatnonzero(out)
        now = int(left[np.lexsort((taste[left], best[left]))[0]])
        edges.append((via[now], now, best[now]))
    return Tree.of(*zip(*edges, strict=True))


def planted_codes(
    n: int, bits: int = 3072, groups: int = 20, flips: float = 0.1, noise: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """bool (n, bits), and the group of each row, -1 for noise; a member is its centre with some bits flipped."""
    rng = np.random.default_rng(seed)
    group = np.where(rng.random(n) < noise, -1, rng.integers(0, groups, n))
    centres = rng.random((groups, bits)) < 0.5
    x = np.where(group[:, None] >= 0, centres[group], rng.random((n, bits)) < 0.5)
    return x ^ ((rng.random((n, bits)) < flips) & (group >= 0)[:, None]), group
