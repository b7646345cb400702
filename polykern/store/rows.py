"""Rows gathered from the memory maps of many shards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.codes import Codes
from polykern.errors import CorruptError, UsageError
from polykern.store.files import Files
from polykern.store.items import Array, require_consistent
from polykern.store.manifest import Manifest
from polykern.store.records import ITEMS, SHARDS, Record
from polykern.store.shard import BEHIND, check_head, mapped

Selection = slice | Sequence[int] | NDArray[Any] | Tensor | None
Index = NDArray[np.int64]
HELD = {torch.float16: np.float16, torch.bfloat16: np.int16, torch.float32: np.float32}  # numpy has no bfloat16


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a store, copied out of it.

    index        int64 (n)      which rows
    codes        of n points
    columns      name -> int32 (n)
    activations  name -> (n, *shape)   those that were asked for
    """

    index: Index
    codes: Codes
    columns: Mapping[str, NDArray[np.int32]]
    activations: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def row0(self) -> int:
        """The first row; of a whole shard, where it begins."""
        return int(self.index[0])


def chosen(selection: Selection, n: int) -> Index:
    """int64 (k): the rows that are selected out of n, in the order asked for.

    selection  None: all; slice; integers (k), counted from the end when negative; bool (n)

    Errors: UsageError for rows that are not there.
    """
    if selection is None:
        return np.arange(n, dtype=np.int64)
    if isinstance(selection, slice):
        return np.arange(*selection.indices(n), dtype=np.int64)
    given = selection.cpu().numpy() if isinstance(selection, Tensor) else np.asarray(selection)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iub"):
        raise UsageError(f"rows are chosen by a slice, integers (k) or bool (n), got {given.dtype} {given.shape}")
    if given.dtype == np.bool_:
        if len(given) != n:
            raise UsageError(f"a mask of {len(given)} for {n} rows")
        return np.flatnonzero(given).astype(np.int64)
    if len(given) and not -n <= int(given.min()) <= int(given.max()) < n:
        raise UsageError(f"rows {given.min()} .. {given.max()} of {n}")
    index = given.astype(np.int64)
    return np.where(index < 0, index + n, index)


class Shelf:
    """The arrays of all shards of a store, each file mapped when it is first asked for.

    files     where they are
    manifest  what they hold
    records   one for every shard
    """

    def __init__(self, files: Files, manifest: Manifest, records: Sequence[Record]) -> None:
        self._files, self._manifest, self._records = files, manifest, tuple(records)
        self._maps: dict[str, dict[str, Array]] = {}
        self.starts = np.array([0, *(r.row0 + r.rows for r in records)], np.int64)

    def arrays(self, shard: int, what: str) -> dict[str, Array]:
        """The arrays of a shard, or of the items beside it.

        what  "shards" or "items"

        Errors: CorruptError naming the file.
        """
        record = self._records[shard]
        mark = record.files[what == ITEMS]
        if mark.name not in self._maps:
            try:
                path = self._files.fetched(mark)
                found = mapped(path, check_head(path, record, self._manifest, what))
                if what == ITEMS:
                    require_consistent(found)
            except (ValueError, OSError) as reason:
                raise CorruptError(f"{self._files.where}/{mark.name}: {reason}") from None
            self._maps[mark.name] = found
        return self._maps[mark.name]

    def words(self, index: Index) -> NDArray[np.int32]:
        """int32 (k, words): the codes of some rows."""
        out = np.empty((len(index), self._manifest.layout.words), np.int32)
        return self._gather("codes", index, out, lambda codes: codes.view("<i4")[:, : out.shape[1]])

    def column(self, name: str, index: Index) -> NDArray[np.int32]:
        """int32 (k): a column of some rows."""
        return self._gather(name, index, np.empty(len(index), np.int32))

    def activations(self, name: str, index: Index) -> Tensor:
        """(k, *shape): the activations of some rows, in the dtype they were kept in."""
        kept = self._manifest.activations[name]
        out = np.empty((len(index), *kept.shape), HELD[kept.dtype])
        found = torch.from_numpy(self._gather(BEHIND + name, index, out))
        return found.view(torch.bfloat16) if kept.dtype == torch.bfloat16 else found

    def _gather(
        self, name: str, index: Index, out: Array, seen: Callable[[Array], Array] = lambda array: array
    ) -> Array:
        """Fill `out` with an array's rows, shard by shard, the pages of each in ascending order."""
        run = _is_run(index)
        places = None if run else np.argsort(index, kind="stable")
        ordered = index if places is None else index[places]
        cuts = np.searchsorted(ordered, self.starts)
        for record, start, stop in zip(self._records, cuts, cuts[1:], strict=False):
            if start == stop:
                continue
            array = seen(self.arrays(record.shard, SHARDS)[name])
            inner = ordered[start:stop] - record.row0
            if places is None:
                out[start:stop] = array[int(inner[0]) : int(inner[-1]) + 1]
            else:
                out[places[start:stop]] = array[inner]
        return out


def _is_run(index: Index) -> bool:
    """Whether rows follow each other without a gap."""
    return len(index) > 0 and int(index[-1]) - int(index[0]) == len(index) - 1 and bool((np.diff(index) == 1).all())
