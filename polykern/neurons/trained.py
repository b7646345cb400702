"""Sparse autoencoders learned with a loss of neuron embeddings, for latents whose examples are alike.

    loss = |x - rebuilt|^2 + sparsity sum_j f_j + strength L,    of rows with mean 0 and |x|^2 = 1 in the mean

    L = mean over active latents of 1 - cos(e_ij, m_j),   e_ij = h_i * w_j

with m_j the running mean of latent j's embeddings: of every batch in which it is active a tenth of the mean over
its active rows. m is held fixed where the loss is differentiated. No e_ij is stored: with h_i the encoder's input,
<e_ij, m_j> = h_i . (w_j * m_j) and |e_ij|^2 = (h_i * h_i) . (w_j * w_j) are products of matrices. Foote 2024,
"Tackling Polysemanticity with Neuron Embeddings", workshop abstract.
"""

import torch
from torch import Tensor

from polykern.autoencoders import SparseAutoencoder
from polykern.errors import UsageError
from polykern.learning import Learned, learned

MOMENTUM = 0.9  # of the running mean
STEPS, BATCH, RATE = 600, 128, 1e-2


class EmbeddingLoss:
    """The loss L of one autoencoder over the steps of its training.

    units  of the autoencoder
    width  of what it reads
    """

    def __init__(self, units: int, width: int) -> None:
        self.mean = torch.zeros(units, width)
        self._met = torch.zeros(units, dtype=torch.bool)

    def __call__(self, h: Tensor, encoder: Tensor, active: Tensor) -> Tensor:
        """The loss of a batch, which the running means take in first.

        h        float (n, d)       what the encoder receives
        encoder  float (units, d)
        active   bool (n, units)
        """
        self._take(h.detach(), encoder.detach(), active)
        dot = h @ (encoder * self.mean).T
        square = (h * h) @ (encoder * encoder).T
        apart = 1 - dot / ((square + 1e-12).sqrt() * self.mean.norm(dim=1).clamp_min(1e-12))
        whole: Tensor = (apart * active).sum() / active.sum().clamp_min(1)
        return whole

    def _take(self, h: Tensor, encoder: Tensor, active: Tensor) -> None:
        count = active.sum(0)
        now = encoder * (active.to(h.dtype).T @ h) / count.clamp_min(1)[:, None]
        slow = torch.where(self._met, MOMENTUM, 0.0)[:, None]
        self.mean = torch.where((count > 0)[:, None], slow * self.mean + (1 - slow) * now, self.mean)
        self._met |= count > 0


def trained(
    x: Tensor, units: int, *, sparsity: float, strength: float = 0.0, steps: int = STEPS, seed: int = 0
) -> SparseAutoencoder:
    """A ReLU autoencoder of rows, whose mean it subtracts and adds again.

    x         float (n, d)
    units     latents
    sparsity  weight of the sum of activations
    strength  weight of the loss of neuron embeddings; 0: without it
    steps     of Adam, 128 rows each

    Decoder rows have length 1. The same seed, machine and torch give the same bits; with another strength it begins
    and draws its rows alike. Errors: UsageError for rows that do not vary, or negative weights.
    """
    mean = x.float().mean(0)
    rows = x.float() - mean
    variance = float(rows.square().sum(1).mean())
    if not variance > 0 or min(sparsity, strength) < 0:
        raise UsageError(
            f"no autoencoder of variance {variance:g}, sparsity {sparsity:g}, strength {strength:g}",
            fix="give rows that vary, and weights of 0 or more",
        )
    size, embedding = variance**0.5, EmbeddingLoss(units, x.shape[1])

    def loss(some: Tensor, net: Learned) -> Tensor:
        f = (some @ net.encoder.T + net.bias).relu()
        whole = (f @ net.decoder - some).square().sum(1).mean() + sparsity * f.sum(1).mean()
        return whole if strength == 0 else whole + strength * embedding(some, net.encoder, f > 0)

    net = learned(rows / size, units, loss, steps=steps, batch=BATCH, rate=RATE, seed=seed)
    return SparseAutoencoder(
        net.encoder.T.contiguous(), size * net.bias, centre=mean, decoder=net.decoder, offset=mean, name="sae"
    )
