"""Densities along many interpolations, layer by layer: between images of one class, and of two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import UsageError
from polykern.heat import activations
from polykern.models import Subject
from polykern.paths.along import Along, along
from polykern.paths.curves import curve
from polykern.paths.evaluation import balls, tail_at
from polykern.progress import Progress
from polykern.selectors import Select
from polykern.statistics import Estimate, bootstrap, mean, pearson, spearman
from polykern.tail import Tail

CONDITIONS = ("different", "same")  # classes of the two images
PARTS = {"ends": (0.0, 0.1), "quarters": (0.2, 0.3), "middle": (0.45, 0.5)}  # distance of t from the nearer end
LAYERS = 6  # most that are taken when none are named
BATCH = 32  # images in a pass
SPARSE = 4  # of so many steps of a path one gets a ball, where there are enough


@dataclass(frozen=True, eq=False)
class Means:
    """Densities along interpolations of many pairs of images.

    layers   names of the start modules
    middle   float64 (steps)                            t in the middle of each step
    density  float64 (layers, 2, pairs, steps)          crossings per L2; axis 1 as in `CONDITIONS`
    changed  bool (layers, 2, pairs, steps)             whether the class changes in a step
    missed   float64 (layers)                           share of crossings that the last halving of steps found
    pairs    int64 (2, pairs, 2)                        numbers of the images
    checked  float64 (2, checked, positions)            density in balls and of the path around them, along paths of
                                                        different classes from the subject's own start
    """

    layers: tuple[str, ...]
    middle: NDArray[np.float64]
    density: NDArray[np.float64]
    changed: NDArray[np.bool_]
    missed: NDArray[np.float64]
    pairs: NDArray[np.int64]
    checked: NDArray[np.float64]

    def agreements(self) -> NDArray[np.float64]:
        """float64 (checked): rank correlation of ball and path density over the positions of each path."""
        return np.array([spearman(a, b, resamples=2).value for a, b in zip(*self.checked, strict=True)])

    def agreement_of_means(self, seed: int = 0) -> Estimate:
        """Rank correlation of the two over positions once they are averaged over paths; 95 % interval by paths."""
        return bootstrap(
            lambda row: _of_means(self.checked, row), np.arange(self.checked.shape[1]), level=0.95, resamples=500,
            seed=seed,
        )  # fmt: skip

    def mean(self) -> NDArray[np.float64]:
        """float64 (layers, 2, steps): over pairs."""
        return np.asarray(self.density.mean(2))

    def sem(self) -> NDArray[np.float64]:
        """float64 (layers, 2, steps): its standard error, sd / sqrt(pairs)."""
        return np.asarray(self.density.std(2, ddof=1) / np.sqrt(self.density.shape[2]))

    def crossed(self, layer: int, condition: int) -> NDArray[np.bool_]:
        """bool (pairs): whether a path crosses anything; the others have no profile."""
        return np.asarray(self.density[layer, condition].any(1))

    def part(self, layer: int, condition: int, name: str) -> NDArray[np.float64]:
        """float64 (pairs that cross anything): density in a part of the paths, over that of the whole path.

        NaN where there are too few positions for any to lie in the part.
        """
        low, high = PARTS[name]
        inner = np.minimum(self.middle, 1 - self.middle)
        each = self.density[layer, condition, self.crossed(layer, condition)]
        within = (inner >= low) & (inner <= high)
        if not within.any():
            return np.full(len(each), np.nan)
        return np.asarray(each[:, within].mean(1) / each.mean(1))

    def numbers(self, seed: int) -> dict[str, Any]:
        """Of each layer and condition: the parts of the path over the whole, and the correlation with changes.

        None in place of what fewer than two pairs that cross anything do not tell.
        """
        found: dict[str, Any] = {}
        for k, layer in enumerate(self.layers):
            found[layer or "input"] = {"missed": float(self.missed[k])} | {
                condition: self._of(k, c, seed) for c, condition in enumerate(CONDITIONS)
            }
        each = self.agreements()
        if len(each):
            found["rank correlation of ball and path density"] = {
                "mean": interval(each, seed),
                "least": float(each.min()), "pairs": len(each),
                "of the means over pairs": self.agreement_of_means(seed).as_dict() if len(each) > 1 else None,
            }  # fmt: skip
        return found

    def _of(self, layer: int, condition: int, seed: int) -> dict[str, Any]:
        of: dict[str, Any] = {"density": float(self.density[layer, condition].mean())}
        for name in PARTS:
            of[name] = interval(self.part(layer, condition, name), seed)
        of["pairs that cross nothing"] = int((~self.crossed(layer, condition)).sum())
        rise, with_changes = self.rise(layer, condition, seed), self.correlation(layer, condition, seed)
        of["middle minus ends"] = rise and rise.as_dict()
        of["class changes"] = int(self.changed[layer, condition].sum())
        of["correlation with class changes"] = with_changes and with_changes.as_dict()
        return of

    def rise(self, layer: int, condition: int, seed: int = 0) -> Estimate | None:
        """Mean over pairs of the part in the middle minus that at the ends; None of fewer than two that cross."""
        rise = self.part(layer, condition, "middle") - self.part(layer, condition, "ends")
        return mean(rise, level=0.95, seed=seed) if len(rise) > 1 else None

    def correlation(self, layer: int, condition: int, seed: int = 0) -> Estimate | None:
        """Point-biserial correlation of a step's density, relative to its path's mean, with a change in it.

        None of fewer than two pairs that cross anything.
        """
        crossed = self.crossed(layer, condition)
        if crossed.sum() < 2:
            return None
        each, changed = self.density[layer, condition, crossed], self.changed[layer, condition, crossed]
        relative = each / each.mean(1, keepdims=True)
        pair = np.repeat(np.arange(len(each)), each.shape[1])
        return pearson(relative.ravel(), changed.ravel(), groups=pair, level=0.95, resamples=500, seed=seed)


def interval(values: NDArray[Any], seed: int) -> dict[str, float] | None:
    """Mean of values (n) with its 95 % interval, for JSON; None of fewer than two."""
    return mean(values, level=0.95, seed=seed).as_dict() if len(values) > 1 else None


def layers_of(subject: Subject, stop: str = "", select: Select = "*", most: int = LAYERS) -> list[str]:
    """Names of start modules from the input to the output: children of the model with parameters and bits behind.

    most  of more, so many are taken at equal distances, the first and the last among them

    Errors: UsageError where there are none.
    """
    found = []
    for name, module in subject.model.named_children():
        if not any(True for _ in module.parameters()):
            continue
        try:
            tail = Tail(subject.model, subject.sample, name, stop=stop, select=select)
        except UsageError:
            continue  # nothing bends behind it
        found.append((-tail.layout.bits, name))
    names = [name for _, name in sorted(found, key=lambda f: f[0])]
    if not names:
        return [subject.default_start]
    return [names[round(k)] for k in np.linspace(0, len(names) - 1, min(most, len(names)))]


def drawn_pairs(targets: Sequence[int], count: int, seed: int) -> NDArray[np.int64]:
    """int64 (2, count, 2): different pairs of images of different classes, and of one class, at random.

    targets  class of every image

    Errors: UsageError where there are not as many pairs.
    """
    label = np.asarray(targets)
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(len(label), 1)
    found = []
    for name, wanted in zip(
        CONDITIONS, (label[first] != label[second], label[first] == label[second]), strict=True
    ):
        rows = np.flatnonzero(wanted)
        if len(rows) < count:
            raise UsageError(
                f"there are {len(rows)} pairs of images of {name} classes, not {count}", fix="ask for fewer"
            )
        chosen = rng.permutation(rows)[:count]
        found.append(rng.permuted(np.stack([first[chosen], second[chosen]], 1), axis=1))
    return np.stack(found)


def means(
    subject: Subject,
    *,
    layers: Sequence[str],
    pairs: int,
    kind: str,
    t: NDArray[np.float64],
    stop: str = "",
    select: Select = "*",
    checked: int = 0,
    ball: int = 150,
    radius: float = 0.02,
    start: str = "",
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Means:
    """Sampled path density of interpolations between images of different classes and of one class, by layer.

    layers   start modules; codes are from each to `stop`
    pairs    of either condition
    t        float64 (n): positions
    checked  pairs of different classes along which balls are compared with the path
    others   as for `polykern.path`

    Errors: UsageError where the subject does not know its images' classes, or has too few.
    """
    targets = subject.examples.targets
    if targets is None:
        raise UsageError(f"{subject.name} does not know the classes of its images", fix="pairs=0")
    chosen = drawn_pairs(targets, pairs, seed)
    numbers, place = np.unique(chosen, return_inverse=True)
    batch = torch.stack([subject.examples.at(int(k)).input for k in numbers])
    rows = place.reshape(chosen.shape)
    density: list[NDArray[np.float64]] = []
    changed, missed = [], []
    total = len(layers) * 2 * pairs
    for layer in layers:
        tail, points = _space(subject, layer, stop, select, batch, device)
        found: list[Along] = []
        for a, b in rows.reshape(-1, 2):
            found.append(along(tail, curve(points[a], points[b], kind), t, exact=False))
            if progress:
                progress("interpolations", len(density) * 2 * pairs + len(found), total)
        density.append(np.stack([f.density for f in found]).reshape(2, pairs, -1))
        changed.append(np.stack([f.changing for f in found]).reshape(2, pairs, -1))
        missed.append(np.mean([f.missed or 0 for f in found]))
    own, points = _space(subject, start, stop, select, batch, device)
    both = []
    for k, (a, b) in enumerate(rows[0, :checked]):
        both.append(_both(own, points[a], points[b], kind, t, ball, radius, seed))
        if progress:
            progress("balls", k + 1, checked)
    return Means(
        tuple(layers), (t[1:] + t[:-1]) / 2, np.stack(density), np.stack(changed), np.array(missed), chosen,
        np.stack(both, 1) if both else np.zeros((2, 0, (len(t) - 1) // _sparse(len(t) - 1))),
    )  # fmt: skip


def _space(
    subject: Subject, start: str, stop: str, select: Select, batch: Tensor, device: str | torch.device
) -> tuple[Tail, Tensor]:
    """The tail from a start, and the images' activations there in float64."""
    tail = tail_at(subject, start, stop, select, device)
    return tail, activations(subject, start, batch).to(tail.device, torch.float64)


def _of_means(checked: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (resamples): rank correlation of the means over paths, numbers (resamples, paths)."""
    ball, way = (each[row.astype(np.int64)].mean(1) for each in checked)
    return np.array([spearman(a, b, resamples=2).value for a, b in zip(ball, way, strict=True)])


def _both(
    tail: Tail, a: Tensor, b: Tensor, kind: str, t: NDArray[np.float64], ball: int, radius: float, seed: int
) -> NDArray[np.float64]:
    """float64 (2, positions): the density in balls, and along the path around the same positions."""
    path = curve(a, b, kind)
    steps = along(tail, path, t, exact=False)
    each = _sparse(len(steps.middle))
    whole = len(steps.middle) // each * each
    smooth = steps.density[:whole].reshape(-1, each).mean(1)
    at = steps.middle[:whole].reshape(-1, each).mean(1)
    around = balls(
        tail, path(torch.from_numpy(at).to(tail.device)), radius * float((b - a).norm()), points=ball, seed=seed
    )
    return np.stack([around.density, smooth])


def _sparse(steps: int) -> int:
    """Steps of a path that share a ball: few enough that there are two balls to compare."""
    return max(1, min(SPARSE, steps // 2))
