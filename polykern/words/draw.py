"""Pairs of words, and the pairs they are compared with: the same words, put together anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError

Pair = tuple[str, str]
BLOCK = 8  # second words of neighbouring frequency, among which they are exchanged
TRIES = 100  # exchanges of a block until none of its words stands beside a synonym


@dataclass(frozen=True)
class Drawn:
    """Triples of words: two that belong together, and a third one of another pair.

    first, second  of n pairs; no word is in two
    other          in place of the second word; these are the second words in another order
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    other: tuple[str, ...]


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of words in a file, two a line with blanks or a tab between; lines that begin with # are not read.

    Errors: UsageError naming the first line of another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", why=str(error)) from error
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or words[0] == words[1]:
            raise UsageError(f"{path}: line {number} is not two different words", why=repr(line.strip()[:60]))
        found.append((words[0], words[1]))
    return found


def drawn(
    pairs: Sequence[Pair], sizes: Mapping[str, int], ranks: Mapping[str, int], count: int, most: int, seed: int = 0
) -> Drawn:
    """At most `count` pairs at random, and for each second word another one in its place.

    pairs  of words that belong together
    sizes  tokens of each word; words without are left out
    ranks  of each word's rarest token in the vocabulary, which stands for its frequency
    count  pairs
    most   tokens of a word
    seed   of the draw

    The other words have as many tokens as those they stand for and are their neighbours by rank; none of them
    belongs to the word it is put beside. Pairs for which there is no such word are left out. Errors: UsageError
    for fewer than two pairs in the end.
    """
    rng, known = np.random.default_rng(seed), {frozenset(p) for p in pairs}
    chosen: list[Pair] = []
    used: set[str] = set()
    for k in rng.permutation(len(pairs)).tolist():
        pair = pairs[k]
        if used.isdisjoint(pair) and all(1 <= sizes.get(w, 0) <= most for w in pair):
            chosen.append(pair)
            used |= set(pair)
            if len(chosen) == count:
                break
    kept: list[tuple[str, str, str]] = []
    by_size: dict[int, list[Pair]] = {}
    for pair in chosen:
        by_size.setdefault(sizes[pair[1]], []).append(pair)
    for _, group in sorted(by_size.items()):
        group.sort(key=lambda p: ranks[p[1]])
        for rows in np.array_split(np.arange(len(group)), max(1, len(group) // BLOCK)):
            block = [group[k] for k in rows.tolist()]
            order = _exchange(block, known, rng)
            kept += [(a, b, block[k][1]) for (a, b), k in zip(block, order, strict=False)]
    if len(kept) < 2:
        raise UsageError(
            f"{len(kept)} pairs of words are left of {len(pairs)}",
            why=f"no word is in two, none has more than {most} tokens, and each needs another one beside it",
            fix="give more pairs, or allow longer words",
        )
    first, second, other = zip(*kept, strict=True)
    return Drawn(first, second, other)


def _exchange(block: Sequence[Pair], known: set[frozenset[str]], rng: np.random.Generator) -> list[int]:
    """An order of the block's second words in which none stands beside a word it belongs to; [] for none."""
    for _ in range(TRIES if len(block) > 1 else 0):
        order: NDArray[np.int64] = rng.permutation(len(block))
        if all(frozenset((block[k][0], block[j][1])) not in known for k, j in enumerate(order.tolist())):
            return [int(k) for k in order]
    return []
