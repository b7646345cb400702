"""Planes through three points, windows and grids."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern.errors import UsageError
from polykern.plane import Grid, Plane, Window

ANCHORS = torch.tensor([[1.0, 2.0, 0.0], [4.0, 6.0, 0.0], [1.0, 2.0, 12.0]])


def test_the_anchors_lie_where_uv_says() -> None:
    plane = Plane.through(ANCHORS)
    assert torch.allclose(plane.points(plane.uv), ANCHORS.double(), atol=1e-14)
    assert plane.uv.tolist() == [[0, 0], [5, 0], [0, 12]]


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_u_and_v_are_lengths(seed: int) -> None:
    plane = Plane.through(torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(seed)))
    basis = torch.stack([plane.e1.flatten(), plane.e2.flatten()])
    assert torch.allclose(basis @ basis.T, torch.eye(2, dtype=torch.float64), atol=1e-14)
    a, b = plane.points(torch.tensor([[0.3, -1.0], [2.3, 0.5]]))
    assert float((a - b).norm()) == pytest.approx(math.hypot(2.0, 1.5))


def test_the_window_is_square_and_holds_the_anchors() -> None:
    plane = Plane.through(ANCHORS)
    window = plane.window()
    assert window.side == 24
    assert (window.u, window.v) == (2.5 - 12, 6 - 12)
    near = window.zoomed(8, (5.0, 0.0))
    assert (near.u + near.side / 2, near.v + near.side / 2, near.side) == (5, 0, 3)


def test_pixels_are_centres_and_columns_go_along_u() -> None:
    plane = Plane.through(ANCHORS)
    grid = Grid(plane, Window(0.0, 0.0, 8.0), 4)
    assert grid.step == 2
    assert grid.uv(torch.tensor([0, 3]), torch.tensor([1, 0])).tolist() == [[3, 1], [1, 7]]
    row, column = grid.pixel(3.0, 1.0)
    assert (row, column) == (0, 1)
    found = grid.points(torch.tensor([0]), torch.tensor([1]))
    assert torch.allclose(found, plane.points(torch.tensor([[3.0, 1.0]])))


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        (ANCHORS[:2], "three points"),
        (torch.stack([ANCHORS[0], ANCHORS[1], 2 * ANCHORS[1] - ANCHORS[0]]), "lie on one line"),
        (torch.stack([ANCHORS[0], ANCHORS[0], ANCHORS[2]]), "two of them are the same point"),
        (torch.stack([ANCHORS[0], ANCHORS[1], ANCHORS[1]]), "two of them are the same point"),
        (ANCHORS.clone().index_fill_(1, torch.tensor([1]), math.nan), "NaN or infinity"),
    ],
    ids=["two", "collinear", "first twice", "last twice", "nan"],
)
def test_three_points_that_span_no_plane(anchors: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Plane.through(anchors)


@pytest.mark.parametrize(
    ("window", "resolution", "message"),
    [
        (Window(0, 0, 1), 1, "at least 2"),
        (Window(0, 0, 0), 8, "positive side"),
        (Window(math.nan, 0, 1), 8, "finite"),
        (Window(0, 0, math.inf), 8, "positive side"),
    ],
)
def test_grids_that_cannot_be(window: Window, resolution: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Grid(Plane.through(ANCHORS), window, resolution)


@pytest.mark.parametrize("factor", [0.0, -2.0, math.nan, math.inf])
def test_magnifications_that_cannot_be(factor: float) -> None:
    with pytest.raises(UsageError, match="magnified by a positive number"):
        Window(0, 0, 1).zoomed(factor)
