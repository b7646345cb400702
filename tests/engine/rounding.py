"""Plain low precision, to compare with: the operands of every linear operator rounded, sums as they are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LINEAR = {F.conv1d, F.conv2d, F.conv3d, F.linear, torch.matmul, torch.addmm}


def bfloat16(x: Tensor) -> Tensor:
    """Rounded to 8 significant bits."""
    return x.bfloat16().to(x.dtype)


def tf32(x: Tensor) -> Tensor:
    """Rounded to 11 significant bits, half away from zero, as tensor cores are fed."""
    bits = x.float().contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).to(x.dtype)


class Rounded(TorchFunctionMode):
    """A context in which linear operators see rounded activations and weights."""

    def __init__(self, rounded: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rounded = rounded

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in LINEAR:
            args = (*(self.rounded(a) for a in args[:2]), *args[2:])
        return func(*args, **(kwargs or {}))
