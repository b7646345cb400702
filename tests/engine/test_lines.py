"""Crossings of segments: against rational arithmetic, a plain float64 tracer and the network itself."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import polykern as pk
from polykern.codes import packed
from polykern.errors import UsageError
from polykern.lines import Crossings, crossings, crossings_of_lines, pieces, sampled_crossings, tail_of
from polykern.points import codes_of
from polykern.tail import Tail
from polykern_kernels import pack
from tests.worlds import random_lines, random_network

Layers = list[tuple[NDArray[np.float64], NDArray[np.float64]]]
Event = tuple[Any, int, int, bool]  # t, layer, unit, up


def mlp(widths: list[int], seed: int, *, rounded: bool = False, bias: bool = True) -> tuple[nn.Sequential, Layers]:
    """A ReLU network in float64, the last layer without one, and its layers in front of ReLUs."""
    torch.manual_seed(seed)
    linears = [nn.Linear(i, o, bias=bias, dtype=torch.float64) for i, o in pairwise(widths)]
    model = nn.Sequential(*[m for linear in linears for m in (linear, nn.ReLU())][:-1]).eval().requires_grad_(False)
    if rounded:
        for parameter in model.parameters():  # few bits, so that the fractions stay short
            parameter.copy_((parameter * 64).round() / 64)
    hidden = [
        (m.weight.numpy(), m.bias.numpy() if m.bias is not None else np.zeros(m.out_features)) for m in linears[:-1]
    ]
    return model, hidden


def traced(layers: Layers, a: Tensor, b: Tensor, number: Callable[[float], Any]) -> list[Event]:
    """Every crossing of a segment, layer after layer: knots with all activations, roots between them (slow).

    number  the arithmetic: float, or Fraction for exact results
    """
    knots = [(number(0.0), [number(float(v)) for v in a]), (number(1.0), [number(float(v)) for v in b])]
    events: list[Event] = []
    for depth, (weight, bias) in enumerate(layers):
        rows = [[number(float(w)) for w in row] for row in weight]
        shift = [number(float(v)) for v in bias]
        z = [
            (t, [sum((w * h for w, h in zip(row, x, strict=True)), s) for row, s in zip(rows, shift, strict=True)])
            for t, x in knots
        ]
        bent = [z[0]]
        for (s, left), (t, right) in pairwise(z):
            inner = set()
            for unit, (p, q) in enumerate(zip(left, right, strict=True)):
                if p * q < 0:
                    root = s + (t - s) * p / (p - q)
                    inner.add(root)
                    events.append((root, depth, unit, q > 0))
                elif (p > 0) != (q > 0):  # a root at a knot
                    events.append((s if p == 0 else t, depth, unit, q > 0))
            share = [((u - s) / (t - s), u) for u in sorted(inner)]
            bent += [(u, [p + r * (q - p) for p, q in zip(left, right, strict=True)]) for r, u in share]
            bent.append((t, right))
        knots = [(t, [max(v, number(0.0)) for v in x]) for t, x in bent]
    return sorted(events)


def require_same(found: Crossings, expected: list[Event], near: float) -> None:
    """The same crossings; where two lie closer than rounding they may have changed places."""
    assert len(found) == len(expected)
    mine = sorted(zip(found.field.tolist(), found.unit.tolist(), found.t.tolist(), found.up.tolist(), strict=True))
    theirs = sorted((layer, unit, t, up) for t, layer, unit, up in expected)
    for (field, unit, t, up), (layer, number, root, upwards) in zip(mine, theirs, strict=True):
        assert (field, unit, up) == (layer, number, upwards)
        assert abs(Fraction(t) - Fraction(root)) < near
    assert (np.diff(found.t) >= 0).all()


def require_parity(found: Crossings) -> None:
    """What holds on every line: A9."""
    assert found.odd == 0
    assert np.array_equal(found.times % 2 == 1, found.differing)
    assert len(found) >= found.hamming == int(found.ends.distances()[0, 1])
    assert found.counts.sum() == len(found)
    for bit in np.unique(found.bit):
        up = found.up[found.bit == bit]
        assert (up[1:] != up[:-1]).all()
        assert up[0] != bool(found.ends.bits()[0, bit])


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


def pre_activations(tail: Tail, points: Tensor) -> tuple[Tensor, Tensor]:
    """float64 (n, bits): every pre-activation less its threshold, in the order of the bits; and the output."""
    values: list[Tensor] = []

    def reach(met: Any) -> Any:
        values.extend(met.z.flatten(1) - t for t in met.field.thresholds)
        return met.proceed()

    out = tail.run(points.clone(), reach)
    return torch.cat([v.expand(len(points), -1) for v in values], 1), out


def along(a: Tensor, b: Tensor, t: NDArray[np.float64]) -> Tensor:
    share = torch.from_numpy(np.ascontiguousarray(t)).reshape(-1, *(1,) * a.ndim)
    return a + share * (b - a)


def require_complete(tail: Tail, found: Crossings, a: Tensor, b: Tensor) -> None:
    """Between breakpoints every pre-activation is affine and keeps its sign, so none is missing."""
    assert found.switches is not None
    inner = np.concatenate([found.t, found.switches, found.change])
    knots = np.unique(np.concatenate([[0.0, 1.0], inner]))
    knots = knots[np.concatenate([[True], np.diff(knots) > 1e-9])]
    low, high = knots[:-1], knots[1:]
    z, _ = pre_activations(tail, torch.cat([along(a, b, low + s * (high - low)) for s in (0.02, 0.5, 0.98)]))
    left, middle, right = z.chunk(3)
    scale = z.abs().amax(0) + 1e-3
    assert float(((left + right) / 2 - middle).abs().div(scale).max()) < 1e-10
    # signs: those of a, turned over by what was crossed before
    bits = found.ends.bits()[:1] ^ torch.zeros(len(low), 1, dtype=torch.bool)
    for t, bit in zip(found.t.tolist(), found.bit.tolist(), strict=True):
        bits[low >= t - 1e-12, bit] ^= True
    sure = middle.abs() > 1e-9 * scale
    assert torch.equal((middle > 0)[sure], bits[sure])
    assert bool(sure.float().mean() > 0.99) or bool((middle.abs() < 1e-9).any())


@pytest.mark.parametrize("seed", range(16))
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
    x = digits.inputs([0, 1, 2, 3])[0].double()
    tail = tail_of(digits, x[0])
    for found, a, b in zip(crossings_of_lines(tail, x[:2], x[2:]), x[:2], x[2:], strict=True):
        require_parity(found)
        assert found.ratios[0] == 1.0
        assert found.ratios[-1] > 1.0
        require_complete(tail, found, a, b)
        require_classes(tail, found, a, b)


def require_classes(tail: Tail, found: Crossings, a: Tensor, b: Tensor) -> None:
    """At a change two outputs are largest and equal; between changes the argmax is the listed class."""
    _, out = pre_activations(tail, along(a, b, found.change))
    best = out.topk(2, 1).values
    assert float((best[:, 0] - best[:, 1]).abs().max()) < 1e-9
    knots = np.concatenate([[0.0], found.change, [1.0]])
    _, out = pre_activations(tail, along(a, b, (knots[1:] + knots[:-1]) / 2))
    assert out.argmax(1).tolist() == found.classes.tolist()


def test_classes_change_where_two_outputs_are_equal() -> None:
    changes = 0
    for seed in range(6):
        model, _ = mlp([4, 24, 24, 6], seed)
        a, b = 5 * torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = crossings(model, a, b)
        if len(found.change):
            require_classes(tail_of(model, a), found, a, b)
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


# --- degenerate lines -------------------------------------------------------------------------------------


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
    z, _ = pre_activations(tail_of(model, a), along(a, b, found.t))
    assert float(z[torch.arange(len(found)), torch.from_numpy(found.bit)].abs().max()) < 1e-9
    fine = sampled_crossings(model, a, b, samples=40_001)
    assert np.array_equal(fine.times, found.times)
    assert np.abs(fine.t - found.t).max() < 1 / 40_000


# --- samples ------------------------------------------------------------------------------------------------


def test_samples_see_no_more_and_refining_them_no_less() -> None:
    less = 0
    for seed in range(8):
        network = random_network(seed)
        a, b = 3 * network.points(2, seed)
        exact = crossings(network.model, a, b)
        before = exact.differing.astype(np.int64)
        for k in range(8):
            found = sampled_crossings(network.model, a, b, samples=2**k + 1)
            require_parity(found)
            assert (found.times >= before).all()
            assert (found.times <= exact.times).all()
            assert ((exact.times - found.times) % 2 == 0).all()
            assert not found.exact
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
    first, fields = found.layout.fields[0], found.layout.fields
    one = pack.signs(torch.zeros(1, first.bits), first.thresholds)[0]
    assert packed(first, torch.zeros(1, *first.shape)).shape == one.shape
    for k in range(len(found)):
        field = fields[found.field[k]]
        assert found.bit[k] == field.offset + found.unit[k]


# --- refusals -----------------------------------------------------------------------------------------------


def test_refusals(digits: pk.Subject) -> None:
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
    with pytest.raises(UsageError, match="its own start"):
        crossings(Tail(plain, a[None]), a, b, select="1")
    with pytest.raises(UsageError, match="the output is not a vector"):
        crossings(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()).eval(), x, y, classes=True)
    with pytest.raises(UsageError, match="one bin at least"):
        crossings(plain, a, b).density(0)
    assert crossings_of_lines(plain, a[None][:0], b[None][:0]) == []
