"""Knock-outs: what a network still does when a random share of a layer's neurons is zero.

    area = integral over the share f of the score with f of the neurons zeroed

An error-correcting code keeps its score until many neurons have failed. Nothing is scaled up for the neurons that
are missing.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Reals = NDArray[np.float64]
SHARES = tuple(k / 10 for k in range(11))
Score = Callable[[Tensor], float]  # float32 (units), 1 for a neuron that works and 0 for one that does not


def curves(
    score: Score, units: int, *, shares: tuple[float, ...] = SHARES, repeats: int = 20, seed: int = 0
) -> Reals:
    """float64 (repeats, shares): the score with that share of the neurons zeroed.

    score    of a mask over the neurons
    units    neurons
    shares   ascending, 0 .. 1, of which round(share * units) neurons are zeroed
    repeats  orders in which neurons fail; in each those of a smaller share fail first
    seed     of the orders
    """
    rng = np.random.default_rng(seed)
    found = np.empty((repeats, len(shares)))
    for row in found:
        order = torch.from_numpy(rng.permutation(units))
        for k, share in enumerate(shares):
            mask = torch.ones(units)
            mask[order[: round(share * units)]] = 0
            row[k] = score(mask)
    return found


def area(curve: ArrayLike, shares: tuple[float, ...] = SHARES) -> Reals:
    """float64 (...): the area under curves (..., shares) by trapezoids."""
    found: Reals = np.asarray(np.trapezoid(np.asarray(curve, np.float64), shares, axis=-1))
    return found
