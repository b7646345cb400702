"""Whether a folder may be written into: what is there, what a killed writer left, what is to be overwritten."""

import re
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from polykern.errors import CorruptError, MismatchError
from polykern.store.disk import TEMPORARY, put, remove
from polykern.store.examination import examine
from polykern.store.files import MANIFEST, Folder
from polykern.store.lease import NAME as LEASE
from polykern.store.manifest import Manifest
from polykern.store.records import ITEMS, NUMBERED, SHARDS, Record

CLEARED = ".cleared"  # there while a store is being removed to be overwritten
ADMISSION = ".admission"  # locked while one of several writers begins or finishes the store
CLAIM = re.compile(r"\.([0-9]{6})\.claim")  # in the folder of shards: who makes a shard
FAMILY = b'"polykern-codes/'


def admitted(root: Path, manifest: Manifest) -> tuple[Manifest | None, list[Record]]:
    """The manifest and all records of the store in a folder, (None, []) where there is none.

    Errors: MismatchError for a store of another config, naming every field that differs, and for a folder with
    something else in it; CorruptError for a damaged store.
    """
    if not (root / MANIFEST).exists():
        ours = (LEASE, ADMISSION)
        foreign = sorted(p.name for p in root.iterdir() if p.name not in ours and not TEMPORARY.fullmatch(p.name))
        if foreign:
            _refuse(root, f"there is {', '.join(foreign[:4])}, and no {MANIFEST}")
        return None, []
    found = examine(Folder(root), "fast")
    begun = found.manifest
    if begun is not None and (differs := begun.differences(manifest)):
        pairs = [f"{k}: {_short(a)} there, {_short(b)} here" for k, (a, b) in differs.items()]
        raise MismatchError(
            f"{root} holds another run's codes: {', '.join(differs)}",
            why="; ".join(pairs[:4]),
            fix="name another folder, or --overwrite",
        )
    if begun is None or found.problems:
        raise CorruptError(
            f"{root}/{found.problems[0]}",
            why=f"{len(found.problems)} of its files are damaged" if found.problems[1:] else "",
            fix="remove the records from the first damaged shard on, and run again; or --overwrite",
        )
    return begun, [*found.records, *found.apart]


def leftovers(root: Path, committed: Container[int]) -> Iterator[Path]:
    """What killed writers left: temporary files, shards that have no record, claims. Nobody else may be at work.

    root       the folder of the store
    committed  numbers of the shards that have one
    """
    for folder in (root, root / SHARDS, root / ITEMS):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = NUMBERED.fullmatch(path.name) if folder != root else None
            claim = CLAIM.fullmatch(path.name) if folder != root else path.name == ADMISSION
            if TEMPORARY.fullmatch(path.name) or claim or (name and int(name[1]) not in committed):
                yield path


def remains(root: Path, shard: int) -> Iterator[Path]:
    """Temporary files that a killed writer left of one shard; whoever claims it removes them."""
    for folder in (root / SHARDS, root / ITEMS):
        for path in sorted(folder.glob(f".{shard:06d}.*")) if folder.is_dir() else ():
            if TEMPORARY.fullmatch(path.name):
                yield path


def cleared(root: Path) -> bool:
    """Whether the store in a folder is being removed, by this writer or by one that was killed."""
    return (root / CLEARED).exists()


def begun_again(root: Path) -> None:
    """Say that another store has been begun in the place of the one that was removed."""
    if cleared(root):
        remove([root / CLEARED])


def clear(root: Path) -> None:
    """Remove the store in a folder, and nothing that is none.

    A mark is set first; it goes when another store has been begun, so that whatever was interrupted in between is
    done again by the next writer. Errors: MismatchError when the folder holds something that is no store.
    """
    manifest = root / MANIFEST
    if not cleared(root):
        if not manifest.exists():
            return
        with manifest.open("rb") as f:
            if FAMILY not in f.read(1 << 20):
                _refuse(root, f"its {MANIFEST} is none of a store")
        put(root / CLEARED, [b""])
    remove([manifest])
    for folder in (SHARDS, ITEMS):
        inside = root / folder
        if inside.is_dir() and not inside.is_symlink():
            ours = (NUMBERED, TEMPORARY, CLAIM)
            remove(p for p in sorted(inside.iterdir()) if any(form.fullmatch(p.name) for form in ours))
            with suppress(OSError):  # what is not ours keeps the folder
                inside.rmdir()


def _refuse(root: Path, why: str) -> None:
    raise MismatchError(f"{root} is not empty and holds no store of codes", why=why, fix="name another folder")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
