"""The nonlinearities: which torch calls are one, and the kinks that become bits.

A piecewise-linear activation is  f(z) = value + slopes[0] (z - t0) + sum_k (slopes[k+1] - slopes[k]) relu(z - t_k)
with thresholds t0 < t1 < ... and value = f(t0). A smooth one (GELU, SiLU, ...) has a code - the sign of its
pre-activation, Black et al. 2022, appendix C - but no slopes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Activation:
    """One nonlinearity applied to every unit alone.

    kind        its name: "relu", "leaky_relu", "prelu", "relu6", "hardtanh", "gelu", "silu", ...
    thresholds  where its bits switch
    slopes      len(thresholds) + 1 slopes, numbers or tensors that broadcast over the units
                (PReLU: one a channel); None for a smooth activation
    value       f(thresholds[0])
    function    a smooth one as a function of tensors, never in place; None where it is not known
    """

    kind: str
    thresholds: tuple[float, ...] = (0.0,)
    slopes: tuple[float | Tensor, ...] | None = None
    value: float = 0.0
    function: Callable[[Tensor], Tensor] | None = field(default=None, compare=False, repr=False)

    @property
    def piecewise_linear(self) -> bool:
        """Whether it has slopes, so that a network of it has polytopes."""
        return self.slopes is not None

    @property
    def numbers(self) -> list[float] | None:
        """Its slopes, or None when it is smooth or they differ from unit to unit."""
        slopes = self.slopes
        if slopes is None or any(isinstance(s, Tensor) and s.numel() > 1 for s in slopes):
            return None
        return [float(s) for s in slopes]

    def piece(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The piece that each z lies on, of a piecewise-linear one: slope and shift with f(z) = slope z + shift.

        z        float (n, *units)
        returns  float (n, *units) each; at a threshold those of the piece below it, where the bit is 0
        """
        assert self.slopes is not None
        slope = torch.as_tensor(self.slopes[0], dtype=z.dtype, device=z.device).expand_as(z)
        shift = self.value - slope * self.thresholds[0]
        for threshold, steep in zip(self.thresholds, self.slopes[1:], strict=True):
            steep, above = torch.as_tensor(steep, dtype=z.dtype, device=z.device), z > threshold
            shift = torch.where(above, shift + (slope - steep) * threshold, shift)
            slope = torch.where(above, steep, slope)
        return slope, shift

    def gate(self, z: Tensor) -> Tensor:
        """The soft code of each z, of a smooth one: q with f(z) = q z, and its limit f'(0) at 0.

        It is Phi(z) for GELU, sigma(z) for SiLU. Black et al. 2022, appendix C; Balestriero, Baraniuk 2018, "From
        Hard to Soft". ValueError where f is not known or f(0) is not 0, as for softplus: such an f has no q.
        """
        f, zero = self.function, torch.zeros(1, dtype=z.dtype, device=z.device)
        if f is None or float(f(zero)) != 0.0:
            raise ValueError(f"{self.kind} is no product of its input and a gate")
        with torch.enable_grad():
            (limit,) = torch.autograd.grad(f(zero.requires_grad_()), zero)
        flat = z == 0
        return torch.where(flat, limit, f(z) / torch.where(flat, 1.0, z))


RELU = Activation("relu", slopes=(0.0, 1.0))

Recogniser = Callable[[Sequence[Any], Mapping[str, Any]], Activation | None]


def _always(activation: Activation) -> Recogniser:
    return lambda args, kwargs: activation


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], at: int, name: str, default: Any) -> Any:
    return args[at] if len(args) > at else kwargs.get(name, default)


def _leaky(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation:
    slope = float(_argument(args, kwargs, 1, "negative_slope", 0.01))
    return Activation("leaky_relu", slopes=(slope, 1.0))


def _prelu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation:
    weight = _argument(args, kwargs, 1, "weight", None).detach()
    units = args[0].dim() - 1  # axes behind the batch
    slope = weight.reshape(-1, *(1,) * (units - 1)) if weight.numel() > 1 else weight.reshape(())
    return Activation("prelu", slopes=(slope, 1.0))


def _hardtanh(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation:
    low = float(_argument(args, kwargs, 1, "min_val", -1.0))
    high = float(_argument(args, kwargs, 2, "max_val", 1.0))
    kind = "relu6" if (low, high) == (0.0, 6.0) else "hardtanh"
    return Activation(kind, (low, high), (0.0, 1.0, 0.0), low)


def _clamp(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation | None:
    """clamp(min=0) is a ReLU, clamp(0, c) a ReLU6 of another height; other clamps guard numerics."""
    low = _argument(args, kwargs, 1, "min", None)
    high = _argument(args, kwargs, 2, "max", None)
    if isinstance(low, Tensor) or isinstance(high, Tensor) or low is None or float(low) != 0.0:
        return None
    if high is None:
        return RELU
    return Activation("clamp", (0.0, float(high)), (0.0, 1.0, 0.0))


def _threshold(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation | None:
    at = float(_argument(args, kwargs, 1, "threshold", 0.0))
    value = float(_argument(args, kwargs, 2, "value", 0.0))
    return RELU if at == value == 0.0 else None


def _rrelu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation | None:
    """Random while training, in eval mode a leaky ReLU with the mean slope."""
    low = float(_argument(args, kwargs, 1, "lower", 1 / 8))
    high = float(_argument(args, kwargs, 2, "upper", 1 / 3))
    if _argument(args, kwargs, 3, "training", False):
        return None
    return Activation("leaky_relu", slopes=((low + high) / 2, 1.0))


def _softshrink(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation:
    width = float(_argument(args, kwargs, 1, "lambd", 0.5))
    return Activation("softshrink", (-width, width), (1.0, 0.0, 1.0))


def _smooth(kind: str, function: Callable[..., Tensor], *names: str) -> Recogniser:
    """A smooth activation, whose call has these arguments behind its input."""

    def recogniser(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation:
        given = dict(zip(names, args[1:], strict=False)) | {n: kwargs[n] for n in names if n in kwargs}
        return Activation(kind, function=lambda z: function(z, **given))

    return recogniser


_RELU6 = _always(Activation("relu6", (0.0, 6.0), (0.0, 1.0, 0.0)))
_ABS = _always(Activation("abs", slopes=(-1.0, 1.0)))
_T = torch.Tensor

CLAMPS = (
    *(torch.clamp, torch.clamp_, torch.clip, torch.clip_, torch.clamp_min, torch.clamp_min_),
    *(_T.clamp, _T.clamp_, _T.clip, _T.clip_, _T.clamp_min, _T.clamp_min_),
)
RECOGNISERS: dict[Any, Recogniser] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, _T.relu, _T.relu_), _always(RELU)),
    **dict.fromkeys((F.relu6,), _RELU6),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _leaky),
    **dict.fromkeys((F.prelu, torch.prelu, _T.prelu), _prelu),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((torch.abs, torch.abs_, _T.abs, _T.abs_, _T.__abs__), _ABS),
    **dict.fromkeys((torch.absolute, _T.absolute, _T.absolute_), _ABS),
    **dict.fromkeys(CLAMPS, _clamp),
    **dict.fromkeys((F.threshold, torch.threshold, torch.threshold_), _threshold),
    **dict.fromkeys((F.rrelu, torch.rrelu, torch.rrelu_), _rrelu),
    F.softshrink: _softshrink,
    F.gelu: _smooth("gelu", F.gelu, "approximate"),
    F.silu: _smooth("silu", F.silu),
    F.mish: _smooth("mish", F.mish),
    F.softplus: _smooth("softplus", F.softplus, "beta", "threshold"),
    F.logsigmoid: _smooth("logsigmoid", F.logsigmoid),
    **dict.fromkeys((F.elu, F.elu_), _smooth("elu", F.elu, "alpha")),
    **dict.fromkeys((F.celu, F.celu_, torch.celu), _smooth("celu", F.celu, "alpha")),
    **dict.fromkeys((F.selu, F.selu_, torch.selu), _smooth("selu", F.selu)),
    F.hardswish: _smooth("hardswish", F.hardswish),
}


def _tanh_gelu(z: Tensor) -> Tensor:
    return F.gelu(z, approximate="tanh")


def _fast_gelu(z: Tensor) -> Tensor:
    return 0.5 * z * (1 + torch.tanh(0.7978845608 * z * (1 + 0.044715 * z * z)))


# modules that write their nonlinearity out in arithmetic, by class name (transformers.activations)
MODULES: dict[str, Activation] = {
    "NewGELUActivation": Activation("gelu", function=_tanh_gelu),
    "PytorchGELUTanh": Activation("gelu", function=_tanh_gelu),
    "GELUTanh": Activation("gelu", function=_tanh_gelu),
    "FastGELUActivation": Activation("gelu", function=_fast_gelu),
    "QuickGELUActivation": Activation("gelu", function=lambda z: z * torch.sigmoid(1.702 * z)),
    "AccurateGELUActivation": Activation("gelu", function=_tanh_gelu),
}

# functions that do, by name, where a module holds one as `act_fn` (TransformerLens)
FUNCTIONS: dict[str, Activation] = {
    "gelu_new": Activation("gelu", function=_tanh_gelu),
    "gelu_fast": Activation("gelu", function=_fast_gelu),
}

POOLS = (
    F.max_pool1d,
    F.max_pool2d,
    F.max_pool3d,
    torch.max_pool1d,
    torch.max_pool2d,
    torch.max_pool3d,
)
ADAPTIVE_POOLS = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
IN_PLACE = {
    *(torch.relu_, _T.relu_, torch.abs_, _T.abs_, F.leaky_relu_, F.hardtanh_, F.elu_, F.celu_, F.selu_),
    *(torch.clamp_, torch.clip_, torch.clamp_min_, _T.clamp_, _T.clip_, _T.clamp_min_),
    *(torch.threshold_, torch.rrelu_, _T.absolute_),
}
INPLACE_AT: dict[Any, int] = {  # place of the argument `inplace`
    **dict.fromkeys((F.relu, F.relu6, F.silu, F.mish, F.selu, F.hardswish), 1),
    **dict.fromkeys((F.leaky_relu, F.elu, F.celu), 2),
    **dict.fromkeys((F.hardtanh, F.threshold), 3),
    F.rrelu: 4,
}


def recognise(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation | None:
    """The activation that this torch call is, or None."""
    recogniser = RECOGNISERS.get(func)
    return None if recogniser is None or not args else recogniser(args, kwargs)


def in_place(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call overwrites its input."""
    return func in IN_PLACE or bool(_argument(args, kwargs, INPLACE_AT.get(func, 9), "inplace", False))
