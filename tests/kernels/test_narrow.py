"""narrow: Triton equals the reference; bits are those of float64; nothing cancels; what overflows is counted."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from polykern_kernels import grid, narrow
from polykern_kernels.grid import GridTotals
from tests.kernels.conftest import Way, triton_way
from tests.kernels.test_grid import KINDS

# groups, height, width, positions, channels: one point, odd, a column, points beyond a chunk, two blocks and a rest
SHAPES = [
    (1, 1, 1, 1, 1), (2, 3, 4, 1, 33), (3, 5, 1, 4, 16), (1, 2, 17, 3, 3), (1, 2, 2, 5, 103),
    (0, 2, 2, 1, 5), (2, 2, 2, 1, 0),
]  # fmt: skip


@pytest.fixture(params=["reference", "interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def way(request: pytest.FixtureRequest) -> Way:
    """Plain torch, Triton's interpreter, and Triton on a GPU."""
    return Way("reference", "cpu") if request.param == "reference" else triton_way(request.param)


def points(shape: tuple[int, ...], rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    groups, height, width, positions, channels = shape
    anchor = torch.randn((groups, positions * channels), generator=rng, dtype=torch.float64)
    delta = torch.randn((groups, height * width, positions * channels), generator=rng)
    return anchor, (0.05 * delta).half()  # few bits differ, as between neighbours


def stepped(
    way: Way | None, anchor: torch.Tensor, delta: torch.Tensor, shape: tuple[int, ...], kind: str, **more: Any
) -> tuple[torch.Tensor, GridTotals]:
    device, backend = (way.device, way.backend) if way else ("cpu", "reference")
    _, height, width, positions, _ = shape
    total = GridTotals.zeros(len(anchor), height, width, device)
    thresholds, slopes = KINDS[kind]
    moved: dict[str, Any] = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in more.items()}
    for bit_offset in (0, 2**32 + 1):  # twice: totals are added to
        out = narrow.step(
            anchor.to(device),
            delta.to(device),
            height=height,
            width=width,
            positions=positions,
            thresholds=thresholds,
            slopes=slopes,
            bit_offset=bit_offset,
            total=total,
            backend=backend,
            **moved,
        )
    return out, total


def same(mine: tuple[torch.Tensor, GridTotals], truth: tuple[torch.Tensor, GridTotals]) -> None:
    assert torch.equal(mine[0].cpu(), truth[0])
    assert mine[0].dtype == truth[0].dtype
    for field in dataclasses.fields(truth[1]):
        got, want = getattr(mine[1], field.name).cpu(), getattr(truth[1], field.name)
        assert torch.equal(got, want), field.name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_step_equals_reference(way: Way, shape: tuple[int, ...], rng: torch.Generator) -> None:
    anchor, delta = points(shape, rng)
    more: dict[str, Any] = {"unit": 0.25, "unit_out": 0.125, "gain": torch.randn(shape[4], generator=rng)}
    same(*(stepped(w, anchor, delta, shape, "relu", **more) for w in (way, None)))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("positions", "channels"), [(1, 40), (3, 16), (5, 9), (2, 1)])
def test_some_channels_of_a_wider_layer(
    way: Way, positions: int, channels: int, groups: int, rng: torch.Generator
) -> None:
    """Read from the middle of one, in all groups alike, written to the middle of another and nowhere else."""
    shape = (2, 2, 3, positions, channels)
    anchor, delta = points(shape, rng)
    delta = delta[:groups].expand(2, -1, -1)
    wide = way.place(torch.zeros((groups, 6, positions, channels + 7), dtype=torch.float16))
    wide[..., 4 : channels + 4] = delta[:groups].view(groups, 6, positions, channels)
    room = way.place(torch.full((2, 6, positions, channels + 24), 7, dtype=torch.float16))
    given, out = wide.expand(2, -1, -1, -1)[..., 4 : channels + 4], room[..., 16 : channels + 16]
    mine, total = stepped(way, anchor, given, shape, "relu6", out=out)
    want, truth = stepped(None, anchor, delta.contiguous(), shape, "relu6")
    same((mine.flatten(2), total), (want, truth))
    assert torch.equal(out, mine)
    assert bool((room[..., :16] == 7).all() & (room[..., channels + 16 :] == 7).all())


@pytest.mark.parametrize("kind", ["leaky", "relu6", "hardtanh"])
def test_every_activation_equals_reference(way: Way, kind: str, rng: torch.Generator) -> None:
    shape = (1, 2, 2, 3, 15)
    anchor, delta = points(shape, rng)
    same(*(stepped(w, 4 * anchor, 20 * delta, shape, kind) for w in (way, None)))


def test_deltas_expanded_over_the_groups(way: Way, rng: torch.Generator) -> None:
    shape = (2, 2, 2, 2, 20)
    anchor, delta = points(shape, rng)
    same(stepped(way, anchor, delta[:1].expand(2, -1, -1), shape, "relu"),
         stepped(None, anchor, delta[:1].repeat(2, 1, 1), shape, "relu"))  # fmt: skip


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_bits_are_those_of_float64_in_the_order_of_the_code(
    height: int, width: int, positions: int, channels: int, seed: int
) -> None:
    """`grid` on the same differences, units in the order of the code."""
    shape = (2, height, width, positions, channels)
    anchor, delta = points(shape, torch.Generator().manual_seed(seed))
    mine, total = stepped(None, 4 * anchor, 40 * delta, shape, "relu6", unit_out=0.5)
    truth = GridTotals.zeros(2, height, width)
    thresholds, slopes = KINDS["relu6"]

    def order(x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], positions, channels).transpose(-1, -2).flatten(-2)

    raster: dict[str, Any] = {"height": height, "width": width, "thresholds": thresholds, "slopes": slopes}
    for bit_offset in (0, 2**32 + 1):
        step = grid.step(order(4 * anchor), order(40 * delta).float(), bit_offset=bit_offset, total=truth, **raster)
    assert torch.equal(total.right, truth.right)
    assert torch.equal(total.down, truth.down)
    assert torch.equal(total.digest, truth.digest)
    torch.testing.assert_close(total.margin, truth.margin, rtol=1e-6, atol=0)
    torch.testing.assert_close(order(mine).float() * 0.5, step.delta, rtol=2**-11, atol=2**-25)


def test_nothing_cancels(way: Way) -> None:
    """A delta of 2**-30 of its anchor passes a slope of 1 unchanged, and switches a bit where it should."""
    anchor = torch.tensor([[1e3, -1e3, 2.0**-32 - 1e3]], dtype=torch.float64)
    delta = torch.tensor([[[2.0**-4, 2.0**-4, 2.0**-4]]], dtype=torch.float16)
    out, _ = stepped(way, anchor, delta, (1, 1, 1, 1, 3), "relu", unit=2.0**-16, unit_out=2.0**-16)
    assert out.tolist() == [[[2.0**-4, 0.0, 0.0]]]
    anchor = torch.tensor([[-(2.0**-20) * (1 - 2**-20), -(2.0**-20) * (1 + 2**-20)]], dtype=torch.float64)
    one = torch.ones((1, 1, 2), dtype=torch.float16)
    out, total = stepped(way, anchor, one, (1, 1, 1, 1, 2), "relu", unit=2.0**-20, unit_out=2.0**-40)
    assert out.tolist() == [[[1.0, 0.0]]]
    assert total.margin.tolist() == [[2.0**-40]]


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")  # the interpreter's
def test_what_is_not_finite_is_counted(way: Way) -> None:
    delta = torch.tensor([[[torch.inf, 1.0], [torch.nan, -torch.inf]]], dtype=torch.float16)
    _, total = stepped(way, torch.zeros(1, 2, dtype=torch.float64), delta, (1, 1, 2, 1, 2), "relu")
    assert total.nans.tolist() == [6]  # three, twice
    out, total = stepped(way, torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, 1).half(), (1, 1, 1, 1, 1),
                         "relu", unit_out=2.0**-20)  # fmt: skip
    assert out.isinf().all()
    assert not int(total.nans)  # the next layer tells
    anchor = torch.tensor([[torch.inf, 1.0]], dtype=torch.float64)  # of three points, and of no more
    _, total = stepped(way, anchor, torch.zeros(1, 3, 2).half(), (1, 1, 3, 1, 2), "relu")
    assert total.nans.tolist() == [6]


WINDOWS: dict[str, Any] = {"kernel_size": 3, "stride": 1, "padding": 1}


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("side", "channels"), [(3, 5), (7, 33), (9, 32)])
def test_pool_equals_reference(way: Way, side: int, channels: int, groups: int, rng: torch.Generator) -> None:
    anchor, pooled, delta, rivals = pooling(groups, side, channels, rng)
    for spread in (1e-3, 1.0):
        arguments = anchor, pooled, (delta * spread).half()[:1].expand(groups, -1, -1, -1), rivals
        way.equals_reference(narrow.pool, *arguments, unit=0.5)


def pooling(groups: int, side: int, channels: int, rng: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Anchors with ties at zero, their 3 x 3 maxima, differences of 5 points, places of the windows."""
    anchor = torch.randn(groups, channels, side, side, generator=rng, dtype=torch.float64).relu()
    pooled = F.max_pool2d(anchor, **WINDOWS)
    delta = torch.randn(groups, 5, side * side, channels, generator=rng)
    numbers = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side) + 1
    rivals = F.unfold(numbers, 3, padding=1)[0].T.int() - 1
    return *(x.flatten(2).transpose(1, 2).contiguous() for x in (anchor, pooled)), delta, rivals.contiguous()


@pytest.mark.parametrize("place", [0, 1])
def test_nan_stays_what_it_is_in_a_pool(way: Way, place: int) -> None:
    """Nobody counted it yet: it comes out of a convolution of differences that left their range."""
    anchor, pooled = torch.zeros(1, 2, 1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)
    delta = torch.ones(1, 1, 2, 1, dtype=torch.float16)
    delta[0, 0, place] = torch.nan
    given = (way.place(x) for x in (anchor, pooled, delta, torch.tensor([[0, 1]], dtype=torch.int32)))
    assert narrow.pool(*given, backend=way.backend).isnan().all()


def test_pool_is_the_difference_of_max_pools(rng: torch.Generator) -> None:
    anchor, pooled, delta, rivals = pooling(2, 7, 6, rng)

    def image(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(-1, -2).reshape(*x.shape[:-2], x.shape[-1], 7, 7)

    for spread in (1e-3, 1.0, 30.0):
        narrowed = (delta * spread).half()
        out = narrow.pool(anchor, pooled, narrowed, rivals)
        full = image(anchor[:, None] + narrowed.double()).flatten(0, 1)
        true = F.max_pool2d(full, **WINDOWS).unflatten(0, (2, 5)) - image(pooled)[:, None]
        assert float((image(out).double() - true).abs().max()) <= 2**-10 * float(narrowed.abs().max())


def test_the_refusal_names_what_is_wrong(rng: torch.Generator) -> None:
    anchor, delta = points((1, 2, 2, 1, 3), rng)
    total = GridTotals.zeros(1, 2, 2)
    good: dict[str, Any] = {"height": 2, "width": 2, "thresholds": [0.0], "slopes": [0.0, 1.0], "bit_offset": 0}
    for change, message in (
        ({"height": 3}, r"narrow.step: delta must be float16\[1, 6, 3\], got float16\[1, 4, 3\]@cpu"),
        ({"slopes": [1.0]}, "slopes must be one more than thresholds, got 1 and 1"),
        ({"thresholds": [1.0, 0.0], "slopes": [0.0, 1.0, 0.0]}, "must be finite and ascending"),
        ({"thresholds": [], "slopes": [1.0]}, r"must be finite and ascending, got \[\]"),
        ({"positions": 2}, "3 units do not lie on 2 positions"),
        ({"out": delta}, r"out must be float16\[1, 4, 1, 3\], got float16\[1, 4, 3\]@cpu"),
        ({"gain": torch.ones(2)}, r"gain must be float32\[3\], got float32\[2\]@cpu"),
        ({"total": GridTotals.zeros(1, 2, 3)}, r"total.right must be int32\[1, 2, 1\], got int32\[1, 2, 2\]@cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            narrow.step(anchor, delta, **{"total": total, **good, **change})
    with pytest.raises(ValueError, match=r"anchor must be float64 \(groups, units\), got float32\[1, 3\]@cpu"):
        narrow.step(anchor.float(), delta, total=total, **good)
    ours, pooled, moved, _ = pooling(1, 5, 2, rng)
    with pytest.raises(ValueError, match=r"rivals must be int32 \(windows, 1 ... 9\), got int32\[25, 10\]@cpu"):
        narrow.pool(ours, pooled, moved.half(), torch.zeros(25, 10, dtype=torch.int32))


def test_costs_count_compulsory_work() -> None:
    pairs = 2 * (3 * 3 + 2 * 4)
    c = narrow.cost(2, 3, 4, 33, thresholds=2)
    assert c.bytes == 8 * 2 * 33 + 4 * 24 * 33 + 2 * (4 * pairs + 20 * 24)
    assert (c.popcounts, c.flops) == (pairs * 4, 24 * 33 * 19)
    c = narrow.cost_pool(2, 5, 9, 4, 6, 7)
    assert (c.bytes, c.flops) == (14 * (8 * 13 + 10 * 13), 2 * 14 * 5 * 4 * 6)
