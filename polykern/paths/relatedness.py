"""Whether classes that follow each other on a way are related: their distance in WordNet against chance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.statistics import Estimate, mean
from polykern.wordnet import WordNet

DRAWS = 10_000  # of pairs of classes by chance
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Relatedness:
    """Distances of consecutive classes, in steps over common hypernyms of WordNet.

    before, after  int64 (n)            classes on either side of a change, both with a synset
    way            int64 (n)            which way the change is on
    distance       int64 (n)
    matched        of the classes have a synset
    classes        that there are
    left_out       changes to or from a class without one
    any_pairs      float64 (10,000)     mean distance of n pairs of different classes drawn from all with a synset
    exchanged      float64 (10,000)     mean distance where the classes behind the changes change places at random
    seed           of both and of the interval
    """

    before: Integers
    after: Integers
    way: Integers
    distance: Integers
    matched: int
    classes: int
    left_out: int
    any_pairs: NDArray[np.float64]
    exchanged: NDArray[np.float64]
    seed: int

    @cached_property
    def mean(self) -> Estimate:
        """Mean distance; the 95 % interval draws ways."""
        return mean(self.distance, groups=self.way, level=0.95, resamples=2000, seed=self.seed)

    def p(self, chance: NDArray[np.float64]) -> float:
        """Share of draws by chance that are as near, the classes found counted as one of them (one-sided)."""
        return float((1 + (chance <= self.distance.mean() + 1e-12).sum()) / (1 + len(chance)))

    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "classes": self.classes,
            "classes with a synset": self.matched,
            "changes": len(self.distance),
            "changes left out": self.left_out,
            "distance": self.mean.as_dict(),
            "of any two classes": {"distance": float(self.any_pairs.mean()), "p": self.p(self.any_pairs)},
            "of the same classes exchanged": {
                "distance": float(self.exchanged.mean()), "p": self.p(self.exchanged)
            },
        }  # fmt: skip


def relatedness(
    wordnet: WordNet, synsets: Sequence[str | None], turns: Sequence[Sequence[int]], seed: int = 0
) -> Relatedness | None:
    """Distances of classes that follow each other on ways, beside two kinds of chance; None for too few.

    wordnet  where distances are taken
    synsets  noun synset of every class, None where it is not known
    turns    of each way the classes in turn
    seed     of chance and interval

    By chance: pairs of different classes from all that have a synset; and the same classes with those behind the
    changes exchanged among the changes, no class beside itself: that keeps how often each occurs. Black et al.
    2022, "Interpreting Neural Networks through the Polytope Lens", prediction 3. Two ways at least need a change
    between classes with synsets.
    """
    every = [(k, a, b) for k, turn in enumerate(turns) for a, b in pairwise(turn)]
    held = [row for row in every if synsets[row[1]] is not None and synsets[row[2]] is not None]
    if len({k for k, _, _ in held}) < 2:
        return None
    way, before, after = np.array(held, np.int64).T
    known = [k for k, s in enumerate(synsets) if s is not None]
    rng = np.random.default_rng(seed)
    table = _Table(wordnet, synsets)
    first = rng.integers(0, len(known), (DRAWS, len(held)))
    second = (first + rng.integers(1, len(known), first.shape)) % len(known)
    chosen = np.array(known)
    exchanged = np.stack([after[order] for order in _orders(before, after, rng)])
    return Relatedness(
        before, after, way, table(before, after), len(known), len(synsets), len(every) - len(held),
        table(chosen[first], chosen[second]).mean(1), table(before, exchanged).mean(1), seed,
    )  # fmt: skip


class _Table:
    """Distances of classes, each computed once."""

    def __init__(self, wordnet: WordNet, synsets: Sequence[str | None]) -> None:
        self._above = [{} if s is None else wordnet.ancestors(s) for s in synsets]
        self._known: dict[int, int] = {}

    def __call__(self, a: Integers, b: Integers) -> Integers:
        """Elementwise, int64 of their broadcast shape."""
        low, high = np.broadcast_arrays(np.minimum(a, b), np.maximum(a, b))
        number = len(self._above)
        keys, place = np.unique(low * number + high, return_inverse=True)
        for key in keys.tolist():
            if key not in self._known:
                self._known[key] = self._distance(*divmod(key, number))
        return np.array([self._known[k] for k in keys.tolist()], np.int64)[place].reshape(low.shape)

    def _distance(self, a: int, b: int) -> int:
        over, under = self._above[a], self._above[b]
        return min(over[s] + under[s] for s in over.keys() & under.keys())


def _orders(before: Integers, after: Integers, rng: np.random.Generator) -> Iterator[Integers]:
    """Orders of the changes in which no class stands beside itself, by random exchanges of two at a time."""
    order = np.arange(len(after))
    for _ in range(DRAWS):
        for i, j in rng.integers(0, len(after), (2 * len(after), 2)).tolist():
            if before[i] != after[order[j]] and before[j] != after[order[i]]:
                order[i], order[j] = order[j], order[i]
        yield order.copy()


def read_synsets(wordnet: WordNet, path: Path, classes: int) -> tuple[str, ...]:
    """Noun synsets in a file, one a line in the order of the classes: "n01440764" or "01440764".

    What stands behind a blank is not read. Errors: UsageError for another number of lines, or a synset that WordNet
    does not have.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", why=str(error)) from error
    found = tuple(line.split()[0].removeprefix("n") for line in lines if line.split())
    if len(found) != classes:
        raise UsageError(f"{path} has {len(found)} synsets, the network {classes} classes")
    for synset in found:
        if synset not in wordnet.above:
            raise UsageError(f"{path}: WordNet has no noun synset n{synset}")
    return found
