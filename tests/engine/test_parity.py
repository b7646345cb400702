"""Sign changes along segments: each neuron's number has the parity of the difference of its end bits.

On a segment the pre-activations of a piecewise-linear network are continuous piecewise linear functions of the
parameter, so their zeros can be listed exactly; a sampled path sees fewer crossings than there are, never more.
"""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from polykern.points import codes_of
from tests.engine.line_truth import Layers, mlp, traced
from tests.worlds import random_lines, random_network


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


def _segment(seed: int) -> tuple[nn.Module, Layers, Tensor, Tensor]:
    """A network, its layers in front of ReLUs, and the ends of a segment; all of few bits."""
    model, layers = mlp([3, 8, 8, 6, 2], seed, rounded=True)
    a, b = torch.randint(-96, 96, (2, 3), generator=torch.Generator().manual_seed(seed)).double() / 32
    return model, layers, a, b


def _crossings(layers: Layers, a: Tensor, b: Tensor) -> Tensor:
    """int64 (bits): how often each neuron crosses the segment, by rational arithmetic."""
    counts = [torch.zeros(len(bias), dtype=torch.int64) for _, bias in layers]
    for _, layer, unit, _ in traced(layers, a, b, Fraction):
        counts[layer][unit] += 1
    return torch.cat(counts)


@pytest.mark.parametrize("seed", range(10))
def test_exact_crossings_have_the_parity_of_the_ends(seed: int) -> None:
    model, layers, a, b = _segment(seed)
    exact = _crossings(layers, a, b)
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
        model, layers, a, b = _segment(seed)
        ends = codes_of(model, torch.stack([a, b])).distances()
        excess += int(_crossings(layers, a, b).sum()) - int(ends[0, 1])
    assert excess > 0
    assert excess % 2 == 0


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_crossed_once(seed: int) -> None:
    lines = random_lines(30, seed)
    a, b = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3
    flips, ends = _flips(lines.model, a, b, 100)
    assert torch.equal(flips, ends.long())
    assert torch.equal(ends, lines.crossings(a, b))
