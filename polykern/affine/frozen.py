"""Networks with their masks frozen: points on their way, with derivatives, and the frozen map's value at 0.

At a nonlinearity every point keeps the mask that it has there,  f(z) = slope z + shift,  and at a max-pool the
winners, so that the network is affine: its matrix comes from derivatives of the points, forwards or backwards, its
offset is what it makes of the origin.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_map

from polykern.activations import Activation
from polykern.arithmetic import ieee
from polykern.carrier import Carrier, Linear, NotCarried
from polykern.errors import UsageError
from polykern.pools import AXES, INDEXED
from polykern.tail import Meeting, Tail

Kind = Literal["exact", "interpolated", "jacobian"]
ADAPTIVE: dict[Any, Any] = {  # as `polykern.pools.INDEXED`
    F.adaptive_max_pool1d: F.adaptive_max_pool1d_with_indices,
    F.adaptive_max_pool2d: F.adaptive_max_pool2d_with_indices,
    F.adaptive_max_pool3d: F.adaptive_max_pool3d_with_indices,
}


class Frozen(Carrier):
    """Points inside a network.

    value   float64 (n, *units)           the points, with whatever derivatives torch keeps of them
    origin  float64 (n, *units), or None  what each point's frozen map makes of 0
    kind    what a nonlinearity is frozen to
    """

    def __init__(self, value: Tensor, origin: Tensor | None, kind: Kind) -> None:
        self.value, self.origin = value, origin
        self.kind: Kind = kind

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    @property
    def device(self) -> torch.device:
        return self.value.device

    def beside(self, f: Callable[[Tensor], Tensor]) -> "Frozen":
        """f of the points and of the origins."""
        with torch.set_grad_enabled(self.value.requires_grad):
            return Frozen(f(self.value), None if self.origin is None else f(self.origin), self.kind)

    def apply(self, linear: Linear) -> "Frozen":
        bias = 0.0 if linear.bias is None else linear.bias
        return self.beside(lambda x: linear.op(x, linear.weight) + bias)

    @classmethod
    def combine(cls, parts: Sequence[Any], op: Callable[[list[Tensor]], Tensor], terms: int) -> "Frozen":
        first: Frozen = next(p for p in parts if isinstance(p, Frozen))
        n = len(first.value)
        if any(isinstance(p, Tensor) and len(p) != 1 for p in parts):
            raise NotCarried("a constant that differs from point to point")

        def of(name: str) -> list[Tensor]:
            return [getattr(p, name) if isinstance(p, Frozen) else p.expand(n, *p.shape[1:]) for p in parts]

        grads = any(p.value.requires_grad for p in parts if isinstance(p, Frozen))
        with torch.set_grad_enabled(grads):
            return cls(op(of("value")), None if first.origin is None else op(of("origin")), first.kind)

    def other(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if func in INDEXED or func in ADAPTIVE:
            if kwargs.get("return_indices"):
                raise NotCarried("a max-pool with return_indices")
            return self._pooled(INDEXED.get(func) or ADAPTIVE[func], args[1:], kwargs)
        if self.kind != "jacobian":
            raise NotCarried(f"{getattr(func, '__name__', func)} is not piecewise linear")
        with torch.set_grad_enabled(self.value.requires_grad):
            out = func(*tree_map(_value, tuple(args)), **tree_map(_value, dict(kwargs)))
        return tree_map(self._carried, out)

    def _carried(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        if x.ndim == 0 or len(x) != len(self.value):
            raise NotCarried("points that are mixed")
        return Frozen(x, None, self.kind)

    def _pooled(self, indexed: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Frozen":
        """The winners that the points have, of the origins too."""
        axes = AXES.get(indexed) or self.ndim - 2
        with torch.set_grad_enabled(self.value.requires_grad):
            value, place = indexed(self.value, *args, **kwargs)
        if self.origin is None:
            return Frozen(value, None, self.kind)
        flat = self.origin.flatten(-axes).gather(-1, place.flatten(-axes))
        return Frozen(value, flat.view(value.shape), self.kind)

    def past(self, activation: Activation) -> "Frozen | None":
        """Behind an activation, or None where only the call itself can tell."""
        if activation.slopes is not None:
            slope, shift = activation.piece(self.value.detach())
            return self.beside(lambda x: slope * x + shift)
        if self.kind == "exact":
            raise NotCarried(f"{activation.kind} is smooth")
        if self.kind == "interpolated":
            try:
                gate = activation.gate(self.value.detach())
            except ValueError as reason:
                raise NotCarried(str(reason)) from None
            return self.beside(lambda x: gate * x)
        return None if activation.function is None else self.beside(activation.function)


def passed(tail: Tail, points: Tensor, kind: Kind, *, origin: bool = False) -> Frozen:
    """Points behind a network with frozen masks.

    tail    in float64
    points  float64 (n, *input_shape) on its device, with derivatives where they are wanted
    kind    of a smooth activation f: "exact" refuses it, "interpolated" takes f(z) = q z with its gate q frozen,
            "jacobian" takes f itself, and any other operator too
    origin  also what the frozen maps make of 0
    errors  UsageError naming an operator that cannot be frozen
    """
    start = Frozen(points, torch.zeros_like(points) if origin else None, kind)
    out = _run(tail, start, None)
    if not isinstance(out, Frozen):
        raise UsageError("the output does not depend on the points", fix="choose another start or stop")
    return out


def watched(tail: Tail, points: Tensor, see: Callable[[Meeting], None]) -> None:
    """Show `see` every nonlinearity that points meet in a piecewise-linear network; the rest as `passed`."""
    _run(tail, Frozen(points, None, "exact"), see)


def _run(tail: Tail, start: Frozen, see: Callable[[Meeting], None] | None) -> Any:
    def reach(met: Meeting) -> Any:
        if see is not None:
            see(met)
        out = met.z.past(met.activation) if isinstance(met.z, Frozen) else None
        return met.proceed() if out is None else out

    try:
        with ieee():
            return tail.run(start, reach, output=see is None)
    except NotCarried as reason:
        smooth = '; kind="interpolated" freezes the gates of GELU, SiLU and the like'
        raise UsageError(
            f"the network has no affine map here: {reason}",
            why="it is affine with frozen masks only where it is piecewise linear",
            fix='kind="jacobian" gives derivatives of any network' + (smooth if start.kind == "exact" else ""),
        ) from reason


def dual(points: Tensor, directions: Tensor) -> Tensor:
    """Points with a direction each; what torch loads for it at first use warns about torch itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made: Tensor = forward_ad.make_dual(points, directions)
    return made


def slope_of(x: Tensor) -> Tensor:
    """The derivative along the directions of `dual`; 0 where there is none."""
    made: Tensor | None = forward_ad.unpack_dual(x).tangent
    return torch.zeros_like(x) if made is None else made


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Frozen) else x
