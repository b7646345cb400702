"""`pk.projections`: the activations of layers along a closed loop of inputs, seen through random projections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import UsageError
from polykern.findings import Findings, Picture, Table, provenance
from polykern.heat import activations
from polykern.models import Subject
from polykern.points import codes_of
from polykern.progress import Progress, silent
from polykern.selectors import Select
from polykern.spectra.compute import of_subject
from polykern.spectra.probes import Probes, columns, probes
from polykern.spectra.variogram import Variogram, circle, gaussian, variogram
from polykern.statistics import Estimate, mean
from polykern.tail import Meeting, Tail

Reals = NDArray[np.float64]
LAGS = np.geomspace(1e-6, 0.25, 37)  # turns
DRAWN = 4096  # points of the drawn curve
BATCH = 512


@dataclass(frozen=True, eq=False)
class Loop:
    """One layer along the loop.

    name      of the nonlinearity, whose pre-activations they are
    curve     float32 (4096, 3)   one projection of the loop
    variogram of all projections
    polytope  mean length of a polytope of the layers in front of it on the loop, turns; inf for none
    probes    random directions beside neurons, over the examples; None where those have no classes
    """

    name: str
    curve: NDArray[np.float32]
    variogram: Variogram
    polytope: Estimate
    probes: Probes | None

    @property
    def slope_inside(self) -> float | None:
        """Slope of V over lags below a hundredth of the mean polytope; None where no two lags are."""
        lags = self.variogram.lags
        high = min(self.polytope.value / 100, float(lags[-1]))
        return self.variogram.slope(float(lags[0]), high) if (lags <= high).sum() >= 2 else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        v = self.variogram
        return {
            "polytope_turns": self.polytope.as_dict(),
            "crossover_turns": v.crossover(),
            "slope_inside_polytopes": self.slope_inside,
            "slope_at_large": v.slope(0.01, 0.1),
            "probes": None if self.probes is None else self.probes.as_dict(),
        }


@dataclass(frozen=True, eq=False)
class Projections(Findings):
    """Layers along a loop through three inputs.

    loops  name -> Loop, in the order of the layers
    """

    loops: dict[str, Loop]

    SCHEMA: ClassVar[str] = "polykern-projections/1"

    def numbers(self) -> dict[str, Any]:
        return {name: loop.as_dict() for name, loop in self.loops.items()}

    def tables(self) -> dict[str, Table]:
        every = list(self.loops.values())
        probed = [(x.name, x.probes) for x in every if x.probes is not None]
        scored = {"probes": columns(probed)} if probed else {}
        return {
            "variograms": {
                "site": np.repeat([x.name for x in every], [len(x.variogram.lags) for x in every]),
                "lag": np.concatenate([x.variogram.lags for x in every]),
                "v": np.concatenate([x.variogram.values for x in every]),
            },
            "curves": {
                "site": np.repeat([x.name for x in every], DRAWN),
                **{axis: np.concatenate([x.curve[:, k] for x in every]) for k, axis in enumerate("xyz")},
            },
            **scored,
        }

    def pictures(self) -> dict[str, Picture]:
        from polykern.spectra import figure

        height = 200 + 330 * -(-len(self.loops) // 4)
        probed = any(x.probes is not None for x in self.loops.values())
        scored = {"probes": Picture(1200, 560, lambda sheet: figure.probes(sheet, self))} if probed else {}
        return {
            "variograms": Picture(1200, 620, lambda sheet: figure.variograms(sheet, self)),
            "curves": Picture(1300, height, lambda sheet: figure.curves(sheet, self)),
            **scored,
        }


def projections(
    subject: Subject,
    inputs: Sequence[str | int] | None = None,
    *,
    start: str | None = None,
    select: Select = "*",
    places: int = 256,
    repeats: int = 8,
    directions: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> Projections:
    """Layers along the circle through three inputs: drawn in three random dimensions, and their variograms.

    subject  a network and its data
    inputs   three examples or files; None: the subject's own
    start    module in whose input space the circle lies; None: the subject's own
    select   the nonlinearities whose pre-activations are looked at
    places   on the circle that each lag is taken at
    repeats  projections to three dimensions
    directions  random ones, and as many neurons, of each layer that are scored by the classes of the examples
    seed     of places, projections and directions
    progress called with (stage, done, total)

    float64 throughout. The mean polytope of a layer is that of the codes in front of it, by bits that differ over
    1/65,536 of a turn. Errors: UsageError for three inputs on a line.
    """
    tell = progress or silent
    begin = subject.default_start if start is None else start
    chosen = list(subject.default_examples if inputs is None else inputs)
    if len(chosen) != 3:
        raise UsageError(f"a circle goes through three inputs, got {len(chosen)}")
    anchors = activations(subject, begin, subject.inputs(chosen)[0])
    at = circle(*anchors)
    tail = Tail(subject.model, subject.sample, begin, select=select).to(torch.float64)
    polytopes = _polytopes(tail, at, seed)
    found: dict[str, Loop] = {}
    for k, field in enumerate(tail.layout.fields):
        tell("layers", k, len(tail.layout.fields))
        code = _layer(tail, k, at)
        p = gaussian(field.units, 3, repeats, seed)
        v = variogram(code, LAGS, places=places, projections=p, seed=seed)
        curve = torch.cat([code(t) @ p[:, :3] for t in (torch.arange(DRAWN).double() / DRAWN).split(BATCH)])
        found[field.name] = Loop(
            field.name, curve.float().numpy(), v, polytopes[k],
            _probes(subject, field.name, directions, seed),
        )  # fmt: skip
    tell("layers", len(found), len(found))
    about = provenance(subject, tail, seed=seed, inputs=[str(c) for c in chosen], places=places, repeats=repeats,
                       directions=directions)  # fmt: skip
    return Projections(about, found)


def _layer(tail: Tail, index: int, at: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The pre-activations of one nonlinearity at places on the loop."""
    field = tail.layout.fields[index]

    def code(t: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def reach(met: Meeting) -> Any:
            if met.field == field:
                seen.append(met.z.flatten(1))
            return met.proceed()

        for part in t.split(BATCH):
            tail.run(at(part), reach, output=False)
        return torch.cat(seen)

    return code


def _probes(subject: Subject, name: str, directions: int, seed: int) -> Probes | None:
    """Random directions and neurons of one layer, over all examples; None where those have no classes."""
    if subject.examples.targets is None:
        return None
    chunks = next(site.chunks for site in of_subject(subject, [name], codes=False) if site.name == name)
    parts = [(rows, items) for rows, items in chunks if isinstance(rows, Tensor)]
    items = np.concatenate([i for _, i in parts]).astype(np.int64)
    classes = np.asarray(subject.examples.targets, np.int64)[items]
    return probes(torch.cat([r for r, _ in parts]).double().numpy(), classes, items, most=directions, seed=seed)


def _polytopes(tail: Tail, at: Callable[[Tensor], Tensor], seed: int) -> list[Estimate]:
    """Mean length of a polytope of the nonlinearities in front of each, in turns."""
    step = 1.0 / (1 << 16)
    t = torch.from_numpy(np.random.default_rng(seed).random(2048))
    here, there = (codes_of(tail, at(x)) for x in (t, (t + step) % 1))
    flips = here.aligned_by_field(there).double().numpy()  # (fields, places)
    found = [Estimate(float("inf"), float("inf"), float("inf"), 0.95)]  # nothing lies in front of the first
    for k in range(1, len(flips)):
        crossed = mean(flips[:k].sum(0) / step, level=0.95, seed=seed)
        value, low, high = (1 / c if c > 0 else float("inf") for c in (crossed.value, crossed.high, crossed.low))
        found.append(Estimate(value, low, high, 0.95))
    return found
