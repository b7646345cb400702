"""Boundaries at initialisation: crossings of a line and the distance to the nearest boundary, by number of neurons.

Fully connected networks with weights N(0, 2 / inputs) (He) and biases N(0, bias^2); without biases all boundaries
would pass through the origin. Lines lie between two standard normal points. Hanin, Rolnick 2019, "Complexity of
Linear Regions in Deep Networks" (arXiv:1901.09021): a mean number of crossings per length that is proportional to
the number of neurons, whatever the depth, and a mean distance to the nearest boundary of the order of 1 / neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from polykern.affine import boundary_distances
from polykern.boundaries.records import Record, averaged, columns, record, told, values, where
from polykern.boundaries.setting import LEVEL, RESAMPLES, Setting
from polykern.errors import UsageError
from polykern.findings import Picture, Table
from polykern.lines import crossings_of_lines
from polykern.progress import Progress
from polykern.report import charts
from polykern.statistics import bootstrap

WIDTHS, DEPTHS = (16, 32, 64, 128), (1, 2, 3, 4)
INPUTS, BIAS = 16, 0.1
NETWORKS, LINES = 12, 2  # of each size; lines and points of each network
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Initialisation:
    """Random networks of many sizes.

    records  of width, depth, neurons, what ("crossings" per L2, "distance" L2): means over networks
    fits     of what: "slope" of crossings per L2 against neurons; "exponent" of the distance against neurons;
             "depth N", crossings per L2 and neuron at that depth
    r2       share of the variance of the mean crossings of all sizes that the straight line explains
    inputs, bias, networks, lines  as `at_initialisation` was asked
    """

    records: tuple[Record, ...]
    fits: tuple[Record, ...]
    r2: float
    inputs: int
    bias: float
    networks: int
    lines: int

    def numbers(self) -> dict[str, Any]:
        """Slope, R^2, exponent, and the slope of every depth by itself."""
        settings = {"inputs": self.inputs, "bias": self.bias, "networks": self.networks, "lines": self.lines}
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
            subtitle=f"He weights, biases N(0, {self.bias:g}²), {self.inputs} inputs, "
            f"{self.networks} networks of a size",
            note="crossings are exact; bars: 95% bootstrap intervals over networks",
        )  # fmt: skip
        fits = {r["what"]: r for r in self.fits}
        for axes, what in ((left, "crossings"), (right, "distance")):
            for depth, colour in zip(dict.fromkeys(r["depth"] for r in self.records), charts.PALETTE, strict=False):
                neurons, value, low, high = values(
                    where(self.records, what=what, depth=depth), "neurons", "value", "low", "high"
                )
                axes.errorbar(
                    neurons, value, np.stack([value - low, high - value]), fmt="o", ms=4, capsize=2, lw=1,
                    color=colour, label=f"depth {depth}",
                )  # fmt: skip
            charts.named(axes, "neurons", "crossings per L2" if what == "crossings" else "L2")
        sizes = sorted({r["neurons"] for r in self.records})
        reach = np.array([sizes[0], sizes[-1]], np.float64)
        charts.line(
            left, reach, fits["slope"]["intercept"] + fits["slope"]["value"] * reach, lw=1, colour="#5d6570",
            label=f"{fits['slope']['value']:.3g} a neuron",
        )  # fmt: skip
        exponent, factor = fits["exponent"]["value"], np.exp(fits["exponent"]["intercept"])
        charts.line(right, reach, factor * reach**exponent, lw=1, colour="#5d6570", label=f"power {exponent:.2f}")
        right.set(xscale="log", yscale="log")
        ticks = [sizes[0] << k for k in range(int(np.log2(sizes[-1] / sizes[0])) + 1)]
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
    return at_initialisation(seed=setting.seed, progress=progress)


def at_initialisation(
    widths: Sequence[int] = WIDTHS,
    depths: Sequence[int] = DEPTHS,
    *,
    inputs: int = INPUTS,
    bias: float = BIAS,
    networks: int = NETWORKS,
    lines: int = LINES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Initialisation:
    """Crossings of lines and distances to the nearest boundary in random networks of every width and depth.

    widths, depths  neurons of a layer, layers
    inputs          dimensions of the space
    bias            standard deviation of the biases
    networks        of each size
    lines           in each network, and points whose nearest boundary is looked for
    seed            of weights, lines and points
    progress        called with (stage, done, total)

    Crossings and distances are exact, in float64. Errors: UsageError for fewer than two sizes, or networks of one.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [(width, depth) for width in widths for depth in depths]
    if networks < 2 or len(sizes) < 2:
        raise UsageError(f"{networks} networks of {len(sizes)} sizes", fix="take two of each or more")
    rows: dict[str, list[Reals]] = {"crossings": [], "distance": []}
    records = []
    for k, (width, depth) in enumerate(sizes):
        if progress is not None:
            progress("random networks", k, len(sizes))
        drawn = (he_network(width, depth, inputs, bias, generator) for _ in range(networks))
        every = np.array([_of_one(network, inputs, lines, generator) for network in drawn])
        for what, found in zip(rows, every.T, strict=True):
            rows[what].append(found)
            records.append(averaged(found, seed, width=width, depth=depth, neurons=width * depth, what=what))
    if progress is not None:
        progress("random networks", len(sizes), len(sizes))
    crossings, distance = (np.array(rows[what]) for what in rows)
    neurons = np.array([w * d for w, d in sizes], np.float64)
    fits = [_fit("slope", neurons, crossings, seed), _fit("exponent", np.log(neurons), distance, seed, log=True)]
    for depth in depths:
        chosen = [k for k, (_, d) in enumerate(sizes) if d == depth]
        each = (crossings[chosen] / neurons[chosen, None]).ravel()
        fits.append({**averaged(each, seed, what=f"depth {depth}"), "intercept": 0.0})
    r2 = _r2(neurons, crossings.mean(1))
    return Initialisation(tuple(records), tuple(fits), r2, inputs, bias, networks, lines)


def _of_one(network: nn.Module, inputs: int, lines: int, generator: torch.Generator) -> tuple[float, float]:
    """Crossings per L2, and distance to the nearest boundary: means over the lines and points of a network."""
    a, b, x = torch.randn(3, lines, inputs, generator=generator)
    found = crossings_of_lines(network, a, b, classes=False)
    nearest = [float(boundary_distances(network, point).distance.amin()) for point in x]
    return float(np.mean([len(c) / c.length for c in found])), float(np.mean(nearest))


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
