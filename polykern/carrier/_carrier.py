"""Carriers: objects that travel through an unmodified torch module in place of a batch of points.

A carrier looks like a tensor of shape (n, *units) and implements `__torch_function__`. The linear operators of
torch are the same for every carrier, so they are written once, here, as `Linear`: an operator bilinear in
(rows, weight), a bias and the number of products behind one output. A carrier says how it applies one
(`apply`, `combine`), how it passes a nonlinearity, and what it does with any other call (`other`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function


class NotCarried(Exception):
    """A torch call that this carrier cannot represent; the message names it."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear operator on stacked rows, out[r] = op(rows, weight)[r] + bias.

    op      linear in each of its two arguments; the first axis of its rows is a batch axis
    weight  its second argument, or None for pure rearrangements and averages
    bias    broadcasts against one output row, or None
    terms   products summed for one output: 0 for a rearrangement, which is exact
    convolution  (stride, padding, dilation) when op is a plain 2-D convolution with `weight`, else None
    """

    op: Callable[[Tensor, Any], Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None
    terms: int = 0
    convolution: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None


class Carrier(ABC):
    """Something that stands for n points inside a forward pass."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """(n, *units), as the module sees it."""

    @abstractmethod
    def apply(self, linear: Linear) -> "Carrier":
        """The carrier behind a linear operator."""

    @classmethod
    @abstractmethod
    def combine(cls, parts: Sequence[Any], op: Callable[[list[Tensor]], Tensor], terms: int) -> "Carrier":
        """The carrier of op(parts); op is linear in all parts together; tensors among them are constants."""

    @abstractmethod
    def other(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Any call that is not linear: a carrier, or NotCarried."""

    def become(self, value: "Carrier") -> None:
        """Take over the value of another carrier of the same kind (in-place operators)."""
        vars(self).update(vars(value))

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        first = next(a for a in _flat(args, kwargs) if isinstance(a, Carrier))
        rule = RULES.get(func)
        if rule is not None and not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        out = NotImplemented if rule is None else rule(*args, **kwargs)
        return first.other(func, args, kwargs) if out is NotImplemented else out

    # what modules ask of a tensor
    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def requires_grad(self) -> bool:
        return False

    def dim(self) -> int:
        return len(self.shape)

    def size(self, axis: int | None = None) -> Any:
        return self.shape if axis is None else self.shape[axis]

    def numel(self) -> int:
        return self.shape.numel()

    def __len__(self) -> int:
        return self.shape[0]

    if not TYPE_CHECKING:  # a name that is misspelt is an error to a checker

        def __getattr__(self, name: str) -> Callable[..., Any]:
            """Any other method of Tensor, by way of torch, so that it meets its rule or `other`."""
            func = None if name.startswith("__") else getattr(torch.Tensor, name, None)
            if not callable(func):
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            return partial(handle_torch_function, func, (self,), self)


def _operator(name: str) -> Callable[..., Any]:
    func = getattr(torch.Tensor, name)

    def operator(self: Carrier, *args: Any, **kwargs: Any) -> Any:
        return handle_torch_function(func, (self,), self, *args, **kwargs)

    operator.__name__ = name
    return operator


# Python looks these up on the class
OPERATORS = (
    "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__",
    "__pow__", "__rpow__", "__matmul__", "__neg__", "__abs__", "__getitem__",
    "__lt__", "__le__", "__gt__", "__ge__",
)  # fmt: skip
for _name in OPERATORS:
    setattr(Carrier, _name, _operator(_name))


RULES: dict[Any, Callable[..., Any]] = {}


def rule(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the meaning of these torch calls for every carrier."""

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        RULES.update(dict.fromkeys(functions, fn))
        return fn

    return register


def _flat(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    out: list[Any] = []
    for a in (*args, *kwargs.values()):
        out.extend(a) if isinstance(a, (list, tuple)) else out.append(a)
    return out
