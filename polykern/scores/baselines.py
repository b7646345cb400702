"""What purity is worth: the same numbers for clusters that know nothing of the classes.

    shuffled classes   the clusters as they are, the classes of their rows dealt out anew among them
    random clusters    disjoint clusters of the same sizes, drawn from all rows, noise too

Small clusters are pure by chance, and rows of one frequent class make any cluster pure: a purity means something by
its distance from these. A value that lies inside of its baselines' intervals says nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError
from polykern.scores import purity
from polykern.scores.purity import PURE
from polykern.scores.tables import Integers, labelling, numbered

MEASURES = ("mean_purity", "weighted_purity", "pure_clusters", "mean_entropy")
LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Interval:
    """What repeats gave.

    mean  their mean
    low   their 2.5th percentile
    high  their 97.5th percentile
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Interval":
        """Of at least one value."""
        given = np.asarray(values, np.float64)
        low, high = np.quantile(given, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(given.mean()), float(low), float(high))

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Measure:
    """A number beside what chance gives.

    value      of the clustering
    interval   of clusterings of as many clusters drawn with replacement from these: the bootstrap
    baselines  name -> interval of repeats
    """

    value: float
    interval: Interval
    baselines: Mapping[str, Interval]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        inner = {name: interval.as_dict() for name, interval in self.baselines.items()}
        return {"value": self.value, "interval": self.interval.as_dict(), "baselines": inner}


@dataclass(frozen=True)
class Monosemanticity:
    """The purity of a clustering beside its baselines.

    measures  name of `baselines.MEASURES` -> number
    clusters  how many
    noise     share of rows in no cluster
    pure      purity from which a cluster counts as pure
    repeats   of every baseline, and of the bootstrap
    seed      of their generator
    """

    measures: Mapping[str, Measure]
    clusters: int
    noise: float
    pure: float
    repeats: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every measure by its name, `noise` and the settings."""
        told = {"clusters": self.clusters, "pure": self.pure, "repeats": self.repeats, "seed": self.seed}
        return {**{k: m.as_dict() for k, m in self.measures.items()}, "noise": self.noise, "settings": told}


def monosemanticity(
    labels: ArrayLike, classes: ArrayLike, *, repeats: int = 100, seed: int = 0, pure: float = PURE
) -> Monosemanticity:
    """How far clusters are of one class each, beside shuffled classes and random clusters.

    labels   int (n)   -1 is noise; at least one cluster
    classes  (n)       integers or strings
    repeats  of each baseline; every one sorts the rows of clusters once
    seed     the same seed gives the same numbers
    pure     purity from which a cluster counts as pure

    The values are exact; the intervals are percentiles of `repeats` draws. Errors: UsageError for arrays that do
    not fit, no clusters, or no repeats.
    """
    mine = labelling(labels)
    number, _ = numbered(classes, len(mine))
    if repeats < 1:
        raise UsageError(f"at least one repeat is needed, got {repeats}")
    if not (mine >= 0).any():
        raise UsageError("there are no clusters to score", why="every row is noise")
    rng = np.random.default_rng(seed)
    found = purity.of_clusters(mine, number)
    draws = {
        "shuffled classes": list(_shuffled(mine, number, number[mine >= 0], repeats, rng, pure)),
        "random clusters": list(_shuffled(mine, number, number, repeats, rng, pure)),
    }
    again = list(_bootstrap(found, repeats, rng, pure))
    value = found.summary(pure)
    measures = {
        name: Measure(
            value[name],
            Interval.of([a[name] for a in again]),
            {kind: Interval.of([d[name] for d in many]) for kind, many in draws.items()},
        )
        for name in MEASURES
    }
    return Monosemanticity(measures, found.clusters, found.noise, pure, repeats, seed)


def _shuffled(
    labels: Integers, number: Integers, pool: Integers, repeats: int, rng: np.random.Generator, pure: float
) -> Iterator[dict[str, float]]:
    """Summaries of the clusters with their rows' classes drawn from a pool without replacement."""
    inside = labels[labels >= 0]
    for _ in range(repeats):
        drawn = rng.permutation(pool)[: len(inside)]
        yield purity.Purity(*purity.by_number(inside, drawn), 0.0).summary(pure)


def _bootstrap(
    found: purity.Purity, repeats: int, rng: np.random.Generator, pure: float
) -> Iterator[dict[str, float]]:
    held = np.flatnonzero(found.size > 0)
    for _ in range(repeats):
        some: NDArray[np.int64] = rng.choice(held, len(held))
        parts = found.size[some], found.purity[some], found.entropy[some], found.majority[some]
        yield purity.Purity(*parts, found.noise).summary(pure)
