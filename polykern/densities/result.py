"""Densities of pairs at every stage of a network and of its untrained twins."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.densities.draw import Drawn
from polykern.findings import Findings, Picture, Table
from polykern.statistics import Estimate, Welch, bootstrap, welch

Reals = NDArray[np.float64]
LEVEL, RESAMPLES = 0.99, 10_000
BINS = 10  # of distance, in the matched control


@dataclass(frozen=True, eq=False)
class Stage:
    """The pairs in one space.

    name      of the module whose input they are in
    bits      of the codes from there to the output
    pairs     which pairs
    distance  float64 (n)          L2 in the space
    angle     float64 (n)          between the two as vectors, radians
    hamming   int64 (fields, n)    bits that differ, by nonlinearity
    jaccard   float64 (n)          Jaccard distance of the codes
    """

    name: str
    bits: int
    pairs: Drawn
    distance: Reals
    angle: Reals
    hamming: NDArray[np.int64]
    jaccard: Reals

    @cached_property
    def density(self) -> Reals:
        """float64 (n): boundaries per unit L2 between the two."""
        return np.asarray(self.hamming.sum(0) / self.distance)

    @cached_property
    def normalised(self) -> Reals:
        """float64 (n): density over its mean over all pairs."""
        return np.asarray(self.density / self.density.mean())

    @cached_property
    def within(self) -> Estimate:
        """Mean normalised density within classes, 99 % interval by pairs."""
        return self._mean(True)

    @cached_property
    def between(self) -> Estimate:
        """The same between classes."""
        return self._mean(False)

    @property
    def of_all_pairs(self) -> tuple[float, float]:
        """Mean density within and between classes over that of all pairs of the items, of which few are within."""
        within, between = (float(self.density[self.pairs.same == kind].mean()) for kind in (True, False))
        mean = self.pairs.share * within + (1 - self.pairs.share) * between
        return within / mean, between / mean

    @cached_property
    def welch(self) -> Welch:
        """Within against between classes: t is negative where density within is less."""
        return welch(self.density[self.pairs.same], self.density[~self.pairs.same])

    @cached_property
    def gap(self) -> Estimate:
        """Between minus within, normalised; the interval draws items, and pairs with both of their items."""
        return Estimate.of(float(gap(self.density, self.pairs.same)), self.gaps, LEVEL)

    @cached_property
    def gaps(self) -> Reals:
        """float64 (resamples): the gap of draws of items with replacement, the same draws at every stage."""
        return gap(self.density, self.pairs.same, self.pairs.weights)

    @cached_property
    def matched(self) -> Estimate:
        """The gap between pairs of equal distance: inside ten bins of it, weighted as the pairs within classes."""
        edges = np.quantile(self.distance, np.linspace(0, 1, BINS + 1)[1:-1])
        bins = np.searchsorted(edges, self.distance)
        draws = _matched(self.density, self.pairs.same, bins, self.pairs.weights)
        [value] = _matched(self.density, self.pairs.same, bins, np.ones((1, len(bins))))
        return Estimate.of(float(value), draws, LEVEL)

    @cached_property
    def hyperplanes(self) -> tuple[float, float]:
        """Mean normalised density within and between classes if boundaries were random hyperplanes through 0."""
        null = self.bits * self.angle / np.pi / self.distance
        null = null / null.mean()
        return float(null[self.pairs.same].mean()), float(null[~self.pairs.same].mean())

    def layers(self) -> dict[str, list[Estimate]]:
        """Of each nonlinearity its part of the numbers of the whole code; the parts add up.

        within, between  of the mean normalised density; 99 % intervals by pairs
        gap              of the gap; its interval draws items, the same at every nonlinearity
        """
        parts, same = self.hamming / self.distance, self.pairs.same
        found: dict[str, list[Estimate]] = {}
        for name, kind in (("within", same), ("between", ~same)):
            n, rng = int(kind.sum()), np.random.default_rng(self.pairs.seed)
            weights = rng.multinomial(n, np.full(n, 1 / n), len(self.pairs.weights)) / n
            mine = parts[:, kind] / self.density.mean()
            found[name] = [
                Estimate.of(float(row.mean()), draws, LEVEL)
                for row, draws in zip(mine, (weights @ mine.T).T, strict=True)
            ]
        found["gap"] = [
            Estimate.of(
                float(gap(row, same, of=self.density)), gap(row, same, self.pairs.weights, of=self.density), LEVEL
            )
            for row in parts
        ]  # fmt: skip
        return found

    def _mean(self, same: bool) -> Estimate:
        mine, other = (self.density[self.pairs.same == kind] for kind in (same, not same))
        rows = min(len(mine), len(other))
        return bootstrap(
            lambda a, b: a.mean(-1) / ((a.mean(-1) + b.mean(-1)) / 2), mine[:rows], other[:rows], level=LEVEL,
            resamples=RESAMPLES, seed=self.pairs.seed,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        same = self.pairs.same
        return {
            "bits": self.bits,
            "within": self.within.as_dict(),
            "between": self.between.as_dict(),
            "of_all_pairs": dict(zip(("within", "between"), self.of_all_pairs, strict=True)),
            "gap": self.gap.as_dict(),
            "welch": self.welch.as_dict(),
            "gap_at_equal_distance": self.matched.as_dict(),
            "random_hyperplanes": dict(zip(("within", "between"), self.hyperplanes, strict=True)),
            "distance": {
                "within": float(self.distance[same].mean()),
                "between": float(self.distance[~same].mean()),
            },
            "jaccard": {"within": float(self.jaccard[same].mean()), "between": float(self.jaccard[~same].mean())},
        }


@dataclass(frozen=True, eq=False)
class Pairs(Findings):
    """What was found for each network.

    networks  "trained", "untrained", ... -> stages in order
    fields    names of the nonlinearities of the first stage's code
    """

    networks: dict[str, list[Stage]]
    fields: tuple[str, ...]

    SCHEMA: ClassVar[str] = "polykern-pairs/1"

    def trend(self, network: str) -> Estimate:
        """Spearman's correlation of depth and gap; 95 % interval by the draws of items."""
        from scipy.stats import rankdata

        stages = self.networks[network]
        every = np.concatenate(
            [[[float(gap(s.density, s.pairs.same)) for s in stages]], np.stack([s.gaps for s in stages], 1)]
        )
        ranks = rankdata(every, axis=1) - (len(stages) + 1) / 2
        depth = np.arange(len(stages)) - (len(stages) - 1) / 2
        with np.errstate(invalid="ignore"):
            rho = ranks @ depth / np.sqrt((ranks**2).sum(1) * (depth**2).sum())
        return Estimate.of(float(rho[0]), rho[1:], 0.95)

    def numbers(self) -> dict[str, Any]:
        return {
            name: {
                "stages": {s.name or "input": s.as_dict() for s in stages},
                "trend": self.trend(name).as_dict() if len(stages) > 1 else None,
            }
            for name, stages in self.networks.items()
        }

    def tables(self) -> dict[str, Table]:
        columns: dict[str, list[Any]] = {
            k: []
            for k in ("network", "stage", "first", "second", "same", "distance", "angle", "hamming", "jaccard")
        }
        ends = [f"{name}{end}" for name in ("within", "between", "gap") for end in ("", "_low", "_high")]
        split: dict[str, list[Any]] = {k: [] for k in ("network", "stage", "nonlinearity", *ends)}
        for network, stages in self.networks.items():
            for s in stages:
                n = len(s.distance)
                values = (
                    [network] * n, [s.name] * n, s.pairs.first, s.pairs.second, s.pairs.same, s.distance, s.angle,
                    s.hamming.sum(0), s.jaccard,
                )  # fmt: skip
                for column, value in zip(columns.values(), values, strict=True):
                    column += list(value)
                for name, *each in zip(self.fields[-len(s.hamming) :], *s.layers().values(), strict=True):
                    row = (network, s.name, name, *(getattr(e, k) for e in each for k in ("value", "low", "high")))
                    for column, value in zip(split.values(), row, strict=True):
                        column.append(value)
        return {"pairs": columns, "layers": split}

    def pictures(self) -> dict[str, Picture]:
        from polykern.densities import figure

        return {
            "pairs": Picture(max(900, 480 * len(self.networks)), 560, lambda sheet: figure.bars(sheet, self)),
            "depth": Picture(1000, 560, lambda sheet: figure.depth(sheet, self)),
        }


def gap(density: Reals, same: NDArray[np.bool_], weights: Reals | None = None, of: Reals | None = None) -> Reals:
    """(): mean between minus mean within, over their mean; with weights (resamples, n) one for each row.

    of  whose mean it is over; None: of the same
    """
    w = np.ones((1, len(density))) if weights is None else weights

    def means(values: Reals) -> list[Reals]:
        return [(w[:, k] @ values[k]) / np.maximum(w[:, k].sum(1), 1e-300) for k in (same, ~same)]

    (within, between), whole = means(density), means(density if of is None else of)
    found = (between - within) / (sum(whole) / 2)
    return np.asarray(found if weights is not None else found[0])


def _matched(density: Reals, same: NDArray[np.bool_], bins: NDArray[np.int64], weights: Reals) -> Reals:
    """float64 (resamples): gaps inside bins, averaged by the pairs within classes, over the mean density."""
    total, share = np.zeros(len(weights)), np.zeros(len(weights))
    for b in np.unique(bins):
        inner, outer = (bins == b) & same, (bins == b) & ~same
        w, v = weights[:, inner].sum(1), weights[:, outer].sum(1)
        held = (w > 0) & (v > 0)
        near, far = weights[:, inner] @ density[inner], weights[:, outer] @ density[outer]
        apart = far / np.maximum(v, 1) - near / np.maximum(w, 1)
        total += np.where(held, w * apart, 0)
        share += np.where(held, w, 0)
    mean = weights @ density / weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / share / mean)
