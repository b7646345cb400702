"""Units are cut into shards, run and committed; what is committed is never computed again."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch

from polykern.capturing.ahead import ahead
from polykern.capturing.unit import Source, Unit
from polykern.capturing.watch import Kept
from polykern.codes import Codes
from polykern.errors import CorruptError, ResourceError, UsageError, first_line, out_of_memory
from polykern.progress import Progress, silent
from polykern.store import Record, Writer


@dataclass
class _Shard:
    """Rows that are not committed.

    number, row0  of the shard, and its first row
    mine          whether this process makes it; of others only rows and bytes are counted
    """

    number: int
    row0: int
    mine: bool
    units: list[Unit] = field(default_factory=list)
    parts: list[Kept] = field(default_factory=list)
    size: int = 0
    rows: int = 0

    def write(self, source: Source, writer: Writer) -> None:
        """Commit them."""
        codes = Codes.cat(kept.codes for kept in self.parts)
        columns = {n: np.concatenate([u.columns[n] for u in self.units]) for n in source.columns}
        names = self.parts[0].activations
        kept = {n: torch.cat([p.activations[n] for p in self.parts]) for n in names}
        said = {"first": _plain(self.units[0].label), "last": _plain(self.units[-1].label)}
        after, at = self.units[-1].after, (self.number, self.row0)
        writer.write(codes, columns, kept, source.seen(self.units), {**said, **after}, at)


class Cutting:
    """The shards of a source, some of which this process makes.

    source  the model and its data
    writer  of the store
    limit   bytes at which the next unit begins a new shard
    """

    def __init__(self, source: Source, writer: Writer, limit: int) -> None:
        self.source, self.writer, self.limit = source, writer, limit
        self.shards = 0  # of the whole store; known when all has been read
        self._each = row_bytes(source)

    def share(self, rank: int, size: int, progress: Progress) -> int:
        """Read from the first missing shard to the end and make every `size`-th; rows that were added.

        Raises UsageError when there is nothing to keep.
        """
        self.shards, added = self.writer.next, 0
        with closing(self._cut(self.writer.next, lambda k: k % size == rank, progress)) as found:
            for shard in found:
                added += self._settled(shard)
                self.shards = shard.number + 1
        if not self.shards:
            noun = self.source.noun
            raise UsageError(f"there are no {noun} to keep", why="the data are empty, or all is left out")
        return added

    def missing(self) -> int:
        """Make the shards that are missing and that nobody makes, one at a time; rows that were added."""
        return sum(self._one(number) for number in range(self.shards) if self.writer.claim(number))

    def whole(self) -> bool:
        """Whether all shards are committed, whoever made them."""
        return all(self.writer.committed(number) for number in range(self.shards))

    def _one(self, number: int) -> int:
        first = next(k for k in range(number, -1, -1) if k == 0 or self.writer.committed(k - 1))
        with closing(self._cut(first, lambda k: k == number, silent)) as found:
            for shard in found:
                self._settled(shard)
                if shard.number == number:
                    return shard.rows
        raise CorruptError(f"{self.writer.path} has no shard {number} any more", why="the data have changed")

    def _settled(self, shard: _Shard) -> int:
        """Commit a shard that is ours, or hold one that others committed against its record; rows added."""
        if shard.mine:
            shard.write(self.source, self.writer)
            return shard.rows
        record = self.writer.committed(shard.number)
        if record is not None and (record.row0, record.rows) != (shard.row0, shard.rows):
            raise CorruptError(
                f"shard {shard.number} of {self.writer.path} holds rows {_span(record)}",
                why=f"the data give {_span(shard)}: they have changed, or differ between processes",
            )
        return 0

    def _cut(self, number: int, wanted: Callable[[int], bool], progress: Progress) -> Generator[_Shard]:
        """The shards from one on, behind which all is committed; those that are wanted and free are run."""
        source, before = self.source, self.writer.committed(number - 1)
        row = 0 if before is None else before.row0 + before.rows
        shard, pending = None, list[Unit]()
        with closing(ahead(source.units(None if before is None else before.source), source.ahead)) as units:
            for unit in units:
                if shard is None:
                    shard = _Shard(number, row, wanted(number) and self.writer.claim(number))
                shard.size += unit.rows * self._each + unit.bytes
                shard.rows += unit.rows
                full = shard.size >= self.limit
                if shard.mine:
                    shard.units.append(unit)
                    pending.append(unit)
                    if full or len(pending) >= source.window:
                        shard.parts.append(_run(source, pending))
                        pending = []
                if (full or not pending) and (reached := source.progress()):
                    progress("capture", *reached)
                if full:
                    yield shard
                    number, row, shard = number + 1, row + shard.rows, None
        if shard is not None:
            if pending:
                shard.parts.append(_run(source, pending))
            yield shard
        if reached := source.progress():
            progress("capture", reached[1], reached[1])


def row_bytes(source: Source) -> int:
    """Bytes of a row on disk, without what a person sees."""
    watch = source.watch
    sizes = (int(np.prod(watch.shapes[name])) * dtype.itemsize for name, dtype in watch.kept.items())
    return 8 * -(-watch.layout.bits // 64) + 4 * len(source.columns) + sum(sizes)


def _run(source: Source, units: list[Unit]) -> Kept:
    try:
        return source.run(units)
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise ResourceError(
            f"out of memory in a pass of {source.batch} {source.noun}",
            why=first_line(error),
            fix="a smaller --batch (a store that was begun with another has to be made anew), or more memory",
        ) from error


def _span(rows: Record | _Shard) -> str:
    return f"{rows.row0} .. {rows.row0 + rows.rows - 1}"


def _plain(label: str) -> str:
    """A name that any file can hold."""
    return label.encode("utf-8", "replace").decode()
