"""Crossings of segments: against rational arithmetic, a plain float64 tracer and the network itself."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import polykern as pk
from polykern.lines import crossings, crossings_of_lines, float64_tail, pieces, sampled_crossings
from polykern.points import codes_of
from polykern.tail import Tail
from tests.engine.line_truth import (
    along,
    mlp,
    require_classes,
    require_complete,
    require_parity,
    require_same,
    traced,
)
from tests.worlds import random_network

# --- against tracers --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_rational_arithmetic_finds_the_same(seed: int) -> None:
    model, layers = mlp([3, 8, 8, 6, 2], seed, rounded=True)
    a, b = torch.randint(-96, 96, (2, 3), generator=torch.Generator().manual_seed(seed)).double() / 32
    found = crossings(model, a, b)
    require_same(found, traced(layers, a, b, Fraction), 1e-13)
    require_parity(found)


def test_a_plain_tracer_in_float64_finds_the_same() -> None:
    folded = 0
    for seed in range(4):
        model, layers = mlp([6, 40, 32, 24, 5], seed)
        ends = 4 * torch.randn(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for found, a, b in zip(crossings_of_lines(model, *ends, segments=3), *ends, strict=True):
            require_same(found, traced(layers, a, b, float), 1e-11)
            require_parity(found)
            assert found.ratios[0] == 1.0  # a first-layer neuron crosses at most once
            folded += len(found) - found.hamming
    assert folded > 0
    assert folded % 2 == 0


# --- against the network ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(14))
def test_random_networks_have_no_other_crossings(seed: int) -> None:
    """Convolutions, pools, residuals, concatenations, one and two thresholds."""
    network = random_network(seed)
    points = 2 * network.points(6, seed).double()
    tail = Tail(network.model, network.sample).to(torch.float64)
    for found, a, b in zip(crossings_of_lines(tail, points[:3], points[3:]), points[:3], points[3:], strict=True):
        require_parity(found)
        require_complete(tail, found, a, b)


def test_parity_holds_for_every_neuron_on_120_lines() -> None:
    seen = 0
    for seed in range(24):
        network = random_network(100 + seed)
        points = 2 * network.points(10, seed)
        for found in crossings_of_lines(network.model, points[:5], points[5:], segments=4):
            require_parity(found)
            assert found.tied == found.merged == 0
            seen += len(found)
    assert seen > 10_000


@pytest.fixture(scope="module")
def digits() -> pk.Subject:
    return pk.load("digits")


def test_the_digits_network(digits: pk.Subject) -> None:
    x = digits.inputs([0, 2])[0].double()
    a, b = x[0] + 0.3 * (x[1] - x[0]), x[0] + 0.6 * (x[1] - x[0])
    tail = float64_tail(digits, a)
    found = crossings(tail, a, b)
    assert len(found) > 300
    assert len(found.change) > 0
    assert found.ratios[0] == 1.0
    require_parity(found)
    require_complete(tail, found, a, b)
    require_classes(tail, found, a, b)


def test_classes_change_where_two_outputs_are_equal() -> None:
    changes = 0
    for seed in range(6):
        model, _ = mlp([4, 24, 24, 6], seed)
        a, b = 5 * torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = crossings(model, a, b)
        if len(found.change):
            require_classes(float64_tail(model, a), found, a, b)
        changes += len(found.change)
        assert (found.classes[1:] != found.classes[:-1]).all()
        assert len(crossings(model, a, b, classes=False).classes) == 0
    assert changes > 5


def test_switches_are_where_another_element_of_a_window_is_largest() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()).double().eval()
    a, b = 3 * torch.randn(2, 1, 8, 8, dtype=torch.float64)
    found = crossings(model, a, b)
    assert found.switches is not None
    knots = np.unique(np.concatenate([[0.0, 1.0], found.switches, found.t]))
    codes = codes_of(model, along(a, b, (knots[1:] + knots[:-1]) / 2), pools=True)
    choices = codes.choices["2:max_pool"].flatten(1)
    before, behind = choices[:-1], choices[1:]
    taken = (before != behind) & (before != 4) & (behind != 4)  # 4: all elements are 0
    assert int(taken.sum()) == len(found.switches) > 10
    at = knots[1:-1][taken.any(1).numpy()]
    assert np.abs(np.unique(found.switches) - at).max() < 1e-9


# --- what does not matter -------------------------------------------------------------------------------


def test_pieces_and_batches_do_not_matter(digits: pk.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    x = digits.inputs([4, 5, 6])[0]
    path = crossings_of_lines(digits, x[:-1], x[1:])
    for k, found in enumerate(path):
        alone = crossings(digits, x[k], x[k + 1], segments=1)
        monkeypatch.setattr(pieces, "LIMIT", 60)
        small = crossings(digits, x[k], x[k + 1], segments=5)
        monkeypatch.undo()
        for other in (alone, small):
            assert len(other) == len(found)
            assert np.array_equal(np.sort(other.bit), np.sort(found.bit))
            assert np.abs(other.t - found.t).max() < 1e-11
            assert np.abs(other.change - found.change).max() < 1e-11
            assert other.switches is not None
            assert found.switches is not None
            assert np.abs(other.switches - found.switches).max() < 1e-11


def test_a_line_backwards_has_the_same_crossings() -> None:
    network = random_network(3)
    a, b = 2 * network.points(2, 7).double()
    there, back = crossings(network.model, a, b), crossings(network.model, b, a)
    assert len(there) == len(back)
    assert np.abs(there.t - (1 - back.t)[::-1]).max() < 1e-11
    assert np.array_equal(there.times, back.times)
    assert there.up.sum() == len(back) - back.up.sum()


# --- samples ------------------------------------------------------------------------------------------------


def test_samples_see_no_more_and_refining_them_no_less() -> None:
    less = 0
    for seed in range(6):
        network = random_network(seed)
        a, b = 3 * network.points(2, seed)
        exact = crossings(network.model, a, b)
        before = exact.differing.astype(np.int64)
        for k in range(7):
            found = sampled_crossings(network.model, a, b, samples=2**k + 1)
            require_parity(found)
            assert (found.times >= before).all()
            assert (found.times <= exact.times).all()
            assert ((exact.times - found.times) % 2 == 0).all()
            assert not found.exact
            assert k == 0 or found.gained == len(found) - before.sum()
            before = found.times
        less += len(exact) - sampled_crossings(network.model, a, b, samples=9).times.sum()
    assert less > 0


def test_samples_of_a_smooth_network_are_distances_of_adjacent_codes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.GELU(), nn.Linear(40, 40), nn.SiLU(), nn.Linear(40, 3)).eval()
    a, b = 4 * torch.randn(2, 5)
    found = sampled_crossings(model, a, b, samples=33)
    t = torch.linspace(0, 1, 33, dtype=torch.float64)[:, None]
    codes = codes_of(model.double(), a.double() + t * (b.double() - a.double()))
    steps = [int(x) for x in codes[:-1].aligned(codes[1:])]
    assert found.density(32).round(9).tolist() == [round(n * 32 / found.length, 9) for n in steps]
    assert len(found) == sum(steps) > 20
    assert found.layout.fields[1].kind == "silu"


def test_numbers_that_are_made_of_crossings(digits: pk.Subject) -> None:
    x = digits.inputs([0, 1])[0]
    found = crossings(digits, x[0], x[1])
    assert abs(found.length - float((x[1] - x[0]).double().norm())) < 1e-12
    assert found.density(1)[0] == pytest.approx(len(found) / found.length)
    assert found.density(50).sum() / 50 == pytest.approx(len(found) / found.length)
    assert sum(found.density(50, k).sum() for k in range(4)) == pytest.approx(found.density(50).sum())
    assert found.ratio == len(found) / found.hamming > 1
    assert found.hammings.sum() == found.hamming
    assert found.between(0.25, 0.5).tolist() == np.flatnonzero((found.t >= 0.25) & (found.t < 0.5)).tolist()
    assert (found.threshold == 0).all()
    assert "exact" in repr(found)
    first = np.array([f.offset for f in found.layout.fields])[found.field]
    assert np.array_equal(found.bit, first + found.unit)


# --- what is selected, and where ------------------------------------------------------------------------


def test_a_selection_has_its_own_crossings_and_no_others() -> None:
    """Nonlinearities that are not selected still bend what lies behind them."""
    model, _ = mlp([4, 30, 30, 20, 3], 5)
    a, b = 4 * torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole, last = crossings(model, a, b), crossings(model, a, b, select="5")
    mine = whole.field == 2
    assert np.array_equal(last.bit, whole.bit[mine] - 60)
    assert np.abs(last.t - whole.t[mine]).max() < 1e-13
    assert np.abs(last.change - whole.change).max(initial=0) < 1e-13
    require_parity(last)


def test_a_segment_in_an_inner_space(digits: pk.Subject) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 32, 4, 4, generator=generator)
    found = crossings(digits, a, b, start="conv3", stop="pool2")
    assert [f.module for f in found.layout.fields] == ["relu3"]
    assert found.ratio == 1.0
    assert len(found.classes) == 0
    assert len(found) == int(
        codes_of(float64_tail(digits, a, start="conv3", stop="pool2"), torch.stack([a, b])).distances()[0, 1]
    )


def test_both_thresholds_are_crossed_in_turn() -> None:
    linear = nn.Linear(1, 2, dtype=torch.float64).requires_grad_(False)
    linear.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    linear.bias.zero_()
    found = crossings(nn.Sequential(linear, nn.ReLU6()).eval(), torch.tensor([-10.0]), torch.tensor([10.0]))
    assert np.abs(found.t - [0.2, 0.5, 0.5, 0.8]).max() < 1e-15
    assert sorted(zip(found.unit.tolist(), found.threshold.tolist(), found.up.tolist(), strict=True)) == [
        (0, 0, True), (0, 1, True), (1, 0, False), (1, 1, False),
    ]  # fmt: skip
    require_parity(found)


def test_progress_is_told() -> None:
    network = random_network(1)
    points = network.points(8, 0)
    told: list[tuple[str, int, int]] = []
    crossings_of_lines(network.model, points[:4], points[4:], progress=lambda *now: told.append(now))
    assert told[-1] == ("lines", 10_000, 10_000)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for seed in range(6):
        network = random_network(seed)
        points = 2 * network.points(6, seed)
        here, there = (
            crossings_of_lines(network.model, points[:3], points[3:], device=device) for device in ("cpu", "cuda")
        )
        for one, other in zip(here, there, strict=True):
            require_parity(other)
            assert np.array_equal(np.sort(one.bit), np.sort(other.bit))
            assert np.abs(one.t - other.t).max(initial=0) < 1e-11
