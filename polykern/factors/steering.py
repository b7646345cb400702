"""Mask steering: neurons forced on or off during a forward pass, whatever their pre-activations are.

A forced neuron takes the affine piece of its activation that the bit names: of a ReLU z where it is on, also where
z is negative, and 0 where it is off. Forcing a point's own code changes nothing, bit by bit. The bits of a concept
are those whose frequencies differ,

    |p(bit | concept) - p(bit | rest)| > tau.

From the comments on Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens": make a picture
more sunny by flipping the neurons of the sunny-day mask.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from polykern.activations import Activation
from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.layout import Layout
from polykern.soft import rule_of
from polykern.tail import Meeting, Tail
from polykern_kernels import pack


@dataclass(frozen=True, eq=False)
class Mask:
    """Bits of a code and what they are forced to.

    layout  of the code
    bits    int64 (m)              which, ascending
    on      bool (m) or (n, m)     to what, for every point or for each of n
    """

    layout: Layout
    bits: Tensor
    on: Tensor

    def __post_init__(self) -> None:
        bits = self.bits
        fits = bits.ndim == 1 and self.on.dtype == torch.bool and self.on.shape[-1:] == bits.shape
        if not fits or self.on.ndim not in (1, 2) or bits.dtype != torch.int64:
            raise UsageError(
                f"a mask is int64 (m) and bool (m) or (n, m), got {bits.dtype} {list(bits.shape)} and "
                f"{self.on.dtype} {list(self.on.shape)}"
            )
        ascends = bool((bits.diff() > 0).all())
        if len(bits) and (not ascends or int(bits[0]) < 0 or int(bits[-1]) >= self.layout.bits):
            raise UsageError(f"bits of a mask ascend within 0 ... {self.layout.bits - 1}")

    def __len__(self) -> int:
        return len(self.bits)

    @classmethod
    def none(cls, layout: Layout) -> "Mask":
        """No bits at all."""
        return cls(layout, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))

    @classmethod
    def own(cls, codes: Codes) -> "Mask":
        """Every bit of every code, forced to what it is."""
        bits = codes.layout.bits
        return cls(codes.layout, torch.arange(bits), pack.unpack(codes.words, bits))

    def shuffled(self, seed: int) -> "Mask":
        """As many other bits of the same fields, forced to the same values in another order."""
        generator = torch.Generator().manual_seed(seed)
        bits, on = [], []
        for f in self.layout.fields:
            mine = (self.bits >= f.offset) & (self.bits < f.offset + f.bits)
            count = int(mine.sum())
            drawn = torch.randperm(f.bits, generator=generator)[:count].sort().values
            bits.append(f.offset + drawn)
            on.append(self.on[..., mine][..., torch.randperm(count, generator=generator)])
        return Mask(self.layout, torch.cat(bits), torch.cat(on, -1))


def concept_bits(codes: Codes, concept: ArrayLike, *, tau: float = 0.5) -> Mask:
    """The bits whose frequencies in a concept and outside of it differ by more than tau.

    codes    n codes
    concept  bool (n)   which of them have the concept: some, not all
    tau      0 ... 1
    returns  those bits, each forced to what it mostly is in the concept; there may be none

    Errors: UsageError for a concept that all or none of the codes have.
    """
    inside = torch.as_tensor(np.asarray(concept))
    if inside.dtype != torch.bool or inside.shape != (len(codes),) or not 0 < int(inside.sum()) < len(codes):
        raise UsageError(
            f"a concept is bool ({len(codes)}), true of some codes and not of all",
            why=f"got {inside.dtype} {list(inside.shape)}, {int(inside.sum())} of them true",
        )
    bits = pack.unpack(codes.words.cpu(), codes.layout.bits)
    with_it, without = (bits[rows].double().mean(0) for rows in (inside, ~inside))
    (chosen,) = ((with_it - without).abs() > tau).nonzero(as_tuple=True)
    return Mask(codes.layout, chosen, (with_it > without)[chosen])


def steer(network: Tail | nn.Module, points: Tensor, mask: Mask, *, batch: int = 256) -> Tensor:
    """The output of a network whose masked neurons are forced.

    network  a `Tail`, or a model in eval mode whose inputs the points are; its code has the mask's layout
    points   (n, *shape)
    mask     which bits, to what (`concept_bits`); one row for all points, or one each
    batch    points in one forward pass
    returns  (n, *output) in the network's dtype, on its device

    Neurons behind forced ones see what those give. A neuron that already is on the named piece keeps its value bit
    by bit, so a point's own mask is the identity. A smooth activation with a soft code is forced to its asymptotes,
    z and 0. Errors: UsageError for another layout, or an activation with no pieces.
    """
    tail = network if isinstance(network, Tail) else Tail(network, points[:1])
    tail.layout.require_same(mask.layout)
    if mask.on.ndim == 2 and len(mask.on) != len(points):
        raise UsageError(f"a mask for {len(mask.on)} points, got {len(points)}")
    parts = []
    for first in range(0, len(points), batch):
        part = points[first : first + batch]
        on = mask.on if mask.on.ndim == 1 else mask.on[first : first + batch]
        own = part.detach().to(tail.device, tail.dtype if part.is_floating_point() else part.dtype, copy=True)
        parts.append(tail.run(own, _forced(tail, mask.bits, on, len(part))))
    return torch.cat(parts)


def _forced(tail: Tail, bits: Tensor, on: Tensor, rows: int) -> Callable[[Meeting], Any]:
    def reach(met: Meeting) -> Any:
        f = met.field
        inside = torch.zeros(0, dtype=torch.bool) if f is None else (bits >= f.offset) & (bits < f.offset + f.bits)
        if f is None or not bool(inside.any()):
            return met.proceed()
        z = met.z.detach().clone()
        steps = len(f.thresholds)
        mine = torch.stack([z.flatten(1) > t for t in f.thresholds], 1)  # (n, thresholds, units)
        wanted = mine.flatten(1).clone()
        wanted[:, (bits[inside] - f.offset).to(z.device)] = on[..., inside].to(z.device).expand(rows, -1)
        after = wanted.view(rows, steps, -1).sum(1).view_as(z)
        out, before = met.proceed(), mine.sum(1).view_as(z)
        return torch.where(after == before, out, _on_piece(met.activation, z, after))

    return reach


def _on_piece(activation: Activation, z: Tensor, piece: Tensor) -> Tensor:
    """What an activation would give if its input were on another of its pieces; piece int (n, *units), 0 lowest."""
    if activation.slopes is None:
        rule_of(activation)  # refuses what has no two asymptotes through 0
        return torch.where(piece > 0, z, 0.0)
    slopes = [torch.as_tensor(s, dtype=z.dtype, device=z.device).expand_as(z) for s in activation.slopes]
    shift = activation.value - slopes[0] * activation.thresholds[0]
    found = slopes[0] * z + shift
    for k, at in enumerate(activation.thresholds):
        shift = shift + (slopes[k] - slopes[k + 1]) * at
        found = torch.where(piece > k, slopes[k + 1] * z + shift, found)
    return found
