"""Codes of whatever a model is run on: the caller's own batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.capturing.unit import State, Unit, ordered
from polykern.capturing.watch import Kept, Watch
from polykern.errors import CorruptError, UsageError
from polykern.models import digest
from polykern.store.arrays import column


@dataclass(frozen=True)
class Batch:
    """Inputs of one pass with what is known about its rows.

    inputs   a tensor, a tuple of positional or a dict of keyword arguments of the model
    columns  name -> integers (n), one for each row that is kept
    keep     int64 (n): rows that are kept, in this order; None: all. A row is an item, or item * tokens + token
    """

    inputs: Any
    columns: Mapping[str, NDArray[Any] | Tensor] = field(default_factory=dict)
    keep: NDArray[np.int64] | Tensor | None = None


class BatchSource:
    """A model and batches.

    model    any nn.Module in eval mode
    batches  inputs as the model takes them, or `Batch`es; to go on with an interrupted run it must give the same
             again
    watch    of the model, by items or tokens
    name     of the model
    config   what else the batches depend on; JSON, compared when a run is gone on with

    Columns: doc, the number of the item; pos, the token in it (0 where rows are items); and those of the first
    batch.
    """

    items, noun = None, "rows"

    def __init__(
        self, model: nn.Module, batches: Iterable[Any], watch: Watch, *, name: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.watch, self.name = watch, name or type(model).__name__
        self.weights = digest(model.state_dict())
        self.batch = 0
        self.columns: tuple[str, ...] = ("doc", "pos")
        self._given, self._config = batches, dict(config or {})
        self._stream: Iterator[Any] | None = None
        self._held: list[tuple[Batch, Kept]] = []
        self._first, self._rows = (1, 1), 1  # sizes of the first batch, and how many rows it has
        self._read = 0

    @property
    def window(self) -> int:
        """A batch is run when it is read."""
        return 1

    @property
    def ahead(self) -> int:
        """None: the caller's batches are read in the caller's thread."""
        return 0

    @property
    def counted(self) -> str:
        """Batches."""
        return "batches"

    @property
    def again(self) -> bool:
        """The caller gives the same batches again."""
        return True

    def config(self) -> dict[str, Any]:
        """The model, and what the caller says."""
        return {
            "model": {"name": self.name, "weights": self.weights},
            "rows": self.watch.rows,
            "data": self._config,
        }

    def about(self) -> dict[str, Any]:
        """What people want to know."""
        return {"kind": "batches", "model": {"name": self.name, "note": "", "weights": self.weights}}

    def summary(self) -> dict[str, Any]:
        """How many batches there were."""
        return {"batches": self._read}

    def probe(self) -> None:
        """Run the first batch; raises UsageError when there is none, or it has no rows."""
        self._stream = iter(self._given)
        first = next(self._stream, None)
        if first is None:
            raise UsageError("there are no batches")
        batch = first if isinstance(first, Batch) else Batch(first)
        self._held = [(batch, self._ran(batch, 0))]
        self._first, self._rows = _sizes(batch.inputs), self.watch.width
        if not self._rows:
            raise UsageError(
                "the first batch has no rows", why="it tells how many the others have", fix="leave it out"
            )
        self.columns = tuple(dict.fromkeys(("doc", "pos", *batch.columns)))

    def units(self, state: State | None) -> Iterator[Unit]:
        """The batches behind a state; those before it are read and not run."""
        self._read, doc = (0, 0) if state is None else (int(state["read"]), int(state["doc"]))
        stream, held = self._opened()
        for _ in range(self._read - len(held)):
            next(stream, None)
        held = held if not self._read else []
        while True:
            batch, kept = held.pop() if held else (next(stream, None), None)
            if batch is None:
                return
            batch = batch if isinstance(batch, Batch) else Batch(batch)
            number, self._read = self._read, self._read + 1
            columns, items = self._columns(batch, number, doc)
            doc += items
            rows = np.arange(len(columns["doc"]), dtype=np.int64)
            after = {"read": self._read, "doc": doc}
            if not len(rows):
                continue
            yield Unit(doc - items, columns, rows, [(batch, kept)], f"batch {number}", 0, after)

    def run(self, units: Sequence[Unit]) -> Kept:
        """What is kept of some batches."""
        return ordered([([k], self._kept(u)) for k, u in enumerate(units)], [u.rows for u in units])

    def seen(self, units: Sequence[Unit]) -> None:
        """Nobody knows what a person would see."""

    def largest(self) -> Unit:
        """The first batch."""
        rows = np.arange(len(self._held[0][1].codes), dtype=np.int64)
        return Unit(0, {}, rows, [self._held[0]], "batch 0", 0, {})

    def load(self, units: Sequence[Unit]) -> int:
        """Batches."""
        return len(units)

    def most(self) -> int | None:
        """Nobody knows."""
        return None

    def expected(self, units: Sequence[Unit]) -> int | None:
        """As many rows as batches, where those say how many they are."""
        known = self.progress()
        return None if known is None else known[1] * units[0].rows

    def progress(self) -> tuple[int, int] | None:
        """Batches, where they say how many they are."""
        total = len(self._given) if hasattr(self._given, "__len__") else None  # type: ignore[arg-type]
        return None if total is None else (self._read, total)

    def _opened(self) -> tuple[Iterator[Any], list[tuple[Batch, Kept]]]:
        """The batches, and those of them that were run already."""
        stream, self._stream = self._stream, None
        if stream is not None:
            return stream, list(self._held)
        if isinstance(self._given, Iterator):
            raise UsageError("the batches were read once and cannot be read again", fix="give a list, or run again")
        return iter(self._given), []

    def _kept(self, unit: Unit) -> Kept:
        batch, kept = unit.data.pop()
        kept = kept or self._ran(batch, unit.after["read"] - 1)
        if len(kept.codes) != unit.rows:
            raise UsageError(
                f"{unit.label} gives {len(kept.codes)} rows, {unit.rows} after what the first one gave",
                fix="name the rows of each batch: Batch(inputs, keep=...)",
            )
        return kept

    def _ran(self, batch: Batch, number: int) -> Kept:
        keep = None if batch.keep is None else torch.as_tensor(batch.keep)
        try:
            return self.watch.run(batch.inputs, keep)
        except CorruptError as error:
            raise CorruptError(f"{error.what}, in batch {number}", why=error.why) from error

    def _columns(self, batch: Batch, number: int, doc: int) -> tuple[dict[str, NDArray[np.int32]], int]:
        items, width = self._width(batch)
        index = np.arange(width) if batch.keep is None else torch.as_tensor(batch.keep).cpu().numpy()
        each = width // items if items and self.watch.rows == "tokens" else 1
        given = {"doc": doc + index // each, "pos": index % each, **batch.columns}
        if missing := [name for name in self.columns if name not in given]:
            raise UsageError(f"batch {number} has no column {missing[0]}", fix="name the same in every batch")
        try:
            return {name: column(name, given[name], index.shape) for name in self.columns}, items
        except UsageError as error:
            raise UsageError(f"batch {number}: {error.what}") from error

    def _width(self, batch: Batch) -> tuple[int, int]:
        """Items of a batch, and its rows, kept or not: as many for an item, or for a token, as in the first."""
        (items, tokens), (before, each) = _sizes(batch.inputs), self._first
        by_token = self.watch.rows == "tokens" and self._rows % max(1, before * each) == 0
        size, sample = (items * tokens, before * each) if by_token else (items, before)
        return items, self._rows * size // max(1, sample)


def _sizes(inputs: Any) -> tuple[int, int]:
    """Items of a batch and tokens of an item: the first two sizes of its first tensor."""
    values = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else [inputs]
    )
    shape = next((v.shape for v in values if isinstance(v, Tensor) and v.ndim), (1,))
    return shape[0], shape[1] if len(shape) > 1 else 1
