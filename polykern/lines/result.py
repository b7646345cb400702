"""What a segment crosses: places, neurons and directions, with the numbers that are made of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.layout import Layout


@dataclass(frozen=True, eq=False)
class Crossings:
    """The boundaries on a segment from a to b, x(t) = a + t (b - a).

    length    of the segment, L2 units of the space
    t         float64 (m)      where, sorted, in [0, 1]
    bit       int64 (m)        which bit of the code changes there
    up        bool (m)         from 0 to 1
    ends      codes of a and of b
    change    float64 (k)      t where the class changes, sorted
    classes   int32 (k + 1)    classes in turn, from a to b; empty when the output is not a vector
    switches  float64 (j)      t where a window of a max-pool takes another element, sorted, one entry a window,
                               but for places where the segment was cut; None where they were not looked for
    merged    crossings placed in a stretch shorter than 2**-40 of the segment in which too many meet: a pair of
              one neuron's crossings in it is not seen
    tied      crossings at an end of the segment, or where it was cut, that lie within rounding of it
    samples   number of points when crossings were only looked for between samples, else None
    gained    crossings that every second sample alone does not show, where their number is odd; how many are still
              missing is of that order
    """

    length: float
    t: NDArray[np.float64]
    bit: NDArray[np.int64]
    up: NDArray[np.bool_]
    ends: Codes
    change: NDArray[np.float64]
    classes: NDArray[np.int32]
    switches: NDArray[np.float64] | None
    merged: int = 0
    tied: int = 0
    samples: int | None = None
    gained: int | None = None

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        how = "exact" if self.exact else f"{self.samples} samples"
        return f"Crossings({len(self)} on a length of {self.length:.6g}, {self.layout.bits} bits, {how})"

    @property
    def layout(self) -> Layout:
        """Which bit is which unit of which nonlinearity."""
        return self.ends.layout

    @property
    def exact(self) -> bool:
        """Whether all crossings are listed; a sampled segment may miss pairs of one neuron."""
        return self.samples is None

    @cached_property
    def field(self) -> NDArray[np.int32]:
        """int32 (m): the number of the nonlinearity, as in `layout.fields`."""
        first = [f.offset for f in self.layout.fields]
        return (np.searchsorted(first, self.bit, side="right") - 1).astype(np.int32)

    @property
    def unit(self) -> NDArray[np.int64]:
        """int64 (m): the unit of its nonlinearity, row-major."""
        return self._within % self._units

    @property
    def threshold(self) -> NDArray[np.int64]:
        """int64 (m): which of the thresholds of its nonlinearity."""
        return self._within // self._units

    @property
    def _within(self) -> NDArray[np.int64]:
        return self.bit - np.array([f.offset for f in self.layout.fields], np.int64)[self.field]

    @property
    def _units(self) -> NDArray[np.int64]:
        return np.array([f.units for f in self.layout.fields], np.int64)[self.field]

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 (fields): crossings of each nonlinearity."""
        return np.bincount(self.field, minlength=len(self.layout.fields)).astype(np.int64)

    @property
    def times(self) -> NDArray[np.int64]:
        """int64 (bits): how often each bit changes."""
        return np.bincount(self.bit, minlength=self.layout.bits).astype(np.int64)

    @cached_property
    def differing(self) -> NDArray[np.bool_]:
        """bool (bits): whether a and b differ."""
        bits = self.ends.bits().cpu().numpy()
        return np.asarray(bits[0] != bits[1])

    @property
    def hamming(self) -> int:
        """Bits in which a and b differ."""
        return int(self.differing.sum())

    @property
    def hammings(self) -> NDArray[np.int64]:
        """int64 (fields): the same of each nonlinearity."""
        parts = [self.differing[f.offset : f.offset + f.bits].sum() for f in self.layout.fields]
        return np.array(parts, np.int64)

    @property
    def ratio(self) -> float:
        """Crossings per differing bit: 1 where no neuron is crossed twice; NaN when nothing is crossed."""
        return len(self) / self.hamming if self.hamming else float("nan" if not len(self) else "inf")

    @property
    def ratios(self) -> NDArray[np.float64]:
        """float64 (fields): the same of each nonlinearity."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.counts / self.hammings

    @property
    def folding(self) -> float:
        """1 - (most bits in which a code on the segment differs from a) / crossings; 0 when there are none."""
        away = np.where(self.up != self.ends.bits()[0].cpu().numpy()[self.bit], 1, -1).cumsum()
        return 1 - away.max() / len(self) if len(self) else 0.0

    @property
    def odd(self) -> int:
        """Bits whose number of changes has not the parity of the ends' difference: 0, or something is wrong."""
        return int((self.times % 2 != self.differing).sum())

    def density(self, bins: int, field: int | None = None) -> NDArray[np.float64]:
        """Crossings per unit of length, float64 (bins), in equal parts of the segment.

        bins   how many parts
        field  only those of one nonlinearity
        """
        if bins < 1:
            raise UsageError(f"a histogram needs one bin at least, got {bins}")
        t = self.t if field is None else self.t[self.field == field]
        return np.histogram(t, bins, (0.0, 1.0))[0] * (bins / self.length)

    def between(self, low: float, high: float) -> NDArray[np.int64]:
        """int64: the numbers of the crossings with low <= t < high."""
        return np.arange(*np.searchsorted(self.t, [low, high]))
