"""What rays show: densities, classes and outputs from the origin through activations and beyond, and controls."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.findings import Findings, Picture, Table
from polykern.paths.along import Along
from polykern.paths.interpolation import shown_classes
from polykern.paths.means import interval
from polykern.paths.relatedness import Relatedness
from polykern.report import charts
from polykern.report.charts import PALETTE
from polykern.report.figures import INK
from polykern.statistics import spearman

SMOOTHED = 0.05  # standard deviation of the Gaussian over s, where the peak is looked for
INSIDE = (0.2, 0.9)  # between the origin and the activation
FAR = 1.5  # beyond the activation
SHOWN = 2  # rays that are drawn one by one
DIRECTIONS = {"images": "through images", "gaussian": "Gaussian noise", "absolute": "|Gaussian noise|"}


@dataclass(frozen=True, eq=False)
class Beam:
    """Rays of one kind through one network.

    network    "itself", "untrained" or "calibrated"
    direction  "images", "gaussian" or "absolute"
    labels     one a ray
    rays       one `Along` a ray, over the scales s
    """

    network: str
    direction: str
    labels: tuple[str, ...]
    rays: tuple[Along, ...]

    @cached_property
    def density(self) -> NDArray[np.float64]:
        """float64 (rays, steps): crossings per unit of length."""
        return np.stack([r.density for r in self.rays])

    @cached_property
    def smooth(self) -> NDArray[np.float64]:
        """float64 (rays, steps): the density smoothed over s."""
        from scipy.ndimage import gaussian_filter1d

        step = float(np.median(np.diff(self.rays[0].t)))
        return np.asarray(gaussian_filter1d(self.density, SMOOTHED / step, axis=1, mode="nearest"))

    @property
    def peaks(self) -> NDArray[np.float64]:
        """float64 (rays): s of the highest smoothed density; nan where nothing is crossed."""
        at = self.rays[0].middle[self.smooth.argmax(1)]
        return np.where(self.density.any(1), at, np.nan)

    def far_trend(self) -> NDArray[np.float64]:
        """float64 (rays): rank correlation of smoothed density and s beyond 1.5; nan where it is constant."""
        far = self.rays[0].middle > FAR
        s = self.rays[0].middle[far]
        return np.array([spearman(s, row[far], resamples=2).value for row in self.smooth])

    def changes_far(self) -> NDArray[np.bool_]:
        """bool (changes of the class beyond 1.5, on rays that cross anything): at a density below their median?"""
        low = []
        for ray, row in zip(self.rays, self.smooth, strict=True):
            far = ray.change[(ray.change > FAR) & row.any()]
            low.append(np.interp(far, ray.middle, row) < np.median(row))
        return np.concatenate(low)

    def numbers(self, seed: int) -> dict[str, Any]:
        """Crossings, peaks, the trend beyond and the classes of these rays."""
        peaks, trend = self.peaks, self.far_trend()
        peaks, trend = peaks[~np.isnan(peaks)], trend[~np.isnan(trend)]
        inside = (peaks > INSIDE[0]) & (peaks < INSIDE[1])
        missed = [r.missed for r in self.rays if r.missed is not None]
        found: dict[str, Any] = {
            "rays": len(self.rays),
            "crossings": [int(r.flips.sum()) for r in self.rays],
            "space folding": interval(np.array([r.folding for r in self.rays]), seed),
            "exact": not missed,
            "missed": float(np.mean(missed)) if missed else None,
            "peak": interval(peaks, seed),
            "peak between 0.2 and 0.9": interval(inside, seed),
            "trend beyond 1.5": interval(trend, seed),
        }
        if len(self.rays[0].classes):
            low = self.changes_far()
            found |= {
                "class changes": [len(r.change) for r in self.rays],
                "classes": len({k for r in self.rays for k in r.classes.tolist()}),
                "class changes beyond 1.5": sum(int((r.change > FAR).sum()) for r in self.rays),
                "of these at a density below the median": float(low.mean()) if len(low) else None,
            }
        return found


@dataclass(frozen=True, eq=False)
class Ray(Findings):
    """Densities, classes and outputs along rays s x from the origin through activations x and beyond.

    beams    by network and direction; the subject's own rays through images are the first
    names    of the classes, or None
    seed     of noise, controls and intervals
    related  how near consecutive classes of the first beam are in WordNet; None where that was not asked for
             or classes hardly change
    """

    beams: tuple[Beam, ...]
    names: tuple[str, ...] | None
    seed: int
    related: Relatedness | None = None

    SCHEMA: ClassVar[str] = "polykern-ray/1"

    def called(self, index: int) -> str:
        """What a class is called."""
        return self.names[index] if self.names else str(index)

    def beam(self, network: str = "itself", direction: str = "images") -> Beam:
        """The rays of a network in one kind of direction."""
        return next(b for b in self.beams if (b.network, b.direction) == (network, direction))

    def numbers(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for beam in self.beams:
            found.setdefault(beam.network, {})[beam.direction] = beam.numbers(self.seed)
        if self.related is not None:
            found["relatedness"] = self.related.numbers()
        shown = self.beams[0].rays[:SHOWN]
        if len(shown[0].classes):
            found["classes along the rays"] = {
                label: [
                    {"class": self.called(k), "from": low, "to": high}
                    for k, low, high in zip(
                        ray.classes.tolist(), [0.0, *ray.change], [*ray.change, ray.t[-1]], strict=True
                    )
                ]
                for label, ray in zip(self._labels(), shown, strict=True)
            }
        return found

    def _labels(self) -> list[str]:
        """Of the rays that are drawn, different ones."""
        return [f"{label} (ray {k + 1})" for k, label in enumerate(self.beams[0].labels[:SHOWN])]

    def tables(self) -> dict[str, Table]:
        first = self.beams[0]
        density: dict[str, Any] = {"s": first.rays[0].middle}
        rows: dict[str, list[Any]] = {k: [] for k in ("network", "direction", "ray", "label", "peak", "crossings")}
        changes: dict[str, list[Any]] = {k: [] for k in ("network", "direction", "ray", "s", "from", "to")}
        for beam in self.beams:
            for k, (ray, peak) in enumerate(zip(beam.rays, beam.peaks.tolist(), strict=True)):
                density[f"{beam.network}_{beam.direction}_{k}"] = ray.density
                values = beam.network, beam.direction, k, beam.labels[k], peak, int(ray.flips.sum())
                for column, value in zip(rows.values(), values, strict=True):
                    column.append(value)
                for at, a, b in zip(ray.change, ray.classes, ray.classes[1:], strict=False):
                    for column, value in zip(
                        changes.values(), (beam.network, beam.direction, k, at, int(a), int(b)), strict=True
                    ):
                        column.append(value)
        tables: dict[str, Table] = {"density": density, "rays": rows, "changes": changes}
        if (related := self.related) is not None:
            names = {k: [self.called(c) for c in getattr(related, k).tolist()] for k in ("before", "after")}
            tables["relatedness"] = {"ray": related.way, **names, "distance": related.distance}
        for k, ray in enumerate(first.rays[:SHOWN]):
            if ray.outputs is not None:
                columns = {f"output_{c}": column for c, column in enumerate(ray.outputs.T)}
                tables[f"outputs-{k}"] = {"s": ray.t, "class": ray.outputs.argmax(1), **columns}
        return tables

    def pictures(self) -> dict[str, Picture]:
        networks = len({b.network for b in self.beams})
        return {
            "ray": Picture(1200, 800, self._draw),
            "directions": Picture(1200, 176 + 300 * networks, self._draw_directions),
        }

    def _draw(self, figure: Any) -> None:
        first = self.beams[0]
        shown = first.rays[:SHOWN]
        outputs = shown[0].outputs is not None
        titles = [f"through {label}" for label in self._labels()] + ["output of the network"] * len(shown) * outputs
        drawn = charts.panels(
            figure, titles, columns=len(shown), heading="Along rays from the origin",
            subtitle=f"{self.about['model']['name']}, input space of {self.about['start'] or 'the model'}",
            note=f"Grey: {'every crossing' if shown[0].missed is None else 'sampled crossings'} per L2 in each "
            f"step; black: smoothed, standard deviation {SMOOTHED} in s. Dashed: s = 1, the activation. "
            "Dotted: the class changes.",
        )  # fmt: skip
        for k, ray in enumerate(shown):
            density, below = drawn[k], drawn[len(shown) + k] if outputs else None
            charts.line(density, ray.middle, first.density[k], colour="#b7bec6", lw=0.8)
            charts.line(density, ray.middle, first.smooth[k], colour=INK, lw=1.8)
            charts.named(density, "s", "boundaries per L2")
            density.set_ylim(0, 1.05 * max(first.density[k].max(), 1e-12))
            if below is not None:
                self._outputs(below, ray)
            for axes in (density, below):
                if axes is not None:
                    axes.set_xlim(0, ray.t[-1])
                    axes.axvline(1, color=INK, lw=1, ls="--")
                    for at in ray.change:
                        axes.axvline(at, color=INK, lw=0.9, ls=":")

    def _outputs(self, axes: Any, ray: Along) -> None:
        assert ray.outputs is not None
        shown = shown_classes(ray.outputs, ray.classes)
        low, high = ray.outputs[:, list(shown)].min(), ray.outputs[:, list(shown)].max()
        for k in range(ray.outputs.shape[1]) if ray.outputs.shape[1] <= 50 else ():
            axes.plot(ray.t, ray.outputs[:, k], color=charts.class_colour(-1), lw=0.7)
        for k in shown:
            charts.line(axes, ray.t, ray.outputs[:, k], label=self.called(k), colour=shown[k], lw=2)
        charts.named(axes, "s", "output (logit)")
        wide = max(high - low, 1e-12)
        axes.set_ylim(low - 0.1 * wide, high + 0.35 * wide)
        charts.legend(axes, loc="upper left", ncols=min(4, len(shown)), frameon=True, edgecolor="none")

    def _draw_directions(self, figure: Any) -> None:
        networks = list(dict.fromkeys(b.network for b in self.beams))
        name = self.about["model"]["name"]
        titles = {
            "itself": name,
            "untrained": f"{name}, weights as initialised",
            "calibrated": f"{name}, random weights, BatchNorm measured",
        }
        drawn = charts.panels(
            figure, [titles[n] for n in networks], columns=1, heading="Density along rays, and its controls",
            subtitle=f"in the input space of {self.about['start'] or 'the model'}; noise has the mean norm of the "
            "images' activations",
            note=f"Means over rays of the smoothed density ({SMOOTHED} in s), bands one standard error over rays.",
        )  # fmt: skip
        for axes, network in zip(drawn, networks, strict=True):
            most = 0.0
            for k, beam in enumerate(b for b in self.beams if b.network == network):
                each, rays = beam.smooth.mean(0), len(beam.rays)
                error = beam.smooth.std(0, ddof=1) / np.sqrt(rays) if rays > 1 else np.zeros_like(each)
                most = max(most, float((each + error).max()))
                charts.line(
                    axes, beam.rays[0].middle, each, label=f"{DIRECTIONS[beam.direction]} ({rays})",
                    colour=PALETTE[k], low=each - error, high=each + error,
                )  # fmt: skip
            axes.axvline(1, color=INK, lw=1, ls="--")
            axes.set_xlim(0, self.beams[0].rays[0].t[-1])
            axes.set_ylim(0, 1.15 * most or 1)
            charts.named(axes, "s", "boundaries per L2")
        charts.legend(drawn[0], loc="upper right")
