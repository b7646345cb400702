"""census: equal fingerprints are united, on every backend the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import census
from polykern_kernels._dispatch import BackendError


def rows(n: int, distinct: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """n sightings of at most `distinct` fingerprints."""
    pool = torch.randint(-(2**62), 2**62, (max(1, distinct), 2), generator=rng)
    which = torch.randint(0, max(1, distinct), (n,), generator=rng)
    marks = (1 << torch.randint(0, 16, (n,), generator=rng)).to(torch.int32)
    return pool[which], marks, torch.randint(1, 5, (n,), generator=rng)


@pytest.mark.parametrize(("n", "distinct"), [(0, 1), (1, 1), (7, 3), (15, 15), (1000, 40), (1000, 5000)])
def test_equals_reference(n: int, distinct: int, rng: torch.Generator) -> None:
    given_rows = rows(n, distinct, rng)
    ours, theirs = (census.united(*given_rows, backend=b) for b in ("cpu", "reference"))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_fingerprints_that_share_a_lane_are_different() -> None:
    same = torch.tensor([[5, 1], [5, 2], [6, 1], [5, 1]])
    unique, marks, counts = census.united(same, torch.tensor([1, 2, 4, 8], dtype=torch.int32), torch.ones(4).long())
    assert unique.tolist() == [[5, 1], [5, 2], [6, 1]]
    assert marks.tolist() == [9, 2, 4]
    assert counts.tolist() == [2, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15)), max_size=40), st.integers(0, 40))
@settings(deadline=None, max_examples=30)
def test_uniting_parts_is_uniting_all(sightings: list[tuple[int, int]], cut: int) -> None:
    prints = torch.tensor([[a, -a] for a, _ in sightings], dtype=torch.int64).reshape(-1, 2)
    marks = torch.tensor([1 << m for _, m in sightings], dtype=torch.int32)
    everything = prints, marks, torch.ones(len(sightings), dtype=torch.int64)
    whole = census.united(*everything)
    parts = [census.united(*(x[:cut] for x in everything)), census.united(*(x[cut:] for x in everything))]
    again = census.united(*(torch.cat([p[k] for p in parts]) for k in range(3)))
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_messages() -> None:
    prints, marks, counts = torch.zeros(2, 2).long(), torch.zeros(2, dtype=torch.int32), torch.ones(2).long()
    with pytest.raises(ValueError, match=r"fingerprints must be int64 \(n, 2\), got int64\[2\]@cpu"):
        census.united(prints[:, 0], marks, counts)
    with pytest.raises(ValueError, match=r"marks must be int32\[2\], got int64\[2\]@cpu"):
        census.united(prints, counts, counts)
    with pytest.raises(BackendError, match="no backend 'triton'; it has cpu, reference"):
        census.united(prints, marks, counts, backend="triton")


def test_cost_counts_compulsory_work() -> None:
    assert census.cost(10, 4).bytes == 28 * 14
