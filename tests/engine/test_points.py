"""What max-pools choose."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.points import codes_of
from polykern.pools import winners
from polykern.tail import Tail
from polykern.tracing import trace
from tests.interpreter import Interpreter
from tests.ops import Op
from tests.worlds import random_network


def _pools(ops: tuple[Op, ...]) -> bool:
    return any(op.kind == "max_pool" or any(map(_pools, op.parts)) for op in ops)


WITH_POOLS = [seed for seed in range(80) if _pools(random_network(seed).ops)]


@pytest.mark.parametrize("seed", WITH_POOLS[:15])
def test_choices_are_those_of_the_other_reader(seed: int) -> None:
    network = random_network(seed)
    points = network.points(4, seed).double()
    model = network.model.double()
    codes = codes_of(model, points, pools=True)
    reader = Interpreter(points)
    reader.network(network.ops)
    assert {w.module + ":max_pool" for w in reader.windows} == codes.choices.keys()
    for w in reader.windows:
        assert torch.equal(codes.choices[w.module + ":max_pool"].long(), torch.from_numpy(w.winner))
    with trace(model, pools=True) as t:
        model(points[:1].clone())
        t.run(points[1:].clone())
    assert t.codes == codes
    assert not codes_of(model, points).choices


def test_some_networks_have_pools() -> None:
    assert len(WITH_POOLS) >= 15


@pytest.mark.parametrize(
    "func",
    [F.max_pool2d, torch.max_pool2d, F.max_pool2d_with_indices],
)
def test_a_window_is_numbered_row_by_row(func: Any) -> None:
    x = torch.tensor([[[[0.0, 1, 0, 0, 2], [0, 0, 0, 0, 2], [3, 3, -1, 0, 0.0]]]])
    chosen = winners(func, (x, (2, 3)), {"stride": (1, 2)})
    assert chosen.tolist() == [[[[1, 2], [3, 2]]]]
    assert chosen.dtype == torch.uint8


def test_all_zero_windows_are_a_value_of_their_own() -> None:
    x = torch.tensor([[[0.0, 0, 0, 1, 0, -1, 0]]])
    assert winners(F.max_pool1d, (x, 2), {"padding": 1}).tolist() == [[[2, 2, 0, 1]]]
    assert winners(F.max_pool1d, (x, 2), {"ceil_mode": True}).tolist() == [[[2, 1, 0, 2]]]
    assert winners(F.max_pool1d, (x,), {"kernel_size": 3, "dilation": 2, "stride": 1}).tolist() == [[[3, 1, 3]]]


def test_windows_in_space() -> None:
    x = torch.zeros(1, 1, 7, 7, 7)
    x[0, 0, 6, 5, 4] = 1
    chosen = winners(F.max_pool3d, (x, 7), {})
    assert (int(chosen), chosen.dtype) == (6 * 49 + 5 * 7 + 4, torch.int16)
    assert int(winners(F.max_pool3d, (x[..., :1], (7, 7, 1)), {})) == 49


def test_several_pools_of_one_module() -> None:
    class Pools(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.max_pool2d(F.max_pool2d(x, 2), 2))

    x = torch.rand(3, 2, 8, 8)
    codes = codes_of(Pools().eval(), x, pools=True)
    assert {name: tuple(c.shape) for name, c in codes.choices.items()} == {
        ":max_pool": (3, 2, 4, 4),
        ":max_pool#1": (3, 2, 2, 2),
    }
    one = codes.choices[":max_pool"][0, 0, 0, 0]
    assert float(x[0, 0, int(one) // 2, int(one) % 2]) == float(x[0, 0, :2, :2].max())


def test_two_points_that_choose_differently_are_apart() -> None:
    model = nn.Sequential(nn.MaxPool1d(3), nn.ReLU()).eval()
    points = torch.tensor([[[1.0, 2, 3, 1, 1, 1]], [[3.0, 2, 1, 1, 1, 1]]])
    assert codes_of(model, points).distances().tolist() == [[0, 0], [0, 0]]
    assert codes_of(model, points, pools=True).distances().tolist() == [[0, 1], [1, 0]]


def test_a_pool_beside_the_start_is_the_same_for_every_point() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            left: Tensor = self.left(x)
            return left + F.max_pool1d(x, 3, 1, 1)

    tail = Tail(Beside().eval(), torch.tensor([[[1.0, 2, 3]]]), "left")
    codes = codes_of(tail, torch.randn(4, 1, 3), pools=True)
    assert codes.choices[":max_pool"].tolist() == 4 * [[[2, 2, 1]]]
