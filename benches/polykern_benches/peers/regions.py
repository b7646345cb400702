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


PEERS = (Impl("regioncam", _regioncam, lambda *args: missing("regioncam", "regioncam==0.5.2")),)
