"""What scaling and interpolating a residual stream change, with intervals, tables and figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.findings import Findings, Picture, Table
from polykern.report import charts, colours
from polykern.report.figures import INK
from polykern.statistics import Estimate, bootstrap, mean
from polykern.streams.interpolated import Plateaus
from polykern.streams.rescaling import Rescaling

STEEP = 0.1  # of the steps of a way: those in which most happens
LEVEL, RESAMPLES = 0.95, 2000
Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residual(Findings):
    """A transformer whose residual stream was scaled in front of an MLP and interpolated between texts.

    scaled  "live", "ideal", "held", "frozen" or "absent" (`rescaled`) -> bits that change, by MLP, factor and text
    ways    one `Plateaus` an interpolation
    block   number of the MLP in front of which the stream was scaled
    seed    of the intervals
    """

    scaled: Mapping[str, Rescaling]
    ways: tuple[Plateaus, ...]
    block: int
    seed: int

    SCHEMA: ClassVar[str] = "polykern-residual/1"

    def share(self, norms: str, layer: int, scale: int) -> Estimate:
        """Share of an MLP's bits that change at a factor, mean over texts with its 95 % interval by texts."""
        found = self.scaled[norms]
        return mean(found.flips[layer, scale] / found.bits[layer], level=LEVEL, resamples=RESAMPLES, seed=self.seed)

    def density(self, layer: int) -> Estimate:
        """Bits of an MLP that change per L2 in front of it, of all ways; 95 % interval by ways."""
        flips = [w.flips[layer].sum() for w in self.ways]
        lengths = [w.lengths[layer].sum() for w in self.ways]
        return bootstrap(
            lambda bits, far: bits.sum(-1) / far.sum(-1),
            flips,
            lengths,
            level=LEVEL,
            resamples=RESAMPLES,
            seed=self.seed,
        )

    def steep(self, layer: int | None) -> Estimate:
        """Share of a way's bits in the tenth of its steps where most change; None: of the output's movement."""
        rows = [w.moved if layer is None else w.flips[layer].astype(np.float64) for w in self.ways]
        return mean([steepest(row) for row in rows], level=LEVEL, resamples=RESAMPLES, seed=self.seed)

    def numbers(self) -> dict[str, Any]:
        found: dict[str, Any] = {"block": self.block, "scaled": {}}
        for norms, one in self.scaled.items():
            found["scaled"][norms] = {
                name: {f"{s:g}": self.share(norms, k, i).as_dict() for i, s in enumerate(one.scales)}
                for k, name in enumerate(one.fields)
                if k >= self.block
            }
        crossed = [int(w.flips.sum()) for w in self.ways]
        found["ways"] = {
            "ways": len(self.ways),
            "steps": len(self.ways[0].t),
            "bits that change": mean(crossed, level=LEVEL, resamples=RESAMPLES, seed=self.seed).as_dict(),
            "most likely tokens": self._tokens(),
            "share of the output's movement in its steepest tenth": self.steep(None).as_dict(),
            "layers": {
                name: {"density": self.density(k).as_dict(), "share in the steepest tenth": self.steep(k).as_dict()}
                for k, name in enumerate(self.ways[0].fields)
            },
        }
        return found

    def _tokens(self) -> dict[str, float] | None:
        changes = self.changes()
        return (
            None
            if changes is None
            else mean(changes + 1, level=LEVEL, resamples=RESAMPLES, seed=self.seed).as_dict()
        )

    def changes(self) -> NDArray[np.int64] | None:
        """int64 (ways): how often the most likely next token changes; None without a head."""
        tokens = [w.tokens for w in self.ways if w.tokens is not None]
        return np.array([(t[1:] != t[:-1]).sum() for t in tokens]) if tokens else None

    def tables(self) -> dict[str, Table]:
        scaling: dict[str, list[Any]] = {k: [] for k in ("norms", "layer", "scale", "text", "flips", "bits")}
        for norms, one in self.scaled.items():
            for (layer, scale, text), flips in np.ndenumerate(one.flips):
                row = norms, one.fields[layer], one.scales[scale], text, int(flips), int(one.bits[layer])
                for column, value in zip(scaling.values(), row, strict=True):
                    column.append(value)
        layers = len(self.ways[0].fields)
        steps: Table = {
            "way": np.repeat(np.arange(len(self.ways)), layers * len(self.ways[0].t)),
            "layer": np.tile(np.repeat(self.ways[0].fields, len(self.ways[0].t)), len(self.ways)),
            "t": np.tile(self.ways[0].t, len(self.ways) * layers),
            "flips": np.concatenate([w.flips.ravel() for w in self.ways]),
            "length": np.concatenate([w.lengths.ravel() for w in self.ways]),
        }
        output: dict[str, Any] = {
            "way": np.repeat(np.arange(len(self.ways)), len(self.ways[0].t)),
            "t": np.tile(self.ways[0].t, len(self.ways)),
            "moved": np.concatenate([w.moved for w in self.ways]),
        }
        tokens = [w.tokens[1:] for w in self.ways if w.tokens is not None]
        if tokens:
            output["token"] = np.concatenate(tokens)
        return {"scaling": scaling, "steps": steps, "output": output}

    def pictures(self) -> dict[str, Picture]:
        return {
            "residual": Picture(320 + 360 * len(self.scaled), 520, self._draw),
            "plateaus": Picture(1200, 520, self._draw_ways),
        }

    def _draw(self, figure: Any) -> None:
        titles = {
            "live": "norms as they are", "ideal": "without their eps", "held": "the MLP's own norm frozen",
            "frozen": "it and all behind it frozen", "absent": "no norms",
        }  # fmt: skip
        drawn = charts.panels(
            figure, [titles[n] for n in self.scaled], columns=len(self.scaled),
            heading=f"The residual stream scaled: {self.about['model']['name']}",
            subtitle=f"between attention and MLP of block {self.block}; {self.about['settings']['texts']} texts of "
            f"{self.about['settings']['tokens']} tokens",
            note="Share of an MLP's bits that change, mean over texts with 95 % bootstrap intervals by texts.",
        )  # fmt: skip
        last = len(next(iter(self.scaled.values())).fields) - 1
        shown = list(dict.fromkeys([self.block, min(self.block + 1, last), (self.block + last + 1) // 2, last]))
        most = 0.0
        for axes, (norms, one) in zip(drawn, self.scaled.items(), strict=True):
            at = np.append(one.scales, 1.0)
            order = np.argsort(at)
            for c, layer in enumerate(shown):
                each = [self.share(norms, layer, k) for k in range(len(one.scales))]
                value, low, high = (
                    np.append([getattr(e, k) for e in each], 0.0)[order] for k in ("value", "low", "high")
                )
                most = max(most, float(high.max()))
                charts.line(axes, at[order], value, label=f"MLP of block {layer}", colour=charts.PALETTE[c],
                            low=low, high=high, marker="o", ms=3)  # fmt: skip
            axes.set_xscale("log")
            charts.named(axes, "factor", "share of bits")
        for axes in drawn:
            axes.set_ylim(-0.02 * most, 1.3 * most or 1)
        charts.legend(drawn[0], loc="upper center", ncols=2)

    def _draw_ways(self, figure: Any) -> None:
        drawn = charts.panels(
            figure, ["bits that change in each step", "movement of the output"], columns=2,
            heading=f"From one text's last token to another's: {self.about['model']['name']}",
            subtitle=f"residual stream behind the first block; {len(self.ways)} ways, {len(self.ways[0].t)} steps",
            note="Over the mean of the way: 1 is even. Left: means over ways, bands one standard error. Right: "
            "ways grey, their mean black.",
        )  # fmt: skip
        fields = len(self.ways[0].fields)
        for c, layer in enumerate(dict.fromkeys([0, fields // 2, fields - 1])):
            rows = np.stack([_relative(w.flips[layer].astype(np.float64)) for w in self.ways])
            each, error = rows.mean(0), rows.std(0, ddof=1) / np.sqrt(len(rows))
            charts.line(
                drawn[0], self.ways[0].t, each, label=f"MLP of block {layer + 1}", colour=charts.PALETTE[c],
                low=each - error, high=each + error,
            )  # fmt: skip
        moved = np.stack([_relative(w.moved) for w in self.ways])
        for row in moved:
            charts.line(drawn[1], self.ways[0].t, row, colour=colours.OTHERS, lw=0.8)
        charts.line(drawn[1], self.ways[0].t, moved.mean(0), colour=INK)
        for axes in drawn:
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
            charts.named(axes, "t", "over the mean of the way")
        charts.legend(drawn[0], loc="upper center", ncols=3)


def steepest(values: Reals) -> float:
    """Share of a sum that its largest tenth of terms has; 0.1 where all are equal, 0 for nothing."""
    count = max(1, round(STEEP * len(values)))
    return float(np.sort(values)[-count:].sum() / max(values.sum(), 1e-300))


def _relative(values: Reals) -> Reals:
    return np.asarray(values / max(values.mean(), 1e-300))
