"""Products of linear layers that wait for the activation behind them, so that both are one pass.

In a Sequential an activation often stands straight behind a Linear, and nothing else sees what lies between them.
On a CUDA device `polykern_kernels.linear.signs` then gives the code and the activations, and the pre-activations,
which take as long to write and to read again as a narrow layer takes to multiply, are never written.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from polykern.activations import Activation
from polykern.layout import Field
from polykern.tail import Tail
from polykern_kernels import linear

WIDEST = 256  # inputs; a wider layer gains more from a library's product than it loses by its traffic


class Product:
    """The pre-activations x @ weight.T + bias of rows x, multiplied out when anything but an activation asks.

    x       float32 (n, inputs)
    weight  float32 (units, inputs)
    bias    float32 (units), or None
    """

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self.x, self.weight, self.bias = x, weight, bias
        self.shape = torch.Size((len(x), len(weight)))

    @cached_property
    def value(self) -> Tensor:
        """float32 (n, units)."""
        return F.linear(self.x, self.weight, self.bias)

    def dim(self) -> int:
        return 2

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        plain: Any = tree_map(lambda v: v.value if isinstance(v, Product) else v, (tuple(args), dict(kwargs or {})))
        return func(*plain[0], **plain[1])

    def coded(self, field: Field, activation: Activation, *, last: bool) -> tuple[Tensor, Tensor | None] | None:
        """The packed bits of a field and what flows on behind its activation, in one pass.

        field, activation  met behind the product
        last               nothing that flows on is needed
        returns            int32 (n, words), float32 (n, units) or None when last; or None where the activation is
                           smooth and must flow on, and where a pre-activation is NaN
        """
        slopes = None if last else activation.numbers
        if slopes is None and not last:
            return None
        given = self.x, self.weight, self.bias
        try:
            return linear.signs(*given, field.thresholds, slopes=slopes, value=activation.value)
        except ValueError:
            return None  # the plain way says which field and which points


def wait(tail: Tail) -> bool:
    """Whether products should wait: in float32 on a CUDA device."""
    return tail.device.type == "cuda" and tail.dtype == torch.float32


@contextmanager
def waiting(model: nn.Module) -> Iterator[None]:
    """A context in which every narrow Linear with an activation straight behind it gives a `Product`.

    model  any module; only neighbours in an nn.Sequential are known to be neighbours, and a Linear with hooks of
           its own is left alone
    """
    with ExitStack() as stack:
        for module in model.modules():
            for first, behind in pairwise(module) if type(module) is nn.Sequential else ():
                if (
                    isinstance(first, nn.Linear)
                    and _narrow(first)
                    and type(behind).__module__ == nn.ReLU.__module__
                ):
                    stack.callback(vars(first).pop, "forward", None)
                    vars(first)["forward"] = partial(_forward, first)
        yield


def _narrow(module: nn.Linear) -> bool:
    return type(module) is nn.Linear and module.in_features <= WIDEST and not module._forward_hooks


def _forward(module: nn.Linear, x: Tensor) -> Any:
    fits = isinstance(x, Tensor) and x.ndim == 2
    return Product(x, module.weight, module.bias) if fits else F.linear(x, module.weight, module.bias)
