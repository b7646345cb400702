"""Float rows under the Euclidean distance: the space in which activations are clustered.

The distance of a pair is by definition a float64 number of the two rows alone (`polykern_kernels.euclid`), so it is
symmetric and the same for any blocking, backend and order of rows. Searches look at products of matrices first and
leave out only what their error bound proves to be too far; what is left is computed as defined. So k-nearest
neighbours and spanning trees are exact, ties go to the smaller row, and no table of all pairs is held.

    euclidean   |x - y|
    cosine      |x / |x| - y / |y||, the chord: sqrt(2 (1 - cos)). Its neighbours and its spanning tree are those of
                1 - cos. Its clusters by excess of mass need not be: 1 / distance is another number (as for squared
                Hamming distances); `leaf` clusters are the same
"""

import torch
from torch import Tensor

from polykern.arithmetic import ieee
from polykern.clustering.space import REAL, by_rows
from polykern.errors import UsageError
from polykern.progress import Progress
from polykern_kernels import euclid

_BLOCK = 1 << 22  # numbers in float64 at a time
_PAIRS = 1 << 17  # pairs at a time


class Euclidean:
    """Float rows; a `polykern.clustering.space.Space` whose distances are float64.

    x        float16|bfloat16|float32|float64 (n, d)   rows, on a CPU or a CUDA device. Half precision is widened
             to float32, which is exact. Equal rows are allowed; their distance is 0
    metric   "euclidean" | "cosine"; cosine divides every row by its float64 norm and rounds the quotients to
             float32, or to float64 when x is
    backend  "cpu" | "torch" | "reference"; None takes the first that can run
    filter   torch.float32 | torch.float64: precision of the products that rule pairs out; None takes float32 where
             it rules out nearly all that it should. The answers are the same

    Memory: x widened, a copy rounded for the filter, and tiles of 8 MiB (on CUDA blocks of 512 MiB, several at a
    time). Raises UsageError for other dtypes, NaN, infinity, coordinates whose squares float64 does not hold, and a
    zero row under "cosine".
    """

    def __init__(
        self, x: Tensor, metric: str = "euclidean", *, backend: str | None = None, filter: torch.dtype | None = None
    ) -> None:
        if metric not in REAL:
            raise UsageError(f"float rows have no metric {metric!r}", fix=f"take one of {', '.join(REAL)}")
        x = _widened(x)
        x = normalised(x) if metric == "cosine" else x
        self.metric, self.backend = metric, backend
        try:
            with ieee():
                self.rows = euclid.prepare(x, filter)
        except ValueError as error:
            raise UsageError(
                "the rows cannot be compared", why=str(error), fix="scale the rows, or take float64"
            ) from error

    @property
    def n(self) -> int:
        """Points."""
        return len(self.rows.x)

    @property
    def zero(self) -> float:
        """0: half of the least positive weight of the tree stands for a distance of 0."""
        return 0.0

    def nearest(self, k: int, progress: Progress | None = None) -> tuple[Tensor, Tensor]:
        """The k nearest other points of each point.

        returns  float64 (n, k), int64 (n, k)   distances and points, ascending by (distance, point)

        Exact. Errors: UsageError unless 0 <= k < n.
        """
        if not 0 <= k < self.n:
            raise UsageError(f"{k} nearest others of {self.n} points")
        said = (lambda done, total: progress("neighbours", done, total)) if progress else None
        with ieee():
            return euclid.nearest(self.rows, k, backend=self.backend, progress=said)

    def foreign(
        self, rows: Tensor, cores: Tensor, components: Tensor, bound: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The least mutual reachability of some points to other components.

        rows        int64 (r)     points that ask
        cores       float64 (n)   core distances
        components  int64 (n)
        bound       None | float64 (r)   only weights below it are of interest
        returns     float64 (r), int64 (r)   the least (max(core, core, distance), point); -1 where there is none

        Exact.
        """

        def ask(some: Tensor, below: Tensor | None) -> tuple[Tensor, Tensor]:
            return euclid.foreign(self.rows, some, cores, components, below, backend=self.backend)

        with ieee():
            return by_rows(ask, rows, bound)

    def between(self, i: Tensor, j: Tensor) -> Tensor:
        """float64 (m): the distances of aligned pairs, int64 (m) and int64 (m). Exact as defined."""
        return euclid.pairs(self.rows, i, j, backend=self.backend)


def distances(x: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """The Euclidean distances of aligned pairs of rows.

    x        float16|bfloat16|float32|float64 (n, d)
    i, j     int64 (m)     rows
    returns  float64 (m)   as `Euclidean(x).between(i, j)`, without looking at other rows

    Errors: UsageError for another dtype. NaN and infinity give what float64 gives.
    """
    x = _widened(x, finite=False)
    parts = [euclid.distances(x, a, b) for a, b in zip(i.split(_PAIRS), j.split(_PAIRS), strict=True)]
    return torch.cat(parts)


def _widened(x: Tensor, *, finite: bool = True) -> Tensor:
    if x.ndim != 2 or not x.is_floating_point():
        raise UsageError(f"rows must be float (n, d), got {x.dtype} {list(x.shape)}")
    x = x.detach()
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    if finite and not bool(torch.isfinite(x).all()):
        broken = ~torch.isfinite(x).all(1)
        raise UsageError(
            "the rows hold NaN or infinity, which is at no distance from anything",
            why=f"in {int(broken.sum())} of {len(x)} rows, first in row {int(broken.int().argmax())}",
            fix="leave these rows out",
        )
    return x


def normalised(x: Tensor) -> Tensor:
    """Every row divided by its norm.

    x        float32|float64 (n, d)
    returns  x's dtype (n, d)   the quotients by the float64 norm, rounded once

    Errors: UsageError for a row of zeros.
    """
    out = x.clone()
    for block in out.split(max(1, _BLOCK // max(1, x.shape[1]))):
        peak = block.double().abs().amax(1, keepdim=True) if x.shape[1] else block.new_zeros((len(block), 1))
        if bool((peak == 0).any()):
            raise UsageError("a row of zeros has no direction", fix="leave such rows out, or take euclidean")
        exponent = peak.frexp().exponent.double()  # a largest entry of about 1, so that no square is lost
        half = (exponent / 2).floor()
        wide = block.double() * torch.exp2(-half) * torch.exp2(half - exponent)
        block.copy_(wide / wide.square().sum(1, keepdim=True).sqrt())
    return out
