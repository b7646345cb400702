"""Activations on affine forms: stable units stay linear, each kink that a tile straddles becomes a symbol.

With thresholds t_k, slopes m_k and f(z) = f(t_0) + m_0 (z - t_0) + sum_k (m_{k+1} - m_k) relu(z - t_k):
relu(z - t_k) = mask_k (z - t_k) + e_k, where mask_k is the side of the tile's centre and the symbol e_k >= 0 is
identically zero unless the tile straddles the kink.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from polykern.activations import Activation
from polykern.carrier import Carrier, NotCarried
from polykern.layout import Field
from polykern.tiles.bundle import ONE, Bundle, Instructions
from polykern.tiles.forms import SYMBOLS, Forms, Spent
from polykern_kernels import forms as kernels
from polykern_kernels.program import FOLD, KINK


@dataclass(slots=True)
class Kink:
    """One threshold at every unit of every tile (tensors are (tiles, units))."""

    threshold: float
    on: Tensor  # bool: the centre lies above
    loose: Tensor  # bool: neither side is certain
    sure_on: Tensor  # bool: certainly above everywhere
    distance: Tensor  # float64: certified |V - threshold| where certain, inf elsewhere


def activate(x: Forms, activation: Activation, field: Field | None, index: int) -> Carrier:
    """The forms behind an activation; its kinks are written into the bundle.

    field, index  the bits that the kinks are, and the number of their field; None, -1 when not selected
    """
    x = x.without_dead()
    if x.scaled and activation.thresholds != (0.0,):
        raise NotCarried(f"{activation.kind} behind a LayerNorm has thresholds other than 0")
    rows, ptr = x.rows.flatten(1), x.ptr
    x.bundle.coefficients += rows.numel()
    low, high, size = kernels.ranges(rows, ptr, *x.bounds)
    tolerance = x.error.flatten(1) + x.bundle.rounding * size
    slack = tolerance + x.bundle.rounding * size  # the bounds were rounded too
    alive = x.bundle.alive
    centre = x.centre
    kinks = [_kink(t, centre, low, high, slack, alive) for t in activation.thresholds]
    if field is not None:
        _note_constant_bits(x, kinks, field)
    if activation.slopes is None:
        for k, kink in enumerate(kinks):
            _write(_entries(kink, low, high, slack, k), kink, x, rows, tolerance, field, index)
        return Spent(x.shape, activation.kind)
    slopes = [_slope(m, x) for m in activation.slopes]
    shape = low.shape
    slope = slopes[0].expand(shape).clone()
    shift = torch.full_like(low, activation.value) - slopes[0] * activation.thresholds[0]
    fresh = []
    for k, kink in enumerate(kinks):
        jump = slopes[k + 1] - slopes[k]
        slope += jump * kink.on
        shift -= jump * kink.threshold * kink.on
        entry = _entries(kink, low, high, slack, k)
        tile, unit, number = _write(entry, kink, x, rows, tolerance, field, index)
        fresh.append(_Fresh(tile, unit, number, jump[unit]))
    return _behind(x, rows, activation, kinks, slopes, slope, shift, fresh, (low, high, slack, size))


def _kink(threshold: float, centre: Tensor, low: Tensor, high: Tensor, slack: Tensor, alive: Tensor) -> Kink:
    sure_on = low - slack > threshold
    sure_off = high + slack <= threshold
    distance = torch.where(sure_on, low - slack - threshold, threshold - high - slack)
    loose = ~(sure_on | sure_off) & alive[:, None]
    distance = torch.where(sure_on | sure_off, distance, torch.inf)
    return Kink(threshold, (centre > threshold) & ~sure_off | sure_on, loose, sure_on, distance)


def _note_constant_bits(x: Forms, kinks: list[Kink], field: Field) -> None:
    bundle = x.bundle
    longest = bundle.high[bundle.numbers(), bundle.scale] if x.scaled else 1.0  # of the norm symbol
    for k, kink in enumerate(kinks):
        offset = field.offset + k * field.units
        keys = bundle.keys[offset : offset + field.units]
        bundle.digest += kernels.key_sums(kink.sure_on, keys)
        if field.units:
            bundle.margin = torch.minimum(bundle.margin, kink.distance.amin(1) / longest)


def note_constants(bundle: Bundle, z: Tensor, field: Field) -> None:
    """Enter a field whose pre-activations z (units) do not depend on the points."""
    for k, threshold in enumerate(field.thresholds):
        first = field.offset + k * field.units
        bundle.digest += bundle.keys[first : first + field.units][z > threshold].sum(0)
        bundle.margin = torch.minimum(bundle.margin, (z - threshold).abs().min())


def _slope(slope: float | Tensor, x: Forms) -> Tensor:
    """float64 (units): a slope for every unit."""
    value = torch.as_tensor(slope, dtype=torch.float64, device=x.rows.device)
    return value.expand(x.rows.shape[1:]).reshape(-1)


@dataclass(slots=True)
class _Entries:
    """Loose (tile, unit) pairs, by tile, and how far their symbols can reach."""

    tile: Tensor  # int64
    unit: Tensor  # int64
    reach: Tensor  # float64
    over: Tensor  # bool: on at the centre, the symbol is relu(threshold - z)
    number: int  # which threshold


def _entries(kink: Kink, low: Tensor, high: Tensor, slack: Tensor, number: int) -> _Entries:
    tile, unit = kink.loose.nonzero().unbind(1)
    over = kink.on[tile, unit]
    above = high[tile, unit] - kink.threshold
    below = kink.threshold - low[tile, unit]
    reach = (torch.where(over, below, above) + slack[tile, unit]).clamp(min=0)
    return _Entries(tile.contiguous(), unit.contiguous(), reach, over, number)


@dataclass(slots=True)
class _Fresh:
    """Symbols that an activation made, by tile: int64 tile, unit and number; float64 coefficient at the unit."""

    tile: Tensor
    unit: Tensor
    number: Tensor
    jump: Tensor


def _write(
    entry: _Entries, kink: Kink, x: Forms, rows: Tensor, tolerance: Tensor, field: Field | None, index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the kinks' instructions; gives tile, unit and number of the symbols that were made."""
    bundle = x.bundle
    kept, number = bundle.new_symbols(entry.tile, entry.reach)
    tile, unit = entry.tile[kept], entry.unit[kept]
    first, term, coefficient = _columns(rows, x, kink.threshold, tile, unit)
    bit = 0 if field is None else field.offset + entry.number * field.units
    bundle.written.append(
        Instructions(
            tile=tile,
            kind=torch.where(entry.over[kept], FOLD, KINK).to(torch.int8),
            target=number.int(),
            field=torch.full_like(number, index, dtype=torch.int32),
            key=bundle.keys.new_zeros((len(tile), 2)) if field is None else bundle.keys[bit + unit],
            tolerance=tolerance[tile, unit],
            first=first,
            term=term,
            coefficient=coefficient,
        )
    )
    return tile, unit, number


def _columns(rows: Tensor, x: Forms, threshold: float, tile: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Terms of V - threshold at the chosen units."""
    if threshold:
        rows = rows.clone()
        rows[x.constants] -= threshold
    return kernels.columns(rows, x.ptr, x.symbol.int(), tile, unit, torch.full_like(tile, -1))


def _behind(
    x: Forms,
    rows: Tensor,
    activation: Activation,
    kinks: list[Kink],
    slopes: list[Tensor],
    slope: Tensor,
    shift: Tensor,
    fresh: list[_Fresh],
    known: tuple[Tensor, Tensor, Tensor, Tensor],
) -> Forms:
    """Assemble the output: old rows times slopes without those that vanish, then the new symbols."""
    low, high, slack, size = known
    bundle, units = x.bundle, x.rows.shape[1:]
    kept = kernels.surviving(rows, x.tile, slope) | (x.symbol == ONE)  # every tile keeps its constant
    new = _Fresh(*(torch.cat([getattr(f, name) for f in fresh]) for name in _Fresh.__slots__))
    key, source, order = merged(x, kept, new.tile * SYMBOLS + new.number)
    out = kernels.rescale(rows, source, key // SYMBOLS, slope, new.unit[order], new.jump[order])
    loose = torch.stack([k.loose for k in kinks]).any(0)
    steepest = torch.stack([m.abs() for m in slopes]).amax(0)
    jumps = torch.stack([(b - a).abs() for a, b in pairwise(slopes)]).sum(0)
    rounded = torch.where(loose, slack * (jumps / 4).clamp_min(1.0), 0.0)  # symbols, a quarter of the slack each
    error = torch.where(loose, steepest, slope.abs()) * x.error.flatten(1) + rounded
    size = slope.abs() * size + shift.abs()
    for f in fresh:  # a unit has one symbol a threshold, so no two entries meet and the order of adding is fixed
        size[f.tile, f.unit] += f.jump.abs() * bundle.high[f.tile, f.number]
    result = Forms(
        bundle,
        out.unflatten(1, units),
        key,
        error.unflatten(1, units),
        size.unflatten(1, units),
        interval=_interval(activation, kinks, slopes, low, high, slack, rounded, units),
        scaled=x.scaled,
    )
    if activation.value or any(activation.thresholds):
        at = result.constants
        out.index_add_(0, at, shift[result.tile[at]])
    return result


def merged(x: Forms, kept: Tensor, new: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output rows behind a nonlinearity: the kept ones of tiles that are alive, and those of new symbols.

    kept     bool (rows)
    new      int64 keys of new symbols
    returns  int64 keys of the output rows; where each comes from (-1: new); the order of the new ones among them
    """
    old = (kept & x.bundle.alive[x.tile]).nonzero()[:, 0]
    key, order = torch.sort(torch.cat([x.key[old], new]))
    source = torch.cat([old, torch.full_like(new, -1)])[order]
    return key, source, order[source < 0] - len(old)


def _interval(
    activation: Activation,
    kinks: list[Kink],
    slopes: list[Tensor],
    low: Tensor,
    high: Tensor,
    slack: Tensor,
    rounded: Tensor,
    units: torch.Size,
) -> tuple[Tensor, Tensor]:
    """The interval of f(V): f at the ends and at the kinks between, widened where a symbol was rounded."""

    def f(z: Tensor) -> Tensor:
        out = activation.value + slopes[0] * (z - kinks[0].threshold)
        for k, kink in enumerate(kinks):
            out = out + (slopes[k + 1] - slopes[k]) * (z - kink.threshold).clamp(min=0)
        return out

    ends = [low - slack, high + slack, *(torch.clamp(torch.full_like(low, k.threshold), low, high) for k in kinks)]
    values = torch.stack([f(e) for e in ends])
    # a unit that is off at the centre is its symbol alone, which is never negative
    folded = torch.stack([k.loose & k.on for k in kinks]).any(0)
    wide = torch.where(folded, rounded, 0.0)
    return (values.amin(0) - wide).unflatten(1, units), (values.amax(0) + wide).unflatten(1, units)
