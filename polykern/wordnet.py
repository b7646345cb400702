"""WordNet: which words are synonyms, and how far two nouns are apart over what they are kinds of.

Its plain data files are read from a folder, as wndb(5WN) describes them and Debian's `wordnet-base` installs them
in /usr/share/wordnet. Miller 1995, "WordNet: A Lexical Database for English"; Fellbaum 1998.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from polykern.errors import CorruptError, UsageError

PARTS = ("noun", "verb", "adj", "adv")
HYPERNYMS = ("@", "@i")  # kinds, and the kinds that instances are of


@dataclass(frozen=True, eq=False)
class WordNet:
    """The data files of a folder, read when they are first asked for.

    folder  holds index.noun, data.noun and so on

    A synset is named by its offset, eight digits, as in "n02084071" without the "n". Errors: UsageError for a
    folder without the files, CorruptError naming a line that is not in their form.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder).expanduser())
        for name in ("index.noun", "data.noun"):
            if not (self.folder / name).is_file():
                raise UsageError(
                    f"{self.folder} holds no WordNet",
                    why=f"there is no file {name}",
                    fix="apt install wordnet-base puts one into /usr/share/wordnet",
                )

    @cached_property
    def nouns(self) -> Mapping[str, tuple[str, ...]]:
        """Lemma of a noun, "hot_dog" -> its synsets, the commonest sense first."""
        return dict(self._senses("noun"))

    @cached_property
    def above(self) -> Mapping[str, tuple[str, ...]]:
        """Synset of a noun -> those of which it is a kind or an instance."""
        return {
            offset: tuple(p[1] for p in pointers if p[0] in HYPERNYMS) for offset, _, pointers in self._data("noun")
        }

    def distance(self, a: str, b: str) -> int:
        """Steps from noun synset a to b by the shortest way over a common hypernym; 0 for one synset.

        As NLTK's `shortest_path_distance`. Errors: UsageError for a synset that there is not, or two without a
        common hypernym.
        """
        over, under = self.ancestors(a), self.ancestors(b)
        common = over.keys() & under.keys()
        if not common:
            raise UsageError(f"the synsets {a} and {b} have no hypernym in common")
        return min(over[s] + under[s] for s in common)

    def ancestors(self, synset: str) -> dict[str, int]:
        """The synset and all that it is a kind of, each with the fewest steps up to it."""
        if synset not in self.above:
            raise UsageError(f"{self.folder} has no noun synset {synset}")
        found, front, steps = {synset: 0}, [synset], 0
        while front:
            steps += 1
            front = [up for s in front for up in self.above.get(s, ()) if up not in found]
            found |= dict.fromkeys(front, steps)
        return found

    def synonyms(self, parts: Sequence[str] = PARTS, *, first: bool = False) -> list[tuple[str, str]]:
        """Pairs of single words that share a synset, in alphabetical order, each once.

        parts  of speech: "noun", "verb", "adj", "adv"
        first  only where that is the commonest sense of both words in a part of speech

        Words of letters only, in lower case: names, phrases and numbers are left out.
        """
        found: set[tuple[str, str]] = set()
        for part in parts:
            commonest = {lemma: synsets[0] for lemma, synsets in self._senses(part)} if first else {}
            for synset, lemmas, _ in self._data(part):
                words = sorted({w for w in lemmas if _plain(w) and (not first or commonest.get(w) == synset)})
                found |= set(combinations(words, 2))
        return sorted(found)

    def matched(self, names: Sequence[str]) -> tuple[str | None, ...]:
        """The noun synset of each name, None where the words do not tell which of several it is.

        names  "hot dog": in the order of their synsets where that is to help, as ImageNet's classes are

        A noun of one sense is matched. Where all of these stand in ascending order, so does the rest: a noun of
        several senses is matched if just one of them lies between its neighbours'.
        """
        senses = [self.nouns.get(name.lower().replace(" ", "_"), ()) for name in names]
        found = [s[0] if len(s) == 1 else None for s in senses]
        known = [s for s in found if s is not None]
        if known != sorted(set(known)):
            return tuple(found)
        low, following = "", _following(found)
        for k, mine in enumerate(senses):
            between = [s for s in mine if low < s < following[k]]
            if found[k] is None and len(between) == 1:
                found[k] = between[0]
            low = found[k] or low
        return tuple(found)

    def _senses(self, part: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Lines of an index: lemma pos senses pointers [pointer ...] senses tagged offset [offset ...]."""
        for number, words in self._lines(f"index.{part}"):
            try:
                senses = int(words[2])
                if senses < 1 or len(words) != 6 + int(words[3]) + senses:
                    raise ValueError
            except (IndexError, ValueError):
                raise _corrupt(self.folder / f"index.{part}", number) from None
            yield words[0], tuple(words[-senses:])

    def _data(self, part: str) -> Iterator[tuple[str, list[str], list[tuple[str, str]]]]:
        """Lines of data: offset file type count [word id ...] pointers [symbol offset pos source/target ...]."""
        for number, words in self._lines(f"data.{part}"):
            try:
                end = 4 + 2 * int(words[3], 16)
                lemmas = [w.partition("(")[0] for w in words[4:end:2]]
                count = int(words[end])
                pointers = words[end + 1 : end + 1 + 4 * count]
                if not lemmas or len(pointers) != 4 * count:
                    raise ValueError
            except (IndexError, ValueError):
                raise _corrupt(self.folder / f"data.{part}", number) from None
            yield words[0], lemmas, list(zip(pointers[::4], pointers[1::4], strict=True))

    def _lines(self, name: str) -> Iterator[tuple[int, list[str]]]:
        """Fields of the lines in front of the gloss; the licence at the top is indented."""
        path = self.folder / name
        if not path.is_file():
            raise UsageError(f"{self.folder} has no file {name}")
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if not line.startswith("  "):
                    yield number, line.partition(" | ")[0].split()


def _following(found: Sequence[str | None]) -> list[str]:
    """Of each place the next synset that is known behind it."""
    following, high = [], "~"  # behind every digit
    for synset in reversed(found):
        following.append(high)
        high = synset or high
    return following[::-1]


def _plain(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.islower()


def _corrupt(path: Path, line: int) -> CorruptError:
    return CorruptError(f"{path} is no file of WordNet", why=f"line {line} is not in its form")
