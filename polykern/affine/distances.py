"""Distances between polytopes as distances of their maps, and how the Hamming distance goes with them."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern import statistics
from polykern.affine.frozen import Kind
from polykern.affine.maps import matrices_of, output_of, pushed, rows_of, values_of
from polykern.errors import UsageError
from polykern.lines import float64_tail
from polykern.lines.networks import require_points
from polykern.lines.sampled import evaluated
from polykern.models import Subject
from polykern.selectors import Select
from polykern.statistics import Estimate
from polykern.tail import Tail
from polykern_kernels import hamming

LARGEST = 1 << 20  # numbers of a matrix that is still made whole
PROBES = 64


@dataclass(frozen=True, slots=True)
class MapDistance:
    """How far the maps of two points p and q are apart.

    squared  ||A_p - A_q||_F^2
    error    its standard error; 0 where it is exact
    sizes    (||A_p||_F^2, ||A_q||_F^2)
    offset   ||c_p - c_q||; NaN of derivatives, which have none
    probes   random directions behind the estimate; None: it is exact
    """

    squared: float
    error: float
    sizes: tuple[float, float]
    offset: float
    probes: int | None = None

    @property
    def distance(self) -> float:
        """||A_p - A_q||_F."""
        return math.sqrt(self.squared)

    @property
    def distance_error(self) -> float:
        """The standard error of `distance`, to first order; 0 where it is exact."""
        return self.error / (2 * self.distance) if self.squared else 0.0

    @property
    def relative(self) -> float:
        """||A_p - A_q||_F over the root mean square of ||A_p||_F and ||A_q||_F; 0 where both are 0."""
        size = math.sqrt(sum(self.sizes) / 2)
        return self.distance / size if size else 0.0

    def augmented(self, weight: float = 1.0) -> float:
        """||[A_p - A_q | weight (c_p - c_q)]||_F."""
        return math.hypot(self.distance, weight * self.offset)


def frobenius(
    network: Subject | Tail | nn.Module,
    p: Tensor,
    q: Tensor,
    *,
    kind: Kind = "exact",
    probes: int | None = None,
    seed: int = 0,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    device: str | torch.device = "cpu",
) -> MapDistance:
    """The distance ||A_p - A_q||_F of the affine maps of two points' polytopes.

    network  a `Subject`, a `Tail` or a model in eval mode
    p, q     float (*shape)   the points, in the input space of `start`
    kind     of map, as for `affine_map`
    probes   estimate it from as many Gaussian directions v, E ||(A_p - A_q) v||^2 (Hutchinson), two passes each;
             None: exact where a matrix has at most 2^20 numbers, else 64
    seed     of the directions
    start, stop, select  as in `polykern.lines.float64_tail`
    device   where it is evaluated
    returns  MapDistance; `augmented` counts the offsets too, `relative` is free of scale

    Errors as for `affine_map`. Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens",
    footnote 8.
    """
    tail = float64_tail(network, p, start=start, stop=stop, select=select, device=device)
    ends = (require_points(tail, x[None], what) for x, what in ((p, "p"), (q, "q")))
    return map_distances(tail, *ends, kind=kind, probes=probes, seed=seed)[0]


def map_distances(
    tail: Tail, p: Tensor, q: Tensor, *, kind: Kind = "exact", probes: int | None = None, seed: int = 0
) -> list[MapDistance]:
    """`frobenius` of pairs: tail and points float64 (n, *input_shape) on its device; all else as there."""
    if probes is not None and probes < 2:
        raise UsageError(f"an estimate with an error needs two probes at least, got {probes}")
    if probes is None and output_of(tail).numel() * tail.input_shape.numel() > LARGEST:
        probes = PROBES
    apart = (values_of(tail, p, kind)[1] - values_of(tail, q, kind)[1]).norm(dim=1).tolist()
    if kind == "jacobian":
        apart = [math.nan] * len(p)
    found = []
    for k in range(len(p)):
        if probes is None:
            a, b = matrices_of(tail, torch.stack([p[k], q[k]]), kind)
            norms = [float(x.square().sum()) for x in (a - b, a, b)]
            found.append(MapDistance(norms[0], 0.0, (norms[1], norms[2]), apart[k]))
        else:
            found.append(_estimated(tail, p[k], q[k], kind, probes, seed, apart[k]))
    return found


def _estimated(tail: Tail, p: Tensor, q: Tensor, kind: Kind, probes: int, seed: int, apart: float) -> MapDistance:
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for number in torch.arange(probes).split(max(1, rows_of(tail) // 2)):
        v = torch.randn(len(number), *tail.input_shape, dtype=torch.float64, generator=generator).to(p.device)
        both = torch.cat([x.expand_as(v) for x in (p, q)])
        a, b = pushed(tail, both, torch.cat([v, v]), kind).chunk(2)
        parts.append(torch.stack([x.square().sum(1) for x in (a - b, a, b)]))
    squares = torch.cat(parts, 1)
    mean = squares.mean(1).tolist()
    return MapDistance(mean[0], float(squares[0].std() / math.sqrt(probes)), (mean[1], mean[2]), apart, probes)


@dataclass(frozen=True, eq=False)
class Correlation:
    """How a distance of codes goes with the distance of maps, over pairs of points.

    hamming    int64 (n)     bits in which the codes differ
    euclidean  float64 (n)   distance of the points
    maps       float64 (n)   ||A_p - A_q||_F
    spearman   of hamming and maps, with its 95 % bootstrap interval over pairs
    baseline   the same of euclidean and maps
    """

    hamming: NDArray[np.int64]
    euclidean: NDArray[np.float64]
    maps: NDArray[np.float64]
    spearman: Estimate
    baseline: Estimate


def hamming_against_maps(
    network: Subject | Tail | nn.Module,
    p: Tensor,
    q: Tensor,
    *,
    kind: Kind = "exact",
    probes: int | None = None,
    resamples: int = 2000,
    seed: int = 0,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    device: str | torch.device = "cpu",
) -> Correlation:
    """Whether polytopes with similar codes have similar maps: Spearman of d_H and ||A_p - A_q||_F over pairs.

    network    a `Subject`, a `Tail` or a model in eval mode
    p, q       float (n, *shape)   the pairs, in the input space of `start`; points that occur in several pairs make
               the interval too narrow
    kind, probes  as for `frobenius`
    resamples  of the bootstrap
    seed       of the bootstrap and the probes
    start, stop, select, device  as there
    returns    Correlation, with the Euclidean distance as its baseline

    Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens": "polytopes with similar codes
    implement similar transformations in expectation". Errors: UsageError as for `affine_map`, or with fewer than
    three pairs.
    """
    if p.shape != q.shape or len(p) < 3:
        shapes = f"{list(p.shape)} and {list(q.shape)}"
        raise UsageError(f"pairs of points have shapes {shapes}", fix="give three pairs or more")
    tail = float64_tail(network, p[0], start=start, stop=stop, select=select, device=device)
    p, q = require_points(tail, p, "p"), require_points(tail, q, "q")
    codes = [evaluated(tail, x, classes=False)[0] for x in (p, q)]
    distances = map_distances(tail, p, q, kind=kind, probes=probes, seed=seed)
    d_h = hamming.aligned(*codes).cpu().numpy().astype(np.int64)
    euclid = (p - q).flatten(1).norm(dim=1).cpu().numpy()
    maps = np.array([d.distance for d in distances])
    spearman, baseline = (statistics.spearman(x, maps, resamples=resamples, seed=seed) for x in (d_h, euclid))
    return Correlation(d_h, euclid, maps, spearman, baseline)
