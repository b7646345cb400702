"""survey: its lists are the neighbours', its minima are minima, its searches are those of foreign."""

import pytest
import torch
from torch import Tensor

from polykern_kernels import foreign, hamming, neighbours, survey

METRICS = ("hamming", "jaccard")
# codes, words: one code, one block, a block less one and more one, several tasks, no bits, none
SHAPES = [(1, 1), (30, 2), (95, 1), (97, 3), (400, 2), (5, 0), (0, 2)]


def codes(n: int, words: int, rng: torch.Generator) -> Tensor:
    """Three groups, one behind the other, with many ties."""
    group = torch.randint(0, 2, (3, words), generator=rng, dtype=torch.int32) * 0x10101
    flips = 1 << torch.randint(0, 8, (n, words), generator=rng, dtype=torch.int32)
    return group[torch.arange(n) * 3 // max(n, 1)] ^ flips


def question(n: int, metric: str, components: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Some rows, core distances and components, most of them along the order."""
    core = torch.randint(0, 9, (n,), generator=rng, dtype=torch.int32)
    cores = core if metric == "hamming" else core.double() / 12
    component = torch.arange(n) * components // max(n, 1)
    stray = torch.rand(n, generator=rng) < 0.1
    component[stray] = torch.randint(0, max(components, 1), (n,), generator=rng)[stray]
    return torch.randperm(n, generator=rng)[: -(-n // 2)], cores, component


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "words"), SHAPES)
def test_nearest_equals_reference(n: int, words: int, metric: str, rng: torch.Generator) -> None:
    given = codes(n, words, rng), torch.randperm(n, generator=rng), min(4, max(n - 1, 0))
    ours, theirs = (survey.nearest(*given, metric=metric, backend=backend) for backend in ("cpu", "reference"))
    for mine, truth in zip(ours, theirs, strict=True):
        assert mine.dtype == truth.dtype
        assert torch.equal(mine, truth)


@pytest.mark.parametrize("metric", METRICS)
def test_lists_are_those_of_neighbours(metric: str, rng: torch.Generator) -> None:
    x, names = codes(2100, 2, rng), torch.randperm(2100, generator=rng)
    distances, indices, minima = survey.nearest(x, names, 6, metric=metric)
    by_name = torch.empty_like(x)
    by_name[names] = x
    near, who = neighbours.self_nearest(by_name, 6, metric=metric)
    assert torch.equal(distances, near[names])
    assert torch.equal(indices, who[names])
    table = hamming.pairwise(x[:50], x)
    least = torch.stack([part.amin(1) for part in table.split(survey.block_size(2100), 1)], 1)
    assert torch.equal(minima[:50].int(), least)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "parts", "backend"), [(2100, 2, "cpu"), (2100, 3, "cpu"), (97, 2, "reference")])
@pytest.mark.parametrize("shared", [False, True])
def test_parts_make_the_whole(
    n: int, parts: int, backend: str, shared: bool, metric: str, rng: torch.Generator
) -> None:
    """Whether each part knows its own bounds alone, or from the start those of all pairs, where ties are."""
    x, names, k = codes(n, 2, rng), torch.randperm(n, generator=rng), 6
    near, who, minima = survey.nearest(x, names, k, metric=metric)
    found = [
        survey.nearest(
            *(x, names, k),
            share=(part, parts),
            agreed=lambda own: near[:, -1] if shared and own.ndim else own.clone(),
            metric=metric,
            backend=backend,
        )
        for part in range(parts)
    ]
    distances, indices = (torch.cat([one[at] for one in found], 1).tolist() for at in (0, 1))
    listed = [sorted(zip(d, i, strict=True))[:k] for d, i in zip(distances, indices, strict=True)]
    assert listed == [list(zip(*row, strict=True)) for row in zip(near.tolist(), who.tolist(), strict=True)]
    met = torch.stack([one[2] for one in found])
    assert torch.equal((met != -1).sum(0), torch.ones_like(minima, dtype=torch.int64))
    assert torch.equal((met.int() & 0xFFFF).amin(0), minima.int())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("components", [1, 3, 40])
@pytest.mark.parametrize("n", [0, 1, 97, 400])
def test_foreign_equals_reference(n: int, components: int, metric: str, rng: torch.Generator) -> None:
    x, names = codes(n, 3, rng), torch.randperm(n, generator=rng)
    rows, cores, component = question(n, metric, components, rng)
    minima = survey.nearest(x, names, 0)[2]
    bound = (cores[rows] * 1.5).to(cores.dtype)
    for limit in (None, bound):
        given = x, names, minima, rows, cores, component
        ours, theirs = (
            survey.foreign(*given, bound=limit, metric=metric, backend=backend) for backend in ("cpu", "reference")
        )
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.usefixtures("unnamed_backend")  # the reference does not count what it opens
@pytest.mark.parametrize("metric", METRICS)
def test_foreign_is_that_of_tiles_and_opens_few_blocks(metric: str, rng: torch.Generator) -> None:
    n = 1500
    x = codes(n, 3, rng)
    rows, cores, component = question(n, metric, 3, rng)
    component = torch.arange(n) * 3 // n
    weights, points, counted = survey.foreign(
        *(x, torch.arange(n), survey.nearest(x, torch.arange(n), 0)[2], rows, cores, component), metric=metric
    )
    other = foreign.nearest(x, rows, cores, component, metric=metric)
    assert torch.equal(weights, other[0])
    assert torch.equal(points, other[1])
    assert (counted > 0).all()
    assert counted.double().mean() < n / 2


def test_long_codes_are_rounded_down(rng: torch.Generator) -> None:
    """65,536 bits and more: minima in steps of two, never above the distance; answers exact all the same."""
    x = torch.zeros((120, 2200), dtype=torch.int32)
    x[60:] = -1
    x ^= torch.randint(0, 2, x.shape, generator=rng, dtype=torch.int32)
    assert survey.shift_of(x) == 1
    names = torch.arange(120)
    _, _, minima = survey.nearest(x, names, 1)
    assert (minima.int() & 0xFFFF)[0].tolist() == [0, int(hamming.pairwise(x[:1], x[96:]).min()) >> 1]
    cores, component = torch.zeros(120, dtype=torch.int32), names // 60
    ours = survey.foreign(x, names, minima, names, cores, component)
    theirs = foreign.nearest(x, names, cores, component)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_blocks_grow_with_the_codes() -> None:
    assert [survey.block_size(n) for n in (0, 1, 98_304, 98_305, 10**6)] == [96, 96, 96, 192, 1536]


def test_progress_ends_where_all_is_done(rng: torch.Generator) -> None:
    seen: list[tuple[int, int]] = []
    survey.nearest(codes(300, 1, rng), torch.arange(300), 2, progress=lambda *at: seen.append(at))
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)


def test_refusals() -> None:
    x, names = torch.zeros((3, 2), dtype=torch.int32), torch.arange(3)
    cores, minima = torch.zeros(3, dtype=torch.int32), torch.zeros((3, 1), dtype=torch.int16)
    with pytest.raises(ValueError, match=r"survey.nearest: k must be 0 <= k <= 2, got 3"):
        survey.nearest(x, names, 3)
    with pytest.raises(ValueError, match=r"metric must be hamming \| jaccard, got 'l2'"):
        survey.nearest(x, names, 1, metric="l2")
    with pytest.raises(ValueError, match=r"names must be int64\[3\], got int64\[2\]@cpu"):
        survey.nearest(x, names[:2], 1)
    with pytest.raises(ValueError, match="2 parts need `agreed`"):
        survey.nearest(x, names, 1, share=(0, 2))
    with pytest.raises(ValueError, match=r"minima must be int16\[3, 1\]"):
        survey.foreign(x, names, minima[:2], names, cores, names)
    with pytest.raises(ValueError, match=r"rows must be places of codes \(0 <= row < 3\)"):
        survey.foreign(x, names, minima, names + 1, cores, names)


def test_cost_counts_every_pair_once() -> None:
    c = survey.cost(n=5, words=3, k=2)
    assert (c.bytes, c.popcounts) == (5 * (12 + 24 + 2), 10 * 3)
