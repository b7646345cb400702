"""The figure of superposition: how many features share a dimension, and what that makes of the hidden code."""

from typing import TYPE_CHECKING, Any

import numpy as np

from polykern.report import charts, figures

if TYPE_CHECKING:
    from polykern.coding.sweep import Superposition


def superposition(sheet: Any, found: "Superposition") -> None:
    """Four panels over the sparsity: features a dimension, capacity of each feature, exponent, capacity unused."""
    how = found.about["settings"]
    panels = charts.panels(
        sheet, ["features a dimension", "capacity of every feature (mean over instances)",
                "spectrum of the hidden code (exact)", "what the spectrum leaves unused"],
        columns=2, heading="Superposition in a toy model",
        subtitle=f"{how['features']} features in {how['hidden']} dimensions, importance {how['decay']:g}^i; "
        f"{how['instances']} instances a probability, {how['steps']:,} steps",
        note="lines: means over instances; bands: their 95% t intervals; p: probability that a feature is active",
    )  # fmt: skip
    _line(panels[0], found, "features_a_dimension", "sum of squared lengths / dimensions", 0)
    _line(panels[0], found, "represented", "features longer than 1/2, / dimensions", 1, how["hidden"])
    _line(panels[0], found, "capacity_of_represented", "their mean capacity", 2)
    panels[0].axhline(1, color=figures.QUIET, lw=0.9, ls="--")
    _named(panels[0], "a dimension")
    charts.legend(panels[0], loc="upper left")
    _capacities(sheet, panels[1], found)
    _line(panels[2], found, "alpha", "exponent alpha, all ranks", 1)
    _line(panels[2], found, "participation_ratio", "participation ratio / dimensions", 3, how["hidden"])
    _named(panels[2], "alpha, share of dimensions")
    charts.legend(panels[2], loc="best")
    _line(panels[3], found, "unused_capacity", "share of the capacity of evenly spread power, noise 0.1", 4)
    panels[3].set_ylim(0, 1.25 * panels[3].get_ylim()[1])  # room for the legend
    _named(panels[3], "1 - capacity / capacity of white")
    charts.legend(panels[3], loc="upper left")


def _line(axes: Any, found: "Superposition", measure: str, label: str, colour: int, over: float = 1) -> None:
    means = found.means()[measure]
    value, low, high = (np.array([getattr(e, end) for e in means]) / over for end in ("value", "low", "high"))
    charts.line(
        axes, found.probabilities, value, low=low, high=high, colour=charts.PALETTE[colour], label=label,
        marker="o", ms=4,
    )  # fmt: skip


def _capacities(sheet: Any, axes: Any, found: "Superposition") -> None:
    """A row a probability, a column a feature."""
    mean = found.toys.capacities.reshape(len(found.probabilities), found.instances, -1).mean(1)
    image = axes.imshow(mean, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks(range(len(found.probabilities)), [f"{p:g}" for p in found.probabilities])
    axes.grid(visible=False)
    charts.named(axes, "feature, the most important first", "p")
    bar = sheet.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.ax.tick_params(labelsize=9)


def _named(axes: Any, y: str) -> None:
    axes.set(xscale="log")
    axes.invert_xaxis()
    charts.named(axes, "p, from dense to sparse", y)
