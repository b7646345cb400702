"""Purity and its baselines: tables known by hand, planted truth, shuffled labels at their baseline, seeds."""

import json
import math

import numpy as np
import pytest

from polykern.errors import UsageError
from polykern.scores import purity
from polykern.scores.baselines import MEASURES, Interval, monosemanticity


def test_a_table_known_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1, -1, 2, 2]
    classes = ["a", "a", "b", "a", "c", "b", "a", "c", "c"]
    found = purity.of_clusters(labels, classes)
    assert found.size.tolist() == [4, 2, 2]
    assert found.purity.tolist() == [0.75, 0.5, 1.0]
    assert found.entropy.tolist() == [pytest.approx(2 - 0.75 * math.log2(3)), 1.0, 0.0]
    assert found.majority.tolist() == ["a", "b", "c"]  # of equal counts the smaller
    assert (found.noise, found.clusters) == (1 / 9, 3)
    assert found.summary() == {
        "mean_purity": 0.75, "weighted_purity": (3 + 1 + 2) / 8, "pure_clusters": 1 / 3,
        "mean_entropy": pytest.approx((3 - 0.75 * math.log2(3)) / 3), "noise": 1 / 9,
    }  # fmt: skip
    assert found.summary(pure=0.75)["pure_clusters"] == 2 / 3
    assert json.loads(json.dumps(found.as_dict()))["summary"]["weighted_purity"] == 0.75


def test_no_clusters_and_labels_without_rows() -> None:
    assert math.isnan(purity.of_clusters([-1, -1], [1, 2]).summary()["mean_purity"])
    assert purity.of_clusters([], []).noise == 0
    found = purity.of_clusters([0, 2], [7, 7])
    assert math.isnan(found.purity[1])
    assert found.summary()["mean_purity"] == 1
    assert found.as_dict()["purity"] == [1.0, None, 1.0]


def test_equal_to_sklearn_s_contingency(rng_numpy: np.random.Generator) -> None:
    from sklearn.metrics.cluster import contingency_matrix

    labels, classes = rng_numpy.integers(0, 9, 500), rng_numpy.integers(-3, 20, 500) * 10**9
    cells = contingency_matrix(labels, classes)
    found = purity.of_clusters(labels, classes)
    assert found.purity.tolist() == (cells.max(1) / cells.sum(1)).tolist()


def test_shuffled_labels_score_as_the_baseline(rng_numpy: np.random.Generator) -> None:
    classes = rng_numpy.integers(0, 6, 3000)
    labels = rng_numpy.integers(-1, 40, 3000)
    found = monosemanticity(labels, classes, repeats=60)
    for measure in found.measures.values():
        for baseline in measure.baselines.values():
            spread = max(baseline.high - baseline.low, 1e-12)
            assert baseline.low - spread <= measure.value <= baseline.high + spread


def test_planted_truth_is_far_from_its_baselines(rng_numpy: np.random.Generator) -> None:
    classes = rng_numpy.integers(0, 20, 2000)
    labels = np.where(rng_numpy.random(2000) < 0.2, -1, classes)
    found = monosemanticity(labels, classes, repeats=30)
    purities = found.measures["mean_purity"]
    assert (purities.value, purities.interval) == (1.0, Interval(1.0, 1.0, 1.0))
    assert found.measures["pure_clusters"].value == 1
    assert found.measures["mean_entropy"].value == 0
    for baseline in purities.baselines.values():
        assert baseline.high < 0.25
    assert found.clusters == 20
    assert found.noise == (labels < 0).mean()


def test_random_clusters_are_drawn_from_noise_too() -> None:
    """Clusters are all of one class, noise of another: only the first baseline knows that."""
    labels = np.repeat([0, 1, -1], [10, 10, 80])
    found = monosemanticity(labels, labels >= 0, repeats=40).measures["mean_purity"]
    assert found.baselines["shuffled classes"] == Interval(1.0, 1.0, 1.0)
    assert found.baselines["random clusters"].low < 0.95


def test_random_clusters_of_one_row_are_pure() -> None:
    """What purity owes to small clusters alone."""
    found = monosemanticity(np.arange(50), np.arange(50), repeats=5)
    assert found.measures["mean_purity"].baselines["shuffled classes"].mean == 1


def test_seeds(rng_numpy: np.random.Generator) -> None:
    labels, classes = rng_numpy.integers(-1, 9, 300), rng_numpy.integers(0, 5, 300)
    one, two, other = (monosemanticity(labels, classes, repeats=20, seed=s) for s in (3, 3, 4))
    assert one == two
    assert one.measures["mean_purity"].baselines != other.measures["mean_purity"].baselines
    assert one.measures["mean_purity"].value == other.measures["mean_purity"].value


def test_the_report_can_draw_it(rng_numpy: np.random.Generator) -> None:
    found = monosemanticity([0, 0, 1, 1, -1], ["x", "x", "y", "x", "y"], repeats=3).as_dict()
    found = json.loads(json.dumps(found))
    assert set(found) == {*MEASURES, "noise", "settings"}
    for name in MEASURES:
        assert set(found[name]["baselines"]) == {"shuffled classes", "random clusters"}
        for baseline in (*found[name]["baselines"].values(), found[name]["interval"]):
            assert baseline["low"] <= baseline["mean"] <= baseline["high"]


def test_messages() -> None:
    with pytest.raises(UsageError, match=r"labels are integers >= -1 \(n\), got float64 \[2\]"):
        purity.of_clusters([0.0, 1.0], [0, 1])
    with pytest.raises(UsageError, match=r"labels are integers >= -1"):
        purity.of_clusters([-2], [0])
    with pytest.raises(UsageError, match="3 labels for 2 rows"):
        purity.of_clusters([0, 1], [0, 1, 1])
    with pytest.raises(UsageError, match=r"classes are numbers or strings \(n\), got float64"):
        purity.of_clusters([0], [math.nan])
    with pytest.raises(UsageError, match="there are no clusters to score"):
        monosemanticity([-1], [0])
    with pytest.raises(UsageError, match="at least one repeat is needed, got 0"):
        monosemanticity([0], [0], repeats=0)
