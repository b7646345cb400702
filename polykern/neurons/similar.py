"""Similar features: for the central example of a cluster, the clusters of other neurons that receive alike.

Exact: cosine similarities of all pairs, block by block, of what the layer receives at the central examples. Foote's
site takes an index that guesses; nothing is guessed here.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 2048


def similar(
    received: Tensor, neuron: NDArray[np.int64], k: int = 20
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k most similar features of other neurons.

    received  float32 (c, d)   at the central example of each feature
    neuron    int64 (c)        the neuron that a feature is of
    returns   int64 (c, k)     features, the most similar first; -1 where there are fewer
              float32 (c, k)   their cosine similarity
    """
    unit = torch.nn.functional.normalize(received.float(), dim=1)
    owner = torch.from_numpy(neuron).to(unit.device)
    c = len(unit)
    index, value = np.full((c, k), -1, np.int64), np.full((c, k), np.nan, np.float32)
    width = min(k, max(0, c - 1))
    for first in range(0, c, BLOCK) if width else ():
        rows = slice(first, first + BLOCK)
        cosine = (unit[rows] @ unit.T).masked_fill_(owner[rows, None] == owner, -torch.inf)
        best, at = cosine.topk(width, 1)
        held = best > -torch.inf
        index[rows, :width] = torch.where(held, at, -1).cpu().numpy()
        value[rows, :width] = torch.where(held, best, torch.nan).cpu().numpy()
    return index, value
