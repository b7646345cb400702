"""Does a direction's value say as much as a code? Clusters of numbers on a line beside clusters of codes.

The polytope post claims the weak form (directions mean something within a polytope); the strong form, asked for in
its comments, is that the values of one direction fall into intervals that mean something each. Take the points
where the direction is strong, their values and the clusters of their codes, and see how well either goes with
classes, and how much one says about the other. Black et al. 2022, "Interpreting Neural Networks through the
Polytope Lens".
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError
from polykern.scores.baselines import Monosemanticity, monosemanticity
from polykern.scores.line import Intervals, intervals
from polykern.scores.tables import Integers, labelling, numbered, table


@dataclass(frozen=True)
class Projection:
    """Intervals of a direction's values beside clusters of codes, for the same points.

    line         score of the intervals; None without classes
    codes        score of the clusters of codes; None without classes
    intervals    the intervals, when they were made here
    information  mutual information of intervals and clusters, bits, over points that are in some of both
    entropy      of the clusters of codes over those points, bits: the most that there is to say
    points       how many those are
    """

    line: Monosemanticity | None
    codes: Monosemanticity | None
    intervals: Intervals | None
    information: float
    entropy: float
    points: int

    @property
    def share(self) -> float:
        """Information as a share of the entropy of the clusters; nan where there is nothing to say."""
        return self.information / self.entropy if self.entropy > 0 else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {name: getattr(self, name) for name in ("line", "codes", "intervals")}
        share = None if np.isnan(self.share) else self.share
        told = {name: getattr(self, name) for name in ("information", "entropy", "points")}
        return {**{k: None if v is None else v.as_dict() for k, v in parts.items()}, **told, "share": share}


def strongest(values: ArrayLike, share: float = 0.01) -> Integers:
    """The rows where a direction is strongest.

    values   float (n)   one number a row
    share    of the rows; at least one is taken
    returns  int64 (m)   ascending; of equal values the smaller rows

    Errors: UsageError for NaN, no rows, or a share that is not in (0, 1].
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or np.isnan(x).any() or not 0 < share <= 1:
        raise UsageError(f"the strongest rows need numbers and 0 < share <= 1, got {list(x.shape)} and {share}")
    most = max(1, round(share * len(x)))
    return np.sort(np.argsort(-x, kind="stable")[:most]).astype(np.int64)


def compare(
    values: ArrayLike,
    labels: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    line: ArrayLike | None = None,
    repeats: int = 100,
    seed: int = 0,
) -> Projection:
    """The values of a direction beside clusters of codes.

    values   float (n)   the direction's value at each point
    labels   int (n)     clusters of the points' codes, -1 is noise
    classes  None | (n)  what the points are by somebody's word
    line     int (n)     clusters of the values, -1 is noise; None: as many intervals as there are clusters of
             codes, the best ones (`polykern.scores.line`)
    repeats, seed        of `polykern.scores.baselines.monosemanticity`

    No sign is expected: the numbers are to be looked at. Errors: UsageError for arrays that do not fit, and where
    there are no clusters.
    """
    mine = labelling(labels)
    x = np.asarray(values, np.float64)
    if x.shape != mine.shape:
        raise UsageError(f"{list(x.shape)} values for {len(mine)} labels")
    clusters = len(np.unique(mine[mine >= 0]))
    if not clusters:
        raise UsageError("there are no clusters of codes to compare with", why="every point is noise")
    made = intervals(x, clusters) if line is None else None
    theirs = made.labels if made is not None else labelling(line if line is not None else [], len(mine))
    scores: list[Monosemanticity | None] = [None, None]
    if classes is not None:
        number, _ = numbered(classes, len(mine))
        both = (theirs, mine)
        scores = [monosemanticity(some, number, repeats=repeats, seed=seed) for some in both]
    inside = (mine >= 0) & (theirs >= 0)
    information, entropy = mutual_information(theirs[inside], mine[inside])
    return Projection(scores[0], scores[1], made, information, entropy, int(inside.sum()))


def mutual_information(first: Integers, second: Integers) -> tuple[float, float]:
    """Bits that one labelling says about another, and the entropy of that other, in bits; int64 (n) each."""
    if not len(first):
        return 0.0, 0.0
    cells = table(first, second)
    joint = cells.count / len(first)
    marginals = [_marginal(kind, cells.count) / len(first) for kind in (cells.first, cells.second)]
    information = float((joint * np.log2(joint / (marginals[0] * marginals[1]))).sum())
    _, count = np.unique(second, return_counts=True)
    share = count / len(second)
    return max(0.0, information), float(-(share * np.log2(share)).sum() + 0.0)


def _marginal(label: Integers, count: Integers) -> NDArray[np.float64]:
    """Rows of the label of each cell."""
    _, place = np.unique(label, return_inverse=True)
    total: NDArray[np.float64] = np.bincount(place, count).astype(np.float64)
    return total[place]
