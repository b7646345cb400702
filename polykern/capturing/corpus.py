"""Corpora: files, folders and the interpreter's own texts as one stream of documents that can be gone on with."""

import hashlib
import io
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from polykern.capturing import readers, standard
from polykern.capturing.sequences import Part, Place, Tally
from polykern.errors import CorruptError, PolykernError, UsageError

STDIN, STANDARD = "-", "stdlib"
LISTED = 20  # of what was passed over is named, the rest counted
log = logging.getLogger("polykern.capturing")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a corpus.

    path    where it lies; None: standard input, or the interpreter's texts
    name    below the corpus, with slashes
    size    bytes; 0 for standard input
    corpus  number of its corpus
    again   whether it can be read a second time, unlike a pipe
    """

    path: Path | None
    name: str
    size: int
    corpus: int
    again: bool = True


class Corpus:
    """Documents of some corpora, one corpus behind the other.

    words   a file or folder each; "stdlib", the texts that come with Python; "-", standard input: JSON records
            where it begins with "{", else one plain text
    key     of the text in records
    limit   documents at most
    strict  what cannot be read ends the run instead of being passed over
    stdin   in place of standard input

    A folder gives its text files by name (sorted, hidden ones left out). `tally` counts what was passed over and
    names the first of it, `begun` is that before anything was read; `consumed` counts bytes of files, `text`
    characters. Errors: UsageError when a word is no file, a corpus holds no text file, or "-" is not alone.
    """

    def __init__(
        self, words: Sequence[str | Path], *, key: str = "text", limit: int | None = None, strict: bool = False,
        stdin: IO[bytes] | None = None,
    ) -> None:  # fmt: skip
        if not words:
            raise UsageError("no corpus is given", fix='a file, a folder, "stdlib", or "-" for standard input')
        self.key, self.limit, self.strict, self._stdin = key, limit, strict, stdin
        self.names: list[str] = []
        self.files: list[File] = []
        self.tally, self.consumed, self.text = Tally(), 0, 0
        for word in words:
            self._add(str(word))
        self.begun = self.tally
        if len(self.files) > 1 and any(f.path is None and f.name == STDIN for f in self.files):
            raise UsageError("standard input is read alone", fix="leave the other corpora out")

    @property
    def again(self) -> bool:
        """Whether it can be read a second time."""
        return all(f.again for f in self.files)

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where nobody knows."""
        return sum(f.size for f in self.files) if self.again else None

    def identity(self) -> list[dict[str, Any]]:
        """What the documents depend on, corpus by corpus: names and sizes, never where they lie."""
        found = []
        for number, name in enumerate(self.names):
            files = [f for f in self.files if f.corpus == number]
            if not files:
                continue  # a further kind of the interpreter's texts
            lines = "".join(f"{f.name}\0{f.size}\n" for f in files)
            sha = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
            more = (
                {"python": sys.version.split()[0], "digest": standard.digest()} if name == standard.KINDS[0] else {}
            )
            found.append(
                {"name": name, "files": len(files), "bytes": sum(f.size for f in files), "sha256": sha, **more}
            )
        return found

    def parts(self, place: Place | None = None) -> Iterator[Part]:
        """The documents from a place on; None: from the beginning.

        Raises CorruptError naming what cannot be read when `strict`.
        """
        at = place or {"file": 0, "at": 0, "part": 0, "document": 0}
        document, inside = at["document"], False
        before = sum(f.size for f in self.files[: at["file"]])
        self.consumed, self.text = 0, 0
        for number, file in enumerate(self.files[at["file"] :], at["file"]):
            here = (at["at"], at["part"]) if number == at["file"] else (0, 0)
            last = None
            try:
                for found in self._found(file, *here):
                    self.consumed = before + found.consumed
                    if found.text is None:
                        self._pass_over(f"{file.name}: {found.label}")
                        continue
                    if not inside and self.limit is not None and document >= self.limit:
                        return
                    where = {"file": number, "at": found.at, "part": found.part, "document": document}
                    label = f"{file.name}, {found.label}" if found.label else file.name
                    corpus = file.corpus + (standard.kind(found.label) if file.name == STANDARD else 0)
                    last = Part(found.text, label, corpus, where, found.first, found.last, self.tally)
                    self.tally = self.tally._replace(replaced=self.tally.replaced + found.damaged)
                    inside = not found.last
                    document += found.last
                    self.text += len(found.text)
                    yield last
            except (OSError, EOFError, ValueError) as error:
                self._pass_over(f"{file.name}: {_reason(error)}")
                if last is not None and not last.last:
                    inside, document = False, document + 1
                    yield last._replace(text="", first=False, last=True)
            before += file.size

    def _found(self, file: File, at: int, part: int) -> Iterator[readers.Found]:
        if file.path is not None:
            return readers.found(file.path, at, part, self.key)
        if file.name == STANDARD:
            return standard.found(at)
        stream = self._stdin if self._stdin is not None else sys.stdin.buffer
        first = stream.peek(1)[:1] if isinstance(stream, io.BufferedReader) else b""
        return readers.records(stream, 0, 0, self.key) if first == b"{" else readers.plain(stream, 0)

    def _pass_over(self, what: str) -> None:
        if self.strict:
            raise CorruptError(f"{what}", fix="without --strict it is passed over")
        passed, listed, replaced = self.tally
        if len(listed) < LISTED:
            listed = (*listed, what.encode("utf-8", "replace").decode())
            log.warning("passed over: %s", what)
        elif passed == LISTED:
            log.warning("passed over: more of the same, no longer named")
        self.tally = Tally(passed + 1, listed, replaced)

    def _unreadable(self, error: OSError) -> None:
        self._pass_over(f"{Path(str(error.filename)).name}: {_reason(error)}")

    def _add(self, word: str) -> None:
        number = len(self.names)
        if word == STDIN:
            self.names.append("stdin")
            self.files.append(File(None, STDIN, 0, number, again=False))
        elif word == STANDARD and not Path(word).exists():
            self.names += standard.KINDS
            self.files.append(File(None, STANDARD, standard.size(), number))
        else:
            path = Path(word).expanduser()
            self.names.append(path.resolve().name or "root")
            self.files += _files(path, number, self._unreadable)


def _files(path: Path, number: int, wrong: Callable[[OSError], None]) -> list[File]:
    if path.is_dir():
        found = [File(p, name, size, number) for name, p, size in _walk(path, wrong)]
        if not found:
            raise UsageError(
                f"{path} holds no text",
                why=f"no file in it ends in {', '.join((*readers.PLAIN, *readers.RECORDS, '.parquet'))}",
                fix="name the files themselves: what has another ending is read as plain text",
            )
        return found
    try:
        about = path.stat()
    except OSError as error:
        raise UsageError(
            f"no corpus {path}", why=_reason(error), fix='a file, a folder, "stdlib", or "-" for standard input'
        ) from error
    regular = stat.S_ISREG(about.st_mode)
    return [File(path, path.name, about.st_size if regular else 0, number, again=regular)]


def _walk(folder: Path, wrong: Callable[[OSError], None]) -> list[tuple[str, Path, int]]:
    """Name, path and size of the text files below a folder, in the order of their names."""
    found = []
    for place, folders, names in os.walk(folder, onerror=wrong):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if name.startswith(".") or not readers.readable(path):
                continue
            try:
                about = path.stat()
            except OSError as error:
                wrong(error)
                continue
            if stat.S_ISREG(about.st_mode):
                found.append((path.relative_to(folder).as_posix(), path, about.st_size))
    return sorted(found, key=lambda entry: os.fsencode(entry[0]))


def _reason(error: BaseException) -> str:
    if isinstance(error, PolykernError):
        return error.what
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (told or type(error).__name__).splitlines()[0]
