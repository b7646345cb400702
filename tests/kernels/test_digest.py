"""digest: every backend equals the reference; the published generator; additivity; distinct codes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import digest, pack
from tests.kernels.conftest import Way

# the first outputs of SplitMix64 seeded with 0, as its author publishes them
SPLITMIX64 = [
    0xE220A8397B1DCDAF,
    0x6E789E6AA1B965F4,
    0x06C45D188009454F,
    0xF88BB8A8724C81EC,
    0x1B39896A51A8749B,
    0x53CB9F0C747EA2EA,
]


def fields(rows: int, bits: int, rng: torch.Generator) -> torch.Tensor:
    words, _ = pack.signs(torch.randn((rows, bits), generator=rng), backend="reference")
    return words


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_keys_are_splitmix64(backend: str) -> None:
    got = [key % 2**64 for key in digest.keys(3, backend=backend).flatten().tolist()]
    assert got == SPLITMIX64


@pytest.mark.parametrize(("bits", "offset"), [(1, 0), (0, 3), (300, 1), (33, 2**33)])
def test_keys_equal_reference(way: Way, bits: int, offset: int) -> None:
    got = digest.keys(bits, offset=offset, device=way.device, backend=way.backend)
    assert torch.equal(got.cpu(), digest.keys(bits, offset=offset, backend="reference"))


# one bit, a word less and more one, rows that do not fill a task, no rows, no bits, several chunks of words
@pytest.mark.parametrize(("rows", "bits"), [(1, 1), (9, 31), (17, 33), (0, 5), (3, 0), (2, 65 * 32 + 7)])
@pytest.mark.parametrize("offset", [0, 1, 2**32 + 5])
def test_fingerprints_equal_reference(way: Way, rows: int, bits: int, offset: int, rng: torch.Generator) -> None:
    way.equals_reference(digest.fingerprints, fields(rows, bits, rng), bits, offset=offset)


@pytest.mark.parametrize("rows", [0, 1, 2, 50])
def test_distinct_equals_reference(way: Way, rows: int, rng: torch.Generator) -> None:
    prints = torch.randint(-3, 3, (rows, 2), generator=rng) << 61
    way.equals_reference(digest.distinct, prints)


def test_distinct_is_ascending_and_complete(rng: torch.Generator) -> None:
    prints = torch.randint(-2, 2, (40, 2), generator=rng)
    unique, counts = digest.distinct(prints)
    rows = [tuple(row) for row in prints.tolist()]
    assert [tuple(row) for row in unique.tolist()] == sorted(set(rows))
    assert counts.tolist() == [rows.count(row) for row in sorted(set(rows))]


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_the_fingerprint_of_a_code_is_the_sum_over_its_fields(a: int, b: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    left, right = fields(3, a, rng), fields(3, b, rng)
    whole = digest.fingerprints(pack.join([left, right], [a, b]), a + b)
    parts = digest.fingerprints(left, a) + digest.fingerprints(right, b, offset=a)
    assert torch.equal(whole, parts)


def test_one_bit_has_its_key_and_none_has_zero() -> None:
    words = torch.tensor([[0, 0], [0, 1 << 3]], dtype=torch.int32)
    prints = digest.fingerprints(words, 64, offset=100)
    assert torch.equal(prints, torch.stack([torch.zeros(2, dtype=torch.int64), digest.keys(1, offset=135)[0]]))


def test_different_codes_have_different_fingerprints() -> None:
    words = torch.arange(1 << 12, dtype=torch.int32)[:, None]
    unique, counts = digest.distinct(digest.fingerprints(words, 32))
    assert len(unique) == 1 << 12
    assert (counts == 1).all()


def test_the_refusal_names_what_is_wrong() -> None:
    words = torch.zeros((2, 2), dtype=torch.int32)
    with pytest.raises(ValueError, match=r"words must be int32 \(rows, 1\) for 32 bits, got int32\[2, 2\]@cpu"):
        digest.fingerprints(words, 32)
    with pytest.raises(ValueError, match=r"digest.fingerprints: bits and offset must be >= 0, got 64, -1"):
        digest.fingerprints(words, 64, offset=-1)
    with pytest.raises(ValueError, match=r"digest.keys: bits and offset must be >= 0, got -1, 0"):
        digest.keys(-1)
    with pytest.raises(ValueError, match=r"distinct: fingerprints must be int64 \(rows, 2\), got int64\[2, 3\]"):
        digest.distinct(torch.zeros((2, 3), dtype=torch.int64))


def test_cost_counts_compulsory_work() -> None:
    assert digest.cost(rows=3, bits=33).bytes == 3 * (8 + 16)
