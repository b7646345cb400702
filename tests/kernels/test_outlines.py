"""outlines: sides are paired, hulls are hulls, straight corners are dropped; both backends give the same."""

import math

import pytest
import torch
from torch import Tensor

from polykern_kernels import outlines


def groups(seed: int) -> tuple[Tensor, Tensor]:
    """Points of random polygons: corners in any order, points on sides, repeated and inner ones."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for n in (3, 4, 5, 9, 40):
        turn = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64).sort().values
        corner = torch.stack([turn.cos(), turn.sin()], 1) * 10.0 ** float(
            torch.randint(-6, 3, (1,), generator=generator)
        )
        share = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        parts.append(
            torch.cat([corner, corner + share * (corner.roll(-1, 0) - corner), corner[:2], corner.mean(0)[None]])
        )
        parts[-1] = parts[-1][torch.randperm(len(parts[-1]), generator=generator)]
    return torch.tensor([0, *map(len, parts)]).cumsum(0), torch.cat(parts)


@pytest.mark.parametrize("seed", range(10))
def test_both_give_the_same_corners(seed: int) -> None:
    first, corner = groups(seed)
    for ours, theirs in zip(*(outlines.hulls(first, corner, backend=b) for b in ("cpu", "reference")), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("seed", range(10))
def test_hulls_are_convex_and_hold_their_points(seed: int) -> None:
    first, corner = groups(seed)
    begins, found = outlines.hulls(first, corner)
    for k in range(len(first) - 1):
        points, hull = corner[first[k] : first[k + 1]], found[begins[k] : begins[k + 1]]
        edge, after = hull.roll(-1, 0) - hull, hull.roll(-2, 0) - hull.roll(-1, 0)
        assert (edge[:, 0] * after[:, 1] > edge[:, 1] * after[:, 0]).all()
        away = points[:, None] - hull
        inside = edge[:, 0] * away[..., 1] - edge[:, 1] * away[..., 0]
        assert (inside >= -2e-9 * float(points.abs().max()) ** 2).all()
        assert (hull[:, None] == points).all(2).any(1).all()  # corners are points as given
        assert torch.equal(hull[0], hull[torch.argsort(hull[:, 0])[0]])


def test_a_side_in_two_pieces_is_one_side() -> None:
    square = torch.tensor([[0, 0], [1, 0], [2, 0], [2, 2], [1, 2], [0, 2], [2, 2 + 1e-13]], dtype=torch.float64)
    begins, found = outlines.hulls(torch.tensor([0, 7]), square)
    assert begins.tolist() == [0, 4]
    assert found.round().tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]


def test_points_on_a_line_and_nothing_at_all() -> None:
    line = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]], dtype=torch.float64)
    for backend in ("cpu", "reference"):
        _, found = outlines.hulls(torch.tensor([0, 4]), line, backend=backend)
        assert found.tolist() == [[0, 0], [1, 1], [3, 3]]
        begins, found = outlines.hulls(torch.tensor([0]), line[:0], backend=backend)
        assert (begins.tolist(), found.shape) == ([0], (0, 2))


def test_refusals() -> None:
    first, corner = groups(0)
    with pytest.raises(ValueError, match="corner must be float64"):
        outlines.hulls(first, corner.float())
    with pytest.raises(ValueError, match="by three at least"):
        outlines.hulls(first[1:], corner)
    with pytest.raises(ValueError, match="by three at least"):
        outlines.hulls(torch.tensor([0, 2, 5]), corner[:5])


def sides(seed: int) -> tuple[Tensor, Tensor, set[frozenset[int]]]:
    """Sides along random lines, most of them there in both senses, one of those a little off; which are pairs."""
    generator = torch.Generator().manual_seed(seed)
    line, ends = [], []
    for k in range(1 + seed % 5, 9):
        n = int(torch.randint(1, 30, (1,), generator=generator))
        base, way = torch.randn(2, 2, generator=generator, dtype=torch.float64)
        steps = torch.rand(n + 1, generator=generator, dtype=torch.float64).sort().values
        corner = base + steps[:, None] * way
        line += [k] * n
        ends.append(torch.stack([corner[:-1], corner[1:]], 1))
    one = torch.cat(ends)
    n = len(one)
    there = torch.randperm(n, generator=generator)[: n - n // 8]
    other = one[there].flip(1) + 1e-14 * torch.randn(len(there), 2, 2, generator=generator, dtype=torch.float64)
    order = torch.randperm(n + len(there), generator=generator)
    whole = torch.tensor(line)
    place = torch.argsort(order)
    want = {frozenset((int(place[int(k)]), int(place[n + i]))) for i, k in enumerate(there)}
    return torch.cat([whole, whole[there]])[order], torch.cat([one, other])[order], want


@pytest.mark.parametrize("seed", range(10))
def test_sides_are_paired(seed: int) -> None:
    line, ends, want = sides(seed)
    ours, theirs = (outlines.pairs(line, ends, 1e-9, backend=b) for b in ("cpu", "reference"))
    assert torch.equal(ours, theirs)
    assert {frozenset(pair) for pair in ours.tolist()} == want
    assert len(outlines.pairs(line, ends, 1e-20)) < len(want)


def test_no_sides_and_refusals_of_sides() -> None:
    line, ends, _ = sides(0)
    for backend in ("cpu", "reference"):
        assert outlines.pairs(line[:0], ends[:0], 1e-9, backend=backend).shape == (0, 2)
        assert outlines.pairs(line[:1], ends[:1], 1e-9, backend=backend).shape == (0, 2)
    with pytest.raises(ValueError, match="ends must be float64"):
        outlines.pairs(line, ends[1:], 1e-9)
    with pytest.raises(ValueError, match="numbered from 0 on, got -1"):
        outlines.pairs(line - line.min() - 1, ends, 1e-9)


def test_cost() -> None:
    assert outlines.cost_pairs(9, 4).bytes == 360 + 64
    assert outlines.cost(2, 10, 8).bytes == 32 + 160 + 128
