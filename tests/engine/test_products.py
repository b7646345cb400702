"""Products that wait for their activation: the codes of plain torch, and a model that does not notice."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern import points, products
from polykern.errors import CorruptError
from polykern.points import codes_of
from polykern.tail import Tail
from polykern.tracing import trace
from polykern_kernels import linear
from tests.engine.untouched import state

ACTIVATIONS = (nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.25), nn.Hardtanh(-2, 3), nn.GELU(), nn.ELU())


def whole(*behind: nn.Module, units: int = 20) -> nn.Sequential:
    """Linear layers with small integers for weights and these activations behind them: no sum is rounded."""
    rng = torch.Generator().manual_seed(0)
    layers = [nn.Linear(5 if k == 0 else units, units) for k in range(len(behind))]
    for layer in layers:
        for parameter in layer.parameters():
            parameter.data = torch.randint(-1, 2, parameter.shape, generator=rng).float()
    return nn.Sequential(*(m for pair in zip(layers, behind, strict=True) for m in pair)).eval()


def rows(count: int = 9) -> Tensor:
    return torch.randint(-3, 4, (count, 5), generator=torch.Generator().manual_seed(1)).float()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Products wait on the CPU too; for each pass, whether its activations are written."""
    seen: list[bool] = []
    real = linear.signs

    def signs(*args: Any, **kwargs: Any) -> Any:
        words, out = real(*args, **kwargs)
        seen.append(out is not None)
        return words, out

    monkeypatch.setattr(products, "wait", lambda tail: True)
    monkeypatch.setattr(linear, "signs", signs)
    return seen


def plain(model: nn.Module, x: Tensor) -> Any:
    with trace(model) as t:
        model(x)
    return t.codes


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_codes_are_those_of_plain_torch(activation: nn.Module, passes: list[bool]) -> None:
    model = whole(activation, activation, activation)
    assert codes_of(model, rows(), batch=4) == plain(model, rows())
    smooth = isinstance(activation, (nn.GELU, nn.ELU))
    assert passes == ([False] if smooth else [True, True, False]) * 3  # the last layer writes bits only


def test_what_stands_between_is_left_as_it_is(passes: list[bool]) -> None:
    first, _, second, _ = whole(nn.ReLU(), nn.ReLU())
    model = nn.Sequential(first, nn.Dropout(), nn.ReLU(), nn.Sequential(second, nn.ReLU())).eval()
    assert codes_of(model, rows()) == plain(model, rows())
    assert passes == [False]


def test_pre_activations_that_are_not_selected_are_multiplied_out(passes: list[bool]) -> None:
    model = whole(nn.ReLU(), nn.ReLU(), nn.ReLU())
    assert codes_of(model, rows(), select="3") == plain(model, rows()).field("3")
    assert passes == [False]


def test_a_tail_of_two_branches(passes: list[bool]) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = left, right

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.left(x) - self.right(x))

    left, right = whole(nn.ReLU(), nn.ReLU()), whole(nn.ReLU6())
    model = Branches().eval()
    tail = Tail(model, torch.zeros(1, 5), "left")
    codes = codes_of(tail, rows())
    assert passes == [True, True, True]  # the branch beside the start is one row
    at = left(rows()) - right(torch.zeros(1, 5))
    assert torch.equal(codes.field(tail.layout.fields[-1].name).bits(), at > 0)


def test_the_model_does_not_notice(passes: list[bool]) -> None:
    model = whole(nn.ReLU(), nn.ReLU())
    seen: list[type] = []
    handle = model[2].register_forward_hook(lambda module, args, out: seen.append(type(out)))
    before = state(model)
    assert codes_of(model, rows()) == plain(model, rows())
    assert passes == [True]  # the one with a hook is left alone
    assert state(model) == before
    assert set(seen) == {Tensor}
    handle.remove()


def test_wide_layers_are_torchs(passes: list[bool]) -> None:
    model = whole(nn.ReLU(), nn.ReLU(), units=products.WIDEST + 1)
    codes_of(model, rows())
    assert passes == [True]  # the first has few inputs


def test_a_nan_is_told_by_its_layer(passes: list[bool]) -> None:
    model = whole(nn.ReLU(), nn.ReLU())
    model.get_parameter("2.weight").data[1, 1] = torch.nan
    with pytest.raises(CorruptError, match="pre-activations of 3 hold NaN"):
        codes_of(model, rows())


def test_a_device_takes_many_points_at_once() -> None:
    class Placed:
        layout, device = Tail(whole(nn.ReLU(), nn.ReLU()), rows(1)).layout, torch.device("cuda")

    small: Any = Placed()
    assert points._at_once(small) == points.MOST
    small.layout = Tail(whole(nn.ReLU(), units=3000), rows(1)).layout
    assert points._at_once(small) == points.ROOM // 12000
    small.device = torch.device("cpu")
    assert points._at_once(small) == 256


@pytest.mark.gpu
def test_a_device_takes_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = whole(nn.ReLU(), nn.ReLU6(), nn.ReLU(), units=33)
    want = plain(model, rows(3000))
    assert codes_of(model.cuda(), rows(3000)).to("cpu") == want
    monkeypatch.setattr(products.Product, "value", property(lambda product: pytest.fail("multiplied out")))
    codes_of(model, rows(3000))
