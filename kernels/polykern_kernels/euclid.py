"""Euclidean distances of float rows: exact by definition, found behind a filter of matrix products.

    distance(x, y) = sqrt(S),  S = the sum of (x[c] - y[c])**2 over columns c

Every operation is rounded to float64, in one order: lane l = 0 ... 15 adds columns l, l + 16, ... one after the
other, then lanes 0-7 are added to 8-15, 0-3 to 4-7, 0-1 to 2-3, 0 to 1. So a distance depends on its two rows
alone: not on who computes it, nor on which comes first. Relative error below (columns + 16) 2**-53.

Whoever looks for near rows looks at |x|^2 + |y|^2 - 2 x.y first, of rows moved to their mean, scaled by a power of
two and rounded to the filter's precision (unit u). With g the computed product of rounded rows a, b of d columns,

    |g - a.b| <= gamma |a| |b| <= gamma (|a|^2 + |b|^2) / 2,    gamma = d u / (1 - d u)

in any order of summation (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1). Hence a pair
with (1 - gamma) (|a|^2 + |b|^2) - 2 g above the square of a limit, with what the rounding of a and b can do added,
is farther apart than that limit; the rest are computed as defined. The answers do not depend on the filter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection

LANES = 16
FILTERS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}  # unit roundoff
TINY = 2.0**-126  # least normal float32: what a product may lose below it
LARGEST, LEAST = 1e150, 1e-130  # of a coordinate about the mean: its square is a normal float64
_FLOATS = (torch.float32, torch.float64)
Progress = Callable[[int, int], None]  # done, total

# --- contract -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """Float rows and what a filter knows of them; made by `prepare`.

    x       float32|float64 (n, d)   the rows, zero columns added up to a multiple of 16
    short   float32|float64 (n, d)   moved to the mean, scaled so that the largest entry is below 1, rounded
    low     short's dtype (n)        (1 - gamma) |short|^2, rounded down
    high    short's dtype (n)        (1 + gamma) |short|^2, rounded up
    reach   float64 (n)              how far rounding moved a row and any other one together, scaled
    scale   the power of two
    """

    x: Tensor
    short: Tensor
    low: Tensor
    high: Tensor
    reach: Tensor
    scale: float

    def limit(self, distance: Tensor, rows: Tensor) -> Tensor:
        """Whatever has low[j] - 2 g above this is farther from rows[i] than distance[i]; short's dtype."""
        columns = self.short.shape[1]
        far = self.scale * distance * (1 + (columns + 16) * 2.0**-53) + self.reach[rows]
        edge = far.square() + 8 * columns * TINY - self.low[rows].double()
        return (edge + edge.abs() * 4 * FILTERS[self.short.dtype]).to(self.short.dtype)


def prepare(x: Tensor, dtype: torch.dtype | None = None) -> Rows:
    """Rows with their filter.

    x        float32|float64 (n, d)   finite
    dtype    precision of the filter: torch.float32 | torch.float64; None takes float32 unless a sample of rows
             shows that its error would let through more than a twentieth of all pairs

    The float32 product must be IEEE float32: switch TF32 and the like off. Memory: the rows, the rounded ones, and
    blocks of float64. Raises ValueError for other arguments, for NaN and infinity, and when the coordinates differ
    by more than 1e150 or by less than 1e-130 altogether.
    """
    op = "euclid.prepare"
    _check.tensor(op, "x", x, _FLOATS, "n", "d")
    if dtype is not None and dtype not in FILTERS:
        raise ValueError(f"{op}: dtype must be torch.float32 or torch.float64, got {dtype}")
    if not bool(torch.isfinite(x).all()):
        _check.fail(op, "x", "finite", x)
    mean, largest = _centre(x)
    if not largest <= LARGEST or 0 < largest < LEAST:
        raise ValueError(f"{op}: coordinates about their mean reach {largest}, whose square float64 does not hold")
    wide = torch.nn.functional.pad(x, (0, -x.shape[1] % LANES)).contiguous()
    if dtype is not None:
        return _rounded(x, wide, mean, largest, dtype)
    rows = _rounded(x, wide, mean, largest, torch.float32)
    return rows if _narrow(rows) else _rounded(x, wide, mean, largest, torch.float64)


def pairs(rows: Rows, i: Tensor, j: Tensor, *, backend: str | None = None) -> Tensor:
    """The distances of aligned pairs.

    i        int64 (m)   rows
    j        int64 (m)   rows
    backend  "cpu" | "torch" | "reference"; None takes the first that can run
    returns  float64 (m)

    Exact as defined, the same on every backend. Raises ValueError when the arguments do not fit.
    """
    op = "euclid.pairs"
    for name, index in (("i", i), ("j", j)):
        _check_rows(op, name, index, rows)
    if len(i) != len(j):
        _check.fail(op, "j", f"int64 ({len(i)})", j)
    return choose(op, IMPLS["pairs"], backend, rows.x, i, j).run(rows, i, j)  # type: ignore[no-any-return]


def nearest(
    rows: Rows, k: int, *, backend: str | None = None, progress: Progress | None = None
) -> tuple[Tensor, Tensor]:
    """The k nearest other rows of every row.

    k         0 <= k < n
    backend   "cpu" | "torch" | "reference"; None takes the first that can run
    progress  called with (tiles done, tiles in all)
    returns   float64 (n, k)   distances, ascending
              int64 (n, k)     rows; of equal distances the smaller comes first

    Exact, the same on every backend. Raises ValueError when k does not fit.
    """
    op = "euclid.nearest"
    if not 0 <= k < max(1, len(rows.x)):
        raise ValueError(f"{op}: k must be 0 ... {len(rows.x) - 1}, got {k}")
    chosen = choose(op, IMPLS["nearest"], backend, rows.x)
    return chosen.run(rows, k, progress or _silent)  # type: ignore[no-any-return]


def foreign(
    rows: Rows,
    asking: Tensor,
    cores: Tensor,
    components: Tensor,
    bound: Tensor | None = None,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The least mutual reachability of some rows to other components.

    asking      int64 (r)     rows that ask
    cores       float64 (n)   core distances
    components  int64 (n)
    bound       None | float64 (r)   only weights below it are of interest
    backend     "cpu" | "torch" | "reference"; None takes the first that can run
    returns     float64 (r)   the least max(cores[i], cores[j], distance(i, j)) over j of another component
                int64 (r)     that j, the smallest of equal ones; -1 where nothing is below the bound, and then the
                              weight is the bound, or infinity

    Exact, the same on every backend. Raises ValueError when the arguments do not fit.
    """
    op = "euclid.foreign"
    _check_rows(op, "asking", asking, rows)
    _check.sized(op, "cores", cores, torch.float64, len(rows.x))
    _check.sized(op, "components", components, torch.int64, len(rows.x))
    if bound is None:
        bound = torch.full(asking.shape, math.inf, dtype=torch.float64, device=asking.device)
    _check.sized(op, "bound", bound, torch.float64, len(asking))
    _check.same_device(op, rows=rows.x, asking=asking, cores=cores, components=components, bound=bound)
    chosen = choose(op, IMPLS["foreign"], backend, rows.x, asking)
    return chosen.run(rows, asking, cores, components, bound)  # type: ignore[no-any-return]


def cost(n: int, columns: int, k: int) -> Cost:
    """`nearest`: read each row once, write the lists, one float32 product a pair, each half of a float64 one."""
    return Cost(bytes=n * (4 * columns + 16 * k), flops=n * (n - 1) // 2 * columns)


def cost_foreign(asking: int, n: int, columns: int) -> Cost:
    """`foreign`: read each row, core and component once, one float32 product a pair, each half of a float64 one."""
    return Cost(bytes=n * (4 * columns + 16) + 32 * asking, flops=asking * n * columns)


def _silent(done: int, total: int) -> None:
    pass


def _check_rows(op: str, name: str, index: Tensor, rows: Rows) -> None:
    _check.tensor(op, name, index, _check.INT64, "rows")
    _check.same_device(op, rows=rows.x, **{name: index})
    _check.within(op, name, index, len(rows.x), f"rows of {len(rows.x)}")


# --- the filter ------------------------------------------------------------------------------------

_BLOCK = 1 << 22  # numbers in float64 at a time
_SAMPLE = 32  # rows that are asked what a filter would let through
_SHARE = 0.05  # of all pairs: computing these costs as much as the products cost more in float64


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    blocks: tuple[Tensor, ...] = x.split(max(1, _BLOCK // max(1, x.shape[1])))
    return blocks


def _centre(x: Tensor) -> tuple[Tensor, float]:
    """float64 (d): about the mean of the rows, and the largest distance of a coordinate from it."""
    middle = x[:1].double().sum(0)  # of a row first, so that a large offset does not overflow
    mean = middle + sum(
        (((b.double() - middle) / max(1, len(x))).sum(0) for b in _blocks(x)), torch.zeros_like(middle)
    )
    peaks = [float((b.double() - mean).abs().max()) for b in _blocks(x) if b.numel()]
    return mean, max(peaks, default=0.0)


def _rounded(x: Tensor, wide: Tensor, mean: Tensor, largest: float, dtype: torch.dtype) -> Rows:
    n, columns = x.shape
    unit, scale = FILTERS[dtype], math.ldexp(1.0, -math.frexp(largest)[1]) if largest else 1.0
    short = torch.empty((n, columns), dtype=dtype, device=x.device)
    norms = torch.empty(n, dtype=torch.float64, device=x.device)
    at = 0
    for block in _blocks(x):
        mine = short[at : at + len(block)]
        mine.copy_((block.double() - mean) * scale)
        norms[at : at + len(block)] = mine.double().square().sum(1)
        at += len(block)
    # of the product, of sums and limits in the filter's own precision, of the norms
    gamma = (columns + 16) * unit + columns * 2.0**-52
    gamma = gamma / max(1e-3, 1 - gamma)
    moved = (2 * unit + 2.0**-51) * norms.sqrt() + math.sqrt(columns) * TINY
    reach = moved + (moved.max() if n else 0.0)
    low, high = ((norms * (1 - gamma)) * (1 - 4 * unit), (norms * (1 + gamma)) * (1 + 4 * unit))
    return Rows(wide, short, low.to(dtype), high.to(dtype), reach, scale)


def _narrow(rows: Rows) -> bool:
    """Whether a float32 filter lets few pairs through that it need not."""
    n = len(rows.x)
    some = torch.linspace(0, n - 1, min(n, _SAMPLE), device=rows.x.device).long()
    if n <= 2 * _SAMPLE:
        return True
    doubt = 0
    for i in some.tolist():
        low = rows.low.double() - 2 * (rows.short @ rows.short[i]).double()
        far = low.kthvalue(min(n, 17)).values + rows.low[i]  # about the 16th neighbour's
        width = 2 * (rows.high[i] - rows.low[i] + rows.high - rows.low).double()
        doubt += int(((low + rows.low[i] - far).abs() < width).sum())
    return doubt <= _SHARE * n * len(some)


# --- reference: every distance ---------------------------------------------------------------------


def distances(x: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """The distances of aligned pairs of any rows, without a filter.

    x        float (n, d)
    i, j     int64 (m)     rows
    returns  float64 (m)   as defined; memory: 32 numbers of float64 a pair
    """
    lanes = torch.zeros((len(i), LANES), dtype=torch.float64, device=x.device)
    for part in x.split(LANES, 1):
        t = part[i].double() - part[j].double()
        lanes = lanes + torch.nn.functional.pad(t * t, (0, LANES - t.shape[1]))
    while lanes.shape[1] > 1:
        left, right = lanes.chunk(2, 1)
        lanes = left + right
    return _root(lanes[:, 0])


def _root(squared: Tensor) -> Tensor:
    """Correctly rounded: CUDA's is, numpy's is, torch's on a CPU may be off by a unit in the last place."""
    return squared.sqrt() if squared.is_cuda else torch.from_numpy(np.sqrt(squared.numpy()))


def _to_all(rows: Rows, i: int) -> Tensor:
    everyone = torch.arange(len(rows.x), device=rows.x.device)
    return distances(rows.x, torch.full_like(everyone, i), everyone)


def _pairs_reference(rows: Rows, i: Tensor, j: Tensor) -> Tensor:
    return distances(rows.x, i, j)


def _nearest_reference(rows: Rows, k: int, progress: Progress) -> tuple[Tensor, Tensor]:
    n = len(rows.x)
    near = torch.empty((n, k), dtype=torch.float64, device=rows.x.device)
    index = torch.empty((n, k), dtype=torch.int64, device=rows.x.device)
    for i in range(n):
        d = _to_all(rows, i)
        d[i] = math.inf
        ascending = d.sort(dim=0, stable=True)
        near[i], index[i] = ascending.values[:k], ascending.indices[:k]
        progress(i + 1, n)
    return near, index


def _foreign_reference(
    rows: Rows, asking: Tensor, cores: Tensor, components: Tensor, bound: Tensor
) -> tuple[Tensor, Tensor]:
    weights, points = bound.clone(), torch.full_like(asking, -1)
    for at, i in enumerate(asking.tolist()):
        w = torch.maximum(torch.maximum(_to_all(rows, i), cores), cores[i])
        w[components == components[i]] = math.inf
        least = w.min()
        if bool(least < bound[at]):
            weights[at], points[at] = least, int((w == least).nonzero()[0])
    return weights, points


# --- cpu: products by torch, sifted by numba, `_numba.euclid` -------------------------------------------

_TILE = 1024  # rows and columns of a tile: 4 MiB of products in float32
_ASKING = 2048  # rows of a tile whose columns have to be gathered first


def _measures(rows: Rows) -> tuple[float, int, float]:
    return rows.scale, rows.short.shape[1], FILTERS[rows.short.dtype]


def _pairs_cpu(rows: Rows, i: Tensor, j: Tensor) -> Tensor:
    from polykern_kernels._numba import euclid as loops

    out = torch.empty(len(i), dtype=torch.float64)
    loops.pairs(rows.x.numpy(), i.numpy(), j.numpy(), out.numpy())
    return out


def _nearest_cpu(rows: Rows, k: int, progress: Progress) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import euclid as loops

    n = len(rows.x)
    near = torch.full((n, k), math.inf, dtype=torch.float64)
    index = torch.full((n, k), n, dtype=torch.int64)
    if not k:
        return near, index
    limit = torch.full((n,), math.inf, dtype=rows.short.dtype)
    room = torch.empty(_TILE * _TILE, dtype=rows.short.dtype)
    starts = range(0, n, _TILE)
    state = [t.numpy() for t in (rows.x, rows.low, rows.reach, limit, near, index)]
    done, total = 0, len(starts) * (len(starts) + 1) // 2
    for a in starts:
        for b in starts[a // _TILE :]:
            mine, other = rows.short[a : a + _TILE], rows.short[b : b + _TILE]
            tile = room[: len(mine) * len(other)].view(len(mine), len(other))
            torch.mm(mine, other.T, out=tile)
            loops.nearest_rows(tile.numpy(), a, b, *_measures(rows), *state)
            if a != b:
                loops.nearest_columns(tile.numpy(), a, b, *_measures(rows), *state)
            done += 1
            progress(done, total)
    return near, index


def _foreign_cpu(
    rows: Rows, asking: Tensor, cores: Tensor, components: Tensor, bound: Tensor
) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import euclid as loops

    weights, points = bound.clone(), torch.full_like(asking, -1)
    if not len(asking):
        return weights, points
    columns, turn = components.sort(stable=True).indices, components[asking].sort(stable=True).indices
    room = torch.empty(_ASKING * _TILE, dtype=rows.short.dtype)
    for some in turn.split(_ASKING):
        i = asking[some]
        first, last = components[i[0]], components[i[-1]]
        mine, limit = rows.short[i], rows.limit(weights[some], i)
        w, p = weights[some], points[some]
        for j in columns.split(_TILE):
            if bool(first == last == components[j[0]] == components[j[-1]]):
                continue  # nobody here is foreign to anybody
            tile = room[: len(i) * len(j)].view(len(i), len(j))
            torch.mm(mine, rows.short[j].T, out=tile)
            arrays = (t.numpy() for t in (i, j, rows.low[j], components[j], cores, components))
            state = (t.numpy() for t in (rows.x, rows.low, rows.reach, limit, w, p))
            loops.foreign(tile.numpy(), *_measures(rows), *arrays, *state)
        weights[some], points[some] = w, p
    return weights, points


# --- torch: on CUDA tensors, `device.euclid` -----------------------------------------------------------


def _impls(name: str, cpu: Callable[..., object], reference: Callable[..., object]) -> tuple[Impl, ...]:
    def by_torch(*args: object) -> object:
        return getattr(import_module("polykern_kernels.device.euclid"), name)(*args)

    return (
        Impl("cpu", cpu, cpu_objection),
        Impl("torch", by_torch, lambda *args: None),
        Impl("reference", reference, lambda *args: None),
    )


IMPLS = {
    "pairs": _impls("pairs", _pairs_cpu, _pairs_reference),
    "nearest": _impls("nearest", _nearest_cpu, _nearest_reference),
    "foreign": _impls("foreign", _foreign_cpu, _foreign_reference),
}
