"""Small stores of planted codes, for tests of what is made from stores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.codes import Codes
from polykern.layout import Field, Layout
from polykern.store import Activation, Manifest, Store, Writer
from polykern_kernels import pack

LAYOUT = Layout.of(
    [
        Field("body.0", 0, "relu", (100,), (0.0,), 0),
        Field("body.1", 0, "relu", (60,), (0.0,), 0),
    ]
)


def planted(rows: int, clusters: int = 4, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """bool (rows, 160) near `clusters` centres, a fifth of them anywhere; int64 (rows) whose, -1 for anywhere."""
    draw = np.random.default_rng(seed)
    whose = draw.integers(0, clusters, rows)
    whose[draw.random(rows) < 0.2] = -1
    bits = draw.random((clusters, LAYOUT.bits))[whose] > 0.5
    bits ^= draw.random(bits.shape) < 0.06
    bits[whose < 0] = draw.random((int((whose < 0).sum()), LAYOUT.bits)) > 0.5
    return bits, whose


def codes(bits: NDArray[np.bool_]) -> Codes:
    """Codes of `LAYOUT` with these bits."""
    signs = torch.from_numpy(bits.astype(np.float32) - 0.5)
    return Codes(pack.signs(signs, (0.0,))[0], LAYOUT)


def written(
    folder: Path, bits: NDArray[np.bool_], shards: int = 3, activations: Sequence[str] = (), *, whole: bool = True
) -> Store:
    """A store of these codes with a column `doc`, and the bits of body.0 as activations +-1/2 under some names.

    whole  False leaves it unfinished
    """
    kept = {name: Activation(torch.float32, (100,)) for name in activations}
    manifest = Manifest(
        {"rows": len(bits)}, LAYOUT, ("doc",), kept, about={"model": {"name": "planted", "note": ""}}
    )
    with Writer.open(folder, manifest) as writer:
        for part in np.array_split(np.arange(len(bits)), shards):
            if len(part):
                values = torch.from_numpy(bits[part, :100].astype(np.float32) - 0.5)
                writer.write(codes(bits[part]), {"doc": part}, dict.fromkeys(activations, values))
        if whole:
            writer.finish()
    return Store.open(folder)
