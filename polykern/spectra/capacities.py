"""The figure of what codes can carry: Gaussian capacities by noise, and bounds of the entropy of codes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from polykern.report import charts, colours, figures, wording
from polykern.report.script import visible
from polykern.spectra.result import ACTIVATIONS, CODES

if TYPE_CHECKING:
    from polykern.spectra.result import Spectra, Spectrum

SHOWN = 10  # sites with names


def capacities(sheet: Any, found: "Spectra") -> None:
    """Bits a neuron against noise, as measured and with the power spread evenly; bits of the codes beside it."""
    left, right = charts.panels(
        sheet, ["activations as a Gaussian channel", "entropy of the codes, at most"], columns=2,
        heading=f"Channel capacity, approximately: {found.about['model']['name']}",
        subtitle="line: of the measured eigenvalues; dotted: the same power spread evenly over all neurons",
        note="bands and whiskers: jackknife over groups of documents; noise in standard deviations of a neuron",
    )  # fmt: skip
    _gaussian(left, [s for s in found.sites.values() if s.kind == ACTIVATIONS])
    _entropies(right, [s for s in found.sites.values() if s.kind == CODES])


def _gaussian(axes: Any, sites: "list[Spectrum]") -> None:
    names = wording.apart([visible(s.name) for s in sites])
    for site, name, hue in zip(sites, names, colours.depths(len(sites)), strict=True):
        channel = site.channels[0]
        value, low, high = (
            np.array([getattr(b, end) for b in channel.bits]) / len(site.values) for end in ("value", "low", "high")
        )
        named = name if len(sites) <= SHOWN else ""
        charts.line(axes, channel.noise, value, low=low, high=high, colour=tuple(hue), lw=1.8, label=named)
    if sites:  # a neuron of any site, since noise is told in its standard deviations
        white, width = sites[0].channels[1], len(sites[0].values)
        even = [b.value / width for b in white.bits]
        charts.line(axes, white.noise, even, colour=figures.QUIET, ls=":", label="spread evenly")
    axes.set(xscale="log")
    axes.set_ylim(bottom=0)
    charts.named(axes, "noise (standard deviations of a neuron)", "bits a neuron")
    if sites:
        charts.legend(axes, loc="upper right")


def _entropies(axes: Any, sites: "list[Spectrum]") -> None:
    if not sites:
        axes.text(0.5, 0.5, "no codes were measured", ha="center", transform=axes.transAxes, color=figures.QUIET)
        axes.set(xticks=[], yticks=[])
        return
    every = [s.entropy for s in sites if s.entropy is not None]
    width = np.array([[len(s.values)] for s in sites], np.float64)
    parts = [(e.independent, e.tree) for e in every]
    value, low, high = (
        np.array([[getattr(p, end) for p in row] for row in parts]) / width for end in ("value", "low", "high")
    )
    names = wording.apart([visible(s.name).removesuffix(f" ({CODES})") for s in sites])
    crowded = len(sites) > SHOWN
    shown = ["" if crowded and k % 5 else n for k, n in enumerate(names)]
    charts.bars(axes, shown, ["bits by themselves", "less the best tree of pairs"], value, low, high)
    axes.set_ylim(0, 1.25)
    axes.tick_params(axis="x", labelsize=8.5)
    charts.named(axes, "", "bits of entropy a bit of the code")
    charts.legend(axes, loc="upper right")
