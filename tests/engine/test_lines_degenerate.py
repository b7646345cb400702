"""Segments through corners, along boundaries, behind a norm; samples of any network; and what is refused."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import polykern as pk
from polykern.errors import UsageError
from polykern.lines import crossings, crossings_of_lines, float64_tail, pieces, sampled_crossings
from polykern.tail import Tail
from tests.engine.line_truth import along, mlp, pre_activations, require_parity, require_same, traced
from tests.worlds import random_lines


def test_all_boundaries_through_one_point() -> None:
    """Without biases every neuron's boundary passes through the origin, and none is crossed on a ray."""
    model, _ = mlp([5, 60, 50, 3], 0, bias=False)
    x = torch.randn(5, dtype=torch.float64)
    through = crossings(model, -x, x)
    require_parity(through)
    assert np.abs(through.t - 0.5).max() < 1e-11
    assert len(through) > 40
    assert len(crossings(model, x, 2 * x)) == 0
    ray = crossings(model, 0 * x, x)
    require_parity(ray)
    assert ray.t.max() < 1e-11
    assert ray.hamming == len(ray)


def test_too_many_at_one_point_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LIMIT", 20)
    model, _ = mlp([5, 60, 50, 3], 0, bias=False)
    x = torch.randn(5, dtype=torch.float64)
    for a, b, at in ((-x, x, 0.5), (-x, 2 * x, 1 / 3), (0 * x, x, 0.0), (x, 0 * x, 1.0)):
        found = crossings(model, a, b)
        require_parity(found)
        assert np.abs(found.t - at).max() < 1e-11
        assert found.merged > 20
        assert found.merged + found.tied == len(found)


def test_boundaries_where_a_line_is_cut_or_ends() -> None:
    first = nn.Linear(1, 4, dtype=torch.float64).requires_grad_(False)
    first.weight.fill_(1.0)
    first.bias.copy_(torch.tensor([0.0, -0.5, -1.0, -0.25]))
    model = nn.Sequential(first, nn.ReLU()).eval()
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    up = crossings(model, zero, one)
    assert up.t.tolist() == [0.0, 0.25, 0.5]  # on behind 0; at 1 the third is 0 still, so off
    assert up.up.all()
    down = crossings(model, one, zero)
    assert down.t.tolist() == [0.5, 0.75, 1.0]
    assert not down.up.any()
    for found in (up, down):
        require_parity(found)
        assert found.ratio == 1.0


def test_networks_of_small_integers_meet_corners_exactly() -> None:
    """Boundaries that coincide, meet in corners, are touched and followed: as rational arithmetic has them."""
    tied = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        model, layers = mlp([3, 8, 8, 6, 2], seed)
        for parameter in model.parameters():  # the layers are views of them
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator))
        a, b = torch.randint(-3, 4, (2, 3), generator=generator).double()
        if torch.equal(a, b):
            continue
        found = crossings(model, a, b, segments=1 + seed % 19)
        require_parity(found)
        expected = traced(layers, a, b, Fraction)
        times = Counter(event[:3] for event in expected)  # a touch counts twice there, down and up again
        require_same(found, [event for event in expected if times[event[:3]] == 1], 1e-12)
        tied += found.tied
    assert tied > 50


def test_twin_neurons_cross_together() -> None:
    lines = random_lines(12, 4)
    linear = lines.model[0]  # type: ignore[index]
    twice = nn.Linear(2, 24, dtype=torch.float64).requires_grad_(False)
    twice.weight.copy_(torch.cat([linear.weight, -3 * linear.weight]))
    twice.bias.copy_(torch.cat([linear.bias, -3 * linear.bias]))
    a, b = torch.tensor([[-9.0, 1.0], [9.0, 2.0]], dtype=torch.float64)
    found = crossings(nn.Sequential(twice, nn.ReLU()).eval(), a, b)
    crossed = lines.crossings(a, b)
    assert np.array_equal(found.times, torch.cat([crossed, crossed]).numpy())
    single = crossings(lines.model, a, b)
    assert np.abs(found.t[::2] - single.t).max() < 1e-14


def test_behind_a_layer_norm_a_neuron_crosses_twice_at_most() -> None:
    torch.manual_seed(2)
    linear = nn.Linear(6, 80)
    linear.bias.data *= 4
    model = nn.Sequential(nn.LayerNorm(6), linear, nn.ReLU(), nn.Linear(80, 30), nn.ReLU()).double().eval()
    a, b = 2 * torch.randn(2, 6, dtype=torch.float64)
    found = crossings(model, a, b)
    require_parity(found)
    assert found.times[:80].max() == 2
    z, _ = pre_activations(float64_tail(model, a), along(a, b, found.t))
    assert float(z[torch.arange(len(found)), torch.from_numpy(found.bit)].abs().max()) < 1e-9
    fine = sampled_crossings(model, a, b, samples=40_001)
    assert np.array_equal(fine.times, found.times)
    assert np.abs(fine.t - found.t).max() < 1 / 40_000


def test_refusals() -> None:
    digits = pk.load("digits")
    x, y = digits.inputs([0, 1])[0]
    smooth = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 4), nn.ReLU()).eval()
    a, b = torch.zeros(3), torch.ones(3)
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()
    with pytest.raises(UsageError, match=r"cannot be listed: gelu is smooth\n.*\nsampled_crossings looks between"):
        crossings(smooth, a, b)
    with pytest.raises(UsageError, match="a and b are the same point"):
        crossings(digits, x, x)
    with pytest.raises(UsageError, match="same point in segment 1"):
        crossings_of_lines(plain, torch.stack([a, b]), torch.stack([b, b]))
    with pytest.raises(UsageError, match="a has shape \\[8, 8\\], the input of the model has \\[1, 8, 8\\]"):
        crossings(digits, x[0], y[0])
    with pytest.raises(UsageError, match="ends of segments have shapes"):
        crossings(plain, a, b[:2])
    with pytest.raises(UsageError, match="a is int64, not floating point"):
        crossings(plain, a.long(), b.long())
    with pytest.raises(UsageError, match="b holds NaN or infinity"):
        crossings(plain, a, b * float("nan"))
    with pytest.raises(UsageError, match="one piece at least"):
        crossings(plain, a, b, segments=0)
    with pytest.raises(UsageError, match="two samples at least"):
        sampled_crossings(plain, a, b, samples=1)
    with pytest.raises(UsageError, match="same point"):
        sampled_crossings(plain, a, a)
    with pytest.raises(UsageError, match="no input to reach '1' with"):
        crossings(plain, a, b, start="1")
    picture = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    for listed in (crossings, sampled_crossings):
        with pytest.raises(UsageError, match="the output is not a vector, so it has no class"):
            listed(picture, torch.zeros(1, 5, 5), torch.ones(1, 5, 5), classes=True)
    with pytest.raises(UsageError, match="its own start"):
        crossings(Tail(plain, a[None]), a, b, select="1")
    with pytest.raises(UsageError, match="one bin at least"):
        crossings(plain, a, b).density(0)
    assert crossings_of_lines(plain, a[None][:0], b[None][:0]) == []
