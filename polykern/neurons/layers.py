"""From the examples of some neurons to a layer: which of them count, their clusters, what is similar."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.neurons.clusters import KINDS, Features, Linkage, features
from polykern.neurons.examples import Examples
from polykern.neurons.reading import Group
from polykern.neurons.result import Layer
from polykern.neurons.similar import similar
from polykern.ranks import Ranks, ranks

CHUNK = 256  # neurons that are clustered at a time


def clustered(group: Group, found: Examples, share: float, cut: float, linkage: Linkage) -> Layer:
    """The layer of some neurons, from their examples.

    group    the neurons
    found    their examples, `inputs` being what they received
    share    an example counts whose activation is above this share of the neuron's largest
    cut      distance below which examples merge
    linkage  "average" or "single"

    Distances are computed where the examples are, clusters on the CPU; ranks share them. Errors as `features`.
    """
    activation = torch.where(found.row >= 0, group.activated(found.value), 0.0)
    largest = activation[:, :1]
    counted = ((activation > share * largest) & (found.row >= 0)).sum(1).masked_fill(largest[:, 0] <= 0, 0)
    kept, weight = counted.cpu().numpy(), group.weight
    here, parts = ranks(), list[Features | None]()
    for number, first in enumerate(range(0, len(weight), CHUNK)):
        some, mine = slice(first, first + CHUNK), number % here.size == here.rank
        of = (found.received(some), weight[some], kept[some]) if mine else None
        parts.append(features(*of, cut=cut, linkage=linkage) if of else None)
    joined = _joined(parts, here)
    neuron, example = torch.from_numpy(joined.central[:, 0]), torch.from_numpy(joined.central[:, 2])
    at = torch.searchsorted(found.token, found.row[neuron.to(found.row.device), example.to(found.row.device)])
    index, cosine = similar(found.inputs[at], joined.central[:, 0])
    return Layer(
        group.field, found.value.cpu().numpy(), activation.cpu().numpy(), found.row.cpu().numpy(),
        found.window.cpu().numpy(), joined, index, cosine,
    )  # fmt: skip


def _joined(parts: Sequence[Features | None], at: Ranks) -> Features:
    """The features of chunks of neurons, each from the rank that has it; the neurons of `central` counted on."""
    every: dict[str, list[NDArray[Any]]] = {name: [] for name in KINDS}
    for k, part in enumerate(parts):
        for name, dtype in KINDS.items():
            own = np.empty(0, dtype) if part is None else getattr(part, name)
            every[name].append(at.gathered(torch.from_numpy(own))[k % at.size].numpy())
        every["central"][k] = every["central"][k] + np.array([CHUNK * k, 0, 0])
    return Features(**{name: np.concatenate(found) for name, found in every.items()})
