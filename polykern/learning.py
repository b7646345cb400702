"""Dictionaries that are learned: an encoder and a decoder of unit length, by Adam from rows of the data."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from polykern.seeds import reproducible


class Learned(NamedTuple):
    """What was learned.

    encoder  float32 (units, d)
    bias     float32 (units)
    decoder  float32 (units, d)   rows of unit length
    """

    encoder: Tensor
    bias: Tensor
    decoder: Tensor


def learned(
    x: Tensor,
    units: int,
    loss: Callable[[Tensor, Learned], Tensor],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
) -> Learned:
    """The dictionary that a loss leads to.

    x      float32 (n, d)   rows
    units  of the dictionary, as many as one likes; they begin as rows with noise
    loss   rows (batch, d) and the dictionary -> a scalar
    steps  of Adam, its rate falling to 0
    seed   of all that is random

    The same seed, machine and torch give the same bits.
    """
    with reproducible(seed):
        some = x[torch.randint(len(x), (units,))]
        decoder = torch.nn.functional.normalize(some + 0.1 * torch.randn(some.shape))
        encoder, bias = decoder.clone().requires_grad_(), torch.zeros(units, requires_grad=True)
        decoder = decoder.requires_grad_()
        optimiser = torch.optim.Adam([encoder, bias, decoder], rate)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
            rows = x[torch.randint(len(x), (min(batch, len(x)),))]
            optimiser.zero_grad()
            loss(rows, Learned(encoder, bias, decoder)).backward()
            optimiser.step()
            with torch.no_grad():
                decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return Learned(encoder.detach(), bias.detach(), decoder.detach())
