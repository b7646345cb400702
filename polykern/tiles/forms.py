"""Affine forms of a batch of tiles, travelling through an unmodified torch module.

Over a tile every value of the network is  V = sum of rows * symbols, symbols being 1, u, v and one exact symbol
for each kink that the tile straddles (`polykern_kernels.program`). Linear operators act on the stack of rows as on
a batch. `error` bounds the distance between V, evaluated in real arithmetic on these float64 coefficients and the
symbols as computed, and the true network; `size` bounds the sum of the magnitudes of V's terms, so that
gamma(n) * size bounds a rounding error. Both are carried through |weight|.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from polykern.activations import ADAPTIVE_POOLS, POOLS
from polykern.arithmetic import gamma
from polykern.carrier import Carrier, Linear, NotCarried
from polykern.tiles.bundle import ONE, Bundle
from polykern_kernels import forms as kernels

SYMBOLS = 1 << 32  # more than any tile can have: (tile, symbol) as one sortable key


class Forms(Carrier):
    """One affine form a unit and tile.

    rows    float64 (rows, *units)    coefficients, sorted by (tile, symbol); the first of a tile is the constant
    key     int64 (rows)              tile * SYMBOLS + symbol of each row
    tile    int64 (rows)              tile of each row
    symbol  int64 (rows)              symbol of each row
    error, size     float64 (tiles, *units)
    floor, ceiling  float64 (tiles, *units) known interval of V, or None
    scaled  whether V is multiplied by the tile's norm symbol (behind a LayerNorm)
    """

    def __init__(
        self,
        bundle: Bundle,
        rows: Tensor,
        key: Tensor,
        error: Tensor,
        size: Tensor,
        *,
        interval: tuple[Tensor, Tensor] | None = None,
        scaled: bool = False,
    ) -> None:
        self.bundle, self.rows, self.key, self.error, self.size_ = bundle, rows, key, error, size
        self.interval, self.scaled = interval, scaled
        self.tile, self.symbol = key // SYMBOLS, key % SYMBOLS

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.bundle.tiles, *self.rows.shape[1:]))

    @property
    def device(self) -> torch.device:
        return self.rows.device

    @cached_property
    def ptr(self) -> Tensor:
        """int64 (tiles + 1): first row of each tile."""
        return self.bundle.edges(self.tile)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """float64 (rows) each: interval of every row's symbol."""
        at = self.tile, self.symbol
        return self.bundle.low[at], self.bundle.high[at]

    @property
    def centre(self) -> Tensor:
        """float64 (tiles, units): values at the tiles' centres, 0 in tiles without rows."""
        alive = self.bundle.alive
        rows = self.rows.flatten(1)
        first = self.ptr[:-1].clamp(max=max(0, len(rows) - 1))
        return (
            torch.where(alive[:, None], rows[first], 0.0)
            if len(rows)
            else rows.new_zeros((len(alive), *rows.shape[1:]))
        )

    @cached_property
    def constants(self) -> Tensor:
        """int64: the rows of the symbol a bias multiplies: 1, or the norm behind a LayerNorm."""
        wanted = self.bundle.scale[self.tile] if self.scaled else ONE
        return (self.symbol == wanted).nonzero()[:, 0]

    def like(self, rows: Tensor, error: Tensor, size: Tensor) -> "Forms":
        """Forms of the same symbols."""
        return Forms(self.bundle, rows, self.key, error, size, scaled=self.scaled)

    def apply(self, linear: Linear) -> "Forms":
        rows = _through(linear, self.rows, linear.weight)
        self.bundle.products += linear.terms * rows.shape[1:].numel()
        weight = None if linear.weight is None else linear.weight.abs()
        rounding = gamma(linear.terms) * self.size_ if linear.terms else 0.0
        spread = torch.cat([self.error + rounding, self.size_])
        error, size = _through(linear, spread, weight).abs().chunk(2)
        if linear.bias is not None:
            rows = rows.clone() if rows.data_ptr() == self.rows.data_ptr() else rows
            at, bias = self.constants, linear.bias.to(rows)
            rows.index_add_(0, at, bias.expand(len(at), *rows.shape[1:]))
            size = size + bias.abs() * self._reach_of_bias()
            error = error + gamma(2) * size
        return self.like(rows, error, size)

    def _reach_of_bias(self) -> float:
        if not self.scaled:
            return 1.0
        return float(self.bundle.high[self.bundle.numbers(), self.bundle.scale].max())

    @classmethod
    def combine(cls, parts: Sequence[Any], op: Callable[[list[Tensor]], Tensor], terms: int) -> "Carrier":
        forms = [p for p in parts if isinstance(p, Forms)]
        first = forms[0]
        if any(f.scaled != first.scaled for f in forms) or (first.scaled and len(forms) < len(parts)):
            raise NotCarried("a sum of normalised and plain values (a residual around a LayerNorm)")
        key = first.key
        for f in forms[1:]:
            key = key if _same(f.key, key) else torch.unique(torch.cat([key, f.key]))
        rows, errors, sizes = [], [], []
        for p in parts:
            if isinstance(p, Forms):
                rows.append(p.aligned(key))
                errors.append(p.error)
                sizes.append(p.size_)
            else:
                value = p.to(first.rows)
                rows.append(_constant(value, key))
                errors.append(torch.zeros_like(value).expand(first.bundle.tiles, *p.shape[1:]))
                sizes.append(value.abs().expand(first.bundle.tiles, *p.shape[1:]))
        size = _alone(op, sizes)
        error = _alone(op, errors) + (gamma(terms) * size if terms else 0)
        return cls(first.bundle, op(rows), key, error, size, scaled=first.scaled)

    def aligned(self, key: Tensor) -> Tensor:
        """The rows at the symbols `key`, zero where this form has none."""
        if _same(key, self.key):
            return self.rows
        out = self.rows.new_zeros((len(key), *self.rows.shape[1:]))
        return out.index_copy_(0, torch.searchsorted(key, self.key), self.rows)

    def without_dead(self) -> "Forms":
        """The same forms, without the rows of tiles that were given up."""
        kept = self.bundle.alive[self.tile]
        if kept.all():
            return self
        rows, key = self.rows[kept], self.key[kept]
        return Forms(self.bundle, rows, key, self.error, self.size_, interval=self.interval, scaled=self.scaled)

    def other(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        from polykern.tiles import norms, pools

        if func in POOLS:
            return pools.max_pool(self, *args[1:], **kwargs)
        if func in ADAPTIVE_POOLS:
            return pools.adaptive_max_pool(self, *args[1:], **kwargs)
        if func in norms.NORMS:
            return norms.normalise(self, func, args, kwargs)
        raise NotCarried(f"{getattr(func, '__name__', func)} is not piecewise linear")


class Spent(Carrier):
    """What stands behind a smooth activation: nothing that a tile program could go on with."""

    def __init__(self, shape: torch.Size, kind: str) -> None:
        self._shape, self.kind = shape, kind

    @property
    def shape(self) -> torch.Size:
        return self._shape

    def apply(self, linear: Linear) -> "Carrier":
        raise NotCarried(f"{self.kind} is smooth")

    @classmethod
    def combine(cls, parts: Sequence[Any], op: Callable[[list[Tensor]], Tensor], terms: int) -> "Carrier":
        raise NotCarried("a smooth activation before the last selected one")

    def other(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        raise NotCarried(f"{self.kind} is smooth")


def _through(linear: Linear, rows: Tensor, weight: Tensor | None) -> Tensor:
    """The operator on stacked rows; convolutions skip the zeros that most rows are full of."""
    if linear.convolution is None or weight is None:
        return linear.op(rows, weight)
    return kernels.convolve(rows, weight, *linear.convolution)


def _constant(value: Tensor, key: Tensor) -> Tensor:
    """A constant tensor (1, *units) as rows: itself at every tile's first row."""
    if value.shape[0] != 1:
        raise NotCarried("a constant that differs from tile to tile")
    out = value.new_zeros((len(key), *value.shape[1:]))
    out[key % SYMBOLS == ONE] = value[0]
    return out


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or torch.equal(a, b)


def _alone(op: Callable[[list[Tensor]], Tensor], parts: Sequence[Tensor]) -> Tensor:
    """sum over i of |op(0, ..., parts[i], ..., 0)|: a bound that no subtraction can cancel."""
    total: Tensor | None = None
    for i, p in enumerate(parts):
        lone = op([p if j == i else torch.zeros_like(q) for j, q in enumerate(parts)]).abs()
        total = lone if total is None else total + lone
    assert total is not None
    return total
