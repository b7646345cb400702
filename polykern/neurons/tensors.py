"""Neuron embeddings of plain tensors: of an autoencoder's latents, or of a layer of neurons, on rows of data."""

from dataclasses import replace

import torch
from torch import Tensor

from polykern.autoencoders import SparseAutoencoder
from polykern.errors import UsageError
from polykern.neurons.clusters import CUT, Linkage
from polykern.neurons.examples import TopExamples
from polykern.neurons.latent import Latents, Quality
from polykern.neurons.layers import clustered
from polykern.neurons.neurons import Neurons
from polykern.neurons.result import Layer

BATCH = 4096  # rows at a time
READ, AIM = "output:read", "output:aim"


def latent_features(
    autoencoder: SparseAutoencoder,
    x: Tensor,
    *,
    target: Tensor | None = None,
    top: int = 100,
    share: float = 0.75,
    cut: float = CUT,
    linkage: Linkage = "average",
) -> Layer:
    """The latents of an autoencoder as neurons: their examples in clusters, beside how well it does.

    autoencoder  with its decoder; computed in float32
    x            float (n, d)         what it reads
    target       float (n, outputs)   what a transcoder rebuilds; None: x
    top          examples of a latent at most, each a row
    share        a row counts where the activation is above this share of the latent's largest
    cut          distance below which examples merge into one feature
    linkage      "average", or "single": connected components

    `features.metrics` has the mean_distance of every latent (`METRICS`), `autoencoder` the error of what is
    rebuilt, L0 and the share of latents that never fire. A latent's embedding of a row is what the encoder receives
    times the latent's encoder row; its elements sum, with the bias, to the pre-activation. Foote 2024, "Tackling
    Polysemanticity with Neuron Embeddings".

    Errors: UsageError for shapes that do not fit, or no rows; CorruptError where x holds NaN.
    """
    if top < 1 or not 0 <= share < 1 or x.ndim != 2 or not len(x):
        raise UsageError(
            f"top {top} and share {share:g} of {list(x.shape)} keep no examples",
            fix="take top >= 1, 0 <= share < 1 and x (n, d)",
        )
    if target is not None and len(target) != len(x):
        raise UsageError(f"{len(x)} rows are read, {len(target)} are to be rebuilt")
    device = autoencoder.weight.device
    latents = Latents(autoencoder.to(torch.float32, device), READ, None if target is None else AIM)
    quality = Quality(latents)
    running = TopExamples(len(latents), x.shape[1], top, device)
    for first in range(0, len(x), BATCH):
        rows = slice(first, first + BATCH)
        seen = {READ: x[rows].to(device)} | ({} if target is None else {AIM: target[rows].to(device)})
        quality.add(seen)
        _add(running, latents.values(seen), latents.inputs(seen), first)
    return replace(clustered(latents, running.examples(), share, cut, linkage), autoencoder=quality.numbers())


def neuron_features(
    neurons: Neurons,
    x: Tensor,
    *,
    top: int = 100,
    share: float = 0.75,
    cut: float = CUT,
    linkage: Linkage = "average",
) -> Layer:
    """The neurons of a layer that reads plain rows; as `latent_features`.

    neurons  their input weights and biases
    x        float (n, d)   what they receive
    """
    running = TopExamples(len(neurons), x.shape[1], top)
    _add(running, x @ neurons.weight.T + neurons.bias, x, 0)
    return clustered(neurons, running.examples(), share, cut, linkage)


def _add(running: TopExamples, values: Tensor, inputs: Tensor, first: int) -> None:
    """Rows by themselves: each is a sequence of one."""
    rows = torch.arange(first, first + len(values), device=values.device)
    running.add(values[:, None], inputs[:, None], torch.ones_like(rows), rows)
