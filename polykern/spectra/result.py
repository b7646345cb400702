"""Spectra of the layers of a network: eigenvalues, exponents, and how far they can be believed."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.findings import Findings, Picture, Table
from polykern.spectra import powerlaw
from polykern.spectra.channels import Channel, Entropy
from polykern.spectra.powerlaw import Fit
from polykern.statistics import Estimate

Reals = NDArray[np.float64]
ACTIVATIONS, CODES = "activations", "codes"
ENOUGH = 10  # rows a column, below which the exponent is biased


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The eigenspectrum of one site.

    name       of the site
    kind       "activations" or "codes"
    rows       it was measured on
    documents  they come from
    values     float64 (m)   eigenvalues of the covariance, the largest first
    held_out   float64 (m)   variance of one half of the documents along the eigenvectors of the other
    fit        the power law, weighted, over the automatic or the given window
    interval   of alpha, over groups of documents
    windows    fits over other windows
    rank       eigenvalues above what the rounding of the rows makes up
    channels   what the code can carry, over a grid of noise (`polykern.spectra.channels`)
    entropy    bounds of the entropy of a binary code; None for activations
    """

    name: str
    kind: str
    rows: int
    documents: int
    values: Reals
    held_out: Reals
    fit: Fit
    interval: Estimate
    windows: list[Fit]
    rank: int
    channels: list[Channel]
    entropy: Entropy | None

    @property
    def enough(self) -> bool:
        """Whether there are ten rows a column; with fewer the exponent is biased, downwards in the window."""
        return self.rows >= ENOUGH * len(self.values)

    @property
    def participation_ratio(self) -> float:
        """Of the eigenvalues."""
        return powerlaw.participation_ratio(self.values)

    @property
    def effective_rank(self) -> float:
        """Of the eigenvalues."""
        return powerlaw.effective_rank(self.values)

    def as_dict(self, dimension: float | None) -> dict[str, Any]:
        """For JSON, without the spectra; `dimension` of the inputs for the bound."""
        held = powerlaw.positive(self.held_out)
        told: dict[str, Any] = {
            "kind": self.kind,
            "width": len(self.values),
            "rank": self.rank,
            "rows": self.rows,
            "documents": self.documents,
            "alpha": {**self.fit.as_dict(), "interval": self.interval.as_dict()},
            "alpha_held_out": powerlaw.fit(self.held_out, self.fit.first, self.fit.last).alpha
            if held >= self.fit.last
            else None,
            "windows": [f.as_dict() for f in self.windows],
            "participation_ratio": self.participation_ratio,
            "effective_rank": self.effective_rank,
            "largest_share": float(self.values[0] / self.values.sum()),
            "rows_a_column": self.rows / len(self.values),
            "enough_rows": self.enough,
        }
        told["capacity"] = {
            c.name: {f"{noise:g}": c.at(noise).as_dict() for noise in c.told} for c in self.channels
        }
        if self.entropy is not None:
            told["entropy"] = self.entropy.as_dict()
        if dimension is not None:
            told["beside_bound"] = powerlaw.beside_bound(self.interval.low, self.interval.high, dimension)
        return told


@dataclass(frozen=True, eq=False)
class Spectra(Findings):
    """The spectra of some sites, in order.

    sites      name -> Spectrum
    dimension  of the inputs, for the bound 1 + 2/d; None where nobody knows it
    """

    sites: dict[str, Spectrum]
    dimension: float | None = None

    SCHEMA: ClassVar[str] = "polykern-spectrum/1"

    def numbers(self) -> dict[str, Any]:
        return {name: s.as_dict(self.dimension) for name, s in self.sites.items()}

    def tables(self) -> dict[str, Table]:
        every = list(self.sites.values())
        length = [len(s.values) for s in every]
        rows = [(s.name, f) for s in every for f in s.windows]
        carried = [(s.name, c, noise, bits) for s in every for c in s.channels for noise, bits in c.points()]
        return {
            "eigenvalues": {
                "site": np.repeat([s.name for s in every], length),
                "rank": np.concatenate([np.arange(1, n + 1) for n in length]),
                "eigenvalue": np.concatenate([s.values for s in every]),
                "held_out": np.concatenate([s.held_out for s in every]),
            },
            "windows": {
                "site": [name for name, _ in rows],
                "first": [f.first for _, f in rows],
                "last": [f.last for _, f in rows],
                "alpha": [f.alpha for _, f in rows],
                "r2": [f.r2 for _, f in rows],
            },
            "capacities": {
                "site": [name for name, _, _, _ in carried],
                "channel": [c.name for _, c, _, _ in carried],
                "noise": [noise for _, _, noise, _ in carried],
                "bits": [bits.value for _, _, _, bits in carried],
                "low": [bits.low for _, _, _, bits in carried],
                "high": [bits.high for _, _, _, bits in carried],
            },
        }

    def pictures(self) -> dict[str, Picture]:
        from polykern.spectra import capacities, depth, figure

        by_block = depth.has_depth(self)
        exponents = depth.exponents if by_block else figure.exponents
        return {
            "spectra": Picture(1200, 620, lambda sheet: figure.spectra(sheet, self)),
            "exponents": Picture(1200 if by_block else 1000, 560, lambda sheet: exponents(sheet, self)),
            "capacities": Picture(1200, 620, lambda sheet: capacities.capacities(sheet, self)),
        }
