"""Reading a store: its rows from memory maps, what a person sees of them, and what it says of itself."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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
from polykern.store.examination import examine
from polykern.store.files import Files, opened
from polykern.store.items import Array
from polykern.store.manifest import Manifest
from polykern.store.records import ITEMS, Record, items_name
from polykern.store.rows import Index, Rows, Selection, Shelf, chosen
from polykern.store.sealed import canonical

BLOCK = 64 << 20  # bytes of whole codes held while fields are cut out of them


class Store:
    """A store of packed codes, opened for reading: the shards that were committed when it was opened.

    manifest  what it holds
    records   one for every shard
    """

    def __init__(self, files: Files, manifest: Manifest, records: Sequence[Record]) -> None:
        self._files, self.manifest, self.records = files, manifest, tuple(records)
        self._shelf = Shelf(files, manifest, self.records)

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
        return int(self._shelf.starts[-1])

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
        index = chosen(selection, len(self))
        columns = {name: self._shelf.column(name, index) for name in self.columns}
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
        return self._shelf.column(name, chosen(None, len(self)))

    def activations(self, name: str, selection: Selection = None) -> Tensor:
        """(k, *shape) in the dtype it was kept in: the activations of some rows, selected as in `rows`."""
        if name not in self.manifest.activations:
            there = ", ".join(self.manifest.activations) or "none"
            raise UsageError(f"no activations of {name!r} are kept", fix=f"there are {there}")
        return self._shelf.activations(name, chosen(selection, len(self)))

    def context(self, row: int, before: int = 20, after: int = 20) -> things.Context:
        """What stands around a row in its text.

        row            of the store
        before, after  tokens at most

        Never raises for broken text. Errors: UsageError when the items are no text, CorruptError when the row
        points at nothing.
        """
        self._require_items("text")
        rows = chosen([row], len(self))
        doc, pos = (int(self._shelf.column(name, rows)[0]) for name in ("doc", "pos"))
        shard, index = self._document(doc, int(np.searchsorted(self._shelf.starts, rows[0], side="right")) - 1)
        try:
            return things.context(self._shelf.arrays(shard, ITEMS), index, pos, before, after)
        except IndexError as reason:
            raise CorruptError(
                f"{self.path}/{items_name(shard)}: {reason}", why=f"row {row} points there"
            ) from None

    def image(self, doc: int) -> bytes:
        """The PNG file of a picture by its id; UsageError when it is not there."""
        self._require_items("image")
        shard, index = self._document(doc, None)
        found = self._shelf.arrays(shard, ITEMS)
        ends = found["png_ends"]
        return bytes(found["png"][int(ends[index - 1]) if index else 0 : int(ends[index])])

    def _codes(self, index: Index, fields: Sequence[str] | None) -> Codes:
        if fields is None:
            return Codes(torch.from_numpy(self._shelf.words(index)), self.layout)
        empty = Codes(torch.zeros(0, self.layout.words, dtype=torch.int32), self.layout).field(*fields)
        out = torch.zeros(len(index), empty.layout.words, dtype=torch.int32)
        step = max(1, BLOCK // (8 * self.manifest.words64))
        for start in range(0, len(index), step):
            block = Codes(torch.from_numpy(self._shelf.words(index[start : start + step])), self.layout)
            out[start : start + step] = block.field(*fields).words
        return Codes(out, empty.layout)

    def _require_items(self, kind: str) -> None:
        if self.items != kind:
            raise UsageError(f"the items of {self.path} are {self.items or 'not kept'}, not {kind}")

    def _document(self, doc: int, shard: int | None) -> tuple[int, int]:
        """Shard and index of a document: in this shard if it is there, else in the first that has it."""
        ids, shards, inside = self._documents
        first, last = (int(np.searchsorted(ids, doc, side)) for side in ("left", "right"))
        if first == last:
            raise UsageError(f"{self.path} holds no document {doc}")
        k = next((k for k in range(first, last) if shards[k] == shard), first)
        return int(shards[k]), int(inside[k])

    @cached_property
    def _documents(self) -> tuple[Array, Array, Array]:
        """Ids of all documents, ascending; the shard of each; its index there."""
        each = [np.asarray(self._shelf.arrays(r.shard, ITEMS)["document"]) for r in self.records]
        ids = np.concatenate([np.zeros(0, np.int32), *each])
        shards = np.repeat(np.arange(len(each)), [len(e) for e in each])
        inside = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(e)) for e in each)])
        order = np.argsort(ids, kind="stable")
        return ids[order], shards[order], inside[order]
