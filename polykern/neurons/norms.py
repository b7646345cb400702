"""The normalisation in front of an MLP, taken apart: what it gives without its gain, and the gain."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polykern.errors import UsageError

NEAR = {torch.float16: 2e-2, torch.bfloat16: 2e-2}  # of rounding in the module itself; else 1e-4


@dataclass(frozen=True, eq=False)
class Norm:
    """A LayerNorm or an RMSNorm: out = normalised(x) gain + shift.

    module   its name
    centred  whether the mean is subtracted, as LayerNorm does
    epsilon  added to the mean of squares
    gain     float32 (d)
    shift    float32 (d)
    """

    module: str
    centred: bool
    epsilon: float
    gain: Tensor
    shift: Tensor

    def normalised(self, x: Tensor) -> Tensor:
        """float (n, d): x with mean 0, where it is centred, and mean of squares 1."""
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()


def norm_of(name: str, module: nn.Module, x: Tensor, out: Tensor) -> Norm:
    """A normalising module taken apart, known by what it gave.

    module  with a `weight` (d), which is the gain or, as in Gemma, one less than it
    x, out  float (n, d)   what it took and gave

    Raises UsageError where neither a LayerNorm nor an RMSNorm gives that.
    """
    near = NEAR.get(out.dtype, 1e-4)
    found = out.detach().double().cpu()
    for norm in _guesses(name, module):
        made = norm.normalised(x.detach().double().cpu()) * norm.gain.double() + norm.shift.double()
        if torch.allclose(made, found, rtol=near, atol=near * float(found.abs().max())):
            return norm
    raise UsageError(f"{name} is neither a LayerNorm nor an RMSNorm", fix='take fold="none"')


def normalises(module: Any) -> bool:
    """Whether it may be a norm: it has a weight of one axis."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 1


def _guesses(name: str, module: Any) -> Iterator[Norm]:
    weight = module.weight.detach().float().cpu()
    bias = getattr(module, "bias", None)
    shift = torch.zeros_like(weight) if bias is None else bias.detach().float().cpu()
    said = (getattr(module, name, None) for name in ("eps", "variance_epsilon"))
    epsilon = next((float(e) for e in said if e is not None), 1e-6)
    for gain in (weight, 1 + weight):
        for centred in (True, False):
            yield Norm(name, centred, epsilon, gain, shift)
