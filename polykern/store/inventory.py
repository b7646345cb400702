"""What a result folder holds: the JSON file that is written last names every other file, its size and its digest.

The key `files` is a list of {name, bytes, xxh3_128}; the key `check` seals the JSON file itself, as in
`polykern.store.sealed`. Folders written before these keys were there have neither and are read all the same.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from polykern.errors import CorruptError
from polykern.progress import Progress
from polykern.store.disk import digest_of
from polykern.store.examination import Problem
from polykern.store.files import Folder
from polykern.store.records import MAX_BYTES, Mark
from polykern.store.sealed import CHECK, hexadecimal, number, parsed, sealed, the, unsealed

FILES = "files"


def account(body: Mapping[str, Any], folder: Path, paths: Iterable[Path] = ()) -> bytes:
    """The bytes of the JSON file of a folder: `body`, the inventory of `paths`, and the seal.

    body    what it says, JSON with finite numbers
    folder  the names in the inventory are seen from
    paths   files in it, which are read once more
    """
    held = [
        {"name": p.relative_to(folder).as_posix(), "bytes": p.stat().st_size, "xxh3_128": digest_of(p)}
        for p in sorted(paths)
    ]
    # tuples and keys that are no strings have another canonical form before they were written than after
    plain: dict[str, Any] = json.loads(json.dumps({**body, **({FILES: held} if held else {})}, allow_nan=False))
    return sealed(plain)


def read(path: Path) -> dict[str, Any]:
    """The object in the JSON file of a folder, without its seal.

    Errors: CorruptError naming the file when it is missing, larger than 64 MiB, no JSON object, or was changed.
    """
    try:
        data = Folder(path.parent).text(path.name)
        found = parsed(data)
        return unsealed(data) if CHECK in found else found
    except FileNotFoundError:
        raise CorruptError(f"{path}: not there") from None
    except (OSError, ValueError) as reason:
        raise CorruptError(f"{path}: cannot be read", why=str(reason)) from None


def problems(
    folder: Path, about: Mapping[str, Any], *, full: bool = True, progress: Progress | None = None
) -> Iterator[Problem]:
    """What is wrong with the files that the JSON of a folder names; nothing where it names none.

    full      hold every byte against its digest; else sizes only
    progress  is told how far it is: ("verify", files done, files in all)

    Errors: ValueError when the inventory itself is none.
    """
    marks = [_mark(entry) for entry in the(about, FILES, list)] if FILES in about else []
    inside = Folder(folder)
    for done, mark in enumerate(marks, 1):
        try:
            path = inside.fetched(mark)
            size = path.stat().st_size
            if size != mark.bytes:
                yield Problem(mark.name, f"holds {size} bytes, {mark.bytes} were written")
            elif full and digest_of(path) != mark.xxh3_128:
                yield Problem(mark.name, "its bytes have changed since it was written")
        except FileNotFoundError:
            yield Problem(mark.name, "not there")
        except (OSError, ValueError) as reason:
            yield Problem(mark.name, str(reason))
        if progress is not None:
            progress("verify", done, len(marks))


def _mark(entry: Any) -> Mark:
    if not isinstance(entry, dict):
        raise ValueError(f"{FILES} holds something that is no entry")
    name: str = the(entry, "name", str)
    if not name or "\0" in name:
        raise ValueError(f"{FILES} holds {name!r}, which names no file")
    return Mark(name, number(entry, "bytes", 0, MAX_BYTES), hexadecimal(entry, "xxh3_128", 32))
