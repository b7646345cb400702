"""Sign changes along segments: each neuron's number has the parity of the difference of its end bits.

On a segment the pre-activations of a piecewise-linear network are continuous piecewise linear functions of the
parameter, so their zeros can be listed exactly; a sampled path sees fewer crossings than there are, never more.
"""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.points import codes_of
from tests.worlds import random_lines, random_network

Array = NDArray[np.float64]


def _flips(model: nn.Module, a: Tensor, b: Tensor, pieces: int) -> tuple[Tensor, Tensor]:
    """int (bits): flips between adjacent samples of the segment a b; bool (bits): whether its ends differ."""
    t = torch.linspace(0, 1, pieces + 1, dtype=torch.float64).reshape(-1, *(1,) * a.ndim)
    bits = codes_of(model, a + t * (b - a)).bits()
    return (bits[1:] != bits[:-1]).sum(0), bits[0] != bits[-1]


@pytest.mark.parametrize("seed", range(50))
def test_sampled_flips_have_the_parity_of_the_ends(seed: int) -> None:
    network = random_network(seed)
    a, b = network.points(2, seed).double()
    model = network.model.double()
    coarse, ends = _flips(model, a, b, 24)
    fine, _ = _flips(model, a, b, 96)
    assert torch.equal(coarse % 2, ends.long())
    assert torch.equal(fine % 2, ends.long())
    assert bool((fine >= coarse).all())  # the fine path holds the coarse one's samples
    assert bool((coarse >= ends.long()).all())


def _rational_crossings(layers: list[tuple[Array, Array]], a: Array, b: Array) -> list[list[int]]:
    """Zeros of every neuron in (0, 1) for each layer of a ReLU MLP, by rational arithmetic: exact.

    Between neighbouring breakpoints everything is linear in t: a list of (t, activations) describes a layer.
    """
    knots: list[tuple[Fraction, list[Fraction]]] = [
        (Fraction(0), [Fraction(float(v)) for v in a]),
        (Fraction(1), [Fraction(float(v)) for v in b]),
    ]
    counts = []
    for weight, bias in layers:
        rows = [[Fraction(float(w)) for w in row] for row in weight]
        shift = [Fraction(float(v)) for v in bias]
        z = [
            (t, [sum((w * h for w, h in zip(row, x, strict=True)), s) for row, s in zip(rows, shift, strict=True)])
            for t, x in knots
        ]
        bent, crossed = [z[0]], [0] * len(rows)
        for (s, left), (t, right) in pairwise(z):
            inner = set()
            for k, (p, q) in enumerate(zip(left, right, strict=True)):
                if (p > 0) != (q > 0):
                    crossed[k] += 1
                if p * q < 0:
                    inner.add(s + (t - s) * p / (p - q))
            share = [((u - s) / (t - s), u) for u in sorted(inner)]
            bent += [(u, [p + r * (q - p) for p, q in zip(left, right, strict=True)]) for r, u in share]
            bent.append((t, right))
        counts.append(crossed)
        knots = [(t, [max(v, Fraction(0)) for v in x]) for t, x in bent]
    return counts


def _mlp(seed: int) -> tuple[nn.Sequential, list[tuple[Array, Array]]]:
    torch.manual_seed(seed)
    linears = [nn.Linear(i, o, dtype=torch.float64) for i, o in ((3, 8), (8, 8), (8, 6))]
    model = nn.Sequential(*(m for linear in linears for m in (linear, nn.ReLU()))).eval().requires_grad_(False)
    for parameter in model.parameters():  # few bits, so that the fractions stay short
        parameter.copy_((parameter * 64).round() / 64)
    return model, [(linear.weight.numpy(), linear.bias.numpy()) for linear in linears]


@pytest.mark.parametrize("seed", range(10))
def test_exact_crossings_have_the_parity_of_the_ends(seed: int) -> None:
    model, layers = _mlp(seed)
    a, b = torch.randint(-96, 96, (2, 3), generator=torch.Generator().manual_seed(seed)).double() / 32
    exact = torch.tensor([n for layer in _rational_crossings(layers, a.numpy(), b.numpy()) for n in layer])
    sampled, ends = _flips(model, a, b, 64)
    fine, _ = _flips(model, a, b, 4096)
    assert torch.equal(exact % 2, ends.long())
    assert bool((exact >= fine).all())
    assert bool((fine >= sampled).all())
    assert torch.equal(exact[:8], ends[:8].long())  # first-layer neurons cross at most once
    assert torch.equal(exact % 2, fine % 2)
    assert int(exact.sum()) == int(fine.sum())  # 4096 pieces part all crossings of these lines


def test_folding_exists() -> None:
    """Later layers cross a line more often than its ends differ: the test above is not about the ends alone."""
    excess = 0
    for seed in range(10):
        model, layers = _mlp(seed)
        a, b = torch.randint(-96, 96, (2, 3), generator=torch.Generator().manual_seed(seed)).double() / 32
        crossings = _rational_crossings(layers, a.numpy(), b.numpy())
        excess += sum(map(sum, crossings)) - int(codes_of(model, torch.stack([a, b])).distances()[0, 1])
    assert excess > 0
    assert excess % 2 == 0


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_crossed_once(seed: int) -> None:
    lines = random_lines(30, seed)
    a, b = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3
    flips, ends = _flips(lines.model, a, b, 100)
    assert torch.equal(flips, ends.long())
    assert torch.equal(ends, lines.crossings(a, b))
