"""Rows to clusters: equal to hdbscan where the answer is one, the same for every order of rows where it is many."""

import sys
from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hdbscan import HDBSCAN as Theirs
from hdbscan._hdbscan_tree import outlier_scores
from sklearn.cluster import HDBSCAN as Sklearns
from sklearn.metrics import adjusted_rand_score

from polykern.clustering import exports
from polykern.clustering.dendrogram import ROW, condense, dendrogram, spanning_edges
from polykern.clustering.estimator import HDBSCAN
from polykern.clustering.exports import MinimumSpanningTree
from polykern.clustering.selection import select
from polykern.errors import MissingExtra, UsageError
from tests.trees import euclidean, hamming, planted_codes, prim, spread_points

mpl.use("Agg")
peer: Any = Sklearns  # its annotations leave some of its values out


# --- the package hdbscan ---------------------------------------------------------------------------


@pytest.mark.parametrize("tie_order", ["multiway", "hdbscan"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_hdbscan_where_no_distances_are_tied(seed: int, tie_order: str) -> None:
    """With min_samples=1 mutual reachability is the distance: as many different weights as edges."""
    points = spread_points(300, np.random.default_rng(seed))
    between = euclidean(points)
    found = set()
    for method, epsilon, single, most in product(("eom", "leaf"), (0.0, 0.6), (False, True), (0, 30)):
        how: dict[str, Any] = {
            "min_cluster_size": 8, "min_samples": 1, "cluster_selection_method": method,
            "cluster_selection_epsilon": epsilon, "allow_single_cluster": single, "max_cluster_size": most,
        }  # fmt: skip
        ours = HDBSCAN(metric="euclidean", tie_order=tie_order, **how).fit(points)
        theirs = Theirs(metric="precomputed", **how).fit(between)
        assert adjusted_rand_score(ours.labels_, theirs.labels_) == 1
        assert np.array_equal(ours.labels_ < 0, theirs.labels_ < 0)
        assert np.allclose(ours.probabilities_, theirs.probabilities_, rtol=1e-12)
        assert np.allclose(ours.outlier_scores_, theirs.outlier_scores_, rtol=1e-12, atol=1e-12)
        found.add(int(ours.labels_.max()))
    assert len(found) > 3


def test_the_core_distance_does_not_count_the_row_itself() -> None:
    """hdbscan's convention; scikit-learn's min_samples is one more."""
    bits, _ = planted_codes(120, bits=64, groups=4)
    between = hamming(bits)
    ours = HDBSCAN(8, 3).fit(bits)
    assert np.array_equal(ours.core_distances_, np.sort(between, 1)[:, 3])
    theirs = peer(8, min_samples=4, metric="precomputed", copy=True).fit(between)
    assert ours.minimum_spanning_tree_.weight.sum() == theirs._single_linkage_tree_["value"].sum()


# --- ties -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["eom", "leaf"])
def test_twenty_orders_of_rows_give_the_same_clusters(method: str) -> None:
    """Codes of 48 bits: few different distances, some rows equal."""
    bits, _ = planted_codes(400, bits=48, groups=6, flips=0.15)
    bits[390:] = bits[:10]
    rng = np.random.default_rng(0)
    first = HDBSCAN(8, 5, cluster_selection_method=method).fit(bits)
    assert first.labels_.max() >= 2
    assert len(np.unique(first.minimum_spanning_tree_.weight)) < 25
    for _ in range(20):
        order = rng.permutation(len(bits))
        again = HDBSCAN(8, 5, cluster_selection_method=method).fit(bits[order])
        pairs = set(zip(first.labels_[order].tolist(), again.labels_.tolist(), strict=True))
        assert len(pairs) == first.labels_.max() + 2
        assert (-1, -1) in pairs
        assert np.array_equal(first.probabilities_[order], again.probabilities_)
        assert np.array_equal(first.outlier_scores_[order], again.outlier_scores_)
        assert np.array_equal(np.sort(first.cluster_persistence_), np.sort(again.cluster_persistence_))


def test_hdbscan_itself_depends_on_the_order_of_rows() -> None:
    """Why ties are merged at once: the test above would notice."""
    bits, _ = planted_codes(400, bits=48, groups=6, flips=0.15)
    between = hamming(bits)
    order = np.random.default_rng(0).permutation(400)
    one = Theirs(8, min_samples=5, metric="precomputed").fit(between)
    other = Theirs(8, min_samples=5, metric="precomputed").fit(np.ascontiguousarray(between[np.ix_(order, order)]))
    assert adjusted_rand_score(one.labels_[order], other.labels_) < 0.99


# --- planted clusters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "least", "flips", "peer_at_most"),
    [
        (2000, 15, 0.1, 0.95),
        (2000, 15, 0.35, 0.8),
        (2000, 50, 0.3, 0.95),
        pytest.param(5000, 15, 0.3, 0.8, marks=pytest.mark.slow),
        pytest.param(5000, 50, 0.3, 0.8, marks=pytest.mark.slow),
    ],
)
def test_planted_clusters_are_found(n: int, least: int, flips: float, peer_at_most: float) -> None:
    """20 groups of 3,072-bit codes and a fifth noise; scikit-learn splits them where distances are tied."""
    bits, group = planted_codes(n, flips=flips)
    ours = HDBSCAN(least).fit(bits)
    theirs = peer(least, metric="precomputed", copy=True).fit(hamming(bits))
    scores = [float(adjusted_rand_score(group, labels)) for labels in (ours.labels_, theirs.labels_)]
    found = ours.labels_.max() + 1, theirs.labels_.max() + 1
    print(f"n {n}, least {least}, flips {flips}: ARI {scores[0]:.3f} against {scores[1]:.3f}, clusters {found}")
    assert found[0] == 20
    assert scores[0] >= 0.98
    assert scores[1] <= peer_at_most


def test_groups_inside_groups() -> None:
    """6 groups of 8 each: leaves are the small ones; a larger min_cluster_size finds the large ones."""
    rng = np.random.default_rng(0)
    outer = np.repeat(np.arange(6), 240)
    inner = np.repeat(np.arange(48), 30)
    centres = rng.random((6, 2048)) < 0.5
    parts = centres[np.arange(48) // 8] ^ (rng.random((48, 2048)) < 0.12)
    bits = parts[inner] ^ (rng.random((1440, 2048)) < 0.05)
    fitted = HDBSCAN(12, 6).fit(bits)
    fine = fitted.relabelled(cluster_selection_method="leaf")
    coarse = fitted.relabelled(min_cluster_size=100)
    assert adjusted_rand_score(inner, fine.labels_) > 0.99
    assert adjusted_rand_score(outer, coarse.labels_) > 0.99


def test_equal_rows_are_together() -> None:
    """As often as they occur: 3 codes, 40 times each, are 3 clusters of zero distance, and nothing is infinite."""
    bits = np.repeat(np.eye(3, 64, dtype=bool) ^ np.tri(3, 64, 5, dtype=bool), 40, axis=0)
    fitted = HDBSCAN(10).fit(bits)
    assert fitted.labels_.tolist() == [0] * 40 + [1] * 40 + [2] * 40
    assert fitted.probabilities_.tolist() == [1.0] * 120
    assert fitted.outlier_scores_.tolist() == [0.0] * 120
    assert fitted.condensed_tree_.to_numpy()["lambda_val"].max() == 2.0


# --- trees of others ----------------------------------------------------------------------------------


def test_edges_may_come_from_elsewhere() -> None:
    tree = prim(hamming(planted_codes(200, bits=128, groups=4)[0]), 5)
    given = spanning_edges(tree.source.tolist(), tree.target.numpy(), tree.weight)
    mine, theirs = (condense(dendrogram(edges), 10, zero=0.5) for edges in (tree, given))
    assert np.array_equal(mine.to_numpy(), theirs.to_numpy())
    assert select(mine).labels.max() == 3
    backends = [select(mine, backend=b) for b in ("cpu", "reference")]
    assert np.array_equal(backends[0].labels, backends[1].labels)
    assert (select(mine).selected >= 200).all()


def test_arguments_that_do_not_fit() -> None:
    tree = spanning_edges([0, 1], [1, 2], [1.0, 2.0])
    with pytest.raises(UsageError, match="no tie_order 'multi'\ndid you mean 'multiway'"):
        dendrogram(tree, tie_order="multi")
    with pytest.raises(UsageError, match="no spanning tree: edge 1 closes a cycle"):
        dendrogram(spanning_edges([0, 0], [1, 1], [1.0, 2.0]))
    merged = dendrogram(tree)
    with pytest.raises(UsageError, match="min_cluster_size must be >= 2"):
        condense(merged, 1)
    with pytest.raises(UsageError, match=r"zero must be 0 \.\.\. 1\.0"):
        condense(merged, 2, zero=3.0)
    with pytest.raises(UsageError, match="no cluster_selection_method 'eon'\ndid you mean 'eom'"):
        select(condense(merged, 2), method="eon")
    with pytest.raises(UsageError, match="max_cluster_size must be >= 0"):
        select(condense(merged, 2), max_cluster_size=-1)
    with pytest.raises(UsageError, match="cluster_selection_epsilon must be >= 0"):
        select(condense(merged, 2), cluster_selection_epsilon=np.nan)


# --- plots and tables of others -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tied() -> tuple[HDBSCAN, np.ndarray]:
    """A clustering with a split in five: groups of 16 bits of their own, of which each member lacks one or two."""
    rng = np.random.default_rng(0)
    bits = np.eye(5, dtype=bool).repeat(16, 1).repeat([20, 30, 40, 50, 60], 0)
    group = np.arange(5).repeat([20, 30, 40, 50, 60])
    bits[np.arange(200)[:, None], 16 * group[:, None] + rng.integers(0, 16, (200, 2))] = False
    fitted = HDBSCAN(10, 4).fit(bits)
    splits = fitted.condensed_tree_.to_numpy()
    splits = splits[splits["child"] >= 200]
    assert np.bincount(splits["parent"] - 200).max() > 2
    return fitted, bits


def test_hdbscan_draws_our_trees(tied: tuple[HDBSCAN, np.ndarray]) -> None:
    from matplotlib import pyplot as plt

    fitted, bits = tied
    fitted.condensed_tree_.hdbscan().plot(select_clusters=True)
    fitted.single_linkage_tree_.hdbscan().plot()
    fitted.minimum_spanning_tree_.hdbscan(bits.astype(float)).plot()
    drawn = fitted.condensed_tree_.hdbscan().get_plot_data()
    assert np.isfinite(drawn["bar_tops"]).all()
    plt.close("all")


def test_splits_in_two_hold_the_same_points(tied: tuple[HDBSCAN, np.ndarray]) -> None:
    """Every row leaves at its lambda from a cluster of the same rows; hdbscan's scores of it are ours."""
    fitted, _ = tied
    wide = fitted.condensed_tree_.to_numpy()
    narrow = exports.in_twos(wide, 200)
    splits = narrow[narrow["child"] >= 200]
    assert set(np.bincount(splits["parent"] - 200).tolist()) <= {0, 2}
    assert np.array_equal(outlier_scores(narrow), fitted.outlier_scores_)
    held = np.bincount(narrow["parent"][narrow["child"] < 200] - 200, minlength=len(splits) + 1)
    for row in splits[np.argsort(-splits["child"])]:  # children before parents
        assert row["child_size"] == held[row["child"] - 200]
        held[row["parent"] - 200] += row["child_size"]
    for tree in (wide, narrow):
        points = tree[tree["child"] < 200]
        assert np.array_equal(np.sort(points["child"]), np.arange(200))
    by_row = [t[t["child"] < 200][np.argsort(t[t["child"] < 200]["child"])] for t in (wide, narrow)]
    assert np.array_equal(by_row[0]["lambda_val"], by_row[1]["lambda_val"])
    pairs = set(zip(by_row[0]["parent"].tolist(), by_row[1]["parent"].tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_a_tree_of_splits_in_two_keeps_its_clusters() -> None:
    tree = prim(euclidean(spread_points(200, np.random.default_rng(3))), 1)
    rows = condense(dendrogram(tree, tie_order="hdbscan"), 5).to_numpy()
    assert np.array_equal(exports.in_twos(rows, 200), rows)
    few = condense(dendrogram(tree), 150).to_numpy()
    assert np.array_equal(exports.in_twos(few, 200), few)


def test_a_split_in_three_above_a_split_in_two() -> None:
    """10 splits in 11, 12, 13; then 12 in 14, 15."""
    splits = [(10, 11, 1.0, 3), (10, 12, 1.0, 5), (10, 13, 1.0, 2), (12, 14, 2.0, 3), (12, 15, 2.0, 2)]
    places = [11] * 3 + [14] * 3 + [15] * 2 + [13] * 2
    wide = np.array([*splits, *((p, i, 4.0, 1) for i, p in enumerate(places))], ROW)
    narrow = exports.in_twos(wide, 10)
    halves = [
        (10, 11, 1.0, 8),
        (10, 12, 1.0, 2),
        (11, 13, 1.0, 3),
        (11, 14, 1.0, 5),
        (14, 15, 2.0, 3),
        (14, 16, 2.0, 2),
    ]
    assert narrow[narrow["child"] >= 10].tolist() == halves
    points = np.sort(narrow[narrow["child"] < 10], order="child")
    assert points["parent"].tolist() == [13] * 3 + [15] * 3 + [16] * 2 + [12] * 2


def test_a_weight_of_0_is_drawn_as_half_of_the_least_other() -> None:
    edges = spanning_edges([0, 1, 2], [1, 2, 3], [0.0, 50.0, 80.0])
    assert MinimumSpanningTree.of(edges, 0.0).zero == 25.0
    assert MinimumSpanningTree.of(edges, 0.5).zero == 0.5
    assert MinimumSpanningTree.of(spanning_edges([0], [1], [0.0]), 0.0).zero > 0


def test_tables(tied: tuple[HDBSCAN, np.ndarray]) -> None:
    fitted, _ = tied
    linkage = fitted.single_linkage_tree_.to_numpy()
    assert linkage.shape == (199, 4)
    assert linkage[-1, 3] == 200
    edges = fitted.minimum_spanning_tree_.to_numpy()
    assert edges.shape == (199, 3)
    assert np.array_equal(np.sort(edges[:, 2]), linkage[:, 2])
    assert fitted.minimum_spanning_tree_.zero == 0.5


@pytest.mark.parametrize(
    ("package", "what"),
    [("hdbscan", lambda tree: tree.hdbscan()), ("pandas", lambda tree: tree.to_pandas())],
)
def test_a_missing_package_is_named(
    tied: tuple[HDBSCAN, np.ndarray], package: str, what: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (package, f"{package}.plots"):
        monkeypatch.setitem(sys.modules, name, None)
    for tree in (tied[0].condensed_tree_, tied[0].single_linkage_tree_):
        with pytest.raises(MissingExtra, match=f"need the package {package}\npip install {package}") as caught:
            what(tree)
        assert caught.value.exit_code == 5


def test_tables_of_pandas(tied: tuple[HDBSCAN, np.ndarray]) -> None:
    pytest.importorskip("pandas")
    fitted, _ = tied
    assert list(fitted.condensed_tree_.to_pandas().columns) == ["parent", "child", "lambda_val", "child_size"]
    assert len(fitted.single_linkage_tree_.to_pandas()) == 199
    assert list(fitted.minimum_spanning_tree_.to_pandas().columns) == ["from", "to", "distance"]


def test_a_tree_is_read_alike_from_any_float(tied: tuple[HDBSCAN, np.ndarray]) -> None:
    """int32 weights of codes and their float64."""
    mst = tied[0].minimum_spanning_tree_
    whole = spanning_edges(mst.source, mst.target, torch.from_numpy(mst.weight).int())
    assert np.array_equal(condense(dendrogram(whole), 10, zero=0.5).to_numpy(), tied[0].condensed_tree_.to_numpy())
