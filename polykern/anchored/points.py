"""Points carried as (anchor, difference): float32 accuracy from low-precision products.

Points fall into groups (a tile of pixels, a piece of a path, the ball about a position) about one anchor each:
x = anchor + delta. A linear operator acts on the anchor in float64 and on the delta in any arithmetic, so its
rounding is relative to the delta, a few pixels, and not to the activation; every other function f gives the
exact difference f(anchor + delta) - f(anchor). The weights are shared by all groups, so all points still go
through one product.

Up to the first nonlinearity the deltas are combinations of a few axes (the two of a plane) that all groups
share, and only those axes are carried, in float64. Behind it they are float32, or float16 where the arithmetic is
narrow (`polykern.anchored.narrow`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from polykern.anchored.alone import require
from polykern.anchored.narrow import SUMMED, WIDEST, Narrow, Product, joined
from polykern.anchored.pools import PLANES, max_pool2d, narrow_pool2d
from polykern.arithmetic import Arithmetic, Key, weight_key
from polykern.carrier import Carrier, Linear, NotCarried

PIXEL = ((1, 1), (0, 0), (1, 1))  # stride, padding, dilation of a convolution that mixes channels alone


class Anchored(Carrier):
    """groups * points points, group by group, about `groups` anchors.

    anchor      float64 or float32 (groups, *units)
    delta       float32 (groups * points, *units): point minus its group's anchor
    arithmetic  of linear operators on the deltas
    wide        dtype in which functions that are not linear are evaluated: float64 keeps the difference
                exact to float32's relative accuracy however close the points lie; float32 adds 2**-24 of the value
    """

    def __init__(
        self,
        anchor: Tensor,
        delta: Tensor,
        arithmetic: Arithmetic,
        *,
        wide: torch.dtype = torch.float64,
    ) -> None:
        self.anchor, self.arithmetic, self.wide = anchor, arithmetic, wide
        self._delta: Tensor | None = delta
        self._axes: Tensor | None = None
        self._at: Tensor | None = None
        self._narrow: Narrow | None = None
        self.product: Product | None = None  # what `narrow` is made from when it is asked for
        self._read: dict[Key, Tensor] = {}  # weights of the convolutions of one pixel that were met
        self._products: dict[Key, tuple[Tensor, float]] = {}  # their products, perhaps ahead of them
        self.points = len(delta) // len(anchor)

    @classmethod
    def along(
        cls,
        anchor: Tensor,
        axes: Tensor,
        at: Tensor,
        arithmetic: Arithmetic,
        *,
        wide: torch.dtype = torch.float64,
    ) -> Self:
        """Points anchor[g] + sum_k at[p, k] axes[k], the same pattern about every anchor.

        anchor  float64 (groups, *units)
        axes    float64 (k, *units)
        at      float64 (points, k)
        others  as for the class
        """
        made = cls(anchor, anchor[:0].float(), arithmetic, wide=wide)
        made._delta, made._axes, made._at, made.points = None, axes, at, len(at)
        return made

    @property
    def delta(self) -> Tensor:
        """float32 (groups * points, *units): the differences, cast once from float64 axes."""
        if self._delta is None:
            if self.is_narrow:
                self._delta = self.narrow.wide()
            else:
                one = self._along().float()
                self._delta = one.repeat(len(self.anchor), *(1,) * (one.ndim - 1))
        return self._delta

    @property
    def narrow(self) -> Narrow:
        """The differences in float16, rounded once; of axes those of one group, for all."""
        if self._narrow is None:
            units = self.arithmetic.units
            assert units is not None
            if self.product is not None:
                self._narrow = self.product.done(self.arithmetic)
            elif self._axes is None:
                self._narrow = Narrow.of(self.grouped(self.delta), units)
            else:
                one = Narrow.of(self._along()[None], units)
                self._narrow = Narrow(one.rows.expand(len(self.anchor), *one.rows.shape[1:]), one.unit)
        return self._narrow

    @property
    def is_narrow(self) -> bool:
        """Whether the differences are float16 already, or will be."""
        return self._narrow is not None or self.product is not None

    def _along(self) -> Tensor:
        """float64 (points, *units): the differences of points along axes, the same in every group."""
        assert self._axes is not None
        assert self._at is not None
        return (self._at @ self._axes.flatten(1)).reshape(self.points, *self.shape[1:])

    @property
    def held(self) -> Tensor:
        """The differences as they are held."""
        if self.product is not None and self._narrow is None:
            return self.product.x.rows
        return self.delta if self.arithmetic.units is None else self.narrow.rows

    @property
    def shape(self) -> torch.Size:
        """(groups * points, *units)."""
        return torch.Size((len(self.anchor) * self.points, *self.anchor.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """What a module sees: the anchors' dtype."""
        return self.anchor.dtype

    @property
    def device(self) -> torch.device:
        """Where the anchors lie."""
        return self.anchor.device

    def full(self) -> Tensor:
        """(groups * points, *units) in `wide`: the points' values."""
        return (self.anchor.to(self.wide).unsqueeze(1) + self.grouped(self.delta)).flatten(0, 1)

    def grouped(self, rows: Tensor) -> Tensor:
        """(groups, points, ...): a view of rows (groups * points, ...), in whatever memory format they are."""
        return rows.view(torch.Size((len(self.anchor), self.points)) + rows.shape[1:])

    def beside(self, anchor: Tensor, delta: Tensor) -> "Anchored":
        """Other values of the same points."""
        return Anchored(anchor, delta, self.arithmetic, wide=self.wide)

    def beside_narrow(self, anchor: Tensor, narrow: Narrow | Product) -> "Anchored":
        """Other values of the same points, in float16."""
        made = Anchored(anchor, anchor[:0].float(), self.arithmetic, wide=self.wide)
        made._delta, made.points = None, self.points
        if isinstance(narrow, Product):
            made.product = narrow
        else:
            made._narrow = narrow
        return made

    def beside_axes(self, anchor: Tensor, axes: Tensor) -> "Anchored":
        """Other values of the same points, still along axes."""
        assert self._at is not None
        return Anchored.along(anchor, axes, self._at, self.arithmetic, wide=self.wide)

    def apply(self, linear: Linear) -> "Anchored":
        dtype = self.anchor.dtype
        weight = None if linear.weight is None else linear.weight.to(dtype)
        anchor = linear.op(self.anchor, weight)
        if linear.bias is not None:
            anchor = anchor + linear.bias.to(dtype)
        if self._axes is not None:
            return self.beside_axes(anchor, linear.op(self._axes.to(dtype), weight))
        narrow = self._narrowed(linear)
        if narrow is not None:
            return self.beside_narrow(anchor, narrow)
        return self.beside(anchor, self.arithmetic.product(linear, self.delta, len(self.anchor)))

    def _narrowed(self, linear: Linear) -> Narrow | Product | None:
        """The differences behind a linear operator in float16, or None where that is not narrow."""
        units = self.arithmetic.units
        if units is None or (not self.is_narrow and linear.terms < 3):
            return None
        if linear.weight is None:
            if linear.terms == 1 or linear.terms > SUMMED:
                return None  # a factor may be anything
            x = self.narrow.plain()
            rows = self.grouped(linear.op(x.flat, None))
            return Narrow(rows, x.unit, settled=x.settled and linear.terms == 0)
        if linear.terms < 3:
            return self.narrow.times(linear.weight) if linear.op is torch.mul else None
        x = self.narrow.operand(units)
        if linear.op is F.linear and x.rows.ndim == 3 and linear.terms <= WIDEST:
            return Product(x, linear)
        of_a_pixel = linear.convolution == PIXEL and linear.weight.shape[2:].numel() == 1
        if of_a_pixel and x is self._narrow and self.arithmetic.owns(linear.weight):
            return self._pixelwise(linear, linear.weight, x)
        flat, unit = self.arithmetic.narrow_product(linear, x.flat)
        return Narrow(self.grouped(flat), x.unit * unit, settled=False)

    def _pixelwise(self, linear: Linear, weight: Tensor, x: Narrow) -> Narrow:
        """A convolution of one pixel, multiplied together with the others that read the same image."""
        key = weight_key(weight)
        if key not in self._products:
            self._products.update(self.arithmetic.narrow_products(linear, x.flat))
        if key not in self._read:
            self._read[key] = weight
            self.arithmetic.read_together(list(self._read.values()))
        flat, unit = self._products[key]
        return Narrow(self.grouped(flat), x.unit * unit, settled=False)

    @classmethod
    def combine(
        cls, parts: Sequence["Anchored | Tensor"], op: Callable[[list[Tensor]], Tensor], terms: int
    ) -> "Anchored":
        carried = [p for p in parts if isinstance(p, Anchored)]
        first = carried[0]
        if any(p.shape[0] != first.shape[0] or p.points != first.points for p in carried):
            raise NotCarried("points of different groups together")
        groups, dtype = len(first.anchor), first.anchor.dtype
        anchor = op([p.anchor if isinstance(p, Anchored) else _repeated(p, groups, dtype) for p in parts])
        if first._axes is not None and all(p._axes is not None and p._at is first._at for p in carried):
            axes = [p._axes if isinstance(p, Anchored) else _zeros(p, len(first._axes), dtype) for p in parts]
            return first.beside_axes(anchor, op([a for a in axes if a is not None]))
        if terms == 0 and all(isinstance(p, Anchored) and p.is_narrow for p in parts):
            units = first.arithmetic.units
            assert units is not None
            return first.beside_narrow(anchor, joined([p.narrow.plain() for p in carried], op, units))
        rows = first.shape[0]
        deltas = [p.delta if isinstance(p, Anchored) else _zeros(p, rows, torch.float32) for p in parts]
        return first.beside(anchor, op(deltas))

    def other(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Anchored | Extreme":
        name = getattr(func, "__name__", str(func))
        require(func, args, kwargs, self.ndim)
        tree = (tuple(args), dict(kwargs))
        for x in tree_leaves(tree):
            if isinstance(x, Carrier) and (x.ndim != self.ndim or x.shape[0] != self.shape[0]):
                raise NotCarried(f"{name} of points with {x.ndim} and with {self.ndim} axes")
            if isinstance(x, Tensor) and x.ndim >= self.ndim and x.shape[0] != 1:
                raise NotCarried(f"{name} with a constant that differs from point to point")
        if func in PLANES and self.ndim == 4:
            given = args[1:] if args else ()
            if self.arithmetic.units is not None:
                pooled = narrow_pool2d(self.anchor, self.narrow, given, kwargs)
                if pooled is not None:
                    return self.beside_narrow(*pooled)
            return self.beside(*max_pool2d(self.anchor, self.delta, given, kwargs))
        return self.difference(lambda t: func(*t[0], **t[1]), tree, name)

    def difference(self, f: Callable[[Any], Any], tree: Any, name: str) -> "Anchored | Extreme":
        """f(points) - f(anchors), exactly.

        f       takes `tree` with its carriers replaced by tensors; acts on each row alone
        tree    nested tuples, lists and dicts; floating constants in it are taken in the same dtype
        name    of f, for errors
        raises  NotCarried when f gives no floating value for each point
        """
        at_anchor = f(tree_map(lambda x: _anchors(x, self.anchor.dtype), tree))
        at_points = f(tree_map(lambda x: _values(x, self.wide), tree))
        if not isinstance(at_anchor, Tensor):
            return Extreme(self._difference(at_anchor[0], at_points[0], name))
        return self._difference(at_anchor, at_points, name)

    def _difference(self, at_anchor: Tensor, at_points: Tensor, name: str) -> "Anchored":
        groups = len(self.anchor)
        if (
            not at_anchor.is_floating_point()
            or at_anchor.shape[:1] != (groups,)
            or at_points.shape != (groups * self.points, *at_anchor.shape[1:])
        ):
            raise NotCarried(f"{name} gives no value for each point")
        delta = self.grouped(at_points).sub_(at_anchor.to(self.wide).unsqueeze(1)).flatten(0, 1).float()
        return self.beside(at_anchor, delta)


class Extreme(NamedTuple):
    """What torch.max along an axis gives; the places differ from point to point and are not carried."""

    values: Anchored
    indices: None = None


def _anchors(x: Any, dtype: torch.dtype) -> Any:
    if isinstance(x, Anchored):
        return x.anchor.clone()  # f may overwrite it
    return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


def _values(x: Any, dtype: torch.dtype) -> Any:
    if isinstance(x, Anchored):
        return x.full()
    return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


def _repeated(x: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """A constant beside the points, which must be one row, repeated."""
    if x.shape[0] != 1:
        raise NotCarried("a constant that differs from point to point")
    return x.detach().to(dtype).expand(rows, *x.shape[1:])


def _zeros(x: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """The differences of a constant."""
    return torch.zeros((), dtype=dtype, device=x.device).expand(rows, *x.shape[1:])
