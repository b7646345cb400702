"""Reading a store: its rows from memory maps, what a person sees of them, and what it says of itself."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.codes import Codes
from polykern.errors import CorruptError, UsageError
from polykern.layout import Layout
from polykern.store import items as things
from polykern.store.files import Files, opened
from polykern.store.manifest import Manifest
from polykern.store.records import ITEMS, SHARDS, Mark, Record
from polykern.store.sealed import canonical
from polykern.store.shard import BEHIND, check_head, mapped
from polykern.store.verify import examine

Selection = slice | Sequence[int] | NDArray[Any] | Tensor | None
Array = NDArray[Any]
BLOCK = 64 << 20  # bytes of whole codes held while fields are cut out of them


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a store, copied out of it.

    index        int64 (n)      which rows
    codes        of n points
    columns      name -> int32 (n)
    activations  name -> (n, *shape)   those that were asked for
    """

    index: NDArray[np.int64]
    codes: Codes
    columns: Mapping[str, NDArray[np.int32]]
    activations: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def row0(self) -> int:
        """The first row."""
        return int(self.index[0])


class Store:
    """A store of packed codes, opened for reading: the shards that were committed when it was opened.

    manifest  what it holds
    records   one for every shard
    """

    def __init__(self, files: Files, manifest: Manifest, records: Sequence[Record]) -> None:
        self._files, self.manifest, self.records = files, manifest, tuple(records)
        self._maps: dict[str, dict[str, Array]] = {}
        ends = [r.row0 + r.rows for r in self.records]
        self._starts = np.array([0, *ends], np.int64)

    @classmethod
    def open(cls, where: Path | str, *, verify: str = "fast") -> "Store":
        """The store in a folder or behind a URL (s3://, memory://, whatever fsspec knows).

        where   its folder or URL
        verify  "fast": manifest, records, sizes and headers; "full": every byte against its hash as well

        Errors: CorruptError naming the first damaged file; another schema is one as well.
        """
        files = opened(where)
        found = examine(files, verify)
        if found.problems or found.manifest is None:
            more = len(found.problems) - 1
            raise CorruptError(
                f"{files.where}/{found.problems[0]}",
                why=f"{more} more of its files are damaged" if more else "",
                fix=f"`polykern verify {files.where}` names every damaged file",
            )
        return cls(files, found.manifest, found.records)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        state = "" if self.complete else ", not complete"
        return f"Store({self.path}: {len(self)} rows, {self.layout.bits} bits{state})"

    @property
    def path(self) -> str:
        """Its folder or URL, as it was opened."""
        return self._files.where

    @property
    def layout(self) -> Layout:
        """Which bit is which unit."""
        return self.manifest.layout

    @property
    def config(self) -> Mapping[str, Any]:
        """What determines every byte of it."""
        return self.manifest.config

    @property
    def config_hash(self) -> str:
        """sha256 of the canonical config."""
        return self.manifest.config_hash

    @property
    def about(self) -> Mapping[str, Any]:
        """What it tells people."""
        return self.manifest.about

    @property
    def complete(self) -> bool:
        """Whether its writer finished."""
        return self.manifest.complete

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns."""
        return self.manifest.columns

    @property
    def items(self) -> str | None:
        """ "text", "image" or None: what doc and pos point into."""
        return self.manifest.items

    @property
    def nbytes(self) -> int:
        """Bytes of its shards and items."""
        return sum(mark.bytes for record in self.records for mark in record.files)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the config and the hashes of all files: equal for equal content, 64 hexadecimal digits."""
        marks = [mark.xxh3_128 for record in self.records for mark in record.files]
        return hashlib.sha256(canonical([self.config_hash, *marks])).hexdigest()

    def rows(
        self,
        selection: Selection = None,
        fields: Sequence[str] | None = None,
        *,
        activations: Sequence[str] = (),
    ) -> Rows:
        """Some rows, in the order asked for.

        selection    None: all; slice; integers (k), counted from the end when negative; bool (n)
        fields       names of fields of the layout; None: all. Their codes alone are given, in the layout's order
        activations  names of the activations to give as well

        Errors: UsageError for rows or names that are not there.
        """
        index = self._index(selection)
        columns = {name: self._gathered(name, index) for name in self.columns}
        kept = {name: self.activations(name, index) for name in activations}
        return Rows(index, self._codes(index, fields), columns, kept)

    def shards(self, fields: Sequence[str] | None = None, *, activations: Sequence[str] = ()) -> Iterator[Rows]:
        """The rows of one shard after the other; arguments as of `rows`."""
        for record in self.records:
            yield self.rows(slice(record.row0, record.row0 + record.rows), fields, activations=activations)

    def column(self, name: str) -> NDArray[np.int32]:
        """int32 (n): a column of every row."""
        if name not in self.columns:
            raise UsageError(f"no column is called {name!r}", fix=f"there are {', '.join(self.columns) or 'none'}")
        return self._gathered(name, self._index(None))

    def activations(self, name: str, selection: Selection = None) -> Tensor:
        """(k, *shape) in the dtype it was kept in: the activations of some rows, selected as in `rows`."""
        kept = self.manifest.activations.get(name)
        if kept is None:
            there = ", ".join(self.manifest.activations) or "none"
            raise UsageError(f"no activations of {name!r} are kept", fix=f"there are {there}")
        found = torch.from_numpy(self._gathered(BEHIND + name, self._index(selection)))
        return found.view(torch.bfloat16) if kept.dtype == torch.bfloat16 else found

    def context(self, row: int, before: int = 20, after: int = 20) -> things.Context:
        """What stands around a row in its text.

        row            of the store
        before, after  tokens at most

        Never raises for broken text. Errors: UsageError when the items are no text, CorruptError when the row
        points at nothing.
        """
        self._require_items("text")
        chosen = self._index([row])
        doc, pos = (int(self._gathered(name, chosen)[0]) for name in ("doc", "pos"))
        shard = int(np.searchsorted(self._starts, chosen[0], side="right")) - 1
        name, index = self._document(doc, shard)
        try:
            return things.context(self._items(name), index, pos, before, after)
        except IndexError as reason:
            raise CorruptError(f"{self.path}/{name}: {reason}", why=f"row {row} points there") from None

    def image(self, doc: int) -> bytes:
        """The PNG file of a picture by its id; UsageError when it is not there."""
        self._require_items("image")
        name, index = self._document(doc, None)
        found = self._items(name)
        ends = found["png_ends"]
        return bytes(found["png"][int(ends[index - 1]) if index else 0 : int(ends[index])])

    def _codes(self, index: NDArray[np.int64], fields: Sequence[str] | None) -> Codes:
        if fields is None:
            return Codes(torch.from_numpy(self._words(index)), self.layout)
        probe = Codes(torch.zeros(0, self.layout.words, dtype=torch.int32), self.layout).field(*fields)
        out = torch.zeros(len(index), probe.layout.words, dtype=torch.int32)
        step = max(1, BLOCK // (8 * self.manifest.words64))
        for start in range(0, len(index), step):
            block = Codes(torch.from_numpy(self._words(index[start : start + step])), self.layout)
            out[start : start + step] = block.field(*fields).words
        return Codes(out, probe.layout)

    def _words(self, index: NDArray[np.int64]) -> NDArray[np.int32]:
        """int32 (k, words) of some rows."""
        words = self.layout.words
        return self._gathered("codes", index, lambda a: a.view("<i4")[:, :words], (words,), np.dtype(np.int32))

    def _gathered(
        self,
        name: str,
        index: NDArray[np.int64],
        seen: Any = lambda a: a,
        shape: tuple[int, ...] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> NDArray[Any]:
        """(k, *shape): one array of some rows, a shard at a time, pages in ascending order."""
        if shape is None or dtype is None:
            shape, dtype = self._kind(name)
        out = np.empty((len(index), *shape), dtype)
        if _is_run(index):
            places: NDArray[np.int64] | None = None
            ordered = index
        else:
            places = np.argsort(index, kind="stable")
            ordered = index[places]
        cuts = np.searchsorted(ordered, self._starts)
        for record, start, stop in zip(self.records, cuts, cuts[1:], strict=False):
            if start == stop:
                continue
            array = seen(self._mapped(record, SHARDS)[name])
            inner = ordered[start:stop] - record.row0
            if places is None:
                out[start:stop] = array[int(inner[0]) : int(inner[-1]) + 1]
            else:
                out[places[start:stop]] = array[inner]
        return out

    def _kind(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape of a row and dtype of an array of a shard, as numpy holds it."""
        if not name.startswith(BEHIND):
            return (), np.dtype(np.int32)
        kept = self.manifest.activations[name.removeprefix(BEHIND)]
        numpy = {torch.float16: np.float16, torch.bfloat16: np.int16, torch.float32: np.float32}
        return kept.shape, np.dtype(numpy[kept.dtype])

    def _index(self, selection: Selection) -> NDArray[np.int64]:
        n = len(self)
        if selection is None:
            return np.arange(n, dtype=np.int64)
        if isinstance(selection, slice):
            return np.arange(*selection.indices(n), dtype=np.int64)
        chosen = selection.cpu().numpy() if isinstance(selection, Tensor) else np.asarray(selection)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iub"):
            raise UsageError(
                f"rows are chosen by a slice, integers (k) or bool (n), got {chosen.dtype} {chosen.shape}"
            )
        if chosen.dtype == np.bool_:
            if len(chosen) != n:
                raise UsageError(f"a mask of {len(chosen)} for {n} rows")
            return np.flatnonzero(chosen).astype(np.int64)
        index = chosen.astype(np.int64)
        if len(index) and not -n <= index.min() <= index.max() < n:
            raise UsageError(f"row {index.max() if index.max() >= n else index.min()} of {n} rows")
        return np.where(index < 0, index + n, index)

    def _mapped(self, record: Record, what: str) -> dict[str, Array]:
        """The arrays of a file, mapped when they are first asked for."""
        mark = record.files[what == ITEMS]
        if mark.name not in self._maps:
            self._maps[mark.name] = self._map(record, mark, what)
        return self._maps[mark.name]

    def _map(self, record: Record, mark: Mark, what: str) -> dict[str, Array]:
        try:
            path = self._files.path(mark.name)
            arrays = mapped(path, check_head(path, record, self.manifest, what))
            if what == ITEMS:
                things.require_consistent(arrays)
        except (ValueError, OSError) as reason:
            raise CorruptError(f"{self.path}/{mark.name}: {reason}") from None
        return arrays

    def _require_items(self, kind: str) -> None:
        if self.items != kind:
            raise UsageError(f"the items of {self.path} are {self.items or 'not kept'}, not {kind}")

    def _items(self, name: str) -> dict[str, Array]:
        return self._mapped(self.records[int(name.rpartition("/")[2][:6])], ITEMS)

    def _document(self, doc: int, shard: int | None) -> tuple[str, int]:
        """Items file and index of a document, in this shard if it is there, else in the first that has it."""
        ids, shards, inside = self._documents
        first, last = np.searchsorted(ids, doc, "left"), np.searchsorted(ids, doc, "right")
        if first == last:
            raise UsageError(f"{self.path} holds no document {doc}")
        own = [k for k in range(first, last) if shards[k] == shard]
        k = own[0] if own else int(first)
        return self.records[int(shards[k])].files[1].name, int(inside[k])

    @cached_property
    def _documents(self) -> tuple[Array, Array, Array]:
        """Ids of all documents, ascending; the shard of each; its index there."""
        each = [np.asarray(self._mapped(r, ITEMS)["document"]) for r in self.records]
        ids = np.concatenate([np.zeros(0, np.int32), *each])
        shards = np.repeat(np.arange(len(each)), [len(e) for e in each])
        inside = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(e)) for e in each)])
        order = np.argsort(ids, kind="stable")
        return ids[order], shards[order], inside[order]


def _is_run(index: NDArray[np.int64]) -> bool:
    """Whether rows follow each other without a gap."""
    return len(index) > 0 and int(index[-1]) - int(index[0]) == len(index) - 1 and bool((np.diff(index) == 1).all())
