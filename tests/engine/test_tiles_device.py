"""The flow of a GPU gives the CPU's maps: by torch alone, in Triton's interpreter, and on a device."""

import importlib.util
import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import polykern as pk
from polykern import heat
from polykern.block import Block, BlockMaps
from polykern.errors import ResourceError
from polykern.plane import Grid, Plane
from polykern.tail import Tail
from polykern.tiles import Choice, TileEngine
from polykern_kernels import forms, program
from tests.worlds import random_network

FORMS = ("RANGES", "RESCALE", "POOL", "COLUMNS", "CONVOLVE", "SURVIVING", "KEY_SUMS")
SEEDS = (2, 3, 6)  # a residual, pools in branches, a norm of batches; no bit within its bound


@pytest.fixture(
    params=[
        "reference",
        pytest.param("triton", marks=pytest.mark.slow),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def other(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """A context in which tiles are compressed and run by one backend only; gives the device to ask for."""
    name = request.param
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if name == "triton" and (
        importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1"
    ):
        pytest.skip("needs Triton's interpreter")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the interpreter is no place for two threads
    with pytest.MonkeyPatch.context() as patch:

        def begin() -> str:
            if name == "cuda":
                return "cuda"
            for family in FORMS:
                patch.setattr(forms, family, tuple(i for i in getattr(forms, family) if i.name == name))
            patch.setattr(program, "IMPLS", tuple(i for i in program.IMPLS if i.name == name))
            return "cpu"

        yield begin
    torch.set_num_threads(threads)


def plane_of(tail: Tail, seed: int, resolution: int) -> Grid:
    """A plane through three random points of the tail's input space."""
    rng = torch.Generator().manual_seed(seed)
    plane = Plane.through(torch.randn(3, *tail.input_shape, generator=rng, dtype=torch.float64))
    return Grid(plane, plane.window(), resolution)


def assert_same(here: list[BlockMaps], there: list[BlockMaps]) -> None:
    """Counts, fingerprints and classes are equal; margins as far as their bounds round alike."""
    for a, b in zip(here, there, strict=True):
        assert not a.uncertain
        assert a.uncertain == b.uncertain
        for name in ("right", "down", "digest"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        if a.classes is None or b.classes is None:
            assert a.classes is b.classes
        else:
            assert np.array_equal(a.classes, b.classes)
        np.testing.assert_allclose(a.margin, b.margin, rtol=1e-5, atol=1e-9)


def compare(tail: Tail, grid: Grid, blocks: list[Block], choice: Choice, begin: Callable[[], str]) -> None:
    here = TileEngine(tail, choice).blocks(grid, blocks)
    assert sum(int(m.right.sum()) for m in here) > 0
    there = TileEngine(tail, choice, device=begin()).blocks(grid, blocks)
    assert_same(here, there)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks(other: Callable[[], str], seed: int) -> None:
    """Branches, residuals, pools, ReLU6, PReLU, norms of batches: whatever the seed draws."""
    net = random_network(seed)
    tail = Tail(net.model, net.sample)
    compare(tail, plane_of(tail, seed, 192), [Block(64, 80, 4, 7)], Choice(4, 4000, 40, 0), other)


def test_the_digits_network(other: Callable[[], str]) -> None:
    recipe = heat.prepare(pk.load("digits"), resolution=1024)
    compare(recipe.tail, recipe.grid, [Block(500, 480, 4, 8), Block(90, 700, 4, 4)], Choice(4, 500, 20, 0), other)


def test_tiles_that_are_cut_until_they_are_dense(other: Callable[[], str]) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 12), nn.ReLU(),
        nn.Linear(12, 5),
    ).eval()  # fmt: skip
    tail = Tail(net, torch.zeros(1, 1, 6, 6))
    compare(tail, plane_of(tail, 7, 48), [Block(4, 7, 8, 6), Block(20, 20, 5, 5)], Choice(8, 12, 12, 0), other)


def test_a_layer_norm(other: Callable[[], str]) -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 10), nn.ReLU())
    nn.init.normal_(block[0].bias, 0, 0.3)  # type: ignore[arg-type]
    tail = Tail(block.eval(), torch.zeros(1, 12))
    compare(tail, plane_of(tail, 5, 64), [Block(10, 10, 4, 8)], Choice(4, 400, 30, 0), other)


def test_a_smaller_batch_changes_nothing() -> None:
    recipe = heat.prepare(pk.load("digits"), resolution=1024)
    engine = TileEngine(recipe.tail, Choice(16, 500, 20, 0))
    block = [Block(500, 480, 40, 40)]
    whole = engine.blocks(recipe.grid, block)
    engine.batch = lambda side: 2  # type: ignore[method-assign]
    assert_same(whole, engine.blocks(recipe.grid, block))


def test_a_batch_that_memory_does_not_hold_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = heat.prepare(pk.load("digits"), resolution=1024)
    engine = TileEngine(recipe.tail, Choice(16, 500, 20, 0))
    block, compressed, asked = [Block(500, 480, 48, 48)], TileEngine._compressed, []
    whole = engine.blocks(recipe.grid, block)

    def scarce(self: TileEngine, grid: Grid, corners: Tensor, side: int):  # type: ignore[no-untyped-def]
        asked.append(len(corners))
        if len(corners) > 2:
            raise torch.OutOfMemoryError
        return compressed(self, grid, corners, side)

    monkeypatch.setattr(TileEngine, "_compressed", scarce)
    assert_same(whole, engine.blocks(recipe.grid, block))
    assert max(asked) == 9
    monkeypatch.setattr(TileEngine, "_compressed", lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(ResourceError, match="memory does not hold a tile of 16 pixels"):
        engine.blocks(recipe.grid, block)


@pytest.mark.gpu
def test_a_whole_map_on_a_gpu_is_the_cpus() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    recipe = heat.prepare(pk.load("digits"), resolution=512)
    engines = [TileEngine(recipe.tail, classes=recipe.classes, device=d) for d in ("cpu", "cuda")]
    for engine in engines:
        assert engine.calibrate(recipe.grid) is not None
    assert_same(*(engine.blocks(recipe.grid, [Block(0, 0, 512, 512)]) for engine in engines))
