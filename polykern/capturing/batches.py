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
        self._stream: Iterator[Any] = iter(())
        self._held: list[tuple[Batch, Kept]] = []
        self._read = 0

    @property
    def window(self) -> int:
        """A batch is run when it is read."""
        return 1

    @property
    def ahead(self) -> int:
        """None: reading a batch runs the model."""
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
        """Run the first batch; raises UsageError when there is none."""
        self._stream = iter(self._given)
        first = next(self._stream, None)
        if first is None:
            raise UsageError("there are no batches")
        self._held = [self._ran(first)]
        self.columns = tuple(dict.fromkeys(("doc", "pos", *self._held[0][0].columns)))

    def units(self, state: State | None) -> Iterator[Unit]:
        """The batches behind a state; those before it are read and not run."""
        self._read, doc = (0, 0) if state is None else (int(state["read"]), int(state["doc"]))
        if self._read:
            self._held = []
            for _ in range(self._read - 1):  # the probe has read one
                next(self._stream, None)
        while True:
            if self._held:
                batch, kept = self._held.pop()
            else:
                given = next(self._stream, None)
                if given is None:
                    return
                batch, kept = self._ran(given)
            self._read += 1
            columns, items = self._columns(batch, kept, doc)
            doc += items
            after = {"read": self._read, "doc": doc}
            rows = np.arange(len(kept.codes), dtype=np.int64)
            yield Unit(doc - items, columns, rows, [kept], f"batch {self._read - 1}", 0, after)

    def run(self, units: Sequence[Unit]) -> Kept:
        """What was kept of some batches."""
        return ordered([([k], u.data.pop()) for k, u in enumerate(units)], [u.rows for u in units])

    def seen(self, units: Sequence[Unit]) -> None:
        """Nobody knows what a person would see."""

    def largest(self) -> Unit:
        """The first batch."""
        kept = self._held[0][1]
        return Unit(0, {}, np.arange(len(kept.codes), dtype=np.int64), [kept], "the first batch", 0, {})

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

    def _ran(self, given: Any) -> tuple[Batch, Kept]:
        batch = given if isinstance(given, Batch) else Batch(given)
        keep = None if batch.keep is None else torch.as_tensor(batch.keep)
        try:
            return batch, self.watch.run(batch.inputs, keep)
        except CorruptError as error:
            raise CorruptError(f"{error.what}, in batch {self._read}", why=error.why) from error

    def _columns(self, batch: Batch, kept: Kept, doc: int) -> tuple[dict[str, NDArray[np.int32]], int]:
        items = _items(batch.inputs)
        rows = len(kept.codes) if batch.keep is None else None
        index = np.arange(rows) if rows is not None else np.asarray(torch.as_tensor(batch.keep))
        each = self.watch.width // items if items and self.watch.rows == "tokens" else 1
        found = {"doc": doc + index // each, "pos": index % each}
        for name in self.columns:
            if name in batch.columns:
                found[name] = np.asarray(torch.as_tensor(batch.columns[name]))
            if name not in found or found[name].shape != (len(kept.codes),):
                raise UsageError(f"batch {self._read - 1} has no column {name} with {len(kept.codes)} integers")
        return {name: found[name].astype(np.int32) for name in self.columns}, items


def _items(inputs: Any) -> int:
    """Items of a batch: the length of its first tensor."""
    values = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else [inputs]
    )
    return next((len(v) for v in values if isinstance(v, Tensor) and v.ndim), 1)
