"""Documents cut into the sequences that a network reads.

Packed (Black et al. 2022): documents one behind the other with the separator between them, cut every `length`
tokens. Apart: a sequence holds tokens of one document, and a longer document becomes several. Both begin and end
with what the tokenizer puts around a text.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.models.vocabulary import Pieces, Vocabulary

Place = dict[str, int]  # file, at, part, document, token: where a corpus is


class Tally(NamedTuple):
    """What was wrong with the documents so far.

    passed    int         how many were passed over
    listed    (str, ...)  the first of them, and why
    replaced  int         how many parts held bytes that are no UTF-8
    """

    passed: int = 0
    listed: tuple[str, ...] = ()
    replaced: int = 0


class Part(NamedTuple):
    """A document, or a piece of a very long one.

    text         str
    name         str    of the document
    corpus       int    which of the corpora it is from
    place        Place  where it begins; a corpus that starts there gives it first
    first, last  bool   whether its document begins, ends with it
    tally        Tally  of what came before it
    """

    text: str
    name: str
    corpus: int
    place: Place
    first: bool
    last: bool
    tally: Tally = Tally()


class Sequence(NamedTuple):
    """Tokens that are read together.

    ids        int32 (t)
    text       bool (t)     whether the token is of a text; separators and what stands around are not
    corpora    int32 (t)    corpus of each token
    ends       int64 (t)    byte of `utf8` at which the token's piece ends
    utf8       bytes        what a person reads: the text, with the names of the tokens that are none
    documents  (str, ...)   names of the documents it holds tokens of
    after      Place        where the next sequence begins
    tally      Tally        of what came before that
    """

    ids: NDArray[np.int32]
    text: NDArray[np.bool_]
    corpora: NDArray[np.int32]
    ends: NDArray[np.int64]
    utf8: bytes
    documents: tuple[str, ...]
    after: Place
    tally: Tally


class _Run(NamedTuple):
    """Tokens of one part, from its token `start` on; the last may be a separator."""

    part: Part
    ids: NDArray[np.int32]
    text: NDArray[np.bool_]
    ends: NDArray[np.int64]
    utf8: bytes
    start: int

    def cut(self, a: int, b: int) -> "_Run":
        """Its tokens a .. b - 1."""
        base = int(self.ends[a - 1]) if a else 0
        stop = int(self.ends[b - 1]) if b else 0
        kept = self.utf8[base:stop] if b > a else b""
        return _Run(self.part, self.ids[a:b], self.text[a:b], self.ends[a:b] - base, kept, self.start + a)

    @property
    def after(self) -> Place:
        """Where the token behind it is."""
        return {**self.part.place, "token": self.start + len(self.ids)}


class Cutter:
    """Cuts documents into sequences of at most `length` tokens.

    vocabulary  the tokenizer
    length      tokens of a sequence, with what stands around it
    pack        whether documents are joined

    Errors: UsageError when a sequence would have no room for text, or nothing can stand between documents.
    """

    def __init__(self, vocabulary: Vocabulary, length: int, *, pack: bool) -> None:
        self.vocabulary, self.length, self.pack = vocabulary, length, pack
        around = len(vocabulary.opening) + len(vocabulary.closing)
        self.room = length - around
        if self.room < 1:
            raise UsageError(
                f"a sequence of {length} tokens holds no text", why=f"{around} stand around every text"
            )
        if pack and vocabulary.separator is None:
            raise UsageError("the tokenizer has no token to stand between documents", fix="one document a sequence")
        self._held: list[_Run] = []
        self._count = 0

    def sequences(self, parts: Iterable[tuple[Part, Pieces]], skip: int = 0) -> Iterator[Sequence]:
        """The sequences of some documents.

        parts  documents with their tokens
        skip   tokens of the first part that earlier sequences hold
        """
        self._held, self._count = [], 0
        for part, pieces in parts:
            run = self._run(part, pieces)
            run, skip = run.cut(min(skip, len(run.ids)), len(run.ids)), 0
            while len(run.ids):
                taken = min(self.room - self._count, len(run.ids))
                self._held.append(run.cut(0, taken))
                self._count += taken
                run = run.cut(taken, len(run.ids))
                if self._count == self.room:
                    yield self._flushed()
            if part.last and not self.pack and self._count:
                yield self._flushed()
        if self._count:
            yield self._flushed()

    def _run(self, part: Part, pieces: Pieces) -> _Run:
        text = np.ones(len(pieces.ids), bool)
        run = _Run(part, pieces.ids, text, pieces.ends, pieces.utf8, 0)
        separator = self.vocabulary.separator
        empty = part.first and not len(pieces.ids)
        if not self.pack or not part.last or empty or separator is None:
            return run
        named = self.vocabulary.name(separator).encode()
        utf8 = pieces.utf8[: int(pieces.ends[-1]) if len(pieces.ends) else 0] + named
        return run._replace(
            ids=np.append(pieces.ids, np.int32(separator)),
            text=np.append(text, False),
            ends=np.append(pieces.ends, len(utf8)),
            utf8=utf8,
        )

    def _flushed(self) -> Sequence:
        runs, self._held, self._count = self._held, [], 0
        opening, closing = (self._mark(tokens) for tokens in (self.vocabulary.opening, self.vocabulary.closing))
        sizes = np.cumsum([0, len(opening[2]), *(len(run.utf8) for run in runs)])
        ids = [opening[0], *(run.ids for run in runs), closing[0]]
        ends = [opening[1], *(run.ends + base for run, base in zip(runs, sizes[1:], strict=False))]
        ends.append(closing[1] + sizes[-1])
        none = [np.zeros(len(mark[0]), np.int32) for mark in (opening, closing)]
        corpora = [np.full(len(run.ids), run.part.corpus, np.int32) for run in runs]
        return Sequence(
            np.concatenate(ids),
            np.concatenate([none[0].astype(bool), *(run.text for run in runs), none[1].astype(bool)]),
            np.concatenate([none[0], *corpora, none[1]]),
            np.concatenate(ends),
            b"".join([opening[2], *(run.utf8 for run in runs), closing[2]]),
            tuple(dict.fromkeys(run.part.name for run in runs)),
            runs[-1].after,
            runs[-1].part.tally,
        )

    def _mark(self, tokens: tuple[int, ...]) -> tuple[NDArray[np.int32], NDArray[np.int64], bytes]:
        """Tokens that are no text: themselves, the ends of their names, and these."""
        names = [self.vocabulary.name(token).encode() for token in tokens]
        ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        return np.array(tokens, np.int32), ends, b"".join(names)
