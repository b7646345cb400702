"""The nonlinearities: which torch calls are one, and the kinks that become bits.

A piecewise-linear activation is  f(z) = value + slopes[0] (z - t0) + sum_k (slopes[k+1] - slopes[k]) relu(z - t_k)
with thresholds t0 < t1 < ... and value = f(t0). A smooth one (GELU, SiLU, ...) has a code - the sign of its
pre-activation, Black et al. 2022, appendix C - but no slopes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    """

    kind: str
    thresholds: tuple[float, ...] = (0.0,)
    slopes: tuple[float | Tensor, ...] | None = None
    value: float = 0.0

    @property
    def piecewise_linear(self) -> bool:
        """Whether it has slopes, so that a network of it has polytopes."""
        return self.slopes is not None


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


_RELU6 = _always(Activation("relu6", (0.0, 6.0), (0.0, 1.0, 0.0)))
_ABS = _always(Activation("abs", slopes=(-1.0, 1.0)))
_T = torch.Tensor

RECOGNISERS: dict[Any, Recogniser] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, _T.relu, _T.relu_), _always(RELU)),
    **dict.fromkeys((F.relu6,), _RELU6),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _leaky),
    **dict.fromkeys((F.prelu, torch.prelu, _T.prelu), _prelu),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((torch.abs, _T.abs, _T.abs_, _T.__abs__), _ABS),
    **dict.fromkeys((torch.clamp, _T.clamp, _T.clamp_, torch.clamp_min, _T.clamp_min), _clamp),
    **dict.fromkeys((F.threshold, torch.threshold), _threshold),
    F.gelu: _always(Activation("gelu")),
    F.silu: _always(Activation("silu")),
    F.mish: _always(Activation("mish")),
    F.softplus: _always(Activation("softplus")),
    F.elu: _always(Activation("elu")),
    F.celu: _always(Activation("celu")),
    F.selu: _always(Activation("selu")),
    F.hardswish: _always(Activation("hardswish")),
}

# modules that write their nonlinearity out in arithmetic, by class name (transformers.activations)
MODULES: dict[str, Activation] = {
    "NewGELUActivation": Activation("gelu"),
    "PytorchGELUTanh": Activation("gelu"),
    "GELUTanh": Activation("gelu"),
    "FastGELUActivation": Activation("gelu"),
    "QuickGELUActivation": Activation("gelu"),
    "AccurateGELUActivation": Activation("gelu"),
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
IN_PLACE = {torch.relu_, _T.relu_, _T.abs_, _T.clamp_, F.leaky_relu_, F.hardtanh_}


def recognise(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activation | None:
    """The activation that this torch call is, or None."""
    recogniser = RECOGNISERS.get(func)
    return None if recogniser is None or not args else recogniser(args, kwargs)


def in_place(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the call overwrites its input."""
    flag = {F.relu: 1, F.relu6: 1, F.leaky_relu: 2, F.hardtanh: 3, F.silu: 1, F.mish: 1}
    return func in IN_PLACE or bool(_argument(args, kwargs, flag.get(func, 9), "inplace", False))
