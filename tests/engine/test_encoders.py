"""Sparse autoencoders of SAELens, dictionary_learning and sparsify, recognised by their attributes.

The classes here have the attributes and the arithmetic of the real ones; `active` says which units are on.
"""

import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import polykern as pk
from polykern.errors import UsageError
from polykern_kernels import pack


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


D, N = 6, 70
ARCHITECTURES = ("standard", "gated", "jumprelu", "topk", "batchtopk", "transcoder")


class SAE(nn.Module):
    """SAELens 6."""

    def __init__(self, architecture: str, normalisation: str = "none", **cfg: Any) -> None:
        super().__init__()
        subtract = architecture != "transcoder"
        self.cfg = types.SimpleNamespace(
            architecture=lambda: architecture, normalize_activations=normalisation,
            apply_b_dec_to_input=subtract, **cfg,
        )  # fmt: skip
        self.W_enc, self.W_dec = nn.Parameter(torch.randn(D, N)), nn.Parameter(torch.randn(N, D))
        self.b_dec = nn.Parameter(torch.randn(D))
        self.b_enc = None if architecture == "gated" else nn.Parameter(torch.randn(N))
        if architecture == "gated":
            self.b_gate = nn.Parameter(torch.randn(N))
        if architecture == "jumprelu":
            self.threshold = nn.Parameter(torch.rand(N))

    def active(self, x: Tensor) -> Any:
        z = (x - self.b_dec * self.cfg.apply_b_dec_to_input) @ self.W_enc
        word = self.cfg.architecture()
        if word == "gated":
            return z + self.b_gate > 0
        z = z + self.b_enc
        if word in ("topk", "batchtopk"):
            z = z * self.W_dec.norm(dim=-1) if self.cfg.rescale_acts_by_decoder_norm else z
            flat = z.relu() if word == "topk" else z.relu().view(1, -1)
            best = flat.topk(int(self.cfg.k * (1 if word == "topk" else len(z)))).indices
            return torch.zeros_like(flat).scatter(1, best, 1).view_as(z).bool() & (z > 0)
        return z > (self.threshold if word == "jumprelu" else 0)


class AutoEncoder(nn.Module):
    """dictionary_learning."""

    def __init__(self) -> None:
        super().__init__()
        self.activation_dim, self.dict_size = D, N
        self.encoder, self.decoder = nn.Linear(D, N), nn.Linear(N, D, bias=False)
        self.make()

    def make(self) -> None:
        self.bias = nn.Parameter(torch.randn(D))

    def active(self, x: Tensor) -> Any:
        return self.encoder(x - self.bias) > 0


class AutoEncoderNew(AutoEncoder):
    def make(self) -> None:
        pass

    def active(self, x: Tensor) -> Any:
        return self.encoder(x) > 0


class GatedAutoEncoder(AutoEncoder):
    def make(self) -> None:
        self.encoder = nn.Linear(D, N, bias=False)
        self.decoder_bias, self.gate_bias = nn.Parameter(torch.randn(D)), nn.Parameter(torch.randn(N))

    def active(self, x: Tensor) -> Any:
        return self.encoder(x - self.decoder_bias) + self.gate_bias > 0


class AutoEncoderTopK(AutoEncoder):
    def make(self) -> None:
        self.b_dec = nn.Parameter(torch.randn(D))
        self.register_buffer("k", torch.tensor(5, dtype=torch.int))
        self.register_buffer("threshold", torch.tensor(-1.0))

    def active(self, x: Tensor) -> Any:
        z = self.encoder(x - self.b_dec).relu()
        return torch.zeros_like(z).scatter(1, z.topk(5).indices, 1).bool() & (z > 0)


class BatchTopKSAE(AutoEncoderTopK):
    def active(self, x: Tensor) -> Any:
        z = self.encoder(x - self.b_dec).relu()
        return (z > self.threshold) & (z > 0)


class JumpReluAutoEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.activation_dim, self.dict_size, self.apply_b_dec_to_input = D, N, False
        self.W_enc, self.b_enc = nn.Parameter(torch.randn(D, N)), nn.Parameter(torch.randn(N))
        self.b_dec, self.threshold = nn.Parameter(torch.randn(D)), nn.Parameter(torch.rand(N))

    def active(self, x: Tensor) -> Any:
        return (x - self.b_dec * self.apply_b_dec_to_input) @ self.W_enc + self.b_enc > self.threshold


class SparseCoder(nn.Module):
    """sparsify."""

    def __init__(self, transcode: bool, activation: str = "topk") -> None:
        super().__init__()
        self.cfg = types.SimpleNamespace(k=4, transcode=transcode, activation=activation)
        self.num_latents, self.encoder, self.b_dec = N, nn.Linear(D, N), nn.Parameter(torch.randn(D))

    def active(self, x: Tensor) -> Any:
        z = self.encoder(x if self.cfg.transcode else x - self.b_dec).relu()
        return torch.zeros_like(z).scatter(1, z.topk(4).indices, 1).bool() & (z > 0)


def with_threshold(sae: Any, value: float) -> Any:
    sae.threshold.fill_(value)
    return sae


MADE: dict[str, Any] = {
    **{f"SAELens {a}": lambda a=a: SAE(a, k=5, rescale_acts_by_decoder_norm=False) for a in ARCHITECTURES},
    "SAELens topk, ranked": lambda: SAE("topk", k=5, rescale_acts_by_decoder_norm=True),
    "AutoEncoder": AutoEncoder,
    "AutoEncoderNew": AutoEncoderNew,
    "GatedAutoEncoder": GatedAutoEncoder,
    "AutoEncoderTopK": AutoEncoderTopK,
    "BatchTopKSAE": lambda: with_threshold(BatchTopKSAE(), 0.7),
    "BatchTopKSAE, untrained": BatchTopKSAE,
    "JumpReluAutoEncoder": JumpReluAutoEncoder,
    "SparseCoder": lambda: SparseCoder(False),
    "SparseCoder, a transcoder": lambda: SparseCoder(True),
}


@pytest.mark.parametrize("name", MADE)
def test_codes_are_the_active_units(name: str) -> None:
    sae, x = MADE[name](), torch.randn(40, D)
    with torch.no_grad():
        active = sae.active(x)
    assert 0 < active.float().mean() < 1
    found = pk.SparseAutoencoder.of(sae, name="mine")
    assert not found.weight.requires_grad
    codes = found.codes(x)
    assert torch.equal(codes.words, pack.signs(active.float())[0])
    assert codes.layout.fields[0].name == "mine"


def test_a_factor_that_no_tensor_holds() -> None:
    sae, x = SAE("standard", "expected_average_only_in"), torch.randn(40, D)
    with pytest.raises(UsageError, match=r"times a factor(.|\n)*give factor"):
        pk.SparseAutoencoder.of(sae)
    found = pk.SparseAutoencoder.of(sae, factor=3.0).codes(x)
    assert torch.equal(found.words, pack.signs(sae.active(3 * x).float())[0])


@pytest.mark.parametrize(
    ("sae", "message"),
    [
        (nn.Linear(2, 2), "looks like Linear"),
        (SAE("abstopk"), "abstopk autoencoder are not on or off"),
        (SAE("standard", "covariance_whitening"), "normalisation"),
        (SparseCoder(False, "groupmax"), "by groupmax"),
        (types.SimpleNamespace(dict_size=4, activation_dim=4), "has no encoder"),
    ],
)
def test_autoencoders_that_are_not_taken(sae: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pk.SparseAutoencoder.of(sae)
