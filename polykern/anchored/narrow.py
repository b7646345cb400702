"""Differences in float16, sixteen bits of traffic between operators, without a pass that only scales.

Small differences may fall below the range of float16 and sums of products may leave it, so rows carry a unit, a
power of two on the host. Where rows are written anew (behind an activation, in front of a first product) the unit
follows the largest entry that the same place had in the first pass (`polykern.arithmetic.Units`): entries then lie
below 16, with a headroom of 4,000, and keep all of their bits down to 2**-14. What overflows nevertheless becomes
infinite, is counted by the next activation (`polykern_kernels.narrow`), and its batch is done again with a scale
for every group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polykern.arithmetic import Arithmetic, Units
from polykern.carrier import Linear

WIDEST = 512  # inputs of a layer; one wider gains more from a library's product than it loses by its traffic
SUMMED = 1 << 10  # entries of a mean or sum that float16 holds whatever they are


@dataclass(frozen=True, slots=True, eq=False)
class Narrow:
    """rows * unit * gain, the gain by channel.

    rows     float16 (groups, points, *units), images channels-last; may be expanded over the groups
    unit     a power of two
    gain     float32 (channels), of a BatchNorm that has not been multiplied in; None for ones
    settled  entries are small enough to be operands of a product
    place    of the pass where an activation wrote rows (`polykern.arithmetic.Units`), None elsewhere
    """

    rows: Tensor
    unit: float
    gain: Tensor | None = None
    settled: bool = True
    place: int | None = None

    @classmethod
    def of(cls, values: Tensor, units: Units, largest: Callable[[], float] | None = None) -> "Narrow":
        """Rounded from float values (groups, points, *units), in the unit of this place of the pass."""
        unit = units.next(largest or (lambda: float(values.abs().amax())))
        return cls(_channels_last((values / unit).half()), unit)

    @property
    def flat(self) -> Tensor:
        """float16 (groups * points, *units)."""
        return self.rows.flatten(0, 1)

    def wide(self) -> Tensor:
        """float32 (groups * points, *units): the differences themselves."""
        values = self.flat.float() * self.unit
        return values if self.gain is None else values * _shaped(self.gain, values.ndim)

    def plain(self) -> "Narrow":
        """The same without a gain."""
        if self.gain is None:
            return self
        rows = (self.rows.float() * _shaped(self.gain, self.rows.ndim - 1)).half()
        return Narrow(rows, self.unit, settled=False)

    def operand(self, units: Units) -> "Narrow":
        """The same, fit for a product."""
        if self.settled and self.gain is None:
            return self
        values = self.rows.float() * self.unit
        if self.gain is not None:
            values = values * _shaped(self.gain, self.rows.ndim - 1)
        return Narrow.of(values, units)

    def times(self, gain: Tensor) -> "Narrow | None":
        """The same with a gain, float (1) or one a channel shaped like a row; None where it is neither."""
        row = self.rows.shape[2:]
        by_channel = gain.ndim == len(row) and gain.numel() == gain.shape[0] == row[0]
        if len(row) not in (1, 3) or not (by_channel or gain.numel() == 1):
            return None
        gain = gain.float().reshape(-1).expand(row[0])
        return replace(self, gain=gain if self.gain is None else self.gain * gain)

    def largest(self) -> float:
        """The largest |difference|, on the host."""
        each = self.rows[:1] if self.rows.stride(0) == 0 else self.rows
        axes = [k for k in range(each.ndim) if k != 2]
        peak = each.abs().amax(axes).float() * self.unit  # by channel
        return float((peak if self.gain is None else peak * self.gain.abs()).amax())


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A linear layer of vectors that waits for the activation behind it, so that both are one pass.

    x       what is multiplied: float16 rows (groups, points, inputs), fit for it
    linear  the layer
    """

    x: Narrow
    linear: Linear

    @property
    def weight(self) -> Tensor:
        """(units, inputs)."""
        assert self.linear.weight is not None
        return self.linear.weight

    def done(self, arithmetic: Arithmetic) -> Narrow:
        """The product, rounded to float16."""
        flat, unit = arithmetic.narrow_product(self.linear, self.x.flat)
        return Narrow(flat.unflatten(0, self.x.rows.shape[:2]), self.x.unit * unit, settled=False)


def joined(parts: Sequence[Narrow], op: Callable[[list[Tensor]], Tensor], units: Units) -> Narrow:
    """Rows that are put together without arithmetic; images that lie in their place already are not copied.

    parts  without gains
    op     puts (groups * points, *units) together
    units  knows the places; it is told of images that are joined along their channels
    """
    unit, settled = max(x.unit for x in parts), all(x.settled for x in parts)
    places = [x.place for x in parts if x.place is not None]
    image = units.joined(places) if len(places) == len(parts) else None
    if image is not None:
        return Narrow(image.permute(0, 1, 4, 2, 3), unit)
    flat = op([x.flat if x.unit == unit else x.flat * (x.unit / unit) for x in parts])
    channels = [x.rows.shape[2] for x in parts]
    if len(places) == len(parts) and flat.ndim == 4 and flat.shape[1] == sum(channels):
        units.join(places, channels)
    return Narrow(flat.unflatten(0, parts[0].rows.shape[:2]), unit, settled=settled)


def _shaped(gain: Tensor, ndim: int) -> Tensor:
    """One number a channel, to be multiplied with rows of `ndim` axes, the batch included."""
    return gain.reshape(-1, *(1,) * (ndim - 2))


def _channels_last(rows: Tensor) -> Tensor:
    """Images as convolutions want them on tensor cores."""
    if rows.ndim != 5:
        return rows
    flat = rows.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return flat.view(rows.shape[:2] + flat.shape[1:])
