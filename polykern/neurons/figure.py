"""Figures of neuron embeddings: how polysemantic the neurons of each layer are, and latents with the loss."""

from typing import TYPE_CHECKING, Any

import numpy as np

from polykern.neurons.clusters import METRICS, SWEEP
from polykern.report import charts, colours, wording
from polykern.report.script import visible

if TYPE_CHECKING:
    from polykern.neurons.result import Embeddings
    from polykern.neurons.trial import LatentTrial


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
    bins, most = np.linspace(0, 1.2, 61), 1.0
    names = wording.apart([visible(layer.name) for layer in found.layers])
    for name, layer, hue in zip(names, found.layers, colours.depths(len(found.layers)), strict=True):
        values = layer.features.metrics[~layer.dead, at]
        share, _ = np.histogram(values, bins)
        left.plot((bins[1:] + bins[:-1]) / 2, share / max(1, len(values)), color=tuple(hue), label=name)
        if len(values):
            each = layer.features.sweep[~layer.dead].mean(0)
            right.plot(SWEEP, each, "o-", ms=4, color=tuple(hue), label=name)
            most = max(most, float(each.max()))
    right.set(xscale="log", yscale="log")
    right.minorticks_off()
    for axis, ticks in ((right.xaxis, SWEEP), (right.yaxis, (1, 2, 5, 10, 20, 50, 100))):
        axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
    right.set_ylim(0.9, 1.3 * most)
    charts.named(left, "mean distance (1 - cosine)", "share of neurons that fire")
    charts.named(right, "cut (1 - cosine)", "clusters a neuron")
    charts.legend(left, fontsize=8)


def trial(sheet: Any, found: "LatentTrial") -> None:
    """How far the examples of latents are apart, and what it costs: error and active latents of every run."""
    s = found.about["settings"]
    names = {"plain": "without the loss", "loss": "with the loss", "denser": "without, less sparse"}
    left, middle, right = charts.panels(
        sheet, ["mean distance of a latent's examples", "error of what is rebuilt", "mean distance"], columns=3,
        heading=f"Autoencoders and the loss of neuron embeddings: {found.about['model']['name']} {s['module']}",
        subtitle=f"{s['expansion']}-fold, {s['rows']:,} rows, {len(s['seeds'])} seeds; the loss has weight "
        f"{s['strength']:g}",
        note=f"sparsity {s['sparsity']:g}, {s['denser']:g} of the less sparse; distances (1 - cosine) of latents "
        "with two examples or more; a dot is a run; error: share of the variance, rows not learned on",
    )  # fmt: skip
    bins, at = np.linspace(0, 1.2, 49), METRICS.index("mean_distance")
    layers = {name: [r.layer for r in found.runs if r.condition == c] for c, name in names.items()} | {
        "neurons themselves": [found.neurons]
    }
    for k, (name, every) in enumerate(layers.items()):
        values = np.concatenate([x.features.metrics[x.features.size >= 2, at] for x in every])
        share, _ = np.histogram(values, bins)
        charts.line(
            left, (bins[1:] + bins[:-1]) / 2, share / max(1, len(values)), label=name, colour=charts.PALETTE[k]
        )
    for k, c in enumerate(names):
        x = found.of(c, "l0")
        middle.plot(x, found.of(c, "held_error"), "o", color=charts.PALETTE[k])
        right.plot(x, found.of(c, "mean_distance"), "o", color=charts.PALETTE[k])
    charts.named(left, "mean distance (1 - cosine)", "share of latents")
    for axes, y in ((middle, "error (share of variance)"), (right, "mean distance (1 - cosine)")):
        charts.named(axes, "latents active on a row", y)
        axes.set(xlim=(0, 1.08 * axes.get_xlim()[1]), ylim=(0, 1.08 * axes.get_ylim()[1]))
    charts.legend(left, fontsize=8.5)
