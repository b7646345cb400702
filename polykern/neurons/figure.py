"""Figures of neuron embeddings: how polysemantic the neurons of each layer are."""

from typing import TYPE_CHECKING, Any

import numpy as np

from polykern.neurons.clusters import METRICS, SWEEP
from polykern.report import charts, colours, wording
from polykern.report.script import visible

if TYPE_CHECKING:
    from polykern.neurons.result import Embeddings


def polysemanticity(sheet: Any, found: "Embeddings") -> None:
    """Mean distance of a neuron's examples, layer by layer, and how many features it has by the cut."""
    about = found.about
    neurons = sum(len(x.value) for x in found.layers)
    left, right = charts.panels(
        sheet, ["mean distance of a neuron's examples", "features a neuron"], columns=2,
        heading=f"Neuron embeddings: {about['model']['name']}",
        subtitle=f"{neurons:,} neurons, {about['settings']['tokens']:,} tokens, up to {about['settings']['top']} "
        "examples a neuron",
        note="1 - cosine of what a neuron receives times its weights; right: means over neurons that fire, "
        f"{about['settings']['linkage']} linkage",
    )  # fmt: skip
    at = METRICS.index("mean_distance")
    bins = np.linspace(0, 1.2, 61)
    top = max(x.features.sweep[~x.dead].mean(0).max() for x in found.layers)
    names = wording.apart([visible(layer.name) for layer in found.layers])
    for name, layer, hue in zip(names, found.layers, colours.depths(len(found.layers)), strict=True):
        values = layer.features.metrics[~layer.dead, at]
        share, _ = np.histogram(values, bins)
        left.plot((bins[1:] + bins[:-1]) / 2, share / max(1, len(values)), color=tuple(hue), label=name)
        right.plot(SWEEP, layer.features.sweep[~layer.dead].mean(0), "o-", ms=4, color=tuple(hue), label=name)
    right.set(xscale="log", yscale="log")
    right.minorticks_off()
    for axis, ticks in ((right.xaxis, SWEEP), (right.yaxis, (1, 2, 5, 10, 20, 50, 100))):
        axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
    right.set_ylim(0.9, 1.3 * top)
    charts.named(left, "mean distance (1 - cosine)", "share of neurons that fire")
    charts.named(right, "cut (1 - cosine)", "clusters a neuron")
    charts.legend(left, fontsize=8)
