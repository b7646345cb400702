"""Files of text, read as streams: .txt, .jsonl, either compressed, and .parquet.

Whatever a file holds, reading goes on: bytes that are no UTF-8 become U+FFFD, records that hold no text are passed
over and named. No more than about a million characters are held at a time, whatever the length of a line; a JSON
record has to be in memory whole, up to LONGEST bytes.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from polykern.errors import MissingExtra

PART = 1 << 20  # bytes of plain text, characters of a record: longer documents come in parts
LONGEST = 256 << 20  # bytes of a JSON record
WINDOW = 1 << 31  # bytes that zstd may look back, its own limit
ROWS = 256  # of a parquet file at a time
PLAIN = (".txt", ".text", ".md", ".rst", ".tex", ".py")
RECORDS = (".jsonl", ".ndjson")
SQUEEZED = (".zst", ".gz")


class Found(NamedTuple):
    """A document, or a part of a long one; or a record that holds none.

    text      str | None  None: there is no text here
    at        int         byte (of the uncompressed file) or row where to go on to read it again
    part      int         which part of the record there
    first     bool        whether its document begins with it
    last      bool        whether its document ends with it
    consumed  int         bytes of the file read so far
    label     str         of the document behind the file's name; with text None: what is wrong
    damaged   bool        whether bytes were replaced
    """

    text: str | None
    at: int
    part: int
    first: bool
    last: bool
    consumed: int
    label: str = ""
    damaged: bool = False


def readable(path: Path) -> bool:
    """Whether a file of a folder is text by its name."""
    return _kind(path.name) is not None


def found(path: Path, at: int, part: int, key: str) -> Iterator[Found]:
    """The documents of a file.

    path  by whose name the format is chosen; what has no known ending is plain text, one document
    at    where to begin: byte or row, as `Found.at`
    part  how many parts of the record there to leave out
    key   of the text in records

    Raises OSError, EOFError or ValueError where a file cannot be read on, MissingExtra naming the pip line.
    """
    kind = _kind(path.name) or "plain"
    if kind == "parquet":
        yield from _rows(path, at, part, key)
        return
    with _opened(path, at) as (stream, raw):
        if kind == "records":
            yield from records(stream, at, part, key, raw)
        else:
            yield from plain(stream, at, raw)


def plain(stream: IO[bytes], at: int, raw: IO[bytes] | None = None) -> Iterator[Found]:
    """One document of plain text, in parts that end at a line or a blank where there is one.

    stream  at byte `at` of the text
    at      0 at the beginning
    raw     the compressed file below, which says how much was consumed
    """
    held = b""
    while True:
        held += _full(stream, PART + 1 - len(held))
        last = len(held) <= PART
        cut = len(held) if last else _cut(held)
        piece, held = held[:cut], held[cut:]
        if not piece and at > 0:
            return
        text = piece.decode("utf-8-sig" if at == 0 else "utf-8", "replace")
        damaged = "\ufffd" in text and "\ufffd".encode() not in piece
        yield Found(text, at, 0, at == 0, last, raw.tell() if raw else at + cut, damaged=damaged)
        at += cut
        if last:
            return


def records(stream: IO[bytes], at: int, part: int, key: str, raw: IO[bytes] | None = None) -> Iterator[Found]:
    """The texts under `key` of JSON records, a line each.

    stream  at byte `at`, where a line begins
    part    parts of the first record to leave out
    """
    while True:
        line = stream.readline(LONGEST + 1)
        if not line:
            return
        here, at = at, at + len(line)
        if len(line) > LONGEST:
            while line and not line.endswith(b"\n"):
                line = stream.readline(PART)
                at += len(line)
        consumed = raw.tell() if raw else at
        if at - here > LONGEST:
            yield Found(None, here, 0, True, True, consumed, f"byte {here}: a line of {at - here} bytes")
            continue
        if not line.strip():
            continue
        text, wrong = _text(line, key)
        damaged = "\ufffd" in (text or "") and b"\xef\xbf\xbd" not in line and b"\\ufffd" not in line.lower()
        yield from _parts(text, here, part, consumed, f"byte {here}", wrong, damaged)
        part = 0


def _rows(path: Path, at: int, part: int, key: str) -> Iterator[Found]:
    pyarrow, parquet = _arrow()
    with path.open("rb") as raw:
        try:
            file = parquet.ParquetFile(raw)
            names = file.schema_arrow.names
            if key not in names:
                raise ValueError(f"it has no column {key!r}; there are {', '.join(names[:5])}")
            row, size, total = 0, path.stat().st_size, max(1, file.metadata.num_rows)
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if row + rows <= at:
                    row += rows
                    continue
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=[key]):
                    for value in _values(pyarrow, batch.column(0)):
                        row += 1
                        if row <= at:
                            continue
                        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else None
                        wrong = "" if text is not None else f"row {row - 1}: no text"
                        yield from _parts(text, row - 1, part, size * row // total, f"row {row - 1}", wrong)
                        part = 0
        except pyarrow.ArrowException as error:
            raise ValueError(str(error).splitlines()[0]) from error


def _values(pyarrow: Any, column: Any) -> list[Any]:
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    texts = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
    if not any(test(kind) for test in texts):
        return [None] * len(column)
    values: list[Any] = column.cast(pyarrow.large_binary()).to_pylist()
    return values


def _text(line: bytes, key: str) -> tuple[str | None, str]:
    """The text of a record, or what is wrong with it."""
    try:
        record = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        return None, f"no JSON: {type(error).__name__}"
    if not isinstance(record, dict) or key not in record:
        return None, f"no {key!r} in it"
    text = record[key]
    return (text, "") if isinstance(text, str) else (None, f"{key!r} is no text")


def _parts(
    text: str | None, at: int, skip: int, consumed: int, label: str, wrong: str, damaged: bool = False
) -> Iterator[Found]:
    """A record's text in parts of at most PART characters."""
    if text is None:
        yield Found(None, at, 0, True, True, consumed, wrong if wrong.startswith(label) else f"{label}: {wrong}")
        return
    part, begin = 0, 0
    while begin < len(text) or part == 0:
        end = min(len(text), begin + PART)
        if end < len(text):
            end = 1 + text.rfind("\n", begin, end) or 1 + text.rfind(" ", begin, end) or end
        if part >= skip:
            yield Found(text[begin:end], at, part, part == 0, end == len(text), consumed, label, damaged)
        part, begin = part + 1, end


def _kind(name: str) -> str | None:
    name = name.lower()
    if name.endswith(".parquet"):
        return "parquet"
    for ending in SQUEEZED:
        name = name.removesuffix(ending)
    if name.endswith(RECORDS):
        return "records"
    return "plain" if name.endswith(PLAIN) else None


@contextmanager
def _opened(path: Path, at: int) -> Iterator[tuple[IO[bytes], IO[bytes] | None]]:
    """A stream of the uncompressed bytes of a file, at byte `at`, and the file below a compressed one."""
    with path.open("rb") as raw:
        if path.name.lower().endswith(".zst"):
            zstandard = _zstandard()
            squeezed = zstandard.ZstdDecompressor(max_window_size=WINDOW)
            stream: IO[bytes] = io.BufferedReader(squeezed.stream_reader(raw, read_across_frames=True), PART)
        elif path.name.lower().endswith(".gz"):
            stream = io.BufferedReader(gzip.GzipFile(fileobj=raw), PART)
        else:
            if at:  # a pipe has only a beginning
                raw.seek(at)
            yield raw, None
            return
        try:
            while at > 0:
                skipped = len(stream.read(min(at, PART)))
                if not skipped:
                    raise ValueError("it is shorter than it was")
                at -= skipped
            yield stream, raw
        except Exception as error:
            if type(error).__name__ == "ZstdError" or isinstance(error, zlib.error):
                raise ValueError(f"it is no sound {path.suffix} file: {error}") from error
            raise


def _full(stream: IO[bytes], count: int) -> bytes:
    """`count` bytes, fewer only at the end: a pipe gives what it has."""
    pieces: list[bytes] = []
    while count > 0 and (piece := stream.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _cut(held: bytes) -> int:
    """Where a part of plain text ends: behind a line, a blank, or else between characters."""
    for mark in (b"\n", b" "):
        if (place := held.rfind(mark, 0, PART)) > 0:
            return place + 1
    place = PART
    while place > PART - 4 and held[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra("the package zstandard is not installed", "data") from error
    return zstandard


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("the package pyarrow is not installed", "data") from error
    return pyarrow, pyarrow.parquet
