"""Local complexity around points of the training data, of the test data and random ones, by layer and radius."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polykern.boundaries.local import local_complexity
from polykern.boundaries.records import Record, averaged, columns, told, values, where
from polykern.boundaries.setting import Setting
from polykern.findings import Picture, Table
from polykern.progress import Progress
from polykern.report import charts

SHARES = (0.003, 0.02, 0.1, 0.5)  # radii as shares of the median distance of points
ALL = "all layers"
PANELS = 6


@dataclass(frozen=True)
class Local:
    """Mean local complexities.

    records  of network, points, radius (L2), layer (ALL: their sum), bits of the layer
    """

    records: tuple[Record, ...]

    def numbers(self) -> dict[str, Any]:
        """By network, set of points and radius: boundaries of all layers together."""
        found: dict[str, Any] = {}
        for r in where(self.records, layer=ALL):
            found.setdefault(r["network"], {}).setdefault(r["points"], {})[f"{r['radius']:.6g}"] = told(r)
        return found

    def tables(self) -> dict[str, Table]:
        """`local.csv`: every mean with its interval."""
        return {"local": columns(self.records)}

    def pictures(self) -> dict[str, Picture]:
        """`local.png`: a panel a layer."""
        layers = list(dict.fromkeys(r["layer"] for r in self.records))[:PANELS]
        rows = -(-len(layers) // 3)
        return {"local": Picture(1200, 176 + rows * 300, lambda figure: self._draw(figure, layers))}

    def _draw(self, figure: Any, layers: list[str]) -> None:
        bits = {r["layer"]: r["bits"] for r in self.records}
        titles = [f"{name} ({bits[name]:,} bits)" for name in layers]
        n = self.records[0]["n"]
        panels = charts.panels(
            figure, titles, columns=3, heading="Local complexity",
            subtitle=f"boundaries that a cross of radius r around a point meets, per r; mean of {n} points",
            note="solid: trained, dashed: untrained twin; bands: 95% bootstrap intervals over points",
        )  # fmt: skip
        networks = dict.fromkeys(r["network"] for r in self.records)
        for axes, layer in zip(panels, layers, strict=True):
            for network, style in zip(networks, ("-", "--"), strict=False):
                sets = dict.fromkeys(r["points"] for r in where(self.records, network=network))
                for points, colour in zip(sets, charts.PALETTE, strict=False):
                    chosen = where(self.records, network=network, points=points, layer=layer)
                    radius, value, low, high = values(chosen, "radius", "value", "low", "high")
                    label = points if network == next(iter(networks)) else ""
                    charts.line(
                        axes, radius, value / radius, low=low / radius, high=high / radius,
                        colour=colour, label=label, ls=style, marker="o", ms=3,
                    )  # fmt: skip
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            charts.named(axes, "r (L2)", "boundaries / r")
        charts.legend(panels[0], loc="lower left")


def measured(setting: Setting, progress: Progress) -> Local:
    """The local complexities of both networks on all sets of points."""
    records: list[Record] = []
    spaces = (setting.trained, setting.untrained)
    todo = [(space, name, points) for space in spaces for name, points in space.sets.items()]
    for k, (space, name, points) in enumerate(todo):
        progress("local complexity", k, len(todo))
        found = local_complexity(
            space.tail, points, setting.radii_of(space, SHARES), directions=setting.axes, dtype=setting.dtype
        )
        layers: list[tuple[str, int, Tensor]] = [(ALL, found.layout.bits, found.total)]
        layers += [(f.name, f.bits, found.counts[:, i]) for i, f in enumerate(found.layout.fields)]
        for layer, bits, counts in layers:
            for radius, row in zip(found.radii, counts, strict=True):
                what = {"network": space.name, "points": name, "radius": radius, "layer": layer, "bits": bits}
                records.append(averaged(row.cpu().numpy(), setting.seed, **what))
    progress("local complexity", len(todo), len(todo))
    return Local(tuple(records))
