"""Carriers: whatever way a model calls torch, engines follow it or refuse it by name, and never mix points."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.anchored import AnchoredEngine
from polykern.block import Block
from polykern.carrier import Carrier, Linear
from polykern.dense import DenseEngine
from polykern.errors import UsageError
from polykern.plane import Grid, Plane
from polykern.scanline import ScanlineEngine
from polykern.tail import Tail
from polykern.tiles import TileEngine

WIDE = 8
BLOCK = Block(0, 0, 12, 12)
Between = Callable[[Tensor], Tensor]

LINEAR: dict[str, Between] = {
    "a keyword": lambda y: torch.flatten(input=y, start_dim=1),
    "sub with a factor": lambda y: torch.sub(y, 0.3, alpha=2),
    "sub of two with a factor": lambda y: torch.sub(y, y[:, [3, 2, 1, 0, 7, 6, 5, 4]], alpha=3),
    "a reshape by keyword": lambda y: torch.reshape(y, shape=(-1, 2, 4)).flatten(1),
    "its dtype and device": lambda y: y + torch.ones(WIDE, dtype=y.dtype, device=y.device),
    "averages of planes": lambda y: torch.cat([F.avg_pool2d(y.view(-1, 2, 4), 2).flatten(1)] * 4, 1),
    "means of planes": lambda y: torch.cat([F.adaptive_avg_pool2d(y.view(-1, 2, 4), (1, 2)).flatten(1)] * 4, 1),
    "parts of channels": lambda y: torch.cat(y.chunk(2, -1)[::-1], 1),
}
OTHER: dict[str, Between] = {
    "a quotient": lambda y: 2 / (y * y + 1),
    "a power": lambda y: y**2,
    "of a power": lambda y: 2.0**y,
    "a quotient that is rounded": lambda y: y + torch.div(y, 0.3, rounding_mode="floor"),
    "a method": lambda y: y - y.amax(1, keepdim=True),
}


class Network(nn.Module):
    """Two linear layers with something between them, and a nonlinearity behind."""

    def __init__(self, between: Between) -> None:
        super().__init__()
        self.up, self.down, self.between = nn.Linear(5, WIDE), nn.Linear(WIDE, 6), between

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down(self.between(self.up(x)))
        return found.relu()


def grid(shape: tuple[int, ...] = (5,)) -> Grid:
    generator = torch.Generator().manual_seed(1)
    plane = Plane.through(torch.randn(3, *shape, dtype=torch.float64, generator=generator))
    return Grid(plane, plane.window(), BLOCK.height)


def tail_of(between: Between) -> Tail:
    torch.manual_seed(0)
    return Tail(Network(between).eval(), torch.zeros(1, 5))


@pytest.mark.parametrize("name", LINEAR)
def test_every_engine_follows_a_linear_call(name: str) -> None:
    tail = tail_of(LINEAR[name])
    truth = DenseEngine(tail, torch.float64, classes=False).blocks(grid(), [BLOCK])[0]
    assert truth.right.any()
    for engine in (
        TileEngine(tail, classes=False),
        ScanlineEngine(tail, classes=False),
        AnchoredEngine(tail, classes=False),
    ):
        found = engine.blocks(grid(), [BLOCK])[0]
        assert np.array_equal(found.digest, truth.digest), engine.name


@pytest.mark.parametrize("name", OTHER)
def test_anchored_evaluation_follows_operators_and_methods(name: str) -> None:
    tail = tail_of(OTHER[name])
    truth = DenseEngine(tail, torch.float64, classes=False).blocks(grid(), [BLOCK])[0]
    assert np.array_equal(AnchoredEngine(tail, classes=False).blocks(grid(), [BLOCK])[0].digest, truth.digest)
    with pytest.raises(UsageError, match="is not piecewise linear"):
        TileEngine(tail, classes=False).blocks(grid(), [BLOCK])


@pytest.mark.parametrize(
    ("between", "said"),
    [
        (lambda y: torch.cat(y.chunk(2)), "parts of the batch axis"),
        (lambda y: torch.cat(torch.split(y, 1, -2)), "parts of the batch axis"),
        (lambda y: F.pad(y, (0, 0, 1, 0))[1:], "padding of the batch axis"),
        (lambda y: F.scaled_dot_product_attention(y, y, y), "scaled_dot_product_attention"),
        (lambda y: y.half().float(), "half"),
        (lambda y: y.mul_(2.0), "mul_"),
        (lambda y: torch.where(y > 0, y, 0.5 * y), "__gt__"),
        (lambda y: torch.remainder(y, 0.5), "remainder"),
    ],
)
@pytest.mark.parametrize("kind", [TileEngine, AnchoredEngine])
def test_what_no_engine_can_follow_is_refused_by_name(
    between: Between, said: str, kind: type[TileEngine] | type[AnchoredEngine]
) -> None:
    with pytest.raises(UsageError, match=said):
        kind(tail_of(between), classes=False).blocks(grid(), [BLOCK])


class Noted(Carrier):
    """Rows that note what they were multiplied with."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.met = rows, list[Linear]()

    @property
    def shape(self) -> torch.Size:
        return self.rows.shape

    def apply(self, linear: Linear) -> Carrier:
        self.met.append(linear)
        return self

    @classmethod
    def combine(cls, parts: object, op: object, terms: int) -> Carrier:
        raise NotImplementedError

    def other(self, func: object, args: object, kwargs: object) -> object:
        raise NotImplementedError


@pytest.mark.parametrize(("kernel", "terms"), [(3, 9), ((3,), 9), ((2, 3), 6), ([3], 9)])
def test_an_average_counts_every_pixel_of_its_window(kernel: int | tuple[int, ...], terms: int) -> None:
    x = Noted(torch.ones(1, 2, 6, 6))
    F.avg_pool2d(x, kernel)  # type: ignore[arg-type]
    assert [linear.terms for linear in x.met] == [terms]


def test_what_is_no_method_of_a_tensor_is_none_of_a_carrier() -> None:
    x = Noted(torch.ones(1, 2))
    assert not hasattr(x, "no_such_method")
    assert not hasattr(x, "__array__")
