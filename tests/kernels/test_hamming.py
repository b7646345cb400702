"""hamming: every backend equals the reference, bit for bit; distances are a metric."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import BackendError, hamming, pack
from tests.kernels.conftest import Way

# one element, one short of a tile, one over, no rows on either side, a long code, no bits at all
SHAPES = [(1, 1, 1), (3, 63, 2), (66, 257, 3), (0, 5, 2), (5, 0, 2), (7, 9, 129), (2, 3, 0)]


def codes(*shape: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31 - 1, shape, dtype=torch.int32, generator=rng)


@pytest.mark.parametrize(("n", "m", "words"), SHAPES)
def test_pairwise_equals_reference(way: Way, n: int, m: int, words: int, rng: torch.Generator) -> None:
    way.equals_reference(hamming.pairwise, codes(n, words, rng=rng), codes(m, words, rng=rng))


def test_pairwise_beyond_a_task_of_the_cpu(rng: torch.Generator) -> None:
    """More rows and more columns than one task takes, against a product of the bits."""
    a, b = codes(531, 3, rng=rng), codes(6199, 3, rng=rng)
    x, y = (pack.unpack(c, 96).float() for c in (a, b))
    differing = x.sum(1)[:, None] + y.sum(1) - 2 * x @ y.T
    assert torch.equal(hamming.pairwise(a, b, backend="cpu"), differing.int())


@pytest.mark.parametrize(("n", "m", "words"), SHAPES)
def test_aligned_equals_reference(way: Way, n: int, m: int, words: int, rng: torch.Generator) -> None:
    way.equals_reference(hamming.aligned, codes(m, words, rng=rng), codes(m, words, rng=rng))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (7, 1, 2), (3, 18, 67), (2, 2, 0)])
def test_neighbours_equals_reference(way: Way, shape: tuple[int, int, int], rng: torch.Generator) -> None:
    way.equals_reference(hamming.neighbours, codes(*shape, rng=rng))


def test_takes_views(way: Way, rng: torch.Generator) -> None:
    x = codes(6, 10, 5, rng=rng)
    way.equals_reference(hamming.pairwise, x[0, ::2], x[1, :, :].flip(0))
    way.equals_reference(hamming.aligned, x[:, 3], x[:, 4])
    way.equals_reference(hamming.neighbours, x.transpose(0, 1))


WORD = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(st.tuples(WORD, WORD), min_size=3, max_size=3))
@settings(deadline=None, max_examples=25)
def test_is_a_metric(rows: list[tuple[int, int]]) -> None:
    x = torch.tensor(rows, dtype=torch.int32)
    d = hamming.pairwise(x, x)
    assert torch.equal(d.diagonal(), torch.zeros(3, dtype=torch.int32))
    assert torch.equal(d, d.T)
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :]).all()
    assert ((d == 0) == (x[:, None] == x[None]).all(2)).all()


def test_neighbours_are_aligned_distances(rng: torch.Generator) -> None:
    x = codes(4, 5, 3, rng=rng)
    right, down = hamming.neighbours(x)
    assert torch.equal(right[2], hamming.aligned(x[2, :-1], x[2, 1:]))
    assert torch.equal(down[:, 3], hamming.aligned(x[:-1, 3], x[1:, 3]))


def test_the_refusal_names_what_is_wrong() -> None:
    a = torch.zeros((2, 3), dtype=torch.int32)
    with pytest.raises(BackendError, match="no backend 'cuda'; it has b1, dot, triton, cpu, reference"):
        hamming.pairwise(a, a, backend="cuda")
    with pytest.raises(ValueError, match=r"pairwise: a must be int32 \(rows, words\), got int64\[2, 3\]@cpu"):
        hamming.pairwise(a.long(), a)
    with pytest.raises(ValueError, match=r"pairwise: b must be int32 \(rows, 3\), got int32\[2, 2\]@cpu"):
        hamming.pairwise(a, a[:, :2])
    with pytest.raises(ValueError, match=r"aligned: b must be int32\[2, 3\], got int32\[1, 3\]@cpu"):
        hamming.aligned(a, a[:1])
    with pytest.raises(ValueError, match=r"must lie on one device, got a int32\[2, 3\]@cpu, b int32\[2, 3\]@meta"):
        hamming.aligned(a, a.to("meta"))
    with pytest.raises(ValueError, match=r"words must be int32 \(height >= 1, width >= 1, words\)"):
        hamming.neighbours(a[None, :0])


def test_the_refusal_names_every_backend_that_was_asked() -> None:
    a = torch.zeros((2, 3), dtype=torch.int32, device="meta")
    with pytest.raises(BackendError, match=r"nothing can run .*\n  cpu: needs CPU tensors, got meta$"):
        hamming.aligned(a, a, backend="cpu")


def test_costs_count_compulsory_work() -> None:
    c = hamming.cost(n=2, m=3, words=4)
    assert (c.bytes, c.popcounts) == (4 * (8 + 12 + 6), 24)
    c = hamming.cost_aligned(n=2, words=4)
    assert (c.bytes, c.popcounts) == (4 * (16 + 2), 8)
    c = hamming.cost_neighbours(height=2, width=3, words=4)
    assert (c.bytes, c.popcounts) == (4 * (24 + 4 + 3), 28)
