"""hierarchy: the same on every backend and for every minimum spanning tree; hdbscan's where it is to be."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import hierarchy
from polykern_kernels._dispatch import BackendError
from tests.trees import Tree, hamming, planted_codes, prim, spread_points, tied, trees
from tests.trees import euclidean as distances_of

FIELDS = ("parent", "child", "lambda_val", "child_size")
BACKENDS = ("cpu", "reference")


def alike(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a, b, strict=True))


@settings(deadline=None, max_examples=150)
@given(st.one_of(tied(), trees(st.floats(0, 1e300))), st.booleans(), st.integers(2, 12))
def test_equals_reference(tree: Tree, multiway: bool, least: int) -> None:
    found = [hierarchy.dendrogram(*tree.edges, multiway=multiway, backend=b) for b in BACKENDS]
    assert alike(*found)
    assert torch.equal(*(hierarchy.linkage(found[0], backend=b) for b in BACKENDS))
    assert alike(*(hierarchy.condense(found[0], least, backend=b) for b in BACKENDS))


@settings(deadline=None, max_examples=100)
@given(tied(), st.integers(2, 6))
def test_one_by_one_is_hdbscan(tree: Tree, least: int) -> None:
    """Its dendrogram with ties and zeros; its condensed tree, row by row, where no weight is 0."""
    label = pytest.importorskip("hdbscan._hdbscan_linkage").label
    condense_tree = pytest.importorskip("hdbscan._hdbscan_tree").condense_tree
    if not len(tree.weight):
        return
    theirs = label(tree.sorted())
    ours = hierarchy.dendrogram(*tree.edges, multiway=False)
    assert np.array_equal(hierarchy.linkage(ours).numpy(), theirs)
    positive = Tree(tree.source, tree.target, tree.weight + 1)
    rows = hierarchy.condense(hierarchy.dendrogram(*positive.edges, multiway=False), least)
    expected = condense_tree(label(positive.sorted()), least)
    for name, column in zip(FIELDS, rows, strict=True):
        assert np.array_equal(column.numpy(), expected[name])


def splits(tree: hierarchy.Dendrogram) -> set[Any]:
    """What does not depend on the order of ids: the height and the sets of rows of every merge."""
    n = len(tree.children) - len(tree.heights) + 1
    below = [frozenset([i]) for i in range(n)]
    found = set()
    for k, height in enumerate(tree.heights.tolist()):
        parts = [below[x] for x in tree.children[tree.starts[k] : tree.starts[k + 1]].tolist()]
        below.append(frozenset().union(*parts))
        found.add((height, frozenset(parts)))
    return found


def test_without_ties_both_orders_give_the_same_merges() -> None:
    rng = np.random.default_rng(0)
    tree = prim(distances_of(rng.normal(size=(80, 3))), 1)
    weight = tree.weight + torch.arange(len(tree.weight)) * 1e-9  # two rows may share a core distance
    one, all_at_once = (hierarchy.dendrogram(tree.source, tree.target, weight, multiway=m) for m in (False, True))
    assert splits(one) == splits(all_at_once)


@settings(deadline=None, max_examples=60)
@given(tied(), st.integers(0, 2**32 - 1))
def test_the_order_of_edges_does_not_matter(tree: Tree, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert alike(hierarchy.dendrogram(*tree.edges), hierarchy.dendrogram(*tree.shuffled(rng).edges))


@settings(deadline=None, max_examples=60)
@given(tied(), st.integers(0, 2**32 - 1))
def test_the_names_of_rows_do_not_matter(tree: Tree, seed: int) -> None:
    n = len(tree.weight) + 1
    name = np.random.default_rng(seed).permutation(n)
    mine, theirs = (
        splits(hierarchy.dendrogram(*tree.edges)),
        splits(hierarchy.dendrogram(*tree.renamed(name).edges)),
    )
    assert {(h, frozenset(frozenset(name[sorted(p)].tolist()) for p in parts)) for h, parts in mine} == theirs


def test_every_minimum_spanning_tree_gives_the_same_dendrogram() -> None:
    bits, _ = planted_codes(150, bits=24, groups=4, flips=0.15)
    between = hamming(bits)
    found = [prim(between, 4, np.random.default_rng(seed)) for seed in range(6)]
    assert len({tuple(sorted(zip(t.source.tolist(), t.target.tolist(), strict=True))) for t in found}) > 1
    assert len({tuple(t.weight.sort().values.tolist()) for t in found}) == 1
    first = hierarchy.dendrogram(*found[0].edges)
    assert first.starts.diff().max() > 2
    assert all(alike(first, hierarchy.dendrogram(*t.edges)) for t in found[1:])


def test_all_edges_of_one_weight_are_one_merge() -> None:
    """0-1-2 at 1, 4-5 at 1, both and 3 at 2."""
    tree = Tree.of([1, 5, 0, 3, 2], [0, 4, 3, 4, 1], [1, 1, 2, 2, 1])
    found = hierarchy.dendrogram(*tree.edges)
    assert found.children.tolist() == [0, 1, 2, 4, 5, 6, 3, 7]
    assert found.starts.tolist() == [0, 3, 5, 8]
    assert found.heights.tolist() == [1, 1, 2]
    assert found.sizes.tolist() == [3, 2, 6]
    chained = [[0, 1, 1, 2], [6, 2, 1, 3], [4, 5, 1, 2], [7, 3, 2, 4], [9, 8, 2, 6]]
    assert hierarchy.linkage(found).tolist() == chained
    rows = hierarchy.condense(found, 2)
    assert rows.parent.tolist() == [6, 6, 6, 7, 7, 7, 8, 8]
    assert rows.child.tolist() == [7, 8, 3, 0, 1, 2, 4, 5]
    assert rows.lambdas.tolist() == [0.5] * 3 + [1.0] * 5
    assert rows.sizes.tolist() == [3, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("weights", "zero", "lambdas"),
    [
        ([0, 0, 1], 0.5, [1, 2, 2, 2]),
        ([0, 0, 3], 0.0, [1 / 3, 1 / 1.5, 1 / 1.5, 1 / 1.5]),
        ([0, 0, 0], 0.0, [1, 1, 1, 1]),
        ([0, 0, 0], 0.25, [4, 4, 4, 4]),
        ([1e-320, 1, 1], 0.0, [1, 1, 2.0**900, 2.0**900]),
        ([0, 5e-324, 1], 0.0, [1, 2.0**900, 2.0**900, 2.0**900]),
    ],
)
def test_no_lambda_is_infinite(weights: list[float], zero: float, lambdas: list[float]) -> None:
    tree = hierarchy.dendrogram(*Tree.of([0, 1, 2], [1, 2, 3], weights).edges)
    for backend in BACKENDS:
        assert sorted(hierarchy.condense(tree, 2, zero=zero, backend=backend).lambdas.tolist()) == lambdas


def test_one_row() -> None:
    for multiway in (True, False):
        tree = hierarchy.dendrogram(*Tree.of([], [], []).edges, multiway=multiway)
        assert [len(x) for x in tree] == [0, 1, 0, 0]
        assert hierarchy.linkage(tree).shape == (0, 4)
        assert [len(x) for x in hierarchy.condense(tree, 2)] == [0] * 4


@pytest.mark.parametrize("multiway", [True, False])
def test_a_chain_is_as_deep_as_it_is_long(multiway: bool) -> None:
    n = 100_000
    tree = hierarchy.dendrogram(
        torch.arange(n - 1), torch.arange(1, n), torch.arange(1, n).double(), multiway=multiway
    )
    assert torch.equal(tree.sizes, torch.arange(2, n + 1))
    rows = hierarchy.condense(tree, 5)
    assert torch.equal(rows.child[: n - 5], torch.arange(n - 1, 4, -1))
    assert bool((rows.parent == n).all())


def test_a_condensed_tree_holds_every_row_once() -> None:
    rng = np.random.default_rng(0)
    tree = hierarchy.dendrogram(*prim(distances_of(spread_points(400, rng)), 4).edges)
    rows = hierarchy.condense(tree, 8)
    points = rows.child[rows.child < 400]
    assert torch.equal(points.sort().values, torch.arange(400))
    clusters = rows.child[rows.child >= 400]
    assert torch.equal(clusters, torch.arange(401, 401 + len(clusters)))
    assert bool((rows.sizes[rows.child >= 400] >= 8).all())


def test_messages() -> None:
    one = Tree.of([0], [1], [1.0])
    with pytest.raises(ValueError, match="the edges are no spanning tree: edge 1 closes a cycle"):
        hierarchy.dendrogram(*Tree.of([0, 1], [1, 0], [1, 2]).edges)
    with pytest.raises(ValueError, match="the edges are no spanning tree: edge 0 closes a cycle"):
        hierarchy.dendrogram(*Tree.of([0], [0], [1]).edges, backend="reference")
    with pytest.raises(ValueError, match=r"target must be rows of 0 \.\.\. 1"):
        hierarchy.dendrogram(*Tree.of([0], [2], [1]).edges)
    for weight in (np.nan, np.inf, -1.0):
        with pytest.raises(ValueError, match="weights must be finite and >= 0"):
            hierarchy.dendrogram(*Tree.of([0], [1], [weight]).edges)
    with pytest.raises(ValueError, match=r"weight must be float64 \(edges\), got int64\[1\]@cpu"):
        hierarchy.dendrogram(one.source, one.target, one.source)
    with pytest.raises(ValueError, match="1 sources, 1 targets, 2 weights"):
        hierarchy.dendrogram(one.source, one.target, torch.ones(2).double())
    tree = hierarchy.dendrogram(*one.edges)
    with pytest.raises(ValueError, match="min_cluster_size must be >= 2, got 1"):
        hierarchy.condense(tree, 1)
    with pytest.raises(ValueError, match=r"zero must be 0 \.\.\. 1\.0 \(the least positive weight\), got 2\.0"):
        hierarchy.condense(tree, 2, zero=2.0)
    with pytest.raises(BackendError, match="no backend 'triton'; it has cpu, reference"):
        hierarchy.dendrogram(*one.edges, backend="triton")


def test_cost_counts_compulsory_work() -> None:
    assert hierarchy.cost(10).bytes == 1360
