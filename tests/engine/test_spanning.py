"""Trees of mutual reachability weigh what Prim's weigh, exactly, however many distances are equal."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from polykern.clustering import space
from polykern.clustering.cores import core_distances
from polykern.clustering.duplicates import Distinct, distinct_rows
from polykern.clustering.space import Packed, Space
from polykern.clustering.spanning import SpanningTree, minimum_spanning_tree, sub_tree
from polykern.errors import UsageError
from polykern_benches import _planted
from polykern_kernels import forest
from tests.trees import prim


@dataclass
class Table:
    """A space read from a table of distances, which counts how many rows ask."""

    distances: Tensor
    asked: int = 0
    zero: float = field(default=0.0)

    @property
    def n(self) -> int:
        return len(self.distances)

    def nearest(self, k: int, progress: object = None) -> tuple[Tensor, Tensor]:
        d = self.distances.clone()
        d.fill_diagonal_(torch.inf if d.is_floating_point() else 1 << 30)
        near, order = d.sort(dim=1, stable=True)
        return near[:, :k].contiguous(), order[:, :k].contiguous()

    def foreign(
        self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        self.asked += len(rows)
        weight = torch.maximum(torch.maximum(self.distances, cores), cores[:, None])[rows].double()
        weight[components[rows][:, None] == components] = torch.inf
        least, point = weight.min(1)
        return least.to(cores.dtype), torch.where(least.isinf(), -1, point)

    def between(self, i: Tensor, j: Tensor) -> Tensor:
        return self.distances[i, j]


def tied_codes(seed: int) -> tuple[Tensor, str]:
    """Codes of few bits in a few groups, with duplicates, and a metric."""
    rng = np.random.default_rng(seed)
    n, bits = int(rng.integers(5, 130)), int(rng.integers(4, 70))
    words, _ = _planted.flips(n, bits, clusters=int(rng.integers(1, 5)), noise=float(rng.random() * 0.6), seed=seed)
    copied = rng.integers(0, n, n // 8)
    words[: len(copied)] = words[copied]
    return words, ("hamming", "jaccard")[seed % 2]


def all_pairs(words: Tensor, metric: str) -> Tensor:
    n, each = len(words), torch.arange(len(words))
    return Packed(words, metric).between(each.repeat_interleave(n), each.repeat(n)).view(n, n)


def is_tree(tree: SpanningTree, n: int) -> None:
    assert tree.n == n == len(tree.source) + 1
    kept, components = forest.join(torch.arange(n), tree.source, tree.target)
    assert bool(kept.all())
    assert int(components.max()) == 0
    assert torch.equal(tree.weight, tree.weight.sort().values)


def same_weights(tree: SpanningTree, table: Tensor, min_samples: int) -> None:
    """The tree has Prim's weights, one by one, and each is the mutual reachability of its ends."""
    is_tree(tree, len(table))
    truth = prim(table.double().numpy(), min_samples)
    assert torch.equal(tree.weight.double(), truth.weight.sort().values)
    core = table.sort(dim=1).values[:, min_samples]
    i, j = tree.source, tree.target
    assert torch.equal(tree.weight, torch.maximum(table[i, j], torch.maximum(core[i], core[j])))


def grown(words: Tensor, metric: str, min_samples: int) -> tuple[SpanningTree, Space, Distinct]:
    groups = distinct_rows(words)
    points = Packed(words[groups.first], metric)
    lists = points.nearest(min(min_samples, points.n - 1))
    cores = core_distances(*lists, groups.counts, min_samples)
    return minimum_spanning_tree(points, *lists, cores).expanded(groups, cores), points, groups


@pytest.mark.parametrize("surveyed", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_weighs_what_prims_tree_weighs(seed: int, surveyed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if surveyed:  # as with many rows: minima of blocks are kept and always read
        monkeypatch.setattr(space, "SURVEYED", 1)
        monkeypatch.setattr(space, "DEAR", 0)
    words, metric = tied_codes(seed)
    table = all_pairs(words, metric)
    assert (table.double().unique(return_counts=True)[1] > 2).any(), "no ties"
    for min_samples in {1, 2, min(5, len(words) - 1), len(words) - 1}:
        tree, _, _ = grown(words, metric, min_samples)
        same_weights(tree, table, min_samples)
        assert tree.weight.dtype == (torch.int32 if metric == "hamming" else torch.float64)


@pytest.mark.parametrize("seed", range(0, 30, 5))
def test_one_search_serves_every_smaller_min_samples(seed: int) -> None:
    words, metric = tied_codes(seed)
    table, groups = all_pairs(words, metric), distinct_rows(words)
    points = Packed(words[groups.first], metric)
    most = min(9, len(words) - 1)
    lists = points.nearest(min(most, points.n - 1))
    tree = minimum_spanning_tree(points, *lists, core_distances(*lists, groups.counts, most))
    for fewer in range(1, most + 1):
        cores = core_distances(*lists, groups.counts, fewer)
        found = sub_tree(points, *lists, tree, cores)
        assert found.searched == 0
        same_weights(found.expanded(groups, cores), table, fewer)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    words, metric = tied_codes(seed)
    shuffled = words[torch.from_numpy(np.random.default_rng(seed).permutation(len(words)))]
    (one, _, _), (other, _, _) = (grown(x, metric, 3) for x in (words, shuffled))
    assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("k", [0, 1, 4, 80])
def test_any_space_any_lists(k: int) -> None:
    """Points on a grid: float64 distances, nearly all of them tied; lists of every length."""
    rng = np.random.default_rng(k)
    cells = torch.from_numpy(rng.permutation(144)[:81])
    where = torch.stack([cells // 12, cells % 12], 1).double()
    points = Table((where[:, None] - where[None]).square().sum(2).sqrt())
    for min_samples in (1, 4, 7):
        cores = core_distances(*points.nearest(min_samples), torch.ones(81, dtype=torch.int64), min_samples)
        tree = minimum_spanning_tree(points, *points.nearest(k), cores)
        same_weights(tree, points.distances, min_samples)


def test_searches_are_counted_and_few() -> None:
    words, _ = _planted.layer(1200, 256, clusters=6)
    groups = distinct_rows(words)
    packed = Packed(words[groups.first])
    points = Table(all_pairs(packed.words, "hamming"))
    lists = packed.nearest(8)
    cores = core_distances(*lists, groups.counts, 8)
    told: list[tuple[str, int, int]] = []
    tree = minimum_spanning_tree(points, *lists, cores, progress=lambda *at: told.append(at))
    assert tree.searched == points.asked
    assert tree.passes == points.asked / points.n < 1
    assert len(told) == tree.rounds
    assert told[-1] == ("tree", points.n - 1, points.n - 1)
    same = minimum_spanning_tree(packed, *lists, cores)
    for mine, other in ((tree.source, same.source), (tree.target, same.target), (tree.weight, same.weight)):
        assert torch.equal(mine, other)


def test_points_that_know_all_others_search_nothing(rng: torch.Generator) -> None:
    words = torch.randperm(64, generator=rng)[:40].int()[:, None]
    points = Packed(words)
    lists = points.nearest(39)
    tree = minimum_spanning_tree(points, *lists, core_distances(*lists, torch.ones(40, dtype=torch.int64), 3))
    assert tree.searched == 0
    same_weights(tree, all_pairs(words, "hamming"), 3)


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
def test_equal_rows_hang_together(metric: str) -> None:
    tree, points, groups = grown(torch.full((5, 2), 9, dtype=torch.int32), metric, 2)
    assert (points.n, groups.counts.tolist()) == (1, [5])
    is_tree(tree, 5)
    assert tree.total == 0


@pytest.mark.parametrize("apart", [True, False])
def test_two_rows(apart: bool) -> None:
    tree, _, _ = grown(torch.tensor([[0], [7 if apart else 0]], dtype=torch.int32), "hamming", 1)
    assert (tree.source.tolist(), tree.target.tolist(), tree.weight.tolist()) == ([0], [1], [3 if apart else 0])


def test_one_row_is_a_tree() -> None:
    points = Packed(torch.zeros((1, 1), dtype=torch.int32))
    tree = minimum_spanning_tree(points, *points.nearest(0), torch.zeros(1, dtype=torch.int32))
    assert (tree.n, tree.total, tree.rounds, tree.passes) == (1, 0, 0, 0)


def test_refusals() -> None:
    words = torch.arange(4, dtype=torch.int32)[:, None]
    points, cores = Packed(words), torch.zeros(4, dtype=torch.int32)
    with pytest.raises(UsageError, match="lists of 4 points and 3 core distances for 4 points"):
        minimum_spanning_tree(points, *points.nearest(2), cores[:3])
    none = Packed(words[:0])
    with pytest.raises(UsageError, match="a tree needs at least one point"):
        minimum_spanning_tree(none, *none.nearest(0), cores[:0])
    with pytest.raises(UsageError, match="no metric 'cosine' between codes"):
        Packed(words, "cosine")
