"""Planted clusters: codes whose groups are known."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Truth = NDArray[np.int64]
LATENT = 24  # dimensions of the points that a layer codes
BLOCK = 4096  # rows made at a time


def layer(
    n: int, bits: int = 3072, *, clusters: int = 20, noise: float = 0.2, seed: int = 0
) -> tuple[Tensor, Truth]:
    """Codes of a random layer at points of a Gaussian mixture over a wide background.

    n         rows, in random order
    bits      units of the layer
    clusters  Gaussians, of different widths
    noise     share of the background
    returns   int32 (n, words)   packed codes
              int64 (n)          cluster of each row, -1 for the background
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, LATENT))
    widths = rng.uniform(0.1, 0.35, clusters)
    weights = rng.normal(size=(LATENT, bits)) / np.sqrt(LATENT)
    bias = 0.4 * rng.normal(size=bits) - 0.3

    def codes(truth: Truth) -> NDArray[np.bool_]:
        spread = rng.normal(size=(len(truth), LATENT))
        inside = centres[truth] + widths[truth, None] * spread
        points = np.where(truth[:, None] < 0, 1.2 * spread, inside)
        return np.asarray(points @ weights + bias > 0)

    return _packed(n, bits, clusters, noise, rng, codes)


def flips(
    n: int, bits: int = 3072, *, clusters: int = 20, noise: float = 0.2, seed: int = 0
) -> tuple[Tensor, Truth]:
    """Random codes and copies of them with bits flipped independently, over random codes; as `layer`."""
    rng = np.random.default_rng(seed)
    share = rng.uniform(0.1, 0.5, bits)  # of ones, bit by bit
    centres = rng.random((clusters, bits)) < share
    rates = rng.uniform(0.05, 0.2, clusters)

    def codes(truth: Truth) -> NDArray[np.bool_]:
        shape = (len(truth), bits)
        copies = centres[truth] ^ (rng.random(shape, np.float32) < rates[truth, None])
        return np.where(truth[:, None] < 0, rng.random(shape, np.float32) < share, copies)

    return _packed(n, bits, clusters, noise, rng, codes)


def copies(
    n: int, bits: int = 3072, *, clusters: int = 20, noise: float = 0.1, seed: int = 0
) -> tuple[Tensor, Truth]:
    """Random codes and copies of them with an eighth of the bits flipped, whole words at once; as `layer`."""
    rng, words = torch.Generator().manual_seed(seed), -(-bits // 32)
    label = torch.randint(0, clusters, (n,), generator=rng)
    label[torch.rand(n, generator=rng) < noise] = -1

    def random(rows: int) -> Tensor:
        return torch.randint(-(2**31), 2**31 - 1, (rows, words), dtype=torch.int32, generator=rng)

    centres, out = random(clusters), torch.empty((n, words), dtype=torch.int32)
    for first in range(0, n, BLOCK):
        some = label[first : first + BLOCK]
        near = centres[some] ^ (random(len(some)) & random(len(some)) & random(len(some)))
        out[first : first + BLOCK] = torch.where(some[:, None] < 0, random(len(some)), near)
    out[:, -1] &= 2**31 - 1 >> 31 - bits % 32 if bits % 32 else -1
    return out, label.numpy()


def _packed(
    n: int,
    bits: int,
    clusters: int,
    noise: float,
    rng: np.random.Generator,
    codes: Callable[[Truth], NDArray[np.bool_]],
) -> tuple[Tensor, Truth]:
    truth = np.where(rng.random(n) < noise, -1, rng.integers(0, clusters, n))
    words = np.zeros((n, -(-bits // 32) * 4), np.uint8)
    for first in range(0, n, BLOCK):
        octets = np.packbits(codes(truth[first : first + BLOCK]), axis=1, bitorder="little")
        words[first : first + BLOCK, : octets.shape[1]] = octets
    return torch.from_numpy(words.view(np.int32)), truth
