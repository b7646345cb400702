"""Tile programs against plain dense float64: every bit, every count, every fingerprint."""

import pytest
import torch
from torch import Tensor, nn

from polykern.block import Block
from polykern.errors import UsageError
from polykern.maps.compute import Recipe, most_rows
from polykern.plane import Grid, Plane
from polykern.tail import Tail
from polykern.tiles import Choice, TileEngine, compress
from polykern_kernels import digest, program
from tests.engine.dense_truth import Truth, truth
from tests.worlds import random_network

NETWORKS, SIDE = 200, 12
PLACES = ((200, 240), (96, 400))


def grid_about(tail: Tail, seed: int, resolution: int = 512) -> Grid:
    """A plane through three random points of the tail's input space."""
    rng = torch.Generator().manual_seed(seed)
    base = torch.randn(tail.input_shape, generator=rng, dtype=torch.float64)
    anchors = base + torch.randn(3, *tail.input_shape, generator=rng, dtype=torch.float64)
    plane = Plane.through(anchors)
    return Grid(plane, plane.window(), resolution)


def programs_at(
    tail: Tail, grid: Grid, places: tuple[tuple[int, int], ...], side: int
) -> tuple[program.Programs, bool]:
    """Tiles with these first rows and columns, and whether they tell classes."""
    corners = torch.tensor(places, dtype=torch.float64) + side / 2
    du, dv = grid.step * grid.plane.e1, grid.step * grid.plane.e2
    centres = grid.points(corners[:, 0], corners[:, 1])
    vector = tail.output_shape is not None and len(tail.output_shape) == 1
    bundle = compress(tail.to(torch.float64), centres, du, dv, (side / 2, side / 2), limit=4000, classes=vector)
    assert bundle.alive.all()
    return bundle.programs(), vector


class Comparison:
    """Sums over networks: wrong bits, doubtful bits, declared unstable, truly unstable."""

    def __init__(self) -> None:
        self.points = self.bits = self.wrong = self.doubtful = self.declared = self.unstable = 0

    def add(
        self, p: program.Programs, out: program.Outcome, tile: int, true: Truth, keys: Tensor, vector: bool
    ) -> None:
        mine = slice(int(p.first[tile]), int(p.first[tile + 1]))
        bits = p.field[mine] >= 0
        where = [int((keys == key).all(1).nonzero()[0, 0]) for key in p.key[mine][bits]]
        assert out.signs is not None
        signs = out.signs[mine][bits]  # [unstable, side + 1, side + 1]
        loose = true.codes[..., where].permute(2, 0, 1)
        # a pre-activation within the error bound of float64 is 0 as far as anyone can tell
        doubt = true.z[..., where].permute(2, 0, 1).abs() <= p.tolerance[mine][bits][:, None, None]
        stable = torch.ones(true.codes.shape[-1], dtype=torch.bool)
        stable[where] = False
        flips = (true.codes != true.codes[:1, :1]).flatten(0, 1).any(0)
        assert not (flips & stable).any(), "a unit that was declared stable flips"
        self.wrong += int(((signs != loose) & ~doubt).sum())
        self.doubtful += int(doubt.sum())
        self.declared += len(where)
        self.unstable += int(flips.sum())
        self.points += true.codes.shape[0] * true.codes.shape[1]
        self.bits += true.codes.numel()
        if not doubt.any():
            assert torch.equal(out.right[tile].sum(0), true.right.int())
            assert torch.equal(out.down[tile].sum(0), true.down.int())
            assert torch.equal(out.digest[tile], true.fingerprints)
        if vector:
            assert torch.equal(out.classes[tile].long(), true.classes(out.classes[tile]))
        bound, exact = out.margin[tile], true.z[:-1, :-1].abs().amin(-1)
        assert (bound <= exact * (1 + 1e-6) + 1e-12).all(), "the margin is no lower bound"


@pytest.mark.slow
def test_two_hundred_random_networks(capsys: pytest.CaptureFixture[str]) -> None:
    """0 wrong bits, no unit declared stable ever flips; prints how tight the bounds are."""
    seen = Comparison()
    for seed in range(NETWORKS):
        net = random_network(seed)
        starts = (*net.starts, *net.inner_starts)
        tail = Tail(net.model, net.sample, starts[seed % len(starts)])
        if torch.Size(tail.input_shape).numel() < 2:
            tail = Tail(net.model, net.sample)  # one number spans no plane
        grid = grid_about(tail, seed)
        p, vector = programs_at(tail, grid, PLACES, SIDE)
        out = program.run(p, SIDE, SIDE, len(tail.layout.fields), signs=True)
        keys = digest.keys(tail.layout.bits)
        for tile, (row, column) in enumerate(PLACES):
            seen.add(p, out, tile, truth(tail, grid, Block(row, column, SIDE, SIDE)), keys, vector)
    with capsys.disabled():
        print(f"\n{NETWORKS} networks: {seen.wrong} wrong bits of {seen.bits:,}, {seen.doubtful} within the bound")
        print(f"tightness {seen.declared / seen.unstable:.3f} (declared unstable / truly unstable)")
    assert seen.wrong == 0
    assert seen.unstable > 1000
    assert seen.doubtful < 1e-3 * seen.bits


def small_cnn() -> Tail:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 4, 12), nn.ReLU(), nn.Linear(12, 5),
    ).eval()  # fmt: skip
    return Tail(net, torch.zeros(1, 1, 8, 8))


BLOCKS = [Block(3, 5, 40, 33), Block(200, 100, 17, 64)]


@pytest.mark.parametrize("choice", [Choice(8, 500, 20, 0), Choice(32, 500, 60, 0), Choice(64, 40, 30, 0)], ids=str)
def test_maps_do_not_depend_on_the_tiles(choice: Choice) -> None:
    """Any tile size, and tiles that are cut because they are too loose, give the dense answer."""
    tail = small_cnn()
    grid = grid_about(tail, 7, 256)
    engine = TileEngine(tail, choice)
    for block, maps in zip(BLOCKS, engine.blocks(grid, BLOCKS), strict=True):
        true = truth(tail, grid, block)
        assert torch.equal(torch.from_numpy(maps.right.sum(0)), true.right.int())
        assert torch.equal(torch.from_numpy(maps.down.sum(0)), true.down.int())
        assert torch.equal(torch.from_numpy(maps.digest), true.fingerprints)
        assert maps.classes is not None
        assert torch.equal(torch.from_numpy(maps.classes).long(), true.output[:-1, :-1].argmax(-1))
        assert maps.uncertain == 0


def test_tiles_too_loose_at_any_size_are_evaluated_densely() -> None:
    tail = small_cnn()
    grid = grid_about(tail, 7, 16)
    maps = TileEngine(tail, Choice(8, 4, 4, 0)).blocks(grid, [Block(0, 0, 16, 16)])[0]
    true = truth(tail, grid, Block(0, 0, 16, 16))
    assert torch.equal(torch.from_numpy(maps.right.sum(0)), true.right.int())
    assert torch.equal(torch.from_numpy(maps.digest), true.fingerprints)


def test_fields_share_the_counts() -> None:
    tail = small_cnn()
    grid = grid_about(tail, 1, 128)
    block = Block(30, 30, 32, 32)
    maps = TileEngine(tail, Choice(16, 500, 20, 0)).blocks(grid, [block])[0]
    codes = truth(tail, grid, block).codes
    for k, f in enumerate(tail.layout.fields):
        mine = codes[..., f.offset : f.offset + f.bits]
        assert torch.equal(torch.from_numpy(maps.right[k]), (mine[:-1, :-1] != mine[:-1, 1:]).sum(-1).int())


def test_a_layer_norm_costs_one_symbol() -> None:
    """Behind a LayerNorm values times the norm are affine in (u, v) and the norm."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 40), nn.ReLU())
    nn.init.normal_(block[0].weight, 1, 0.2)  # type: ignore[arg-type]
    nn.init.normal_(block[0].bias, 0, 0.3)  # type: ignore[arg-type]
    tail = Tail(block.eval(), torch.zeros(1, 24))
    grid = grid_about(tail, 5, 64)
    anchors = 30 * grid.plane.anchors  # far out the norm is long, and margins in its unit would be too
    grid = Grid(Plane.through(anchors), Plane.through(anchors).window(), 64)
    area = Block(0, 0, 63, 63)
    maps = TileEngine(tail, Choice(16, 800, 50, 0), classes=False).blocks(grid, [area])[0]
    true = truth(tail, grid, area)
    assert torch.equal(torch.from_numpy(maps.right.sum(0)), true.right.int())
    assert torch.equal(torch.from_numpy(maps.digest), true.fingerprints)
    bound = torch.from_numpy(maps.margin)
    assert (bound <= true.z[:-1, :-1].abs().amin(-1) * (1 + 1e-6)).all()
    plane = grid.plane
    inside = Grid(plane, plane.window().zoomed(1e6), 64)  # of one polytope
    du, dv = inside.step * plane.e1, inside.step * plane.e2
    centre = inside.points(torch.tensor([32.0]), torch.tensor([32.0]))
    found = compress(tail.to(torch.float64), centre, du, dv, (8.0, 8.0), limit=800, classes=False)
    assert found.count.tolist() == [4]  # 1, u, v and the norm


def test_a_smooth_activation_may_only_be_the_last() -> None:
    net = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 8), nn.GELU()).eval()
    tail = Tail(net, torch.zeros(1, 4))
    with pytest.raises(UsageError, match="gelu is smooth"):
        TileEngine(tail, classes=False).blocks(grid_about(tail, 0, 32), [Block(0, 0, 8, 8)])
    last = Tail(net, torch.zeros(1, 4), select="1")
    grid = grid_about(last, 0, 32)
    maps = TileEngine(last, Choice(8, 200, 20, 0), classes=False).blocks(grid, [Block(0, 0, 31, 31)])[0]
    assert torch.equal(torch.from_numpy(maps.right.sum(0)), truth(last, grid, Block(0, 0, 31, 31)).right.int())


def test_calibration_prefers_small_tiles_for_busy_planes() -> None:
    tail = small_cnn()
    grid, engine = grid_about(tail, 2, 256), TileEngine(tail)
    calm, busy = (
        engine.calibrate(Grid(grid.plane, grid.window.zoomed(factor), 256), tiles=2) for factor in (200, 0.01)
    )
    assert calm is not None
    assert busy is not None
    assert busy.side < calm.side
    assert busy.symbols > 40 > calm.symbols


def test_a_side_is_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="a tile's side must be a power of two, got 24"):
        TileEngine(small_cnn(), Choice(24, 500, 20, 0))


def test_a_gpu_wants_taller_bands_than_a_core() -> None:
    """Whole tiles in both, and the plan counts the memory of the taller ones."""
    tail = small_cnn()
    assert [TileEngine(tail, Choice(side, 500, 20, 0)).band for side in (16, 64, 512)] == [128, 128, 512]
    grid = grid_about(tail, 1, 2048)
    assert most_rows(Recipe(tail, grid, 2.0, device="cpu")) == 128
    assert most_rows(Recipe(tail, grid, 2.0, device="cuda:0")) == 1024
    assert most_rows(Recipe(tail, grid, 2.0, device="cuda:0", engine="anchored")) == 128
