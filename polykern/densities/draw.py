"""Which pairs of items: within classes and between them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError

Integers = NDArray[np.int64]
DRAWS = 2000  # of items, for intervals


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pairs of items.

    first   int64 (n)
    second  int64 (n)
    same    bool (n)    whether the two are of one class
    reused  whether an item is in more than one pair
    share   of all pairs of the items that are within classes
    seed    of the draw, and of the items that an interval draws
    """

    first: Integers
    second: Integers
    same: NDArray[np.bool_]
    reused: bool
    share: float
    seed: int

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """float64 (2000, n): how often a pair is there when items are drawn with replacement."""
        used = np.unique([self.first, self.second])
        times = np.zeros((DRAWS, int(used[-1]) + 1))
        rng = np.random.default_rng(self.seed)
        times[:, used] = rng.multinomial(len(used), np.full(len(used), 1 / len(used)), DRAWS)
        return np.asarray(times[:, self.first] * times[:, self.second])


def drawn(classes: ArrayLike, count: int, seed: int = 0) -> Drawn:
    """`count` pairs within classes, then `count` between classes.

    classes  int (n)   of every item
    count    pairs of each kind, all different
    seed     of the draw

    No item is in two pairs where there are enough of them; else different pairs are drawn at random. Errors:
    UsageError for one class only, no class of two items, or fewer pairs than asked for, with how many there are.
    """
    number = np.unique(np.asarray(classes), return_inverse=True)[1].astype(np.int64)
    n, sizes = len(number), np.bincount(number)
    if len(sizes) < 2:
        raise UsageError("all items are of one class", why="there are no pairs between classes", fix="give others")
    within = int((sizes * (sizes - 1) // 2).sum())
    between = n * (n - 1) // 2 - within
    if count < 2 or min(within, between) < count:
        raise UsageError(
            f"{count} pairs within and {count} between classes are asked for",
            why=f"{n} items in {len(sizes)} classes make {within} and {between}",
            fix=f"take 2 to {min(within, between)} pairs" if min(within, between) > 1 else "give more items",
        )
    rng, share = np.random.default_rng(seed), within / (within + between)
    alone = _without_reuse(number, count, rng)
    if alone is not None:
        return Drawn(*alone, reused=False, share=share, seed=seed)
    first, second = np.triu_indices(n, 1)
    same = number[first] == number[second]
    chosen = np.concatenate(
        [rng.choice(np.flatnonzero(same == kind), count, replace=False) for kind in (True, False)]
    )
    first, second = first[chosen], second[chosen]
    reused = len(np.unique([first, second])) < 4 * count
    return Drawn(first, second, same[chosen], reused=reused, share=share, seed=seed)


def _without_reuse(
    number: Integers, count: int, rng: np.random.Generator
) -> tuple[Integers, Integers, NDArray[np.bool_]] | None:
    """Disjoint pairs, or None where the items do not suffice."""
    order = rng.permutation(len(number))
    by_class = [order[number[order] == c] for c in range(int(number.max()) + 1)]
    within = [members[: 2 * (len(members) // 2)].reshape(-1, 2) for members in by_class]
    every = np.concatenate(within)
    if len(every) < count:
        return None
    inner = every[rng.permutation(len(every))[:count]]
    outer = _between(rng.permutation(np.setdiff1d(order, inner)), number, count, rng)
    if outer is None:
        return None
    both = np.concatenate([inner, outer])
    return both[:, 0], both[:, 1], np.arange(2 * count) < count


def _between(items: Integers, number: Integers, count: int, rng: np.random.Generator) -> Integers | None:
    """Disjoint pairs of different classes: the items sorted by class against themselves, half a turn on."""
    ordered = items[np.argsort(number[items], kind="stable")]
    half = len(ordered) // 2
    pairs = np.stack([ordered[:half], ordered[half : 2 * half]], 1)
    pairs = pairs[number[pairs[:, 0]] != number[pairs[:, 1]]]
    return pairs[rng.permutation(len(pairs))[:count]] if len(pairs) >= count else None
