"""Tiles of a plane at every zoom: where they lie, where they end, and that they hold the counts of their pixels."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from polykern.dense import DenseEngine
from polykern.errors import CorruptError, UsageError
from polykern.explore import Pyramid, Tile
from polykern.explore.evaluation import Evaluation, Values
from polykern.explore.frames import frame
from polykern.explore.pyramid import FINE, TILE, WIDEST
from polykern.maps.compute import compute
from polykern.plane import Grid, Plane, Window
from polykern.tail import Tail
from polykern.tiles import TileEngine
from tests.engine.explored import frames, recipe


def evaluation(engine: str = "tiles") -> Evaluation:
    given = recipe(engine)
    return Evaluation(Pyramid(given.grid.plane, given.grid.window), given)


@pytest.fixture(scope="module")
def exact() -> Evaluation:
    return evaluation()


def values(found: Evaluation, tiles: Sequence[Tile]) -> list[Values]:
    made = found.values(tiles, lambda: True)
    assert made is not None
    return made


def require_dense(found: Evaluation, tiles: Sequence[Tile]) -> None:
    """The tiles hold the counts and classes of plain float64 evaluation, pixel by pixel."""
    dense = DenseEngine(found.recipe.tail.to(torch.float64), torch.float64)
    pyramid = found.pyramid
    true = dense.blocks(pyramid.grid(tiles[0].level), [pyramid.block(t) for t in tiles])
    for got, wanted in zip(values(found, tiles), true, strict=True):
        assert np.array_equal(got.counts, (wanted.right + wanted.down).sum(0))
        assert got.classes is not None
        assert wanted.classes is not None
        assert np.array_equal(got.classes, wanted.classes)


@pytest.mark.parametrize(
    "tiles",
    [
        [Tile(0, 0, 0)],
        [Tile(-3, 0, 0), Tile(-3, -1, -1)],
        [Tile(2, 1, 2), Tile(2, -1, 0), Tile(2, 4, 3)],
        [Tile(9, 255, 256), Tile(9, -1, 511), Tile(9, 700, -300)],
        [Tile(20, 2**19, 2**19 - 1)],
    ],
    ids=lambda tiles: f"level {tiles[0].level}",
)
def test_tiles_hold_the_counts_of_their_own_pixels(exact: Evaluation, tiles: list[Tile]) -> None:
    require_dense(exact, tiles)


def test_a_level_put_together_is_the_map_of_its_resolution(exact: Evaluation, tmp_path: Path) -> None:
    given = recipe()
    made = compute(replace(given, grid=exact.pyramid.grid(1)), tmp_path / "map")
    tiles = [Tile(1, row, column) for row in (0, 1) for column in (0, 1)]
    a, b, c, d = (v.counts for v in values(exact, tiles))
    whole = np.block([[a, b], [c, d]])
    assert np.array_equal(whole[:-1, :-1], made.counts)
    assert int(whole.max()) > 1


@pytest.mark.parametrize("engine", ["float64", "auto"])
def test_every_engine_gives_the_same_tile(engine: str, exact: Evaluation) -> None:
    other = evaluation(engine)
    (ours,), (theirs,) = (values(e, [Tile(4, 7, 8)]) for e in (exact, other))
    assert np.array_equal(ours.counts, theirs.counts)
    assert ours.classes is not None
    assert theirs.classes is not None
    assert np.array_equal(ours.classes, theirs.classes)
    assert ours.engine == "tiles, float64"


@pytest.mark.gpu
@pytest.mark.parametrize("level", [0, 4, 20])
def test_tiles_of_a_gpu_are_the_cpus(level: int, exact: Evaluation) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = Evaluation(exact.pyramid, replace(exact.recipe, device="cuda"))
    middle = 2**level // 2
    tiles = [Tile(level, middle, middle), Tile(level, middle - 1, middle)]
    for ours, theirs in zip(values(there, tiles), values(exact, tiles), strict=True):
        assert np.array_equal(ours.counts, theirs.counts)
        assert ours.classes is not None
        assert theirs.classes is not None
        assert np.array_equal(ours.classes, theirs.classes)


def test_a_square_that_nobody_wants_any_more_is_left_half_way() -> None:
    looks: list[bool] = []

    def wanted() -> bool:
        looks.append(len(looks) < 3)
        return looks[-1]

    assert evaluation("float32").values([Tile(0, 0, 0)], wanted) is None
    assert looks == [True, True, True, False]


# --- engines -------------------------------------------------------------------------------------


def test_auto_follows_the_zoom(exact: Evaluation) -> None:
    found = evaluation("auto")
    deep = found.level(Tile(24, 0, 0))
    assert isinstance(deep.engine, TileEngine)
    assert deep.choice
    assert deep.choice.side == TILE
    assert "anchored" in deep.reason
    assert found.level(Tile(25, 0, 0)) is deep  # as large as tiles can be: nothing to choose
    assert exact.level(Tile(3, 1, 1)).reason == "asked for by name"


def test_smooth_networks_are_explored_anchored() -> None:
    given = recipe("auto", smooth=True)
    found = Evaluation(Pyramid(given.grid.plane, given.grid.window), given)
    level = found.level(Tile(0, 0, 0))
    assert level.engine.name == "anchored"
    assert "tiles: tile programs cannot follow this network" in level.reason
    assert values(found, [Tile(3, 2, 2)])[0].counts.sum() > 0


def test_a_first_layer_is_explored_by_lines() -> None:
    given = recipe("auto", classes=False, stop="2", layers=lambda: [nn.Flatten(), nn.Linear(64, 12), nn.ReLU()])
    found = Evaluation(Pyramid(given.grid.plane, given.grid.window), given)
    assert found.level(Tile(0, 0, 0)).engine.name == "scanline"
    dense = DenseEngine(given.tail.to(torch.float64), torch.float64, classes=False)
    for tile in (Tile(1, 0, 1), Tile(8, 130, -5)):
        (true,) = dense.blocks(found.pyramid.grid(tile.level), [found.pyramid.block(tile)])
        (got,) = values(found, [tile])
        assert np.array_equal(got.counts, (true.right + true.down).sum(0))
        assert got.classes is None


def test_an_engine_that_cannot_follow_the_network_is_refused_at_once() -> None:
    given = recipe("tiles", smooth=True)
    with pytest.raises(UsageError, match="tile programs cannot follow this network"):
        Evaluation(Pyramid(given.grid.plane, given.grid.window), given)
    with pytest.raises(UsageError, match="no engine 'tile'"):
        Evaluation(Pyramid(given.grid.plane, given.grid.window), replace(given, engine="tile"))


def test_a_network_that_gives_nan_is_named() -> None:
    given = recipe("float32")
    model = given.tail.model
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(CorruptError, match="NaN"):
        Evaluation(Pyramid(given.grid.plane, given.grid.window), given)


# --- the pyramid ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyramid() -> Pyramid:
    grid = recipe().grid
    return Pyramid(grid.plane, grid.window)


def test_tiles_tile_the_plane(pyramid: Pyramid) -> None:
    for level in (WIDEST, -1, 0, 5, pyramid.deepest):
        grid = pyramid.grid(level)
        assert grid.resolution == TILE * 2**level
        assert grid.step == pyramid.step(level)
        block = pyramid.block(Tile(level, -2, 3))
        assert (block.row, block.column, block.height, block.width) == (-2 * TILE, 3 * TILE, TILE, TILE)
        alone = pyramid.alone(Tile(level, -2, 3))
        assert alone.window.u == pytest.approx(pyramid.window.u + 3 * TILE * grid.step, rel=1e-15)
        assert alone.window.v == pytest.approx(pyramid.window.v - 2 * TILE * grid.step, rel=1e-15)


def test_the_deepest_level_is_the_last_one_that_float64_serves(pyramid: Pyramid) -> None:
    w, n = pyramid.window, 2**pyramid.deepest
    corners = [Tile(pyramid.deepest, row, column) for row in (0, n - 1) for column in (0, n - 1)]
    for tile in corners:
        pyramid.require(tile)
    far = [pyramid.finest(w.u + a * w.side, w.v + b * w.side) for a in (0, 1) for b in (0, 1)]
    assert pyramid.step(pyramid.deepest) >= max(far) > pyramid.step(pyramid.deepest + 1)
    with pytest.raises(
        UsageError, match=f"no level {pyramid.deepest + 1}\nfloat64 ends at level {pyramid.deepest}"
    ):
        pyramid.require(Tile(pyramid.deepest + 1, 0, 0))
    with pytest.raises(UsageError, match=f"no level {WIDEST - 1}"):
        pyramid.require(Tile(WIDEST - 1, 0, 0))


def test_pixels_of_the_deepest_level_lie_where_they_should(pyramid: Pyramid) -> None:
    """Their places in float64 against exact rational arithmetic."""
    grid, n, w = pyramid.grid(pyramid.deepest), TILE * 2**pyramid.deepest, pyramid.window
    plane = pyramid.plane
    rows, columns = torch.tensor([0, n // 3, n - 1]), torch.tensor([n - 1, n // 2 + 7, 11])
    found = grid.points(rows, columns).flatten(1).tolist()
    origin, e1, e2 = (x.flatten().tolist() for x in (plane.origin, plane.e1, plane.e2))
    for got, row, column in zip(found, rows.tolist(), columns.tolist(), strict=True):
        u, v = (
            Fraction(a) + (Fraction(k) + Fraction(1, 2)) * Fraction(w.side) / n
            for a, k in ((w.u, column), (w.v, row))
        )
        exact = [Fraction(o) + u * Fraction(a) + v * Fraction(b) for o, a, b in zip(origin, e1, e2, strict=True)]
        away = float(sum((Fraction(g) - x) ** 2 for g, x in zip(got, exact, strict=True))) ** 0.5
        assert away <= grid.step / FINE


def test_the_plane_ends_where_float64_does(pyramid: Pyramid) -> None:
    pyramid.require(Tile(WIDEST, -40, 40))
    pyramid.require(Tile(4, 2000, -2000))
    for tile in (Tile(pyramid.deepest, 2**44, 0), Tile(pyramid.deepest, 0, -(2**50)), Tile(WIDEST, 2**53, 0)):
        with pytest.raises(UsageError, match="so far from the anchors"):
            pyramid.require(tile)


def test_a_window_below_float64_is_refused(pyramid: Pyramid) -> None:
    with pytest.raises(UsageError, match="too narrow for float64 where it lies"):
        Pyramid(pyramid.plane, Window(1.0, 1.0, 1e-12))
    assert Pyramid(pyramid.plane, Window(1.0, 1.0, 1e-3)).deepest < pyramid.deepest


# --- what is sent --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 255, 256, 65535, 65536, 2**32 - 1])
def test_a_frame_holds_every_count(most: int) -> None:
    counts = np.zeros((TILE, TILE), np.int64)
    counts[3, 200], counts[255, 0] = most, most // 2
    classes = np.arange(TILE * TILE, dtype=np.int32).reshape(TILE, TILE) % 1000
    given = Values(counts, classes, 7, 0.25, "tiles, float64")
    (found,) = frames(frame(Tile(5, -3, 2**40), given))
    assert np.array_equal(found["counts"], counts)
    assert np.array_equal(found["classes"], classes)
    assert (found["tile"], found["uncertain"], found["seconds"]) == ([5, -3, 2**40], 7, 0.25)
    assert found["engine"] == "tiles, float64"


def test_a_frame_of_a_network_without_classes() -> None:
    counts = np.ones((TILE, TILE), np.int64)
    (found,) = frames(frame(Tile(0, 0, 0), Values(counts, None, 0, 1.0, "anchored")))
    assert found["classes"] is None
    assert found["counts"].dtype == np.uint8


def test_a_plane_of_one_axis_has_a_boundary_where_it_is_known() -> None:
    """A unit that is on where u > 1: one boundary, in the pixel left of it, at every level."""
    first = nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0]]))
        first.bias.fill_(-1.0)
    net = nn.Sequential(first, nn.ReLU(), nn.Linear(1, 2)).eval()
    plane = Plane.through(torch.tensor([[0.0, 0.0], [3.0, 0.0], [1.0, 2.0]]))
    window = Window(-1.0, -1.0, 4.0)
    given = replace(recipe(), tail=Tail(net, torch.zeros(1, 2)), grid=Grid(plane, window, 256))
    found = Evaluation(Pyramid(plane, window), given)
    for level in (0, 1, 7, 18, 30):
        column = 2**level // 2 - 1 if level else 0  # u = 1 is the middle of the window
        (got,) = values(found, [Tile(level, 0, column)])
        wanted = np.zeros((TILE, TILE))
        wanted[:, 127 if level == 0 else 255] = 1
        assert np.array_equal(got.counts, wanted)
