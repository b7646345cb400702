"""The peers of the benches: each gives our answer on toys, and says how it is installed where it is not here."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from polykern_benches import _planted
from polykern_benches.peers import clusters, nearest, pairwise, regions
from polykern_benches.peers._wanted import on_cpu, on_cuda
from polykern_kernels import hamming, neighbours
from polykern_kernels._dispatch import Impl


def named(peers: tuple[Impl, ...]) -> list[object]:
    return [pytest.param(peer, id=peer.name) for peer in peers]


def willing(peer: Impl, *args: Tensor) -> Impl:
    """The peer, where it has no objection."""
    if reason := peer.objection(*args):
        pytest.skip(f"{peer.name}: {reason}")
    return peer


def codes(n: int, words: int, seed: int) -> Tensor:
    return torch.randint(
        -(2**31), 2**31 - 1, (n, words), dtype=torch.int32, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("peer", named(pairwise.PEERS))
def test_distances_of_all_pairs(peer: Impl) -> None:
    a = codes(20, 6, 0)
    half = "symmetric" in peer.name
    b = a if half else codes(40, 6, 1)
    want = hamming.pairwise(a, b, backend="reference")
    assert torch.equal(willing(peer, a, b).run(a, b), want.triu() if half else want)


def test_half_a_matrix_is_of_one_set() -> None:
    (peer,) = (p for p in pairwise.PEERS if "symmetric" in p.name)
    a = codes(2, 1, 0)
    willing(peer, a, a)
    assert peer.objection(a, a.clone()) == "takes one set, and its pairs"


@pytest.mark.parametrize("peer", named(nearest.PEERS))
def test_nearest_codes(peer: Impl) -> None:
    a, b = codes(20, 6, 0), codes(40, 6, 1)
    if peer.name == "faiss-gpu" and torch.cuda.is_available():
        a, b = a.cuda(), b.cuda()
    want = neighbours.nearest(a, b, 5)[0]
    assert torch.equal(willing(peer, a, b).run(a, b, 5).cpu(), want.cpu())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("peer", named(clusters.PEERS))
def test_clusters(peer: Impl) -> None:
    """The exact ones find the same clusters on planted data; ties move single rows."""
    from sklearn.metrics import adjusted_rand_score

    from polykern.clustering.estimator import HDBSCAN

    words, truth = _planted.flips(400, 256, clusters=3, noise=0.1)
    ours = HDBSCAN(15).fit(words).labels_
    if peer.name == "cuml" and torch.cuda.is_available():
        words = words.cuda()
    labels = willing(peer, words).run(words, 15)
    assert labels.dtype == np.int64
    assert adjusted_rand_score(ours, labels) > 0.9
    assert adjusted_rand_score(truth, labels) > 0.9


@pytest.mark.parametrize("peer", named(regions.PEERS))
def test_regions_of_lines_in_general_position(peer: Impl) -> None:
    """n lines cut the plane into 1 + n + n (n - 1) / 2 regions, a square far larger than their crossings too."""
    generator = torch.Generator().manual_seed(0)
    weights, bias = torch.randn((6, 2), generator=generator), 0.1 * torch.randn(6, generator=generator)
    layers = [(weights, bias), (torch.ones(1, 6), torch.zeros(1))]
    assert willing(peer).run(layers, 1000.0) == 1 + 6 + 15


def test_who_is_not_here_says_how_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    objection = on_cpu("no_such_module", "no-such-package==1.2")
    assert objection(torch.zeros(1)) == "not installed: pip install no-such-package==1.2"
    assert on_cpu("torch", "torch")(torch.zeros(1, device="meta")) == "needs CPU tensors, got meta"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_cuda("torch", "torch")(torch.zeros(1)) == "no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_cuda("torch", "torch")(torch.zeros(1)) == "needs CUDA tensors, got cpu"


def test_no_peer_is_imported_before_it_runs() -> None:
    code = (
        "import sys; from polykern_benches.peers import clusters, nearest, pairwise, regions;"
        "print({'faiss', 'numkong', 'usearch', 'simsimd', 'hdbscan', 'fast_hdbscan', 'sklearn', 'regioncam',"
        " 'cuml'}"
        " & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
