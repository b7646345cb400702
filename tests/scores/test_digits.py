"""The digits network: clusters of a trained layer are of one digit each, of an untrained one less so."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import polykern as pk
from polykern.models import digits
from polykern.scores.agreement import stability
from polykern.scores.baselines import Monosemanticity, monosemanticity


def hidden(model: nn.Module) -> Tensor:
    """float32 (1797, 128): pre-activations of the last hidden layer, of all images."""
    x: Tensor = digits.load()[0]
    parts = dict(model.named_children())
    with torch.no_grad():
        for name in list(parts)[: list(parts).index("fc1") + 1]:
            x = parts[name](x)
    return x


def clusters(x: NDArray[np.generic], metric: str) -> NDArray[np.int64]:
    """Labels at min_cluster_size 10."""
    labels: NDArray[np.int64] = pk.HDBSCAN(min_cluster_size=10, metric=metric).fit(x).labels_
    return labels


def score(labels: NDArray[np.int64]) -> Monosemanticity:
    return monosemanticity(labels, digits.load()[1].numpy(), repeats=20)


@pytest.fixture(scope="module")
def trained() -> Tensor:
    return hidden(digits.subject().model)


@pytest.fixture(scope="module")
def of_codes(trained: Tensor) -> NDArray[np.int64]:
    """Labels of the codes."""
    return clusters((trained > 0).numpy(), "hamming")


@pytest.mark.slow
def test_clusters_of_the_trained_layer_are_digits(trained: Tensor, of_codes: NDArray[np.int64]) -> None:
    activations = score(clusters(trained.numpy(), "euclidean"))
    for found in (activations, score(of_codes)):
        purity = found.measures["mean_purity"]
        assert 9 <= found.clusters <= 16
        assert found.noise < 0.3
        assert purity.value > 0.95
        assert found.measures["pure_clusters"].value >= 0.9
        assert all(b.high < 0.3 for b in purity.baselines.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = digits.network()
    untrained = score(clusters(hidden(network).numpy(), "euclidean"))
    assert untrained.measures["weighted_purity"].value < activations.measures["weighted_purity"].value
    assert untrained.noise > activations.noise


@pytest.mark.slow
def test_clusters_of_codes_come_again(trained: Tensor, of_codes: NDArray[np.int64]) -> None:
    """In halves of the images: most clusters, which are digits, have their like."""
    codes = (trained > 0).numpy()
    rng = np.random.default_rng(0)
    halves = [np.sort(rng.permutation(len(codes))[:900]) for _ in range(3)]
    again = [(rows, clusters(codes[rows], "hamming")) for rows in halves]
    found = stability(of_codes, again)
    assert found.ari.min() > 0.5
    assert np.median(found.mean) > 0.75
    shuffled = stability(rng.permutation(of_codes), again)
    assert shuffled.mean.max() < 0.3
