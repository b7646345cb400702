"""Boundaries at initialisation: crossings of a line and the distance to the nearest boundary, by number of neurons.

Fully connected networks with weights N(0, 2 / inputs) (He) and biases N(0, bias^2); without biases all boundaries
would pass through the origin. Lines lie between two standard normal points. Hanin, Rolnick 2019, "Complexity of
Linear Regions in Deep Networks" (arXiv:1901.09021): a mean number of crossings per length that is proportional to
the number of neurons, whatever the depth, and a mean distance to the nearest boundary of the order of 1 / neurons.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from polykern.boundaries.gradients import nearest_boundary
from polykern.boundaries.records import Record, averaged, columns, record, told, values, where
from polykern.boundaries.setting import LEVEL, RESAMPLES, Setting
from polykern.findings import Picture, Table
from polykern.lines import crossings_of_lines
from polykern.report import charts
from polykern.statistics import bootstrap

WIDTHS, DEPTHS = (16, 32, 64, 128), (1, 2, 3, 4)
INPUTS, BIAS = 16, 0.1
NETWORKS, LINES = 12, 2  # of each size; lines and points of each network
Progress = Callable[[str, int, int], None]
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Initialisation:
    """Random networks of many sizes.

    records  of width, depth, neurons, what ("crossings" per L2, "distance" L2): means over networks
    fits     of what: "slope" of crossings per L2 against neurons; "exponent" of the distance against neurons;
             "depth N", crossings per L2 and neuron at that depth
    r2       share of the variance of the mean crossings of all sizes that the straight line explains
    """

    records: tuple[Record, ...]
    fits: tuple[Record, ...]
    r2: float

    def numbers(self) -> dict[str, Any]:
        """Slope, R^2, exponent, and the slope of every depth by itself."""
        settings = {"inputs": INPUTS, "bias": BIAS, "networks": NETWORKS, "lines": LINES}
        return {"r2": self.r2, **{r["what"]: told(r) for r in self.fits}, "settings": settings}

    def tables(self) -> dict[str, Table]:
        """`initialisation.csv`: every size."""
        return {"initialisation": columns(self.records)}

    def pictures(self) -> dict[str, Picture]:
        """`initialisation.png`."""
        return {"initialisation": Picture(1100, 520, self._draw)}

    def _draw(self, figure: Any) -> None:
        left, right = charts.panels(
            figure, [f"crossings of a line, R² = {self.r2:.4f}", "distance to the nearest boundary"], columns=2,
            heading="Boundaries at initialisation",
            subtitle=f"He weights, biases N(0, {BIAS}²), {INPUTS} inputs; {NETWORKS} networks of each of "
            f"{len(WIDTHS) * len(DEPTHS)} sizes",
            note="crossings are exact; bars: 95% bootstrap intervals over networks",
        )  # fmt: skip
        fits = {r["what"]: r for r in self.fits}
        for axes, what in ((left, "crossings"), (right, "distance")):
            for depth, colour in zip(DEPTHS, charts.PALETTE, strict=False):
                neurons, value, low, high = values(
                    where(self.records, what=what, depth=depth), "neurons", "value", "low", "high"
                )
                axes.errorbar(
                    neurons, value, np.stack([value - low, high - value]), fmt="o", ms=4, capsize=2, lw=1,
                    color=colour, label=f"depth {depth}",
                )  # fmt: skip
            charts.named(axes, "neurons", "crossings per L2" if what == "crossings" else "L2")
        reach = np.array([min(WIDTHS) * min(DEPTHS), max(WIDTHS) * max(DEPTHS)], np.float64)
        charts.line(
            left, reach, fits["slope"]["intercept"] + fits["slope"]["value"] * reach, lw=1, colour="#5d6570",
            label=f"{fits['slope']['value']:.3g} a neuron",
        )  # fmt: skip
        exponent, factor = fits["exponent"]["value"], np.exp(fits["exponent"]["intercept"])
        charts.line(right, reach, factor * reach**exponent, lw=1, colour="#5d6570", label=f"power {exponent:.2f}")
        right.set(xscale="log", yscale="log")
        ticks = [16 << k for k in range(6)]
        right.set_xticks(ticks, [str(t) for t in ticks])
        right.minorticks_off()
        charts.legend(left, loc="upper left")
        charts.legend(right, loc="lower left")


def he_network(width: int, depth: int, inputs: int, bias: float, generator: torch.Generator) -> nn.Sequential:
    """A ReLU network with weights N(0, 2 / inputs of the layer), biases N(0, bias^2) and one output."""
    layers: list[nn.Module] = []
    for given in (inputs, *[width] * (depth - 1)):
        layer = nn.Linear(given, width)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(width, given, generator=generator) * (2 / given) ** 0.5)
            layer.bias.copy_(torch.randn(width, generator=generator) * bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1)).eval()


def measured(setting: Setting, progress: Progress) -> Initialisation:
    """Random networks of all sizes; the subject plays no part in it, the seed does."""
    generator = torch.Generator().manual_seed(setting.seed)
    sizes = [(width, depth) for width in WIDTHS for depth in DEPTHS]
    rows: dict[str, list[Reals]] = {"crossings": [], "distance": []}
    records = []
    for k, (width, depth) in enumerate(sizes):
        progress("random networks", k, len(sizes))
        every = np.array([_of_one(width, depth, generator) for _ in range(NETWORKS)])
        for what, found in zip(rows, every.T, strict=True):
            rows[what].append(found)
            records.append(
                averaged(found, setting.seed, width=width, depth=depth, neurons=width * depth, what=what)
            )
    progress("random networks", len(sizes), len(sizes))
    crossings, distance = (np.array(rows[what]) for what in rows)
    neurons = np.array([w * d for w, d in sizes], np.float64)
    fits = [_fit("slope", neurons, crossings, setting.seed)]
    fits.append(_fit("exponent", np.log(neurons), distance, setting.seed, log=True))
    for depth in DEPTHS:
        chosen = [k for k, (_, d) in enumerate(sizes) if d == depth]
        each = (crossings[chosen] / neurons[chosen, None]).ravel()
        fits.append({**averaged(each, setting.seed, what=f"depth {depth}"), "intercept": 0.0})
    return Initialisation(tuple(records), tuple(fits), _r2(neurons, crossings.mean(1)))


def _of_one(width: int, depth: int, generator: torch.Generator) -> tuple[float, float]:
    """Crossings per L2, and distance to the nearest boundary: means over the lines and points of a network."""
    network = he_network(width, depth, INPUTS, BIAS, generator)
    a, b, x = torch.randn(3, LINES, INPUTS, generator=generator)
    lines = crossings_of_lines(network, a, b, classes=False)
    return float(np.mean([len(c) / c.length for c in lines])), float(nearest_boundary(network, x).mean())


def _fit(what: str, x: Reals, y: Reals, seed: int, *, log: bool = False) -> Record:
    """The straight line through the means of y (sizes, networks), or their logarithms; interval over networks."""
    centred = x - x.mean()

    def slope(*networks: Reals) -> Reals:
        means = np.stack(networks).mean(-1)  # (sizes, resamples)
        found: Reals = centred @ (np.log(means) if log else means) / (centred @ centred)
        return found

    estimate = bootstrap(slope, *y, level=LEVEL, resamples=RESAMPLES, seed=seed)
    means = np.log(y.mean(1)) if log else y.mean(1)
    return record(estimate, y.size, what=what) | {"intercept": float(means.mean() - estimate.value * x.mean())}


def _r2(x: Reals, y: Reals) -> float:
    left = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(1 - left @ left / ((y - y.mean()) @ (y - y.mean())))
