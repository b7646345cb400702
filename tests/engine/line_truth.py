"""The truth about a segment: a tracer in any arithmetic, and what holds of every list of crossings."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.lines import Crossings
from polykern.tail import Meeting, Tail

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
    """What holds on every line."""
    assert found.odd == 0
    assert np.array_equal(found.times % 2 == 1, found.differing)
    assert len(found) >= found.hamming == int(found.ends.distances()[0, 1])
    assert found.counts.sum() == len(found)
    for bit in np.unique(found.bit):
        up = found.up[found.bit == bit]
        assert (up[1:] != up[:-1]).all()
        assert up[0] != bool(found.ends.bits()[0, bit])


def pre_activations(tail: Tail, points: Tensor) -> tuple[Tensor, Tensor]:
    """float64 (n, bits): every pre-activation less its threshold, in the order of the bits; and the output."""
    values: list[Tensor] = []

    def reach(met: Meeting) -> Any:
        assert met.field is not None
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
    turned = torch.zeros(len(low) + 1, found.layout.bits, dtype=torch.int32)
    at = torch.from_numpy(np.searchsorted(low, found.t - 1e-12)), torch.from_numpy(found.bit)
    turned.index_put_(at, torch.ones(len(found), dtype=torch.int32), accumulate=True)
    bits = found.ends.bits()[:1] ^ (turned[:-1].cumsum(0) % 2 == 1)
    sure = middle.abs() > 1e-9 * scale
    assert torch.equal((middle > 0)[sure], bits[sure])
    assert bool(sure.float().mean() > 0.99) or bool((middle.abs() < 1e-9).any())


def require_classes(tail: Tail, found: Crossings, a: Tensor, b: Tensor) -> None:
    """At a change two outputs are largest and equal; between changes the argmax is the listed class."""
    _, out = pre_activations(tail, along(a, b, found.change))
    best = out.topk(2, 1).values
    assert float((best[:, 0] - best[:, 1]).abs().max()) < 1e-9
    knots = np.concatenate([[0.0], found.change, [1.0]])
    _, out = pre_activations(tail, along(a, b, (knots[1:] + knots[:-1]) / 2))
    assert out.argmax(1).tolist() == found.classes.tolist()
