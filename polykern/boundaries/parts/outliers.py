"""Out of distribution: scores of codes for points that are scaled or perturbed, and how well each tells them apart.

Beside the three scores of `polykern.boundaries.outliers` stand two that need no codes: the Euclidean distance from
the nearest training point, and one minus the largest probability (Hendrycks, Gimpel 2017).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.boundaries.local import frame, signs
from polykern.boundaries.outliers import Familiar, densities
from polykern.boundaries.records import Record, averaged, columns, record, told, values, where
from polykern.boundaries.setting import LEVEL, RESAMPLES, Setting, Space, drawn, reaching
from polykern.codes import Codes
from polykern.findings import Picture, Table
from polykern.progress import Progress
from polykern.report import charts
from polykern.statistics import auroc

SCALES, NOISES = (0.2, 0.5, 2.0, 5.0), (0.1, 0.3, 1.0)  # factors; lengths of noise as shares of the point's
REFERENCE, POINTS = 2000, 200  # at most: training points, and points that are scored
DIRECTIONS, RADIUS = 10, 0.02  # of the density; as a share of the median distance of points
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Outliers:
    """What the scores say of scaled and perturbed points.

    scores     of condition, score: mean
    areas      of condition, score: area under the ROC curve against the points as they are
    reference  training points
    constant   bits that are the same in all of them
    """

    scores: tuple[Record, ...]
    areas: tuple[Record, ...]
    reference: int
    constant: int

    def numbers(self) -> dict[str, Any]:
        """By score and condition: the area under the ROC curve."""
        areas: dict[str, Any] = {}
        for r in self.areas:
            areas.setdefault(r["score"], {})[r["condition"]] = told(r)
        return {"reference_points": self.reference, "constant_bits": self.constant, "auroc": areas}

    def tables(self) -> dict[str, Table]:
        """`outliers.csv`: areas; `outlier_scores.csv`: means."""
        return {"outliers": columns(self.areas), "outlier_scores": columns(self.scores)}

    def pictures(self) -> dict[str, Picture]:
        """`outliers.png`."""
        return {"outliers": Picture(1320, 500, self._draw)}

    def _draw(self, figure: Any) -> None:
        (left,) = charts.panels(
            figure, ["area under the ROC curve against the points as they are"], columns=1,
            heading="Out of distribution",
            subtitle=f"{self.areas[0]['n']} points, {self.reference:,} training points",
            note="1/2: the score tells nothing; below: it falls. Bars: 95% bootstrap intervals over points",
        )  # fmt: skip
        conditions = list(dict.fromkeys(r["condition"] for r in self.areas))
        scores = list(dict.fromkeys(r["score"] for r in self.areas))
        value, low, high = np.stack([np.stack(values(where(self.areas, score=s))) for s in scores], -1)
        charts.bars(left, conditions, scores, value, low, high)
        left.axhline(0.5, color="#5d6570", lw=1)
        left.set_ylim(0, 1.22)
        left.set_yticks(np.linspace(0, 1, 6))
        charts.legend(left, loc="upper center", ncols=len(scores))


def measured(setting: Setting, progress: Progress) -> Outliers:
    """Scores of points that were not trained on, as they are, scaled and with noise, against training codes."""
    space = setting.trained
    reference, points = _sets(setting)
    familiar = Familiar.of(Codes(signs(space.tail, reference), space.tail.layout))
    axes = frame(min(DIRECTIONS, space.tail.input_shape.numel()), space.tail.input_shape.numel(), seed=setting.seed)
    variants = _variants(points, setting.seed)
    found = {}
    for k, (condition, x) in enumerate(variants.items()):
        progress("out of distribution", k, len(variants))
        found[condition] = _scores(space, familiar, reference, x, axes)
    progress("out of distribution", len(variants), len(variants))
    usual = next(iter(found))
    means = [
        averaged(row, setting.seed, condition=condition, score=score)
        for condition, every in found.items()
        for score, row in every.items()
    ]
    areas = [
        record(
            auroc(found[usual][score], row, level=LEVEL, resamples=RESAMPLES, seed=setting.seed), len(row),
            condition=condition, score=score,
        )
        for condition, every in found.items() if condition != usual
        for score, row in every.items()
    ]  # fmt: skip
    return Outliers(tuple(means), tuple(areas), len(reference), familiar.constant)


def _sets(setting: Setting) -> tuple[Tensor, Tensor]:
    """Training points, and points that were not trained on; without the former, halves of the examples."""
    subject, start = setting.subject, setting.start
    if subject.training is None:
        rows = drawn(subject.examples, REFERENCE + POINTS, setting.seed)
        known, reference, scored = subject.examples, rows[::2], rows[1::2][:POINTS]
    else:
        known, reference = subject.training, drawn(subject.training, REFERENCE, setting.seed)
        scored = drawn(subject.examples, POINTS, setting.seed + 1)
    return reaching(subject, start, known, reference), reaching(subject, start, subject.examples, scored)


def _variants(points: Tensor, seed: int) -> dict[str, Tensor]:
    """The points as they are, scaled, and with Gaussian noise of a length relative to theirs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    one = (-1, *(1,) * (points.ndim - 1))
    relative = noise * (points.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)).view(one)
    found = {"as they are": points}
    found |= {f"scaled {scale:g}": scale * points for scale in SCALES}
    return found | {f"noise {share:g}": points + share * relative for share in NOISES}


def _scores(space: Space, familiar: Familiar, reference: Tensor, x: Tensor, axes: Tensor) -> dict[str, Reals]:
    codes = Codes(signs(space.tail, x), space.tail.layout)
    found = {
        "distance": familiar.distances(codes),
        "unseen": familiar.unseen(codes),
        "density": densities(space.tail, x, codes, axes, RADIUS * space.unit),
        "euclidean": torch.cdist(x.flatten(1), reference.flatten(1)).amin(1),
    }
    if space.scored:
        out = space.tail.run(x.to(space.tail.device, space.tail.dtype), lambda met: met.proceed())
        found["confidence"] = 1 - out.softmax(1).amax(1)
    return {name: np.asarray(score.double().cpu()) for name, score in found.items()}
