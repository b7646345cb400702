"""Dense evaluation: counts, margins, fingerprints and classes of blocks of any shape, and the codes of points."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.block import Block
from polykern.dense import DenseEngine, codes, margins, read
from polykern.errors import CorruptError, ResourceError, UsageError
from polykern.plane import Grid, Plane, Window
from polykern.tail import Tail
from polykern.tiles import TileEngine
from polykern_kernels import digest, pack
from tests.engine.dense_truth import truth
from tests.worlds import random_network

FLAGS = (
    (torch.backends.cuda.matmul, "allow_tf32"),
    (torch.backends.cudnn, "allow_tf32"),
    (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
)


def case(seed: int, piecewise_linear: bool = True, start: str = "") -> tuple[Tail, Grid]:
    """A random network's tail and a small grid on a plane through its input space."""
    network = random_network(seed, piecewise_linear)
    tail = Tail(network.model, network.sample, start)
    generator = torch.Generator().manual_seed(seed)
    plane = Plane.through(torch.randn(3, *tail.input_shape, generator=generator, dtype=torch.float64))
    return tail, Grid(plane, plane.window(), 40)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("piecewise_linear", [True, False])
def test_maps_in_float64_are_those_of_the_codes(seed: int, piecewise_linear: bool) -> None:
    tail, grid = case(seed, piecewise_linear)
    blocks = [Block(3, 5, 6, 9), Block(0, 0, 1, 1), Block(30, 33, 9, 6)]
    for block, maps in zip(blocks, DenseEngine(tail, torch.float64).blocks(grid, blocks), strict=True):
        true = truth(tail, grid, block)
        bits, gaps, out = true.codes, true.z.abs().amin(2), true.output.flatten(2)
        here = bits[:-1, :-1]
        for k, field in enumerate(tail.layout.fields):
            own = bits[..., field.offset : field.offset + field.bits]
            assert np.array_equal(maps.right[k], (own[:-1, 1:] != own[:-1, :-1]).sum(2).numpy())
            assert np.array_equal(maps.down[k], (own[1:, :-1] != own[:-1, :-1]).sum(2).numpy())
        words = pack.signs(here.flatten(0, 1).double())[0]
        assert np.array_equal(maps.digest.reshape(-1, 2), digest.fingerprints(words, tail.layout.bits).numpy())
        assert np.allclose(maps.margin, gaps[:-1, :-1].numpy(), rtol=1e-5, atol=1e-12)
        assert maps.classes is not None
        best = out.sort(2, descending=True).values
        sure = (best[..., 0] - best[..., 1] > 1e-9)[:-1, :-1].numpy()
        assert np.array_equal(maps.classes[sure], out.argmax(2)[:-1, :-1].numpy()[sure])


def test_a_small_budget_changes_nothing() -> None:
    tail, grid = case(3)
    block = Block(2, 4, 23, 17)
    roomy = DenseEngine(tail, torch.float64)
    whole = roomy.blocks(grid, [block])[0]
    assert roomy._each is not None
    tight = DenseEngine(tail, torch.float64, memory_budget=40 * roomy._each)
    pieces = tight.blocks(grid, [block])[0]
    assert np.array_equal(whole.right, pieces.right)
    assert np.array_equal(whole.down, pieces.down)
    assert np.array_equal(whole.digest, pieces.digest)


def test_no_room_for_a_pixel_is_said() -> None:
    tail, grid = case(3)
    with pytest.raises(ResourceError, match="a pixel with its neighbours"):
        DenseEngine(tail, memory_budget=100).blocks(grid, [Block(0, 0, 4, 4)])


def test_float32_differs_from_float64_only_where_the_margin_is_small() -> None:
    tail, grid = case(5)
    block = [Block(0, 0, 24, 24)]
    coarse, fine = (DenseEngine(tail, d).blocks(grid, block)[0] for d in (torch.float32, torch.float64))
    differs = (coarse.digest != fine.digest).any(2)
    assert (fine.margin[differs] < 1e-4).all()
    assert differs.mean() < 0.1


def test_dense_half_precision_is_refused() -> None:
    tail, _ = case(5)
    with pytest.raises(UsageError, match="float32 or float64"):
        DenseEngine(tail, torch.float16)


@pytest.mark.parametrize("seed", range(6))
def test_codes_and_margins_of_points(seed: int) -> None:
    tail, grid = case(seed)
    true = truth(tail, grid, Block(7, 2, 4, 5))
    rows = (7 + torch.arange(5))[:, None].expand(5, 6).reshape(-1)
    columns = (2 + torch.arange(6)).expand(5, 6).reshape(-1)
    points = grid.points(rows, columns)
    assert torch.equal(pack.unpack(codes(tail, points), tail.layout.bits), true.codes.flatten(0, 1))
    gaps = true.z.abs().amin(2).flatten()
    assert torch.allclose(margins(tail, points), gaps, atol=1e-12)
    before = points.clone()
    words, _ = read(tail, points, memory_budget=1 << 17)
    assert torch.equal(words, codes(tail, points))
    assert torch.equal(points, before)  # also when the first nonlinearity works in place


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_units_counts_nothing() -> None:
    into, out = nn.Linear(2, 0), nn.Linear(0, 3)
    out.bias.data.copy_(torch.tensor([1.0, -2.0, 3.0]))
    tail = Tail(nn.Sequential(into, nn.ReLU(), out, nn.ReLU(), nn.Linear(3, 2)).eval(), torch.zeros(1, 2))
    words, margin = read(tail, torch.randn(4, 2))
    assert (words.tolist(), margin.tolist()) == ([[0b101]] * 4, [1.0] * 4)
    plane = Plane.through(torch.randn(3, 2))
    for engine in (DenseEngine(tail), TileEngine(tail)):
        (maps,) = engine.blocks(Grid(plane, plane.window(), 9), [Block(0, 0, 8, 8)])
        assert not maps.right.any()
        assert (maps.margin == 1.0).all()


def broken() -> Tail:
    """NaN behind the first nonlinearity, which a layer of 4 units makes of points near zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), Sickening(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    return Tail(model.eval().requires_grad_(False), torch.zeros(1, 2))


class Sickening(nn.Module):
    """NaN below a half: the root of what is negative."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x - 0.5) + x


def test_nan_is_named_after_its_field() -> None:
    tail = broken()
    grid = Grid(Plane.through(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])), _window(), 8)
    with pytest.raises(CorruptError, match="of 4 are NaN"):
        DenseEngine(tail).blocks(grid, [Block(0, 0, 4, 4)])
    with pytest.raises(CorruptError, match="of 4 hold NaN"):
        codes(tail, torch.zeros(3, 2))


def _window() -> Window:
    return Plane.through(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).window()


@pytest.fixture
def rounding_allowed() -> Iterator[None]:
    """A process in which the user has switched every shortcut on."""
    before = [(owner, name, getattr(owner, name)) for owner, name in FLAGS]
    matmul = torch.get_float32_matmul_precision()
    for owner, name in FLAGS:
        setattr(owner, name, True)
    yield
    for owner, name, value in before:
        setattr(owner, name, value)
    torch.set_float32_matmul_precision(matmul)


def _settings() -> list[object]:
    backends: Any = torch.backends
    precisions = [
        backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul, backends.mkldnn.conv,
    ]  # fmt: skip
    return [
        *(getattr(owner, name) for owner, name in FLAGS),
        *(p.fp32_precision for p in precisions),
        torch.get_float32_matmul_precision(),
    ]


@pytest.mark.usefixtures("rounding_allowed")
def test_tf32_is_off_inside_and_as_it_was_outside() -> None:
    before = _settings()
    assert before[0] is True
    with ieee():
        assert _settings() == [False, False, False, "ieee", "ieee", "ieee", "ieee", "ieee", "highest"]
    assert _settings() == before
    with pytest.raises(ZeroDivisionError), ieee():
        raise ZeroDivisionError
    assert _settings() == before


@pytest.mark.usefixtures("rounding_allowed")
def test_flags_set_through_torchs_newer_interface_come_back() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"  # the older flag can no longer be read
    with ieee():
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]
        assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cudnn.rnn.fp32_precision == "tf32"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("rounding_allowed")
def test_engines_run_with_tf32_off_and_autocast_off() -> None:
    seen: list[object] = []

    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu"), x.dtype))
            return x

    model = nn.Sequential(nn.Linear(3, 8), Looking(), nn.ReLU(), nn.Linear(8, 2)).eval().requires_grad_(False)
    tail = Tail(model, torch.zeros(1, 3))
    grid = Grid(Plane.through(torch.eye(3)), _window(), 8)
    engine = DenseEngine(tail)
    seen.clear()
    with torch.autocast("cpu"):
        engine.blocks(grid, [Block(0, 0, 2, 2)])
    assert set(seen) == {(False, False, torch.float32)}


@pytest.mark.gpu
def test_the_device_gives_the_cpus_float64_maps() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    tail, grid = case(4)
    block = [Block(0, 0, 16, 16)]
    there, here = (DenseEngine(tail, torch.float64, device=d).blocks(grid, block)[0] for d in ("cuda", "cpu"))
    differs = (there.digest != here.digest).any(2)
    assert (here.margin[differs] < 1e-9).all()
