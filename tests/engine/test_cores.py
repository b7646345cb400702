"""Core distances count rows: copies of a row are others, the row itself is not."""

import pytest
import torch
from torch import Tensor

from polykern.clustering.cores import core_distances
from polykern.clustering.duplicates import distinct_rows
from polykern.clustering.space import Packed
from polykern.errors import UsageError
from polykern_kernels import hamming


def rows_with_copies(n: int, rng: torch.Generator) -> Tensor:
    return torch.randint(0, 40, (n, 1), generator=rng, dtype=torch.int32)


@pytest.mark.parametrize("min_samples", [1, 2, 4, 9, 59])
def test_is_the_distance_of_the_neighbour(min_samples: int, rng: torch.Generator) -> None:
    rows = rows_with_copies(60, rng)
    groups = distinct_rows(rows)
    assert (groups.counts > 1).any()
    space = Packed(rows[groups.first])
    lists = space.nearest(min(min_samples, space.n - 1))
    found = core_distances(*lists, groups.counts, min_samples)
    truth = hamming.pairwise(rows, rows)
    truth.fill_diagonal_(-1)  # the row itself comes first
    assert found.dtype == torch.int32
    assert torch.equal(found[groups.inverse], truth.sort(dim=1).values[:, min_samples])


def test_longer_lists_say_the_same(rng: torch.Generator) -> None:
    rows = rows_with_copies(60, rng)
    groups = distinct_rows(rows)
    d, i = Packed(rows[groups.first]).nearest(12)
    short = core_distances(d[:, :5].double(), i[:, :5], groups.counts, 5)
    assert torch.equal(short, core_distances(d, i, groups.counts, 5).double())


def test_a_point_of_many_rows_has_core_distance_zero() -> None:
    none = torch.zeros((1, 0), dtype=torch.int32), torch.zeros((1, 0), dtype=torch.int64)
    assert core_distances(*none, torch.tensor([4]), 3).tolist() == [0]


def test_refusals() -> None:
    d, i = Packed(torch.arange(6, dtype=torch.int32)[:, None]).nearest(2)
    counts = torch.ones(6, dtype=torch.int64)
    with pytest.raises(UsageError, match="min_samples must be >= 1, got 0"):
        core_distances(d, i, counts, 0)
    with pytest.raises(UsageError, match="min_samples 6 of 6 rows"):
        core_distances(d, i, counts, 6)
    with pytest.raises(UsageError, match="min_samples 3 need 3 neighbours, got 2"):
        core_distances(d, i, counts, 3)
