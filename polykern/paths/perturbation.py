"""`pk.adversarial`: do adversarial perturbations cross more boundaries than others of their length?"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.arithmetic import ieee
from polykern.errors import UsageError
from polykern.findings import Findings, Picture, Table, provenance
from polykern.lines import crossings_of_lines
from polykern.models import Subject, stacked
from polykern.paths.along import along, listed
from polykern.paths.attacks import attack, beside, neighbours
from polykern.paths.curves import curve
from polykern.paths.evaluation import evaluated, tail_at
from polykern.progress import Progress
from polykern.report import charts
from polykern.selectors import Select
from polykern.statistics import Estimate, bootstrap, wilcoxon
from polykern.tail import Tail

WAYS = ("adversarial", "random", "neighbour", "stepwise")
SAMPLES = np.linspace(0, 1, 33)  # of a segment whose crossings are not listed
BATCH = 32  # images of a pass
POOL = 512  # images among which neighbours are looked for


@dataclass(frozen=True, eq=False)
class Adversarial(Findings):
    """Crossings on the way from clean images to adversarial ones, and on other ways of the same length.

    length   float64 (4, n)         L2, of the ways in `WAYS`
    flips    int64 (4, fields, n)   crossings of each nonlinearity
    left     bool (n)               whether the attack changed the class
    images   int64 (n)              numbers of the images
    exact    whether all crossings are listed
    seed     of the images and the random directions
    """

    length: NDArray[np.float64]
    flips: NDArray[np.int64]
    left: NDArray[np.bool_]
    images: NDArray[np.int64]
    exact: bool
    seed: int

    SCHEMA: ClassVar[str] = "polykern-adversarial/1"

    @property
    def density(self) -> NDArray[np.float64]:
        """float64 (4, n): crossings per unit of length."""
        return np.asarray(self.flips.sum(1) / self.length)

    def ratio(self, other: str, rows: NDArray[np.bool_] | None = None) -> Estimate:
        """Mean density of the straight adversarial way over that of another, with its 95% interval over images.

        nan where neither crosses anything.
        """
        kept = slice(None) if rows is None else rows
        a, b = self.density[0, kept], self.density[WAYS.index(other), kept]
        with np.errstate(divide="ignore", invalid="ignore"):
            return bootstrap(lambda x, y: x.mean(-1) / y.mean(-1), a, b, level=0.95, seed=self.seed)

    def numbers(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "images": len(self.images),
            "class left": float(self.left.mean()),
            "exact": self.exact,
            "length": {way: float(row.mean()) for way, row in zip(WAYS, self.length, strict=True)},
            "density": {
                way: bootstrap(lambda x: x.mean(-1), row, level=0.95, seed=self.seed).as_dict()
                for way, row in zip(WAYS, self.density, strict=True)
            },
        }
        rows = {"all": np.ones(len(self.images), bool), "class left": self.left}
        found["adversarial over"] = {
            name: {other: self._against(other, kept) for other in WAYS[1:]}
            for name, kept in rows.items()
            if kept.sum() > 1
        }
        return found

    def _against(self, other: str, rows: NDArray[np.bool_]) -> dict[str, Any]:
        a, b = self.density[0, rows], self.density[WAYS.index(other), rows]
        statistic, p = wilcoxon(a, b)
        fields = self.flips[:, :, rows].sum(2) / self.length[:, None, rows].sum(2)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = fields[0] / fields[WAYS.index(other)]
        return {
            "ratio": self.ratio(other, rows).as_dict(),
            "wilcoxon": {"statistic": statistic, "p": p},
            "higher": float((a > b).mean()),
            "by layer": [float(r) for r in each],
        }

    def tables(self) -> dict[str, Table]:
        columns: dict[str, Any] = {"image": self.images, "class_left": self.left}
        for way, length, flips in zip(WAYS, self.length, self.flips, strict=True):
            columns |= {f"length_{way}": length, f"crossings_{way}": flips.sum(0)}
            columns |= {f"crossings_{way}_{k}": row for k, row in enumerate(flips)}
        return {"images": columns}

    def pictures(self) -> dict[str, Picture]:
        return {"adversarial": Picture(1100, 520, self._draw)}

    def _draw(self, figure: Any) -> None:
        settings = self.about["settings"]
        left, right = charts.panels(
            figure, ["Density by way", "Image by image"], columns=2, heading="Boundaries on adversarial ways",
            subtitle=f"{self.about['model']['name']}: {len(self.images)} images, {settings['norm']} radius "
            f"{settings['radius']:g}; the attack changes the class of {self.left.mean():.0%}",
            note=f"{'Every crossing' if self.exact else 'Sampled crossings'}; bars: means with 95% bootstrap "
            "intervals over images. Straight ways have one length an image.",
        )  # fmt: skip
        each = [bootstrap(lambda x: x.mean(-1), row, level=0.95, seed=self.seed) for row in self.density]
        value, low, high = (np.array([[getattr(e, k)] for e in each]) for k in ("value", "low", "high"))
        charts.bars(left, WAYS, ["mean"], value, low, high)
        charts.named(left, "", "boundaries per L2")
        most = 1.05 * float(self.density[:2].max()) or 1.0
        right.plot([0, most], [0, most], color=charts.class_colour(-1), lw=1)
        for kept, label, colour in ((self.left, "class left", 1), (~self.left, "class kept", 0)):
            right.plot(
                self.density[1, kept], self.density[0, kept], "o", ms=4, color=charts.PALETTE[colour], label=label
            )
        right.set_xlim(0, most)
        right.set_ylim(0, most)
        charts.named(right, "random way, boundaries per L2", "adversarial way")
        charts.legend(right, loc="lower right")


def adversarial(
    subject: Subject,
    *,
    images: int = 64,
    radius: float = 0.1,
    norm: str = "linf",
    steps: int = 20,
    select: Select = "*",
    exact: bool | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Adversarial:
    """Crossings per length between images and their adversarial versions, beside other ways of that length.

    subject   a classifier of images and its data
    images    how many, at random
    radius    of the attack, in the units of the model's input; nothing is clipped to a valid range
    norm      "linf" or "l2", of the attack (`polykern.paths.attacks.attack`)
    steps     of the attack
    select    which nonlinearities make the code (`polykern.selectors`)
    exact     True: list every crossing; False: sample; None: exactly where that is possible and the code has at
              most 32,768 bits
    seed      of the images and the random directions
    device    where crossings are counted
    progress  called with (stage, done, total)
    returns   Adversarial: for each image the straight way to its adversarial version, a random direction of the
              same L2 length, the direction of the nearest image of its class at that length, the way of the attack

    The class that is left is the network's own. No sign is assumed: densities are paired by image, with Wilcoxon's
    test and the ratio of means. Errors: UsageError where the output is no vector of classes, the inputs are not
    floating point, an image is not moved, or a class has one image. Black et al. 2022 ask the question.
    """
    if images < 2:
        raise UsageError(f"two images at least are compared, got {images}")
    tail = tail_at(subject, "", "", select, device)
    if tail.output_shape is None or len(tail.output_shape) != 1:
        raise UsageError(f"{subject.name} gives no classes to attack")
    chosen, pool, classes = _pool(subject, seed)
    n = min(images, len(pool))
    way = _attacked(subject, pool[:n], classes[:n], radius, norm, steps).to(tail.device, torch.float64)
    clean, length = way[0], (way[-1] - way[0]).flatten(1).norm(dim=1)
    if not bool((length > 0).all()):
        raise UsageError(
            f"the attack does not move {int((length == 0).sum())} of {n} images",
            why="the gradient of their loss is zero, or the radius is below the rounding of float32",
            fix="take a larger radius, or other images (seed)",
        )
    drawn = torch.randn(clean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    others = pool.to(tail.device, torch.float64), classes.to(tail.device)
    near = neighbours(clean, others[1][:n], *others)
    ends = [way[-1], beside(clean, clean + drawn.to(tail.device), length), beside(clean, near, length)]
    kept = listed(tail, clean[0], way[-1][0], exact)
    flips = [_flips(tail, clean, one, kept, progress) for one in ends]
    flips.append(_stepwise(tail, way, kept, progress))
    lengths = [(one - clean).flatten(1).norm(dim=1) for one in ends]
    lengths.append((way[1:] - way[:-1]).flatten(2).norm(dim=2).sum(0))
    outputs = evaluated(tail, way[-1])[1]
    assert outputs is not None
    left = (outputs.argmax(1).cpu() != classes[:n]).numpy()
    about = provenance(subject, tail, seed=seed, images=n, radius=radius, norm=norm, steps=steps)
    return Adversarial(about, torch.stack(lengths).cpu().numpy(), np.stack(flips), left, chosen[:n], kept, seed)


def _pool(subject: Subject, seed: int) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """Images at random: their numbers, they themselves, and the network's classes."""
    chosen = np.random.default_rng(seed).permutation(len(subject.examples))[:POOL].astype(np.int64)
    pool = stacked(subject.examples, chosen.tolist())
    if not pool.is_floating_point():
        raise UsageError(f"{subject.name} reads {str(pool.dtype)[6:]}, which no gradient moves")
    with torch.no_grad(), ieee():
        classes = torch.cat([subject.outputs(part).argmax(1) for part in pool.split(BATCH)])
    return chosen, pool, classes


def _attacked(subject: Subject, x: Tensor, classes: Tensor, radius: float, norm: str, steps: int) -> Tensor:
    """float (steps + 1, n, *shape): the ways of attacks on images, a batch at a time."""
    parts = zip(x.split(BATCH), classes.split(BATCH), strict=True)
    return torch.cat([attack(subject.outputs, p, c, radius=radius, norm=norm, steps=steps) for p, c in parts], 1)


def _flips(tail: Tail, a: Tensor, b: Tensor, exact: bool, progress: Progress | None) -> NDArray[np.int64]:
    """int64 (fields, n): crossings between rows of a and b."""
    if exact:
        found = crossings_of_lines(tail, a, b, classes=False, segments=1, progress=progress)
        return np.stack([c.counts for c in found], 1)
    columns = [
        along(tail, curve(p, q, "lerp"), SAMPLES, exact=False).flips.sum(1) for p, q in zip(a, b, strict=True)
    ]
    return np.stack(columns, 1)


def _stepwise(tail: Tail, way: Tensor, exact: bool, progress: Progress | None) -> NDArray[np.int64]:
    """int64 (fields, n): crossings of the attack's own way, step by step; steps of no length cross nothing."""
    steps, n = len(way) - 1, way.shape[1]
    a, b = way[:-1].flatten(0, 1), way[1:].flatten(0, 1)
    moved = ((a - b).flatten(1) != 0).any(1)
    flips = np.zeros((len(tail.layout.fields), steps * n), np.int64)
    flips[:, moved.cpu().numpy()] = _flips(tail, a[moved], b[moved], exact, progress)
    return np.asarray(flips.reshape(len(flips), steps, n).sum(1))
