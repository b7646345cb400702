"""Latents of sparse autoencoders and transcoders as neurons, and how well the autoencoder does.

    e(x) = h(x) * w        h the autoencoder's input, b_dec subtracted where it is; w the latent's encoder row

The elements of e sum, with the bias, to the latent's pre-activation. How far a latent's examples are apart stands
beside reconstruction error, L0 and the share of latents that never fire. Foote 2024, "Tackling Polysemanticity with
Neuron Embeddings".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polykern.autoencoders import SparseAutoencoder
from polykern.errors import UsageError


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents of an autoencoder that reads what a pass kept.

    autoencoder  with its decoder
    at           input:MODULE or output:MODULE, what it reads
    target       what a transcoder rebuilds, named alike; None: what it reads
    """

    autoencoder: SparseAutoencoder
    at: str
    target: str | None = None

    def __len__(self) -> int:
        return int(self.autoencoder.weight.shape[1])

    @property
    def field(self) -> str:
        """Its name."""
        return self.autoencoder.name

    @property
    def weight(self) -> Tensor:
        """float32 (n, d): encoder rows."""
        return self.autoencoder.weight.T.float().contiguous()

    @property
    def names(self) -> tuple[str, ...]:
        """What a pass has to keep."""
        return (self.at,) if self.target is None else (self.at, self.target)

    def values(self, taken: Mapping[str, Tensor]) -> Tensor:
        """float (t, n): the activations, 0 where a latent is not active."""
        return self.autoencoder.activations(taken[self.at])

    def inputs(self, taken: Mapping[str, Tensor]) -> Tensor:
        """float (t, d): what the latents receive."""
        return self.autoencoder.received(taken[self.at])

    def received(self, inputs: Tensor) -> Tensor:
        """The same."""
        return inputs

    def activated(self, z: Tensor) -> Tensor:
        """The same: values are activations."""
        return z.clamp_min(0)


class Quality:
    """How well an autoencoder does, counted batch by batch on its device, in float64.

    error  sum over rows of |x - rebuilt|^2 / |x - mean|^2: the share of what varies that is not rebuilt
    l0     latents that are active on a row, mean
    dead   share of latents that are active on no row
    """

    def __init__(self, latents: Latents) -> None:
        if latents.autoencoder.decoder is None:
            raise UsageError("an autoencoder without a decoder rebuilds nothing", fix="give W_dec")
        self.latents = latents
        outputs = latents.autoencoder.decoder.shape[1]
        self._sum, self._square, self._wrong, self._active = (
            torch.zeros(n, dtype=torch.float64, device=latents.autoencoder.weight.device)
            for n in (outputs, 1, 1, len(latents))
        )
        self._rows = 0

    def add(self, taken: Mapping[str, Tensor]) -> None:
        """More rows: what a pass kept."""
        given, autoencoder = self.latents, self.latents.autoencoder
        x = taken[given.at]
        active = autoencoder.activations(x)
        made = autoencoder.rebuilt(x, active, undo=given.target is None)
        aim = (x if given.target is None else taken[given.target]).to(made.device).double()
        if aim.shape != made.shape:
            raise UsageError(f"the autoencoder gives {made.shape[1]} values, {aim.shape[1]} are to be rebuilt")
        self._sum += aim.sum(0)
        self._square += aim.square().sum()
        self._wrong += (aim - made).square().sum()
        self._active += (active > 0).sum(0)
        self._rows += len(aim)

    def numbers(self) -> dict[str, Any]:
        """error, l0, dead and rows, for JSON; error is None where what is rebuilt does not vary."""
        rows = max(1, self._rows)
        variance = float(self._square - self._sum.square().sum() / rows)
        return {
            "error": float(self._wrong) / variance if variance > 0 else None,
            "l0": float(self._active.sum()) / rows,
            "dead": float((self._active == 0).double().mean()),
            "rows": self._rows,
        }
