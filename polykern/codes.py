"""Spline codes: packed words with the layout that says what each bit is.

A row is the code of one point, the name of its polytope: bit = pre-activation > threshold. Distances count
bits that differ (Hamming), which is the number of neurons whose boundaries separate two points; they are exact
integers. Codes of different layouts refuse to be compared. Black et al. 2022, "Interpreting Neural Networks
through the Polytope Lens".

A max-pool chooses one element of each window; what it chose is no bit. Asked for, it is kept beside the words,
in `choices`: the index of the winner within its window (row-major), or the number of elements k where the window
is all zeros, so that a choice holds ceil(log2(k + 1)) bits of information. Two choices are 1 apart when they
differ, whatever the indices.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern.errors import CorruptError, UsageError
from polykern.layout import Field, Layout
from polykern_kernels import hamming, pack

WORD = 32
PAIRS = 1 << 24  # compared choices held at a time


@dataclass(frozen=True, eq=False)
class Codes:
    """The spline codes of n points.

    words    int32 (n, layout.words)    bit j of a code is bit j % 32 of word j // 32; bits behind the last are 0
    layout   which bit is which unit of which nonlinearity
    choices  name -> uint8|int16|int32 (n, *windows)   what the max-pools chose; empty unless asked for
    """

    words: Tensor
    layout: Layout
    choices: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words, layout = self.words, self.layout
        if words.dtype != torch.int32 or words.ndim != 2 or words.shape[1] != layout.words:
            raise UsageError(
                f"codes of {layout.bits} bits are int32 (n, {layout.words}), got {words.dtype} {list(words.shape)}"
            )
        for name, chosen in self.choices.items():
            if len(chosen) != len(words):
                raise UsageError(f"choices of {name}: {len(chosen)} rows beside {len(words)} codes")
        used = layout.bits % WORD
        if used and len(words) and bool((words[:, -1] >> used).any()):
            raise CorruptError(f"bits are set behind the {layout.bits} bits of a code")

    @classmethod
    def cat(cls, parts: Iterable["Codes"]) -> "Codes":
        """Codes of one layout, one behind the other."""
        every = list(parts)
        if not every:
            raise UsageError("no codes to join")
        first = every[0]
        for other in every[1:]:
            first._require_same(other)
        choices = {name: torch.cat([p.choices[name] for p in every]) for name in first.choices}
        return cls(torch.cat([p.words for p in every]), first.layout, choices)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, rows: int | np.integer[Any] | slice | Sequence[int] | Tensor) -> "Codes":
        """The codes of some rows; an int gives codes of one row."""
        if isinstance(rows, int | np.integer):
            rows = torch.arange(len(self), device=self.words.device)[rows].reshape(1)
        choices = {name: chosen[rows] for name, chosen in self.choices.items()}
        return Codes(self.words[rows], self.layout, choices)

    def __eq__(self, other: object) -> bool:
        """Same layout, same bits, same choices, row by row."""
        if not isinstance(other, Codes):
            return NotImplemented
        return (
            self.layout == other.layout
            and torch.equal(self.words, other.words)
            and self.choices.keys() == other.choices.keys()
            and all(torch.equal(chosen, other.choices[name]) for name, chosen in self.choices.items())
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = len(self.layout.fields)
        return f"Codes({len(self)} points, {self.layout.bits} bits of {fields} nonlinearities)"

    def to(self, device: torch.device | str) -> "Codes":
        """The same codes on another device."""
        moved = {name: chosen.to(device) for name, chosen in self.choices.items()}
        return Codes(self.words.to(device), self.layout, moved)

    @cached_property
    def popcounts(self) -> Tensor:
        """int32 (n): bits set in each code, the neurons that are active."""
        return hamming.aligned(self.words, torch.zeros_like(self.words))

    def bits(self) -> Tensor:
        """bool (n, layout.bits): every bit."""
        return pack.unpack(self.words, self.layout.bits)

    def field(self, *names: str) -> "Codes":
        """The codes of these fields alone, in the layout's order.

        names    as in `layout.fields[k].name`
        returns  codes of the same points without choices

        Raises `UsageError` with the nearest names when the layout has no such field.
        """
        wanted = {self.layout.find(name) for name in names}
        fields = [f for f in self.layout.fields if f in wanted]
        if not fields:
            raise UsageError("no field is named")
        parts = [_cut(self.words, f.offset, f.bits) for f in fields]
        return Codes(pack.join(parts, [f.bits for f in fields]), Layout.of(fields))

    def distances(self, other: "Codes | None" = None) -> Tensor:
        """Hamming distances of every pair.

        other    codes of the same layout; None: these codes themselves
        returns  int32 (n, m)   bits that differ, plus 1 for every choice that differs

        Exact. Raises `UsageError` for another layout.
        """
        other = self if other is None else other
        self._require_same(other)
        total = hamming.pairwise(self.words, other.words)
        for name, mine in self.choices.items():
            total += _choices_apart(mine.flatten(1), other.choices[name].flatten(1))
        return total

    def aligned(self, other: "Codes") -> Tensor:
        """int32 (n): the distance of each code from the same row of `other`; else as `distances`."""
        self._require_same(other)
        self._require_rows(other)
        total = hamming.aligned(self.words, other.words)
        for name, mine in self.choices.items():
            total += (mine != other.choices[name]).flatten(1).sum(1, dtype=torch.int32)
        return total

    def aligned_by_field(self, other: "Codes") -> Tensor:
        """int32 (fields, n): `aligned`, split by field; choices are not counted. Its sum over fields is exact."""
        self._require_same(other)
        self._require_rows(other)
        rows = [
            hamming.aligned(*(_cut(words, f.offset, f.bits) for words in (self.words, other.words)))
            for f in self.layout.fields
        ]
        return torch.stack(rows)

    def _require_rows(self, other: "Codes") -> None:
        if len(self) != len(other):
            raise UsageError(f"aligned distances of {len(self)} and {len(other)} codes")

    def _require_same(self, other: "Codes") -> None:
        self.layout.require_same(other.layout)
        mine, theirs = ({k: v.shape[1:] for k, v in c.choices.items()} for c in (self, other))
        if mine != theirs:
            raise UsageError(f"codes with different choices of max-pools: {sorted(mine)} against {sorted(theirs)}")


def packed(field: Field, z: Tensor) -> Tensor:
    """The packed bits of one nonlinearity.

    field    says which thresholds, and its name in errors
    z        float (n, *field.shape)   pre-activations
    returns  int32 (n, words)

    Errors: CorruptError when z holds NaN.
    """
    flat = z.detach().reshape(len(z), field.units)
    try:
        return pack.signs(flat, field.thresholds)[0]
    except ValueError:
        broken = flat.isnan().any(1)
        if not bool(broken.any()):
            raise
        raise CorruptError(
            f"the pre-activations of {field.name} hold NaN, which has no sign",
            why=f"in {int(broken.sum())} of {len(flat)} points, first in number {int(broken.int().argmax())}",
            fix="check the weights and the inputs; half precision may overflow",
        ) from None


def joined(words: Sequence[Tensor], layout: Layout, choices: Mapping[str, Tensor], *, repeat: bool = True) -> Codes:
    """Codes of fields side by side.

    words    int32 (n, words of the field) each, in the layout's order
    choices  name -> (n, *windows)
    repeat   a field of one row, the same for every point, is repeated

    Errors: UsageError when the fields have different numbers of points.
    """
    rows = max(len(part) for part in words)
    for part, f in zip(words, layout.fields, strict=True):
        if len(part) != rows and not (repeat and len(part) == 1):
            raise UsageError(f"{f.name} has {len(part)} rows where others have {rows}", fix="select others")
    wide = [part.expand(rows, -1).contiguous() for part in words]
    chosen = {name: c.expand(rows, *c.shape[1:]) for name, c in choices.items()}
    return Codes(pack.join(wide, [f.bits for f in layout.fields]), layout, chosen)


def _cut(words: Tensor, offset: int, bits: int) -> Tensor:
    """int32 (n, words for bits): bits offset ... offset + bits - 1 as a code of their own."""
    first, shift, count = offset // WORD, offset % WORD, -(-bits // WORD)
    wide = words[:, first : first + count + 1].long() & 0xFFFFFFFF
    wide = torch.nn.functional.pad(wide, (0, count + 1 - wide.shape[1]))
    low = (wide[:, :-1] >> shift) | (wide[:, 1:] << (WORD - shift)) & 0xFFFFFFFF
    if bits % WORD:
        low[:, -1] &= (1 << bits % WORD) - 1
    return low.to(torch.int32)  # keeps the low 32 bits


def _choices_apart(a: Tensor, b: Tensor) -> Tensor:
    """int32 (n, m): windows in which two points chose differently."""
    block = max(1, PAIRS // max(1, b.numel()))
    parts: list[Any] = [(rows[:, None] != b[None]).sum(2, dtype=torch.int32) for rows in a.split(block)]
    return torch.cat(parts)
