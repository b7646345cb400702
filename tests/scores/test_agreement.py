"""Agreement of clusterings: sklearn's indices, best matches by hand, clusters that come again."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from polykern.errors import UsageError
from polykern.scores import agreement, tables


def test_indices_are_sklearn_s(rng_numpy: np.random.Generator) -> None:
    a = rng_numpy.integers(-1, 8, 400)
    b = np.where(rng_numpy.random(400) < 0.7, (a + 2) % 9 - 1, rng_numpy.integers(-1, 5, 400))
    found = agreement.compare(a, b)
    inside = (a >= 0) & (b >= 0)
    assert found.all_rows.ari == adjusted_rand_score(a, b)
    assert found.all_rows.ami == pytest.approx(adjusted_mutual_info_score(a, b))
    assert found.clustered.rows == inside.sum()
    assert found.clustered.ari == adjusted_rand_score(a[inside], b[inside])
    assert int(found.cells.count.sum()) == 400
    json.dumps(found.as_dict())


def test_renamed_clusters_agree() -> None:
    a = np.array([0, 0, 1, 1, 2, -1])
    found = agreement.compare(a, np.array([7, 7, 3, 3, 0, -1]))
    assert (found.all_rows.ari, found.clustered.ari) == (1, 1)
    assert found.all_rows.ami == pytest.approx(1)
    assert found.matches.first.tolist() == [0, 1, 2]
    assert found.matches.second.tolist() == [7, 3, 0]
    assert found.matches.both.tolist() == [2, 2, 1]
    assert found.matches.jaccard.tolist() == [1, 1, 1]


def test_matches_by_hand() -> None:
    #        0: five rows            1: three      2: two, noise in the other
    first = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    second = [0, 0, 0, 1, -1, 1, 1, 2, -1, -1]
    found = agreement.compare(first, second).matches
    assert found.first.tolist() == [0, 1]
    assert found.second.tolist() == [0, 1]
    assert found.jaccard.tolist() == [3 / 5, 2 / 4]


def test_of_equal_matches_the_smaller() -> None:
    found = agreement.compare([0, 0, 1, 1], [0, 1, 0, 1]).matches
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, 0)]


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=40))
@settings(deadline=None)
def test_matches_are_mutual_bests(rows: list[tuple[int, int]]) -> None:
    a, b = (np.array(x) for x in zip(*rows, strict=True))
    found = agreement.compare(a, b).matches

    def jaccard(c: int, d: int) -> float:
        return float(((a == c) & (b == d)).sum() / ((a == c) | (b == d)).sum())

    for c, d, value in zip(found.first.tolist(), found.second.tolist(), found.jaccard.tolist(), strict=True):
        assert value == jaccard(c, d)
        assert value == max(jaccard(c, e) for e in set(b.tolist()) - {-1})
        assert value == max(jaccard(e, d) for e in set(a.tolist()) - {-1})
    assert len(set(found.first.tolist())) == len(set(found.second.tolist())) == len(found.first)


def test_stability_by_hand() -> None:
    labels = [0, 0, 0, 0, 1, 1, 1, -1]
    same = (list(range(8)), [4, 4, 4, 4, 2, 2, 2, -1])
    split = ([0, 1, 2, 3, 4], [0, 0, 1, 1, -1])
    gone = ([4, 5, 6], [-1, -1, -1])
    found = agreement.stability(labels, [same, split, gone])
    assert found.size.tolist() == [4, 3]
    assert found.jaccard[:, 0].tolist() == [1, 1]
    assert found.jaccard[:, 1].tolist() == [0.5, 0]
    assert np.isnan(found.jaccard[0, 2])
    assert found.jaccard[1, 2] == 0
    assert found.mean.tolist() == [0.75, 1 / 3]
    assert found.ari[0] == 1
    assert found.shared.tolist() == [8, 5, 3]
    assert json.loads(json.dumps(found.as_dict()))["jaccard"][0] == [1.0, 0.5, None]


def test_planted_clusters_are_stable_and_random_ones_are_not(rng_numpy: np.random.Generator) -> None:
    truth = np.repeat(np.arange(10), 50)
    runs = []
    for _ in range(5):
        rows = rng_numpy.permutation(500)[:300]
        runs.append((rows, rng_numpy.permutation(10)[truth[rows]]))
    planted, random = (agreement.stability(labels, runs) for labels in (truth, rng_numpy.permutation(truth)))
    assert (planted.mean == 1).all()
    assert (planted.ari == 1).all()
    assert random.mean.max() < 0.3
    assert np.abs(random.ari).max() < 0.1


def test_many_clusters_are_compared_without_the_slow_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "CELLS", 3)
    found = agreement.compare([0, 1, 2], [0, 1, 1])
    assert found.all_rows.ami is None
    assert found.as_dict()["all_rows"]["rows"] == 3


def test_nothing_to_compare() -> None:
    found = agreement.compare([-1, 0], [0, -1])
    assert (found.clustered.rows, found.clustered.ari) == (0, 1.0)
    assert len(found.matches.first) == 0


def test_tables_hold_what_occurs() -> None:
    cells = tables.table(np.array([3, 3, -1, 3]), np.array([0, 0, 5, -1]))
    assert cells.as_dict() == {"first": [-1, 3, 3], "second": [5, -1, 0], "count": [1, 1, 2]}


@given(st.lists(st.tuples(st.integers(-1, 30), st.integers(-5, 30)), min_size=1, max_size=60), st.booleans())
@settings(deadline=None)
def test_tables_count_all_pairs(rows: list[tuple[int, int]], sparse: bool) -> None:
    first, second = (np.array(x) for x in zip(*rows, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "FEW", 0 if sparse else 10**6)
        cells = tables.table(first, second)
    found = list(zip(cells.first.tolist(), cells.second.tolist(), cells.count.tolist(), strict=True))
    assert found == sorted((*pair, count) for pair, count in Counter(rows).items())


def test_messages() -> None:
    with pytest.raises(UsageError, match="3 labels for 2 rows"):
        agreement.compare([0, 1], [0, 1, 1])
    with pytest.raises(UsageError, match="rows of a run must be different rows of 2"):
        agreement.stability([0, 1], [([0, 0], [0, 0])])
    with pytest.raises(UsageError, match="rows of a run must be different rows of 2"):
        agreement.stability([0, 1], [([2], [0])])
    with pytest.raises(UsageError, match="stability needs another clustering"):
        agreement.stability([0, 1], [])
