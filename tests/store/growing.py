"""Stores that grow in any order, by one writer or several: what each shard of each of them holds is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tests.store.synthetic as made_up
from polykern.store import Manifest, Writer

SHARDS = 5  # of a finished store


def manifest(store: int) -> Manifest:
    """Of one of the stores; they differ in a field of their config."""
    return made_up.manifest(config={**made_up.CONFIG, "seed": store})


def shard(store: int, k: int) -> dict[str, Any]:
    """What `Writer.write` is given for a shard; no two stores share one."""
    return made_up.shard(SHARDS * store + k)


def row0(store: int, k: int) -> int:
    """The first row of a shard."""
    return sum(len(shard(store, j)["codes"]) for j in range(k))


def put(writer: Writer, store: int, k: int) -> bool:
    """Commit a shard, unless it is there or another writer makes it; whether it did."""
    free = writer.claim(k)
    if free:
        writer.write(**shard(store, k), at=(k, row0(store, k)))
    return free


def grow(
    path: Path,
    store: int,
    shards: Sequence[int],
    *,
    overwrite: bool = False,
    shared: bool = False,
    finish: bool = False,
) -> None:
    """Open a store, commit some of its shards in the order given, and finish it if it is whole."""
    with Writer.open(path, manifest(store), overwrite=overwrite, shared=shared) as writer:
        for k in shards if not writer.complete else ():
            put(writer, store, k)
        if finish and writer.next == SHARDS:
            writer.finish()
