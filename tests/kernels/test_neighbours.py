"""neighbours: every backend equals the reference, bit for bit, however many ties; the reference equals NumPy."""

import importlib
from functools import partial
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polykern_kernels import BackendError, neighbours
from polykern_kernels._metric import METRICS as KINDS
from tests.kernels.conftest import Way

METRICS = tuple(KINDS)
BITS = (0, 1, 31, 32, 33, 63, 64, 65)


def packed(n: int, bits: int, density: float, rng: torch.Generator) -> Tensor:
    """Random codes: int32 (n, words), padding zero."""
    on = torch.rand((n, -(-bits // 32), 32), generator=rng) < density
    on.flatten(1)[:, bits:] = False
    return (on.long() << torch.arange(32)).sum(2).to(torch.int32)


def unpacked(words: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    rows = words.numpy().view(np.uint8).reshape(len(words), 4 * words.shape[1])
    return np.unpackbits(rows, axis=1, bitorder="little")


def oracle(a: Tensor, b: Tensor, metric: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """All distances, by the definition."""
    x, y = unpacked(a)[:, None] == 1, unpacked(b)[None] == 1
    differing = np.asarray((x ^ y).sum(2), np.float64)
    if metric == "hamming":
        return differing
    union = (x | y).sum(2)
    out = np.zeros(differing.shape)
    np.divide(differing, union, out=out, where=union > 0)
    return out


# no rows on either side, no bits, one element, around a tile, a group and a task, a long code, all of b
CASES = [(0, 5, 40, 3), (3, 9, 0, 4), (1, 1, 1, 1), (9, 25, 65, 9), (17, 98, 33, 15), (5, 33, 4100, 33)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "m", "bits", "k"), CASES)
def test_nearest_equals_reference(
    way: Way, n: int, m: int, bits: int, k: int, metric: str, rng: torch.Generator
) -> None:
    a, b = packed(n, bits, 0.4, rng), packed(m, bits, 0.4, rng)
    way.equals_reference(neighbours.nearest, a, b, k, metric=metric)
    skip = torch.randint(-1, m, (n,), generator=rng)
    way.equals_reference(neighbours.nearest, a, b, min(k, m - 1), skip=skip, metric=metric)
    way.equals_reference(neighbours.mutual, a, b, min(k, n, m), metric=metric)
    radii = (0.0, 0.5, 2 / 3) if metric == "jaccard" else (0, 0.45 * bits, bits)
    way.equals_reference(neighbours.within, a, b, radii, metric=metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "bits", "k"), [(0, 40, 0), (1, 40, 0), (2, 1, 1), (100, 65, 6), (34, 9, 33)])
def test_self_nearest_equals_reference(
    way: Way, n: int, bits: int, k: int, metric: str, rng: torch.Generator
) -> None:
    words = packed(n, bits, 0.5, rng)
    way.equals_reference(neighbours.self_nearest, words, k, metric=metric)


def check_mutual(a: Tensor, b: Tensor, metric: str) -> None:
    found = neighbours.mutual(a, b, 9, metric=metric)
    wanted = *neighbours.nearest(a, b, 9, metric=metric), *neighbours.nearest(b, a, 9, metric=metric)
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [500, 1600])
def test_self_nearest_finds_what_nearest_finds(n: int, metric: str, rng: torch.Generator) -> None:
    words = packed(n, 70, 0.3, rng)  # several blocks a turn; at 500 an odd number of them
    words[n // 2 :] = words[: n - n // 2].flip(0)  # everything twice
    check_mutual(words[: n // 3], words[n // 3 :], metric)
    found = neighbours.self_nearest(words, 20, metric=metric, backend="cpu")
    want = neighbours.nearest(words, words, 20, skip=torch.arange(n), metric=metric, backend="cpu")
    assert torch.equal(found[0], want[0])
    assert torch.equal(found[1], want[1])
    truth = oracle(words[:40], words, metric)
    truth[range(40), range(40)] = np.inf
    order = np.argsort(truth, axis=1, kind="stable")[:, :20]
    assert np.array_equal(found[1][:40], order)
    assert np.array_equal(found[0][:40], np.take_along_axis(truth, order, 1))


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_codes(data: st.DataObject) -> None:
    bits, metric = data.draw(st.sampled_from(BITS)), data.draw(st.sampled_from(METRICS))
    n, m = data.draw(st.integers(0, 20)), data.draw(st.integers(1, 130))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    density = data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    a, b = packed(n, bits, density, generator), packed(m, bits, density, generator)
    skip = torch.randint(-1, m, (n,), generator=generator) if data.draw(st.booleans()) else None
    k = data.draw(st.integers(0, m - (skip is not None)))
    radii = data.draw(st.lists(st.floats(-1, 70) if metric == "hamming" else st.floats(-1, 2), max_size=4))
    truth = oracle(a, b, metric)
    for backend in ("cpu", "reference"):
        count = neighbours.within(a, b, radii, metric=metric, backend=backend)
        assert count.tolist() == [[int((row <= r).sum()) for r in radii] for row in truth]
        distances, indices = neighbours.nearest(a, b, k, skip=skip, metric=metric, backend=backend)
        for i in range(n):
            order = np.argsort(truth[i], kind="stable")
            order = order[order != (-1 if skip is None else int(skip[i]))][:k]
            assert indices[i].tolist() == order.tolist()
            assert distances[i].tolist() == truth[i, order].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_close_fractions_keep_their_order(way: Way, metric: str) -> None:
    # ones at the front: distances of row 0 are d / (1000 + d), neighbours in the seventh digit
    words = torch.zeros((64, 96), dtype=torch.int32)
    words[:, :31] = -1
    for i in range(64):
        words[i, 40 : 40 + i % 16] = -1
    way.equals_reference(neighbours.nearest, words[:3], words, 40, metric=metric)


@pytest.mark.parametrize("metric", METRICS)
def test_codes_without_a_one(way: Way, metric: str) -> None:
    words = torch.tensor([[0], [0], [5], [0]], dtype=torch.int32)
    distances, indices = neighbours.self_nearest(way.place(words), 2, metric=metric, backend=way.backend)
    assert indices.tolist() == [[1, 3], [0, 3], [0, 1], [0, 1]]
    apart = 2 if metric == "hamming" else 1
    assert distances.tolist() == [[0, 0], [0, 0], [apart, apart], [0, 0]]


def test_nothing_is_found_among_nothing(way: Way) -> None:
    a, b = torch.zeros((3, 2), dtype=torch.int32), torch.zeros((0, 2), dtype=torch.int32)
    way.equals_reference(neighbours.nearest, a, b, 0, skip=torch.full((3,), -1))
    way.equals_reference(neighbours.within, a, b, [1.0])
    way.equals_reference(neighbours.mutual, a, b, 0)


def test_takes_views(way: Way, rng: torch.Generator) -> None:
    x = torch.randint(-(2**31), 2**31 - 1, (6, 10, 5), dtype=torch.int32, generator=rng)
    way.equals_reference(neighbours.nearest, x[0, ::2], x[1].flip(0), 4)
    way.equals_reference(neighbours.within, x[:, 3], x[:, 4], [70.5, 80])
    way.equals_reference(neighbours.self_nearest, x[:, :, 2].t(), 3, metric="jaccard")


def note(told: list[tuple[int, int]], done: int, total: int) -> None:
    told.append((done, total))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_progress_ends_complete(backend: str, rng: torch.Generator) -> None:
    words = packed(600, 33, 0.5, rng)[:: 1 if backend == "cpu" else 20]
    searches = (partial(neighbours.nearest, words, words, 2), partial(neighbours.self_nearest, words, 2))
    for search in searches:
        told: list[tuple[int, int]] = []
        search(progress=partial(note, told), backend=backend)
        done = [d for d, _ in told]
        assert len(told) > 1
        assert done == sorted(set(done))
        assert told[-1][0] == told[-1][1]
        assert len({total for _, total in told}) == 1


def test_rows_go_through_the_device_in_chunks(
    way: Way, monkeypatch: pytest.MonkeyPatch, rng: torch.Generator
) -> None:
    if way.backend != "triton":
        pytest.skip("chunks by memory are the device's")
    device = importlib.import_module("polykern_kernels.device.blocks")
    monkeypatch.setattr(device, "BUDGET_BYTES", 1)
    monkeypatch.setattr(device, "MOST_ROWS", 50)
    a, b = packed(120, 40, 0.5, rng), packed(40, 40, 0.5, rng)
    way.equals_reference(neighbours.nearest, a, b, 2, skip=torch.arange(120) % 40)
    way.equals_reference(neighbours.within, a, b, [15, 20], metric="hamming")
    told: list[tuple[int, int]] = []
    neighbours.nearest(way.place(a), way.place(b), 1, progress=partial(note, told), backend=way.backend)
    assert told == [(50, 120), (100, 120), (120, 120)]


@pytest.mark.parametrize("blocks", range(8))
def test_every_block_meets_every_block_once(blocks: int) -> None:
    turns = neighbours._turns(blocks)
    met = [tuple(pair) for turn in turns for pair in turn.tolist()]
    assert sorted(met) == list(combinations_with_replacement(range(blocks), 2))
    for turn in turns[1:]:
        assert len(np.unique(turn)) == turn.size


def test_the_refusal_names_what_is_wrong() -> None:
    a = torch.zeros((2, 3), dtype=torch.int32)
    with pytest.raises(BackendError, match="no backend 'cuda'; it has b1, dot, triton, cpu, reference"):
        neighbours.nearest(a, a, 1, backend="cuda")
    with pytest.raises(ValueError, match=r"nearest: a must be int32 \(rows, words\), got int64\[2, 3\]@cpu"):
        neighbours.nearest(a.long(), a, 1)
    with pytest.raises(ValueError, match=r"within: b must be int32 \(rows, 3\), got int32\[2, 2\]@cpu"):
        neighbours.within(a, a[:, :2], [1])
    with pytest.raises(ValueError, match=r"nearest: k must be 0 <= k <= 2, got 3"):
        neighbours.nearest(a, a, 3)
    with pytest.raises(ValueError, match=r"nearest: k must be 0 <= k <= 1, got 2"):
        neighbours.nearest(a, a, 2, skip=torch.arange(2))
    with pytest.raises(ValueError, match=r"self_nearest: k must be 0 <= k <= 1, got -1"):
        neighbours.self_nearest(a, -1)
    with pytest.raises(ValueError, match=r"nearest: skip must be int64\[2\], got int32\[2\]@cpu"):
        neighbours.nearest(a, a, 1, skip=torch.arange(2, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"nearest: skip must be rows of b \(-1 <= skip < 2\), got int64\[2\]@cpu"):
        neighbours.nearest(a, a, 1, skip=torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"within: metric must be hamming \| jaccard, got 'cosine'"):
        neighbours.within(a, a, [1], metric="cosine")
    with pytest.raises(ValueError, match=r"within: radii must be numbers, got \[nan\]"):
        neighbours.within(a, a, [float("nan")])
    long = torch.zeros((1, 1 << 22), dtype=torch.int32)
    with pytest.raises(ValueError, match=r"nearest: a must be int32 \(rows, at most 2097152\) for Jaccard"):
        neighbours.nearest(long, long, 1, metric="jaccard")


def test_costs_count_compulsory_work() -> None:
    c = neighbours.cost(n=2, m=3, words=4, k=5)
    assert (c.bytes, c.popcounts) == (4 * (8 + 12) + 12 * 10, 24)
    c = neighbours.cost_self(n=3, words=4, k=2)
    assert (c.bytes, c.popcounts) == (4 * 12 + 12 * 6, 12)
    c = neighbours.cost_within(n=2, m=3, words=4, radii=5)
    assert (c.bytes, c.popcounts) == (4 * (8 + 12) + 80, 24)
