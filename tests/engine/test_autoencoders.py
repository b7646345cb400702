"""Codes of sparse autoencoders are those of plain loops over units, ties included; bad shapes are refused."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polykern.autoencoders import SparseAutoencoder
from polykern.errors import CorruptError, UsageError

DIMENSIONS, UNITS = 12, 70


def state(seed: int = 0, **more: Tensor) -> dict[str, Tensor]:
    """A state dict with SAELens' names."""
    g = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (DIMENSIONS, UNITS), "b_enc": (UNITS,), "W_dec": (UNITS, DIMENSIONS), "b_dec": (DIMENSIONS,)}
    return {name: torch.randn(shape, generator=g, dtype=torch.float64) for name, shape in shapes.items()} | more


def activations(n: int = 33, seed: int = 1) -> Tensor:
    return torch.randn(n, DIMENSIONS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loop(x: Tensor, weight: Tensor, bias: Tensor, centre: Tensor) -> list[list[float]]:
    """Pre-activations, a product at a time."""
    y = [[float(a - c) for a, c in zip(row, centre, strict=True)] for row in x]
    return [
        [
            sum(y_d * float(w) for y_d, w in zip(row, weight[:, u], strict=True)) + float(bias[u])
            for u in range(UNITS)
        ]
        for row in y
    ]


def largest(values: list[float], k: int) -> set[int]:
    """Places of the k largest, of equal ones the first, without those that are not positive."""
    order = sorted(range(len(values)), key=lambda u: (-values[u], u))
    return {u for u in order[:k] if values[u] > 0}


def test_relu_and_jumprelu_are_comparisons() -> None:
    x, s = activations(), state()
    z = torch.tensor(loop(x, s["W_enc"], s["b_enc"], s["b_dec"]), dtype=torch.float64)
    assert torch.equal(SparseAutoencoder.of_state(s).codes(x).bits(), z > 0)
    theta = torch.linspace(-1, 2, UNITS, dtype=torch.float64)
    jump = SparseAutoencoder.of_state(state(threshold=theta))
    assert jump.kind == "jumprelu"
    wanted = z > theta.clamp(min=0)
    assert torch.equal(jump.codes(x, batch=5).bits(), wanted)
    assert not torch.equal(wanted, z > 0)
    older = SparseAutoencoder.of_state(state(log_threshold=theta.clamp(min=0.01).log()))
    assert torch.equal(older.codes(x).bits(), z > theta.clamp(min=0.01).log().exp())


def test_a_pre_activation_on_its_threshold_is_off() -> None:
    one = torch.ones(1, 3)
    sae = SparseAutoencoder(one, torch.zeros(3), "jumprelu", threshold=torch.tensor([0.1, 0.3, 0.0]))
    x = torch.tensor([[0.1], [0.3], [0.0]])
    assert sae.codes(x).bits().tolist() == [[False, False, True], [True, False, True], [False, False, False]]


@pytest.mark.parametrize("how", [{}, {"k": 5}, {"threshold": torch.ones(UNITS, dtype=torch.float64)}])
def test_activations_of_nan_are_nan(how: dict[str, Any]) -> None:
    x = activations(3)
    x[1, 4] = torch.nan
    found = SparseAutoencoder.of_state(state() | {k: v for k, v in how.items() if k != "k"}, k=how.get("k"))
    assert found.activations(x).isnan().all(1).tolist() == [False, True, False]


def test_topk_is_the_first_of_a_sorted_row() -> None:
    x, s = activations(), state()
    z = loop(x, s["W_enc"], s["b_enc"], s["b_dec"])
    norms = s["W_dec"].norm(dim=1).tolist()
    for k, ranked in ((1, False), (7, False), (7, True), (UNITS, False)):
        sae = SparseAutoencoder.of_state(s, k=k, ranked=ranked)
        assert sae.kind == "topk"
        found = sae.codes(x).bits()
        for row, bits in zip(z, found, strict=True):
            order = [v * n for v, n in zip(row, norms, strict=True)] if ranked else row
            assert set(bits.nonzero().flatten().tolist()) == largest(order, k)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-2, 3), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(1, 6))
def test_ties_go_to_the_smaller_unit(rows: list[list[int]], k: int) -> None:
    x = torch.tensor(rows, dtype=torch.float32)
    row_wise = SparseAutoencoder(torch.eye(6), torch.zeros(6), "topk", k=k).codes(x).bits()
    for row, bits in zip(rows, row_wise, strict=True):
        assert set(bits.nonzero().flatten().tolist()) == largest([float(v) for v in row], k)
    whole = SparseAutoencoder(torch.eye(6), torch.zeros(6), "batchtopk", k=k / 2).codes(x, batch=1).bits()
    flat = [float(v) for row in rows for v in row]
    assert set(whole.flatten().nonzero().flatten().tolist()) == largest(flat, int(k / 2 * len(rows)))


def test_the_gate_decides_and_not_the_magnitude() -> None:
    x, s = activations(), state()
    b_gate = torch.linspace(-2, 2, UNITS, dtype=torch.float64)
    sae = SparseAutoencoder.of_state(state(b_gate=b_gate, r_mag=torch.ones(UNITS), b_mag=-9 * torch.ones(UNITS)))
    assert sae.kind == "gated"
    z = torch.tensor(loop(x, s["W_enc"], b_gate, s["b_dec"]), dtype=torch.float64)
    assert torch.equal(sae.codes(x).bits(), z > 0)


def test_inputs_are_normalised_as_the_autoencoder_expects() -> None:
    x, s = activations(), state()
    plain = {"W_enc": s["W_enc"], "b_enc": s["b_enc"], "b_dec": s["b_dec"]}
    reference = SparseAutoencoder.of_state(plain)
    by_hand = {
        "constant_norm_rescale": x / x.square().sum(1, keepdim=True).sqrt() * DIMENSIONS**0.5,
        "layer_norm": (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True).sqrt() + 1e-5),
    }
    for word, y in by_hand.items():
        sae = SparseAutoencoder.of_state(plain, normalisation=word)
        assert torch.allclose(sae.pre_activations(x), reference.pre_activations(y), atol=1e-12)
        assert sae.codes(7 * x) == sae.codes(x)  # neither sees the length of a vector
    scaled = SparseAutoencoder.of_state(plain, factor=3.0)
    assert scaled.codes(x) == reference.codes(3 * x)
    bare = SparseAutoencoder.of_state(s, subtract=False)
    assert bare.codes(x - s["b_dec"]) == reference.codes(x)


def test_codes_have_the_layout_of_their_kind_and_compare() -> None:
    x = activations()
    sae = SparseAutoencoder.of_state(state(), k=5, name="blocks.3.sae")
    codes = sae.codes(x)
    (field,) = codes.layout.fields
    assert (field.name, field.kind, field.units, len(codes)) == ("blocks.3.sae", "topk", UNITS, len(x))
    assert int(codes.popcounts.max()) <= 5
    bits = codes.bits()
    assert torch.equal(codes.distances().long(), (bits[:, None] ^ bits[None]).sum(2))
    single = sae.to(torch.float32).codes(x[:0])
    assert len(single) == 0
    assert single.layout == codes.layout
    with pytest.raises(UsageError, match="different layouts"):
        codes.distances(SparseAutoencoder.of_state(state()).codes(x))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"kind": "tanh"}, "there is no kind"),
        ({"kind": "jumprelu"}, "without threshold"),
        ({"kind": "topk"}, "from 1 to its 70 units, got None"),
        ({"k": 2.5}, "whole number"),
        ({"k": 71}, "got 71"),
        ({"normalisation": "expected_average_only_in"}, "there is no normalisation"),
    ],
)
def test_what_does_not_fit_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SparseAutoencoder.of_state(state(), **how)


def test_shapes_and_nan_are_refused() -> None:
    with pytest.raises(UsageError, match=r"without b_dec"):
        SparseAutoencoder.of_state({k: v for k, v in state().items() if k != "b_dec"})
    with pytest.raises(UsageError, match=r"bias of an encoder 12 -> 70 is \(70\), got float64 \[69\]"):
        SparseAutoencoder.of_state(state(b_enc=torch.zeros(69, dtype=torch.float64)))
    sae = SparseAutoencoder.of_state(state(), normalisation="constant_norm_rescale")
    with pytest.raises(UsageError, match=r"reads activations \(n, 12\), got float64 \[3, 11\]"):
        sae.codes(torch.zeros(3, 11, dtype=torch.float64))
    with pytest.raises(CorruptError, match="in 1 of 2 rows, first in number 1"):
        sae.codes(torch.stack([torch.ones(12), torch.zeros(12)]).double())
    with pytest.raises(CorruptError, match="bias of the sparse autoencoder holds NaN"):
        SparseAutoencoder.of_state(state(b_enc=torch.full((UNITS,), torch.nan, dtype=torch.float64)))
