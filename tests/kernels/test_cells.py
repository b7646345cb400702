"""cells.cut: both backends cut alike, cells tile their tile, and every point's code is that of its cell."""

import dataclasses

import pytest
import torch
from torch import Tensor

from polykern_kernels import cells, program
from polykern_kernels.cells import Cells
from polykern_kernels.program import CLASS, KINK, NORM, RIVAL, Programs
from tests.kernels.test_program import random_programs

SIDE = 6.0


def without_norms(p: Programs, tolerance: float | None = None) -> Programs:
    """The same programs, a NORM being a RIVAL and no sign scaled, with other tolerances if they are given."""
    kind = torch.where(p.kind == NORM, RIVAL, p.kind).to(torch.int8)
    term = torch.where((p.kind == NORM).repeat_interleave(p.start.diff()), p.term % 3, p.term).to(torch.int32)
    slack = p.tolerance if tolerance is None else torch.full_like(p.tolerance, tolerance)
    return dataclasses.replace(p, kind=kind, term=term, scale=torch.full_like(p.scale, -1), tolerance=slack)


def polygons(found: Cells) -> list[Tensor]:
    return list(found.corner.split(found.start.diff().tolist()))


def lines(*forms: tuple[float, float, float]) -> Programs:
    """One tile whose kinks are lines a + b u + c v."""
    n = len(forms)
    return Programs(
        first=torch.tensor([0, n]),
        kind=torch.full((n,), KINK, dtype=torch.int8),
        target=torch.arange(3, 3 + n, dtype=torch.int32),
        field=torch.zeros(n, dtype=torch.int32),
        key=torch.tensor([[1 << k, 1 << k] for k in range(n)], dtype=torch.int64).reshape(-1, 2),
        tolerance=torch.full((n,), 1e-12, dtype=torch.float64),
        start=3 * torch.arange(n + 1),
        term=torch.arange(3, dtype=torch.int32).repeat(n),
        coefficient=torch.tensor(forms, dtype=torch.float64).flatten(),
        symbols=torch.tensor([3 + n], dtype=torch.int32),
        scale=torch.tensor([-1], dtype=torch.int32),
        digest=torch.zeros((1, 2), dtype=torch.int64),
        margin=torch.ones(1, dtype=torch.float64),
        winner=torch.tensor([-1], dtype=torch.int32),
    )


@pytest.mark.parametrize("seed", range(12))
def test_both_cut_alike(seed: int) -> None:
    p = without_norms(random_programs(seed))
    ours, theirs = (cells.cut(p, SIDE, SIDE + 1, backend=name) for name in ("cpu", "reference"))
    for name in ("first", "start", "side", "digest", "region", "winner"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    for name in ("corner", "area"):
        assert (getattr(ours, name) - getattr(theirs, name)).abs().max() < 1e-9, name
    assert len(ours.area) > 2 * p.tiles  # something was cut


@pytest.mark.parametrize("seed", range(6))
def test_cells_are_convex_and_tile_their_tile(seed: int) -> None:
    p = without_norms(random_programs(seed))
    found = cells.cut(p, SIDE, SIDE)
    assert (found.area > 0).all()
    for t in range(p.tiles):
        assert abs(float(found.area[found.first[t] : found.first[t + 1]].sum()) - SIDE * SIDE) < 1e-10
    for corners in polygons(found):
        edges = corners.roll(-1, 0) - corners
        after = edges.roll(-1, 0)
        assert (edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0] > -1e-9).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_pixels_inside_a_cell_have_its_code_and_class(seed: int) -> None:
    p = without_norms(random_programs(seed), 1e-12)
    p = dataclasses.replace(p, field=torch.where(p.kind <= program.FOLD, 0, -1).to(torch.int32))
    n = int(SIDE)
    run = program.run(p, n, n, 1, backend="reference")
    found = cells.cut(p, SIDE, SIDE)
    at = torch.arange(n, dtype=torch.float64) - SIDE / 2
    seen = 0
    for t in range(p.tiles):
        for c in range(int(found.first[t]), int(found.first[t + 1])):
            corners = found.corner[found.start[c] : found.start[c + 1]]
            edges = corners.roll(-1, 0) - corners
            u, v = at[None, :, None] - corners[:, 0], at[:, None, None] - corners[:, 1]
            inside = (edges[:, 0] * v - edges[:, 1] * u > 1e-9).all(2)
            seen += int(inside.sum())
            assert (run.digest[t][inside] == found.digest[c]).all()
            assert (run.classes[t][inside] == found.winner[c]).all()
    assert seen > 0.6 * p.tiles * n * n  # a pixel on a side is inside of nothing


def test_lines_in_general_position_make_as_many_cells_as_zaslavsky_says() -> None:
    generator = torch.Generator().manual_seed(0)
    for n in range(9):
        angles = torch.rand(n, generator=generator, dtype=torch.float64) * torch.pi
        offsets = torch.rand(n, generator=generator, dtype=torch.float64) - 0.5
        # a tile so large that all lines meet in it
        found = cells.cut(
            lines(*zip(offsets.tolist(), angles.cos().tolist(), angles.sin().tolist(), strict=True)), 1e4, 1e4
        )
        assert len(found.area) == 1 + n + n * (n - 1) // 2
        assert len(found.digest.unique(dim=0)) == len(found.area)


def test_sides_say_what_lies_on_them() -> None:
    found = cells.cut(lines((0.5, 1.0, 0.0)), 2.0, 4.0)  # u = -0.5
    off, on = polygons(found)
    assert off.tolist() == [[-2, -1], [-0.5, -1], [-0.5, 1], [-2, 1]]
    assert on.tolist() == [[-0.5, -1], [2, -1], [2, 1], [-0.5, 1]]
    assert found.side.tolist() == [
        cells.LOW_V,
        0,
        cells.HIGH_V,
        cells.LOW_U,
        cells.LOW_V,
        cells.HIGH_U,
        cells.HIGH_V,
        0,
    ]
    assert found.digest.tolist() == [[0, 0], [1, 1]]
    assert found.area.tolist() == [3, 5]


def test_a_line_along_an_edge_of_a_cell_cuts_nothing() -> None:
    twice = cells.cut(lines((0.5, 1.0, 0.0), (1.0, 2.0, 0.0), (-2.0, -1.0, 0.0)), 2.0, 4.0)
    assert len(twice.area) == 2  # the same line again, and the tile's own side
    assert twice.digest.tolist() == [[0, 0], [3, 3]]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_two_roundings_of_a_line_cut_once(backend: str) -> None:
    """They cross at an angle of 1e-14; two lines at an angle of 1e-9 are two."""
    for angle, count in ((1e-14, 2), (1e-9, 4)):
        p = lines((0.1, 0.7, -0.4), (0.3, 2.1 + angle, -1.2 - angle))
        p = dataclasses.replace(p, tolerance=torch.zeros(2, dtype=torch.float64))
        found = cells.cut(p, SIDE, SIDE, backend=backend)
        assert len(found.area) == count
        assert (found.area > 0).all()


def test_classes_cut_too() -> None:
    p = lines((0.5, 1.0, 0.0), (0.0, 0.0, 1.0))
    p = dataclasses.replace(p, kind=torch.tensor([CLASS, CLASS], dtype=torch.int8), winner=torch.tensor([7]).int())
    p = dataclasses.replace(p, target=torch.tensor([2, 5]).int())
    for backend in ("cpu", "reference"):
        found = cells.cut(p, 4.0, 4.0, backend=backend)
        assert sorted(set(found.winner.tolist())) == [2, 5, 7]
        assert found.area.sum() == 16
        assert (found.digest == 0).all()


def test_cells_that_only_an_overtaken_rival_parts_are_of_one_region() -> None:
    p = lines((0.0, 1.0, 0.0), (5.0, 0.0, 1.0))  # max(0, u, 5 + v): u loses all over the tile
    p = dataclasses.replace(
        p, kind=torch.tensor([RIVAL, RIVAL], dtype=torch.int8), target=torch.tensor([3, 3]).int()
    )
    for backend in ("cpu", "reference"):
        found = cells.cut(p, 2.0, 2.0, backend=backend)
        assert len(found.area) == 2
        assert len(found.region.unique()) == 1


def test_a_rival_that_is_equal_to_rounding_has_not_won() -> None:
    """z = max(0, u) - u is 0 on one side, whatever the last bits of it are."""
    line = lines((0.0, 1.0, 0.0))
    found = []
    for noise in (1e-17, -1e-17):
        rival = dataclasses.replace(
            line,
            first=torch.tensor([0, 2]),
            kind=torch.tensor([KINK, RIVAL], dtype=torch.int8),
            target=torch.tensor([3, 4], dtype=torch.int32),
            field=torch.tensor([0, -1], dtype=torch.int32),
            key=torch.tensor([[1, 1], [0, 0]]),
            tolerance=torch.tensor([1e-12, 1e-12], dtype=torch.float64),
            start=torch.tensor([0, 3, 6]),
            term=torch.tensor([0, 1, 2, 0, 1, 3], dtype=torch.int32),
            coefficient=torch.tensor([0.0, 1.0, 0.0, noise, -1.0, 1.0], dtype=torch.float64),
            symbols=torch.tensor([5], dtype=torch.int32),
        )
        for backend in ("cpu", "reference"):
            found.append(cells.cut(rival, SIDE, SIDE, backend=backend))
            assert len(found[-1].area) == 2
    assert all(torch.equal(f.region, found[0].region) for f in found)


def test_many_cells_need_room(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = torch.arange(40, dtype=torch.float64)
    columns = 0.3 * angles.sin(), (7 * angles).cos(), (7 * angles).sin()
    p = lines(*zip(*(c.tolist() for c in columns), strict=True))
    roomy = cells.cut(p, 1e3, 1e3)
    monkeypatch.setattr(cells, "ROOM", 16)
    tight = cells.cut(p, 1e3, 1e3)
    assert len(tight.area) > 500
    assert all(torch.equal(getattr(roomy, name), getattr(tight, name)) for name in Cells.__slots__)


def test_refusals() -> None:
    p = lines((0.5, 1.0, 0.0))
    with pytest.raises(ValueError, match="height and width must be positive"):
        cells.cut(p, 0, 1)
    with pytest.raises(ValueError, match="behind a norm boundaries are curves"):
        cells.cut(dataclasses.replace(p, kind=torch.tensor([NORM], dtype=torch.int8)), 1, 1)


def test_cost_counts_compulsory_bytes() -> None:
    p = lines((0.5, 1.0, 0.0))
    assert cells.cost(p, cells.cut(p, 1, 1)).bytes == 12 * 3 + 20 * 4 + 44
