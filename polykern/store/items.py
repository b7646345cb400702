"""What a person sees of the rows: the texts or pictures that the columns doc and pos point into.

A document is a sequence of tokens with an id, or a picture with an id. A row's `doc` is that id, its `pos` the
token in it, or the cell of the feature grid, row-major. Each token has a piece: the bytes it stands for, which need
not be whole characters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.store.shard import ITEMS_OF, Arrays

Array = NDArray[Any]
LONGEST = 4  # bytes of a character of UTF-8, and so tokens that share one


@dataclass(frozen=True, eq=False)
class Texts:
    """Documents of tokens.

    document       int32 (d)   ids
    document_ends  int64 (d)   tokens up to the end of each document
    tokens         int32 (t)   token ids
    piece_ends     int64 (t)   bytes of `utf8` up to the end of each token's piece
    utf8           uint8       the pieces, one behind the other
    """

    document: Array
    document_ends: Array
    tokens: Array
    piece_ends: Array
    utf8: Array

    @classmethod
    def of(cls, documents: Iterable[tuple[int, Sequence[int], Sequence[str | bytes]]]) -> "Texts":
        """Texts of (id, tokens, pieces) each; pieces are str or the bytes that a token stands for."""
        ids, ends, tokens, sizes, data = [], [], [], [], bytearray()
        for doc, words, pieces in documents:
            if len(words) != len(pieces):
                raise UsageError(f"document {doc} has {len(words)} tokens and {len(pieces)} pieces")
            for piece in pieces:
                raw = piece.encode("utf-8", "surrogatepass") if isinstance(piece, str) else piece
                data += raw
                sizes.append(len(raw))
            tokens += [int(t) for t in words]
            ids.append(int(doc))
            ends.append(len(tokens))
        return cls(
            document=np.array(ids, np.int32),
            document_ends=np.array(ends, np.int64),
            tokens=np.array(tokens, np.int32),
            piece_ends=np.cumsum(sizes, dtype=np.int64),
            utf8=np.frombuffer(bytes(data), np.uint8),
        )


@dataclass(frozen=True, eq=False)
class Pictures:
    """Documents that are pictures.

    document  int32 (d)   ids
    png_ends  int64 (d)   bytes of `png` up to the end of each picture
    png       uint8       PNG files, one behind the other
    """

    document: Array
    png_ends: Array
    png: Array

    @classmethod
    def of(cls, pictures: Iterable[tuple[int, bytes]]) -> "Pictures":
        """Pictures of (id, bytes of a PNG file) each."""
        every = list(pictures)
        return cls(
            document=np.array([doc for doc, _ in every], np.int32),
            png_ends=np.cumsum([len(png) for _, png in every], dtype=np.int64),
            png=np.frombuffer(b"".join(png for _, png in every), np.uint8),
        )


Items = Texts | Pictures


def arrays(items: Items) -> Arrays:
    """The arrays of an items file, in their order; UsageError when they contradict each other."""
    kind = "text" if isinstance(items, Texts) else "image"
    found = {name: (dtype, getattr(items, name)) for name, dtype in ITEMS_OF[kind].items()}
    try:
        require_consistent({name: array for name, (_, array) in found.items()})
    except ValueError as reason:
        raise UsageError(f"items: {reason}") from None
    return found


def require_consistent(found: dict[str, Array]) -> None:
    """Raise ValueError unless ids are unique and all ends ascend to the end of what they divide."""
    divides = {"document_ends": "tokens", "piece_ends": "utf8", "png_ends": "png"}
    beside = {"document_ends": "document", "piece_ends": "tokens", "png_ends": "document"}
    if len(np.unique(found["document"])) != len(found["document"]):
        raise ValueError("a document is there twice")
    for name, whole in divides.items():
        if name not in found:
            continue
        ends = found[name]
        if len(ends) != len(found[beside[name]]):
            raise ValueError(f"{name} has {len(ends)} entries, {beside[name]} has {len(found[beside[name]])}")
        if (np.diff(ends, prepend=0) < 0).any() or (ends[-1] if len(ends) else 0) != len(found[whole]):
            raise ValueError(f"{name} does not ascend to the {len(found[whole])} of {whole}")


@dataclass(frozen=True, slots=True)
class Context:
    """The neighbourhood of a row in its text.

    pieces  what each token stands for, decoded; a character that several tokens make up is in one of them, in the
            row's own where that is among them; bytes that are no UTF-8 are U+FFFD
    at      which piece is the row's own
    doc     id of the document
    pos     the row's token in it
    start   token of the document that pieces[0] belongs to
    length  tokens of the whole document
    """

    pieces: list[str]
    at: int
    doc: int
    pos: int
    start: int
    length: int


def context(found: dict[str, Array], index: int, pos: int, before: int, after: int) -> Context:
    """The neighbourhood of token `pos` of the document at `index` of a file of texts; IndexError outside of it."""
    ends = found["document_ends"]
    first = int(ends[index - 1]) if index else 0
    length = int(ends[index]) - first
    if not 0 <= pos < length:
        raise IndexError(f"document {int(found['document'][index])} has {length} tokens, none at {pos}")
    start, stop = max(0, pos - before), min(length, pos + after + 1)
    wide = max(0, start - LONGEST), min(length, stop + LONGEST)  # a character at the edge is read whole
    begin = int(found["piece_ends"][first + wide[0] - 1]) if first + wide[0] else 0
    inner = found["piece_ends"][first + wide[0] : first + wide[1]] - begin
    data = found["utf8"][begin : begin + int(inner[-1])].tobytes()
    pieces = characters(data, [0, *inner.tolist()], pos - wide[0])[start - wide[0] : stop - wide[0]]
    return Context(pieces, pos - start, int(found["document"][index]), pos, start, length)


def characters(data: bytes, bounds: Sequence[int], at: int) -> list[str]:
    """Pieces of text between byte bounds, moved so that they cut no character.

    data    UTF-8, possibly broken
    bounds  (k + 1) ascending; piece j is data[bounds[j]:bounds[j + 1]]
    at      the piece that gets a character whole when it holds a part of it; otherwise the first one does

    Never raises; the joined pieces are `data` decoded with U+FFFD for what is no UTF-8.
    """
    moved = list(bounds)
    for k in range(1, len(bounds) - 1):
        character = _around(data, bounds[k])
        if character is not None:
            begin, end = character
            own = bounds[at] < end and begin < bounds[at + 1]
            moved[k] = begin if own and k <= at else end
    return [data[a:b].decode("utf-8", "replace") for a, b in pairwise(moved)]


def _around(data: bytes, cut: int) -> tuple[int, int] | None:
    """First byte and end of the character that a cut goes through, None where it goes through none."""
    for begin in range(cut - 1, max(-1, cut - 4), -1):
        lead = data[begin]
        if lead & 0xC0 != 0x80:
            end = begin + (1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0))
            try:
                data[begin:end].decode("utf-8")
            except UnicodeDecodeError:
                return None
            return (begin, end) if end > cut else None
    return None
