"""Equal rows are united, by comparison and not by luck."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polykern.clustering.duplicates import Distinct, distinct_rows
from polykern.errors import UsageError
from polykern_kernels import digest


def holds(found: Distinct, rows: Tensor) -> None:
    """Found is what NumPy finds, in order of first appearance."""
    _, first, inverse, counts = np.unique(
        rows.numpy() + 0, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first)
    assert found.first.tolist() == first[order].tolist()
    assert found.counts.tolist() == counts[order].tolist()
    assert found.inverse.tolist() == np.argsort(order)[inverse.reshape(-1)].tolist()
    assert torch.equal(rows[found.first[found.inverse]], rows)
    assert sorted(found.first.tolist() + found.copies().tolist()) == list(range(len(rows)))


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 2)), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_rows_are_united(rows: list[tuple[int, int]]) -> None:
    x = torch.tensor(rows, dtype=torch.int32)
    for kind in (torch.int32, torch.float32, torch.float64):
        holds(distinct_rows(x.to(kind)), x.to(kind))


def test_rows_that_share_a_fingerprint_are_compared(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    monkeypatch.setattr(digest, "fingerprints", lambda words, bits, backend: torch.zeros(len(words), 2).long())
    x = torch.randint(0, 3, (50, 2), generator=rng, dtype=torch.int32)
    holds(distinct_rows(x), x)


def test_zeros_of_both_signs_are_equal() -> None:
    assert distinct_rows(torch.tensor([[0.0, 1.0], [-0.0, 1.0]])).counts.tolist() == [2]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_all_or_none_are_equal(n: int) -> None:
    same = distinct_rows(torch.ones((n, 3), dtype=torch.int32))
    assert same.counts.tolist() == [n][: min(n, 1)]
    apart = distinct_rows(torch.arange(n, dtype=torch.int32)[:, None])
    assert apart.inverse.tolist() == list(range(n))


def test_refusals() -> None:
    with pytest.raises(UsageError, match="there is a NaN among the points"):
        distinct_rows(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(UsageError, match="rows must be int32, float32 or float64"):
        distinct_rows(torch.zeros((2, 2), dtype=torch.int64))
