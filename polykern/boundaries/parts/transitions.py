"""Transitions around training points: their density in slices and on closed trajectories; Jacobians.

Novak et al. 2018 find, after training, fewer transitions and smaller Jacobians near training data than elsewhere. A
slice is the plane through three points; the density at a place of it is the mean over the four steps of length h
along its axes of the bits that differ, over h.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.boundaries.gradients import jacobian_norms
from polykern.boundaries.local import signs
from polykern.boundaries.records import Record, averaged, columns, told, values, where
from polykern.boundaries.setting import Setting, Space
from polykern.boundaries.trajectories import circle, loop, transitions
from polykern.findings import Picture, Table
from polykern.plane import Plane
from polykern.progress import Progress
from polykern.report import charts
from polykern_kernels import hamming

PLANES, PLACES, STEP = 24, 64, 0.02  # slices; places in each; h as a share of the median distance of points
CIRCLES, STEPS = 12, 256  # of each kind; points of each
SIDES = 32  # at most, of a loop of translations
PASSES = 8192  # copies of points for one set's Jacobians
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Around:
    """Transitions and Jacobians of both networks.

    slices     of network, over ("window", "triangle"): density at the three points of a slice over its mean in the
               window around them, or in their triangle
    paths      of network, path: transitions per L2 on circles through points of "one class" or "three classes", or
               "any points", and on loops of "shifts" of an image
    jacobians  of network, points, output ("output", "probabilities"): Frobenius norm
    """

    slices: tuple[Record, ...]
    paths: tuple[Record, ...]
    jacobians: tuple[Record, ...]

    def numbers(self) -> dict[str, Any]:
        """By network: the ratio in slices, the density on each kind of path, the Jacobian norms."""
        found: dict[str, Any] = {}
        for r in self.slices:
            found.setdefault(r["network"], {"paths": {}, "jacobians": {}})[f"at_points_over_{r['over']}"] = told(r)
        for r in self.paths:
            found[r["network"]]["paths"][r["path"]] = told(r)
        for r in self.jacobians:
            found[r["network"]]["jacobians"].setdefault(r["output"], {})[r["points"]] = told(r)
        return found

    def tables(self) -> dict[str, Table]:
        """`slices.csv`, `paths.csv` and, where the output is a vector, `jacobians.csv`."""
        tables = {"slices": columns(self.slices), "paths": columns(self.paths)}
        return tables | ({"jacobians": columns(self.jacobians)} if self.jacobians else {})

    def pictures(self) -> dict[str, Picture]:
        """`transitions.png`."""
        return {"transitions": Picture(1320, 500, self._draw)}

    def _draw(self, figure: Any) -> None:
        titles = ["density in slices", "transitions on closed paths"]
        drawn = self.jacobians[-1]["output"] if self.jacobians else ""
        titles += [f"Jacobian of the {drawn}"] * bool(drawn)
        panels = charts.panels(
            figure, titles, columns=len(titles), heading="Transitions around data",
            subtitle=f"{self.slices[0]['n']} slices through three points, {self.paths[0]['n']} paths of a kind",
            note="bars: 95% bootstrap intervals over slices, paths, points",
        )  # fmt: skip
        networks = list(dict.fromkeys(r["network"] for r in self.slices))
        self._bars(panels[0], networks, self.slices, "over")
        charts.named(panels[0], "", "at the points / there")
        panels[0].axhline(1.0, color="#5d6570", lw=1)
        self._bars(panels[1], networks, self.paths, "path")
        charts.named(panels[1], "", "transitions per L2")
        if drawn:
            self._bars(panels[2], networks, where(self.jacobians, output=drawn), "points")
            charts.named(panels[2], "", "Frobenius norm")
        for axes in panels:
            axes.set_ylim(top=1.15 * axes.get_ylim()[1])
        charts.legend(panels[0], loc="upper left", ncols=2)

    @staticmethod
    def _bars(axes: Any, networks: list[str], records: Any, key: str) -> None:
        names = list(dict.fromkeys(r[key] for r in records))
        by = [np.stack(values([r for r in records if r["network"] == n])) for n in networks]
        value, low, high = np.stack(by, -1)
        charts.bars(axes, names, networks, value, low, high)


def measured(setting: Setting, progress: Progress) -> Around:
    """Transitions and Jacobians of both networks around the points that the network was trained on."""
    slices: list[Record] = []
    paths: list[Record] = []
    jacobians: list[Record] = []
    for k, space in enumerate((setting.trained, setting.untrained)):
        progress("transitions", 3 * k, 6)
        slices += _slices(space, setting.seed)
        progress("transitions", 3 * k + 1, 6)
        paths += _paths(space, setting.seed)
        progress("transitions", 3 * k + 2, 6)
        jacobians += _jacobians(space, setting.seed)
    progress("transitions", 6, 6)
    return Around(tuple(slices), tuple(paths), tuple(jacobians))


def _slices(space: Space, seed: int) -> list[Record]:
    """The density at the points of slices over the mean of their windows and of their triangles."""
    rng = np.random.default_rng(seed)
    points = space.sets[space.learned]
    means: list[tuple[float, ...]] = []
    for _ in range(PLANES):
        plane = Plane.through(points[rng.choice(len(points), 3, replace=False)])
        window = plane.window()
        around = torch.from_numpy(rng.random((PLACES, 2))) * window.side + torch.tensor([window.u, window.v])
        between = torch.from_numpy(rng.dirichlet(np.ones(3), PLACES)) @ plane.uv  # uniform in the triangle
        found = plane_density(space, plane, torch.cat([plane.uv, around, between]), STEP * space.unit)
        means.append(tuple(float(part.mean()) for part in np.split(found, (3, 3 + PLACES))))
    at, *others = np.array(means).T
    records = []
    for over, mean in zip(("window", "triangle"), others, strict=True):
        ratios = at[mean > 0] / mean[mean > 0]  # a slice without boundaries has none
        records.append(averaged(ratios, seed, network=space.name, points=space.learned, over=over))
    return records


def plane_density(space: Space, plane: Plane, uv: Tensor, step: float) -> Reals:
    """float64 (n): boundaries per L2 around places uv (n, 2) of a plane, mean of four steps along its axes."""
    cross = step * torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    points = plane.points((uv[:, None] + cross).reshape(-1, 2))
    words = signs(space.tail, points).view(len(uv), 5, -1)
    own = words[:, :1].expand(-1, 4, -1).reshape(-1, words.shape[2])
    apart = hamming.aligned(own, words[:, 1:].reshape(own.shape))
    return np.asarray(apart.view(-1, 4).double().mean(1).cpu() / step)


def _paths(space: Space, seed: int) -> list[Record]:
    """Transitions per L2 on circles through three points, and on loops of shifts where points are images."""
    rng = np.random.default_rng(seed)
    points, labels = space.sets[space.learned], space.labels.get(space.learned)
    kinds = {"any points": _triples(rng, len(points))}
    if labels is not None and (alike := _alike(rng, labels)):
        kinds = {"one class": alike, "three classes": _unlike(rng, labels)}
    found = []
    for kind, triples in kinds.items():
        each = [transitions(space.tail, circle(points[t], STEPS), dtype=space.tail.dtype) for t in triples]
        found.append(averaged([t.density for t in each], seed, network=space.name, path=kind))
    if points.ndim == 4 and not space.tail.start and points.shape[3] <= SIDES:
        each = []
        for k in rng.choice(len(points), min(CIRCLES, len(points)), replace=False):
            turns = torch.stack([points[k].roll(shift, -1) for shift in range(points.shape[3])])
            each.append(transitions(space.tail, loop(turns, STEPS // len(turns)), dtype=space.tail.dtype))
        densities = [t.density for t in each]
        found.append(averaged(densities, seed, network=space.name, path="shifts"))
    return found


def _triples(rng: np.random.Generator, n: int) -> list[NDArray[np.int64]]:
    return [rng.choice(n, 3, replace=False) for _ in range(CIRCLES)]


def _alike(rng: np.random.Generator, labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Triples of one class; none where no class has three points."""
    classes, counts = np.unique(labels, return_counts=True)
    able = classes[counts >= 3]
    if not len(able) or len(classes) < 3:
        return []
    return [rng.choice(np.flatnonzero(labels == rng.choice(able)), 3, replace=False) for _ in range(CIRCLES)]


def _unlike(rng: np.random.Generator, labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Triples of three classes."""
    chosen = [rng.choice(np.unique(labels), 3, replace=False) for _ in range(CIRCLES)]
    return [np.array([rng.choice(np.flatnonzero(labels == c)) for c in three]) for three in chosen]


def _jacobians(space: Space, seed: int) -> list[Record]:
    """Norms of the Jacobians of output and probabilities, by set of points."""
    shape = space.tail.output_shape
    if shape is None or len(shape) != 1:
        return []
    found: list[Record] = []
    for output in ("output", "probabilities") if space.scored else ("output",):
        for name, points in space.sets.items():
            few = points[: max(2, PASSES // shape[0])]
            norms = jacobian_norms(space.tail, few, probabilities=output == "probabilities")
            found.append(averaged(norms.cpu().numpy(), seed, network=space.name, points=name, output=output))
    return found
