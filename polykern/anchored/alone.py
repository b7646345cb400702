"""Which torch calls act on each point alone, so that they may be evaluated at a point and at its anchor.

A call that mixes points (a softmax over the batch, a sort of it) gives numbers at the anchors that mean nothing
for the points; since such a mistake would be silent, calls are admitted by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polykern.activations import POOLS, RECOGNISERS
from polykern.carrier import NotCarried

_T = torch.Tensor


def _named(owner: Any, names: str) -> list[Any]:
    return [getattr(owner, n) for n in names.split() if hasattr(owner, n)]


_ELEMENTWISE = (
    "tanh sigmoid exp expm1 log log1p sqrt rsqrt pow square erf reciprocal sin cos atan mul div true_divide "
    "maximum minimum where clamp clamp_min clamp_max clip relu abs sign round floor ceil lerp logaddexp"
)
_METHODS = "__mul__ __rmul__ __truediv__ __rtruediv__ __pow__ __rpow__ __abs__"
_ACTIVATIONS = (
    "gelu silu mish softplus elu celu selu hardswish hardsigmoid hardtanh relu relu6 leaky_relu prelu logsigmoid "
    "softsign tanh sigmoid tanhshrink softshrink hardshrink threshold rrelu"
)
ELEMENTWISE: frozenset[Any] = frozenset(
    [
        *_named(torch, _ELEMENTWISE),
        *_named(_T, _ELEMENTWISE),
        *_named(_T, _METHODS),
        *_named(F, _ACTIVATIONS),
        *RECOGNISERS,
    ]
)

# these read the axes behind the first only, whatever their arguments
OF_A_ROW: frozenset[Any] = frozenset(
    [
        *POOLS,
        *_named(F, "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool1d lp_pool2d lp_pool3d"),
        *_named(
            F, "layer_norm rms_norm group_norm local_response_norm scaled_dot_product_attention pixel_unshuffle"
        ),
    ]
)

# these read the axis that is named at this place of their arguments
ALONG: dict[Any, int] = {
    **dict.fromkeys([F.softmax, F.log_softmax, F.softmin, torch.softmax, torch.log_softmax, F.glu], 1),
    **dict.fromkeys(_named(_T, "softmax log_softmax"), 1),
    **dict.fromkeys(_named(torch, "amax amin max min logsumexp var std prod cumsum cumprod"), 1),
    **dict.fromkeys(_named(_T, "amax amin max min logsumexp var std prod cumsum cumprod"), 1),
    **dict.fromkeys([torch.norm, _T.norm, F.normalize], 2),
}
DEFAULT_AXIS = {F.glu: -1, F.normalize: 1}

PRODUCTS: frozenset[Any] = frozenset(
    [torch.matmul, torch.bmm, *_named(_T, "matmul bmm __matmul__ __rmatmul__")]
)  # with a batch axis on both sides


def require(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], ndim: int) -> None:
    """Raise NotCarried unless the call acts on each point alone.

    func, args, kwargs  the call; carriers among its arguments stand for the points
    ndim                axes of the carrier it was called on, the batch included
    """
    name = getattr(func, "__name__", str(func))
    if func is F.scaled_dot_product_attention and ndim < 3:
        raise NotCarried(f"{name} of {ndim} axes mixes the points")
    if func in ELEMENTWISE or func in OF_A_ROW:
        return
    if func in ALONG:
        at = ALONG[func]
        axis = args[at] if len(args) > at else kwargs.get("dim", DEFAULT_AXIS.get(func))
        if not isinstance(axis, int) and not isinstance(axis, (tuple, list)):
            if func in (torch.max, torch.min, _T.max, _T.min) and axis is not None:
                return  # of two
            raise NotCarried(f"{name} over all axes mixes the points")
        if any(a % ndim == 0 for a in ([axis] if isinstance(axis, int) else axis)):
            raise NotCarried(f"{name} over the batch axis mixes the points")
        return
    if func in PRODUCTS:
        if all(not isinstance(a, Tensor) or a.ndim == ndim for a in args) and ndim > 2:
            return
        raise NotCarried(f"{name} of {ndim} axes mixes the points")
    raise NotCarried(f"{name} is not known to act on each point alone")
