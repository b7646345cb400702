"""Boolean factorisation of codes: every code as the union of a few sets of neurons.

    C ~ 1[Z B > 1/2],    Z (n, features) and B (features, bits) of 0 and 1,  least number of wrong bits

Each column of Z and each row of B has a best value that is known exactly while all others stay: the bits that it
alone would cover, ones against zeros. Taking them in turn never makes an error more; the problem is NP-hard, so
where the turns end is a local optimum (Miettinen et al. 2008, "The Discrete Basis Problem"). NMF of the same bits
gives the start.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polykern.factors.factorisation import nmf

Bits = NDArray[np.bool_]
ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Cover:
    """A Boolean factorisation.

    uses      bool (n, features)      which features a row is made of
    features  bool (features, bits)   which bits a feature sets
    wrong     bits of the rows that the union does not give
    """

    uses: Bits
    features: Bits
    wrong: int


def cover(bits: Bits, features: int, *, rounds: int = ROUNDS, seed: int = 0) -> Cover:
    """Sets of bits whose unions are rows.

    bits      bool (n, bits)   rows
    features  1 ... min(n, bits)
    rounds    of all uses and all features, at most
    seed      of the start

    Deterministic for a seed. Errors: UsageError as in `nmf`.
    """
    start = nmf(bits.astype(np.float64), features, rounds=200, seed=seed)
    top = start.components.max(1, keepdims=True)
    sets = (start.components > top / 2) & (top > 0)
    uses = covering(bits, sets)
    signs = 2.0 * bits.astype(np.float64) - 1
    before = -1
    for _ in range(rounds):
        _turn(sets.T, uses, signs.T)
        _turn(uses, sets.T, signs)
        wrong = int((union(uses, sets) != bits).sum())
        if wrong == before:
            break
        before = wrong
    return Cover(uses, sets, before)


def covering(bits: Bits, features: Bits, *, rounds: int = 4) -> Bits:
    """bool (n, features): uses of given features that come near rows (n, bits): feature by feature, a few times.

    The first time each row takes what gains most; later each use is looked at again with the others in place.
    """
    signs = 2.0 * bits.astype(np.float64) - 1
    uses, held = np.zeros((len(bits), len(features)), bool), np.zeros(bits.shape, bool)
    gain_of, rows = features.astype(np.float64).T, np.arange(len(bits))
    for _ in range(len(features)):
        gain = np.where(held, 0.0, signs) @ gain_of
        best = gain.argmax(1)
        better = gain[rows, best] > 0
        if not better.any():
            break
        uses[rows[better], best[better]] = True
        held |= features[best] & better[:, None]
    for _ in range(rounds):
        _turn(uses, features.T, signs)
    return uses


def union(uses: Bits, features: Bits) -> Bits:
    """bool (n, bits): the union of the features that each row uses."""
    found: Bits = uses.astype(np.float32) @ features.astype(np.float32) > 0.5
    return found


def _turn(mine: Bits, others: Bits, signs: NDArray[np.float64]) -> None:
    """Set each column of one factor to its best, in place.

    mine    bool (a, features)   the factor that changes; a transposed view of the features, or the uses
    others  bool (b, features)
    signs   float64 (a, b)       +1 where the bit is set, -1 where it is not
    """
    counts = mine.astype(np.float32) @ others.astype(np.float32).T  # (a, b)
    for j in range(mine.shape[1]):
        on = np.flatnonzero(others[:, j])
        beside = counts[:, on] - mine[:, j, None]
        best = np.where(beside < 0.5, signs[:, on], 0.0).sum(1) > 0
        counts[:, on] = beside + best[:, None]
        mine[:, j] = best
