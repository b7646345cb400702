"""A sparse autoencoder of codes: a few of many features rebuild a code.

    y = top-s of ReLU(W (c - m) + b),    c ~ 1[m + V y > 1/2]

Only the s greatest activations of a row are kept (Makhzani, Frey 2014, "k-Sparse Autoencoders"; Gao et al. 2024,
"Scaling and evaluating sparse autoencoders"). Trained by Adam on squared error, on the CPU, from a seeded start.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import UsageError
from polykern.learning import Learned, learned

Reals = NDArray[np.float64]
STEPS, BATCH, RATE = 1000, 256, 3e-3


@dataclass(frozen=True, eq=False)
class Sparse:
    """A trained autoencoder.

    encoder  float32 (features, bits);  bias  float32 (features)
    decoder  float32 (features, bits)   of unit length
    mean     float32 (bits)
    active   features that a row may use
    """

    encoder: Tensor
    bias: Tensor
    decoder: Tensor
    mean: Tensor
    active: int

    def encode(self, bits: Reals) -> Reals:
        """float64 (n, features) >= 0: at most `active` of a row are positive."""
        given = torch.from_numpy(np.ascontiguousarray(bits)).float()
        found: Reals = _kept((given - self.mean) @ self.encoder.T + self.bias, self.active).double().numpy()
        return found


def sparse(bits: Reals, features: int, *, active: int, steps: int = STEPS, seed: int = 0) -> Sparse:
    """Train an autoencoder on rows.

    bits      float (n, bits)   0 and 1
    features  as many as one likes
    active    1 ... features: positive activations a row may have
    steps     of Adam, 256 rows each

    The same seed, machine and torch give the same bits. Errors: UsageError for `active` out of range.
    """
    if not 1 <= active <= features:
        raise UsageError(
            f"{active} active features of {features}", fix="take 1 or more, and no more than there are"
        )
    x = torch.from_numpy(np.ascontiguousarray(bits)).float()
    mean = x.mean(0)

    def loss(rows: Tensor, net: Learned) -> Tensor:
        return ((_kept(rows @ net.encoder.T + net.bias, active) @ net.decoder - rows) ** 2).sum(1).mean()

    return Sparse(*learned(x - mean, features, loss, steps=steps, batch=BATCH, rate=RATE, seed=seed), mean, active)


def _kept(y: Tensor, active: int) -> Tensor:
    """The greatest `active` of each row where they are positive, else 0."""
    value, place = y.topk(active, 1)
    return torch.zeros_like(y).scatter(1, place, value.clamp_min(0))
