"""What `pk.redundancy` gives: networks trained with dropout, and what is read off them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polykern.coding import knockout
from polykern.coding.classes import ClassCodes
from polykern.findings import Findings, Picture, Table
from polykern.spectra import Spectrum
from polykern.spectra.channels import GAUSSIAN, WHITE
from polykern.statistics import Estimate, jackknife, mean

Reals = NDArray[np.float64]
NOISE = 0.1  # standard deviations of a neuron, at which capacities are compared


@dataclass(frozen=True, eq=False)
class Network:
    """One trained network.

    dropout  share of the code's units that training left out
    seed     of the training
    curves   float64 (repeats, shares)   score with a share of the code's units zeroed
    classes  distances of the words of classes
    spectra  (step, layer) -> its spectrum; None where too few units are in use for a window of ranks
    last     step at which the training ended
    """

    dropout: float
    seed: int
    curves: Reals
    classes: ClassCodes
    spectra: dict[tuple[int, str], Spectrum | None]
    last: int

    @property
    def score(self) -> float:
        """With every neuron."""
        return float(self.curves[:, 0].mean())

    @cached_property
    def area(self) -> Estimate:
        """Under the knock-out curve, with its interval over the orders in which neurons fail."""
        areas = knockout.area(self.curves)
        if len(areas) < 2:
            return Estimate(float(areas[0]), np.nan, np.nan, 0.95)
        return mean(areas, level=0.95, resamples=2000, seed=self.seed)


def unused(spectrum: Spectrum | None) -> float:
    """Share of the capacity of evenly spread power that a spectrum gives up at a noise of 0.1; nan without one."""
    if spectrum is None:
        return float("nan")
    carried, most = (next(c for c in spectrum.channels if c.name == name) for name in (GAUSSIAN, WHITE))
    return 1 - carried.at(NOISE).value / most.at(NOISE).value


class Growth(NamedTuple):
    """In how many seeds a measure grows with dropout.

    larger         in which it is larger with the most dropout than with the least
    never_falling  in which it does not fall from any dropout to the next
    seeds          in all
    """

    larger: int
    never_falling: int
    seeds: int


@dataclass(frozen=True, eq=False)
class Redundancy(Findings):
    """The same network trained with more and more dropout.

    networks  ordered by dropout, then seed
    """

    networks: tuple[Network, ...]

    SCHEMA: ClassVar[str] = "polykern-redundancy/1"

    @property
    def code(self) -> str:
        """The layer with the dropout."""
        return str(self.about["settings"]["code"])

    @property
    def dropouts(self) -> list[float]:
        """Ascending."""
        return sorted({n.dropout for n in self.networks})

    def values(self, of: Callable[[Network], float]) -> Reals:
        """float64 (dropouts, seeds): a number of every network."""
        return np.array([[of(n) for n in self.networks if n.dropout == p] for p in self.dropouts])

    def alpha(self, network: Network) -> float:
        """Of the network's code at the end; nan where it has no window."""
        found = network.spectra[network.last, self.code]
        return float("nan") if found is None else found.fit.alpha

    def measures(self) -> dict[str, Reals]:
        """float64 (dropouts, seeds) each: everything that is one number a network."""

        def last(of: Callable[[Spectrum], float]) -> Callable[[Network], float]:
            def read(n: Network) -> float:
                found = n.spectra[n.last, self.code]
                return float("nan") if found is None else of(found)

            return read

        every: dict[str, Callable[[Network], float]] = {
            "score": lambda n: n.score,
            "area": lambda n: n.area.value,
            "alpha": self.alpha,
            "participation_ratio": last(lambda s: s.participation_ratio),
            "effective_rank": last(lambda s: s.effective_rank),
            "unused_capacity": last(unused),
            "least_distance": lambda n: n.classes.least,
            "mean_distance": lambda n: n.classes.mean,
            "radius": lambda n: n.classes.radius,
            "decoded": lambda n: n.classes.decoded,
        }
        return {name: self.values(of) for name, of in every.items()}

    def numbers(self) -> dict[str, Any]:
        """By measure: its mean at every dropout, its change from the least, whether it grows; every network."""
        told: dict[str, Any] = {name: self._trend(values) for name, values in self.measures().items()}
        told["networks"] = [self._network(n) for n in self.networks]
        return told

    def growth(self, measure: str) -> Growth:
        """Whether a measure grows with dropout, seed by seed."""
        return _growth(self.measures()[measure])

    def _trend(self, values: Reals) -> dict[str, Any]:
        growth = _growth(values)
        means = {f"{p:g}": over_seeds(row) for p, row in zip(self.dropouts, values, strict=True)}
        changes = {f"{p:g}": over_seeds(row - values[0]) for p, row in zip(self.dropouts, values, strict=True)}
        return {
            "mean": {p: e.as_dict() for p, e in means.items()},
            "change": {p: e.as_dict() for p, e in list(changes.items())[1:]},
            "seeds_larger_at_the_most_dropout": growth.larger,
            "seeds_never_falling": growth.never_falling,
            "seeds": growth.seeds,
        }

    def _network(self, n: Network) -> dict[str, Any]:
        found = n.spectra[n.last, self.code]
        return {
            "dropout": n.dropout,
            "seed": n.seed,
            "score": n.score,
            "area": n.area.as_dict(),
            "alpha": None if found is None else {**found.fit.as_dict(), "interval": found.interval.as_dict()},
            "rows_a_column": None if found is None else found.rows / len(found.values),
            "classes": n.classes.as_dict(),
        }

    def tables(self) -> dict[str, Table]:
        measures = {name: values.ravel() for name, values in self.measures().items()}
        ends = [(n.area, n.spectra[n.last, self.code]) for n in self.networks]
        repeats, shares = self.networks[0].curves.shape
        layers = [(n, place, s) for n in self.networks for place, s in n.spectra.items() if s is not None]
        return {
            "networks": {
                "dropout": [n.dropout for n in self.networks],
                "seed": [n.seed for n in self.networks],
                **measures,
                "area_low": [area.low for area, _ in ends],
                "area_high": [area.high for area, _ in ends],
                "alpha_low": [np.nan if s is None else s.interval.low for _, s in ends],
                "alpha_high": [np.nan if s is None else s.interval.high for _, s in ends],
            },
            "knockouts": {
                "dropout": np.repeat([n.dropout for n in self.networks], repeats * shares),
                "seed": np.repeat([n.seed for n in self.networks], repeats * shares),
                "order": np.tile(np.repeat(np.arange(repeats), shares), len(self.networks)),
                "share": np.tile(knockout.SHARES, len(self.networks) * repeats),
                "score": np.concatenate([n.curves.ravel() for n in self.networks]),
            },
            "exponents": {
                "dropout": [n.dropout for n, _, _ in layers],
                "seed": [n.seed for n, _, _ in layers],
                "step": [place[0] for _, place, _ in layers],
                "layer": [place[1] for _, place, _ in layers],
                "units": [len(s.values) for _, _, s in layers],
                "first": [s.fit.first for _, _, s in layers],
                "last": [s.fit.last for _, _, s in layers],
                "alpha": [s.fit.alpha for _, _, s in layers],
                "low": [s.interval.low for _, _, s in layers],
                "high": [s.interval.high for _, _, s in layers],
                "participation_ratio": [s.participation_ratio for _, _, s in layers],
                "effective_rank": [s.effective_rank for _, _, s in layers],
            },
        }

    def pictures(self) -> dict[str, Picture]:
        from polykern.coding import figure

        found = {"redundancy": Picture(1300, 900, lambda sheet: figure.redundancy(sheet, self))}
        if len({place for n in self.networks for place in n.spectra}) > 1:
            found["layers"] = Picture(1400, 560, lambda sheet: figure.layers(sheet, self))
        return found


def _growth(values: Reals) -> Growth:
    """Of a measure, float64 (dropouts, seeds)."""
    never = (np.diff(values, axis=0) >= 0).all(0)
    return Growth(int((values[-1] > values[0]).sum()), int(never.sum()), values.shape[1])


def over_seeds(values: Reals) -> Estimate:
    """The mean over networks with the t interval of their number, float64 (seeds); of one network it has none."""
    value = float(values.mean())
    if len(values) < 2 or np.isnan(value):
        return Estimate(value, np.nan, np.nan, 0.95)
    rest = [float(np.delete(values, k).mean()) for k in range(len(values))]
    return jackknife(value, rest)
