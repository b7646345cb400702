"""Anchored evaluation: the maps of dense float64, from differences in any arithmetic."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polykern.anchored import Anchored, AnchoredEngine, met, pools
from polykern.arithmetic import Arithmetic, ieee
from polykern.block import Block
from polykern.carrier import NotCarried
from polykern.counting import Counts
from polykern.dense import DenseEngine
from polykern.errors import CorruptError, ResourceError, UsageError
from polykern.plane import Grid, Plane, Window
from polykern.tail import Meeting, Tail
from tests.worlds import random_network

GROUPS, SIDE = 3, 4


def points(shape: tuple[int, ...], seed: int, arithmetic: str = "float32", spread: float = 1e-2) -> Anchored:
    """GROUPS rasters of SIDE x SIDE points about random anchors."""
    generator = torch.Generator().manual_seed(seed)
    anchor = torch.randn(GROUPS, *shape, generator=generator, dtype=torch.float64)
    axes = spread * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    reach = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    at = torch.stack([reach.repeat(SIDE), reach.repeat_interleave(SIDE)], 1)
    return Anchored.along(anchor, axes, at, Arithmetic(arithmetic))


def values(x: Any, rows: int) -> Tensor:
    """float64 (rows, ...): what a carrier or a constant stands for."""
    full: Tensor = x.full() if isinstance(x, Anchored) else x
    return full.expand(rows, *full.shape[1:]).clone()


def both(tail: Tail, x: Anchored) -> tuple[list[Tensor], list[Tensor]]:
    """All pre-activations and the output, carried and plain float64."""
    counts = Counts(tail.layout, GROUPS, SIDE, SIDE)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])

    def carried(meeting: Meeting) -> Any:
        found[0].append(values(meeting.z, len(x)))
        return met(meeting, counts)

    def plain(meeting: Meeting) -> Any:
        found[1].append(values(meeting.z, len(x)))
        return meeting.proceed()

    with ieee():
        rows = values(x, len(x))
        found[0].append(values(tail.run(x, carried), len(x)))
        found[1].append(values(tail.run(rows, plain), len(x)))
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400), st.booleans(), st.sampled_from([1e-2, 1e-6]))
def test_every_value_of_a_random_network_is_that_of_float64(
    seed: int, piecewise_linear: bool, spread: float
) -> None:
    """The error shrinks with the distance from the anchor, far below float32's rounding of the value."""
    network = random_network(seed, piecewise_linear)
    for start in (*network.starts, *network.inner_starts):
        tail = Tail(network.model, network.sample, start).to(torch.float64)
        for ours, true in zip(*both(tail, points(tuple(tail.input_shape), seed, spread=spread)), strict=True):
            scale = float(true.abs().max()) + 1e-3
            assert float((ours - true).abs().max()) < 1e-3 * spread * scale, start


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.booleans(), st.sampled_from([1, 3, 8]))
def test_maps_equal_dense_float64_where_no_margin_is_tiny(seed: int, piecewise_linear: bool, tile: int) -> None:
    network = random_network(seed, piecewise_linear)
    tail = Tail(network.model, network.sample)
    generator = torch.Generator().manual_seed(seed)
    plane = Plane.through(torch.randn(3, *tail.input_shape, generator=generator, dtype=torch.float64))
    grid = Grid(plane, plane.window(), 64)
    blocks = [Block(0, 0, 11, 9), Block(50, 40, 5, 17)]
    ours = AnchoredEngine(tail, tile=tile).blocks(grid, blocks)
    true = DenseEngine(tail, torch.float64).blocks(
        grid, [Block(b.row, b.column, b.height + 1, b.width + 1) for b in blocks]
    )
    for mine, theirs in zip(ours, true, strict=True):
        clear = theirs.margin > 1e-6
        here = clear[:-1, :-1]
        assert (mine.digest == theirs.digest[:-1, :-1])[here].all()
        assert np.allclose(mine.margin, theirs.margin[:-1, :-1], rtol=1e-3, atol=1e-6)
        across, along = here & clear[:-1, 1:], here & clear[1:, :-1]
        assert (mine.right == theirs.right[:, :-1, :-1])[:, across].all()
        assert (mine.down == theirs.down[:, :-1, :-1])[:, along].all()


def window(size: float = 2.0) -> Grid:
    """A small grid on the plane of the first two coordinates of R^3."""
    plane = Plane.through(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    return Grid(plane, Window(-size / 2, -size / 2, size), 48)


class Mlp(nn.Module):
    """LayerNorm, GELU written out, a residual: the block of GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)
        self.embed, self.head, self.act = nn.Linear(3, 16), nn.Linear(16, 5), NewGELUActivation()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.down(self.act(self.up(self.norm(x))))
        out: Tensor = self.head(x * torch.softmax(x, dim=-1))
        return out


class NewGELUActivation(nn.Module):
    """As transformers writes it."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3.0))))


def mlp(seed: int = 0) -> Tail:
    """A random GPT-2-like MLP."""
    torch.manual_seed(seed)
    return Tail(Mlp().eval().requires_grad_(False), torch.zeros(1, 3))


@pytest.mark.parametrize("arithmetic", ["float32", "float16", "bfloat16"])
def test_a_gelu_mlp_with_layernorm(arithmetic: str) -> None:
    tail, grid = mlp(), window()
    block = [Block(4, 4, 16, 32)]
    ours = AnchoredEngine(tail, arithmetic=arithmetic).blocks(grid, block)[0]
    true = DenseEngine(tail, torch.float64).blocks(grid, block)[0]
    differs = (ours.digest != true.digest).any(2)
    bound = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}[arithmetic]
    assert (true.margin[differs] < bound).all()
    assert true.right.sum() > 0
    assert abs(int(ours.right.sum()) - int(true.right.sum())) <= max(2, 0.02 * true.right.sum())
    assert ours.classes is not None
    assert true.classes is not None
    assert (ours.classes == true.classes).mean() > 0.99


def test_deep_zoom_keeps_its_bits() -> None:
    """A window a million times smaller: float32 sees noise there, differences do not."""
    torch.manual_seed(2)
    first, second = nn.Linear(3, 64), nn.Linear(64, 64)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(64, 2)).eval()
    with torch.no_grad():
        kink = F.linear(F.relu(F.linear(torch.tensor([0.3, 0.2, 0.0]), first.weight, first.bias)), second.weight)
        second.bias.copy_(-kink)  # all of its kinks pass there
    tail = Tail(model.requires_grad_(False), torch.zeros(1, 3))
    plane = window().plane
    grid = Grid(plane, Window(0.3 - 5e-7, 0.2 - 5e-7, 1e-6), 48)
    block = [Block(0, 0, 40, 40)]
    true = DenseEngine(tail, torch.float64).blocks(grid, block)[0]
    ours = AnchoredEngine(tail, arithmetic="float16").blocks(grid, block)[0]
    plain = DenseEngine(tail, torch.float32).blocks(grid, block)[0]
    assert true.right.sum() > 100
    assert abs(int(ours.right.sum()) / int(true.right.sum()) - 1) < 0.02
    assert abs(int(plain.right.sum()) / int(true.right.sum()) - 1) > 0.2


def test_blocks_tiles_and_batches_change_nothing() -> None:
    tail, grid = mlp(1), window()
    whole = AnchoredEngine(tail, tile=8).blocks(grid, [Block(0, 0, 16, 24)])[0]
    parts = [Block(0, 0, 16, 8), Block(0, 8, 16, 16)]
    left, rest = AnchoredEngine(tail, tile=8, memory_budget=1 << 20).blocks(grid, parts)
    for name in ("right", "down"):
        joined = np.concatenate([getattr(left, name), getattr(rest, name)], 2)
        assert np.array_equal(joined, getattr(whole, name))
    assert np.array_equal(np.concatenate([left.digest, rest.digest], 1), whole.digest)


def test_batches_follow_the_budget() -> None:
    tail, grid = mlp(), window()
    small, large = (AnchoredEngine(tail, tile=4, memory_budget=b).batch(grid) for b in (1 << 20, 1 << 24))
    assert 1 <= small < large
    with pytest.raises(ResourceError, match="a tile of 4 pixels"):
        AnchoredEngine(tail, tile=4, memory_budget=1000).batch(grid)


def test_unknown_arithmetic_and_empty_tiles_are_refused() -> None:
    with pytest.raises(UsageError, match="tf32"):
        AnchoredEngine(mlp(), arithmetic="tf32")
    with pytest.raises(UsageError, match="at least one pixel"):
        AnchoredEngine(mlp(), tile=0)


def test_nan_is_named_after_its_field() -> None:
    last = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), last, nn.ReLU()).eval().requires_grad_(False)
    tail = Tail(model, torch.zeros(1, 3))
    last.weight[0, 0] = torch.nan
    with pytest.raises(CorruptError, match="pre-activations of 3 are NaN"):
        AnchoredEngine(tail).blocks(window(), [Block(0, 0, 4, 4)])


MIXING: dict[str, Callable[[Any], Any]] = {
    "softmax over the batch axis": lambda x: torch.softmax(x, 0),
    "amax over the batch axis": lambda x: torch.amax(x, dim=0),
    "max over all axes": lambda x: x.max(),
    "sort is not known": torch.sort,
    "matmul of 2 axes": lambda x: torch.matmul(x, x),
    "differs from point to point": lambda x: torch.maximum(x, torch.zeros(x.shape)),
}


@pytest.mark.parametrize("why", MIXING)
def test_what_mixes_points_is_refused(why: str) -> None:
    with pytest.raises(NotCarried, match=why):
        MIXING[why](points((5,), 0))


ALONE: dict[str, Callable[[Any], Any]] = {
    "layer_norm": lambda x: F.layer_norm(x, (4, 6)),
    "softmax": lambda x: torch.softmax(x, -1),
    "max along an axis": lambda x: torch.max(x, 2)[0],
    "product of two": lambda x: x * torch.tanh(x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "matmul of two": lambda x: torch.matmul(x, x.transpose(1, 2)),
    "normalize": lambda x: F.normalize(x, dim=2),
    "larger of two": lambda x: torch.maximum(x, x * 0.5),
    "max_pool1d": lambda x: F.max_pool1d(x, 2),
    "in place": lambda x: F.silu(x, inplace=True),
}


@pytest.mark.parametrize("name", ALONE)
def test_functions_of_each_point(name: str) -> None:
    x = points((4, 6), 3)
    rows = values(x, len(x))
    ours, true = ALONE[name](x), ALONE[name](rows.clone())
    assert ours.shape == true.shape
    assert float((ours.full() - true).abs().max()) < 3e-8  # float32 differences of about 0.1
    assert torch.equal(values(x, len(x)), rows) or name == "in place"


POOLINGS = [
    {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 2},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    {"kernel_size": 2, "stride": 1, "dilation": 2},
    {"kernel_size": 3, "stride": None, "padding": 1},
]


@pytest.mark.parametrize("options", POOLINGS)
@pytest.mark.parametrize("spread", [1e-6, 1e-1, 10.0])
@pytest.mark.parametrize("way", ["_by_group", "_at_once"])
def test_max_pools_are_exact_differences(
    options: dict[str, Any], spread: float, way: str, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_by_group", getattr(pools, way))  # what a CPU takes
    monkeypatch.setattr(pools, "AT_ONCE", 100)
    anchor = torch.randn(2, 3, 7, 6, generator=rng, dtype=torch.float64).relu()  # ties at zero
    delta = spread * torch.randn(2 * 5, 3, 7, 6, generator=rng)
    pooled, change = pools.max_pool2d(anchor, delta, (), options)
    full = (anchor[:, None] + delta.view(2, 5, 3, 7, 6)).flatten(0, 1)
    true = F.max_pool2d(full, **options).unflatten(0, (2, 5)) - F.max_pool2d(anchor, **options)[:, None]
    assert torch.equal(pooled, F.max_pool2d(anchor, **options))
    assert float((change - true.flatten(0, 1)).abs().max()) <= 2**-23 * float(delta.abs().max())


def test_rounded_operands_stay_in_range(rng: torch.Generator) -> None:
    """Differences of 1e-20 and of 1e+20, weights of 1e-9: float16 alone would give zeros and infinities."""
    weight = 1e-9 * torch.randn(32, 64, generator=rng)
    layer = nn.Linear(64, 32, bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    rows = torch.randn(3, 64, generator=rng)
    delta = torch.cat([rows * 1e-20, rows * 1e20, rows * 0])
    for name, error in (("float32", 2**-20), ("float16", 2**-9), ("bfloat16", 2**-6)):
        x = Anchored(torch.zeros(3, 64, dtype=torch.float64), delta, Arithmetic(name, layer))
        ours, true = layer(x).delta.double(), delta.double() @ weight.double().T
        for k in range(3):
            part = slice(3 * k, 3 * k + 3)
            assert float((ours[part] - true[part]).abs().max()) <= error * float(true[part].abs().max())
    assert not ours[6:].any()


def test_weights_are_cast_once() -> None:
    tail = mlp().to(torch.float64)
    x = points((3,), 0)
    x.arithmetic = Arithmetic("float16", tail.model)
    dense = x.beside(x.anchor, x.delta)  # not along axes, so that every layer multiplies differences
    for _ in range(3):
        tail.run(dense, lambda m: met(m, Counts(tail.layout, GROUPS, SIDE, SIDE)))
    assert len(x.arithmetic._casts) == 4  # the four linear layers


@pytest.mark.gpu
@pytest.mark.parametrize("arithmetic", ["float32", "float16", "bfloat16"])
def test_the_device_gives_the_map_of_float64(arithmetic: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    tail, grid = mlp(), window()
    block = [Block(4, 4, 16, 32)]
    ours = AnchoredEngine(tail, arithmetic=arithmetic, device="cuda").blocks(grid, block)[0]
    true = DenseEngine(tail, torch.float64).blocks(grid, block)[0]
    differs = (ours.digest != true.digest).any(2)
    assert (true.margin[differs] < {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}[arithmetic]).all()
