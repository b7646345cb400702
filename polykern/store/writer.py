"""Writing a store, shard by shard; whatever kills the writer, the shards it committed stay.

The items and the shard are written beside, synced, renamed and their folders synced; then the commit record in the
same way. A shard without a record is not part of the store: it is removed when the store is next opened for
writing. Equal input gives equal bytes: no file holds a time, a host or a path.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.store import items as things
from polykern.store import shard as files_of
from polykern.store.admission import admitted, begun_again, clear, cleared, leftovers
from polykern.store.disk import make_folder, put, remove
from polykern.store.files import MANIFEST
from polykern.store.lease import Lease
from polykern.store.manifest import MAX_ROWS, MAX_SHARDS, Manifest
from polykern.store.records import ITEMS, SHARDS, Mark, Record, data_name, items_name, record_name

Column = NDArray[Any] | Tensor
INT32 = np.iinfo(np.int32)


class Writer:
    """A store that grows. One at a time: a second writer is refused.

    path      its folder
    manifest  what it holds; of a store that was there, as it was begun

    `Writer.open` makes one; use it as a context or call `close`.
    """

    def __init__(self, path: Path, manifest: Manifest, done: list[Record], lease: Lease) -> None:
        self.path, self.manifest = path, manifest
        self._done, self._lease = done, lease
        self._usable = not manifest.complete

    @classmethod
    def open(cls, path: Path | str, manifest: Manifest, *, overwrite: bool = False) -> "Writer":
        """A writer into a new store, or one that goes on where another ended.

        path       the folder; made when missing
        manifest   what the store is to hold
        overwrite  a store that is there is removed first, and nothing that is none

        Errors: MismatchError naming every field in which a store that is there differs, or when the folder holds
        something else; CorruptError naming the file when the store is damaged; ResourceError when another
        process writes it, or the disk fails.
        """
        root = Path(path)
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is not a folder")
        make_folder(root)
        lease = Lease(root)
        try:
            if overwrite or cleared(root):
                clear(root)
            begun, done = (None, []) if cleared(root) else admitted(root, manifest)
            if begun is None:
                put(root / MANIFEST, [manifest.encoded()])
            begun_again(root)
            for folder in (SHARDS, ITEMS)[: 1 + (manifest.items is not None)]:
                make_folder(root / folder)
            remove(leftovers(root, len(done)))
        except BaseException:
            lease.release()
            raise
        return cls(root, begun or manifest, done, lease)

    @property
    def done(self) -> tuple[Record, ...]:
        """The records of the shards that are committed."""
        return tuple(self._done)

    @property
    def next(self) -> int:
        """Number of the shard that is written next."""
        return len(self._done)

    @property
    def rows(self) -> int:
        """Rows that are committed."""
        return self._done[-1].row0 + self._done[-1].rows if self._done else 0

    @property
    def resume(self) -> dict[str, Any] | None:
        """What the last committed shard was written with as its source; None before the first."""
        return dict(self._done[-1].source) if self._done else None

    @property
    def complete(self) -> bool:
        """Whether the store is finished; nothing can be added then."""
        return self.manifest.complete

    def write(
        self,
        codes: Codes,
        columns: Mapping[str, Column],
        activations: Mapping[str, Tensor] | None = None,
        items: things.Items | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> Record:
        """Commit one shard; when this returns, its rows are on the disk for good.

        codes        n rows, at least one, in the layout of the manifest; on any device
        columns      name -> integer (n), every one of the manifest; stored as int32
        activations  name -> (n, *shape), every one of the manifest, in its dtype
        items        what the rows' documents are, where the manifest says so; a document may be in any shard
        source       where the rows come from and where to go on; JSON
        returns      the commit record

        Errors: UsageError for what does not fit the manifest; ResourceError when the disk is full or fails: the
        shards before it are kept, the writer has to be opened again.
        """
        self._require_usable()
        rows = len(codes)
        if rows < 1 or self.rows + rows > MAX_ROWS or self.next >= MAX_SHARDS:
            raise UsageError(f"{rows} rows cannot be shard {self.next} behind {self.rows} rows")
        said = dict(source or {})
        arrays = self._arrays(codes, columns, activations or {})
        beside = self._items(items)
        shard = self.next
        record = Record(shard, self.rows, rows, (), self.manifest.config_hash, said)
        try:
            record.encoded()
        except (TypeError, ValueError) as reason:
            raise UsageError(f"the source of a shard is no JSON: {reason}") from None
        self._usable = False  # until it is known what is on the disk
        try:
            kept = [self._put(ITEMS, items_name(shard), beside, record)] if beside is not None else []
            kept.insert(0, self._put(SHARDS, data_name(shard), arrays, record))
            record = Record(shard, record.row0, rows, tuple(kept), record.config_hash, said)
            put(self.path / record_name(shard), [record.encoded()])
        except BaseException:
            self._forget(shard)
            raise
        self._done.append(record)
        self._usable = True
        return record

    def finish(self, about: Mapping[str, Any] | None = None) -> Manifest:
        """Say that every shard is there; the store is complete from now on.

        about  added to what the manifest tells people
        """
        if not self.complete:
            self._require_usable()
            manifest = self.manifest.finished(self.rows, self.next, about or {})
            put(self.path / MANIFEST, [manifest.encoded()])
            self.manifest, self._usable = manifest, False
        return self.manifest

    def close(self) -> None:
        """Let others write. A store that is not finished can be opened again and gone on with."""
        self._usable = False
        self._lease.release()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_usable(self) -> None:
        if self.complete:
            raise UsageError(f"{self.path} is complete; nothing can be added")
        if not self._usable:
            raise UsageError(f"this writer of {self.path} has ended", fix="open another one")

    def _put(self, what: str, name: str, arrays: files_of.Arrays, record: Record) -> Mark:
        said = files_of.metadata(what, record.shard, record.row0, record.rows, record.config_hash)
        return Mark(name, *put(self.path / name, files_of.stream(arrays, said)))

    def _forget(self, shard: int) -> None:
        """Free what an uncommitted shard takes, as far as the disk lets us."""
        if not (self.path / record_name(shard)).exists():
            for name in (data_name(shard), items_name(shard)):
                with suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)

    def _arrays(self, codes: Codes, columns: Mapping[str, Column], kept: Mapping[str, Tensor]) -> files_of.Arrays:
        manifest, rows = self.manifest, len(codes)
        manifest.layout.require_same(codes.layout)
        if codes.choices:
            raise UsageError("a store holds no choices of max-pools", fix="leave them out of the codes")
        for what, given, wanted in (
            ("columns", columns, manifest.columns),
            ("activations", kept, manifest.activations),
        ):
            if set(given) != set(wanted):
                raise UsageError(f"{what} are {sorted(given)}, the store holds {sorted(wanted)}")
        found: dict[str, tuple[str, NDArray[Any]]] = {}
        for name, (dtype, shape) in files_of.columns(manifest, rows).items():
            if name == "codes":
                found[name] = dtype, _words64(codes)
            elif name in columns:
                found[name] = dtype, _int32(name, columns[name], shape)
            else:
                key = name.removeprefix(files_of.BEHIND)
                found[name] = dtype, _activation(key, kept[key], manifest.activations[key].dtype, shape)
        return found

    def _items(self, items: things.Items | None) -> files_of.Arrays | None:
        kind = None if items is None else "text" if isinstance(items, things.Texts) else "image"
        if kind != self.manifest.items:
            raise UsageError(f"items are {kind}, the store holds {self.manifest.items}")
        return None if items is None else things.arrays(items)


def _words64(codes: Codes) -> NDArray[np.uint64]:
    """uint64 (n, words of 64 bits): the same bits, little-endian."""
    words = codes.words.cpu().contiguous().numpy()
    if words.shape[1] % 2:
        words = np.pad(words, ((0, 0), (0, 1)))
    return words.astype("<i4", copy=False).view("<u8")


def _int32(name: str, values: Column, shape: tuple[int, ...]) -> NDArray[np.int32]:
    given = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if given.shape != shape or given.dtype.kind not in "iu":
        raise UsageError(f"column {name} is {given.dtype} {list(given.shape)}, not integers {list(shape)}")
    if given.min() < INT32.min or given.max() > INT32.max:
        raise UsageError(f"column {name} holds {given.min()} .. {given.max()}, more than int32")
    return given.astype(np.int32)


def _activation(name: str, values: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> NDArray[Any]:
    if values.dtype != dtype or tuple(values.shape) != shape:
        raise UsageError(
            f"activations of {name} are {values.dtype} {list(values.shape)}, the store holds {dtype} {list(shape)}"
        )
    given = values.detach().cpu().contiguous()
    found: NDArray[Any] = (given.view(torch.int16) if dtype == torch.bfloat16 else given).numpy()
    return found
