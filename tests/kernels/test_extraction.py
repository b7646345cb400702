"""extraction: the same on every backend, hdbscan's without ties, and blind to the order of rows."""

import warnings
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import extraction, hierarchy
from polykern_kernels._dispatch import BackendError
from tests.trees import Tree, euclidean, hamming, planted_codes, prim, spread_points, tied, trees

BACKENDS = ("cpu", "reference")
WAYS = st.fixed_dictionaries(
    {
        "leaf": st.booleans(),
        "epsilon": st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]),
        "single": st.booleans(),
        "most": st.sampled_from([0, 3, 6, 12]),
    }
)


def condensed(tree: Tree, least: int, *, multiway: bool = True) -> hierarchy.Condensed:
    return hierarchy.condense(hierarchy.dendrogram(*tree.edges, multiway=multiway), least)


def flat(rows: hierarchy.Condensed, **how: Any) -> tuple[torch.Tensor, ...]:
    """labels, probabilities, clusters, credit."""
    found = extraction.clusters(rows)
    chosen, credit = extraction.select(found, **how)
    return *extraction.labels(rows, found, chosen, epsilon=how.get("epsilon", 0.0)), credit


@settings(deadline=None, max_examples=200)
@given(st.one_of(tied(), trees(st.floats(0, 1e300))), st.booleans(), st.integers(2, 6), WAYS)
def test_equals_reference(tree: Tree, multiway: bool, least: int, how: dict[str, Any]) -> None:
    rows = condensed(tree, least, multiway=multiway)
    results = []
    for backend in BACKENDS:
        found = extraction.clusters(rows, backend=backend)
        chosen, credit = extraction.select(found, **how, backend=backend)
        named = extraction.labels(rows, found, chosen, epsilon=how["epsilon"], backend=backend)
        results.append([*found, chosen, credit, *named, extraction.outliers(rows, found, backend=backend)])
    for mine, truth in zip(*results, strict=True):
        assert mine.dtype == truth.dtype
        assert torch.equal(mine, truth)


@settings(deadline=None, max_examples=200)
@given(tied(), st.integers(2, 4), WAYS)
def test_no_chosen_cluster_lies_in_another(tree: Tree, least: int, how: dict[str, Any]) -> None:
    """Also for clusters born at exactly epsilon."""
    found = extraction.clusters(condensed(tree, least))
    chosen, _ = extraction.select(found, **how)
    for c in chosen.nonzero()[:, 0].tolist():
        while c:
            c = int(found.above[c])
            assert not chosen[c]


def distinct_tree(seed: int, n: int = 300) -> Tree:
    """Weights that differ all, so that there is one dendrogram."""
    rng = np.random.default_rng(seed)
    tree = prim(euclidean(spread_points(n, rng)), 5)
    weight = tree.weight.numpy() + rng.permutation(n - 1) * 1e-9  # rows may share a core distance
    assert len(np.unique(weight)) == n - 1
    return Tree.of(*tree.edges[:2], weight)


@pytest.mark.parametrize("multiway", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_equals_hdbscan_without_ties(seed: int, multiway: bool) -> None:
    """Labels up to numbering; probabilities bit for bit; persistence to its float32."""
    label = pytest.importorskip("hdbscan._hdbscan_linkage").label
    named = pytest.importorskip("hdbscan.hdbscan_")._tree_to_labels
    tree = distinct_tree(seed)
    theirs = label(tree.sorted())
    several = set()
    for least, leaf, epsilon, single, most in product(
        (3, 8, 20), (False, True), (0, 0.7, 2.0), (False, True), (0, 40)
    ):
        rows = condensed(tree, least, multiway=multiway)
        labels, strength, nodes, credit = (
            x.numpy() for x in flat(rows, leaf=leaf, epsilon=epsilon, single=single, most=most)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            method = "leaf" if leaf else "eom"
            expected = named(None, theirs, least, method, single, False, epsilon, 0.0, most)
        assert np.array_equal(strength, expected[1])
        pairs = sorted(set(zip(labels.tolist(), expected[0].tolist(), strict=True)))
        assert [a for a, _ in pairs] == sorted(set(labels.tolist()))
        assert len({b for _, b in pairs}) == len(pairs)
        assert all((a < 0) == (b < 0) for a, b in pairs)
        size = np.bincount(labels[labels >= 0], minlength=len(nodes))
        persistence = credit[nodes] / (size * rows.lambdas.max().item())
        assert np.allclose(persistence, expected[2][[b for a, b in pairs if a >= 0]], rtol=1e-5)
        several.add(len(nodes))
    assert len(several) > 4


@pytest.mark.parametrize("seed", range(4))
def test_scores_and_stabilities_are_those_of_hdbscan(seed: int) -> None:
    label = pytest.importorskip("hdbscan._hdbscan_linkage").label
    of_trees = pytest.importorskip("hdbscan._hdbscan_tree")
    tree = distinct_tree(seed)
    expected = of_trees.condense_tree(label(tree.sorted()), 5)
    rows = condensed(tree, 5)
    found = extraction.clusters(rows)
    scores = extraction.outliers(rows, found).numpy()
    assert np.array_equal(scores, of_trees.outlier_scores(expected))
    assert 0 == scores.min() < scores.max() < 1
    stabilities = of_trees.compute_stability(expected)
    one_by_one = extraction.clusters(condensed(tree, 5, multiway=False)).stability
    assert np.allclose(one_by_one.numpy(), [stabilities[c] for c in sorted(stabilities)], rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", [{}, {"leaf": True}, {"epsilon": 8.0}, {"most": 60}, {"single": True}])
def test_twenty_orders_of_tied_rows_give_one_answer(seed: int, how: dict[str, Any]) -> None:
    """Distances of a few bits; another spanning tree each time. Bit for bit, up to the numbers of clusters."""
    bits, _ = planted_codes(240, bits=40, groups=5, flips=0.12, seed=seed)
    rng = np.random.default_rng(seed)
    between = hamming(bits)
    answers = set()
    for _ in range(20):
        order = rng.permutation(len(bits))
        rows = condensed(prim(between[np.ix_(order, order)], 5, rng), 6)
        found = extraction.clusters(rows)
        labels, strength, _, _ = flat(rows, **how)
        back = np.argsort(order)
        scores = extraction.outliers(rows, found).numpy()[back]
        named = canonical(labels.numpy()[back])
        answers.add((named.tobytes(), strength.numpy()[back].tobytes(), scores.tobytes(), of_stability(found)))
        groups = len(set(named.tolist()))
        assert groups > 2 or "single" in how
    assert len(answers) == 1


def of_stability(found: extraction.Clusters) -> tuple[float, ...]:
    return tuple(found.stability.sort().values.tolist())


def canonical(labels: np.ndarray) -> np.ndarray:
    """Numbered by first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    named = np.argsort(np.argsort(first))[inverse]
    return np.where(labels < 0, -1, named)


def test_clusters_are_numbered_by_size_then_by_smallest_row() -> None:
    """5-6-7 and 2-3-4 and 0-1-8-9, each at its own height, joined far away."""
    tree = Tree.of([5, 6, 2, 3, 0, 1, 8, 5, 2], [6, 7, 3, 4, 1, 8, 9, 2, 0], [1, 1, 2, 2, 3, 3, 3, 9, 9])
    labels, strength, nodes, _ = flat(condensed(tree, 3))
    assert labels.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 0, 0]
    assert strength.tolist() == [1.0] * 10
    assert sorted(nodes.tolist()) == [1, 2, 3]


def test_the_whole_is_a_cluster_only_when_asked() -> None:
    tree = Tree.of([0, 1, 2, 3], [1, 2, 3, 4], [1, 1, 1, 4])
    rows = condensed(tree, 2)
    assert flat(rows)[0].tolist() == [-1] * 5
    assert flat(rows, single=True)[0].tolist() == [0, 0, 0, 0, -1]
    assert flat(rows, single=True, epsilon=4.0)[0].tolist() == [0] * 5
    assert flat(rows, single=True, epsilon=0.5)[0].tolist() == [-1] * 5
    assert flat(rows, single=True, epsilon=0.5)[2].tolist() == []


def test_epsilon_keeps_what_is_born_at_it() -> None:
    """Two pairs split at 4 inside a group that splits from another at 8."""
    tree = Tree.of([0, 2, 0, 4, 4], [1, 3, 2, 5, 0], [1, 1, 4, 1, 8])
    rows = condensed(tree, 2)
    for epsilon, expected in ((3.0, 3), (4.0, 3), (4.5, 2), (8.0, 2), (9.0, 2)):
        assert len(flat(rows, leaf=True, epsilon=epsilon)[2]) == expected
    assert len(flat(rows, leaf=True, epsilon=9.0, single=True)[2]) == 1


def test_equal_stability_goes_to_the_parent() -> None:
    """0-1-2-3 is born at lambda 1/4 and splits at 1/2 in pairs that end at 3/4: 4/4 above, 2/4 + 2/4 below."""
    tree = Tree.of([0, 2, 0, 4, 5, 6, 0], [1, 3, 2, 5, 6, 7, 4], [4 / 3, 4 / 3, 2, 1, 1, 1, 4])
    found = extraction.clusters(condensed(tree, 2))
    chosen, credit = extraction.select(found)
    assert found.above.tolist() == [-1, 0, 0, 1, 1]
    assert found.stability[1:].tolist() == [1.0, 3.0, 0.5, 0.5]
    assert chosen.tolist() == [False, True, True, False, False]
    assert credit[1:].tolist() == [1.0, 3.0, 0.5, 0.5]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sum_of_stabilities_does_not_depend_on_the_order_of_clusters(backend: str) -> None:
    """0.1 + 0.2 + 0.3 is more than 0.6 in float64, 0.3 + 0.2 + 0.1 is not."""
    answers = set()
    for parts in permutations((0.1, 0.2, 0.3)):
        stability = torch.tensor([0.0, 0.6, *parts], dtype=torch.float64)
        above, sizes = torch.tensor([-1, 0, 1, 1, 1]), torch.tensor([40, 35, 10, 10, 10])
        found = extraction.Clusters(above, torch.zeros(5).double(), torch.ones(5).double(), stability, sizes)
        chosen, credit = extraction.select(found, backend=backend)
        answers.add((tuple(chosen.tolist()), credit[1].item()))
    assert len(answers) == 1


def test_one_row() -> None:
    rows = condensed(Tree.of([], [], []), 2)
    labels, strength, nodes, _ = flat(rows, single=True)
    assert (labels.tolist(), strength.tolist(), nodes.tolist()) == ([-1], [0.0], [])
    assert extraction.outliers(rows, extraction.clusters(rows)).tolist() == [0.0]


def test_messages() -> None:
    found = extraction.clusters(condensed(Tree.of([0], [1], [1.0]), 2))
    with pytest.raises(ValueError, match=r"epsilon and most must be >= 0, got -1\.0, 0"):
        extraction.select(found, epsilon=-1.0)
    with pytest.raises(BackendError, match="no backend 'triton'; it has cpu, reference"):
        extraction.select(found, backend="triton")


def test_cost_counts_compulsory_work() -> None:
    assert extraction.cost(10).bytes == 560
