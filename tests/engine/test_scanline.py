"""The scanline engine against plain evaluation: every bit of layers that are affine on a plane."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.block import Block
from polykern.errors import UsageError
from polykern.plane import Grid, Plane, Window
from polykern.scanline import ScanlineEngine
from polykern.tail import Tail
from polykern_kernels import digest
from tests.engine.dense_truth import truth


class Mlp(nn.Module):
    """A transformer's MLP block: norm, a wide layer, an activation, and back."""

    def __init__(self, dims: int, norm: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.norm, self.up, self.act, self.down = norm, nn.Linear(dims, 4 * dims), act, nn.Linear(4 * dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.act(self.up(self.norm(x))))
        return out


class Branches(nn.Module):
    """Parallel first layers, a residual sum, a second layer, and a max-pool branch that is not affine."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 5, 1), nn.Conv2d(2, 4, 3, padding=1)
        self.deeper, self.pooled = nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(5)
        self.relu, self.second, self.third, self.fourth = nn.ReLU(), nn.ReLU6(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.norm(self.one(x)) * 0.5 + 0.125)
        b = self.third(self.deeper(self.second(self.two(x - 1))))
        c = self.fourth(self.pooled(F.max_pool2d(x, 3, 1, 1)))
        return torch.cat([a, b, c], 1)


class Rooted(nn.Module):
    """A branch that does not see the points joins behind the start."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 6), nn.Linear(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        kept = torch.relu(self.stem(x)) - 0.2
        return F.gelu(self.head(x)) + F.gelu(torch.cat([kept, kept], 1)).sum()


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with random gains and biases everywhere."""
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        scale = 0.3 if p.ndim == 1 else 1 / p[0].numel() ** 0.5
        p.data = torch.randn(p.shape, generator=rng) * scale + float(name.endswith("norm.weight"))
    return model.eval().requires_grad_(False)


def world(model: nn.Module, *shape: int, resolution: int = 40, **choices: str) -> tuple[Tail, Grid]:
    tail = Tail(randomised(model), torch.zeros(1, *shape), **choices)
    anchors = torch.randn(3, *tail.input_shape, generator=torch.Generator().manual_seed(1)) * 2
    plane = Plane.through(anchors)
    return tail, Grid(plane, plane.window(), resolution)


WORLDS: dict[str, Callable[[], tuple[Tail, Grid]]] = {
    "linear": lambda: world(nn.Sequential(nn.Linear(7, 60), nn.ReLU(), nn.Linear(60, 7)), 7),
    "two thresholds": lambda: world(nn.Sequential(nn.Linear(7, 60), nn.ReLU6()), 7, stop="1"),
    "first of two": lambda: world(
        nn.Sequential(nn.Linear(7, 60), nn.SiLU(), nn.Linear(60, 7), nn.SiLU()), 7, select="1"
    ),
    "convolution": lambda: world(nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU()), 2, 6, 5),
    "branches": lambda: world(Branches(), 2, 5, 5, select="[rs]e*"),
    "layer norm": lambda: world(Mlp(24, nn.LayerNorm(24), nn.GELU()), 24),
    "large epsilon": lambda: world(Mlp(24, nn.LayerNorm(24, eps=3.0), nn.Hardtanh(-0.5, 0.5)), 24),
    "rms norm": lambda: world(Mlp(24, nn.RMSNorm(24), nn.SiLU()), 24),
    "one position": lambda: world(Mlp(24, nn.LayerNorm(24), nn.GELU()), 1, 24),
    "constant branch": lambda: world(Rooted(), 6, start="head"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_equals_plain_evaluation(name: str) -> None:
    tail, grid = WORLDS[name]()
    engine = ScanlineEngine(tail, classes=False)
    blocks = [Block(0, 0, 40, 40), Block(3, 20, 11, 6), Block(39, 39, 1, 1)]
    maps = engine.blocks(grid, blocks)
    for block, got in zip(blocks, maps, strict=True):
        true = truth(tail, grid, block)
        assert np.array_equal(got.right.sum(0), true.right)
        assert np.array_equal(got.down.sum(0), true.down)
        assert np.array_equal(got.digest, true.fingerprints)
        for number, field in enumerate(tail.layout.fields):
            own = true.codes[..., field.offset : field.offset + field.bits]
            assert np.array_equal(got.right[number], (own[:-1, :-1] != own[:-1, 1:]).sum(-1))
            assert np.array_equal(got.down[number], (own[:-1, :-1] != own[1:, :-1]).sum(-1))
        least = true.z[:-1, :-1].abs().amin(-1).float()
        assert torch.allclose(torch.from_numpy(got.margin), least, rtol=1e-6, atol=1e-11)
        assert got.classes is None
        assert got.uncertain == 0
    assert maps[-1].right.shape == (len(tail.layout.fields), 1, 1)


def test_doubt_is_counted() -> None:
    """A window around one point of a line, so small that float64 does not know the sign anywhere in it."""
    tail, grid = world(nn.Sequential(nn.Linear(7, 1), nn.ReLU()), 7)
    engine = ScanlineEngine(tail, classes=False)
    layer, plane = tail.to(torch.float64).model.get_submodule("0"), grid.plane
    low, across = (float(layer(x)) for x in (plane.points(torch.tensor([[0.0, 1.0]]))[0], plane.e1))
    root = -low / (across - float(layer(torch.zeros(7, dtype=torch.float64))))
    (far,) = engine.blocks(grid, [Block(0, 0, 20, 20)])
    (near,) = engine.blocks(Grid(plane, Window(root - 1e-15, 1.0, 2e-15), 20), [Block(0, 0, 20, 20)])
    assert (far.uncertain, near.uncertain) == (0, 400)
    assert (far.margin > 0).all()
    assert (near.margin == 0).all()


REFUSED = {
    "behind relu": (
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU()),
        (4,),
        "3 lies behind relu",
    ),
    "behind softmax": (nn.Sequential(nn.Linear(4, 5), nn.Softmax(-1), nn.ReLU()), (4,), "2 lies behind softmax"),
    "positions": (Mlp(8, nn.LayerNorm(8), nn.GELU()), (3, 8), r"norm over \[8\] of \[3, 8\]"),
    "two norms": (nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4), nn.ReLU()), (4,), "lies behind layer_norm"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_names_what_is_not_affine(name: str) -> None:
    model, shape, reason = REFUSED[name]
    with pytest.raises(UsageError, match=reason):
        ScanlineEngine(Tail(randomised(model), torch.zeros(1, *shape)), classes=False)


def test_a_residual_around_a_norm_is_not_affine() -> None:
    class Residual(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x + F.layer_norm(x, (4,)))

    with pytest.raises(UsageError, match="behind a sum around a LayerNorm"):
        ScanlineEngine(Tail(Residual().eval(), torch.zeros(1, 4)))


def test_refuses_to_leave_out_classes() -> None:
    model = randomised(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(UsageError, match="give no classes"):
        ScanlineEngine(Tail(model, torch.zeros(1, 4)))
    assert ScanlineEngine(Tail(model, torch.zeros(1, 4)), classes=False).name == "scanline"
    assert ScanlineEngine(Tail(model, torch.zeros(1, 4), stop="1")).name == "scanline"


def gpt2_plane(resolution: int) -> tuple[Tail, Grid]:
    """The MLP of a GPT-2 block, 768 -> 3072, and a plane through three residual vectors."""
    rng = torch.Generator().manual_seed(0)
    model = Mlp(768, nn.LayerNorm(768), nn.GELU()).requires_grad_(False).eval()
    for name, p in model.named_parameters():
        scale = 0.02 if p.ndim == 2 else 0.3 if name == "norm.weight" else 0.1
        p.copy_(scale * torch.randn(p.shape, generator=rng) + float(name == "norm.weight"))
    residuals = 2.5 * torch.randn(3, 768, generator=rng, dtype=torch.float64)
    residuals[:, ::97] += 60  # the few large coordinates that residual streams have
    plane = Plane.through(residuals)
    return Tail(model, torch.zeros(1, 768), stop="act"), Grid(plane, plane.window(), resolution)


@pytest.mark.slow
def test_a_gpt2_mlp_has_no_wrong_bit_of_three_billion() -> None:
    """3072 bits at 1025 x 1025 points: the formula evaluated at all of them, the network itself at two rows."""
    n = 1024
    tail, grid = gpt2_plane(n)
    engine = ScanlineEngine(tail)
    engine.blocks(grid, [Block(0, 0, 2, 2)])  # compiles
    start = time.perf_counter()
    (got,) = engine.blocks(grid, [Block(0, 0, n, n)])
    fast = time.perf_counter() - start

    start = time.perf_counter()
    right, down, prints = (np.zeros_like(x) for x in (got.right[0], got.down[0], got.digest))
    curves, uv, scale = formula(tail, grid)
    every_pixel()(*curves, *uv, scale, digest.keys(3072).numpy(), right, down, prints)
    slow = time.perf_counter() - start
    assert np.array_equal(got.right[0], right)
    assert np.array_equal(got.down[0], down)
    assert np.array_equal(got.digest, prints)
    assert got.right.sum() > 100_000
    assert got.uncertain == 0
    for row in (0, 700):
        assert np.array_equal(got.digest[row], truth(tail, grid, Block(row, 0, 1, n)).fingerprints[0])
    print(f"scanline with margins {fast:.2f} s, every pixel without {slow:.1f} s: {slow / fast:.0f} x")


def formula(tail: Tail, grid: Grid) -> tuple[Any, Any, Any]:
    """sign(n0 + u n1 + v n2 + b' sqrt(|x - mean|^2 / d + eps)) from the weights: n and b', u and v, the root."""
    model: Any = tail.to(torch.float64).model
    basis = torch.stack([grid.plane.origin, grid.plane.e1, grid.plane.e2])
    basis = basis - basis.mean(1, keepdim=True)
    lines = model.up.weight @ (basis * model.norm.weight).T  # [3072, 3]
    shift = model.up.bias + model.up.weight @ model.norm.bias
    every = torch.arange(grid.resolution + 1)
    u, v = grid.uv(every, every).T
    points = basis[0] + u[None, :, None] * basis[1]
    square = [(points + y * basis[2]).square().mean(-1) for y in v]
    scale = (torch.cat(square) + model.norm.eps).sqrt()
    return (lines.numpy(), shift.numpy()), (u.numpy(), v.numpy()), scale.numpy()


def every_pixel() -> Callable[..., None]:
    """Signs of all bits at all pixels, compared with their neighbours and summed up, as plainly as it goes."""
    from numba import njit, prange

    @njit(parallel=True)
    def run(lines, shift, u, v, scale, keys, right, down, prints):  # type: ignore[no-untyped-def]
        for i in prange(len(right)):
            on = np.zeros((2, len(u)), np.int32)
            for b in range(len(shift)):
                for k in range(2):
                    for j in range(len(u)):
                        z = lines[b, 0] + v[i + k] * lines[b, 2] + u[j] * lines[b, 1] + shift[b] * scale[i + k, j]
                        on[k, j] = z > 0
                for j in range(len(u) - 1):
                    right[i, j] += on[0, j] ^ on[0, j + 1]
                    down[i, j] += on[0, j] ^ on[1, j]
                    prints[i, j, 0] += on[0, j] * keys[b, 0]
                    prints[i, j, 1] += on[0, j] * keys[b, 1]

    return run  # type: ignore[no-any-return]
