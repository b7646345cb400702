"""Units: what a capture counts in. A sequence, a picture, a batch; a shard holds whole ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.capturing.watch import Kept, Watch
from polykern.codes import Codes
from polykern.store import Pictures, Texts

State = Mapping[str, Any]  # JSON: where a source goes on


class Unit(NamedTuple):
    """What is read at once and cannot be divided between shards.

    doc      int                 its number
    columns  name -> int32 (n)   of its n rows
    keep     int64 (n)           which of its rows they are
    data     Any                 what the source reads of it
    label    str                 what a person calls it
    bytes    int                 of what a person will see of it
    after    State               where the source goes on behind it
    """

    doc: int
    columns: dict[str, NDArray[np.int32]]
    keep: NDArray[np.int64]
    data: Any
    label: str
    bytes: int
    after: dict[str, Any]

    @property
    def rows(self) -> int:
        """Rows of the store that it gives."""
        return len(self.keep)


class Source(Protocol):
    """A model, which it watches, and its data."""

    watch: Watch

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    @property
    def items(self) -> str | None:
        """What a person sees of the units: "text", "image" or None."""
        ...

    @property
    def noun(self) -> str:
        """Of a row, in the plural."""
        ...

    @property
    def window(self) -> int:
        """Units that are read before they are run."""
        ...

    @property
    def ahead(self) -> int:
        """Units that are read while others are run; 0: none."""
        ...

    @property
    def counted(self) -> str:
        """What its progress counts, in the plural."""
        ...

    @property
    def again(self) -> bool:
        """Whether a run that was interrupted can be gone on with."""
        ...

    @property
    def batch(self) -> int:
        """What is run in one pass: tokens, pictures; it decides the bits where the model's arithmetic does."""
        ...

    @batch.setter
    def batch(self, size: int) -> None: ...

    def config(self) -> dict[str, Any]:
        """Everything that changes a byte of the store, but layout, columns and activations; JSON."""
        ...

    def about(self) -> dict[str, Any]:
        """What people want to know; JSON."""
        ...

    def summary(self) -> dict[str, Any]:
        """What is known when all is read; JSON."""
        ...

    def probe(self) -> None:
        """Run one unit, so that the layout is known; raises UsageError when there is none."""
        ...

    def units(self, state: State | None) -> Iterator[Unit]:
        """The units behind a state; None: all."""
        ...

    def run(self, units: Sequence[Unit]) -> Kept:
        """The kept rows of some units, in their order."""
        ...

    def seen(self, units: Sequence[Unit]) -> Texts | Pictures | None:
        """What a person sees of some units."""
        ...

    def largest(self) -> Unit:
        """A unit as large as they come, for measurements."""
        ...

    def load(self, units: Sequence[Unit]) -> int:
        """What a pass over some units counts as, in the unit of `batch`."""
        ...

    def most(self) -> int | None:
        """Rows there are at most, as far as that is known without reading."""
        ...

    def expected(self, units: Sequence[Unit]) -> int | None:
        """Rows of all units, judged by the first of them; None where nobody can tell."""
        ...

    def progress(self) -> tuple[int, int] | None:
        """How far the reading is: done, of; None where nobody knows."""
        ...


def ordered(parts: Sequence[tuple[Sequence[int], Kept]], counts: Sequence[int]) -> Kept:
    """What passes over some units in any order left, in the order of the units.

    parts   for each pass the numbers of its units, and what it left of them
    counts  rows of each unit
    """
    starts = np.concatenate([[0], np.cumsum([counts[k] for units, _ in parts for k in units])])
    at = {k: int(starts[place]) for place, k in enumerate(k for units, _ in parts for k in units)}
    order = np.concatenate([np.arange(at[k], at[k] + counts[k]) for k in range(len(counts))])
    index = torch.from_numpy(order)
    codes = Codes.cat(kept.codes for _, kept in parts)
    names = parts[0][1].activations
    return Kept(codes[index], {n: torch.cat([kept.activations[n] for _, kept in parts])[index] for n in names})
