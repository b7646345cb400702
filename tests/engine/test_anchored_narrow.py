"""Differences that stay float16 between operators: the maps of float64, measured units, overflows done again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.anchored import Anchored, AnchoredEngine, met
from polykern.anchored.narrow import Narrow, Product
from polykern.arithmetic import Arithmetic, Units
from polykern.block import Block
from polykern.carrier import Linear
from polykern.counting import Counts, Footprint, memory_for
from polykern.dense import DenseEngine
from polykern.errors import CorruptError, UsageError
from polykern.tail import Meeting, Tail
from tests.engine.test_anchored import GROUPS, SIDE, mlp, points, window


class Inception(nn.Module):
    """Branches, a max-pool of what comes in, BatchNorm, channels joined, a mean over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4 * 5 * 5)
        self.one, self.three, self.pooled = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.norm, self.last, self.head = nn.BatchNorm2d(5), nn.Conv2d(14, 8, 1, bias=False), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).view(-1, 4, 5, 5)
        branches = [F.relu(self.one(x)), F.relu(self.norm(self.three(x))), F.relu6(self.pooled(pool(x)))]
        x = F.leaky_relu(self.last(pool(torch.cat(branches, 1))), 0.1)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def pool(x: Tensor) -> Tensor:
    """Its largest neighbour."""
    return F.max_pool2d(x, 3, 1, 1)


def inception(seed: int = 0) -> Tail:
    """Random weights, random statistics."""
    torch.manual_seed(seed)
    model = Inception().eval().requires_grad_(False)
    model.norm.running_mean = torch.randn(5)
    model.norm.running_var = torch.rand(5) + 0.5
    return Tail(model, torch.zeros(1, 3))


@pytest.mark.parametrize("make", [inception, mlp])
def test_differences_in_float16_between_operators(make: Callable[[], Tail]) -> None:
    tail, grid, block = make(), window(), [Block(4, 4, 16, 32)]
    true = DenseEngine(tail, torch.float64).blocks(grid, block)[0]
    ours = AnchoredEngine(tail, arithmetic="float16", narrow=True).blocks(grid, block)[0]
    differs = (ours.digest != true.digest).any(2)
    assert (true.margin[differs] < 2e-3).all()
    assert true.right.sum() > 0
    assert abs(int(ours.right.sum()) - int(true.right.sum())) <= max(2, 0.02 * true.right.sum())
    assert ours.classes is not None
    assert true.classes is not None
    assert (ours.classes == true.classes).mean() > 0.99


def test_images_stay_narrow_and_channels_last() -> None:
    """No operator of the branches falls back to float32: what is met is float16, and so is what goes on."""
    tail = inception().to(torch.float64)
    x = points((3,), 0)
    x.arithmetic = Arithmetic("float16", tail.model, narrow=True)
    held: list[Anchored] = []

    def reach(meeting: Meeting) -> Any:
        out = met(meeting, Counts(tail.layout, GROUPS, SIDE, SIDE))
        held.extend(v for v in (meeting.z, out) if isinstance(v, Anchored))
        return out

    tail.run(x, reach)
    assert len(held) == 8
    assert all(v._narrow is not None and v._delta is None for v in held)
    assert all(v.held.flatten(0, 1).is_contiguous(memory_format=torch.channels_last) for v in held[1::2])
    # behind the axes: the pool's branch, the last layer; nobody asks for the head
    assert len(x.arithmetic._casts) == 2


class Twice(nn.Module):
    """Two blocks of branches; the second reads what the first has joined, two of its layers pixel by pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = Inception(), nn.Linear(22, 5)
        self.one, self.three = nn.Conv2d(14, 9, 1), nn.Conv2d(16, 5, 3, padding=1)
        self.reduce, self.pooled = nn.Conv2d(14, 16, 1, bias=False), nn.Conv2d(14, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first
        x = first.embed(x).view(-1, 4, 5, 5)
        branches = [F.relu(first.one(x)), F.relu(first.norm(first.three(x))), F.relu6(first.pooled(pool(x)))]
        x = torch.cat(branches, 1)
        branches = [F.relu(self.one(x)), F.relu(self.three(F.relu(self.reduce(x)))), F.relu(self.pooled(pool(x)))]
        out: Tensor = self.head(torch.cat(branches, 1).mean((2, 3)))
        return out


def twice() -> Tail:
    """Random weights; weights of one layer a hundredth of those of its neighbour."""
    torch.manual_seed(2)
    model = Twice().eval().requires_grad_(False)
    model.one.weight /= 100
    return Tail(model, torch.zeros(1, 3))


def test_images_are_written_where_they_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later pass joins nothing, multiplies convolutions of one pixel together, and counts the same bits."""
    block = [Block(4, 4, 16, 32)]
    plain = AnchoredEngine(twice(), arithmetic="float16", narrow=True)
    with monkeypatch.context() as patch:
        patch.setattr(Units, "join", lambda self, places, channels: None)
        patch.setattr(Arithmetic, "read_together", lambda self, weights: None)
        want = plain.blocks(window(), block)[0]
    engine, grid = AnchoredEngine(twice(), arithmetic="float16", narrow=True), window()
    engine.batch(grid)
    engine._measure(grid)
    joins, outputs = [], []
    products = Arithmetic.narrow_products

    def noted(self: Arithmetic, linear: Linear, rows: Tensor) -> Any:
        done = products(self, linear, rows)
        outputs.append([part.shape[1] for part, _ in done.values()])
        return done

    monkeypatch.setattr(Units, "join", lambda self, places, channels: joins.append(places))
    monkeypatch.setattr(Arithmetic, "narrow_products", noted)
    ours = engine.blocks(grid, block)[0]
    assert joins == []
    assert sorted(outputs[:3]) == [[3], [8], [9, 16]]
    assert np.array_equal(ours.digest, want.digest)
    assert np.array_equal(ours.right, want.right)
    assert np.array_equal(ours.down, want.down)
    assert np.array_equal(ours.margin, want.margin)
    assert want.right.sum() > 0


def test_the_widest_image_counts_where_branches_are_joined() -> None:
    """22 channels of 5 x 5, none of which an activation gives together."""
    engine, seen = AnchoredEngine(twice(), arithmetic="float16", narrow=True), Footprint()
    engine._begin(window(), [Block(0, 0, 1, 1)], 1, seen)()
    assert seen.units(4) == 22 * 5 * 5


def vectors() -> Tail:
    """Linear layers with their activations straight behind them."""
    torch.manual_seed(1)
    layers = [nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 40), nn.LeakyReLU(0.1), nn.Linear(40, 33), nn.ReLU6()]
    return Tail(nn.Sequential(*layers, nn.Linear(33, 5)).eval().requires_grad_(False), torch.zeros(1, 3))


def test_linear_layers_are_one_pass_with_their_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their products are carried out to find the units, and for the output, and never again."""
    tail, grid, block = vectors(), window(), [Block(4, 4, 16, 32)]
    true = DenseEngine(tail, torch.float64).blocks(grid, block)[0]
    carried: list[int] = []
    done = Product.done

    def noted(product: Product, arithmetic: Arithmetic) -> Narrow:
        carried.append(len(product.weight))
        return done(product, arithmetic)

    monkeypatch.setattr(Product, "done", noted)
    engine = AnchoredEngine(tail, arithmetic="float16", narrow=True, tile=8)
    engine.batch(grid)
    engine._measure(grid)
    carried.clear()
    ours = engine.blocks(grid, block)[0]
    assert set(carried) == {5}
    differs = (ours.digest != true.digest).any(2)
    assert (true.margin[differs] < 2e-3).all()
    assert ours.right.sum() == pytest.approx(true.right.sum(), rel=0.02)


def test_units_are_measured_once_and_forgotten_with_the_grid() -> None:
    engine = AnchoredEngine(inception(), arithmetic="float16", narrow=True, tile=4)
    units = engine.arithmetic.units
    assert units is not None
    found = []
    for size in (2.0, 2.0e-3):
        grid = window(size)
        engine.blocks(grid, [Block(0, 0, 4, 4)])
        first = list(units._found)
        engine.blocks(grid, [Block(20, 20, 8, 8)])
        assert units._found == first
        found.append(first)
    assert all(small < large for large, small in zip(*found, strict=True))


def test_what_overflows_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that are far too small: every batch leaves the range, and its maps are those of the steady way."""
    tail, grid, block = inception(), window(), [Block(4, 4, 16, 16)]
    steady = AnchoredEngine(tail, arithmetic="float16", narrow=False).blocks(grid, block)[0]
    engine = AnchoredEngine(tail, arithmetic="float16", narrow=True)
    units = engine.arithmetic.units
    assert units is not None
    monkeypatch.setattr(units, "next", lambda largest: 2.0**-40)
    ours = engine.blocks(grid, block)[0]
    assert np.array_equal(ours.digest, steady.digest)
    assert np.array_equal(ours.right, steady.right)


def test_nan_is_no_overflow() -> None:
    last = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), last, nn.ReLU()).eval().requires_grad_(False)
    tail = Tail(model, torch.zeros(1, 3))
    last.weight[0, 0] = torch.nan
    with pytest.raises(CorruptError, match="pre-activations of 3 are NaN"):
        AnchoredEngine(tail, arithmetic="float16", narrow=True).blocks(window(), [Block(0, 0, 4, 4)])


def test_only_float16_is_narrow() -> None:
    with pytest.raises(UsageError, match="differences in float32 are not narrow"):
        AnchoredEngine(mlp(), arithmetic="float32", narrow=True)


def test_a_device_gives_half_of_what_it_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 << 30, 140 << 30))
    cuda = torch.device("cuda")
    assert memory_for(1 << 30, 1 << 20, 1 << 10, torch.device("cpu")) == 1 << 30
    assert memory_for(1 << 30, 1 << 20, 1 << 10, cuda) == 50 << 30
    assert memory_for(1 << 30, 1 << 20, 1 << 20, cuda) == 2047 << 20  # no tensor of 2**31 numbers


@pytest.mark.gpu
@pytest.mark.parametrize("make", [inception, mlp, vectors, twice])
def test_the_device_gives_the_map_of_float64(make: Callable[[], Tail]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    tail, grid, block = make(), window(), [Block(4, 4, 16, 32)]
    true = DenseEngine(tail, torch.float64).blocks(grid, block)[0]
    ours = AnchoredEngine(tail, arithmetic="float16", device="cuda").blocks(grid, block)[0]
    differs = (ours.digest != true.digest).any(2)
    assert (true.margin[differs] < 2e-3).all()
