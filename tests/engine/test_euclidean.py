"""Euclidean rows: distances as defined, exact spanning trees, clusters as hdbscan's, what is refused."""

import math

import numpy as np
import pytest
import torch

from polykern.clustering.cores import core_distances
from polykern.clustering.dendrogram import condense, dendrogram
from polykern.clustering.euclidean import Euclidean, distances
from polykern.clustering.medoids import of_rows
from polykern.clustering.reachability import reachability
from polykern.clustering.selection import select
from polykern.clustering.spanning import minimum_spanning_tree
from polykern.errors import UsageError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def planted(n: int, seed: int, columns: int = 6) -> torch.Tensor:
    """float64 (n, columns): four clusters and a fifth of noise."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(4, columns))
    kind = rng.integers(0, 5, n)
    x = np.where(kind[:, None] < 4, centres[np.minimum(kind, 3)], 0) + rng.normal(size=(n, columns)) * np.where(
        kind[:, None] < 4, 0.6, 4.0
    )
    return torch.from_numpy(x)


def all_pairs(space: Euclidean) -> torch.Tensor:
    """float64 (n, n)."""
    i, j = (t.flatten() for t in torch.meshgrid(*[torch.arange(space.n)] * 2, indexing="ij"))
    return space.between(i, j).view(space.n, space.n)


def prim(weights: torch.Tensor) -> torch.Tensor:
    """float64 (n - 1): the weights of a minimum spanning tree, ascending."""
    best, inside, found = weights[0].clone(), torch.zeros(len(weights), dtype=torch.bool), []
    inside[0] = True
    for _ in range(len(weights) - 1):
        j = int(best.masked_fill(inside, math.inf).argmin())
        found.append(float(best[j]))
        inside[j] = True
        best = torch.minimum(best, weights[j])
    return torch.tensor(found, dtype=torch.float64).sort().values


@pytest.mark.parametrize("dtype", FLOATS)
def test_distances_are_those_of_the_rows_in_float64(dtype: torch.dtype) -> None:
    x = planted(50, 0).to(dtype)
    space = Euclidean(x)
    d = all_pairs(space)
    assert torch.equal(d, d.T)
    assert (d.diagonal() == 0).all()
    torch.testing.assert_close(d, torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist"))
    i, j = torch.arange(50), torch.arange(50).flip(0)
    assert torch.equal(distances(x, i, j), space.between(i, j))
    assert (space.n, space.zero) == (50, 0.0)


def test_an_offset_costs_nothing() -> None:
    """Float32 products of these rows would hold no digit of their distances."""
    x = (planted(80, 1) * 2**10).round() / 2**10
    moved = x + 2.0**30  # exact in float64
    assert torch.equal(x, moved - 2.0**30)
    near, far = (Euclidean(v).nearest(7) for v in (x, moved))
    assert torch.equal(near[0], far[0])
    assert torch.equal(near[1], far[1])


@pytest.mark.parametrize("seed", range(20))
def test_the_tree_weighs_what_prims_does(seed: int) -> None:
    """Float rows, lattices full of ties, and rows that repeat; some in half precision."""
    n, samples = 90 + seed, 1 + seed % 7
    x = planted(n, seed, columns=2 + seed % 3).to(FLOATS[seed % 4])
    if seed % 5 == 4:
        x = x.round()
    space = Euclidean(x)
    d = all_pairs(space)
    near, index = space.nearest(min(n - 1, samples + seed % 4))
    cores = core_distances(near, index, torch.ones(n, dtype=torch.int64), samples)
    assert torch.equal(cores, d.fill_diagonal_(math.inf).sort(1).values[:, samples - 1])
    tree = minimum_spanning_tree(space, near, index, cores)
    want = prim(torch.maximum(torch.maximum(d, cores), cores[:, None]))
    assert torch.equal(tree.weight, want)


def test_clusters_are_hdbscan_s() -> None:
    hdbscan = pytest.importorskip("hdbscan")
    for seed in range(4):
        x = planted(400, seed)
        found = reachability(x, "euclidean", 5)
        chosen = select(condense(dendrogram(found.tree), 12, zero=found.zero))
        theirs = hdbscan.HDBSCAN(min_cluster_size=12, min_samples=5, algorithm="generic").fit(x.numpy())
        pairs = set(zip(chosen.labels.tolist(), theirs.labels_.tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert (-1, -1) in pairs
        np.testing.assert_allclose(chosen.probabilities, theirs.probabilities_, rtol=1e-9, atol=1e-12)


def test_rows_in_another_order_give_the_same_lists() -> None:
    x = planted(120, 3).float()
    turn = torch.from_numpy(np.random.default_rng(0).permutation(120))
    here, there = Euclidean(x).nearest(5), Euclidean(x[turn]).nearest(5)
    assert torch.equal(here[0][turn], there[0])
    assert torch.equal(here[1][turn], turn[there[1]])


def test_cosine_is_the_chord() -> None:
    x = planted(60, 5)
    space = Euclidean(x, "cosine")
    unit = x / x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(all_pairs(space).square(), 2 - 2 * unit @ unit.T, rtol=1e-9, atol=1e-12)
    scaled = x * torch.logspace(-100, 100, 60, base=2, dtype=torch.float64).round()[:, None].clamp(min=1)
    order = Euclidean(scaled, "cosine").nearest(8)[1]
    assert torch.equal(order, space.nearest(8)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cosine_of_huge_and_tiny_rows(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    x = torch.tensor([[largest, largest], [1, 1], [torch.finfo(dtype).tiny / 8] * 2, [0, 3]], dtype=dtype)
    d = all_pairs(Euclidean(x, "cosine"))
    assert (d[:3, :3] <= torch.finfo(torch.float64).eps).all()  # a quotient and a root, each rounded
    torch.testing.assert_close(d[3, :3], torch.full((3,), math.sqrt(2 - math.sqrt(2)), dtype=torch.float64))


def test_refusals() -> None:
    x = torch.randn(5, 3)
    with pytest.raises(UsageError, match=r"rows must be float \(n, d\), got torch.int32 \[5, 3\]"):
        Euclidean(x.int())
    with pytest.raises(UsageError, match=r"rows must be float \(n, d\), got torch.float32 \[3\]"):
        Euclidean(x[0])
    with pytest.raises(UsageError, match="float rows have no metric 'hamming'"):
        Euclidean(x, "hamming")
    for hole in (math.nan, math.inf, -math.inf):
        broken = x.clone()
        broken[3, 1] = hole
        with pytest.raises(UsageError, match=r"in 1 of 5 rows, first in row 3"):
            Euclidean(broken)
    with pytest.raises(
        UsageError, match=r"^a row of zeros has no direction\nleave such rows out, or take euclidean$"
    ):
        Euclidean(torch.zeros(2, 3), "cosine")
    with pytest.raises(UsageError, match="square float64 does not hold"):
        Euclidean(1e200 * x.double())
    with pytest.raises(UsageError, match="5 nearest others of 5 points"):
        Euclidean(x).nearest(5)


def test_the_medoid_of_rows_is_nearest_to_their_mean() -> None:
    x = planted(70, 2).float()
    x[8] = x[20] = x[5].clone()  # ties
    labels = np.arange(70) % 3 - 1
    labels[[5, 8, 20]] = 1
    found = of_rows(x, labels)
    d = all_pairs(Euclidean(x))
    for c in range(2):
        mine = np.flatnonzero(labels == c)
        squares = d[mine][:, mine].square().sum(1)
        best = int(found.medoid[c])
        place = int(np.flatnonzero(mine == best)[0])
        assert squares[place] <= squares.min() * (1 + 1e-12)
        assert np.array_equal(found.distance[mine], d[mine, best].numpy())
        assert found.of(c)[0] == best
    only = of_rows(torch.cat([x[5:6]] * 3), np.zeros(3, np.int64))
    assert (only.medoid.tolist(), only.order.tolist()) == ([0], [0, 1, 2])


def test_progress_is_told() -> None:
    said: list[tuple[str, int, int]] = []
    Euclidean(planted(30, 0)).nearest(3, progress=lambda *of: said.append(of))
    steps = said[-1][2]  # blocks: as many as the backend takes
    assert said == [("neighbours", k + 1, steps) for k in range(steps)]
