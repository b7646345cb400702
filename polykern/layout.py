"""Layouts: which bit of a spline code is which unit of which layer.

A code is the concatenation of its fields. A field holds one nonlinearity at one call: first the bits
"pre-activation > thresholds[0]" of all its units in row-major order, then those of thresholds[1], ...
Bit j of a code is bit j % 32 of 32-bit word j // 32; fields follow each other without padding.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from polykern.errors import UsageError


@dataclass(frozen=True, slots=True)
class Field:
    """The bits of one nonlinearity.

    module      dotted name of the module in whose forward the nonlinearity is called
    call        which call of a nonlinearity inside that module, from 0
    kind        "relu", "gelu", ... (`polykern.activations`)
    shape       shape of the pre-activation without the batch axis
    thresholds  the bit of a unit is 1 where its pre-activation is above; several make a thermometer
    offset      first bit of the field in the code
    """

    module: str
    call: int
    kind: str
    shape: tuple[int, ...]
    thresholds: tuple[float, ...]
    offset: int

    @property
    def units(self) -> int:
        """Number of scalar units (channels at every position)."""
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """Number of bits: units times thresholds."""
        return self.units * len(self.thresholds)

    @property
    def name(self) -> str:
        """`module` or `module#call` when the module calls more than one nonlinearity."""
        return f"{self.module}#{self.call}" if self.call else self.module


@dataclass(frozen=True)
class Layout:
    """The fields of a code, in order. Codes of different layouts refuse to be compared."""

    fields: tuple[Field, ...]

    @classmethod
    def of(cls, fields: Iterable[Field]) -> "Layout":
        """A layout of the given fields with their offsets set one behind the other."""
        placed: list[Field] = []
        offset = 0
        for f in fields:
            placed.append(Field(f.module, f.call, f.kind, f.shape, f.thresholds, offset))
            offset += f.bits
        return cls(tuple(placed))

    @cached_property
    def bits(self) -> int:
        """Bits of a code; padding of the last word is not counted."""
        return sum(f.bits for f in self.fields)

    @property
    def words(self) -> int:
        """32-bit words that hold a code."""
        return -(-self.bits // 32)

    def find(self, name: str) -> Field:
        """The field of this name; `UsageError` with the nearest names when there is none."""
        for f in self.fields:
            if f.name == name:
                return f
        near = get_close_matches(name, [f.name for f in self.fields], n=3, cutoff=0.4)
        raise UsageError(f"no field is called {name!r}", fix=f"nearest names: {', '.join(near)}" if near else "")

    def require_same(self, other: "Layout") -> None:
        """Raise `UsageError` naming the first field that differs."""
        if self == other:
            return
        for mine, theirs in zip(self.fields, other.fields, strict=False):
            if mine != theirs:
                raise UsageError(f"codes of different layouts: {mine} against {theirs}")
        raise UsageError(f"codes of different layouts: {len(self.fields)} fields against {len(other.fields)}")
