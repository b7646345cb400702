"""Intervals hold the truth as often as they say, tests equal SciPy's, groups are drawn whole."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from polykern.errors import UsageError
from polykern.statistics import auroc, bootstrap, jackknife, mean, pearson, spearman, welch, wilcoxon


def _statistic(found: Any) -> float:
    return float(found.statistic)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = [mean(rng.exponential(size=80), level=0.9, resamples=400, seed=k) for k in range(300)]
    share = np.mean([e.low <= 1 <= e.high for e in held])
    assert 0.82 < share < 0.95


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    x = np.random.default_rng(1).normal(size=50)
    assert mean(x, seed=3) == mean(x, seed=3) != mean(x, seed=4)


def test_groups_are_drawn_whole() -> None:
    """Rows that come five times tell no more than once; only intervals that know their groups say so."""
    x = np.random.default_rng(2).normal(size=60)
    repeated, group = np.repeat(x, 5), np.repeat(np.arange(60), 5)
    once, whole, naive = (
        e.high - e.low for e in (mean(x), mean(repeated, groups=group, resamples=4000), mean(repeated))
    )
    assert abs(whole / once - 1) < 0.1
    assert naive < 0.6 * once


def test_welch_equals_scipy() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=300), rng.normal(0.3, 2, size=120)
    mine = welch(a, b)
    theirs: Any = stats.ttest_ind(a, b, equal_var=False)
    assert mine.t == pytest.approx(theirs.statistic, rel=1e-12)
    assert mine.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert mine.freedom == pytest.approx(theirs.df, rel=1e-12)


def test_spearman_equals_scipy_with_ties() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 8, 200)
    y = x + rng.integers(0, 6, 200)
    found = spearman(x, y)
    assert found.value == pytest.approx(_statistic(stats.spearmanr(x, y)), abs=1e-12)
    assert 0 < found.low < found.value < found.high < 1


def test_a_constant_side_has_no_rank_correlation() -> None:
    assert np.isnan(spearman(np.ones(10), np.arange(10)).value)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UsageError, match="1 rows say nothing"):
        mean([1.0])
    with pytest.raises(UsageError, match="0 rows say nothing"):
        mean([])
    with pytest.raises(UsageError, match="1 groups say nothing"):
        mean([1.0, 2.0], groups=[0, 0])
    with pytest.raises(UsageError, match="columns of 3, 2 rows"):
        bootstrap(lambda x, y: x.mean(-1) - y.mean(-1), [1, 2, 3], [1, 2])
    with pytest.raises(UsageError, match="all alike"):
        welch([1, 1], [1, 1])


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(4)
    usual, other = rng.integers(0, 6, 40), rng.integers(1, 8, 40)
    pairs = np.mean([(b > a) + (b == a) / 2 for a in usual for b in other])
    found = auroc(usual, other, seed=1)
    assert abs(found.value - pairs) < 1e-12
    assert found.low < pairs < found.high
    assert abs(auroc(other, usual).value - (1 - pairs)) < 1e-12
    assert auroc([0.0, 1.0, 2.0], [3.0, 4.0, 5.0]).as_dict() == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "level": 0.95,
    }


def test_correlations_and_signed_ranks_equal_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40))
    flags = y > 0.3
    assert pearson(x, flags).value == pytest.approx(_statistic(stats.pointbiserialr(flags, x)))
    assert pearson(x, y).value == pytest.approx(_statistic(stats.pearsonr(x, y)))
    assert wilcoxon(x, y) == pytest.approx(tuple(stats.wilcoxon(x, y)))
    assert wilcoxon(x, x) == (0.0, 1.0)
    assert np.isnan(pearson(np.full(9, 0.1), np.arange(9)).value)
    with pytest.raises(UsageError, match="pairs"):
        wilcoxon([1.0], [2.0])


def test_the_jackknife_of_a_mean_is_its_t_interval() -> None:
    x = np.random.default_rng(5).normal(3, 2, 12)
    found = jackknife(float(x.mean()), [float(np.delete(x, k).mean()) for k in range(12)], level=0.9)
    low, high = stats.t.interval(0.9, 11, loc=x.mean(), scale=stats.sem(x))
    assert (found.low, found.high) == pytest.approx((low, high))
    with pytest.raises(UsageError, match="1 groups"):
        jackknife(1.0, [1.0])
