"""Transformers trained to do without LayerNorm, in the form they are kept in.

Such checkpoints keep their LayerNorms with an eps of 1e12 and weights a million times too large, so that any
reader of GPT-2 can run them: sqrt(variance + 1e12) is a million whatever the variance. Heimersheim 2024, "You can
remove GPT2's LayerNorm by fine-tuning" (arXiv:2409.13710).
"""

import torch
from torch import Tensor, nn

LEAST = 1e6  # an eps that no variance of activations comes near


class Centring(nn.Module):
    """What is left of such a LayerNorm: the mean taken off, the weights in their own size, and the bias."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.axes = tuple(range(-len(norm.normalized_shape), 0))
        weight = torch.ones(norm.normalized_shape) if norm.weight is None else norm.weight.detach()
        self.weight = nn.Parameter((weight.double() / norm.eps**0.5).to(weight.dtype), requires_grad=False)
        bias = torch.zeros_like(weight) if norm.bias is None else norm.bias.detach()
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        """(..., *shape) -> the same shape; linear in the input but for the bias."""
        return (input - input.mean(self.axes, keepdim=True)) * self.weight + self.bias


def undone(model: nn.Module) -> int:
    """Put a `Centring` in the place of every LayerNorm with an eps of a million or more; returns how many."""
    places = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()]
    found = [p for p in places if isinstance(p[2], nn.LayerNorm) and p[2].eps >= LEAST]
    for parent, name, child in found:
        setattr(parent, name, Centring(child))  # type: ignore[arg-type]
    return len(found)
