"""The other reader of a random network: NumPy float64, no torch operators, no hooks.

reader = Interpreter(points)
output = reader.network(ops)
reader.met   every nonlinearity in order: its name, its thresholds, its pre-activations
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import erf
from torch import Tensor

from tests.ops import Op

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Met:
    """One nonlinearity: the module that calls it, which call, its thresholds, z (n, *shape)."""

    module: str
    call: int
    thresholds: tuple[float, ...]
    z: Array


@dataclass(frozen=True)
class Windows:
    """One max-pool: which element of each window wins, k where the window is all zeros."""

    module: str
    winner: NDArray[np.int64]


class Interpreter:
    """Runs a network on points (n, *shape), float64."""

    def __init__(self, points: Tensor) -> None:
        self.points: Array = points.double().numpy().copy()
        self.met: list[Met] = []
        self.windows: list[Windows] = []

    def network(self, ops: tuple[Op, ...]) -> Array:
        """The output; fills `met` and `windows`."""
        x = self.points.copy()
        for k, op in enumerate(ops):
            x = self.step(f"blocks.{k}", op, x)
        return x

    def step(self, name: str, op: Op, x: Array) -> Array:
        """One op."""
        return STEPS[op.kind](self, name, op, x)

    def chain(self, name: str, ops: tuple[Op, ...], x: Array) -> Array:
        """Ops of an nn.Sequential."""
        for k, op in enumerate(ops):
            x = self.step(f"{name}.{k}", op, x)
        return x

    def meet(self, name: str, op: Op, z: Array) -> Array:
        """The nonlinearity of an op; in place when it is written so."""
        act = op.options["act"]
        if act is None:
            return z
        module = f"{name}.act" if act["style"].startswith("module") else name
        self.met.append(Met(module, 0, _thresholds(act), z.copy()))
        out = _activated(act, op.weights.get("slope"), z)
        if act["style"].endswith("inplace"):
            z[...] = out
            return z
        return out


def _thresholds(act: dict[str, Any]) -> tuple[float, ...]:
    if act["kind"] == "relu6":
        return (0.0, 6.0)
    if act["kind"] == "hardtanh":
        return (act["low"], act["high"])
    if act["kind"] == "clamp" and not act["style"].endswith("inplace"):
        return (0.0, act["high"])
    return (0.0,)


def _softplus(z: Array) -> Array:
    return np.where(z > 20, z, np.log1p(np.exp(np.minimum(z, 20))))


def _tanh_gelu(z: Array) -> Array:
    inner: Array = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)
    out: Array = 0.5 * z * (1 + np.tanh(inner))
    return out


def _activated(act: dict[str, Any], slope: NDArray[np.float32] | None, z: Array) -> Array:
    kind = act["kind"]
    if kind == "prelu":
        assert slope is not None
        a = slope.astype(np.float64).reshape(-1, *(1,) * (z.ndim - 2))
        return np.where(z > 0, z, a * z)
    if kind == "clamp":
        return np.maximum(z, 0) if act["style"].endswith("inplace") else np.clip(z, 0, act["high"])
    made: dict[str, Callable[[], Array]] = {
        "relu": lambda: np.maximum(z, 0),
        "leaky_relu": lambda: np.where(z > 0, z, act["slope"] * z),
        "relu6": lambda: np.clip(z, 0, 6),
        "hardtanh": lambda: np.clip(z, act["low"], act["high"]),
        "abs": lambda: np.abs(z),
        "gelu": lambda: 0.5 * z * (1 + erf(z / math.sqrt(2))),
        "gelu_tanh": lambda: _tanh_gelu(z),
        "silu": lambda: z / (1 + np.exp(-z)),
        "softplus": lambda: _softplus(z),
        "elu": lambda: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "mish": lambda: z * np.tanh(_softplus(z)),
    }
    return made[kind]()


def _layer(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    w = {k: v.astype(np.float64) for k, v in op.weights.items()}
    if "w" in w:
        x = x @ w["w"].T if w["w"].ndim == 2 else _convolved(x, w["w"], op.options)
        x = x + _channels(w["b"], x) if "b" in w else x
    if "gain" in w:
        x = (x - _channels(w["mean"], x)) / np.sqrt(_channels(w["var"], x) + 1e-5)
        x = x * _channels(w["gain"], x) + _channels(w["shift"], x)
    return self.meet(name, op, x)


def _channels(v: Array, x: Array) -> Array:
    return v.reshape(1, -1, *(1,) * (x.ndim - 2))


def _convolved(x: Array, w: Array, o: dict[str, Any]) -> Array:
    p, d, groups = o["padding"], o["dilation"], o["groups"]
    sides = ((0, 0), (0, 0), (p, p), (p, p))
    x = np.pad(x, sides, mode="reflect") if o["padding_mode"] == "reflect" else np.pad(x, sides)
    reach = tuple((k - 1) * d + 1 for k in w.shape[2:])
    windows = sliding_window_view(x, reach, (2, 3))[:, :, :: o["stride"], :: o["stride"], ::d, ::d]
    parts = zip(np.split(windows, groups, 1), np.split(w, groups, 0), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", a, b) for a, b in parts], 1)


def _residual(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    out = self.chain(f"{name}.body", op.parts[0], x)  # may overwrite x
    return self.meet(name, op, out + self.chain(f"{name}.shortcut", op.parts[1], x))


def _concat(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    parts = [self.chain(f"{name}.branches.{k}", part, x) for k, part in enumerate(op.parts)]
    return self.meet(name, op, np.concatenate(parts, 1))


def _two_sided(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    self.met += [Met(name, 0, (0.0,), x), Met(name, 1, (0.0,), -x)]
    return np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], 1)


def _gated(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    w = {k: v.astype(np.float64) for k, v in op.weights.items()}
    return (self.meet(name, op, x @ w["gate"].T) * (x @ w["up"].T)) @ w["down"].T


def _layer_norm(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    mean, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    normal: Array = (x - mean) / np.sqrt(var + 1e-5)
    return normal * op.weights["gain"] + op.weights["shift"]


def _pad(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    left, right, top, bottom = op.options["sides"]
    mode: Any = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[op.options["mode"]]
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode=mode)


def _flatten(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    return x.mean((2, 3)) if op.options["style"] == "mean" else x.reshape(len(x), -1)


def _outputs(size: int, o: dict[str, Any]) -> int:
    """Windows along an axis; with ceil_mode the last one must begin inside the input or its left padding."""
    span = size + 2 * o["padding"] - o["kernel"]
    if not o["ceil_mode"]:
        return 1 + int(span // o["stride"])
    count: int = 1 + math.ceil(span / o["stride"])
    return count - 1 if (count - 1) * o["stride"] >= size + o["padding"] else count


def _pool(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    o, (height, width) = op.options, x.shape[2:]
    k, p = o["kernel"], o["padding"]
    out: Array = np.empty((*x.shape[:2], _outputs(height, o), _outputs(width, o)))
    winner = np.empty(out.shape, np.int64)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            top, left = i * o["stride"] - p, j * o["stride"] - p
            rows, columns = (slice(max(a, 0), a + k) for a in (top, left))
            window = x[:, :, rows, columns]
            if op.kind == "avg_pool":
                padded = (min(top + k, height + p) - top) * (min(left + k, width + p) - left)
                area = padded if o.get("count_include_pad") else window[0, 0].size
                out[:, :, i, j] = window.sum((2, 3)) / area
                continue
            out[:, :, i, j] = window.max((2, 3))
            first = window.reshape(*window.shape[:2], -1).argmax(2)
            y, z = np.divmod(first, window.shape[3])
            index = (y + rows.start - top) * k + z + columns.start - left
            winner[:, :, i, j] = np.where((window == 0).all((2, 3)), k * k, index)
    if op.kind == "max_pool":
        self.windows.append(Windows(name, winner))
    return out


def _adaptive(self: Interpreter, name: str, op: Op, x: Array) -> Array:
    out: Array = np.empty((*x.shape[:2], *op.options["size"]))
    take = np.max if op.kind == "adaptive_max" else np.mean
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            rows, columns = (
                slice(at * size // outs, -(-(at + 1) * size // outs))
                for at, size, outs in ((i, x.shape[2], out.shape[2]), (j, x.shape[3], out.shape[3]))
            )
            out[:, :, i, j] = take(x[:, :, rows, columns], axis=(2, 3))
    return out


STEPS: dict[str, Callable[[Interpreter, str, Op, Array], Array]] = {
    "layer": _layer,
    "residual": _residual,
    "concat": _concat,
    "two_sided": _two_sided,
    "gated": _gated,
    "layer_norm": _layer_norm,
    "scale": lambda self, name, op, x: op.options["factor"] * x + op.options["shift"],
    "max_pool": _pool,
    "avg_pool": _pool,
    "adaptive_avg": _adaptive,
    "adaptive_max": _adaptive,
    "pad": _pad,
    "flatten": _flatten,
    "dropout": lambda self, name, op, x: x,
}
