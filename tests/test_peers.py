"""Peers find what ours find, so that their times stand beside ours; what is not installed says how to."""

import numpy as np
import pytest
import torch
from torch import Tensor

from polykern_benches import _planted
from polykern_benches._harness import codes
from polykern_benches.peers import clusters, nearest, pairwise, regions
from polykern_kernels import hamming, neighbours
from polykern_kernels._dispatch import Impl

EXACT = ("hdbscan", "scikit-learn")  # the others build their tree on something else


def names(peers: tuple[Impl, ...]) -> list[str]:
    return [peer.name for peer in peers]


def ready(peer: Impl, *args: Tensor) -> None:
    """Skip with the peer's own objection."""
    reason = peer.objection(*args)
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("peer", pairwise.PEERS, ids=names(pairwise.PEERS))
def test_distances_of_all_pairs(peer: Impl) -> None:
    a, b = (codes(n, 96, device="cpu", seed=n) for n in (33, 20))
    if peer.name == "numkong-symmetric":
        ready(peer, a, a)
        found, truth = peer.run(a, a), hamming.pairwise(a, a, backend="reference").triu()
    else:
        ready(peer, a, b)
        found, truth = peer.run(a, b), hamming.pairwise(a, b, backend="reference")
    assert found.dtype == torch.int32
    assert torch.equal(found, truth)


@pytest.mark.parametrize("peer", nearest.PEERS, ids=names(nearest.PEERS))
def test_distances_of_the_nearest(peer: Impl) -> None:
    a, b = (codes(n, 96, device="cpu", seed=n) for n in (40, 50))
    ready(peer, a, b)
    found = peer.run(a, b, 5)
    assert found.dtype == torch.int32
    assert torch.equal(found, neighbours.nearest(a, b, 5, backend="reference")[0])


@pytest.mark.filterwarnings("default")  # the peers' own
@pytest.mark.parametrize("peer", clusters.PEERS, ids=names(clusters.PEERS))
def test_clusters(peer: Impl) -> None:
    from sklearn.metrics import adjusted_rand_score

    from polykern.clustering.estimator import HDBSCAN

    words, _ = _planted.flips(500, clusters=3)
    ready(peer, words)
    found = peer.run(words, 15)
    assert found.shape == (500,)
    assert found.dtype == np.int64
    if peer.name in EXACT:
        assert adjusted_rand_score(found, HDBSCAN(15).fit(words).labels_) > 0.9


@pytest.mark.parametrize("peer", regions.PEERS, ids=names(regions.PEERS))
def test_regions_of_a_layer(peer: Impl) -> None:
    ready(peer)
    rng = torch.Generator().manual_seed(0)
    layer = torch.randn((6, 2), generator=rng), 0.1 * torch.randn(6, generator=rng)
    last = torch.randn((1, 6), generator=rng), torch.zeros(1)
    lines = [layer, last]
    assert peer.run(lines, 100.0) == 1 + 6 + 15  # lines in general position: Zaslavsky


@pytest.mark.parametrize("peer", [*pairwise.PEERS, *nearest.PEERS, *clusters.PEERS])
def test_an_objection_says_what_to_install(peer: Impl, monkeypatch: pytest.MonkeyPatch) -> None:
    from polykern_benches.peers import _wanted

    monkeypatch.setattr(_wanted.importlib.util, "find_spec", lambda name: None)
    reason = peer.objection(codes(2, 1, device="cpu"), codes(3, 1, device="cpu"))
    assert reason is None or reason.startswith("not installed: pip install ") or reason == "no CUDA device"
    assert (reason is None) == (peer.name == "torch-int8")
