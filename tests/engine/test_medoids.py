"""Medoids: equal to all pairs, ties to the smallest row, one answer for any budget; the bits that tell."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from polykern.clustering import medoids
from polykern.errors import UsageError
from polykern_kernels import hamming, pack

BITS = 70


@pytest.fixture
def words(rng: torch.Generator) -> torch.Tensor:
    """60 codes, several of them equal."""
    bits = torch.randn((60, BITS), generator=rng) + 0.3
    bits[10:14] = bits[3]
    return pack.signs(bits)[0]


@pytest.fixture
def labels(rng: torch.Generator) -> NDArray[np.int64]:
    """Noise and five clusters, one of a single row and one of two."""
    drawn = torch.randint(-1, 3, (60,), generator=rng)
    drawn[20], drawn[[30, 31]] = 3, 4
    return drawn.numpy()


def jaccard(words: torch.Tensor) -> NDArray[np.float64]:
    """All pairs, from the definition."""
    bits = pack.unpack(words, BITS).numpy()
    common = (bits[:, None] & bits[None]).sum(2)
    union = (bits[:, None] | bits[None]).sum(2)
    return np.where(union > 0, (union - common) / np.maximum(union, 1), 0.0)


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
@pytest.mark.parametrize("budget", [1, 1 << 14, 1 << 27])
def test_equal_to_all_pairs(
    words: torch.Tensor, labels: NDArray[np.int64], metric: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medoids, "BUDGET", budget)
    found = medoids.of_codes(words, BITS, labels, metric=metric)
    pairs = hamming.pairwise(words, words).numpy()
    apart = jaccard(words) if metric == "jaccard" else pairs
    for c in range(5):
        mine = np.flatnonzero(labels == c)
        medoid = mine[pairs[np.ix_(mine, mine)].sum(1).argmin()]  # the first of equal ones
        assert found.medoid[c] == medoid
        assert found.size[c] == len(mine)
        assert np.array_equal(found.distance[mine], apart[mine, medoid])
        assert found.mean_distance[c] == pytest.approx(apart[mine, medoid].mean(), rel=1e-15)
        assert np.array_equal(found.of(c), mine[np.lexsort((mine, apart[mine, medoid]))])
    noise = np.flatnonzero(labels < 0)
    assert np.array_equal(found.order[found.starts[-1] :], noise)
    assert (found.distance[noise] == -1).all()


def test_of_equal_sums_the_smallest_row_wins() -> None:
    words = torch.tensor([[7], [1], [3], [1], [3]], dtype=torch.int32)  # sums of the last four: 2 each
    assert medoids.of_codes(words, 32, np.array([-1, 0, 0, 0, 0])).medoid.tolist() == [1]
    assert medoids.of_codes(words, 32, np.array([-1, 1, 0, 1, 0])).medoid.tolist() == [2, 1]


def test_no_clusters(words: torch.Tensor) -> None:
    found = medoids.of_codes(words, BITS, np.full(60, -1))
    assert len(found.medoid) == len(found.mean_distance) == 0
    assert found.order.tolist() == list(range(60))
    assert found.starts.tolist() == [0]
    assert list(medoids.telling_bits(words, BITS, np.full(60, -1))) == []


@pytest.mark.parametrize("budget", [1, 1 << 27])
def test_telling_bits(
    words: torch.Tensor, labels: NDArray[np.int64], budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(medoids, "BUDGET", budget)
    bits = pack.unpack(words, BITS).numpy()
    every = list(medoids.telling_bits(words, BITS, labels, most=9))
    assert [t.cluster for t in every] == [0, 1, 2, 3, 4]
    for told in every:
        inside, outside = (bits[labels == told.cluster].mean(0), bits[labels != told.cluster].mean(0))
        assert np.array_equal(told.inside, inside[told.bits])
        assert np.array_equal(told.outside, outside[told.bits])
        gap = np.abs(inside - outside)
        assert np.array_equal(gap[told.bits], np.sort(gap)[::-1][:9])


def test_a_planted_bit_tells_its_cluster(rng: torch.Generator) -> None:
    z = torch.randn((400, BITS), generator=rng)
    labels = np.repeat([0, 1, -1, 2], 100)
    z[:, 41] = -1.0
    z[:100, 41] = 1.0
    told = next(medoids.telling_bits(pack.signs(z)[0], BITS, labels, most=3))
    assert (told.bits[0], told.inside[0], told.outside[0]) == (41, 1.0, 0.0)


def test_one_cluster_of_everything_has_no_outside(words: torch.Tensor) -> None:
    told = next(medoids.telling_bits(words, BITS, np.zeros(60, np.int64)))
    assert (told.outside == 0).all()


def test_messages(words: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="3 labels for 60 rows"):
        medoids.of_codes(words, BITS, np.zeros(3, np.int64))
    with pytest.raises(UsageError, match=r"labels are integers \(n\), got float64 \[60\]"):
        medoids.of_codes(words, BITS, np.zeros(60))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="labels are -1 or a cluster, got -2"):
        medoids.of_codes(words, BITS, np.full(60, -2))
    with pytest.raises(UsageError, match="cluster 1 has no members"):
        medoids.of_codes(words, BITS, np.repeat([0, 2], 30))
    with pytest.raises(UsageError, match="codes have no metric 'cosine'"):
        medoids.of_codes(words, BITS, np.zeros(60, np.int64), metric="cosine")
    with pytest.raises(UsageError, match="at least one bit is wanted, got 0"):
        next(medoids.telling_bits(words, BITS, np.zeros(60, np.int64), most=0))
