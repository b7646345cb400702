"""Local complexity over a training: at its checkpoints, around training points, test points and random ones."""

from collections.abc import Sized
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch

from polykern.boundaries.checkpoints import Course, course
from polykern.boundaries.parts.local import ALL
from polykern.boundaries.records import Record, averaged, columns, record, told, values, where
from polykern.boundaries.setting import LEVEL, RESAMPLES, Setting
from polykern.errors import UsageError
from polykern.findings import Picture, Table
from polykern.progress import Progress
from polykern.report import charts
from polykern.statistics import bootstrap
from polykern.tail import Tail

SHARE = 0.1  # radius as a share of the median distance of points
LAYERS = 6  # drawn


@dataclass(frozen=True)
class Training:
    """How local complexity goes with training.

    records   of step, points, layer (ALL: their sum), bits; boundaries
    accuracy  of step, points: share of points in their class, where classes are known
    changes   of points: boundaries of all layers at the last checkpoint over those at the first
    radius    L2
    """

    records: tuple[Record, ...]
    accuracy: tuple[Record, ...]
    changes: tuple[Record, ...]
    radius: float

    def numbers(self) -> dict[str, Any]:
        """By set of points: the first, the least, the last; and last over first."""
        found: dict[str, Any] = {"radius": self.radius}
        for change in self.changes:
            line = where(self.records, points=change["points"], layer=ALL)
            named = {"first": line[0], "least": min(line, key=lambda r: r["value"]), "last": line[-1]}
            found[change["points"]] = {name: {"step": r["step"], **told(r)} for name, r in named.items()}
            found[change["points"]]["last_over_first"] = told(change)
        return found

    def tables(self) -> dict[str, Table]:
        """`training.csv`: every mean with its interval; `accuracy.csv`."""
        return {"training": columns(self.records)} | ({"accuracy": columns(self.accuracy)} if self.accuracy else {})

    def pictures(self) -> dict[str, Picture]:
        """`training.png`."""
        return {"training": Picture(1320, 500, self._draw)}

    def _draw(self, figure: Any) -> None:
        sets = list(dict.fromkeys(r["points"] for r in self.records))
        titles = ["all layers", f"by layer, {sets[0]} points"] + ["accuracy"] * bool(self.accuracy)
        panels = charts.panels(
            figure, titles, columns=len(titles), heading="Local complexity over training",
            subtitle=f"boundaries within r = {self.radius:.3g} (L2); mean of {self.records[0]['n']} points",
            note="bands: 95% bootstrap intervals over points",
        )  # fmt: skip
        for name, colour in zip(sets, charts.PALETTE, strict=False):
            self._line(panels[0], where(self.records, points=name, layer=ALL), name, colour)
            if chosen := where(self.accuracy, points=name):
                self._line(panels[2], chosen, name, colour)
        layers = [x for x in dict.fromkeys(r["layer"] for r in self.records) if x != ALL][:LAYERS]
        for layer, colour in zip(layers, charts.PALETTE, strict=False):
            self._line(panels[1], where(self.records, points=sets[0], layer=layer), layer, colour)
        for axes, what in zip(panels, ("boundaries", "boundaries", "share of points"), strict=False):
            axes.set_xscale("symlog", linthresh=1)
            axes.set_ylim(bottom=0)
            charts.named(axes, "step of the optimiser", what)
            charts.legend(axes, loc="best")

    @staticmethod
    def _line(axes: Any, chosen: list[Record], label: str, colour: str) -> None:
        step, value, low, high = values(chosen, "step", "value", "low", "high")
        charts.line(axes, step, value, low=low, high=high, label=label, colour=colour, marker="o", ms=3)


def measured(setting: Setting, progress: Progress) -> Training:
    """The course of local complexity through the checkpoints that were given."""
    if setting.checkpoints is None:
        raise UsageError(
            f"the training of {setting.subject.name} is not known",
            fix="give checkpoints: pairs (step, model or state dict)",
        )
    space = setting.trained
    radius = setting.radii_of(space, (SHARE,))[0]
    known = len(setting.checkpoints) if isinstance(setting.checkpoints, Sized) else 0
    accuracy: list[Record] = []
    steps = count()

    def also(step: int, tail: Tail) -> None:
        done = next(steps)
        progress("training", done, max(known, done + 1))
        accuracy.extend(_accuracy(setting, step, tail))

    found = course(
        space.tail, setting.checkpoints, space.sets, radius, directions=setting.axes, dtype=setting.dtype, also=also
    )
    progress("training", len(found.steps), len(found.steps))
    return Training(_records(found, setting.seed), tuple(accuracy), _changes(found, setting.seed), radius)


def _records(found: Course, seed: int) -> tuple[Record, ...]:
    records = []
    for points, counts in found.counts.items():
        layers = [(ALL, found.layout.bits, counts.sum(1))]
        layers += [(f.name, f.bits, counts[:, i]) for i, f in enumerate(found.layout.fields)]
        for layer, bits, rows in layers:
            for step, row in zip(found.steps, rows, strict=True):
                what = {"step": step, "points": points, "layer": layer, "bits": bits}
                records.append(averaged(row.cpu().numpy(), seed, **what))
    return tuple(records)


def _changes(found: Course, seed: int) -> tuple[Record, ...]:
    changes = []
    for points, counts in found.counts.items():
        first, last = (counts[k].sum(0).cpu().numpy() for k in (0, -1))
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample may have no boundaries
            ratio = bootstrap(
                lambda a, b: b.mean(-1) / a.mean(-1), first, last, level=LEVEL, resamples=RESAMPLES, seed=seed
            )
        changes.append(record(ratio, len(first), points=points))
    return tuple(changes)


def _accuracy(setting: Setting, step: int, tail: Tail) -> list[Record]:
    """The share of points in their class, by set; nothing where the output gives no class."""
    space = setting.trained
    if not space.scored:
        return []
    found = []
    for points, labels in space.labels.items():
        out = tail.run(space.sets[points].to(tail.device, tail.dtype), lambda met: met.proceed())
        right = np.asarray(out.argmax(1).cpu().eq(torch.from_numpy(labels)), np.float64)
        found.append(averaged(right, setting.seed, step=step, points=points))
    return found
