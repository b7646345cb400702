"""Every recognised call: its kinks and slopes are those of the torch function, and so is what it overwrites."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.activations import MODULES, RECOGNISERS, Activation, in_place, recognise
from polykern.tail import Tail

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]
T = torch.Tensor
PIECEWISE: list[Call] = [
    (F.relu, (), {}),
    (F.relu, (), {"inplace": True}),
    (torch.relu, (), {}),
    (torch.relu_, (), {}),
    (T.relu, (), {}),
    (T.relu_, (), {}),
    (F.relu6, (), {}),
    (F.relu6, (True,), {}),
    (F.leaky_relu, (), {}),
    (F.leaky_relu, (0.3, True), {}),
    (F.leaky_relu, (), {"negative_slope": -0.2}),
    (F.leaky_relu_, (0.1,), {}),
    (F.prelu, (torch.tensor([0.3]),), {}),
    (F.prelu, (torch.linspace(-1, 1, 5),), {}),
    (F.hardtanh, (), {}),
    (F.hardtanh, (-0.5, 0.75), {"inplace": True}),
    (F.hardtanh, (0.0, 6.0), {}),
    (F.hardtanh_, (), {}),
    (F.rrelu, (), {}),
    (F.rrelu, (0.1, 0.3), {"inplace": True}),
    (F.rrelu_, (0.1, 0.3), {}),
    (F.softshrink, (), {}),
    (F.softshrink, (0.25,), {}),
    (F.threshold, (0, 0), {}),
    (torch.threshold, (0, 0), {}),
    (torch.threshold_, (0, 0), {}),
    (torch.abs, (), {}),
    (T.abs, (), {}),
    (T.abs_, (), {}),
    (T.__abs__, (), {}),
    (torch.absolute, (), {}),
    (T.absolute, (), {}),
    (T.absolute_, (), {}),
    (torch.clamp, (), {"min": 0}),
    (torch.clamp, (0, 1.5), {}),
    (torch.clip, (0.0,), {}),
    (T.clamp, (), {"min": 0.0, "max": 2.0}),
    (T.clamp_, (0,), {}),
    (T.clip_, (0,), {}),
    (T.clamp_min, (0,), {}),
    (T.clamp_min_, (0,), {}),
    (torch.clamp_min, (0,), {}),
]
SMOOTH: list[Call] = [
    (F.gelu, (), {}),
    (F.gelu, (), {"approximate": "tanh"}),
    (F.silu, (), {}),
    (F.silu, (True,), {}),
    (F.mish, (), {}),
    (F.mish, (), {"inplace": True}),
    (F.softplus, (), {}),
    (F.elu, (), {}),
    (F.elu, (1.0, True), {}),
    (F.elu_, (), {}),
    (F.celu, (), {}),
    (F.celu, (), {"inplace": True}),
    (F.selu, (), {}),
    (F.selu, (True,), {}),
    (F.hardswish, (), {}),
    (F.hardswish, (True,), {}),
    (F.logsigmoid, (), {}),
]


def _z() -> Tensor:
    """(3, 5, 7): both sides of every kink."""
    return 4 * torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1))


def _name(call: Call) -> str:
    return f"{call[0].__name__}{call[1] if not any(isinstance(a, Tensor) for a in call[1]) else ''}{call[2] or ''}"


def _formula(activation: Activation, z: Tensor) -> Tensor:
    """f(z) = value + slopes[0] (z - t0) + sum_k (slopes[k + 1] - slopes[k]) relu(z - t_k)."""
    assert activation.slopes is not None
    slopes, kinks = activation.slopes, activation.thresholds
    assert len(slopes) == len(kinks) + 1
    out = activation.value + slopes[0] * (z - kinks[0])
    for k, kink in enumerate(kinks):
        out = out + (slopes[k + 1] - slopes[k]) * (z - kink).clamp(min=0)
    return out


@pytest.mark.parametrize("call", PIECEWISE, ids=_name)
def test_slopes_are_those_of_the_function(call: Call) -> None:
    func, args, kwargs = call
    z = _z()
    activation = recognise(func, (z, *args), kwargs)
    assert activation is not None
    assert activation.piecewise_linear
    torch.testing.assert_close(_formula(activation, z), func(z.clone(), *args, **kwargs))


@pytest.mark.parametrize("call", PIECEWISE, ids=_name)
def test_pieces_are_those_of_the_function(call: Call) -> None:
    func, args, kwargs = call
    z = _z()
    activation = recognise(func, (z, *args), kwargs)
    assert activation is not None
    slope, shift = activation.piece(z)
    torch.testing.assert_close(slope * z + shift, func(z.clone(), *args, **kwargs))
    below, _ = activation.piece(torch.full_like(z, activation.thresholds[0]))
    assert activation.slopes is not None
    assert torch.equal(below, torch.as_tensor(activation.slopes[0]).expand_as(below))


@pytest.mark.parametrize("call", SMOOTH, ids=_name)
def test_gates_times_inputs_are_the_function(call: Call) -> None:
    func, args, kwargs = call
    z = _z().double()
    before = z.clone()
    activation = recognise(func, (z, *args), kwargs)
    assert activation is not None
    assert activation.function is not None
    expected = func(before.clone(), *args, **kwargs)
    torch.testing.assert_close(activation.function(z), expected)
    assert torch.equal(z, before)
    if activation.kind in ("softplus", "logsigmoid"):
        with pytest.raises(ValueError, match="no product of its input and a gate"):
            activation.gate(z)
        return
    torch.testing.assert_close(activation.gate(z) * z, expected)
    near = activation.gate(torch.tensor([-1e-7, 0.0], dtype=torch.float64))
    assert abs(float(near[0] - near[1])) < 1e-6


@pytest.mark.parametrize("call", SMOOTH, ids=_name)
def test_smooth_activations_have_no_slopes(call: Call) -> None:
    func, args, kwargs = call
    activation = recognise(func, (_z(), *args), kwargs)
    assert activation is not None
    assert not activation.piecewise_linear
    assert activation.thresholds == (0.0,)


@pytest.mark.parametrize("call", PIECEWISE + SMOOTH, ids=_name)
def test_in_place_is_told_from_the_call(call: Call) -> None:
    func, args, kwargs = call
    before = _z()
    after = before.clone()
    func(after, *args, **kwargs)
    assert in_place(func, (before, *args), kwargs) == (not torch.equal(before, after))


def test_every_recogniser_is_tested() -> None:
    tested = {call[0] for call in PIECEWISE + SMOOTH}
    spellings = {f.__name__.rstrip("_").removeprefix("__") for f in tested}
    untested = [f for f in RECOGNISERS if f not in tested and f.__name__.rstrip("_") not in spellings]
    assert untested == []


@pytest.mark.parametrize(
    ("func", "args", "kwargs"),
    [
        (torch.clamp, (), {"max": 1.0}),
        (torch.clamp, (1e-6,), {}),
        (torch.clamp, (-1, 1), {}),
        (torch.clamp, (), {"min": torch.zeros(7)}),
        (F.threshold, (0.5, 0.0), {}),
        (F.threshold, (0.0, 1.0), {}),
        (F.rrelu, (), {"training": True}),
        (torch.tanh, (), {}),
        (torch.add, (1,), {}),
    ],
)
def test_other_calls_are_none(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert recognise(func, (_z(), *args), kwargs) is None


MODULE_KINDS: list[tuple[Callable[[], nn.Module], str, tuple[float, ...]]] = [
    (nn.ReLU, "relu", (0.0,)),
    (lambda: nn.ReLU(True), "relu", (0.0,)),
    (nn.ReLU6, "relu6", (0.0, 6.0)),
    (nn.LeakyReLU, "leaky_relu", (0.0,)),
    (lambda: nn.PReLU(4), "prelu", (0.0,)),
    (nn.Hardtanh, "hardtanh", (-1.0, 1.0)),
    (nn.RReLU, "leaky_relu", (0.0,)),
    (nn.Softshrink, "softshrink", (-0.5, 0.5)),
    (lambda: nn.Threshold(0, 0), "relu", (0.0,)),
    (nn.GELU, "gelu", (0.0,)),
    (nn.SiLU, "silu", (0.0,)),
    (nn.Mish, "mish", (0.0,)),
    (nn.Softplus, "softplus", (0.0,)),
    (nn.ELU, "elu", (0.0,)),
    (nn.CELU, "celu", (0.0,)),
    (nn.SELU, "selu", (0.0,)),
    (nn.Hardswish, "hardswish", (0.0,)),
    (nn.LogSigmoid, "logsigmoid", (0.0,)),
]


@pytest.mark.parametrize(("make", "kind", "thresholds"), MODULE_KINDS, ids=[k for _, k, _ in MODULE_KINDS])
def test_modules_are_met_once(make: Callable[[], nn.Module], kind: str, thresholds: tuple[float, ...]) -> None:
    model = nn.Sequential(nn.Linear(3, 4), make()).eval()
    (field,) = Tail(model, torch.ones(1, 3)).layout.fields
    assert (field.module, field.call, field.kind, field.thresholds) == ("1", 0, kind, thresholds)


def test_written_out_activations_exist() -> None:
    activations = pytest.importorskip("transformers.activations")
    here = [name for name in MODULES if hasattr(activations, name)]
    assert {"NewGELUActivation", "QuickGELUActivation", "GELUTanh"} <= set(here)
