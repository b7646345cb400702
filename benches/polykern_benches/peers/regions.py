"""The exact partition of a square of the plane by a ReLU network: `run(layers, half)` gives the number of regions.

layers  (weights float32 (out, in), bias float32 (out)) of each linear layer; the first has two inputs, and between
        two layers is a ReLU
half    half a side of the square about 0
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from polykern_benches.peers._wanted import missing
from polykern_kernels._dispatch import Impl

Layers = Sequence[tuple[Tensor, Tensor]]


def _regioncam(layers: Layers, half: float) -> int:
    import regioncam

    library: Any = regioncam
    found = library.Regioncam(size=half)
    for i, (weights, bias) in enumerate(layers):
        found.linear(np.ascontiguousarray(weights.T.numpy(), np.float32), bias.numpy().astype(np.float32))
        if i + 1 < len(layers):
            found.relu()
    return int(found.num_faces)


def _affinitree(layers: Layers, half: float) -> int:
    import affinitree

    library: Any = affinitree
    square = library.Polytope.hyperrectangle(2, [(-half, half)] * 2)
    network = library.Architecture(2)
    for i, (weights, bias) in enumerate(layers):
        network.linear(library.AffFunc.from_mats(weights.double().numpy(), bias.double().numpy()))
        if i + 1 < len(layers):
            network.relu()
    inside = library.AffTree.from_poly(square, library.AffFunc.identity(2), None)
    tree = library.builder.from_layers(network, inside)
    return sum(node.is_terminal() for _, node, _ in tree.polyhedra())


PEERS = (
    Impl("regioncam", _regioncam, lambda *args: missing("regioncam", "regioncam==0.5.2")),
    Impl("affinitree", _affinitree, lambda *args: missing("affinitree", "affinitree==0.23.0")),
)
