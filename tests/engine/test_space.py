"""Packed codes as a space: what is kept to make searches short changes no answer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from polykern.clustering import space
from polykern.clustering.seriation import seriated
from polykern.clustering.space import SURVEYED, Packed
from polykern_benches import _planted
from polykern_kernels import hamming, neighbours

METRICS = ("hamming", "jaccard")


def both(words: Tensor, metric: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Packed, Packed]:
    """A space that keeps minima of blocks and one that does not; both have found their neighbours."""
    monkeypatch.setattr(space, "SURVEYED", 1)
    kept = Packed(words, metric)
    first = kept.nearest(5)
    monkeypatch.setattr(space, "SURVEYED", len(words) + 1)
    plain = Packed(words, metric)
    for mine, truth in zip(first, plain.nearest(5), strict=True):
        assert torch.equal(mine, truth)
    return kept, plain


@pytest.mark.parametrize("metric", METRICS)
def test_minima_change_no_answer(metric: str, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    words, truth = _planted.layer(900, 96, clusters=5)
    kept, plain = both(words, metric, monkeypatch)
    distances, _ = plain.nearest(5)
    rows = torch.randperm(900, generator=rng)[:500]
    bound = distances[:, -1][rows] * 2
    for dear in (0, 1e9):  # open blocks, count tiles
        monkeypatch.setattr(space, "DEAR", dear)
        for components in (torch.arange(900), torch.from_numpy(truth) + 1):
            for limit in (None, bound):
                asked = rows, distances[:, -1].contiguous(), components, limit
                for mine, other in zip(kept.foreign(*asked), plain.foreign(*asked), strict=True):
                    assert torch.equal(mine, other)


@pytest.mark.usefixtures("unnamed_backend")  # the reference does not count what it opens
def test_tiles_are_counted_where_minima_do_not_help(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    """Components at random: every block has points of every one, and none can be left shut."""
    words, _ = _planted.flips(600, 96, clusters=1, noise=0.0)
    kept, _ = both(words, "hamming", monkeypatch)
    counted: list[int] = []
    opened = kept._opened

    def spied(rows: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
        counted.append(len(rows))
        return opened(rows, *rest)

    monkeypatch.setattr(kept, "_opened", spied)
    components = torch.randint(0, 2, (600,), generator=rng)
    cores = torch.full((600,), 90, dtype=torch.int32)
    kept.foreign(torch.arange(600), cores, components)
    assert counted == [space.SAMPLE]


@pytest.mark.parametrize("metric", METRICS)
def test_distances_of_pairs(metric: str) -> None:
    words = torch.tensor([[0], [3], [6], [0]], dtype=torch.int32)
    pairs = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 3, 2, 2])
    apart = Packed(words, metric).between(*pairs)
    assert apart.tolist() == ([2, 0, 2, 0] if metric == "hamming" else [1.0, 0.0, 2 / 3, 0.0])


def test_what_stands_for_zero() -> None:
    words = torch.zeros((1, 1), dtype=torch.int32)
    assert (Packed(words).zero, Packed(words, "jaccard").zero) == (0.5, 0.0)


@pytest.mark.parametrize("n", [1, 2, 192, 193, 1000])
def test_seriation_is_a_permutation(n: int) -> None:
    words, _ = _planted.flips(n, 64, clusters=2)
    assert torch.equal(seriated(words).sort().values, torch.arange(n))


def test_near_codes_stand_together() -> None:
    words, truth = _planted.flips(3000, 256, clusters=6, noise=0.1)
    order = seriated(words)
    labels = torch.from_numpy(truth)[order]
    beside = (labels[1:] == labels[:-1]).double().mean()
    assert beside > 0.9
    assert (torch.from_numpy(truth)[1:] == torch.from_numpy(truth)[:-1]).double().mean() < 0.3
    assert hamming.aligned(words[order][1:], words[order][:-1]).double().mean() < 0.7 * float(
        hamming.aligned(words[1:], words[:-1]).double().mean()
    )


def test_a_named_backend_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    words, _ = _planted.flips(40, 32)
    seen: list[str | None] = []
    real = neighbours.self_nearest

    def spied(*args: Any, **given: Any) -> Any:
        seen.append(given["backend"])
        return real(*args, **given)

    monkeypatch.setattr(neighbours, "self_nearest", spied)
    monkeypatch.setattr(space, "SURVEYED", 1)
    Packed(words, backend="reference").nearest(2)
    assert seen == ["reference"]


@pytest.mark.parametrize("metric", METRICS)
def test_answers_are_the_same_without_memory_to_spare(metric: str) -> None:
    generator = torch.Generator().manual_seed(3)
    words = torch.randint(-(2**31), 2**31 - 1, (SURVEYED + 200, 2), generator=generator).to(torch.int32)
    rich, poor = Packed(words, metric), Packed(words, metric, spare=0)
    lists = rich.nearest(3), poor.nearest(3)
    assert all(torch.equal(a, b) for a, b in zip(*lists, strict=True))
    components = torch.arange(len(words)) % 5
    cores = lists[0][0][:, -1].contiguous()
    rows = torch.arange(0, len(words), 3)
    answers = [packed.foreign(rows, cores, components) for packed in (rich, poor)]
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("spare", [0, 1 << 30])
def test_progress_is_told_in_rows(spare: int) -> None:
    words = torch.arange(2 * SURVEYED, dtype=torch.int32)[:, None]
    told: list[tuple[str, int, int]] = []
    Packed(words, spare=spare).nearest(2, lambda *now: told.append(now))
    assert told[-1] == ("neighbours", len(words), len(words))
    assert {(stage, total) for stage, _, total in told} == {("neighbours", len(words))}
