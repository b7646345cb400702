"""foreign: every backend equals the reference; the answers are the least edges out of each component."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polykern_kernels import foreign, hamming
from tests.kernels.conftest import Way

METRICS = ("hamming", "jaccard")
# rows, words, components: one row, one component, all apart, a tile and one more, several tiles, no bits, no rows
SHAPES = [(1, 1, 1), (9, 2, 1), (65, 1, 65), (97, 3, 2), (200, 2, 7), (5, 0, 3), (0, 2, 1)]


def question(
    n: int, words: int, components: int, metric: str, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes with many ties, some of their rows, their core distances and components."""
    few = torch.randint(0, 2, (n, words), generator=rng, dtype=torch.int32) * 0x10101
    codes = few ^ (1 << torch.randint(0, 8, (n, words), generator=rng, dtype=torch.int32))
    rows = torch.randperm(n, generator=rng)[: -(-2 * n // 3)]
    core = torch.randint(0, 8 * words + 1, (n,), generator=rng, dtype=torch.int32)
    cores = core if metric == "hamming" else core.double() / (16 * words + 1)
    return codes, rows, cores, torch.randint(0, components, (n,), generator=rng)


def bounds(rows: Tensor, cores: Tensor, rng: torch.Generator) -> Tensor:
    """Some that are met, some that cut off all."""
    scale = torch.rand(len(rows), generator=rng, dtype=torch.float64) * 2
    return (cores[rows] * scale).to(cores.dtype)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "words", "components"), SHAPES)
def test_nearest_equals_reference(
    way: Way, n: int, words: int, components: int, metric: str, rng: torch.Generator
) -> None:
    asked = question(n, words, components, metric, rng)
    bound = bounds(asked[1], asked[2], rng)
    way.equals_reference(foreign.nearest, *asked, metric=metric)
    way.equals_reference(foreign.nearest, *asked, metric=metric, bound=bound)


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_of_blocks_that_all_ask(metric: str, rng: torch.Generator) -> None:
    """Every pair is counted once for both of its rows, whatever the blocks."""
    codes, _, cores, components = question(700, 3, 5, metric, rng)
    everyone = torch.randperm(700, generator=rng)
    asked = codes, everyone, cores, components
    ours = foreign.nearest(*asked, metric=metric, backend="cpu")
    some = torch.randperm(700, generator=rng)[:60]
    theirs = foreign.nearest(codes, everyone[some], cores, components, metric=metric, backend="reference")
    for mine, truth in zip(ours, theirs, strict=True):
        assert torch.equal(mine[some], truth)


def test_takes_views_and_any_names(way: Way, rng: torch.Generator) -> None:
    codes, rows, cores, components = question(60, 6, 4, "hamming", rng)
    names = torch.tensor([7, -3, 2**40, 0])[components]
    way.equals_reference(foreign.nearest, codes[:, ::2], rows.flip(0), cores[:], names)


WORD = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(st.tuples(WORD, st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=40)
def test_is_the_least_edge_out(rows: list[tuple[int, int, int]]) -> None:
    codes = torch.tensor([[word] for word, _, _ in rows], dtype=torch.int32)
    components = torch.tensor([c for _, c, _ in rows])
    cores = torch.tensor([core for _, _, core in rows], dtype=torch.int32)
    weights, points = foreign.nearest(codes, torch.arange(len(rows)), cores, components)
    d = hamming.pairwise(codes, codes)
    for i in range(len(rows)):
        edges = [
            (max(int(d[i, j]), int(cores[i]), int(cores[j])), j)
            for j in range(len(rows))
            if components[j] != components[i]
        ]
        assert (int(weights[i]), int(points[i])) == min(edges, default=(2**31 - 1, -1))


def test_a_bound_cuts_off_what_is_not_below() -> None:
    codes = torch.tensor([[0], [1], [7]], dtype=torch.int32)
    cores, components = torch.zeros(3, dtype=torch.int32), torch.arange(3)
    bound = torch.tensor([1, 2, 2], dtype=torch.int32)
    weights, points = foreign.nearest(codes, torch.arange(3), cores, components, bound=bound)
    assert weights.tolist() == [1, 1, 2]
    assert points.tolist() == [-1, 0, -1]


def test_progress_ends_where_all_is_done(rng: torch.Generator) -> None:
    seen: list[tuple[int, int]] = []
    codes, rows, cores, components = question(300, 2, 3, "hamming", rng)
    foreign.nearest(codes, rows, cores, components, progress=lambda *at: seen.append(at), backend="cpu")
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert len({total for _, total in seen}) == 1


def test_refusals() -> None:
    codes, rows = torch.zeros((3, 2), dtype=torch.int32), torch.arange(2)
    cores, components = torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"metric must be hamming \| jaccard, got 'cosine'"):
        foreign.nearest(codes, rows, cores, components, metric="cosine")
    with pytest.raises(ValueError, match=r"cores must be float64\[3\], got int32\[3\]@cpu"):
        foreign.nearest(codes, rows, cores, components, metric="jaccard")
    with pytest.raises(ValueError, match=r"components must be int64\[3\]"):
        foreign.nearest(codes, rows, cores, components[:2])
    with pytest.raises(ValueError, match=r"bound must be int32\[2\]"):
        foreign.nearest(codes, rows, cores, components, bound=cores)
    with pytest.raises(ValueError, match=r"rows must be rows of words \(0 <= row < 3\)"):
        foreign.nearest(codes, rows + 2, cores, components)


def test_cost_counts_every_pair_once() -> None:
    c = foreign.cost(n=5, rows=2, words=3)
    assert (c.bytes, c.popcounts) == (5 * 24 + 2 * 12 + 2 * 12, 3 * (2 * 3 + 1))
