"""scanline: counts, fingerprints and margins equal the evaluation of every pixel, bit for bit."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels._dispatch import BackendError
from polykern_kernels.scanline import Curves, Lattice, cost, crossings, margins, rounding

FIELDS = 3


def lattice(rng: np.random.Generator, height: int, width: int, bent: bool, side: float = 4.0) -> Lattice:
    """A window near the origin; `bent`: with the length of a random affine vector as its radius."""
    u = torch.from_numpy(rng.normal() + (np.arange(width + 1) + 0.5) * side / width)
    v = torch.from_numpy(rng.normal() + (np.arange(height + 1) + 0.5) * side / height)
    ones = torch.ones((height + 1, width + 1), dtype=torch.float64)
    if not bent:
        return Lattice(u, v, ones)
    factor = torch.from_numpy(np.triu(rng.normal(size=(3, 3))))
    points = torch.stack([ones, ones * u, ones * v[:, None]])
    vector = torch.einsum("ab,bij->aij", factor, points)
    far = float(torch.einsum("ab,bij->aij", factor.abs(), points.abs()).sum(0).max())
    return Lattice(u, v, (vector.square().sum(0) + 1e-3).sqrt(), 2.0**-49 * far)


def curves(rng: np.random.Generator, bits: int, bent: bool, steep: float = 1.0) -> Curves:
    """Random lines or conics; a few bits are constant, one is zero everywhere."""
    coefficient = rng.normal(size=(bits, 3)) * [1.0, steep, steep]
    coefficient[: bits // 8, 1:] = 0.0
    bend = rng.normal(size=bits) * bent
    coefficient[0], bend[0] = 0.0, 0.0
    return Curves(
        torch.from_numpy(coefficient),
        torch.from_numpy(bend),
        torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, (bits, 2))),
        torch.from_numpy(rng.integers(0, FIELDS, bits).astype(np.int32)),
        torch.from_numpy(rng.uniform(0, 1e-2, bits)),
    )


def assert_same(c: Curves, at: Lattice) -> tuple[torch.Tensor, ...]:
    got, wanted = crossings(c, at, FIELDS, backend="cpu"), crossings(c, at, FIELDS, backend="reference")
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    margin, uncertain = margins(c, at, backend="cpu")
    least, doubtful = margins(c, at, backend="reference")
    assert margin.dtype == torch.float32
    assert torch.equal(margin, least)
    assert uncertain == doubtful
    return wanted


@pytest.mark.parametrize("bent", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (30, 1), (5, 9), (40, 33)])
def test_equals_every_pixel(height: int, width: int, bent: bool) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        steep = 10 ** rng.uniform(-2, 1)
        assert_same(curves(rng, 40, bent, steep), lattice(rng, height, width, bent))


@given(st.integers(0, 10**6), st.booleans(), st.integers(-9, 6))
@settings(deadline=None, max_examples=100)
def test_equals_every_pixel_at_any_zoom(seed: int, bent: bool, zoom: int) -> None:
    """Down to windows in which neighbouring pixels differ by a few units in the last place of f."""
    rng = np.random.default_rng(seed)
    side = 10.0 ** (-zoom if zoom < 0 else -2 * zoom)
    at = lattice(rng, 12, 14, bent, side)
    c = curves(rng, 24, bent)
    i, j = 6, 7  # every second curve is moved through the middle of the window
    u, v, r = at.u[j], at.v[i], at.radius[i, j]
    value = c.coefficient[:, 0] + u * c.coefficient[:, 1] + v * c.coefficient[:, 2] + r * c.bend
    c.coefficient[1::2, 0] -= value[1::2]
    assert_same(c, at)


def test_a_conic_crosses_a_row_twice() -> None:
    """|x| < 2 along u, for the vector (u, 0, 0): the bits are 2 - sqrt(u u) and its opposite."""
    u = torch.arange(-4.5, 5.0, 1.0, dtype=torch.float64)
    at = Lattice(u, torch.tensor([0.0, 1.0], dtype=torch.float64), u.abs().expand(2, -1).clone(), 1e-15)
    c = Curves(
        torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]], dtype=torch.float64),
        torch.tensor([-1.0, 1.0], dtype=torch.float64),
        torch.tensor([[1, 2], [10, 20]]),
        torch.zeros(2, dtype=torch.int32),
        torch.zeros(2, dtype=torch.float64),
    )
    for backend in ("cpu", "reference"):
        right, down, prints = crossings(c, at, 1, backend=backend)
        assert right[0, 0].tolist() == [0, 0, 2, 0, 0, 0, 2, 0, 0]
        assert not down.any()
        assert prints[0, :, 0].tolist() == [10, 10, 10, 1, 1, 1, 1, 10, 10]
        assert prints[0, :, 1].tolist() == [20, 20, 20, 2, 2, 2, 2, 20, 20]
        margin, uncertain = margins(c, at, backend=backend)
        assert torch.equal(margin[0], ((2 - u[:-1].abs()).abs() / u[:-1].abs()).float())
        assert uncertain == 0


def test_pixels_on_a_line_are_off() -> None:
    """Dyadic lines through pixel centres: f is 0 exactly there, and 0 is off."""
    rng = np.random.default_rng(0)
    step = torch.arange(17, dtype=torch.float64) / 4 - 2
    zeros = 0
    for _ in range(20):
        c = curves(rng, 30, bent=False)
        c = dataclasses.replace(c, coefficient=torch.from_numpy(rng.integers(-4, 5, (30, 3)) / 2))
        ones = torch.ones((17, 17), dtype=torch.float64)
        assert_same(c, Lattice(step, step, ones))
        f = c.coefficient @ torch.stack([ones, ones * step, ones * step[:, None]]).flatten(1)
        zeros += int((f == 0).sum())
    assert zeros > 1000


def test_rounding_bounds_what_float64_does() -> None:
    """Against the same formula in exact rational arithmetic."""
    from fractions import Fraction

    rng = np.random.default_rng(3)
    at, c = lattice(rng, 4, 4, bent=False), curves(rng, 20, bent=False)
    bound = rounding(c.coefficient, c.bend, at)
    for b in range(20):
        p, q, w = (Fraction(x) for x in c.coefficient[b].tolist())
        for v in at.v.tolist():
            for u in at.u.tolist():
                exact = p + q * Fraction(u) + w * Fraction(v)
                assert abs(Fraction((float(p) + v * float(w)) + u * float(q)) - exact) <= Fraction(float(bound[b]))


def test_the_refusals_name_the_tensor() -> None:
    rng = np.random.default_rng(0)
    c, at = curves(rng, 8, False), lattice(rng, 2, 3, False)
    with pytest.raises(ValueError, match=r"scanline\.crossings: bend must be float64\[8\], got float32\[8\]@cpu"):
        crossings(dataclasses.replace(c, bend=c.bend.float()), at, FIELDS)
    with pytest.raises(ValueError, match=r"scanline\.margins: radius must be float64\[3, 4\]"):
        margins(c, dataclasses.replace(at, radius=at.radius[1:]))
    with pytest.raises(ValueError, match=r"crossings: field must be numbers of 2 fields, got int32\[8\]@cpu"):
        crossings(dataclasses.replace(c, field=c.field.clone().fill_(2)), at, 2)
    with pytest.raises(ValueError, match="at least two rows and columns of points"):
        crossings(c, dataclasses.replace(at, u=at.u[:1]), FIELDS)
    with pytest.raises(BackendError, match="no backend 'triton'; it has cpu, reference"):
        crossings(c, at, FIELDS, backend="triton")


def test_cost_counts_compulsory_work() -> None:
    c = cost(bits=10, height=3, width=4, fields=2)
    assert (c.bytes, c.flops) == (640 + 12 * 32, 12 * 10 * 7)
