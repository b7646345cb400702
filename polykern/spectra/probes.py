"""Random directions beside single neurons: what the rows where either is strong have in common.

Marshall and Kirchner 2024, "Understanding polysemanticity in neural networks through coding theory", hold that
random projections explain a code as well as probes of single neurons do. Both are scored alike here: the purity by
class of the rows where the value along a direction is largest, and of the best intervals of all values
(`polykern.scores`), less what chance gives. No sign is expected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.findings import Table
from polykern.scores.baselines import monosemanticity
from polykern.scores.line import intervals
from polykern.scores.projections import strongest
from polykern.scores.purity import of_clusters
from polykern.statistics import Estimate, Welch, mean, welch

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]
FAMILIES = ("neurons", "random")
STRONG = 0.05  # share of the rows, where a direction counts as strong
ROWS = 2000  # of a layer, at most
SHOWN = 10  # strongest examples that are named
REPEATS = 20  # of what chance gives
MEASURES = ("strongest", "line")


@dataclass(frozen=True)
class Probe:
    """One direction.

    family     "neurons": a unit of the layer; "random": a Gaussian vector of unit length
    number     of the unit, or of the draw
    examples   those of the strongest rows, the strongest first
    strongest  purity by class of the strongest rows, less that of as many random rows
    line       purity by class of the best intervals of the values, one a class, less that of shuffled classes
    """

    family: str
    number: int
    examples: tuple[int, ...]
    strongest: float
    line: float


@dataclass(frozen=True)
class Probes:
    """The directions of one layer.

    every   all of them
    rows    that they were scored on
    chance  purity of as many random rows as there are strongest ones
    seed    of rows, directions and intervals
    """

    every: tuple[Probe, ...]
    rows: int
    chance: float
    seed: int

    def mean(self, family: str, measure: str) -> Estimate:
        """Of a family's directions, above chance, with its interval over directions."""
        values = self._values(family, measure)
        if len(values) < 2:
            return Estimate(float(values[0]), np.nan, np.nan, 0.95)
        return mean(values, level=0.95, resamples=2000, seed=self.seed)

    def test(self, measure: str) -> Welch | None:
        """Welch's test of random directions against neurons; None where all are alike, or there is but one."""
        a, b = (self._values(family, measure) for family in ("random", "neurons"))
        return welch(a, b) if min(len(a), len(b)) > 1 and a.var() + b.var() > 0 else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {"rows": self.rows, "directions": len(self.every) // 2, "chance": self.chance}
        for measure in MEASURES:
            test = self.test(measure)
            means = {family: self.mean(family, measure).as_dict() for family in FAMILIES}
            told[measure] = {**means, "test": None if test is None else test.as_dict()}
        return told

    def _values(self, family: str, measure: str) -> Reals:
        return np.array([getattr(p, measure) for p in self.every if p.family == family], np.float64)


def probes(values: Reals, classes: Integers, items: Integers, *, most: int = 32, seed: int = 0) -> Probes:
    """Neurons and as many random directions of one layer, scored on its rows.

    values   float64 (n, units)
    classes  int64 (n)            of the row's example
    items    int64 (n)            the row's example
    most     directions of each family; no more than there are units
    seed     of the units that are taken, the directions, and the rows where there are more than 2,000
    """
    rng = np.random.default_rng(seed)
    if len(values) > ROWS:
        some = np.sort(rng.choice(len(values), ROWS, replace=False))
        values, classes, items = values[some], classes[some], items[some]
    units = values.shape[1]
    taken = np.sort(rng.choice(units, min(most, units), replace=False))
    drawn = rng.standard_normal((len(taken), units))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    size = len(strongest(values[:, 0], STRONG))
    chance = float(np.mean([_purity(rng.permutation(len(values))[:size], classes) for _ in range(REPEATS)]))
    found = [_probe("neurons", int(k), values[:, k], classes, items, chance, seed) for k in taken]
    found += [_probe("random", k, values @ v, classes, items, chance, seed) for k, v in enumerate(drawn)]
    return Probes(tuple(found), len(values), chance, seed)


def columns(every: Sequence[tuple[str, Probes]]) -> Table:
    """A row a direction: layer, family, number, both scores, examples that are strongest."""
    rows = [(name, p) for name, layer in every for p in layer.every]
    return {
        "site": [name for name, _ in rows],
        "family": [p.family for _, p in rows],
        "number": [p.number for _, p in rows],
        "strongest": [p.strongest for _, p in rows],
        "line": [p.line for _, p in rows],
        "examples": [" ".join(map(str, p.examples)) for _, p in rows],
    }


def _probe(
    family: str, number: int, x: Reals, classes: Integers, items: Integers, chance: float, seed: int
) -> Probe:
    cut = intervals(x, len(np.unique(classes))).labels
    line = monosemanticity(cut, classes, repeats=REPEATS, seed=seed).measures["weighted_purity"]
    top = list(dict.fromkeys(items[np.argsort(-x, kind="stable")].tolist()))[:SHOWN]
    above = _purity(strongest(x, STRONG), classes) - chance
    return Probe(family, number, tuple(top), above, line.value - line.baselines["shuffled classes"].mean)


def _purity(rows: Integers, classes: Integers) -> float:
    """The share of some rows that have their commonest class."""
    inside = np.full(len(classes), -1, np.int64)
    inside[rows] = 0
    return float(of_clusters(inside, classes).purity[0])
