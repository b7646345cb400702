"""The partition of a square by a small ReLU network in rational numbers: nothing is rounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

Point = tuple[Fraction, Fraction]
Form = tuple[Fraction, Fraction, Fraction]  # a + b x + c y
Part = tuple[tuple[Point, ...], tuple[bool, ...]]  # a polygon, and on which side of each form it is


@dataclass(frozen=True)
class Region:
    """A convex polygon, its code, and its map: a form for each output."""

    corners: tuple[Point, ...]
    code: tuple[bool, ...]
    outputs: tuple[Form, ...]

    @property
    def area(self) -> Fraction:
        """By the shoelace formula."""
        after = self.corners[1:] + self.corners[:1]
        return sum((x * v - u * y for (x, y), (u, v) in zip(self.corners, after, strict=True)), Fraction(0)) / 2


def regions(model: nn.Sequential, corners: Sequence[tuple[int, int]]) -> list[Region]:
    """Every region of a network of linear layers and ReLUs in a convex polygon, whose corners turn x to y."""
    square = tuple((Fraction(x), Fraction(y)) for x, y in corners)
    zero, one = Fraction(0), Fraction(1)
    found = [Region(square, (), ((zero, one, zero), (zero, zero, one)))]
    for layer in model:
        if isinstance(layer, nn.Linear):
            weight = [[Fraction(w) for w in row] for row in layer.weight.tolist()]
            bias = [Fraction(b) for b in layer.bias.tolist()]
            found = [Region(r.corners, r.code, _linear(weight, bias, r.outputs)) for r in found]
        else:
            found = [part for r in found for part in _bent(r)]
    return found


def _linear(weight: list[list[Fraction]], bias: list[Fraction], forms: tuple[Form, ...]) -> tuple[Form, ...]:
    out = []
    for row, b in zip(weight, bias, strict=True):
        a = [sum((w * form[k] for w, form in zip(row, forms, strict=True)), Fraction(0)) for k in range(3)]
        out.append((a[0] + b, a[1], a[2]))
    return tuple(out)


def _bent(region: Region) -> list[Region]:
    """The parts of a region on which every output keeps its sign, and what a ReLU makes of them there."""
    parts: list[Part] = [(region.corners, ())]
    for a, b, c in region.outputs:
        cut: list[Part] = []
        for corners, signs in parts:
            values = [a + b * x + c * y for x, y in corners]
            for on in (False, True):
                some = _half(corners, values if on else [-z for z in values])
                if len(some) > 2:
                    cut.append((some, (*signs, on)))
        parts = cut
    off, forms = (Fraction(0), Fraction(0), Fraction(0)), region.outputs
    return [
        Region(corners, region.code + signs, tuple(f if on else off for f, on in zip(forms, signs, strict=True)))
        for corners, signs in parts
    ]


def _half(corners: tuple[Point, ...], values: list[Fraction]) -> tuple[Point, ...]:
    """The part of a polygon where a form, given at the corners, is not negative; nothing where that has no area."""
    if max(values) <= 0:
        return ()
    kept = []
    for k, ((x, y), z) in enumerate(zip(corners, values, strict=True)):
        (u, v), w = corners[(k + 1) % len(corners)], values[(k + 1) % len(values)]
        if z >= 0:
            kept.append((x, y))
        if z * w < 0:
            share = z / (z - w)
            kept.append((x + share * (u - x), y + share * (v - y)))
    return tuple(kept)
