"""Tails: what lies behind a module, run on points, on a model that stays as it is."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.errors import UsageError
from polykern.tail import Meeting, Tail, layers_table
from tests.engine.untouched import state
from tests.worlds import random_network


def proceed(meeting: Meeting) -> Any:
    return meeting.proceed()


def _dense(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _input_of(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """What the module gets when the model runs on x."""
    caught: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda module, args: caught.append(args[0].clone()))
    model(x)
    hook.remove()
    return caught[0]


@pytest.mark.parametrize("seed", range(40))
def test_the_tail_ends_where_the_model_ends(seed: int) -> None:
    """On the sample's own activation at any start, inner ones too, the tail's output is the model's."""
    network = random_network(seed, piecewise_linear=seed % 2 == 0)
    model, sample = network.model.double(), network.sample.double()
    expected = model(sample.clone())
    for start in network.starts + network.inner_starts:
        tail = Tail(model, sample.clone(), start)
        point = _input_of(model, start, sample.clone())
        assert tail.input_shape == point.shape[1:]
        assert tail.output_shape == expected.shape[1:]
        assert torch.equal(tail.run(point, proceed), expected), start


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_independent(seed: int) -> None:
    """Many points give, row by row, what each gives alone; also where branches beside the start are frozen."""
    network = random_network(seed)
    model = network.model.double()
    generator = torch.Generator().manual_seed(seed)
    for start in network.starts[-1:] + network.inner_starts[:3]:
        tail = Tail(model, network.sample.double(), start)
        points = torch.randn(5, *tail.input_shape, generator=generator, dtype=torch.float64)
        shapes: list[torch.Size] = []

        def reach(meeting: Meeting, shapes: list[torch.Size] = shapes) -> Any:
            assert meeting.field is not None
            shapes.append(meeting.z.shape)
            return meeting.proceed()

        together = tail.run(points.clone(), reach)
        assert shapes == [(5, *f.shape) for f in tail.layout.fields]
        alone = torch.cat([tail.run(p[None].clone(), proceed) for p in points])
        torch.testing.assert_close(together.expand_as(alone), alone, rtol=1e-12, atol=1e-12)


def test_what_comes_before_the_start_runs_once() -> None:
    model = _dense(3, 4, 5, 2)
    count = 0

    class Counted(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            nonlocal count
            count += 1
            out: Tensor = self.inner(x)
            return out

    model[0] = Counted(model[0]).eval()
    tail = Tail(model, torch.ones(1, 3), "2")
    for _ in range(3):
        tail.run(torch.randn(6, 4), proceed)
    assert count == 1


def test_stop_ends_the_forward() -> None:
    model = _dense(3, 4, 5, 2)
    tail = Tail(model, torch.ones(1, 3), "0", stop="3")
    assert [f.module for f in tail.layout.fields] == ["1", "3"]
    x = torch.randn(6, 3)
    assert torch.equal(tail.run(x, proceed), model[:4](x))
    assert tail.output_shape == (5,)


def test_no_output_ends_after_the_last_selected() -> None:
    model = _dense(3, 4, 5, 2)
    tail = Tail(model, torch.ones(1, 3), select=["1", "3"])
    model[4].register_forward_pre_hook(lambda module, args: pytest.fail("ran on"))
    assert tail.run(torch.randn(6, 3), proceed, output=False) is None


def test_reach_decides_what_flows_on() -> None:
    model = _dense(3, 4, 2)
    tail = Tail(model, torch.ones(1, 3))
    x = torch.randn(6, 3)
    linear = tail.run(x, lambda meeting: meeting.z)
    assert torch.allclose(linear, model[2](model[0](x)))


def test_other_calls_can_be_seen() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    seen: list[tuple[Any, str]] = []
    Tail(model, torch.ones(1, 1, 4, 4)).run(
        torch.ones(3, 1, 4, 4), proceed, called=lambda func, module, args, kwargs: seen.append((func, module))
    )
    assert (F.max_pool2d, "2") in seen
    assert F.relu not in [func for func, _ in seen]


def test_the_model_stays_as_it_is_when_all_goes_well_and_when_not() -> None:
    model = _dense(3, 4, 5, 2)
    before, weights = state(model), copy.deepcopy(model.state_dict())
    tail = Tail(model, torch.ones(1, 3), "2")
    tail.run(torch.randn(6, 4), proceed)

    def broken(meeting: Meeting) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        tail.run(torch.randn(6, 4), broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        tail.run(torch.randn(6, 7), proceed)
    assert state(model) == before
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), model.state_dict().values(), strict=True))
    assert model(torch.ones(1, 3)).shape == (1, 2)


class Aliased(nn.Module):
    """Overwrites in place what modules before the start gave, in the forward of the root itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 4), nn.LeakyReLU(0.5, inplace=True), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.first(x)
        F.leaky_relu_(h, 0.5)
        self.act(h)  # h itself is overwritten
        last: Tensor = self.last(h)
        return torch.relu(last) + h


def test_replays_keep_what_was_overwritten() -> None:
    torch.manual_seed(0)
    model = Aliased().eval().requires_grad_(False)
    x = torch.randn(1, 3)
    tail = Tail(model, x, "last")
    assert torch.equal(tail.run(_input_of(model, "last", x), proceed), model(x))


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, *, x: Tensor, scale: float = 1.0) -> Tensor:
        out: Tensor = self.inner(scale=scale, h=x)
        return out


class Inner(nn.Module):
    def forward(self, h: Tensor, scale: float) -> Tensor:
        return F.relu(h * scale)


def test_samples_are_tensors_tuples_or_keywords() -> None:
    points = torch.randn(4, 3)
    tail = Tail(Keyword().eval(), {"x": torch.ones(1, 3), "scale": -2.0})
    assert torch.equal(tail.run(points, proceed), (points * -2).relu())
    two = Tail(Inner().eval(), (torch.ones(1, 3), 3.0))
    assert torch.equal(two.run(points, proceed), (points * 3).relu())


def test_another_dtype_is_another_model() -> None:
    model = _dense(3, 4, 2)
    tail = Tail(model, torch.ones(1, 3), "2")
    double = tail.to(torch.float64)
    assert (tail.dtype, double.dtype, next(model.parameters()).dtype) == (
        torch.float32,
        torch.float64,
        torch.float32,
    )
    assert double.layout == tail.layout
    points = torch.randn(4, 4, dtype=torch.float64)
    assert torch.equal(double.run(points, proceed), copy.deepcopy(model).double()[2:](points))


def test_other_paths_are_refused() -> None:
    class Fork(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) if float(x.sum()) > 0 else -x

    tail = Tail(Fork().eval(), torch.ones(1, 3))
    with pytest.raises(UsageError, match="another path"):
        tail.run(-torch.ones(2, 3), proceed)

    class Narrow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x[:, : 2 + (float(x.sum()) > 0)])

    tail = Tail(Narrow().eval(), torch.ones(1, 3))
    with pytest.raises(UsageError, match=r"has shape \[2\], earlier \[3\]"):
        tail.run(-torch.ones(2, 3), proceed)


def test_what_is_missing_is_named() -> None:
    model, one = _dense(3, 4, 2), torch.ones(1, 3)
    net = nn.ModuleDict({"encoder": model})
    with pytest.raises(UsageError, match=r"'encodr'(.|\n)*nearest names: encoder"):
        Tail(net.eval(), one, "encodr")
    with pytest.raises(UsageError, match="no module '7'"):
        Tail(model, one, stop="7")
    with pytest.raises(UsageError, match="no nonlinearity between"):
        Tail(model, one, "2", stop="2")
    with pytest.raises(UsageError, match="training mode"):
        Tail(_dense(3, 4).train(), one)
    mixed = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()
    mixed[1].train()
    with pytest.raises(UsageError, match=r"1 is in training mode(.|\n)*depend on the batch"):
        Tail(mixed, one)
    unused = Keyword().eval()
    unused.beside = nn.Linear(1, 1).eval()
    with pytest.raises(UsageError, match="'beside' is not reached"):
        Tail(unused, {"x": one}, "beside")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_models_are_refused() -> None:
    with pytest.raises(UsageError, match="TorchScript"):
        Tail(nn.Sequential(torch.jit.script(_dense(3, 4))).eval(), torch.ones(1, 3))
    with pytest.raises(UsageError, match=r"torch\.compile"):
        Tail(torch.compile(_dense(3, 4)), torch.ones(1, 3))


def test_layers_table() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU6(), nn.Linear(4, 5), nn.GELU()).eval()
    first, second = layers_table(model, torch.ones(1, 3))
    assert first == {
        "module": "1", "call": 0, "name": "1", "lens": None, "kind": "relu6", "shape": [4],
        "thresholds": [0.0, 6.0], "bits": 8, "offset": 0,
    }  # fmt: skip
    assert (second["kind"], second["bits"], second["offset"]) == ("gelu", 5, 8)
    assert layers_table(model, torch.ones(1, 3), select="3")[0]["offset"] == 0
    assert [row["module"] for row in layers_table(model, torch.ones(1, 3), "2")] == ["3"]
