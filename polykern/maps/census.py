"""How many polytopes a grid met: a lower bound, an estimate, an error bar and whether to believe them.

N(n) codes on an n x n grid miss the polytopes that slip between pixels; once fewer than a fifth are missed, the
miss halves with every doubling of n. The same pixels taken every second and every fourth give N(n/2) and
N(n/4), averaged over their offsets, hence the extrapolation
    E1 = 2 N(n) - N(n/2),    E2 = (8 N(n) - 6 N(n/2) + N(n/4)) / 3.
The estimate is E2, its error max(|E2 - E1|, 0.5 %), unreliable when (N(n) - N(n/2)) / N(n) > 0.15. It is empirical
(measured on small ReLU networks), not a theorem; N(n) alone is certain.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern_kernels import census as kernel

UNRELIABLE = 0.15
LEAST_ERROR = 0.005
# the offsets modulo 4 (bit 4 row + column) that are one offset modulo 2
HALVES = [sum(1 << (4 * r + c) for r in (a, a + 2) for c in (b, b + 2)) for a in (0, 1) for b in (0, 1)]


@dataclass(frozen=True, slots=True)
class Polytopes:
    """Counts of distinct codes on a grid.

    distinct            codes met: a lower bound of the polytopes in the window
    estimate, error     E2 and its error bar
    reliable            whether the grid was fine enough for the estimate
    single_pixel_share  share of the codes that were met at one pixel only
    """

    distinct: int
    estimate: float
    error: float
    reliable: bool
    single_pixel_share: float

    def as_dict(self) -> dict[str, float | int | bool]:
        """For JSON."""
        return asdict(self)


Sightings = tuple[Tensor, Tensor, Tensor]


def sightings(digest: NDArray[np.int64], row: int, column: int = 0) -> Sightings:
    """The distinct codes of a band: fingerprints (d, 2), the offsets modulo 4 where each was seen, counts.

    digest       int64 (height, width, 2)
    row, column  of its first pixel
    """
    height, width, _ = digest.shape
    rows = (np.arange(height) + row) % 4
    columns = (np.arange(width) + column) % 4
    marks = (1 << (4 * rows[:, None] + columns[None])).astype(np.int32)
    ones = torch.ones(height * width, dtype=torch.int64)
    flat = torch.from_numpy(np.ascontiguousarray(digest.reshape(-1, 2)))
    return kernel.united(flat, torch.from_numpy(marks.reshape(-1)), ones)


def polytopes(bands: list[Sightings]) -> Polytopes:
    """The census of a whole grid from the sightings of its bands."""
    _, marks, counts = kernel.united(*(torch.cat([b[k] for b in bands]) for k in range(3)))
    seen = marks.numpy()
    n = len(seen)
    n2 = sum(int(((seen & offset) != 0).sum()) for offset in HALVES) / 4
    n4 = int(np.bitwise_count(seen.view(np.uint32)).sum()) / 16
    first, second = 2 * n - n2, (8 * n - 6 * n2 + n4) / 3
    return Polytopes(
        distinct=n,
        estimate=float(second),
        error=float(max(abs(second - first), LEAST_ERROR * second)),
        reliable=bool((n - n2) / n <= UNRELIABLE),
        single_pixel_share=float((counts == 1).double().mean()),
    )
