"""Distances of maps: exact, estimated, against the Hamming distance; features of gates; space folding."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import polykern as pk
from polykern.affine import affine_map, frobenius, hamming_against_maps, spline_features
from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.lines import crossings, space_folding
from polykern.models import digits
from polykern.points import codes_of
from polykern_kernels import pack
from tests.engine.line_truth import along, mlp
from tests.worlds import random_network


def test_the_distance_is_that_of_the_matrices() -> None:
    network = random_network(5)
    p, q = network.points(2, 1)
    a, b = (affine_map(network.model, x) for x in (p, q))
    found = frobenius(network.model, p, q)
    assert found.probes is None
    assert found.error == found.distance_error == 0.0
    assert found.distance == pytest.approx(float((a - b).matrix.norm()), rel=1e-12)
    assert found.offset == pytest.approx(float((a - b).offset.norm()), rel=1e-12)
    beside = torch.cat([(a - b).matrix, 0.5 * (a - b).offset[:, None]], 1)
    assert found.augmented(0.5) == pytest.approx(float(beside.norm()), rel=1e-12)
    size = math.sqrt(float(a.matrix.square().sum() + b.matrix.square().sum()) / 2)
    assert found.relative == pytest.approx(found.distance / size, rel=1e-12)
    assert frobenius(network.model, p, p).distance == 0.0


def test_an_estimate_has_the_error_it_says() -> None:
    model, _ = mlp([20, 60, 60, 8], 0)
    misses = []
    for seed in range(20):
        p, q = torch.randn(2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        exact = frobenius(model, p, q)
        found = frobenius(model, p, q, probes=200, seed=seed)
        assert found.probes == 200
        misses.append((found.squared - exact.squared) / found.error)
        assert found.sizes[0] == pytest.approx(exact.sizes[0], rel=0.5)
        assert found.offset == exact.offset
    assert max(map(abs, misses)) < 4.5
    assert 0.5 < float(np.std(misses)) < 1.6
    assert abs(float(np.mean(misses))) < 1.0
    one, again = (frobenius(model, torch.zeros(20), torch.ones(20), probes=8) for _ in range(2))
    assert one == again


def test_large_maps_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = mlp([20, 60, 8], 0)
    p, q = torch.randn(2, 20)
    monkeypatch.setattr("polykern.affine.distances.LARGEST", 100)
    assert frobenius(model, p, q).probes == 64


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    """Points at all distances on segments between test digits, no digit in two of them."""
    images = digits.Digits.test().images
    generator = torch.Generator().manual_seed(0)
    p, q = images[torch.randperm(len(images), generator=generator)[:200]].chunk(2)
    return p, p + torch.rand(100, 1, 1, 1, generator=generator) * (q - p)


@pytest.mark.parametrize("trained", [True, False])
def test_polytopes_with_similar_codes_have_similar_maps(pairs: tuple[Tensor, Tensor], trained: bool) -> None:
    if trained:
        model: nn.Module = pk.load("digits").model
    else:
        torch.manual_seed(0)
        model = digits.network().eval()
    found = hamming_against_maps(model, *pairs, resamples=500)
    for estimate in (found.spearman, found.baseline):
        assert 0 < estimate.low < estimate.value < estimate.high < 1
        assert estimate.level == 0.95
    k = 17
    codes = codes_of(model, torch.stack([pairs[0][k], pairs[1][k]]))
    assert found.hamming[k] == int(codes.distances()[0, 1])
    assert found.maps[k] == pytest.approx(frobenius(model, pairs[0][k], pairs[1][k]).distance, rel=1e-12)
    assert found.euclidean[k] == pytest.approx(float((pairs[0][k] - pairs[1][k]).norm()), rel=1e-6)


def test_spearman_is_scipys() -> None:
    from scipy.stats import spearmanr

    model, _ = mlp([5, 30, 30, 4], 2)
    p, q = torch.randn(2, 40, 5)
    found = hamming_against_maps(model, p, q, resamples=50)
    for x, mine in ((found.hamming, found.spearman), (found.euclidean, found.baseline)):
        assert mine.value == pytest.approx(float(np.asarray(spearmanr(x, found.maps))[0]), rel=1e-12)


# --- features of gates ---------------------------------------------------------------------------------


def test_features_are_counted_by_hand() -> None:
    gates = torch.tensor([[1.0, -2.0, 3.0, 0.0], [-1.0, -1.0, 4.0, 2.0], [5.0, 1.0, 1.0, 1.0]])
    weight = torch.tensor([[3.0, 4.0], [0.0, 1.0], [1.0, 0.0], [0.0, 2.0]])  # lengths 5, 1, 1, 2
    found = spline_features(gates, weight)
    shares, closest = np.array([0.5, 0.5, 1.0]), np.array([0.0, 0.2, 0.5])
    expected = [
        *(shares.mean(), shares.min(), shares.max(), shares.std(ddof=1)),
        *(closest.min(), closest.mean(), closest.std(ddof=1)),
    ]
    assert np.allclose(found, expected, rtol=1e-14, atol=0)
    assert len(found) == 7


def test_features_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match=r"gates \[3, 4\] are not made with weights \[5, 2\]"):
        spline_features(torch.ones(3, 4), torch.ones(5, 2))
    with pytest.raises(UsageError, match="1 tokens has no standard deviation"):
        spline_features(torch.ones(1, 4), torch.ones(4, 2))
    with pytest.raises(UsageError, match="weights of neuron 2 are zero"):
        spline_features(torch.ones(3, 4), torch.tensor([[1.0], [1.0], [0.0], [1.0]]))


# --- space folding -------------------------------------------------------------------------------------


def coded(*rows: str) -> Codes:
    layout = Layout.of([Field("fc", 0, "relu", (len(rows[0]),), (0.0,), 0)])
    bits = torch.tensor([[float(c) for c in row] for row in rows])
    return Codes(pack.signs(bits, (0.0,))[0], layout)


def test_folding_of_known_paths() -> None:
    assert space_folding(coded("0000", "0001", "0011", "0111")) == 0.0
    assert space_folding(coded("0000", "0011", "0000", "0011")) == pytest.approx(1 - 2 / 6)
    assert space_folding(coded("0000", "1111", "0000")) == 0.5
    assert space_folding(coded("0101", "0101")) == 0.0
    with pytest.raises(UsageError, match="two codes at least"):
        space_folding(coded("0101"))


def test_folding_of_a_segment_is_that_of_its_codes() -> None:
    seen = []
    for seed in range(6):
        model, _ = mlp([3, 12, 12, 12, 2], seed)
        a, b = 4 * torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = crossings(model, a, b)
        knots = np.concatenate([[0.0], found.t, [1.0]])
        codes = codes_of(model, along(a, b, (knots[1:] + knots[:-1]) / 2))
        assert found.folding == pytest.approx(space_folding(codes))
        seen.append(found.folding)
        one = crossings(model, a, b, select="1")
        assert one.folding == 0.0
    assert max(seen) > 0.05


def test_segments_without_crossings_do_not_fold() -> None:
    model, _ = mlp([3, 4, 2], 0)
    assert crossings(model, torch.zeros(3), torch.full((3,), 1e-9)).folding == 0.0
