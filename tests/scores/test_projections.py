"""Intervals on a line equal brute force; the harness that sets a direction beside codes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from polykern.errors import UsageError
from polykern.scores.line import intervals
from polykern.scores.projections import compare, mutual_information, strongest


def least(values: list[float], k: int) -> float:
    """The least sum of squares of k runs, every cut tried."""
    x = np.sort(values)
    n = len(x)
    spread = {(i, j): float(((x[i:j] - x[i:j].mean()) ** 2).sum()) for i in range(n) for j in range(i + 1, n + 1)}
    best = [0.0] + [float("inf")] * n
    for _ in range(k):
        best = [0.0] + [min(best[i] + spread[i, j] for i in range(j)) for j in range(1, n + 1)]
    return best[n]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=25), st.integers(1, 6))
@settings(deadline=None, max_examples=150)
def test_no_cut_is_better(numbers: list[int], k: int) -> None:
    values = [number / 4 for number in numbers]
    found = intervals(values, k)
    assert found.within == pytest.approx(least(values, k), abs=1e-9)
    assert len(found.low) == min(k, len(set(values)))
    again = sum(((np.array(values)[found.labels == c] - np.mean(np.array(values)[found.labels == c])) ** 2).sum()
                for c in range(len(found.low)))  # fmt: skip
    assert again == pytest.approx(found.within, abs=1e-9)
    for c, (low, high) in enumerate(zip(found.low, found.high, strict=True)):
        assert [v for v in values if low <= v <= high] == [
            v for v, of in zip(values, found.labels, strict=True) if of == c
        ]


def test_planted_intervals_are_found(rng_numpy: np.random.Generator) -> None:
    truth = rng_numpy.integers(0, 7, 5000)
    found = intervals(10 * truth + rng_numpy.normal(size=5000) + 1e6, 7)
    assert np.array_equal(found.labels, truth)
    json.dumps(found.as_dict())


def test_information_is_sklearn_s(rng_numpy: np.random.Generator) -> None:
    a, b = rng_numpy.integers(0, 5, 300), rng_numpy.integers(0, 9, 300)
    information, entropy = mutual_information(a, b)
    assert information == pytest.approx(mutual_info_score(a, b) / np.log(2))
    assert entropy == pytest.approx(mutual_info_score(b, b) / np.log(2))
    assert mutual_information(a[:0], b[:0]) == (0, 0)


def test_a_direction_that_says_all(rng_numpy: np.random.Generator) -> None:
    codes = rng_numpy.integers(0, 4, 800)
    values = 5.0 * codes + rng_numpy.normal(size=800) / 4
    found = compare(values, codes, np.array(["a", "b", "c", "d"])[codes], repeats=10)
    assert found.share == pytest.approx(1)
    assert found.line is not None
    assert found.codes is not None
    assert found.line.measures["mean_purity"].value == found.codes.measures["mean_purity"].value == 1
    assert found.intervals is not None
    assert len(found.intervals.low) == 4
    told = json.loads(json.dumps(found.as_dict()))
    assert set(told) == {"line", "codes", "intervals", "information", "entropy", "points", "share"}


def test_a_direction_that_says_nothing(rng_numpy: np.random.Generator) -> None:
    codes = rng_numpy.integers(-1, 4, 2000)
    found = compare(rng_numpy.normal(size=2000), codes, codes, repeats=10)
    assert found.information < 0.02
    assert found.entropy == pytest.approx(2, abs=0.02)
    assert found.points == (codes >= 0).sum()
    assert found.codes is not None
    assert found.line is not None
    assert found.codes.measures["mean_purity"].value == 1
    assert found.line.measures["mean_purity"].value < 0.3


def test_clusters_of_the_values_may_be_given() -> None:
    found = compare([0.0, 1.0, 2.0, 3.0], [0, 0, 1, 1], line=[0, 0, 1, -1])
    assert (found.intervals, found.line, found.codes, found.points) == (None, None, None, 3)
    assert found.information == pytest.approx(found.entropy)
    assert compare([0.0, 1.0], [0, 0]).as_dict()["share"] is None


def test_strongest() -> None:
    values = [0.0, 5.0, 3.0, 5.0, 1.0]
    assert strongest(values, 0.4).tolist() == [1, 3]
    assert strongest(values, 0.2).tolist() == [1]
    assert strongest(values, 1).tolist() == [0, 1, 2, 3, 4]


def test_messages() -> None:
    with pytest.raises(UsageError, match="intervals need finite numbers and k >= 1"):
        intervals([1.0, float("nan")], 2)
    with pytest.raises(UsageError, match=r"\[0\] and 2"):
        intervals([], 2)
    with pytest.raises(UsageError, match="there are no clusters of codes to compare with"):
        compare([1.0], [-1])
    with pytest.raises(UsageError, match=r"\[2\] values for 1 labels"):
        compare([1.0, 2.0], [0])
    with pytest.raises(UsageError, match="the strongest rows need numbers"):
        strongest([1.0], 0)
