"""Texts that every Python brings along: the language reference's topics, the library's sources, its licence.

Each is cut at empty lines into documents of about 2000 characters, so that a few thousand tokens already are of
many kinds; their order is that of a hash of their names, the same for the same Python.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from polykern.capturing.readers import Found

KINDS = ("python topics", "python sources", "python licence")
DOCUMENT = 2000  # characters at which the next empty line ends a document
LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "__pycache__",
    "encodings",
    "pydoc_data",
}


class _Text(NamedTuple):
    """A document: its kind, a name, its characters within the text of that name."""

    kind: int
    name: str
    begin: int
    end: int


def found(at: int) -> Iterator[Found]:
    """The documents from number `at` on."""
    done, every = 0, _texts()
    for number, entry in enumerate(every):
        text = _whole(entry.kind, entry.name)[entry.begin : entry.end]
        done += len(text.encode("utf-8", "surrogatepass"))
        if number >= at:
            yield Found(text, number, 0, True, True, done, f"{KINDS[entry.kind]}: {entry.name} {entry.begin}")


def kind(label: str) -> int:
    """Which of KINDS a document is of, by its label."""
    return KINDS.index(label.partition(":")[0])


def size() -> int:
    """Bytes of all documents."""
    return sum(len(_whole(k, name).encode("utf-8", "surrogatepass")) for k, name in _names())


def digest() -> str:
    """sha256 of the documents, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for k, name in _names():
        total.update(f"{k}\0{name}\0".encode() + _whole(k, name).encode("utf-8", "surrogatepass"))
    return total.hexdigest()


@cache
def _texts() -> tuple[_Text, ...]:
    pieces = [_Text(k, name, begin, end) for k, name in _names() for begin, end in pairwise(_cuts(_whole(k, name)))]
    return tuple(sorted(pieces, key=lambda p: hashlib.sha256(f"{p.name}:{p.begin}".encode()).digest()))


@cache
def _names() -> tuple[tuple[int, str], ...]:
    """Kind and name of every text there is."""
    library = _library()
    sources: list[str] = []
    for place, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        inner = Path(place).relative_to(library)
        sources += [(inner / name).as_posix() for name in names if name.endswith(".py")]
    sources = [name for name in sources if not name.startswith(("config-", "_sysconfigdata"))]
    licence = [(2, "LICENSE.txt")] if (library / "LICENSE.txt").is_file() else []
    return (*((0, name) for name in sorted(_topics())), *((1, name) for name in sorted(sources)), *licence)


@cache
def _whole(k: int, name: str) -> str:
    if k == 0:
        return _topics()[name]
    return (_library() / name).read_bytes().decode("utf-8", "replace")


def _cuts(text: str) -> list[int]:
    """Where documents begin, and the end."""
    cuts = [0] if text else []
    while cuts and cuts[-1] < len(text):
        blank = text.find("\n\n", cuts[-1] + DOCUMENT)
        cuts.append(len(text) if blank < 0 else blank + 2)
    return cuts


def _topics() -> dict[str, str]:
    from pydoc_data.topics import topics

    return topics


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])
