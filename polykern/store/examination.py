"""Whether a store is what its manifest and its records say, file by file."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polykern.errors import ResourceError, UsageError
from polykern.progress import Progress
from polykern.store.disk import digest_of
from polykern.store.files import MANIFEST, Files, opened
from polykern.store.items import require_consistent
from polykern.store.manifest import Manifest
from polykern.store.records import ITEMS, SHARDS, Mark, Record, record_name
from polykern.store.shard import check_head, mapped

LEVELS = ("fast", "full")
BARRED = {errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one file of a store."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass
class Examined:
    """What was found.

    manifest  None where it cannot be read
    records   committed, from 0 on
    apart     committed behind a shard that is not: several writers are at work, or were
    problems  everything wrong
    """

    manifest: Manifest | None = None
    records: list[Record] = field(default_factory=list)
    apart: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def verify(where: Path | str, *, level: str = "full", progress: Progress | None = None) -> list[Problem]:
    """Everything that is wrong with a store.

    where     its folder or URL
    level     "fast": manifest, records, sizes and headers; "full": every byte against its hash as well
    progress  is told how far it is: ("verify", files done, files in all)
    returns   one entry for every file that is damaged, missing or foreign; empty for a good store

    Errors: CorruptError when there is no folder at all.
    """
    return examine(opened(where), level, progress).problems


def examine(files: Files, level: str, progress: Progress | None = None) -> Examined:
    """What is in a store, and what is wrong with it. A shard without a record is not part of it."""
    if level not in LEVELS:
        raise UsageError(f"no verification is called {level!r}", fix=f"choose one of {', '.join(LEVELS)}")
    found = Examined()
    try:
        found.manifest = manifest = Manifest.decoded(files.text(MANIFEST))
    except FileNotFoundError:
        found.problems.append(Problem(MANIFEST, "not there"))
        return found
    except (ValueError, OSError) as reason:
        found.problems.append(_problem(files, MANIFEST, reason))
        return found
    found.problems += _read_records(files, manifest, found)
    sizes = {f"{folder}/{name}": size for folder in (SHARDS, ITEMS) for name, size in files.names(folder).items()}
    each = [(record, mark) for record in (*found.records, *found.apart) for mark in record.files]
    for done, (record, mark) in enumerate(each, 1):
        found.problems += _file_problems(files, manifest, record, mark, sizes, level)
        if progress is not None:
            progress("verify", done, len(each))
    return found


def _read_records(files: Files, manifest: Manifest, found: Examined) -> Iterator[Problem]:
    """Fill `records` and `apart`; yield what is wrong with them."""
    there = sorted(int(name[:6]) for name in files.names(SHARDS) if name.endswith(".json"))
    wanted = manifest.shards if manifest.complete and manifest.shards is not None else 0
    row, whole, behind = 0, True, False
    for shard in range(max(wanted, there[-1] + 1 if there else 0)):
        name = record_name(shard)
        try:
            record = Record.decoded(files.text(name), shard, manifest.items is not None)
            _require_in_place(record, manifest, row if whole else None)
        except FileNotFoundError:
            whole, behind = False, not manifest.complete
            if manifest.complete:
                later = "later shards are" if there and there[-1] > shard else "the store is said to be complete"
                yield Problem(name, f"not there, though {later}")
        except (ValueError, OSError) as reason:
            whole = False
            yield _problem(files, name, reason)
        else:
            (found.apart if behind else found.records).append(record)
            row, whole = record.row0 + record.rows, True
    if manifest.complete and whole and (row, max(there, default=-1) + 1) != (manifest.rows, manifest.shards):
        yield Problem(
            MANIFEST,
            f"says {manifest.rows} rows in {manifest.shards} shards, the records say {row} in {len(there)}",
        )


def _problem(files: Files, name: str, reason: ValueError | OSError) -> Problem:
    """What is wrong with a file; raises ResourceError when it is not the file's fault."""
    if isinstance(reason, OSError) and reason.errno in BARRED:
        raise ResourceError(f"{files.where}/{name} cannot be read", why=reason.strerror or str(reason)) from None
    return Problem(name, str(reason))


def _require_in_place(record: Record, manifest: Manifest, row: int | None) -> None:
    if record.config_hash != manifest.config_hash:
        raise ValueError("belongs to a store of another config")
    if row is not None and record.row0 != row:
        raise ValueError(f"begins at row {record.row0}, the shard before it ends at {row}")


def _file_problems(
    files: Files, manifest: Manifest, record: Record, mark: Mark, sizes: dict[str, int], level: str
) -> Iterator[Problem]:
    what = mark.name.partition("/")[0]
    try:
        if mark.name in sizes and sizes[mark.name] != mark.bytes:
            raise ValueError(f"holds {sizes[mark.name]} bytes, its record says {mark.bytes}")
        if files.far and level == "fast":
            if mark.name not in sizes:
                raise FileNotFoundError
            return  # its header is read when it has been fetched
        path = files.fetched(mark)
        tensors = check_head(path, record, manifest, what)
        if level == "full":
            _require_digest(path, mark)
            _require_sense(manifest, mapped(path, tensors), what)
    except FileNotFoundError:
        yield Problem(mark.name, "not there, though its record is")
    except (ValueError, OSError) as reason:
        yield _problem(files, mark.name, reason)


def _require_digest(path: Path, mark: Mark) -> None:
    found = digest_of(path)
    if found != mark.xxh3_128:
        raise ValueError(f"its bytes hash to {found}, its record says {mark.xxh3_128}")


def _require_sense(manifest: Manifest, arrays: dict[str, Any], what: str) -> None:
    """What a hash cannot know: padding that is zero, ends that ascend."""
    if what == ITEMS:
        require_consistent(arrays)
        return
    used = manifest.layout.bits % 64
    if used and (arrays["codes"][:, -1] >> np.uint64(used)).any():
        raise ValueError(f"bits are set behind the {manifest.layout.bits} bits of a code")
