"""Steps of a network as plain data, and the torch module that each one is.

`tests/interpreter.py` reads the same data without torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class Op:
    """One step of a network: its kind, its choices, its float32 weights and the steps inside it."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    parts: tuple[tuple["Op", ...], ...] = ()


class Net(nn.Module):
    """Its blocks one behind the other."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Activate(nn.Module):
    """Mixin for a nonlinearity written as a module, a function, a method, in place or not."""

    def choose(self, act: dict[str, Any] | None, weight: NDArray[np.float32] | None) -> None:
        self.written = act
        if act is not None and act["style"].startswith("module"):
            self.act = activation_module(act, weight)
        elif act is not None and act["kind"] == "prelu":
            assert weight is not None
            self.weight = nn.Parameter(torch.from_numpy(weight.copy()))

    def activate(self, x: Tensor) -> Tensor:
        act = self.written
        if act is None:
            return x
        if act["style"].startswith("module"):
            activated: Tensor = self.act(x)
            return activated
        if act["kind"] == "prelu":
            return F.prelu(x, self.weight)
        return FUNCTIONS[act["kind"]](x, act)


def _relu(x: Tensor, act: dict[str, Any]) -> Tensor:
    styles: dict[str, Callable[[Tensor], Tensor]] = {
        "functional": F.relu,
        "functional_inplace": lambda z: F.relu(z, inplace=True),
        "torch": torch.relu,
        "method": lambda z: z.relu(),
        "method_inplace": lambda z: z.relu_(),
    }
    return styles[act["style"]](x)


FUNCTIONS: dict[str, Callable[[Tensor, dict[str, Any]], Tensor]] = {
    "relu": _relu,
    "leaky_relu": lambda x, a: F.leaky_relu(x, a["slope"], a["style"].endswith("inplace")),
    "relu6": lambda x, a: F.relu6(x, a["style"].endswith("inplace")),
    "hardtanh": lambda x, a: F.hardtanh(x, a["low"], a["high"], a["style"].endswith("inplace")),
    "abs": lambda x, a: x.abs() if a["style"] == "method" else torch.abs(x),
    "clamp": lambda x, a: x.clamp_(min=0) if a["style"].endswith("inplace") else torch.clamp(x, 0, a["high"]),
    "gelu": lambda x, a: F.gelu(x),
    "gelu_tanh": lambda x, a: F.gelu(x, approximate="tanh"),
    "silu": lambda x, a: F.silu(x),
    "softplus": lambda x, a: F.softplus(x),
    "elu": lambda x, a: F.elu(x),
    "mish": lambda x, a: F.mish(x),
}


def activation_module(act: dict[str, Any], weight: NDArray[np.float32] | None) -> nn.Module:
    """nn.ReLU and its kin."""
    inplace = act["style"].endswith("inplace")
    kind = act["kind"]
    if kind == "prelu":
        assert weight is not None
        module = nn.PReLU(weight.size)
        module.weight.data = torch.from_numpy(weight.copy())
        return module
    made: dict[str, Callable[[], nn.Module]] = {
        "relu": lambda: nn.ReLU(inplace),
        "leaky_relu": lambda: nn.LeakyReLU(act["slope"], inplace),
        "relu6": lambda: nn.ReLU6(inplace),
        "hardtanh": lambda: nn.Hardtanh(act["low"], act["high"], inplace),
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU("tanh"),
        "silu": nn.SiLU,
        "softplus": nn.Softplus,
        "elu": nn.ELU,
        "mish": nn.Mish,
    }
    return made[kind]()


class Layer(Activate):
    """Linear or convolution, batch norm, nonlinearity: each may be missing but one."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        o, w = op.options, op.weights
        if "w" in w:
            self.linear = _linear(o, w)
        if "gain" in w:
            self.norm = _batch_norm(w, w["w"].ndim if "w" in w else o["axes"])
        self.choose(o["act"], w.get("slope"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x) if hasattr(self, "linear") else x
        x = self.norm(x) if hasattr(self, "norm") else x
        return self.activate(x)


def _linear(o: dict[str, Any], w: dict[str, NDArray[np.float32]]) -> nn.Module:
    outs, ins = w["w"].shape[:2]
    module: nn.Linear | nn.Conv2d
    if w["w"].ndim == 2:
        module = nn.Linear(ins, outs, bias="b" in w)
    else:
        conv = {k: o[k] for k in ("stride", "padding", "dilation", "groups", "padding_mode")}
        module = nn.Conv2d(ins * o["groups"], outs, tuple(w["w"].shape[2:]), bias="b" in w, **conv)
    module.weight.data = torch.from_numpy(w["w"].copy())
    if module.bias is not None:
        module.bias.data = torch.from_numpy(w["b"].copy())
    return module


def _batch_norm(w: dict[str, NDArray[np.float32]], axes: int) -> nn.Module:
    norm: nn.BatchNorm1d | nn.BatchNorm2d = (nn.BatchNorm1d if axes == 2 else nn.BatchNorm2d)(w["gain"].size)
    norm.weight.data, norm.bias.data = torch.from_numpy(w["gain"].copy()), torch.from_numpy(w["shift"].copy())
    norm.running_mean, norm.running_var = torch.from_numpy(w["mean"].copy()), torch.from_numpy(w["var"].copy())
    return norm


class Residual(Activate):
    """body(x) + shortcut(x), then a nonlinearity."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.body = nn.Sequential(*map(build, op.parts[0]))
        self.shortcut = nn.Sequential(*map(build, op.parts[1]))
        self.in_place = op.options["in_place"]
        self.choose(op.options["act"], op.weights.get("slope"))

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        if self.in_place:
            out += self.shortcut(x)
        else:
            out = out + self.shortcut(x)
        return self.activate(out)


class Concat(Activate):
    """Branches side by side along the channels, then a nonlinearity."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*map(build, part)) for part in op.parts)
        self.choose(op.options["act"], op.weights.get("slope"))

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(torch.cat([branch(x) for branch in self.branches], 1))


class TwoSided(nn.Module):
    """relu(x) and relu(-x) side by side: two nonlinearities in one module."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(x), F.relu(-x)], dim=1)


class Gated(nn.Module):
    """down(act(gate(x)) * up(x)): the MLP of Llama."""

    def __init__(self, op: Op) -> None:
        super().__init__()
        self.gate, self.up, self.down = (_linear({}, {"w": op.weights[k]}) for k in ("gate", "up", "down"))
        self.act = op.options["act"]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(FUNCTIONS[self.act["kind"]](self.gate(x), self.act) * self.up(x))
        return out


class Apply(nn.Module):
    """A functional call as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _layer_norm(op: Op) -> nn.Module:
    norm = nn.LayerNorm(op.weights["gain"].size)
    norm.weight.data = torch.from_numpy(op.weights["gain"].copy())
    norm.bias.data = torch.from_numpy(op.weights["shift"].copy())
    return norm


def _pool(op: Op) -> nn.Module:
    o = op.options
    if op.kind.startswith("adaptive"):
        made = nn.AdaptiveMaxPool2d if op.kind == "adaptive_max" else nn.AdaptiveAvgPool2d
        function: Any = F.adaptive_max_pool2d if op.kind == "adaptive_max" else F.adaptive_avg_pool2d
        return Apply(lambda x: function(x, o["size"])) if o["functional"] else made(o["size"])
    call = {k: o[k] for k in ("stride", "padding", "ceil_mode")}
    if op.kind == "max_pool":
        return (
            Apply(lambda x: F.max_pool2d(x, o["kernel"], **call))
            if o["functional"]
            else nn.MaxPool2d(o["kernel"], **call)
        )
    call["count_include_pad"] = o["count_include_pad"]
    return (
        Apply(lambda x: F.avg_pool2d(x, o["kernel"], **call))
        if o["functional"]
        else nn.AvgPool2d(o["kernel"], **call)
    )


def _pad(op: Op) -> nn.Module:
    sides, mode = op.options["sides"], op.options["mode"]  # left, right, top, bottom
    if op.options["functional"]:
        return Apply(lambda x: F.pad(x, sides, mode=mode))
    return {"constant": nn.ZeroPad2d, "reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d}[mode](sides)


def _flatten(op: Op) -> nn.Module:
    written: dict[str, Callable[[], nn.Module]] = {
        "module": nn.Flatten,
        "torch": lambda: Apply(lambda x: torch.flatten(x, 1)),
        "view": lambda: Apply(lambda x: x.view(x.shape[0], -1)),
        "mean": lambda: Apply(lambda x: x.mean((2, 3))),
    }
    return written[op.options["style"]]()


BUILDERS: dict[str, Callable[[Op], nn.Module]] = {
    "layer": Layer,
    "residual": Residual,
    "concat": Concat,
    "two_sided": lambda op: TwoSided(),
    "gated": Gated,
    "layer_norm": _layer_norm,
    "scale": lambda op: Apply(lambda x: op.options["factor"] * x + op.options["shift"]),
    **dict.fromkeys(("max_pool", "avg_pool", "adaptive_avg", "adaptive_max"), _pool),
    "pad": _pad,
    "flatten": _flatten,
    "dropout": lambda op: nn.Dropout(0.5),
}


def build(op: Op) -> nn.Module:
    """The torch module of one op, in eval mode."""
    return BUILDERS[op.kind](op).eval()
