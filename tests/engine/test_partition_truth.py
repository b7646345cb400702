"""Exact partitions against rational arithmetic, other programs, the network itself and its rasters."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from polykern import tiles
from polykern.block import Block
from polykern.dense import DenseEngine
from polykern.errors import UsageError
from polykern.heat import prepare
from polykern.plane import Window
from polykern.subdivision import Partition, partition
from polykern.tail import Tail
from polykern_benches.peers.regions import PEERS
from polykern_kernels._dispatch import Impl
from tests.engine.rational import regions
from tests.engine.test_partition import UNIT, WHOLE, branched, cut, he, subject

SQUARE = [(-1, -1), (1, -1), (1, 1), (-1, 1)]


@pytest.mark.parametrize(("widths", "seed"), [([2, 8, 8, 1], 0), ([2, 8, 8, 1], 1), ([2, 5, 4, 3, 2], 2)])
def test_rational_arithmetic_finds_the_same_faces(widths: list[int], seed: int) -> None:
    model = he(widths, seed)
    want = regions(model, SQUARE)
    found = cut(model)
    assert sum(r.area for r in want) == 4
    assert len(found) == len(want)
    areas = {r.code: float(r.area) for r in want}
    maps = {r.code: np.array([[float(x) for x in form] for form in r.outputs]) for r in want}
    assert len(areas) == len(want)
    codes = [tuple(map(bool, bits)) for bits in found.codes_at().bits().tolist()]
    assert set(codes) == set(areas)
    assert max(abs(a - areas[c]) for a, c in zip(found.area.tolist(), codes, strict=True)) < 1e-9
    for face in range(0, len(found), 7):
        slope, offset = found.affine(face)
        a = maps[codes[face]]  # in x = u - 1, y = v - 1
        assert np.abs(slope.numpy() - a[:, 1:]).max() < 1e-12
        assert np.abs(offset.numpy() - (a[:, 0] - a[:, 1] - a[:, 2])).max() < 1e-12


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("seed", range(12))
def test_counts_are_those_of_other_programs(peer: Impl, seed: int) -> None:
    if reason := peer.objection():
        pytest.skip(reason)
    model = he([2, 12 + seed, 10, 8, 1], seed)
    layers = [(m.weight.detach(), m.bias.detach()) for m in model if isinstance(m, nn.Linear)]
    assert len(cut(model)) == peer.run(layers, 1.0)


# --- maps -----------------------------------------------------------------------------------------


def inner(found: Partition, face: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """float64 (n, 2): random points of a face."""
    corner = found.polygon(face)
    return rng.dirichlet(np.ones(len(corner)), n) @ corner


def test_a_face_has_one_map() -> None:
    rng = np.random.default_rng(0)
    for net, anchors in ((subject(he([2, 12, 12, 3], 1), torch.zeros(1, 2)), UNIT), branched()):
        found = partition(net, anchors, zoom=2)
        model = net.model.double()
        for face in rng.choice(len(found), 20).tolist():
            slope, offset = found.affine(face)
            uv = torch.from_numpy(inner(found, face, 5, rng))
            with torch.no_grad():
                out = model(found.plane.points(uv))
            assert (uv @ slope.T + offset - out).abs().max() < 1e-12 * (1 + out.abs().max())


def test_values_and_derivatives_at_many_points() -> None:
    for net, anchors in ((subject(he([2, 12, 12, 3], 1), torch.zeros(1, 2)), UNIT), branched()):
        tail = Tail(net.model, net.sample).to(torch.float64)
        points = anchors.double() + 0.1 * torch.randn(
            3, *anchors.shape[1:], generator=torch.Generator().manual_seed(4)
        )
        du, dv = torch.randn(2, *anchors.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        found = tiles.affine(tail, points, du, dv)
        for k, way in ((1, du), (2, dv)):
            along: Any = torch.autograd.functional.jvp(tail.model, points, way.expand_as(points).contiguous())
            value, slope = along
            assert (found[:, 0] - value).abs().max() < 1e-12
            assert (found[:, k] - slope).abs().max() < 1e-12


def test_an_output_that_is_not_affine_is_refused() -> None:
    smooth = nn.Sequential(*he([2, 6, 3]), nn.Softmax(1)).eval()
    found = cut(smooth)
    assert len(found) > 3
    with pytest.raises(UsageError, match="the output is not affine in a face"):
        found.affine(0)


def test_neighbours_have_maps_that_meet_at_their_side() -> None:
    found = cut(he([2, 12, 12, 3], 1))
    for k in range(0, len(found.faces), 17):
        (a, c), (b, d) = (found.affine(int(face)) for face in found.faces[k])
        ends = torch.from_numpy(found.ends[k])
        assert (ends @ (a - b).T + c - d).abs().max() < 1e-12
        assert torch.linalg.matrix_rank(a - b, atol=1e-9) <= 1


# --- classes --------------------------------------------------------------------------------------


def test_the_decision_boundary_can_be_told() -> None:
    model = he([2, 16, 16, 4], 1)
    found = cut(model, classes=True)
    assert (found.what[found.decision] == -2).all()
    assert len(found.decision) == (found.what == -2).sum() > 20
    told = found.summary()
    assert told["decision_length"] == pytest.approx(found.lengths[found.what == -2].sum(), rel=1e-12)
    assert told["decision_length"] == pytest.approx(told["boundary_length"]["classes"], rel=1e-12)
    # at the middle of such a side two outputs are the largest
    middle = torch.from_numpy(found.ends[found.decision].mean(1))
    with torch.no_grad():
        top = model.double()(found.plane.points(middle)).topk(2).values
    assert (top[:, 0] - top[:, 1]).max() < 1e-12
    assert len(cut(model).decision) == 0


# --- rasters --------------------------------------------------------------------------------------


def crossings(found: Partition, v: float, u: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 (n - 1): boundaries between neighbouring points (u, v) of a row."""
    (x, y), (z, w) = found.ends[:, 0].T, found.ends[:, 1].T
    meets = (y < v) != (w < v)
    at = x[meets] + (v - y[meets]) / (w - y)[meets] * (z - x)[meets]
    return np.histogram(at, u)[0]


@pytest.mark.parametrize("widths", [[2, 24, 1], [2, 16, 16, 1]])
def test_rows_of_pixels_cross_the_sides(widths: list[int]) -> None:
    """A step between pixels crosses as many sides as bits differ, and an even number more (parity)."""
    net, n = subject(he(widths, 2), torch.zeros(1, 2)), 64
    found = partition(net, UNIT, window=WHOLE)
    recipe = prepare(net, UNIT, window=WHOLE, resolution=n, engine="tiles")
    (dense,) = DenseEngine(recipe.tail, torch.float64, classes=False).blocks(
        recipe.grid, [Block(0, 0, n - 1, n - 1)]
    )
    right = np.asarray(dense.right).sum(0)
    at = recipe.grid.uv(torch.arange(n), torch.arange(n)).numpy()
    exact = np.stack([crossings(found, v, at[:, 0]) for v in at[: n - 1, 1]])
    more = exact - right
    assert (more >= 0).all()
    assert (more % 2 == 0).all()
    if len(widths) == 3:  # lines cross a row once
        assert not more.any()
    assert right.sum() > 0.97 * exact.sum() > 0


def test_a_window_far_from_the_anchors_is_exact_too() -> None:
    model = he([2, 10, 10, 1])
    found = partition(subject(model, torch.zeros(1, 2)), UNIT, window=Window(4000.0, -7000.0, 2000.0))
    assert found.about["unmatched"] == {"seams": 0, "sides": 0}
    assert abs(found.area.sum() / 2000**2 - 1) < 1e-9
    assert len(found) == found.codes > 1
