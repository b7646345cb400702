"""The tokens of texts or the classes of photos: what they are called, and which clusters hold them.

A token is called what the pieces of text at its first and last row have in common, a class by its name. Postings
are sharded in the order of their keys, so that a page finds every token of a prefix by reading a few shards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.report.clusters import parts
from polykern.report.clusters.source import PIECE, Rows, Source

LONGEST = 256  # characters of a piece that are kept
BATCH = 1 << 23  # rows whose tokens are sorted together
HOLDERS = 200  # clusters a posting names


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The distinct tokens of a store, ascending.

    ids    int64 (v)
    rows   int64 (v): how many rows each has
    texts  v pieces of text
    """

    ids: Rows
    rows: Rows
    texts: list[str]

    def text(self, token: int) -> str:
        """What a token looks like."""
        return self.texts[int(np.searchsorted(self.ids, token))]


def vocabulary(source: Source) -> Vocabulary | None:
    """The vocabulary of a store; None where there are neither tokens nor classes.

    source  of the rows; of texts the column `token` is the token, of photos the class, -1 for none
    """
    if "token" not in source.places or (source.kind != "text" and not source.classes):
        return None
    column = source.places["token"]
    ids, many = _counted(column[at : at + PIECE] for at in range(0, len(column), PIECE))
    first, last = np.full(len(ids), len(column)), np.full(len(ids), -1)
    for at in range(0, len(column), PIECE):
        place = np.searchsorted(ids, column[at : at + PIECE])
        rows = at + np.arange(len(place))
        np.minimum.at(first, place, rows)
        np.maximum.at(last, place, rows)
    if source.kind != "text":
        return Vocabulary(ids, many, [cut(_class(source, int(i))) for i in ids])
    told = [("", "")] * len(ids)
    for k in np.argsort(first, kind="stable").tolist():
        told[k] = _piece(source, int(first[k])), _piece(source, int(last[k]))
    return Vocabulary(ids, many, [cut(text) for text in agreed(told)])


def agreed(told: Sequence[tuple[str, str]]) -> list[str]:
    """What tokens are called, each from two pieces of text that it stands for.

    Where two pieces of some token differ in blanks, or in case, the tokenizer ignores those, and no token has them.
    """
    loose = any(a != b and a.strip() == b.strip() for a, b in told)
    small = any(a.strip() != b.strip() and a.strip().lower() == b.strip().lower() for a, b in told)
    texts = [(a.strip() or a) if loose or small else a for a, _ in told]
    return [text.lower() for text in texts] if small else texts


def _piece(source: Source, row: int) -> str:
    found = source.store.context(row, before=0, after=0)
    return found.pieces[found.at]


def _class(source: Source, number: int) -> str:
    if number < 0:
        return "no class"
    return source.classes[number] if number < len(source.classes) else f"class {number}"


def cut(text: str) -> str:
    """A piece of text with everything behind its first LONGEST characters left out."""
    return text if len(text) <= LONGEST else text[:LONGEST] + "\u2026"


def counts(source: Source, members: Rows) -> tuple[Rows, Rows]:
    """The distinct tokens of some rows and how many rows have each, most frequent first, then by token."""
    column = source.places["token"]
    ids, many = _counted(column[members[at : at + PIECE]] for at in range(0, len(members), PIECE))
    order = np.lexsort((ids, -many))
    return ids[order], many[order]


def entropy(many: Rows) -> float:
    """Of a distribution given by its counts, bits."""
    shares = many / many.sum()
    return float(-(shares * np.log2(shares)).sum()) if len(many) > 1 else 0.0


def key(text: str) -> str:
    """What a token is searched by: its text in lower case without blanks around it; blanks alone are themselves."""
    return text.strip().lower() or text


def write_postings(source: Source, words: Vocabulary, folder: Path, name: str = "tokens") -> list[str]:
    """Which clusters hold each token, as shards NAME/i.

    source  of the rows
    words   their vocabulary
    folder  of the page's data

    Returns the key of the first token of every shard. A posting holds k the key, t the text, id, n rows, of them
    noise, c how many clusters, and top: up to HOLDERS pairs (cluster, rows), most rows first.
    """
    keys = [key(text) for text in words.texts]
    order = sorted(range(len(keys)), key=lambda k: (keys[k].encode("utf-16-be", "surrogatepass"), k))
    shards = parts.Chunks(folder, name)
    batch: list[int] = []
    held = 0
    for k in order:
        if batch and held + int(words.rows[k]) > BATCH:
            _write_batch(source, words, keys, batch, shards)
            batch, held = [], 0
        batch.append(k)
        held += int(words.rows[k])
    if batch:
        _write_batch(source, words, keys, batch, shards)
    shards.close()
    return shards.names


def _write_batch(
    source: Source, words: Vocabulary, keys: Sequence[str], batch: Sequence[int], shards: parts.Chunks
) -> None:
    """The postings of the tokens at places `batch` of the vocabulary: one pass over the token column."""
    place = np.full(len(words.ids), -1, np.int64)
    place[np.asarray(batch)] = np.arange(len(batch))
    found = []
    clusters = source.count + 1  # the last is noise
    for at in range(0, source.rows, PIECE):
        here = place[np.searchsorted(words.ids, source.places["token"][at : at + PIECE])]
        wanted = here >= 0
        labels = source.labels[at : at + PIECE][wanted].astype(np.int64)
        labels[labels < 0] = source.count
        found.append(here[wanted] * clusters + labels)
    pairs, many = np.unique(np.concatenate(found), return_counts=True)
    starts = np.searchsorted(pairs // clusters, np.arange(len(batch) + 1))
    for i, k in enumerate(batch):
        mine = slice(starts[i], starts[i + 1])
        posting = _posting(pairs[mine] % clusters, many[mine], source.count)
        whole = {"k": keys[k], "t": words.texts[k], "id": int(words.ids[k]), "n": int(words.rows[k]), **posting}
        shards.add(parts.compact(whole), keys[k])


def _posting(labels: Rows, many: Rows, noise: int) -> dict[str, Any]:
    inside = labels < noise
    labels, quiet, many = labels[inside], int(many[~inside].sum()), many[inside]
    best = np.lexsort((labels, -many))[:HOLDERS]
    return {"noise": quiet, "c": len(labels), "top": np.stack((labels[best], many[best]), 1).tolist()}


def _counted(pieces: Iterable[NDArray[np.int32]]) -> tuple[Rows, Rows]:
    """The distinct tokens of some pieces of a column, ascending, and how often each is there."""
    ids, many = np.empty(0, np.int64), np.empty(0, np.int64)
    for piece in pieces:
        here, n = np.unique(piece, return_counts=True)
        both, back = np.unique(np.concatenate((ids, here)), return_inverse=True)
        sums = np.zeros(len(both), np.int64)
        np.add.at(sums, back, np.concatenate((many, n)))
        ids, many = both.astype(np.int64), sums
    return ids, many
