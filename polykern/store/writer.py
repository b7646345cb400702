"""Writing a store, shard by shard; whatever kills the writer, the shards it committed stay.

The items and the shard are written beside, synced, renamed and their folders synced; then the commit record in the
same way. A shard without a record is not part of the store: it is removed when the store is next opened for
writing. Equal input gives equal bytes: no file holds a time, a host or a path.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from polykern.codes import Codes
from polykern.errors import CorruptError, UsageError
from polykern.store import items as things
from polykern.store import shard as files_of
from polykern.store.admission import ADMISSION, admitted, begun_again, clear, cleared, leftovers, remains
from polykern.store.arrays import Column, arrays
from polykern.store.disk import make_folder, put, remove
from polykern.store.files import MANIFEST, Folder
from polykern.store.lease import Busy, Lease
from polykern.store.manifest import MAX_ROWS, MAX_SHARDS, Manifest
from polykern.store.records import ITEMS, SHARDS, Mark, Record, data_name, items_name, record_name

CLAIM = ".{:06d}.claim"


class Writer:
    """A store that grows. One at a time, and a second writer is refused; or several that share it, shard by shard.

    path      its folder
    manifest  what it holds; of a store that was there, as it was begun

    `Writer.open` makes one; use it as a context or call `close`.
    """

    def __init__(self, path: Path, manifest: Manifest, done: Sequence[Record], lease: Lease, shared: bool) -> None:
        self.path, self.manifest, self.shared = path, manifest, shared
        self._done, self._lease = {record.shard: record for record in done}, lease
        self._claims: dict[int, Lease] = {}
        self._next, self._rows = 0, 0  # of the shards without a gap
        self._usable = not manifest.complete
        self._advance()

    @classmethod
    def open(
        cls, path: Path | str, manifest: Manifest, *, overwrite: bool = False, shared: bool = False
    ) -> "Writer":
        """A writer into a new store, or one that goes on where another ended.

        path       the folder; made when missing
        manifest   what the store is to hold
        overwrite  a store that is there is removed first, and nothing that is none
        shared     others that are opened so may write as well; each claims a shard before it makes it

        Errors: MismatchError naming every field in which a store that is there differs, or when the folder holds
        something else; CorruptError naming the file when the store is damaged; ResourceError when another
        process writes it, or the disk fails; UsageError when one of several writers would overwrite.
        """
        root = Path(path)
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is not a folder")
        if overwrite and shared:
            raise UsageError("a store that several write cannot be overwritten", fix="remove it first")
        make_folder(root)
        lease = Lease(root, shared=shared)
        try:
            with _admission(root, shared):
                if overwrite or cleared(root):
                    clear(root)
                begun, done = (None, []) if cleared(root) else admitted(root, manifest)
                if begun is None:
                    put(root / MANIFEST, [manifest.encoded()])
                begun_again(root)
                for folder in (SHARDS, ITEMS)[: 1 + (manifest.items is not None)]:
                    make_folder(root / folder)
                if not shared:
                    remove(leftovers(root, {record.shard for record in done}))
        except BaseException:
            lease.release()
            raise
        return cls(root, begun or manifest, done, lease, shared)

    @property
    def done(self) -> tuple[Record, ...]:
        """The records of the shards that are committed, up to the first that is not."""
        return tuple(self._done[k] for k in range(self._next))

    @property
    def next(self) -> int:
        """Number of the first shard that is not committed."""
        return self._next

    @property
    def rows(self) -> int:
        """Rows that are committed, up to the first shard that is not."""
        return self._rows

    @property
    def resume(self) -> dict[str, Any] | None:
        """What the shard before `next` was written with as its source; None before the first."""
        return dict(self._done[self._next - 1].source) if self._next else None

    @property
    def complete(self) -> bool:
        """Whether the store is finished; nothing can be added then."""
        return self.manifest.complete

    def committed(self, shard: int) -> Record | None:
        """The record of a shard, whoever wrote it; None while there is none. CorruptError when it is damaged."""
        path = self.path / record_name(shard)
        if shard not in self._done and self.shared and path.exists():
            try:
                self._done[shard] = Record.decoded(path.read_bytes(), shard, self.manifest.items is not None)
            except ValueError as reason:
                raise CorruptError(f"{path}: {reason}", fix="remove it, and run again") from None
            self._advance()
        return self._done.get(shard)

    def claim(self, shard: int) -> bool:
        """Take the right to make a shard, until it is written; False when it is committed, or another makes it."""
        if self.committed(shard):
            return False
        if self.shared and shard not in self._claims:
            try:
                held = Lease(self.path / SHARDS, CLAIM.format(shard))
            except Busy:
                return False
            self._claims[shard] = held
            if self.committed(shard):  # in between
                self._claims.pop(shard).release()
                return False
            remove(remains(self.path, shard))
        return True

    def write(
        self,
        codes: Codes,
        columns: Mapping[str, Column],
        activations: Mapping[str, Tensor] | None = None,
        items: things.Items | None = None,
        source: Mapping[str, Any] | None = None,
        at: tuple[int, int] | None = None,
    ) -> Record:
        """Commit one shard; when this returns, its rows are on the disk for good.

        codes        n rows, at least one, in the layout of the manifest; on any device
        columns      name -> integer (n), every one of the manifest; stored as int32
        activations  name -> (n, *shape), every one of the manifest, in its dtype
        items        what the rows' documents are, where the manifest says so; a document may be in any shard
        source       where the rows come from and where to go on; JSON
        at           number of the shard and its first row; None: behind the last
        returns      the commit record

        Errors: UsageError for what does not fit the manifest; ResourceError when the disk is full or fails: the
        shards before it are kept, the writer has to be opened again.
        """
        self._require_usable()
        rows, (shard, row0) = len(codes), at or (self.next, self.rows)
        if rows < 1 or row0 + rows > MAX_ROWS or shard >= MAX_SHARDS or shard in self._done:
            raise UsageError(f"{rows} rows cannot be shard {shard} behind {row0} rows")
        said = dict(source or {})
        packed = arrays(self.manifest, codes, columns, activations or {})
        beside = self._items(items)
        record = Record(shard, row0, rows, (), self.manifest.config_hash, said)
        try:
            record.encoded()
        except (TypeError, ValueError) as reason:
            raise UsageError(f"the source of a shard is no JSON: {reason}") from None
        self._usable = False  # until it is known what is on the disk
        try:
            kept = [self._put(ITEMS, items_name(shard), beside, record)] if beside is not None else []
            kept.insert(0, self._put(SHARDS, data_name(shard), packed, record))
            record = Record(shard, row0, rows, tuple(kept), record.config_hash, said)
            put(self.path / record_name(shard), [record.encoded()])
        except BaseException:
            self._forget(shard)
            raise
        self._done[shard] = record
        self._advance()
        if shard in self._claims:
            self._claims.pop(shard).release()
        self._usable = True
        return record

    def finish(self, about: Mapping[str, Any] | None = None) -> Manifest:
        """Say that every shard is there; the store is complete from now on.

        about  added to what the manifest tells people

        Errors: CorruptError when the shards of several writers do not follow each other.
        """
        if not self.complete:
            self._require_usable()
            for name in Folder(self.path).names(SHARDS) if self.shared else ():
                self.committed(int(name[:6]))
            self._require_joined()
            manifest = self.manifest.finished(self.rows, self.next, about or {})
            with _admission(self.path, self.shared):
                put(self.path / MANIFEST, [manifest.encoded()])
                if self.shared:
                    remove(p for p in leftovers(self.path, self._done) if p.name != ADMISSION)
            self.manifest, self._usable = manifest, False
        return self.manifest

    def close(self) -> None:
        """Let others write. A store that is not finished can be opened again and gone on with."""
        self._usable = False
        with ExitStack() as given_back:  # all of them, whatever happens to one
            for held in (self._lease, *self._claims.values()):
                given_back.callback(held.release)
            self._claims.clear()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _advance(self) -> None:
        while (record := self._done.get(self._next)) is not None:
            self._next, self._rows = self._next + 1, record.row0 + record.rows

    def _require_joined(self) -> None:
        row = 0
        for shard in range(max(self._done, default=-1) + 1):
            record = self._done.get(shard)
            if record is None or record.row0 != row:
                said = "not there" if record is None else f"begins at row {record.row0}, not {row}"
                raise CorruptError(f"{self.path}/{record_name(shard)}: {said}", fix="remove it, and run again")
            row += record.rows

    def _require_usable(self) -> None:
        if self.complete:
            raise UsageError(f"{self.path} is complete; nothing can be added")
        if not self._usable:
            raise UsageError(f"this writer of {self.path} has ended", fix="open another one")

    def _put(self, what: str, name: str, inside: files_of.Arrays, record: Record) -> Mark:
        said = files_of.metadata(what, record.shard, record.row0, record.rows, record.config_hash)
        return Mark(name, *put(self.path / name, files_of.stream(inside, said)))

    def _forget(self, shard: int) -> None:
        """Free what an uncommitted shard takes, as far as the disk lets us."""
        if not (self.path / record_name(shard)).exists():
            for name in (data_name(shard), items_name(shard)):
                with suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)

    def _items(self, items: things.Items | None) -> files_of.Arrays | None:
        kind = None if items is None else "text" if isinstance(items, things.Texts) else "image"
        if kind != self.manifest.items:
            raise UsageError(f"items are {kind}, the store holds {self.manifest.items}")
        return None if items is None else things.arrays(items)


@contextmanager
def _admission(root: Path, shared: bool) -> Iterator[None]:
    """A context that one of several writers is in at a time."""
    held = Lease(root, ADMISSION, wait=True) if shared else None
    try:
        yield
    finally:
        if held is not None:
            held.release()
