"""From the examples of some neurons to a layer: which of them count, their clusters, what is similar."""

from collections.abc import Sequence

import numpy as np
import torch

from polykern.neurons.clusters import Features, Linkage, features
from polykern.neurons.examples import Examples
from polykern.neurons.reading import Group
from polykern.neurons.result import Layer
from polykern.neurons.similar import similar

CHUNK = 256  # neurons that are clustered at a time


def clustered(group: Group, found: Examples, share: float, cut: float, linkage: Linkage) -> Layer:
    """The layer of some neurons, from their examples.

    group    the neurons
    found    their examples, `inputs` being what they received
    share    an example counts whose activation is above this share of the neuron's largest
    cut      distance below which examples merge
    linkage  "average" or "single"

    Distances are computed where the examples are, clusters on the CPU. Errors as `features`.
    """
    activation = torch.where(found.row >= 0, group.activated(found.value), 0.0)
    largest = activation[:, :1]
    counted = ((activation > share * largest) & (found.row >= 0)).sum(1).masked_fill(largest[:, 0] <= 0, 0)
    kept, weight = counted.cpu().numpy(), group.weight
    parts = []
    for first in range(0, len(weight), CHUNK):
        some = slice(first, first + CHUNK)
        parts.append(features(found.received(some), weight[some], kept[some], cut=cut, linkage=linkage))
    joined = _joined(parts)
    neuron, example = torch.from_numpy(joined.central[:, 0]), torch.from_numpy(joined.central[:, 2])
    at = torch.searchsorted(found.token, found.row[neuron.to(found.row.device), example.to(found.row.device)])
    index, cosine = similar(found.inputs[at], joined.central[:, 0])
    return Layer(
        group.field, found.value.cpu().numpy(), activation.cpu().numpy(), found.row.cpu().numpy(),
        found.window.cpu().numpy(), joined, index, cosine,
    )  # fmt: skip


def _joined(parts: Sequence[Features]) -> Features:
    """The features of chunks of neurons, the neurons of `central` counted on."""
    central = [p.central + np.array([CHUNK * k, 0, 0]) for k, p in enumerate(parts)]
    rest = {
        name: np.concatenate([getattr(p, name) for p in parts])
        for name in ("label", "size", "count", "sweep", "metrics", "members")
    }
    return Features(**rest, central=np.concatenate(central))
