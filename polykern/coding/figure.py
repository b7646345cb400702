"""Figures of redundancy: knock-out curves, exponents and distances by dropout; exponents by layer over training."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polykern.coding import knockout
from polykern.report import charts, colours
from polykern.report.script import visible

if TYPE_CHECKING:
    from polykern.coding.result import Redundancy

ASIDE = 0.18  # of the way from one dropout to the next, between seeds


def redundancy(sheet: Any, found: "Redundancy") -> None:
    """Four panels: score as neurons fail, area under it, exponent, distances between words of classes."""
    how = found.about["settings"]
    titles = (
        "a random share of the code's neurons zeroed", "area under these curves", "exponent of the code",
        "binary code: distances in bits",
    )  # fmt: skip
    panels = charts.panels(
        sheet, titles, columns=2, heading=f"Dropout and redundancy: {found.about['model']['name']}",
        subtitle=f"{how['seeds']} networks a dropout, {how['epochs']} epochs; code: layer {visible(found.code)}",
        note="bands: range of the networks; points: networks; lines: means; whiskers: 95% intervals (area: orders "
        "of failing; alpha: jackknife over images)",
    )  # fmt: skip
    hues = colours.depths(len(found.dropouts))
    for p, hue in zip(found.dropouts, hues, strict=True):
        each = np.stack([n.curves.mean(0) for n in found.networks if n.dropout == p])
        charts.line(panels[0], knockout.SHARES, each.mean(0), low=each.min(0), high=each.max(0), colour=tuple(hue),
                    label=f"p = {p:g}")  # fmt: skip
    charts.named(panels[0], "share of neurons zeroed", str(how["score"]))
    charts.legend(panels[0], loc="best", title="dropout")
    _area(panels[1], found)
    _alpha(panels[2], found)
    _distances(panels[3], found)
    for axes in panels[1:]:
        axes.set_xticks(range(len(found.dropouts)), [f"{p:g}" for p in found.dropouts])


def _area(axes: Any, found: "Redundancy") -> None:
    for (x, _), n in zip(_places(found), found.networks, strict=True):
        axes.vlines(x, n.area.low, n.area.high, color=charts.PALETTE[0], lw=1.4)
        axes.plot(x, n.area.value, "o", ms=5, color=charts.PALETTE[0])
    axes.plot(range(len(found.dropouts)), found.measures()["area"].mean(1), color=charts.PALETTE[0], lw=1.2)
    charts.named(axes, "dropout p", "area (score x share)")


def _alpha(axes: Any, found: "Redundancy") -> None:
    for (x, _), n in zip(_places(found), found.networks, strict=True):
        spectrum = n.spectra[n.last, found.code]
        if spectrum is not None:
            axes.vlines(x, spectrum.interval.low, spectrum.interval.high, color=charts.PALETTE[1], lw=1.4)
            axes.plot(x, spectrum.fit.alpha, "o", ms=5, color=charts.PALETTE[1])
    axes.plot(range(len(found.dropouts)), found.measures()["alpha"].mean(1), color=charts.PALETTE[1], lw=1.2)
    charts.named(axes, "dropout p", "alpha, ranks {} to {}".format(*found.about["settings"]["ranks"]))


def _distances(axes: Any, found: "Redundancy") -> None:
    measures = found.measures()
    names = (
        ("mean_distance", "mean between words of classes"),
        ("least_distance", "least between words of classes"),
        ("radius", "a test image to its class's word"),
    )
    for (key, label), colour in zip(names, charts.PALETTE, strict=False):
        values: NDArray[np.float64] = measures[key]
        axes.plot(range(len(values)), values.mean(1), color=colour, label=label, lw=1.4)
        axes.plot([x for x, _ in _places(found)], values.ravel(), "o", ms=4, color=colour)
    axes.set_ylim(0, 1.35 * float(measures["mean_distance"].max()))  # room for the legend
    charts.named(axes, "dropout p", "bits")
    charts.legend(axes, loc="upper right", fontsize=8.5)


def layers(sheet: Any, found: "Redundancy") -> None:
    """alpha by layer at the end, a line a dropout; and by step of the training, without and with most dropout."""
    names = list(dict.fromkeys(place[1] for n in found.networks for place in n.spectra))
    steps = sorted({place[0] for n in found.networks for place in n.spectra})
    ends = list(dict.fromkeys((found.dropouts[0], found.dropouts[-1])))
    first, last = found.about["settings"]["ranks"]
    panels = charts.panels(
        sheet, ["at the end of the training", *(f"over the training, dropout {p:g}" for p in ends)],
        columns=1 + len(ends), heading=f"Exponents by layer: {found.about['model']['name']}",
        subtitle=f"outputs of layers for all images, ranks {first} to {last}",
        note="lines: means over networks; bands: their range",
    )  # fmt: skip
    for p, hue in zip(found.dropouts, colours.depths(len(found.dropouts)), strict=True):
        each = [_alphas(found, p, steps[-1], name) for name in names]
        _line(panels[0], range(len(names)), each, tuple(hue), f"p = {p:g}")
    panels[0].set_xticks(range(len(names)), [visible(n) for n in names], parse_math=False)
    charts.named(panels[0], "", "alpha")
    for axes, p in zip(panels[1:], ends, strict=True):
        for name, hue in zip(names, colours.depths(len(names)), strict=True):
            _line(axes, steps, [_alphas(found, p, step, name) for step in steps], tuple(hue), visible(name))
        axes.set_xscale("symlog", linthresh=steps[1])
        axes.set_xticks(steps, [f"{s:,}" for s in steps])
        axes.minorticks_off()
        charts.named(axes, "step of the optimiser", "alpha")
    low, high = min(a.get_ylim()[0] for a in panels), max(a.get_ylim()[1] for a in panels)
    for axes in panels:
        axes.set_ylim(low, high + 0.2 * (high - low))  # room for the legend
        charts.legend(axes, loc="upper left", ncols=2 if axes is panels[0] else 3, fontsize=8)


def _line(axes: Any, x: Any, each: list[NDArray[np.float64]], colour: Any, label: str) -> None:
    held = [(at, values) for at, values in zip(x, each, strict=True) if len(values)]
    if held:
        charts.line(
            axes, [at for at, _ in held], [v.mean() for _, v in held], low=[v.min() for _, v in held],
            high=[v.max() for _, v in held], colour=colour, label=label, marker="o", ms=3,
        )  # fmt: skip


def _alphas(found: "Redundancy", dropout: float, step: int, layer: str) -> NDArray[np.float64]:
    """Of the networks with this dropout; those without a window are left out."""
    spectra = [n.spectra.get((step, layer)) for n in found.networks if n.dropout == dropout]
    return np.array([s.fit.alpha for s in spectra if s is not None])


def _places(found: "Redundancy") -> list[tuple[float, int]]:
    """(x, seed) of every network: seeds stand beside each other around their dropout."""
    seeds = sorted({n.seed for n in found.networks})
    middle = (len(seeds) - 1) / 2
    return [
        (found.dropouts.index(n.dropout) + ASIDE * (seeds.index(n.seed) - middle) / max(1, middle), n.seed)
        for n in found.networks
    ]
