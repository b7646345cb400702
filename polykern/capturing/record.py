"""A capture from its beginning to its end, by one process or by several."""

import time
from dataclasses import dataclass
from pathlib import Path

from polykern.capturing.cutting import Cutting
from polykern.capturing.unit import Source
from polykern.errors import MismatchError, UsageError
from polykern.launch import apart
from polykern.progress import Progress, silent
from polykern.ranks import Ranks, ranks
from polykern.store import Activation, Manifest, Store, Writer

SHARD = 128 << 20  # bytes of a shard with what a person sees of it


@dataclass(frozen=True)
class Capture:
    """A finished capture; of a task of an array, its share.

    folder    of the store
    manifest  what it holds; not complete while other tasks of an array are at work
    rows      of the store, up to the first shard that is missing
    shards    how many
    fresh     rows that this process added; the others were there, or are made by others
    seconds   that this run took
    """

    folder: Path
    manifest: Manifest
    rows: int
    shards: int
    fresh: int
    seconds: float

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.manifest.layout.bits

    def store(self) -> Store:
        """The store, opened."""
        return Store.open(self.folder)


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
    reaches over the end of a shard. Of W processes (`polykern.ranks`, and the tasks of a Slurm array) each reads
    all units and makes every W-th shard, then those that are missing and that nobody makes.

    Errors: MismatchError when another run's store is there, or a source that cannot be read again was interrupted;
    ResourceError when memory does not suffice; UsageError when there is nothing to keep.
    """
    begun, group = time.monotonic(), ranks()
    task, tasks = apart()
    number, count, fresh = task * group.size + group.rank, tasks * group.size, 0
    if count > 1 and not source.again:
        raise UsageError("standard input is read by one process", fix="put the text into a file")
    if tasks > 1 and overwrite:
        raise UsageError("the tasks of an array cannot overwrite a store", fix="remove it, then start the array")
    with _opened(out, manifest_of(source, shard_bytes), group, shared=count > 1, overwrite=overwrite) as writer:
        if not writer.complete:
            _require_again(source, writer)
            source.batch = int(writer.manifest.about["batch"])
            cutting = Cutting(source, writer, shard_bytes)
            fresh = cutting.share(number, count, progress or silent)
            summary = source.summary()
            fresh += cutting.missing()
            group.meet()
            if cutting.whole():
                writer.finish(summary)
        manifest, rows, shards = writer.manifest, writer.rows, writer.next
    group.meet()
    return Capture(Path(out), manifest, rows, shards, fresh, time.monotonic() - begun)


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


def _require_again(source: Source, writer: Writer) -> None:
    if writer.next and not source.again:
        raise MismatchError(
            f"{writer.path} holds {writer.rows} rows of a run that cannot be gone on with",
            why="standard input cannot be read a second time",
            fix="--overwrite, or put the text into a file",
        )


def _opened(out: Path | str, manifest: Manifest, group: Ranks, *, shared: bool, overwrite: bool) -> Writer:
    """The store; where several write, the first of them removes what is to be overwritten."""
    if not shared:
        return Writer.open(out, manifest, overwrite=overwrite)
    if overwrite and group.first:
        Writer.open(out, manifest, overwrite=True).close()
    group.meet()
    return Writer.open(out, manifest, shared=True)
