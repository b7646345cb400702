"""Figures of spectra: eigenvalues with their power laws, exponents by site."""

from typing import TYPE_CHECKING, Any

import numpy as np

from polykern.report import charts, colours, figures, wording
from polykern.report.script import visible
from polykern.spectra import powerlaw
from polykern.spectra.probes import FAMILIES, MEASURES

if TYPE_CHECKING:
    from polykern.spectra.loops import Projections
    from polykern.spectra.result import Spectra, Spectrum

SHOWN = 12  # sites in a legend
LOWEST = 1e-7  # share of the variance that is drawn


def spectra(sheet: Any, found: "Spectra") -> None:
    """Eigenvalues by rank, both logarithmic, with the fitted window; beside them variance along held-out axes."""
    left, right = charts.panels(
        sheet, ["all rows", "held out: variance of one half along the other's eigenvectors"], columns=2,
        heading=f"Eigenspectra: {found.about['model']['name']}", subtitle=_rows(found),
        note="share of the variance by rank; thick: the window alpha is fitted to (weights 1/rank)",
    )  # fmt: skip
    sites = list(found.sites.values())
    layers = wording.apart(list(dict.fromkeys(_layer(s) for s in sites)))
    hues = dict(zip(dict.fromkeys(_layer(s) for s in sites), colours.depths(len(layers)), strict=True))
    short = dict(zip(hues, layers, strict=True))
    for site in sites:
        hue, dashed = hues[_layer(site)], "--" if site.kind == "codes" else "-"
        rank = np.arange(1, len(site.values) + 1)
        for axes, values in ((left, site.values), (right, site.held_out)):
            axes.plot(
                rank[: site.rank], values[: site.rank] / site.values.sum(), color=tuple(hue), lw=1.0, ls=dashed
            )
        inside = slice(site.fit.first - 1, site.fit.last)
        label = f"{short[_layer(site)]}{' codes' if dashed == '--' else ''}: {site.interval.value:.2f}"
        left.plot(rank[inside], site.values[inside] / site.values.sum(), color=tuple(hue), lw=2.6, ls=dashed)
        right.plot([], [], color=tuple(hue), lw=2.0, ls=dashed, label=label)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", ylim=(LOWEST, 1))
        charts.named(axes, "rank", "eigenvalue (share of the variance)")
    if len(sites) <= SHOWN:
        charts.legend(right, loc="lower left", title="alpha", fontsize=8.5)


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
    short = wording.apart([_layer(s) for s in sites])
    names = [f"{name}\n{s.fit.first}-{s.fit.last}" for name, s in zip(short, sites, strict=True)]
    axes.set_xticks(range(len(sites)), names, fontsize=9, parse_math=False)
    charts.named(axes, "", "alpha")
    charts.legend(axes)


def _layer(site: "Spectrum") -> str:
    return visible(site.name).removesuffix(" (codes)")


def _rows(found: "Spectra") -> str:
    rows = {s.rows for s in found.sites.values()}
    documents = {s.documents for s in found.sites.values()}
    return f"{max(rows):,} rows of {max(documents):,} documents"


def variograms(sheet: Any, found: "Projections") -> None:
    """V by lag, layer by layer, with the mean polytope of each; beside it the local slope."""
    left, right = charts.panels(
        sheet, ["variogram", "its slope"], columns=2, heading=f"Along a loop: {found.about['model']['name']}",
        subtitle=f"pre-activations, {found.about['settings']['repeats']} Gaussian projections to 3 dimensions",
        note="dots: mean length of a polytope of the layers in front; a slope of 2 is a curve with a tangent",
    )  # fmt: skip
    hues = colours.depths(len(found.loops))
    for (name, loop), hue in zip(found.loops.items(), hues, strict=True):
        v, colour = loop.variogram, tuple(hue)
        left.plot(v.lags, v.values, color=colour, label=visible(name))
        right.plot(np.sqrt(v.lags[1:] * v.lags[:-1]), v.slopes, color=colour)
        if v.lags[0] < loop.polytope.value < v.lags[-1]:
            at = loop.polytope.value
            left.plot(at, np.exp(np.interp(np.log(at), np.log(v.lags), np.log(v.values))), "o", color=colour)
            right.plot(at, np.interp(at, np.sqrt(v.lags[1:] * v.lags[:-1]), v.slopes), "o", color=colour)
    left.set(xscale="log", yscale="log")
    right.set(xscale="log", ylim=(-0.5, 2.3))
    charts.named(left, "lag (turns)", "V (squared activation a dimension)")
    charts.named(right, "lag (turns)", "d log V / d log lag")
    charts.legend(left)


def curves(sheet: Any, found: "Projections") -> None:
    """The loop in two of three random dimensions, coloured by the third, a panel a layer."""
    names = list(found.loops)
    every = charts.panels(
        sheet, names, columns=min(4, len(names)), heading=f"A loop, projected: {found.about['model']['name']}",
        note="4,096 points through one Gaussian projection to three dimensions; colour: the third",
    )  # fmt: skip
    for axes, name in zip(every, names, strict=True):
        x, y, z = found.loops[name].curve.T
        order = (z - z.min()) / max(float(np.ptp(z)), 1e-30)
        axes.scatter(x, y, s=1.5, c=colours.table("viridis")[(255 * order).astype(int)] / 255, linewidths=0)
        axes.set(xticks=[], yticks=[], aspect="equal")


def probes(sheet: Any, found: "Projections") -> None:
    """Purity by class above chance: of the rows where a direction is strongest, and of intervals of its values."""
    every = [(name, x.probes) for name, x in found.loops.items() if x.probes is not None]
    number = max(len(p.every) // 2 for _, p in every)
    titles = ["the strongest 5 % of the rows", "the best intervals of all values"]
    axes = charts.panels(
        sheet, titles, columns=2, heading=f"Random directions and neurons: {found.about['model']['name']}",
        subtitle=f"up to {number} of each a layer; purity by class, less what chance gives",
        note="bars: mean over directions; whiskers: 95% bootstrap intervals over directions",
    )  # fmt: skip
    for panel, measure in zip(axes, MEASURES, strict=True):
        means = [[p.mean(family, measure) for family in FAMILIES] for _, p in every]
        value, low, high = (
            np.array([[getattr(e, end) for e in row] for row in means]) for end in ("value", "low", "high")
        )
        charts.bars(panel, wording.apart([visible(n) for n, _ in every]), FAMILIES, value, low, high)
        ends = np.stack([value, low, high])  # one direction has no interval
        panel.set_ylim(min(0.0, float(np.nanmin(ends))), 1.25 * max(0.01, float(np.nanmax(ends))))  # and the legend
        charts.named(panel, "", "purity above chance")
        charts.legend(panel, loc="upper left")
