"""forest: all backends agree, on any multigraph; Kruskal's forest is the lightest; Boruvka's scans are exact."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polykern_kernels import BackendError, forest

KINDS = (torch.int32, torch.float64)


def every(operation: Any, *args: Any) -> Any:
    """The reference's answer, which is that of every backend."""
    truths = operation(*args, backend="reference")
    for way in forest.IMPLS[operation.__name__]:
        found = operation(*args, backend=way.name)
        pairs = zip(found, truths, strict=True) if isinstance(truths, tuple) else [(found, truths)]
        for mine, truth in pairs:
            assert mine.dtype == truth.dtype, way.name
            assert torch.equal(mine, truth), way.name
    return truths


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Tensor, Tensor, Tensor]:
    """n and edges with few different weights; loops and parallel edges among them."""
    n = draw(st.integers(1, 12))
    edge = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(0, 4))
    edges = draw(st.lists(edge, max_size=30))
    source, target, weight = (torch.tensor([e[k] for e in edges], dtype=torch.int64) for k in range(3))
    return n, source, target, weight.to(draw(st.sampled_from(KINDS)))


def pieces(n: int, source: Tensor, target: Tensor) -> int:
    """How many components edges leave."""
    seen = {frozenset([i]) for i in range(n)}
    for i, j in zip(source.tolist(), target.tolist(), strict=True):
        joined = frozenset().union(*(c for c in seen if i in c or j in c))
        seen = {c for c in seen if not c & joined} | {joined}
    return len(seen)


@given(graphs())
@settings(deadline=None, max_examples=60)
def test_spanning_is_a_lightest_forest(graph: tuple[int, Tensor, Tensor, Tensor]) -> None:
    n, source, target, weight = graph
    kept = every(forest.spanning, n, source, target, weight)
    assert len(kept) == n - pieces(n, source, target)
    assert pieces(n, source[kept], target[kept]) == pieces(n, source, target)
    assert torch.equal(weight[kept], weight[kept].sort().values)
    for light in weight.unique():  # the same components at every weight
        some, chosen = weight <= light, kept[weight[kept] <= light]
        assert pieces(n, source[some], target[some]) == pieces(n, source[chosen], target[chosen])


def test_of_equal_weights_the_first_edge_is_kept() -> None:
    ends = torch.tensor([0, 0, 1]), torch.tensor([1, 1, 2])
    assert every(forest.spanning, 3, *ends, torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)).tolist() == [2, 0]


@pytest.mark.parametrize("top", [3, 1 << 16, 1 << 20])
def test_small_integers_are_sorted_by_digits_alike(top: int, rng: torch.Generator) -> None:
    source, target = torch.randint(0, 60, (2, 200), generator=rng)
    weight = torch.randint(-1 if top == 3 else 0, top, (200,), generator=rng, dtype=torch.int32)
    every(forest.spanning, 60, source, target, weight)


@given(graphs(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_join_numbers_components_by_their_first_points(
    graph: tuple[int, Tensor, Tensor, Tensor], random: Any
) -> None:
    n, source, target, _ = graph
    before = torch.tensor([random.randrange(n) for _ in range(n)])
    kept, after = every(forest.join, before, source, target)
    assert after.unique().tolist() == list(range(int(after.max()) + 1))
    assert (np.diff([after.tolist().index(c) for c in range(int(after.max()) + 1)]) > 0).all()
    assert (after[source] == after[target]).all()
    assert int(after.max()) + 1 == len(before.unique()) - int(kept.sum())


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_least_is_the_least_edge_of_a_component(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 10))
    components, weights, indices = (
        torch.tensor(data.draw(st.lists(st.integers(low, high), min_size=n, max_size=n)))
        for low, high in ((0, n - 1), (0, 2), (-1, n - 1))
    )
    rows = every(forest.least, components, weights.int(), indices)
    assert torch.equal(rows, forest.least(components, weights.double(), indices))
    for c in range(n):
        edges = [
            (int(weights[i]), min(i, int(indices[i])), max(i, int(indices[i])), i)
            for i in range(n)
            if components[i] == c and indices[i] >= 0
        ]
        assert int(rows[c]) == min(edges, default=(-1,))[-1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "k"), [(1, 0), (2, 1), (40, 5), (40, 39)])
def test_listed_is_the_least_foreign_edge_of_a_list(
    n: int, k: int, kind: torch.dtype, rng: torch.Generator
) -> None:
    d = torch.randint(0, 9, (n, n), generator=rng)
    near, order = (d + d.T).to(kind).sort(dim=1, stable=True)
    cores = torch.randint(0, 14, (n,), generator=rng).to(kind)
    for components in (
        torch.arange(n),
        torch.randint(0, 3, (n,), generator=rng),
        torch.zeros(n, dtype=torch.int64),
    ):
        given_lists = near[:, :k].contiguous(), order[:, :k].contiguous(), cores, components
        theirs = forest.listed(*given_lists, backend="reference")
        for way in forest.IMPLS["listed"]:
            ours = forest.listed(*given_lists, backend=way.name)
            assert torch.equal(ours[1], theirs[1]), way.name
            found = ours[1] >= 0
            assert torch.equal(ours[0][found], theirs[0][found]), way.name


@pytest.mark.parametrize("backend", ["cpu", "torch", pytest.param("device", marks=pytest.mark.gpu)])
def test_rounds_of_boruvka_make_the_tree_of_kruskal(backend: str, rng: torch.Generator) -> None:
    """On a complete graph, where every row knows all others."""
    where, name = ("cuda", None) if backend == "device" else ("cpu", backend)
    if where == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    n = 30
    d = torch.randint(1, 6, (n, n), generator=rng, dtype=torch.int32)
    d = torch.minimum(d, d.T)
    d.fill_diagonal_(0)
    near, order = d.sort(dim=1, stable=True)
    components, total, left = torch.arange(n, device=where), 0, n
    near, order, cores = near.to(where), order.to(where), torch.zeros(n, dtype=torch.int32, device=where)
    while left > 1:
        weights, points = forest.listed(near, order, cores, components, backend=name)
        rows = forest.least(components, weights, points, backend=name)[:left]
        kept, components = forest.join(components, rows, points[rows], backend=name)
        total += int(weights[rows[kept]].sum())
        left -= int(kept.sum())
    pairs = torch.tensor(list(itertools.combinations(range(n), 2)))
    weight = d[pairs[:, 0], pairs[:, 1]]
    kept = forest.spanning(n, pairs[:, 0].clone(), pairs[:, 1].clone(), weight)
    assert total == int(weight[kept].sum())


def test_refusals() -> None:
    ends, weight = torch.tensor([0, 3]), torch.zeros(2, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"spanning: source must lie in 0 .. 2, got 0 .. 3"):
        forest.spanning(3, ends, ends, weight)
    with pytest.raises(ValueError, match=r"weight must be int32\|float64 \(edges\), got int64\[2\]@cpu"):
        forest.spanning(4, ends, ends, weight.long())
    with pytest.raises(ValueError, match=r"weight must be int32\|float64\[2\], got int32\[1\]@cpu"):
        forest.spanning(4, ends, ends, weight[:1])
    with pytest.raises(ValueError, match=r"join: components must lie in 0 .. 1, got 0 .. 3"):
        forest.join(ends, ends[:0], ends[:0])
    with pytest.raises(ValueError, match=r"least: indices must be int64\[2\]"):
        forest.least(torch.zeros(2, dtype=torch.int64), weight, ends[:1])
    with pytest.raises(ValueError, match=r"listed: cores must be int32\[1\], got float64\[1\]@cpu"):
        forest.listed(weight[None], ends[None], torch.zeros(1, dtype=torch.float64), ends[:1])
    with pytest.raises(BackendError, match="no backend 'triton'; it has cpu, reference"):
        forest.spanning(4, ends, ends, weight, backend="triton")


def test_cost_counts_compulsory_bytes() -> None:
    assert forest.cost(3, 5).bytes == 24 * 5 + 16
