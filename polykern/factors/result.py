"""What `pk.directions` finds: families of directions with their scores, dictionaries of codes, steered classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern import statistics
from polykern.factors import pictures as drawn
from polykern.factors.concepts import Steered
from polykern.factors.dictionaries import Score
from polykern.factors.nearest import Concentration
from polykern.findings import Findings, Picture, Table
from polykern.scores.baselines import Monosemanticity
from polykern.scores.projections import Projection

Reals = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Family:
    """Directions of one kind.

    name        "nmf" | "pca" | "neurons" | "random"
    vectors     float64 (k, units)
    cosines     float64 (n, k)     with the rows
    clustered   nearest of the rows that are in a cluster
    everything  nearest of all rows, noise among them
    classes     nearest of all rows, by the classes of their examples; None where nobody knows those
    crossed     int64 (k)          boundaries of the layer's own units that each crosses in the range of the rows
    lines       (direction, its values beside the clusters), over the clustered ones among its strongest rows
    told        backend and unexplained share of a factorisation
    """

    name: str
    vectors: Reals
    cosines: Reals
    clustered: Concentration
    everything: Concentration
    classes: Concentration | None
    crossed: Integers
    lines: tuple[tuple[int, Projection], ...]
    told: dict[str, Any]

    @property
    def above_chance(self) -> Reals:
        """float64 (directions, 2): class purity of intervals and of codes, less that of shuffled classes."""
        both = [[_above(p.line), _above(p.codes)] for _, p in self.lines if p.line and p.codes]
        return np.array(both).reshape(-1, 2)

    def numbers(self, seed: int) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {
            **self.told,
            "clusters": self.clustered.numbers(),
            "clusters_and_noise": self.everything.numbers(),
            "classes": None if self.classes is None else self.classes.numbers(),
            "boundaries_crossed": _estimate(self.crossed, seed),
            "boundaries_and_purity_spearman": _correlation(self.crossed, self.clustered.purity, seed),
        }
        for name, column in zip(("line", "codes"), self.above_chance.T, strict=True):
            found[f"{name}_purity_above_chance"] = _estimate(column, seed)
        found["information_share"] = _estimate([p.share for _, p in self.lines if p.entropy > 0], seed)
        return found


@dataclass(frozen=True, eq=False)
class Directions(Findings):
    """Directions of a layer's activations beside the clusters of its codes.

    units         of the layer
    item, place   int64 (n)         the example of each row, and where in it
    labels        int64 (n)         clusters of the rows' codes, -1 is noise
    classes       None | int64 (n)  of the rows' examples
    families      each kind of directions
    dictionaries  (name, score) of each dictionary of the codes; empty when not asked for
    steered       classes steered towards, one entry a tau; empty where there are no classes
    """

    units: int
    item: Integers
    place: Integers
    labels: Integers
    classes: Integers | None
    families: tuple[Family, ...]
    dictionaries: tuple[tuple[str, Score], ...]
    steered: tuple[Steered, ...]

    SCHEMA = "polykern-directions/1"

    @property
    def seed(self) -> int:
        """Of everything random."""
        return int(self.about["seed"])

    def numbers(self) -> dict[str, Any]:
        """The headline numbers."""
        return {
            "rows": len(self.labels),
            "units": self.units,
            "clusters": int(self.labels.max()) + 1,
            "noise": float((self.labels < 0).mean()),
            "families": {f.name: f.numbers(self.seed) for f in self.families},
            "dictionaries": {
                name: {**s.numbers(), "error": _estimate(s.errors, self.seed)} for name, s in self.dictionaries
            },
            "steered": [s.numbers() for s in self.steered],
        }

    def tables(self) -> dict[str, Table]:
        """rows, directions, cosines and vectors of each family, dictionaries, steered."""
        known = {} if self.classes is None else {"class": self.classes}
        tables: dict[str, Table] = {
            "rows": {"item": self.item, "place": self.place, "cluster": self.labels, **known},
            "directions": self._directions(),
        }
        for family in self.families:
            near = {f"{family.name}{k}": family.cosines[:, k] for k in range(len(family.vectors))}
            tables[f"cosines-{family.name}"] = near
            tables[f"vectors-{family.name}"] = {f"{family.name}{k}": v for k, v in enumerate(family.vectors)}
        if self.dictionaries:
            named = [{"dictionary": name, **s.numbers()} for name, s in self.dictionaries]
            tables["dictionaries"] = {k: [_blank(n[k]) for n in named] for k in named[0]}
        if self.steered:
            columns = ("classes", "bits", "change", "turned", "random", "random_turned")
            every = {c: [v for s in self.steered for v in getattr(s, c)] for c in columns}
            tables["steered"] = {"tau": [s.tau for s in self.steered for _ in s.classes], **every}
        return tables

    def pictures(self) -> dict[str, Picture]:
        """Cosines by cluster, purity of families, boundaries crossed, values on a line, dictionaries, steering."""
        found = {
            "directions": drawn.cosines(self),
            "purity": drawn.purity(self),
            "boundaries": drawn.boundaries(self),
        }
        if any(f.lines for f in self.families) and self.classes is not None:
            found["line"] = drawn.line(self)
        if self.dictionaries:
            found["dictionaries"] = drawn.held_out(self)
        if self.steered:
            found["steered"] = drawn.masks(self)
        return found

    def _directions(self) -> Table:
        rows = []
        for f in self.families:
            lines = dict(f.lines)
            for k in range(len(f.vectors)):
                p = lines.get(k)
                rows.append({
                    "family": f.name, "direction": k, "purity": f.clustered.purity[k],
                    "entropy": f.clustered.entropy[k], "cluster": f.clustered.majority[k],
                    "purity_with_noise": f.everything.purity[k],
                    "class_purity": _blank(None if f.classes is None else f.classes.purity[k]),
                    "class": _blank(None if f.classes is None else f.classes.majority[k]),
                    "boundaries": f.crossed[k],
                    "line_purity_above_chance": _blank(p and p.line and _above(p.line)),
                    "codes_purity_above_chance": _blank(p and p.codes and _above(p.codes)),
                    "information": _blank(p and p.information), "entropy_of_codes": _blank(p and p.entropy),
                })  # fmt: skip
        return {k: [r[k] for r in rows] for k in rows[0]}


def _correlation(crossed: Integers, purity: Reals, seed: int) -> dict[str, Any] | None:
    """Spearman's, as JSON; None of fewer than two directions, or where one side is constant."""
    if min(len(np.unique(crossed)), len(np.unique(purity))) < 2:
        return None
    return statistics.spearman(crossed, purity, level=0.99, seed=seed).as_dict()


def _above(score: Monosemanticity) -> float:
    purity = score.measures["mean_purity"]
    return purity.value - purity.baselines["shuffled classes"].mean


def _estimate(values: Any, seed: int) -> dict[str, Any] | None:
    """The mean with its interval, as JSON; None of fewer than two values."""
    given = np.asarray(values, np.float64)
    return statistics.mean(given, seed=seed).as_dict() | {"n": len(given)} if len(given) > 1 else None


def _blank(value: Any) -> Any:
    """An empty cell for None."""
    return "" if value is None else value
