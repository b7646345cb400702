"""Affine forms of many tiles: ranges, kinks, max-pool windows.

A tile holds rows; row r of tile t is the coefficient of one symbol, at every unit, of the affine forms
    V[t, unit] = sum over rows r of tile t: rows[r, unit] * symbol[r],    low[r] <= symbol[r] <= high[r].
Rows of a tile are contiguous: ptr[t] .. ptr[t+1]. Its first row belongs to the constant 1 (low = high = 1),
so rows[ptr[t]] is the value at the tile's centre. All arithmetic is float64 and in row order, so the bounds
agree bit for bit between backends; the caller widens them by its rounding-error bound.
Spec of the method: zonotopes whose noise symbols are functions of the point, here kept exact.
"""

from typing import Any

import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose

FLOAT64 = (torch.float64,)

# --- contract -----------------------------------------------------------------------------------


def ranges(
    rows: Tensor, ptr: Tensor, low: Tensor, high: Tensor, *, backend: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Interval of every form of every tile, and the size of its terms.

    rows      float64 (rows, units)   coefficients
    ptr       int64 (tiles + 1)       first row of each tile; a tile without rows has the range [0, 0]
    low, high float64 (rows)          interval of each row's symbol
    backend   "triton" | "cpu" | "reference"; None takes the first that can run
    returns   low, high, size, each float64 (tiles, units); size = sum |coefficient| max |symbol|
    """
    op = "forms.ranges"
    _check.tensor(op, "rows", rows, FLOAT64, "rows", "units")
    _check.tensor(op, "ptr", ptr, _check.INT64, "tiles + 1")
    if not len(ptr):
        _check.fail(op, "ptr", "int64 (tiles + 1)", ptr)
    for name, ends in (("low", low), ("high", high)):
        _check.sized(op, name, ends, torch.float64, len(rows))
    return choose(op, RANGES, backend, rows).run(rows, ptr, low, high)  # type: ignore[no-any-return]


def rescale(
    rows: Tensor,
    source: Tensor,
    tile: Tensor,
    slope: Tensor,
    fresh: Tensor,
    jump: Tensor,
    *,
    backend: str | None = None,
) -> Tensor:
    """Rows behind an activation: old rows times the slope of each unit's piece, and new symbols.

    rows    float64 (rows, units)
    source  int64 (out)          which old row an output row comes from; -1: a new symbol
    tile    int64 (out)          tile of each output row
    slope   float64 (tiles, units)
    fresh   int64 (new)          unit of each new symbol, in output order
    jump    float64 (new)        its coefficient there
    returns float64 (out, units)
    """
    return choose("forms.rescale", RESCALE, backend, rows).run(rows, source, tile, slope, fresh, jump)  # type: ignore[no-any-return]


def pool_rivals(
    rows: Tensor,
    ptr: Tensor,
    low: Tensor,
    high: Tensor,
    members: Tensor,
    floor: Tensor,
    ceiling: Tensor,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Winner of every max-pool window at the tile's centre, and how far each rival can rise above it.

    members         int64 (windows, k)        units of each window, -1 where it hangs over the edge
    floor, ceiling  float64 (tiles, units)    known interval of every unit
    returns         winner int64 (tiles, windows): the unit with the largest centre value, ties to the larger
                    ceiling, then to the first member; rise float64 (tiles, windows, k): an upper bound of
                    member - winner over the tile, -inf for the winner itself and for missing members
    """
    run = choose("forms.pool_rivals", POOL, backend, rows).run
    return run(rows, ptr, low, high, members, floor, ceiling)  # type: ignore[no-any-return]


def columns(
    rows: Tensor,
    ptr: Tensor,
    symbol: Tensor,
    tile: Tensor,
    unit: Tensor,
    minus: Tensor,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The non-zero terms of chosen forms, or of differences of two forms of one tile.

    rows    float64 (rows, units); ptr int64 (tiles + 1); symbol int32 (rows) number of each row's symbol
    tile    int64 (n)    tile of each chosen form
    unit    int64 (n)    its unit
    minus   int64 (n)    unit that is subtracted, or -1
    returns first int64 (n + 1), term int32 (first[n]), coefficient float64 (first[n])
    """
    return choose("forms.columns", COLUMNS, backend, rows).run(rows, ptr, symbol, tile, unit, minus)  # type: ignore[no-any-return]


def surviving(rows: Tensor, tile: Tensor, slope: Tensor, *, backend: str | None = None) -> Tensor:
    """Which rows keep a non-zero coefficient when each unit is multiplied by its slope.

    rows    float64 (rows, units)
    tile    int64 (rows)            tile of each row
    slope   float64 (tiles, units)
    returns bool (rows)
    """
    return choose("forms.surviving", SURVIVING, backend, rows).run(rows, tile, slope)  # type: ignore[no-any-return]


def key_sums(on: Tensor, keys: Tensor, *, backend: str | None = None) -> Tensor:
    """Fingerprints of the bits that are the same all over a tile.

    on      bool (tiles, units)
    keys    int64 (units, 2)    `digest.keys` of the units' bits
    returns int64 (tiles, 2)    sums of the keys of set bits, modulo 2**64
    """
    return choose("forms.key_sums", KEY_SUMS, backend, on).run(on, keys)  # type: ignore[no-any-return]


def convolve(
    rows: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    *,
    backend: str | None = None,
) -> Tensor:
    """2-D convolution of sparse rows: the rows of a symbol are zero away from its receptive field.

    rows     float64 (rows, channels, height, width)
    weight   float64 (outputs, channels, kernel height, kernel width)
    returns  float64 (rows, outputs, height', width'), as torch.nn.functional.conv2d up to rounding
    """
    return choose("forms.convolve", CONVOLVE, backend, rows).run(rows, weight, stride, padding, dilation)  # type: ignore[no-any-return]


def cost(rows: int, units: int, tiles: int) -> Cost:
    """`ranges`: read every coefficient once, write three numbers a unit and tile; four operations a term."""
    return Cost(bytes=8 * (rows * units + 3 * tiles * units), flops=5 * rows * units)


# --- reference ----------------------------------------------------------------------------------


def _owner(ptr: Tensor) -> Tensor:
    """Tile of every row."""
    return torch.repeat_interleave(torch.arange(len(ptr) - 1, device=ptr.device), ptr.diff())


def _ranges_reference(rows: Tensor, ptr: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    owner, shape = _owner(ptr), (len(ptr) - 1, rows.shape[1])
    a, b = rows * low[:, None], rows * high[:, None]
    reach = torch.maximum(low.abs(), high.abs())[:, None]
    out = (torch.minimum(a, b), torch.maximum(a, b), rows.abs() * reach)
    zero = rows.new_zeros(shape)
    return tuple(zero.index_add(0, owner, x) for x in out)  # type: ignore[return-value]


def _rescale_reference(
    rows: Tensor, source: Tensor, tile: Tensor, slope: Tensor, fresh: Tensor, jump: Tensor
) -> Tensor:
    old = source >= 0
    out = rows.new_zeros((len(source), rows.shape[1]))
    out[old] = rows[source[old]] * slope[tile[old]]
    out[(~old).nonzero()[:, 0], fresh] = jump
    return out


def _pool_reference(
    rows: Tensor, ptr: Tensor, low: Tensor, high: Tensor, members: Tensor, floor: Tensor, ceiling: Tensor
) -> tuple[Tensor, Tensor]:
    tiles, (windows, k) = len(ptr) - 1, members.shape
    winner = torch.zeros((tiles, windows), dtype=torch.int64, device=rows.device)
    rise = torch.full((tiles, windows, k), -torch.inf, dtype=torch.float64, device=rows.device)
    for t in range(tiles):
        if ptr[t] == ptr[t + 1]:
            continue
        mine = slice(int(ptr[t]), int(ptr[t + 1]))
        centre = rows[mine.start]
        for w in range(windows):
            units = [int(m) for m in members[w] if m >= 0]
            best = max(units, key=lambda m: (float(centre[m]), float(ceiling[t, m]), -units.index(m)))
            winner[t, w] = best
            for j, m in enumerate(members[w].tolist()):
                if m < 0 or m == best:
                    continue
                gap = rows[mine, m] - rows[mine, best]
                bound = float(torch.maximum(gap * low[mine], gap * high[mine]).cumsum(0)[-1])
                rise[t, w, j] = min(bound, float(ceiling[t, m] - floor[t, best]))
    return winner, rise


def _columns_reference(
    rows: Tensor, ptr: Tensor, symbol: Tensor, tile: Tensor, unit: Tensor, minus: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    first, terms, coefficients = [0], [symbol[:0]], [rows.new_zeros(0)]
    for t, u, m in zip(tile.tolist(), unit.tolist(), minus.tolist(), strict=True):
        mine = slice(int(ptr[t]), int(ptr[t + 1]))
        column = rows[mine, u] - (rows[mine, m] if m >= 0 else 0.0)
        kept = column != 0
        terms.append(symbol[mine][kept])
        coefficients.append(column[kept])
        first.append(first[-1] + int(kept.sum()))
    return torch.tensor(first, device=rows.device), torch.cat(terms), torch.cat(coefficients)


def _surviving_reference(rows: Tensor, tile: Tensor, slope: Tensor) -> Tensor:
    return ((rows != 0) & (slope[tile] != 0)).any(1)


def _key_sums_reference(on: Tensor, keys: Tensor) -> Tensor:
    return torch.where(on[..., None], keys, 0).sum(1)


def _convolve_reference(
    rows: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    return torch.nn.functional.conv2d(rows, weight, None, stride, padding, dilation)


# --- cpu ----------------------------------------------------------------------------------------


def _loops() -> Any:
    from polykern_kernels._numba import forms as loops

    return loops


def _ranges_cpu(rows: Tensor, ptr: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    out = tuple(torch.zeros((len(ptr) - 1, rows.shape[1]), dtype=torch.float64) for _ in range(3))
    arrays = (x.numpy() for x in (rows.contiguous(), ptr, low, high, *out))
    _loops().ranges(*arrays)
    return out  # type: ignore[return-value]


def _rescale_cpu(rows: Tensor, source: Tensor, tile: Tensor, slope: Tensor, fresh: Tensor, jump: Tensor) -> Tensor:
    out = torch.empty((len(source), rows.shape[1]), dtype=torch.float64)
    rank = (source < 0).cumsum(0) - 1  # which new symbol an output row is
    given = (rows.contiguous(), source, tile, slope.contiguous(), rank, fresh, jump, out)
    _loops().rescale(*(x.numpy() for x in given))
    return out


def _pool_cpu(
    rows: Tensor, ptr: Tensor, low: Tensor, high: Tensor, members: Tensor, floor: Tensor, ceiling: Tensor
) -> tuple[Tensor, Tensor]:
    tiles, (windows, k) = len(ptr) - 1, members.shape
    winner = torch.zeros((tiles, windows), dtype=torch.int64)
    rise = torch.full((tiles, windows, k), -torch.inf, dtype=torch.float64)
    given = (rows.contiguous(), ptr, low, high, members, floor.contiguous(), ceiling.contiguous(), winner, rise)
    _loops().pool_rivals(*(x.numpy() for x in given))
    return winner, rise


def _columns_cpu(
    rows: Tensor, ptr: Tensor, symbol: Tensor, tile: Tensor, unit: Tensor, minus: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    first = torch.zeros(len(tile) + 1, dtype=torch.int64)
    given = [x.numpy() for x in (rows.contiguous(), ptr, tile, unit, minus, first)]
    _loops().count_terms(*given)
    first.cumsum_(0)
    term = torch.empty(int(first[-1]), dtype=torch.int32)
    coefficient = torch.empty(int(first[-1]), dtype=torch.float64)
    _loops().fill_terms(*given, symbol.numpy(), term.numpy(), coefficient.numpy())
    return first, term, coefficient


def _surviving_cpu(rows: Tensor, tile: Tensor, slope: Tensor) -> Tensor:
    out = torch.zeros(len(rows), dtype=torch.bool)
    given = (rows.contiguous(), tile, slope.contiguous(), out)
    _loops().surviving(*(x.numpy() for x in given))
    return out


def _key_sums_cpu(on: Tensor, keys: Tensor) -> Tensor:
    out = torch.zeros((len(on), 2), dtype=torch.int64)
    _loops().key_sums(*(x.numpy() for x in (on.contiguous(), keys.contiguous(), out)))
    return out


def _convolve_cpu(
    rows: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    high, wide = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(rows.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
    )
    out = torch.empty((len(rows), len(weight), high, wide), dtype=torch.float64)
    turned = weight.permute(1, 2, 3, 0).contiguous()
    _loops().convolve(rows.contiguous().numpy(), turned.numpy(), *stride, *padding, *dilation, out.numpy())
    return out


RANGES = backends("forms", "ranges", cpu=_ranges_cpu, reference=_ranges_reference)
RESCALE = backends("forms", "rescale", cpu=_rescale_cpu, reference=_rescale_reference)
POOL = backends("forms", "pool_rivals", cpu=_pool_cpu, reference=_pool_reference)
COLUMNS = backends("forms", "columns", cpu=_columns_cpu, reference=_columns_reference)
CONVOLVE = backends("forms", "convolve", cpu=_convolve_cpu, reference=_convolve_reference)
SURVIVING = backends("forms", "surviving", cpu=_surviving_cpu, reference=_surviving_reference)
KEY_SUMS = backends("forms", "key_sums", cpu=_key_sums_cpu, reference=_key_sums_reference)
