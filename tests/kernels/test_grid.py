"""grid: every backend equals the reference; activations without cancellation; counts equal the codes'."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import digest, grid, hamming, pack
from polykern_kernels.grid import GridTotals, Step
from tests.kernels.conftest import Way

KINDS: dict[str, tuple[list[float], list[float]]] = {
    "relu": ([0.0], [0.0, 1.0]),
    "leaky": ([0.0], [0.01, 1.0]),
    "relu6": ([0.0, 6.0], [0.0, 1.0, 0.0]),
    "hardtanh": ([-0.1, 0.3], [0.0, 1.0, 0.0]),
}
# groups, height, width, units: one point, odd, a column, a row wider than a tile, a block of units and a rest
SHAPES = [(1, 1, 1, 1), (2, 3, 4, 33), (3, 5, 1, 64), (1, 2, 19, 9), (1, 2, 2, 515), (0, 2, 2, 5), (2, 2, 2, 0)]


def points(
    shape: tuple[int, int, int, int], dtype: torch.dtype, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    groups, height, width, units = shape
    anchor = torch.randn((groups, units), generator=rng, dtype=dtype)
    return anchor, 0.5 * torch.randn((groups, height * width, units), generator=rng)


def stepped(
    way: Way | None, anchor: torch.Tensor, delta: torch.Tensor, height: int, width: int, kind: str, **more: Any
) -> tuple[Step, GridTotals]:
    device, backend = (way.device, way.backend) if way else ("cpu", "reference")
    total = GridTotals.zeros(len(anchor), height, width, device)
    thresholds, slopes = KINDS[kind]
    for bit_offset in (0, 2**32 + 1):  # twice: totals are added to
        step = grid.step(
            anchor.to(device),
            delta.to(device),
            height=height,
            width=width,
            thresholds=thresholds,
            slopes=slopes,
            bit_offset=bit_offset,
            total=total,
            emit=True,
            backend=backend,
            **more,
        )
    return step, total


def same(mine: Any, truth: Any) -> None:
    for field in dataclasses.fields(truth):
        got, want = getattr(mine, field.name).cpu(), getattr(truth, field.name)
        assert got.dtype == want.dtype, field.name
        assert torch.equal(got, want), field.name


@pytest.mark.parametrize("dtype", grid.FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_step_equals_reference(
    way: Way, shape: tuple[int, int, int, int], dtype: torch.dtype, rng: torch.Generator
) -> None:
    anchor, delta = points(shape, dtype, rng)
    mine, truth = (stepped(w, anchor, delta, *shape[1:3], "relu") for w in (way, None))
    same(mine[0], truth[0])
    same(mine[1], truth[1])


@pytest.mark.parametrize("kind", ["leaky", "relu6", "hardtanh"])
def test_every_activation_equals_reference(way: Way, kind: str, rng: torch.Generator) -> None:
    anchor, delta = points((2, 3, 4, 45), torch.float64, rng)
    mine, truth = (stepped(w, 4 * anchor, 9 * delta, 3, 4, kind) for w in (way, None))
    same(mine[0], truth[0])
    same(mine[1], truth[1])


@pytest.mark.parametrize("dtype", grid.FLOATS, ids=str)
def test_tally_is_step_without_activation(way: Way, dtype: torch.dtype, rng: torch.Generator) -> None:
    anchor, delta = points((2, 3, 4, 45), dtype, rng)
    step, truth = stepped(None, anchor, delta, 3, 4, "hardtanh")
    z = (anchor[:, None] + delta).to(way.device)
    total = GridTotals.zeros(2, 3, 4, way.device)
    raster: dict[str, Any] = {"height": 3, "width": 4, "thresholds": KINDS["hardtanh"][0], "total": total}
    assert grid.tally(z, bit_offset=0, backend=way.backend, **raster) is None
    words = grid.tally(z, bit_offset=2**32 + 1, backend=way.backend, emit=True, **raster)
    assert words is not None
    assert step.words is not None
    assert torch.equal(words.cpu(), step.words)
    same(total, truth)


def test_out_may_be_delta(way: Way, rng: torch.Generator) -> None:
    anchor, delta = points((2, 2, 19, 45), torch.float64, rng)
    total = GridTotals.zeros(2, 2, 19, way.device)
    moved = delta.to(way.device, copy=True)
    thresholds, slopes = KINDS["relu6"]
    step = grid.step(
        anchor.to(way.device),
        moved,
        height=2,
        width=19,
        thresholds=thresholds,
        slopes=slopes,
        bit_offset=0,
        total=total,
        out=moved,
        backend=way.backend,
    )
    assert step.delta.data_ptr() == moved.data_ptr()
    assert step.words is None
    assert torch.equal(moved.cpu(), stepped(None, anchor, delta, 2, 19, "relu6")[0].delta)


def test_nothing_cancels(way: Way) -> None:
    """A delta far below the anchor's rounding passes a slope of 1 unchanged, in either dtype."""
    for dtype in grid.FLOATS:
        anchor = torch.tensor([[1e9, -1e9]], dtype=dtype)
        delta = torch.tensor([[[1e-9, 1e-9]]])
        step, _ = stepped(way, anchor, delta, 1, 1, "relu")
        assert step.delta.tolist() == [[[delta[0, 0, 0].item(), 0.0]]]


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("relu", torch.relu),
        ("leaky", lambda z: F.leaky_relu(z, 0.01)),
        ("relu6", F.relu6),
        ("hardtanh", lambda z: F.hardtanh(z, -0.1, 0.3)),
    ],
)
def test_is_the_difference_of_torchs_activations(kind: str, function: Any, rng: torch.Generator) -> None:
    anchor, delta = points((2, 2, 3, 40), torch.float64, rng)
    step, _ = stepped(Way("cpu", "cpu"), 4 * anchor, 8 * delta, 2, 3, kind)
    exact = function(4 * anchor[:, None] + (8 * delta).double()) - function(4 * anchor)[:, None]
    torch.testing.assert_close(step.delta.double(), exact, rtol=1e-6, atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_totals_are_those_of_the_codes(height: int, width: int, units: int, seed: int) -> None:
    anchor, delta = points((1, height, width, units), torch.float64, torch.Generator().manual_seed(seed))
    thresholds, slopes = KINDS["relu6"]
    total = GridTotals.zeros(1, height, width)
    raster: dict[str, Any] = {"height": height, "width": width, "thresholds": thresholds, "slopes": slopes}
    grid.step(anchor, delta, **raster, bit_offset=7, total=total)
    z = (anchor[:, None] + delta)[0]
    words, _ = pack.signs(z, thresholds)
    right, down = hamming.neighbours(words.view(height, width, -1))
    assert torch.equal(total.right[0], right)
    assert torch.equal(total.down[0], down)
    assert torch.equal(total.digest[0], digest.fingerprints(words, 2 * units, offset=7))
    gaps = torch.stack([(z - t).abs() for t in thresholds]).amin((0, 2))
    assert torch.equal(total.margin[0], gaps.float())


def test_counts_of_a_layer_are_taken() -> None:
    total = GridTotals.zeros(1, 1, 2)
    z = torch.tensor([[[1.0], [-1.0]]])
    for _ in range(2):
        grid.tally(z, height=1, width=2, thresholds=[0.0, 2.0], bit_offset=0, total=total)
    right, down = total.take_counts()
    assert (right.tolist(), down.shape) == ([[[2]]], (1, 0, 2))
    assert total.right.tolist() == [[[0]]]


def test_nan_raises_or_waits_to_be_asked(way: Way) -> None:
    anchor, delta = torch.zeros((1, 40), device=way.device), torch.zeros((1, 4, 40), device=way.device)
    delta[0, 1, 3] = delta[0, 3, 39] = torch.nan
    total = GridTotals.zeros(1, 2, 2, way.device)
    options: dict[str, Any] = {"height": 2, "width": 2, "thresholds": [0.0], "slopes": [0.0, 1.0]}
    message = "grid: 2 pre-activations are NaN"
    if way.device == "cpu":
        with pytest.raises(ValueError, match=message):
            grid.step(anchor, delta, **options, bit_offset=0, total=total, backend=way.backend)
    else:
        grid.step(anchor, delta, **options, bit_offset=0, total=total, backend=way.backend)
    with pytest.raises(ValueError, match=message):
        total.require_numbers()


def test_the_refusal_names_what_is_wrong() -> None:
    anchor, delta, total = torch.zeros((1, 3)), torch.zeros((1, 4, 3)), GridTotals.zeros(1, 2, 2)
    good: dict[str, Any] = {"height": 2, "width": 2, "thresholds": [0.0], "slopes": [0.0, 1.0], "bit_offset": 0}
    for change, message in (
        ({"height": 3}, r"step: delta must be float32\[1, 6, 3\], got float32\[1, 4, 3\]@cpu"),
        ({"slopes": [1.0]}, r"slopes must be one more than thresholds, got 1 and 1"),
        ({"thresholds": [1.0, 0.0], "slopes": [0.0, 1.0, 0.0]}, r"must be finite and ascending, got \[1.0, 0.0\]"),
        ({"thresholds": [], "slopes": [1.0]}, r"must be finite and ascending, got \[\]"),
        ({"bit_offset": -1}, r"height, width >= 1 and bit_offset >= 0 are needed, got 2, 2, -1"),
        ({"total": GridTotals.zeros(1, 2, 3)}, r"total.right must be int32\[1, 2, 1\], got int32\[1, 2, 2\]@cpu"),
        ({"out": delta.double()}, r"out must be float32\[1, 4, 3\], got float64\[1, 4, 3\]@cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            grid.step(anchor, delta, **{"total": total, **good, **change})
    with pytest.raises(ValueError, match=r"anchor must be float32\|float64 \(groups, units\), got int64\[1, 3\]"):
        grid.step(anchor.long(), delta, **good, total=total)
    with pytest.raises(ValueError, match=r"tally: z must be float32\[1, 4, 3\], got float32\[1, 2, 3\]@cpu"):
        grid.tally(delta[:, :2], height=2, width=2, thresholds=[0.0], bit_offset=0, total=total)


def test_costs_count_compulsory_work() -> None:
    c = grid.cost(2, 3, 4, 33)
    pairs = 2 * (3 * 3 + 2 * 4)
    assert c.bytes == 2 * 33 * 8 + 8 * 24 * 33 + 2 * (4 * pairs + 20 * 24)
    assert (c.popcounts, c.flops) == (2 * pairs, 3 * 24 * 33)
    c = grid.cost_tally(2, 3, 4, 33, thresholds=2, itemsize=4)
    assert c.bytes == 4 * 24 * 33 + 2 * (4 * pairs + 20 * 24)
    assert (c.popcounts, c.flops) == (3 * pairs, 2 * 24 * 33)
