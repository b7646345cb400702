"""profiles: every backend equals the reference; what counts and sums mean; one answer for any cut into parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import hamming, pack, profiles
from polykern_kernels._bits import words_for
from tests.kernels.conftest import Way


def codes(rows: int, bits: int, rng: torch.Generator) -> torch.Tensor:
    """int32 (rows, words): bits that are 1 three times in four."""
    return pack.signs(torch.randn((rows, bits), generator=rng) + 0.7, backend="reference")[0]


def grouped(n: int, sizes: list[int], rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of n codes in groups of these sizes, a row in several perhaps."""
    starts = torch.tensor([0, *sizes]).cumsum(0)
    return torch.randint(0, max(1, n), (int(starts[-1]),), generator=rng), starts


# one bit; a part of a word; empty groups at both ends and between; more rows than planes hold, twice; many words
SHAPES = [
    (1, 1, [1]),
    (5, 31, [0, 3, 0, 2, 0]),
    (0, 40, [0, 0]),
    (7, 33, []),
    (40, 64, [62, 63, 64, 1, 130]),
    (9, 129 * 32 + 5, [9, 2]),
    (3, 0, [2, 1]),
]


@pytest.mark.parametrize(("n", "bits", "sizes"), SHAPES)
def test_counts_equal_reference(way: Way, n: int, bits: int, sizes: list[int], rng: torch.Generator) -> None:
    way.equals_reference(profiles.counts, codes(n, bits, rng), *grouped(n, sizes, rng), bits)


@pytest.mark.parametrize(("n", "bits", "sizes"), SHAPES)
def test_sums_equal_reference(way: Way, n: int, bits: int, sizes: list[int], rng: torch.Generator) -> None:
    weights = torch.randint(-(2**31), 2**31, (len(sizes), bits), generator=rng).to(torch.int32)
    way.equals_reference(profiles.sums, codes(n, bits, rng), *grouped(n, sizes, rng), weights)


def test_a_view_of_codes_is_taken_as_it_is(way: Way, rng: torch.Generator) -> None:
    words = codes(12, 70, rng)[::2]
    rows, starts = grouped(6, [4, 5], rng)
    way.equals_reference(profiles.counts, words, rows, starts, 70)
    weights = torch.randint(-9, 9, (70, 2), generator=rng, dtype=torch.int32).T
    way.equals_reference(profiles.sums, words, rows, starts, weights)


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 7))
def test_parts_cover_every_row_once(sizes: list[int], most: int) -> None:
    starts = torch.tensor([0, *sizes]).cumsum(0)
    edges, group = profiles.parts(starts, most)
    assert (edges.diff() <= most).all()
    owner = torch.arange(len(sizes)).repeat_interleave(starts.diff())
    assert torch.equal(group.repeat_interleave(edges.diff()), owner)


@pytest.mark.parametrize("most", [1, 5, 62, 63, 64, 1000])
def test_counts_do_not_depend_on_the_parts(
    most: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, bits = codes(30, 50, rng), 50
    rows, starts = grouped(30, [100, 0, 7], rng)
    monkeypatch.setattr(profiles, "_COUNTED", most)
    got = profiles.counts(words, rows, starts, bits, backend="cpu")
    assert torch.equal(got, profiles.counts(words, rows, starts, bits, backend="reference"))


@given(st.integers(1, 12), st.integers(1, 70), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_the_scatter_is_the_sum_of_the_distances(n: int, bits: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    words = codes(n, bits, rng)
    rows, starts = torch.arange(n), torch.tensor([0, n])
    count = profiles.counts(words, rows, starts, bits)
    assert torch.equal(count[0].long(), pack.unpack(words, bits).long().sum(0))
    scatter = count.sum() + profiles.sums(words, rows, starts, n - 2 * count)
    assert torch.equal(scatter, hamming.pairwise(words, words).long().sum(1))


def test_messages(rng: torch.Generator) -> None:
    words, rows, starts = codes(4, 40, rng), torch.tensor([0, 3]), torch.tensor([0, 2])
    with pytest.raises(
        ValueError, match=r"counts: words must be int32 \(n, 1\) for 32 bits, got int32\[4, 2\]@cpu"
    ):
        profiles.counts(words, rows, starts, 32)
    with pytest.raises(ValueError, match=r"counts: starts must be ascending from 0 to 2, got int64\[2\]@cpu"):
        profiles.counts(words, rows, torch.tensor([0, 1]), 40)
    with pytest.raises(ValueError, match=r"starts must be ascending"):
        profiles.counts(words, rows, torch.tensor([0, 2, 1, 2]), 40)
    with pytest.raises(ValueError, match=r"counts: rows must be rows of 4 codes, got int64\[2\]@cpu"):
        profiles.counts(words, torch.tensor([0, 4]), starts, 40)
    with pytest.raises(ValueError, match=r"sums: weights must be int32 \(1, bits of 2 words\), got int32\[2, 40\]"):
        profiles.sums(words, rows, starts, torch.zeros((2, 40), dtype=torch.int32))


def test_cost_counts_compulsory_work() -> None:
    bits = 65
    assert profiles.cost_counts(10, 2, bits).bytes == 10 * (8 + 4 * words_for(bits)) + 8 * 3 + 4 * 2 * bits
    assert profiles.cost_sums(10, 2, bits).bytes == profiles.cost_counts(10, 2, bits).bytes + 8 * 10
