"""Figures of spectra: eigenvalues with their power laws, exponents by site."""

from typing import TYPE_CHECKING, Any

import numpy as np

from polykern.report import charts, colours, figures
from polykern.report.script import visible
from polykern.spectrum import powerlaw

if TYPE_CHECKING:
    from polykern.spectrum.result import Spectra

SHOWN = 12  # sites in a legend


def spectra(sheet: Any, found: "Spectra") -> None:
    """Eigenvalues by rank, both logarithmic, with the fitted window; beside them variance along held-out axes."""
    left, right = charts.panels(
        sheet, ["all rows", "held out: variance of one half along the other's eigenvectors"], columns=2,
        heading=f"Eigenspectra: {found.about['model']['name']}", subtitle=_rows(found),
        note="share of the variance by rank; thick: the window alpha is fitted to (weights 1/rank)",
    )  # fmt: skip
    hues = colours.depths(len(found.sites))
    for (name, site), hue in zip(found.sites.items(), hues, strict=True):
        rank = np.arange(1, len(site.values) + 1)
        for axes, values in ((left, site.values), (right, site.held_out)):
            held = powerlaw.positive(site.values)
            axes.plot(rank[:held], values[:held] / site.values.sum(), color=tuple(hue), lw=1.0)
        inside = slice(site.fit.first - 1, site.fit.last)
        label = f"{name}: {site.interval.value:.2f}"
        left.plot(rank[inside], site.values[inside] / site.values.sum(), color=tuple(hue), lw=2.6, label=label)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        charts.named(axes, "rank", "eigenvalue (share of the variance)")
    if len(found.sites) <= SHOWN:
        charts.legend(left, loc="lower left", title="alpha")


def exponents(sheet: Any, found: "Spectra") -> None:
    """alpha with its interval, site by site, and the bound where the dimension of the inputs is known."""
    sites = list(found.sites.values())
    (axes,) = charts.panels(
        sheet, ["exponent over the fitted ranks"], columns=1,
        heading=f"Power-law exponents: {found.about['model']['name']}", subtitle=_rows(found),
        note=f"{sites[0].interval.level:.0%} intervals: jackknife over groups of documents; hollow: fewer than ten "
        "rows a column, biased",
    )  # fmt: skip
    for k, kind in enumerate(dict.fromkeys(s.kind for s in sites)):
        mine = [(x, s) for x, s in enumerate(sites) if s.kind == kind]
        colour = charts.PALETTE[k]
        low, high = ([getattr(s.interval, end) for _, s in mine] for end in ("low", "high"))
        axes.vlines([x for x, _ in mine], low, high, color=colour, lw=1.6)
        for enough, face in ((True, colour), (False, "white")):
            some = [(x, s.interval.value) for x, s in mine if s.enough is enough]
            if some:
                axes.plot(*zip(*some, strict=True), "o", ms=7, mec=colour, mfc=face, label=kind if enough else "")
    if found.dimension is not None:
        bound = powerlaw.critical(found.dimension)
        axes.axhline(bound, color=figures.QUIET, lw=1, ls="--", label=f"1 + 2/d, d = {found.dimension:g}")
    names = [f"{visible(s.name).removesuffix(' (codes)')}\n{s.fit.first}-{s.fit.last}" for s in sites]
    axes.set_xticks(range(len(sites)), names, fontsize=9, parse_math=False)
    charts.named(axes, "", "alpha")
    charts.legend(axes)


def _rows(found: "Spectra") -> str:
    rows = {s.rows for s in found.sites.values()}
    documents = {s.documents for s in found.sites.values()}
    return f"{max(rows):,} rows of {max(documents):,} documents"
