"""Exact minimum spanning trees of mutual reachability.

    weight(i, j) = max(core(i), core(j), distance(i, j))

Boruvka's rounds: every component takes its least edge to another one. A row first looks into its list of nearest
neighbours: what is not in the list is no nearer than the list's end, which often settles the question. It is
searched among all points only when something outside of the list could be less than the best edge its component
has, and what the search finds holds until the point found is in the row's own component. Any component may pass its
turn, so the one with most rows to search does. The sum of the weights is that of Prim's tree, exactly; which of
several edges of equal weight is in the tree is fixed by the order of the points.

Several ranks divide the rows. Each searches its own; then the least edges of all components, by (weight, smaller
end, larger end), are the least of those of the ranks. So they agree on every round, and on its bytes.

Boruvka 1926; Campello, Moulavi, Sander 2013, "Density-based clustering based on hierarchical density estimates";
CORE-SG: Neto, Naldi, Campello, Sander 2022, "CORE-SG: efficient computation of multiple MSTs for density-based
methods".
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from polykern.clustering.duplicates import Distinct
from polykern.clustering.space import Space, never
from polykern.errors import UsageError
from polykern.progress import Progress
from polykern.ranks import Ranks
from polykern_kernels import forest


@dataclass(frozen=True, eq=False)
class SpanningTree:
    """A minimum spanning tree of n points, ascending by weight.

    source    int64 (n - 1)           one end of each edge, on the CPU
    target    int64 (n - 1)           the other end
    weight    int32|float64 (n - 1)   mutual reachability
    rounds    of Boruvka
    searched  row searches of all rounds
    """

    source: Tensor
    target: Tensor
    weight: Tensor
    rounds: int = 0
    searched: int = 0

    @property
    def n(self) -> int:
        """Points."""
        return len(self.source) + 1

    @property
    def total(self) -> float:
        """Sum of the weights; exact for integers."""
        return self.weight.double().sum().item() if self.weight.is_floating_point() else int(self.weight.sum())

    @property
    def passes(self) -> float:
        """Row searches of all rounds, in units of n."""
        return self.searched / self.n

    def expanded(self, rows: Distinct, cores: Tensor) -> "SpanningTree":
        """The tree of all rows, of which this is the tree of the distinct ones.

        rows     what the points are
        cores    core distances of the points

        Exact: an edge between equal rows weighs their core distance, and no edge of theirs weighs less.
        """
        first, copies = rows.first.cpu(), rows.copies().cpu()
        points = rows.inverse.cpu()[copies]
        source = torch.cat([first[self.source], first[points]])
        target = torch.cat([first[self.target], copies])
        weight = torch.cat([self.weight, cores.cpu()[points]])
        order = weight.sort(stable=True).indices
        return SpanningTree(source[order], target[order], weight[order], self.rounds, self.searched)


def minimum_spanning_tree(
    space: Space,
    distances: Tensor,
    indices: Tensor,
    cores: Tensor,
    progress: Progress | None = None,
    *,
    at: Ranks | None = None,
) -> SpanningTree:
    """The exact minimum spanning tree of mutual reachability.

    space      n >= 1 distinct points
    distances  int32|float64 (n, k)   `space.nearest(k)`; longer lists leave fewer rows to search, k = 0 will do
    indices    int64 (n, k)
    cores      distances' dtype (n)   core distances
    progress   called with ("tree", edges found, n - 1)
    at         ranks that call this with the same arguments and divide the rows; None: this process alone

    The same tree for any number of ranks. Exact in its weight: the sum of float64 weights may differ from another
    order of adding in the last digit, the weights do not.
    """
    rounds = _Boruvka(space, distances, indices, cores, at or Ranks())
    while rounds.left > 1:
        rounds.turn()
        if progress:
            progress("tree", space.n - rounds.left, space.n - 1)
    return rounds.tree()


class _Boruvka:
    """What is known between the rounds, where the lists are; of another rank's rows only what their lists say.

    left        components
    own         bool (n)       rows that this rank searches
    components  int64 (n)      numbered by their first points
    floor       (n)            no foreign edge of the row that is neither in its list nor known weighs less
    known       int64 (n)      the point that the last search found; -1 before
    reach       (n)            the weight of that edge
    """

    def __init__(self, space: Space, distances: Tensor, indices: Tensor, cores: Tensor, at: Ranks) -> None:
        n, k = indices.shape
        if n != space.n or cores.dtype != distances.dtype or len(cores) != n:
            raise UsageError(f"lists of {n} points and {len(cores)} core distances for {space.n} points")
        if n == 0:
            raise UsageError("a tree needs at least one point")
        device = distances.device
        self.at, self.own = at, torch.arange(n, device=device) % at.size == at.rank
        self.space, self.left, self.components = space, n, torch.arange(n, device=device)
        self.distances, self.indices, self.cores = distances, indices, cores
        self.never = never(cores.dtype)
        self.floor = torch.maximum(self.cores, self.distances[:, -1]) if k else self.cores.clone()
        if k >= n - 1:
            self.floor.fill_(self.never)
        self.known, self.reach = torch.full((n,), -1, device=device), torch.zeros_like(cores)
        self.edges: list[tuple[Tensor, Tensor, Tensor]] = []
        self.rounds = self.searched = 0

    def turn(self) -> None:
        """One round."""
        weights, points = self._candidates()
        edges = self._least(weights, points)
        best = edges.weight[self.components]
        certain = (points >= 0) & (weights <= self.floor)
        needed = self.own & ~certain & (self.floor < best)
        passing, asking = self._pass(needed)
        if asking:
            self._search((needed & (self.components != passing)).nonzero()[:, 0])
            edges = self._least(*self._candidates())
        chosen = edges.found & (torch.arange(self.left, device=edges.found.device) != passing)
        source, target, weight = (x[chosen] for x in (edges.source, edges.target, edges.weight))
        kept, self.components = forest.join(self.components, source, target)
        self.edges.append((source[kept], target[kept], weight[kept]))
        self.left -= len(self.edges[-1][0])
        self.rounds += 1
        self.searched += asking

    def tree(self) -> SpanningTree:
        """The edges of all rounds, ascending by weight."""
        empty = self.known[:0], self.known[:0], self.cores[:0]
        source, target, weight = (torch.cat(parts).cpu() for parts in zip(empty, *self.edges, strict=True))
        order = weight.sort(stable=True).indices
        return SpanningTree(source[order], target[order], weight[order], self.rounds, self.searched)

    def _candidates(self) -> tuple[Tensor, Tensor]:
        """The least foreign edge of every row, of those in its list and the known one."""
        weights, points = forest.listed(self.distances, self.indices, self.cores, self.components)
        foreign = (self.known >= 0) & (self.components[self.known] != self.components)
        tied = (self.reach == weights) & (self.known < points)
        better = foreign & ((points < 0) | (self.reach < weights) | tied)
        return torch.where(better, self.reach, weights), torch.where(better, self.known, points)

    def _least(self, weights: Tensor, points: Tensor) -> "_Edges":
        """The least edge of every component, of the candidates of all ranks."""
        first = forest.least(self.components, weights, points)[: self.left]
        row, point = first.clamp(min=0), points[first.clamp(min=0)]
        found = first >= 0
        weight = torch.where(found, weights[row], self.never)
        low, high = torch.minimum(row, point), torch.maximum(row, point)
        if self.at.size > 1:
            weight, low, high = agreed(self.at, found, weight, low, high, self.space.n)
            found = low < self.space.n
            low, high = low.clamp(max=self.space.n - 1), high.clamp(max=self.space.n - 1)
        inside = self.components[low] == torch.arange(self.left, device=low.device)
        return _Edges(found, torch.where(inside, low, high), torch.where(inside, high, low), weight)

    def _pass(self, needed: Tensor) -> tuple[int, int]:
        """The component with most rows to search, -1 where there are none; and how many rows the others have."""
        rows = self.at.total(self.components[needed].bincount(minlength=self.left))
        most, component = rows.max(0)
        return (int(component), int(rows.sum() - most)) if int(most) else (-1, 0)

    def _search(self, rows: Tensor) -> None:
        reach, point = self.space.foreign(rows, self.cores, self.components)
        self.reach[rows], self.known[rows] = reach, point
        self.floor[rows] = torch.maximum(self.floor[rows], reach)


class _Edges(NamedTuple):
    """An edge of each component, or none: bool `found`, int64 `source` inside of it, int64 `target`, `weight`."""

    found: Tensor
    source: Tensor
    target: Tensor
    weight: Tensor


def agreed(
    at: Ranks, found: Tensor, weight: Tensor, low: Tensor, high: Tensor, n: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The least edge of each component among those of all ranks, by (weight, low, high).

    found    bool (c)            whether this rank has one
    weight   int32|float64 (c)   its weight, >= 0
    low      int64 (c)           its smaller end, 0 ... n - 1
    high     int64 (c)           its larger end
    n        points, below 2**31
    returns  weight, low, high   where no rank has one the largest weight and ends >= n

    Exact. One reduction of a 64-bit key each, while weight and ends fit in 63 bits; else weights, then ends.
    """
    nothing, bits = torch.iinfo(torch.int64).max, n.bit_length()
    ends, within = low << bits | high, (1 << bits) - 1
    if not weight.is_floating_point():
        room = nothing >> 2 * bits  # weights from here on share a key
        key = at.least(torch.where(found, weight.long().clamp(max=room) << 2 * bits | ends, nothing))
        least = key >> 2 * bits
        if not bool(((least == room) & (key < nothing)).any()):
            least = torch.where(key < nothing, least, never(weight.dtype)).to(weight.dtype)
            return least, key >> bits & within, key & within
    least = at.least(torch.where(found, weight, never(weight.dtype)))
    ends = at.least(torch.where(found & (weight == least), ends, nothing))
    return least, ends >> bits & within, ends & within


def sub_tree(space: Space, distances: Tensor, indices: Tensor, tree: SpanningTree, cores: Tensor) -> SpanningTree:
    """The exact minimum spanning tree for a smaller min_samples, without another search.

    space      as for `tree`
    distances  int32|float64 (n, k)   the lists that `tree` was made with, k neighbours at least
    indices    int64 (n, k)
    tree       `minimum_spanning_tree` at min_samples k
    cores      distances' dtype (n)   core distances at the smaller min_samples

    Exact (CORE-SG): an edge that is neither in a list nor in the tree is no shorter than the core distances at k of
    both its ends, so it weighs its length at every smaller min_samples too, while the edges of the tree get no
    heavier.
    """
    n, k = indices.shape
    rows = torch.arange(n).repeat_interleave(k)
    near, reach, core = indices.cpu().flatten(), distances.cpu().flatten(), cores.cpu()
    lengths = space.between(tree.source.to(cores.device), tree.target.to(cores.device)).cpu()
    source, target = torch.cat([tree.source, rows]), torch.cat([tree.target, near])
    weight = torch.cat([lengths, reach])
    weight = torch.maximum(weight, torch.maximum(core[source], core[target]))
    kept = forest.spanning(n, source, target, weight)
    return SpanningTree(source[kept], target[kept], weight[kept], tree.rounds, 0)
