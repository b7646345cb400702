"""The audit of a map: a random sample of its pixels again in float64.

Small blocks of pixels at random places are evaluated by plain dense float64; their counts and fingerprints are
compared with those that the map's engine gave. A fingerprint is a sum of keys, so a difference that is one key is
one wrong bit and says which; other differences hold two wrong bits at least.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.block import Block
from polykern.dense import DenseEngine
from polykern.plane import Grid
from polykern.tail import Tail
from polykern_kernels import digest

SIDE = 8  # pixels of an audited block
MEMORY = 64 << 20  # bytes of a batch on a CPU, where a float64 convolution unfolds it to several times that


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit found.

    points, bits            pixels and bits that were compared
    wrong_bits              bits that differ from float64
    wrong_bits_are          "exact", or "at least" when some pixels hold more than one
    wrong_bits_per_point    wrong_bits / points
    density_relative_error  of the sum of the neighbouring distances in the audited blocks
    uncertain_bits          bits of the whole map within the engine's own error bound
    """

    points: int
    bits: int
    wrong_bits: int
    wrong_bits_are: str
    wrong_bits_per_point: float
    density_relative_error: float
    uncertain_bits: int

    def as_dict(self) -> dict[str, float | int | str]:
        """For JSON."""
        return asdict(self)


def places(resolution: int, share: float, seed: int) -> list[Block]:
    """The blocks to audit: about `share` of the pixels, by row."""
    side = min(SIDE, resolution - 1)
    room = resolution - 1 - side  # the last row and column have no neighbour
    count = max(1, round(share * resolution**2 / side**2))
    corners = np.random.default_rng(seed).integers(0, room + 1, (count, 2))
    return [Block(int(r), int(c), side, side) for r, c in sorted(map(tuple, corners))]


def audit(
    tail: Tail,
    grid: Grid,
    blocks: Sequence[Block],
    found: NDArray[np.int64],
    right: NDArray[np.uint16],
    down: NDArray[np.uint16],
    uncertain: int,
    *,
    device: str = "cpu",
    memory: int = MEMORY,
) -> Audit:
    """Compare a finished map with float64.

    tail         the network
    blocks       from `places`
    found        int64 (k, side, side, 2) fingerprints that the engine gave there
    right, down  the maps
    uncertain    bits the engine itself could not certify
    device       where float64 runs
    memory       bytes that a batch may take there, on a CPU MEMORY at most
    """
    budget = min(memory, MEMORY) if torch.device(device).type == "cpu" else memory
    engine = DenseEngine(tail, torch.float64, device=device, memory_budget=budget, classes=False)
    truth = engine.blocks(grid, blocks)
    wrong, exact, ours, theirs = 0, True, 0, 0
    keys = digest.keys(tail.layout.bits).numpy()
    for block, true, got in zip(blocks, truth, found, strict=True):
        rows, columns = slice(block.row, block.row + block.height), slice(block.column, block.column + block.width)
        ours += int(right[rows, columns].sum(dtype=np.int64) + down[rows, columns].sum(dtype=np.int64))
        theirs += int(true.right.sum(dtype=np.int64) + true.down.sum(dtype=np.int64))
        one, more = _wrong((got - true.digest).reshape(-1, 2), keys)
        wrong += one + 2 * more
        exact &= more == 0
    points = sum(b.height * b.width for b in blocks)
    return Audit(
        points=points,
        bits=points * tail.layout.bits,
        wrong_bits=wrong,
        wrong_bits_are="exact" if exact else "at least",
        wrong_bits_per_point=wrong / points,
        density_relative_error=(ours - theirs) / max(1, theirs),
        uncertain_bits=uncertain,
    )


def _wrong(difference: NDArray[np.int64], keys: NDArray[np.int64]) -> tuple[int, int]:
    """Pixels whose fingerprints differ by exactly one key, and by more."""
    differs = difference[(difference != 0).any(1)]
    if not len(differs):
        return 0, 0
    single = np.concatenate([keys, -keys])
    single = single[np.argsort(single[:, 0])]
    at = np.searchsorted(single[:, 0], differs[:, 0]).clip(max=len(single) - 1)
    one = int((single[at] == differs).all(1).sum())
    return one, len(differs) - one
