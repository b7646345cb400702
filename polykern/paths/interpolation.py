"""What a path shows: densities, classes and logits along one interpolation, and means over many by layer."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.findings import Findings, Picture, Table
from polykern.paths.along import Along
from polykern.paths.curves import Curve, crofton
from polykern.paths.evaluation import Balls
from polykern.paths.means import CONDITIONS, Means
from polykern.report import charts, colours
from polykern.report.charts import PALETTE
from polykern.report.figures import INK
from polykern.report.script import visible
from polykern.statistics import Estimate, bootstrap, pearson, spearman

BLOCK = 10  # positions that a bootstrap draws together: neighbours are not independent
COLUMNS = 2


@dataclass(frozen=True, eq=False)
class Path(Findings):
    """Densities along an interpolation between two activations.

    curve   the interpolation
    along   crossings, outputs and classes between its positions
    balls   local isotropic density at its positions
    means   over many pairs, layer by layer; None where they were not asked for
    labels  of the two ends
    names   of the classes, or None
    seed    of the directions and the bootstrap
    """

    curve: Curve
    along: Along
    balls: Balls
    means: Means | None
    labels: tuple[str, str]
    names: tuple[str, ...] | None
    seed: int

    SCHEMA: ClassVar[str] = "polykern-path/1"

    @property
    def dimension(self) -> int:
        """Of the space that the path lies in."""
        return self.curve.a.numel()

    def called(self, index: int) -> str:
        """What a class is called."""
        return self.names[index] if self.names else str(index)

    def near_change(self) -> NDArray[np.bool_]:
        """bool (n): positions at an end of a step in which the class changes."""
        steps = self.along.changing
        return np.append(steps, False) | np.insert(steps, 0, False)

    def change_correlation(self) -> Estimate:
        """Point-biserial correlation of ball density with `near_change`; blocks of ten positions are drawn."""
        return pearson(
            self.balls.density, self.near_change(), groups=self._blocks(), level=0.95, seed=self.seed
        )  # fmt: skip

    def agreement(self) -> Estimate:
        """Rank correlation of ball and path density over the positions; blocks of ten positions are drawn."""
        return spearman(
            self.balls.density, self.path_density(), groups=self._blocks(), level=0.95, resamples=500,
            seed=self.seed,
        )  # fmt: skip

    def path_density(self) -> NDArray[np.float64]:
        """float64 (n): crossings per unit of length in the steps beside each position."""
        flips, length = self.along.flips.sum(0), self.along.length
        counts, lengths = (np.append(x, 0) + np.insert(x, 0, 0) for x in (flips, length))
        return np.asarray(counts / lengths)

    def of_classes(self) -> dict[str, dict[str, float]]:
        """Of each class on the path: its share of the positions, and the mean ball density there."""
        if self.along.outputs is None:
            return {}
        winners = self.along.outputs.argmax(1)
        return {
            self.called(k): {
                "share": float((winners == k).mean()), "density": float(self.balls.density[winners == k].mean())
            }
            for k in np.unique(winners).tolist()
        }  # fmt: skip

    def _blocks(self) -> NDArray[np.int64]:
        """int64 (n): the block of each position; two halves where there is no more than one of ten."""
        n = len(self.along.t)
        return np.arange(n) // (BLOCK if n > BLOCK else -(-n // 2))

    def numbers(self) -> dict[str, Any]:
        along, total = self.along, int(self.along.flips.sum())
        density = bootstrap(
            lambda x: x.mean(-1), self.balls.density, groups=self._blocks(), level=0.95, resamples=2000,
            seed=self.seed,
        )  # fmt: skip
        found: dict[str, Any] = {
            "ends": list(self.labels),
            "interpolation": self.curve.kind,
            "angle": self.curve.angle,
            "length": float(along.length.sum()),
            "crossings": total,
            "hamming": along.hamming,
            "crossings over hamming": total / along.hamming if along.hamming else float("nan"),
            "space folding": along.folding,
            "exact": along.missed is None,
            "missed": along.missed,
            "positions": len(along.t),
            "ball radius": self.balls.radius,
            "ball density": density.as_dict(),
            "ball density over crofton": density.value / crofton(self.dimension),
            "ball standard error": float(self.balls.error.mean()),
            "rank correlation of ball and path density": self.agreement().as_dict(),
        }
        if along.outputs is not None:
            found["classes"] = [self.called(k) for k in along.classes.tolist()]
            found["changes"] = along.change.tolist()
            found["correlation of ball density with class changes"] = self.change_correlation().as_dict()
            found["by class"] = self.of_classes()
        if self.means is not None:
            found["pairs"] = self.means.density.shape[2]
            found["layers"] = self.means.numbers(self.seed)
        return found

    def tables(self) -> dict[str, Table]:
        along = self.along
        positions: dict[str, Any] = {
            "t": along.t, "ball_density": self.balls.density, "ball_error": self.balls.error,
            "path_density": self.path_density(),
        }  # fmt: skip
        if along.outputs is not None:
            positions["class"] = along.outputs.argmax(1)
            positions |= {f"output_{k}": column for k, column in enumerate(along.outputs.T)}
        layers = self.about["layers"]
        fields = {
            f"{layer['module']}[{layer['call']}]": row for layer, row in zip(layers, along.flips, strict=True)
        }
        tables: dict[str, Table] = {
            "positions": positions,
            "steps": {"t": along.middle, "length": along.length, "density": along.density, **fields},
        }
        if len(along.classes):
            tables["changes"] = {"t": along.change, "from": along.classes[:-1], "to": along.classes[1:]}
        if self.means is not None:
            tables["means"] = _means_table(self.means)
            tables["pairs"] = _pairs_table(self.means)
        return tables

    def pictures(self) -> dict[str, Picture]:
        found = {"path": Picture(1100, 860, self._draw)}
        if (means := self.means) is not None:
            rows = -(-len(means.layers) // COLUMNS)
            found["layers"] = Picture(1200, 176 + 330 * rows, lambda figure: self._draw_means(figure, means))
        return found

    def _draw(self, figure: Any) -> None:
        along, exact = self.along, "every crossing of the chords" if self.along.missed is None else "sampled"
        titles = ["Density of boundaries", "Output of the network"] if along.outputs is not None else ["Density"]
        drawn = charts.panels(
            figure, titles, columns=1, heading=f"From {self.labels[0]} to {self.labels[1]}",
            subtitle=f"{self.about['model']['name']}, {self.curve.kind} in the input space of "
            f"{self.about['start'] or 'the model'}; {len(along.t)} positions, {self.balls.flips.shape[2]} points "
            "in each ball",
            note=f"Ball: d_H / r at radius {self.balls.radius:.3g} L2, band two standard errors over directions. "
            f"Path: {exact}. Dotted: the class changes.",
        )  # fmt: skip
        top = drawn[0]
        charts.line(top, along.middle, along.density, label="path", colour="#9aa3ad", lw=1.1)
        density, error = self.balls.density, 2 * self.balls.error
        charts.line(
            top, along.t, density, label="ball", colour=PALETTE[0], low=density - error, high=density + error
        )
        most = max(along.density.max(), (density + error).max())
        top.set_ylim(0, 1.22 * most or 1)
        charts.named(top, "t", "boundaries per L2")
        charts.legend(top, loc="upper right", ncols=2)
        for axes in drawn:
            axes.set_xlim(0, 1)
            for at in along.change:
                axes.axvline(at, color=INK, lw=1, ls=":")
        if along.outputs is not None:
            _lane(top, self, 1.1 * most)
            _outputs(drawn[1], self)

    def _draw_means(self, figure: Any, means: Means) -> None:
        drawn = charts.panels(
            figure, [f"from {name or 'the input'} on" for name in means.layers], columns=COLUMNS,
            heading="Density along interpolations, layer by layer",
            subtitle=f"{self.about['model']['name']}: means over {means.density.shape[2]} pairs of either kind, "
            f"{self.about['settings']['kind']}",
            note="Sampled crossings per L2; bands are one standard error over pairs.",
        )  # fmt: skip
        each, error = means.mean(), means.sem()
        for k, axes in enumerate(drawn):
            for c, condition in enumerate(CONDITIONS):
                charts.line(
                    axes, means.middle, each[k, c], label=f"{condition} class{'es' * (not c)}", colour=PALETTE[c],
                    low=each[k, c] - error[k, c], high=each[k, c] + error[k, c], ls="-:"[c],
                )  # fmt: skip
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1.2 * (each[k] + error[k]).max() or 1)
            charts.named(axes, "t", "boundaries per L2")
        charts.legend(drawn[0], loc="lower center", ncols=2)


def _lane(axes: Any, path: Path, at: float) -> None:
    """The classes in turn, a coloured line at a height, named where there is room."""
    assert path.along.outputs is not None
    shown = shown_classes(path.along.outputs, path.along.classes)
    edges = np.concatenate([[0.0], path.along.change, [1.0]])
    for low, high, k in zip(edges, edges[1:], path.along.classes.tolist(), strict=False):
        axes.plot([low, high], [at, at], color=shown.get(k, colours.OTHERS), lw=5, solid_capstyle="butt")
        if high - low > 0.05:
            name = visible(path.called(k))
            axes.text((low + high) / 2, 1.03 * at, name, ha="center", fontsize=9, color=INK, parse_math=False)


def _outputs(axes: Any, path: Path) -> None:
    """The outputs of the classes that win somewhere or end highest; the others thin and grey."""
    outputs = path.along.outputs
    assert outputs is not None
    shown = shown_classes(outputs, path.along.classes)
    for k in range(outputs.shape[1]):
        if k not in shown and outputs.shape[1] <= 50:
            axes.plot(path.along.t, outputs[:, k], color=charts.class_colour(-1), lw=0.7)
    for k in shown:
        charts.line(axes, path.along.t, outputs[:, k], label=path.called(k), colour=shown[k], lw=2)
    charts.named(axes, "t", "output (logit)")
    charts.legend(axes, loc="upper left", ncols=min(8, len(shown)), frameon=True, edgecolor="none")
    low, high = outputs.min(), outputs.max()
    wide = max(high - low, 1e-12)
    axes.set_ylim(low - 0.05 * wide, high + 0.25 * wide)


def shown_classes(outputs: NDArray[np.float64], classes: NDArray[np.int64], most: int = 8) -> dict[int, str]:
    """Classes that are named in a figure, and their colours: those that win somewhere, in turn, at most `most`.

    A class has a colour of its own where there are no more classes than colours, else a place in turn has.
    """
    found = list(dict.fromkeys(classes.tolist()))[:most] or [int(outputs[0].argmax())]
    own = outputs.shape[1] <= len(colours.CLASSES)
    return {k: charts.class_colour(k if own else place) for place, k in enumerate(found)}


def _means_table(means: Means) -> Table:
    each, error = means.mean(), means.sem()
    layers, _, steps = each.shape
    return {
        "layer": np.repeat(means.layers, 2 * steps),
        "condition": np.tile(np.repeat(CONDITIONS, steps), layers),
        "t": np.tile(means.middle, 2 * layers),
        "density": each.ravel(),
        "sem": error.ravel(),
        "changes": means.changed.sum(2).ravel(),
    }


def _pairs_table(means: Means) -> Table:
    pairs = means.density.shape[2]
    table: dict[str, Any] = {
        "condition": np.repeat(CONDITIONS, pairs),
        "first": means.pairs[:, :, 0].ravel(),
        "second": means.pairs[:, :, 1].ravel(),
    }
    for k, layer in enumerate(means.layers):
        table[f"density_{layer or 'input'}"] = means.density[k].mean(2).ravel()
    return table
