"""Where the rows nearest to a direction lie: in one cluster or in many, beside what chance gives.

    cosine(row, direction);   the nearest share of rows;   purity = share of them in their commonest cluster

Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens", figure of NMF directions: the cosines
of most directions with the clustered points are greatest in one cluster. Chance is the same rows with their labels
dealt out anew.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern import statistics
from polykern.errors import UsageError
from polykern.statistics import Estimate

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]
CHANCE = 0.99  # quantile of the permutations that a median is held against


@dataclass(frozen=True, eq=False)
class Concentration:
    """How pure the nearest rows of every direction are.

    purity    float64 (k)   share of the nearest rows that are of their commonest label
    entropy   float64 (k)   of their labels, bits
    majority  int64 (k)     that label
    median    of the purities, with its bootstrap interval over directions
    chance    the same median at the 99th percentile of permuted labels
    rows      nearest rows of a direction
    """

    purity: Reals
    entropy: Reals
    majority: Integers
    median: Estimate
    chance: float
    rows: int

    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "median_purity": self.median.as_dict(),
            "chance_99th_percentile": self.chance,
            "median_entropy": float(np.median(self.entropy)),
            "directions": len(self.purity),
            "nearest_rows": self.rows,
        }


def cosines(rows: Reals, directions: Reals) -> Reals:
    """float64 (n, k): of rows (n, units) and directions (k, units); 0 where either is the zero vector."""
    found: Reals = unit(rows) @ unit(directions).T
    return found


def unit(vectors: Reals) -> Reals:
    """float64 (k, units): of length 1; the zero vector stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Reals = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return found


def concentration(
    near: Reals,
    labels: Integers,
    *,
    noise: bool = False,
    share: float = 0.01,
    permutations: int = 1000,
    seed: int = 0,
) -> Concentration:
    """How far the rows nearest to each direction are of one label.

    near          float (n, k)   cosines
    labels        int (n)        clusters of rows, -1 is noise
    noise         include rows of noise: they count as rows and as no label, so they only make directions less pure
    share         of the rows that are nearest: at least one; of equal cosines the smaller rows
    permutations  of the labels among the rows that count

    Errors: UsageError where no row has a label.
    """
    kept = np.arange(len(labels)) if noise else np.flatnonzero(labels >= 0)
    if not (labels[kept] >= 0).any():
        raise UsageError("no clusters to hold directions against", why="every row is noise")
    mine = labels[kept]
    most = max(1, round(share * len(kept)))
    nearest = np.argsort(-near[kept], axis=0, kind="stable")[:most].T  # (k, most)
    count = _counts(mine[nearest])
    purity = count.max(1) / most
    rng = np.random.default_rng(seed)
    medians = [float(np.median(_counts(rng.permutation(mine)[nearest]).max(1) / most)) for _ in range(permutations)]
    median = (
        statistics.bootstrap(lambda p: np.median(p, -1), purity, seed=seed)
        if len(purity) > 1
        else Estimate(float(purity[0]), np.nan, np.nan, 0.99)
    )
    return Concentration(
        purity, _entropies(count), count.argmax(1), median, float(np.quantile(medians, CHANCE)), most
    )


def _counts(labels: Integers) -> Integers:
    """int64 (k, labels): how often each label occurs in each row of labels (k, m); -1 is not counted."""
    kinds = max(1, int(labels.max()) + 1)
    place = labels + kinds * np.arange(len(labels))[:, None]
    return np.bincount(place[labels >= 0], minlength=kinds * len(labels)).reshape(len(labels), kinds)


def _entropies(count: Integers) -> Reals:
    """Of the labels that are counted, bits."""
    share = count / np.maximum(1, count.sum(1, keepdims=True))
    found: Reals = -(share * np.log2(np.where(share > 0, share, 1.0))).sum(1) + 0.0
    return found


def boundaries_crossed(z: Reals, directions: Reals, thresholds: tuple[float, ...] = (0.0,)) -> Integers:
    """int64 (k): boundaries of a layer's units that each direction crosses within the range of the data.

    z           float64 (n, units)   pre-activations
    directions  float64 (k, units)

    The line is mean + t h / |h|, t from the least to the greatest projection of a row. A unit's pre-activation is
    affine in t, so it crosses each of its thresholds at most once, and the ends tell: exact in float64.
    """
    mean, h = z.mean(0), unit(directions)
    t = (z - mean) @ h.T  # (n, k)
    ends = [mean + end[:, None] * h for end in (t.min(0), t.max(0))]
    count = np.zeros(len(h), np.int64)
    for at in thresholds:
        count += ((ends[0] > at) != (ends[1] > at)).sum(1)
    return count
