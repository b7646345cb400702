"""POLYKERN_BACKEND names the backend of every family; the bits are the same whichever it is."""

import os

import pytest
import torch

from polykern_kernels import digest, hamming, pack
from polykern_kernels._dispatch import BACKEND, BackendError, Impl, choose
from tests.trust.ledger import scaled, trial

PROMISE = "R16 backends: equal bits"
NAMES = ["reference", "cpu", pytest.param("triton", marks=pytest.mark.slow)]


def results(seed: int) -> list[torch.Tensor]:
    """What families give for random rows, whoever runs them."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(40, 70, generator=rng)
    words, ones = pack.signs(z, (0.0,))
    return [words, ones, hamming.pairwise(words, words), digest.fingerprints(words, 70)]


@pytest.mark.parametrize("name", NAMES)
def test_every_family_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "triton" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("TRITON_INTERPRET is not 1")
    for seed in range(scaled(2, 50)):
        monkeypatch.delenv(BACKEND, raising=False)
        truth = results(seed)
        monkeypatch.setenv(BACKEND, name)
        with trial(PROMISE):
            assert all(torch.equal(a, b) for a, b in zip(results(seed), truth, strict=True))


def test_the_word_names_the_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1)
    every = [Impl(n, lambda: None, lambda *a: None) for n in ("triton", "cpu", "reference")]
    objecting = [Impl("triton", lambda: None, lambda *a: "no such device"), *every[1:]]
    for word, impls, chosen in [
        ("reference", every, "reference"), ("triton", every, "triton"), ("auto", every, "cpu"), ("", every, "cpu"),
        ("cpu", every[2:], "reference"), ("b1", every, "cpu"), ("cuml", every, "cpu"),
    ]:  # fmt: skip
        monkeypatch.setenv(BACKEND, word)
        assert choose("op", impls, None, x).name == chosen
    monkeypatch.setenv(BACKEND, "triton")
    assert choose("op", every, "cpu", x).name == "cpu"  # a call that names its own keeps it
    with pytest.raises(BackendError, match="triton: no such device"):
        choose("op", objecting, None, x)
    monkeypatch.setenv(BACKEND, "abacus")
    with pytest.raises(BackendError, match="'abacus'; it can be auto, b1, dot, triton, cpu, reference"):
        choose("op", every, None, x)
