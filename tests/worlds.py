"""Networks to test on: random ones, written as plain data so that they can be read twice, and known ones.

`random_network(seed)` draws a small network as a tree of `Op`s and builds the torch module from it; another
reader of the same tree, `tests/interpreter.py`, computes it in NumPy float64 without torch. The known worlds have
polytopes in closed form: axis thresholds (a code is the digits of the point) and n random lines in the plane
(1 + n + n (n - 1) / 2 regions).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.ops import Net, Op, build

PIECEWISE_LINEAR = ("relu", "relu", "relu", "leaky_relu", "prelu", "relu6", "hardtanh", "abs", "clamp")
SMOOTH = ("gelu", "gelu_tanh", "silu", "softplus", "elu", "mish")
FOUR = ("module", "module_inplace", "functional", "functional_inplace")
STYLES = {
    "relu": (*FOUR, "torch", "method", "method_inplace"),
    **dict.fromkeys(("leaky_relu", "relu6", "hardtanh"), FOUR),
    "abs": ("torch", "method"),
    "clamp": ("torch", "torch_inplace"),
}
UNITS = (64, 800)  # all activations of a network together


@dataclass(frozen=True)
class Network:
    """A random network.

    model             nn.Module in eval mode, float32, on the CPU
    sample            float32 (1, *shape)
    ops               what it is made of, one for each module `blocks.k`
    starts            "" and the modules `blocks.k` that have nonlinearities at or behind them
    inner_starts      modules inside a residual body or a branch; what runs beside them is frozen at the sample
    piecewise_linear  whether it has polytopes
    """

    model: nn.Module
    sample: Tensor
    ops: tuple[Op, ...]
    starts: tuple[str, ...]
    inner_starts: tuple[str, ...]
    piecewise_linear: bool

    def points(self, n: int, seed: int = 0) -> Tensor:
        """float32 (n, *shape): random points about the sample."""
        generator = torch.Generator().manual_seed(seed)
        return self.sample + torch.randn(n, *self.sample.shape[1:], generator=generator)


def random_network(seed: int, piecewise_linear: bool = True) -> Network:
    """The network of this seed: 2 to 6 blocks, 64 to 800 units; the same on every machine."""
    for attempt in range(1000):
        rng = np.random.default_rng((seed, attempt))
        network = _Draw(rng, piecewise_linear).network()
        if network is not None:
            return network
    raise AssertionError(f"seed {seed} gives no network within {UNITS}")


# --- drawing ---------------------------------------------------------------------------------------


class _Draw:
    """Draws ops while a sample flows through them, so that every shape is known."""

    def __init__(self, rng: np.random.Generator, piecewise_linear: bool) -> None:
        self.rng, self.piecewise_linear = rng, piecewise_linear
        self.units = 0

    def network(self) -> Network | None:
        """A network, or None when the draw is too small or too large."""
        rng = self.rng
        spatial = rng.random() < 0.7
        shape = (
            (int(rng.integers(1, 4)), *map(int, rng.integers(5, 9, 2))) if spatial else (int(rng.integers(2, 9)),)
        )
        sample = torch.from_numpy(rng.normal(size=(1, *shape)).astype(np.float32))
        x, ops = sample, []
        for _ in range(int(rng.integers(2, 7))):
            ops.append(self.block(x))
            x = self.through((ops[-1],), x)
            if self.units > UNITS[1]:
                return None
            if x.ndim == 4 and rng.random() < 0.15:
                ops.append(self.flatten(x))
                x = self.through((ops[-1],), x)
        if x.ndim == 4:
            ops.append(self.flatten(x))
            x = self.through((ops[-1],), x)
        if rng.random() < 0.85:
            ops.append(self.layer(x, outs=int(rng.integers(2, 6)), act=False))
        if self.units < UNITS[0] or self.units > UNITS[1]:
            return None
        model = Net([build(op) for op in ops]).eval().requires_grad_(False)
        last = max(k for k, op in enumerate(ops) if _has_activation(op))
        starts = ("", *(f"blocks.{k}" for k in range(last + 1)))
        inner = tuple(name for k in range(last + 1) for name in _inner(f"blocks.{k}", ops[k]))
        return Network(model, sample, tuple(ops), starts, inner, self.piecewise_linear)

    def through(self, ops: Sequence[Op], x: Tensor) -> Tensor:
        """What the ops make of x."""
        with torch.no_grad():
            for op in ops:
                x = build(op)(x.clone())
        return x

    def block(self, x: Tensor) -> Op:
        """One block for an x of this shape."""
        if x.ndim == 2:
            kinds = {"layer": 6, "residual": 2, "concat": 1, "two_sided": 0.5, "dropout": 0.3, "scale": 0.3}
            if not self.piecewise_linear:
                kinds |= {"gated": 2, "layer_norm": 1}
        else:
            kinds = {"layer": 5, "residual": 2, "concat": 2, "max_pool": 1.5, "avg_pool": 0.7, "adaptive_avg": 0.5,
                     "adaptive_max": 0.3, "pad": 0.5, "two_sided": 0.4, "scale": 0.2}  # fmt: skip
        weights = np.array(list(kinds.values()))
        kind = str(self.rng.choice(list(kinds), p=weights / weights.sum()))
        return self.draw(kind, x)

    def draw(self, kind: str, x: Tensor) -> Op:
        """An op of this kind."""
        rng = self.rng
        if kind in ("max_pool", "avg_pool", "adaptive_avg", "adaptive_max"):
            return self.pool(kind, x)
        if kind == "two_sided":
            self.units += 2 * x[0].numel()
            return Op(kind)
        if kind == "dropout":
            return Op(kind)
        if kind == "scale":
            return Op(
                kind, {"factor": float(rng.choice([-1.0, 0.5, 2.0])), "shift": float(rng.choice([0.0, 0.25]))}
            )
        if kind == "pad":
            mode = str(rng.choice(["constant", "reflect", "replicate"] if min(x.shape[2:]) > 1 else ["constant"]))
            sides = tuple(int(s) for s in rng.integers(0, 2, 4))
            return Op(kind, {"sides": sides, "mode": mode, "functional": self.coin()})
        if kind == "layer_norm":
            return Op(kind, {}, {"gain": self.normal(x.shape[1], about=1), "shift": self.normal(x.shape[1])})
        draws: dict[str, Callable[[Tensor], Op]] = {
            "layer": self.layer,
            "residual": self.residual,
            "concat": self.concat,
            "gated": self.gated,
        }
        return draws[kind](x)

    def coin(self, chance: float = 0.5) -> bool:
        """True with this chance."""
        return bool(self.rng.random() < chance)

    def normal(self, *shape: int, about: float = 0.0, scale: float = 0.3) -> NDArray[np.float32]:
        """Normal float32 numbers."""
        return (about + scale * self.rng.normal(size=shape)).astype(np.float32)

    def activation(self, shape: Sequence[int]) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """How a nonlinearity is written, and its weights; shape without the batch axis."""
        rng = self.rng
        kind = str(rng.choice(PIECEWISE_LINEAR if self.piecewise_linear or self.coin(0.4) else SMOOTH))
        styles = STYLES.get(kind, ("module", "functional"))
        act: dict[str, Any] = {"kind": kind, "style": str(rng.choice(styles))}
        weights: dict[str, NDArray[np.float32]] = {}
        if kind == "leaky_relu":
            act["slope"] = float(rng.choice([0.01, 0.2, -0.5]))
        elif kind == "hardtanh":
            act["low"], act["high"] = (float(b) for b in rng.choice([[-1.0, 1.0], [-0.5, 0.75], [0.0, 6.0]]))
        elif kind == "clamp":
            act["high"] = float(rng.choice([0.5, 1.5]))
        elif kind == "prelu":
            weights["slope"] = self.normal(shape[0] if self.coin() else 1)
        self.units += math.prod(shape)
        return act, weights

    def perhaps(
        self, chance: float, shape: Sequence[int]
    ) -> tuple[dict[str, Any] | None, dict[str, NDArray[np.float32]]]:
        """An activation with this chance."""
        return self.activation(shape) if self.coin(chance) else (None, {})

    def layer(self, x: Tensor, outs: int | None = None, act: bool = True, same: bool = False) -> Op:
        """Linear or convolution; `same` keeps the size of the picture."""
        rng = self.rng
        options: dict[str, Any] = {"act": None}
        if x.ndim == 2:
            weights = self.dense(outs or int(rng.integers(12, 65)), x.shape[1])
        else:
            weights = self.convolution(x, outs or int(rng.integers(2, 7)), options, same)
        channels = weights["w"].shape[0]
        if act and self.coin(0.4):
            weights |= {"gain": self.normal(channels, about=1), "shift": self.normal(channels),
                        "mean": self.normal(channels), "var": np.exp(self.normal(channels, scale=0.7))}  # fmt: skip
        elif self.coin(0.9):
            weights["b"] = self.normal(channels)
        if act:
            shape = self.through((Op("layer", options, weights),), x).shape[1:]
            options["act"], slope = self.activation(shape)
            weights |= slope
        return Op("layer", options, weights)

    def dense(self, outs: int, ins: int) -> dict[str, NDArray[np.float32]]:
        """The weight of a linear layer."""
        return {"w": self.normal(outs, ins, scale=math.sqrt(2 / ins))}

    def convolution(
        self, x: Tensor, outs: int, options: dict[str, Any], same: bool
    ) -> dict[str, NDArray[np.float32]]:
        """The weight of a convolution; fills in its options."""
        rng = self.rng
        ins, smallest = x.shape[1], min(x.shape[2:])
        kernel = int(rng.choice([1, 2, 3]))
        kernel = 2 * (kernel // 2) + 1 if same else min(kernel, smallest)
        dilation = 2 if kernel > 1 and self.coin(0.15) and smallest >= 5 else 1
        padding = dilation * (kernel // 2) if same else int(rng.integers(0, 2))
        stride = 1 if same or smallest < 4 else int(rng.choice([1, 1, 2]))
        mode = "reflect" if 0 < padding < smallest and self.coin(0.15) else "zeros"
        groups = ins if self.coin(0.15) else 1
        outs = -(-outs // groups) * groups if not same else outs
        groups = groups if outs % groups == 0 else 1
        options |= {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "padding_mode": mode,
        }
        fan = kernel * kernel * ins // groups
        return {"w": self.normal(outs, ins // groups, kernel, kernel, scale=math.sqrt(2 / fan))}

    def residual(self, x: Tensor) -> Op:
        """x + body(x); the body may begin with a nonlinearity that overwrites x."""
        outs = x.shape[1] if self.coin(0.6) else int(self.rng.integers(2, 6))
        body: list[Op] = []
        if self.coin(0.3):
            first, weights = self.activation(x.shape[1:])
            body.append(Op("layer", {"act": first}, weights))
        body.append(self.layer(x, outs=None if self.coin() else outs, same=True))
        body.append(self.layer(self.through(body, x), outs=outs, act=self.coin(0.3), same=True))
        shortcut = () if outs == x.shape[1] else (self.layer(x, outs=outs, act=False, same=True),)
        out_shape = self.through(body, x).shape[1:]
        act, slope = self.perhaps(0.8, out_shape)
        return Op("residual", {"act": act, "in_place": self.coin()}, slope, (tuple(body), shortcut))

    def concat(self, x: Tensor) -> Op:
        """Two or three branches, some of them pooled first."""
        branches: list[tuple[Op, ...]] = []
        for k in range(int(self.rng.integers(2, 4))):
            branch: list[Op] = []
            if x.ndim == 4 and k == 1 and self.coin():
                pool = {"kernel": 3, "stride": 1, "padding": 1, "ceil_mode": self.coin(), "functional": self.coin()}
                branch.append(Op("max_pool", pool))
            branch.append(self.layer(x, outs=int(self.rng.integers(1, 4)), act=self.coin(0.8), same=True))
            if self.coin(0.3):
                branch.append(self.layer(self.through(branch, x), outs=2, same=True))
            branches.append(tuple(branch))
        if self.coin(0.2):
            branches.append(())  # x itself
        out_shape = (sum(self.through(b, x).shape[1] for b in branches), *x.shape[2:])
        act, slope = self.perhaps(0.2, out_shape)
        return Op("concat", {"act": act}, slope, tuple(branches))

    def gated(self, x: Tensor) -> Op:
        """A gated MLP."""
        width, hidden = x.shape[1], int(self.rng.integers(12, 49))
        weights = {
            "gate": self.dense(hidden, width)["w"],
            "up": self.dense(hidden, width)["w"],
            "down": self.dense(width, hidden)["w"],
        }
        self.units += hidden
        return Op(
            "gated", {"act": {"kind": str(self.rng.choice(["silu", "gelu"])), "style": "functional"}}, weights
        )

    def pool(self, kind: str, x: Tensor) -> Op:
        """A pool; its windows may overlap, stick out and be padded."""
        rng = self.rng
        smallest = min(x.shape[2:])
        if kind.startswith("adaptive"):
            size = tuple(int(rng.integers(1, s + 1)) for s in x.shape[2:])
            return Op(kind, {"size": size, "functional": self.coin()})
        kernel = min(int(rng.choice([2, 3])), smallest)
        options = {
            "kernel": kernel,
            "stride": int(rng.integers(1, 4)),
            "padding": int(rng.integers(0, kernel // 2 + 1)),
            "ceil_mode": self.coin(),
            "functional": self.coin(),
            "count_include_pad": self.coin(),
        }
        return Op(kind, options)

    def flatten(self, x: Tensor) -> Op:
        """(n, c, h, w) -> (n, units)."""
        return Op("flatten", {"style": str(self.rng.choice(["module", "torch", "view", "mean"]))})


def _has_activation(op: Op) -> bool:
    inside = any(_has_activation(p) for part in op.parts for p in part)
    return inside or op.kind == "two_sided" or op.options.get("act") is not None


def _inner(name: str, op: Op) -> Iterator[str]:
    """Modules inside a block that have a nonlinearity at or behind them within the block."""
    folders = ["body", "shortcut"] if op.kind == "residual" else [f"branches.{k}" for k in range(len(op.parts))]
    for folder, part in zip(folders, op.parts, strict=False):
        for k in range(len(part)):
            if op.options["act"] is not None or any(map(_has_activation, part[k:])):
                yield f"{name}.{folder}.{k}"


# --- known worlds -----------------------------------------------------------------------------------


def axis_thresholds(thresholds: Sequence[Sequence[float]]) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """A ReLU layer with one unit for every threshold of every axis, and the bits of a point by comparison.

    thresholds  one list for every axis of the space
    returns     a model (n, axes) -> (n, units) in float64, and bits(points) -> bool (n, units)
    """
    axis = torch.tensor([k for k, cuts in enumerate(thresholds) for _ in cuts])
    cut = torch.tensor([t for cuts in thresholds for t in cuts], dtype=torch.float64)
    linear = nn.Linear(len(thresholds), len(cut), dtype=torch.float64).requires_grad_(False)
    linear.weight.copy_(F.one_hot(axis, len(thresholds)))
    linear.bias.copy_(-cut)
    return nn.Sequential(linear, nn.ReLU()).eval(), lambda points: points[:, axis] > cut


@dataclass(frozen=True)
class Lines:
    """n random lines in general position: the units of one ReLU layer.

    model    (points, 2) -> (points, n), float64
    normals  (n, 2), unit length;  offsets (n,): line k is normals[k] . x = offsets[k]
    regions  1 + n + n (n - 1) / 2
    """

    model: nn.Module
    normals: Tensor
    offsets: Tensor
    regions: int

    def crossings(self, a: Tensor, b: Tensor) -> Tensor:
        """bool (n,): the lines between two points (2,)."""
        return (self.normals @ a > self.offsets) != (self.normals @ b > self.offsets)

    def vertices(self) -> Tensor:
        """float64 (n (n - 1) / 2, 2): where two lines meet."""
        i, j = torch.triu_indices(len(self.normals), len(self.normals), 1)
        sides = torch.stack([self.offsets[i], self.offsets[j]], 1)
        meet: Tensor = torch.linalg.solve(torch.stack([self.normals[i], self.normals[j]], 1), sides)
        return meet


def random_lines(n: int, seed: int = 0) -> Lines:
    """n lines with random directions at normal distances from the origin."""
    rng = np.random.default_rng(seed)
    angle = torch.from_numpy(rng.uniform(0, 2 * np.pi, n))
    offsets = torch.from_numpy(rng.normal(size=n))
    normals = torch.stack([angle.cos(), angle.sin()], 1)
    linear = nn.Linear(2, n, dtype=torch.float64).requires_grad_(False)
    linear.weight.copy_(normals)
    linear.bias.copy_(-offsets)
    return Lines(nn.Sequential(linear, nn.ReLU()).eval(), normals, offsets, 1 + n + n * (n - 1) // 2)
