"""The loop: units are run and committed shard by shard; what is committed is never computed again."""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from polykern.capturing.ahead import ahead
from polykern.capturing.unit import Source, Unit
from polykern.capturing.watch import Kept
from polykern.codes import Codes
from polykern.errors import MismatchError, ResourceError, UsageError
from polykern.store import Activation, Manifest, Store, Writer

SHARD = 128 << 20  # bytes of a shard with what a person sees of it
log = logging.getLogger("polykern.capturing")
Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class Capture:
    """A finished capture.

    folder    of the store
    manifest  what it holds
    shards    how many
    fresh     rows that this run added; the others were there
    seconds   that this run took
    """

    folder: Path
    manifest: Manifest
    shards: int
    fresh: int
    seconds: float

    @property
    def rows(self) -> int:
        """Rows of the store."""
        return self.manifest.rows or 0

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.manifest.layout.bits

    def store(self) -> Store:
        """The store, opened."""
        return Store.open(self.folder)


@dataclass
class _Shard:
    """Rows that are not committed."""

    units: list[Unit] = field(default_factory=list)
    parts: list[Kept] = field(default_factory=list)
    size: int = 0

    def write(self, source: Source, writer: Writer) -> None:
        """Commit them."""
        codes = Codes.cat(kept.codes for kept in self.parts)
        columns = {n: np.concatenate([u.columns[n] for u in self.units]) for n in source.columns}
        names = self.parts[0].activations
        kept = {n: torch.cat([p.activations[n] for p in self.parts]) for n in names}
        said = {"first": _plain(self.units[0].label), "last": _plain(self.units[-1].label)}
        writer.write(codes, columns, kept, source.seen(self.units), {**said, **self.units[-1].after})


def record(
    source: Source,
    out: Path | str,
    *,
    shard_bytes: int = SHARD,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Capture:
    """Run a source to its end and keep its codes in a store.

    source       the model and its data; it has been probed
    out          folder of the store; a run that was begun there is gone on with behind its last shard
    shard_bytes  at which the next unit begins a new shard
    overwrite    a store that is there is removed first
    progress     hears of the reading

    A shard is a function of the configuration and its number: units go to shards by their size alone, and no pass
    reaches over the end of a shard. Errors: MismatchError when another run's store is there, or a source that
    cannot be read again was interrupted; ResourceError when memory does not suffice; UsageError when there is
    nothing to keep.
    """
    begun = time.monotonic()
    manifest = manifest_of(source, shard_bytes)
    with Writer.open(out, manifest, overwrite=overwrite) as writer:
        before = writer.rows
        if not writer.complete:
            _require_again(source, writer)
            source.batch = int(writer.manifest.about["batch"])
            with closing(_shards(source, writer, shard_bytes, progress or _silent)) as found:
                for shard in found:
                    shard.write(source, writer)
            if not writer.rows:
                raise UsageError(
                    f"there are no {source.noun} to keep", why="the data are empty, or all is left out"
                )
            writer.finish(source.summary())
        shards, done = writer.next, writer.manifest
    return Capture(Path(out), done, shards, (done.rows or 0) - before, time.monotonic() - begun)


def manifest_of(source: Source, shard_bytes: int) -> Manifest:
    """What the store of a source that has been probed is said to hold."""
    watch = source.watch
    kept = {name: Activation(dtype, watch.shapes[name]) for name, dtype in watch.kept.items()}
    return Manifest(
        config={**source.config(), "shard_bytes": shard_bytes},
        layout=watch.layout,
        columns=source.columns,
        activations=kept,
        items=source.items,
        about={**source.about(), "batch": source.batch},
    )


def row_bytes(source: Source) -> int:
    """Bytes of a row on disk, without what a person sees."""
    watch = source.watch
    sizes = (int(np.prod(watch.shapes[name])) * dtype.itemsize for name, dtype in watch.kept.items())
    return 8 * -(-watch.layout.bits // 64) + 4 * len(source.columns) + sum(sizes)


def _shards(source: Source, writer: Writer, limit: int, progress: Progress) -> Generator[_Shard]:
    shard, pending, each = _Shard(), list[Unit](), row_bytes(source)
    with closing(ahead(source.units(writer.resume), source.ahead)) as units:
        for unit in units:
            shard.units.append(unit)
            pending.append(unit)
            shard.size += unit.rows * each + unit.bytes
            full = shard.size >= limit
            if full or len(pending) >= source.window:
                shard.parts.append(_run(source, pending))
                pending = []
                if reached := source.progress():
                    progress("capture", *reached)
            if full:
                yield shard
                shard = _Shard()
    if pending:
        shard.parts.append(_run(source, pending))
    if shard.units:
        yield shard
    if reached := source.progress():
        progress("capture", reached[1], reached[1])


def _run(source: Source, units: list[Unit]) -> Kept:
    try:
        return source.run(units)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)):
            raise
        raise ResourceError(
            f"out of memory in a pass of {source.batch} {source.noun}",
            why=(str(error) or "MemoryError").splitlines()[0],
            fix="a smaller --batch (a store that was begun with another has to be made anew), or more memory",
        ) from error


def _require_again(source: Source, writer: Writer) -> None:
    if writer.next and not source.again:
        raise MismatchError(
            f"{writer.path} holds {writer.rows} rows of a run that cannot be gone on with",
            why="standard input cannot be read a second time",
            fix="--overwrite, or put the text into a file",
        )


def _plain(label: str) -> str:
    """A name that any file can hold."""
    return label.encode("utf-8", "replace").decode()


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody wants to know."""
