"""cooccurrence: every backend equals the reference; symmetric; chunks add up; padding never counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import BackendError, cooccurrence, pack, profiles
from tests.kernels.conftest import require, triton_way
from tests.kernels.test_profiles import codes

WAYS = [
    pytest.param("cpu", "cpu", id="cpu"),
    pytest.param("triton", "cpu", id="interpreter"),
    pytest.param("dot", "cpu", id="dot"),
    *(pytest.param(name, "cuda", id=f"{name}-cuda", marks=pytest.mark.gpu) for name in ("triton", "b1", "dot")),
]
# one bit; a part of a word; no rows; no bits; a tile less and more one; a block and a rest; many words of rows
SHAPES = [(1, 1), (5, 31), (0, 40), (3, 0), (64, 23), (65, 25), (33, 193), (1100, 70), (40, 400)]


def need(backend: str, device: str) -> None:
    """Skip what this machine has not."""
    if backend in ("cpu", "reference"):
        return
    triton_way("cuda" if device == "cuda" else "interpreter")
    words = torch.zeros((1, 1), dtype=torch.int32, device=device)
    require(next(i for i in cooccurrence.IMPLS if i.name == backend).objection(words))


@pytest.mark.parametrize(("backend", "device"), WAYS)
@pytest.mark.parametrize(("rows", "bits"), SHAPES)
def test_counts_equal_reference(backend: str, device: str, rows: int, bits: int, rng: torch.Generator) -> None:
    need(backend, device)
    words = codes(rows, bits, rng)
    got = cooccurrence.counts(words.to(device), bits, backend=backend)
    assert got.device.type == device
    assert torch.equal(got.cpu(), cooccurrence.counts(words, bits, backend="reference"))


@pytest.mark.parametrize(("backend", "device"), WAYS)
@pytest.mark.parametrize("rows", [1, 31, 32, 100])
def test_chunks_and_blocks_change_nothing(
    backend: str, device: str, rows: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(backend, device)
    words, bits = codes(min(100, 9 * rows), 70, rng), 70
    want = cooccurrence.counts(words, bits, backend="reference")
    monkeypatch.setattr(cooccurrence, "_ROWS", rows)
    monkeypatch.setattr(cooccurrence, "_NEAR", rows)
    monkeypatch.setattr(cooccurrence, "_BLOCK", 24)
    assert torch.equal(cooccurrence.counts(words.to(device), bits, backend=backend).cpu(), want)


@pytest.mark.parametrize(("backend", "device"), [*WAYS, pytest.param("reference", "cpu", id="reference")])
def test_adds_to_views_of_totals(backend: str, device: str, rng: torch.Generator) -> None:
    need(backend, device)
    bits = 45
    whole = torch.full((90, 90), -1, dtype=torch.int64, device=device)
    total = whole[::2, ::2].zero_()
    for _ in range(2):
        words = codes(40, 90, rng)[::2]
        mine = pack.signs(pack.unpack(words, 90)[:, :bits].float())[0]
        before = total.clone()
        cooccurrence.add(total, mine.to(device), backend=backend)
        assert torch.equal((total - before).cpu(), cooccurrence.counts(mine, bits, backend="reference"))
    assert (whole[1::2] == -1).all()
    assert (whole[:, 1::2] == -1).all()


@given(st.integers(0, 70), st.integers(1, 70), st.integers(0, 70), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_laws(rows: int, bits: int, cut: int, seed: int) -> None:
    words = codes(rows, bits, torch.Generator().manual_seed(seed))
    total = cooccurrence.counts(words, bits)
    assert torch.equal(total, total.T)
    every, starts = torch.arange(rows), torch.tensor([0, rows])
    assert torch.equal(total.diagonal(), profiles.counts(words, every, starts, bits)[0].long())
    parts = torch.zeros_like(total)
    for chunk in (words[:cut], words[cut:]):
        cooccurrence.add(parts, chunk)
    assert torch.equal(parts, total)
    # a bit and its complement are never on together, and one of them always is
    both = pack.join([words, pack.signs((~pack.unpack(words, bits)).float())[0]], [bits, bits])
    wide = cooccurrence.counts(both, 2 * bits)
    assert torch.equal(wide[:bits, :bits], total)
    assert torch.equal(wide[:bits, bits:] + total, total.diagonal()[:, None].expand(bits, bits))
    assert (wide[bits:, :bits].diagonal() == 0).all()


def test_messages(rng: torch.Generator) -> None:
    words, total = codes(4, 40, rng), torch.zeros((40, 40), dtype=torch.int64)
    with pytest.raises(ValueError, match=r"counts: words must be int32 \(rows, 1\) for 32 bits, got int32\[4, 2\]"):
        cooccurrence.counts(words, 32)
    with pytest.raises(ValueError, match=r"add: total must be int64 \(bits, bits\), got int32\[40, 40\]@cpu"):
        cooccurrence.add(total.int(), words)
    with pytest.raises(ValueError, match=r"add: total must be int64\[40, 40\], got int64\[39, 40\]@cpu"):
        cooccurrence.add(total[1:], words)
    with pytest.raises(ValueError, match=r"one device, got total int64\[40, 40\]@meta, words int32\[4, 2\]@cpu"):
        cooccurrence.add(total.to("meta"), words)
    with pytest.raises(BackendError, match=r"no backend 'cuda'; it has b1, dot, triton, cpu, reference"):
        cooccurrence.counts(words, 40, backend="cuda")


def test_cost_counts_compulsory_work() -> None:
    c = cooccurrence.cost(rows=33, bits=65)
    assert (c.bytes, c.popcounts) == (4 * 33 * 3 + 8 * 65 * 65, 65 * 66 // 2 * 2)
