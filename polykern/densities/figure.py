"""Figures of pairs: densities within and between classes; their gap by depth."""

from typing import TYPE_CHECKING, Any

import numpy as np

from polykern.report import charts, figures
from polykern.report.script import visible

if TYPE_CHECKING:
    from polykern.densities.result import Pairs


def bars(sheet: Any, found: "Pairs") -> None:
    """Mean normalised density within and between classes, a panel a network, a group a stage."""
    names = list(found.networks)
    every = charts.panels(
        sheet, names, columns=len(names), heading=f"Polytope density between pairs: {found.about['model']['name']}",
        subtitle=_pairs(found),
        note="bits that differ over L2 distance, over the mean of all pairs; 99 % bootstrap intervals by pairs",
    )  # fmt: skip
    ends = []
    for axes, name in zip(every, names, strict=True):
        stages = found.networks[name]
        value, low, high = (
            np.array([[getattr(s.within, k), getattr(s.between, k)] for s in stages])
            for k in ("value", "low", "high")
        )
        charts.bars(
            axes, [s.name or "input" for s in stages], ["within a class", "between classes"], value, low, high
        )
        axes.axhline(1, color=figures.QUIET, lw=0.8)
        axes.tick_params(axis="x", rotation=30)
        ends += [low.min(), high.max()]
    for axes in every:
        axes.set_ylim(max(0, min(ends) - 0.08), max(ends) + 0.08)
    charts.named(every[0], "", "density / mean density")
    charts.legend(every[0], loc="upper left")


def depth(sheet: Any, found: "Pairs") -> None:
    """The gap by depth, network by network, with the gap at equal distance."""
    (axes,) = charts.panels(
        sheet, ["between minus within, over their mean"], columns=1,
        heading=f"The gap by depth: {found.about['model']['name']}", subtitle=_pairs(found),
        note="bands: 99 % intervals by items; dashed: pairs of equal distance compared",
    )  # fmt: skip
    for k, (name, stages) in enumerate(found.networks.items()):
        x, colour = range(len(stages)), charts.PALETTE[k]
        gaps = [s.gap for s in stages]
        charts.line(
            axes, x, [g.value for g in gaps], label=name, colour=colour, low=[g.low for g in gaps],
            high=[g.high for g in gaps], marker="o",
        )  # fmt: skip
        charts.line(axes, x, [s.matched.value for s in stages], colour=colour, lw=1.0, ls="--")
    axes.axhline(0, color=figures.QUIET, lw=0.8)
    first = next(iter(found.networks.values()))
    axes.set_xticks(range(len(first)), [visible(s.name) or "input" for s in first], rotation=30, parse_math=False)
    charts.named(axes, "codes from here to the output", "gap of normalised density")
    charts.legend(axes)


def _pairs(found: "Pairs") -> str:
    s = found.about["settings"]
    reused = "items in several pairs" if s["reused"] else "no item in two pairs"
    kinds = f"{s['pairs']:,} pairs within and {s['pairs']:,} between {s['classes']} classes"
    return f"{kinds} of {s['items']:,} items; {reused}"
