"""`pk.path`: from a network and two activations to the densities between them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polykern.errors import UsageError
from polykern.findings import provenance
from polykern.heat import activations
from polykern.lines.networks import require_points
from polykern.models import Subject
from polykern.paths.along import along
from polykern.paths.curves import curve
from polykern.paths.evaluation import POINTS, balls, follows_classes, tail_at
from polykern.paths.interpolation import Path
from polykern.paths.means import layers_of, means
from polykern.progress import Progress
from polykern.selectors import Select
from polykern.tail import Tail

POSITIONS = 100
RADIUS = 0.02  # of the distance of the two ends: densities change little from a tenth of it to five times as much
CHECKED = 20
TENTHS = 11  # positions, from which on a step lies in every part of a path (`polykern.paths.means.PARTS`)


def path(
    subject: Subject,
    inputs: Sequence[str | int] | Tensor | None = None,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    kind: str = "slerp",
    positions: int = POSITIONS,
    ball: int = POINTS,
    radius: float = RADIUS,
    exact: bool | None = None,
    classes: bool | None = None,
    pairs: int = 0,
    layers: Sequence[str] | None = None,
    checked: int = CHECKED,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Density of boundaries, class and outputs along an interpolation between two activations.

    subject    a network and its data: `polykern.load(...)`, or `Subject(...)` of your own
    inputs     two examples (numbers or files); or their activations, float (2, *shape) in the space of `start`;
               None: the subject's first two
    start      module into whose input space the path is laid; None: the subject's own, "" the model's input
    stop       module after whose output the code ends; "" the model's output
    select     which nonlinearities make the code (`polykern.selectors`)
    kind       "slerp", "lerp" or "direction" (`polykern.paths.curve`)
    positions  on the path, at equal distances of t, both ends among them
    ball       points on the sphere around each
    radius     of the spheres, in distances of the two ends
    exact      True: list every crossing between positions; False: sample; None: exactly where that is possible and
               the code has at most 32,768 bits
    classes    follow the argmax of the output; None: where the subject names classes or knows those of its images
    pairs      of images of different classes and as many of one class, whose mean densities are compared layer by
               layer; 0: none
    layers     start modules of these; None: up to six children of the model
    checked    pairs of them along which ball and path density are compared
    seed       of directions, pairs and intervals
    device     "cpu", "cuda:0", ...
    progress   called with (stage, done, total)
    returns    Path

    Three estimates of density, each in boundaries per unit of length: in balls d_H(c(x), c(x + r u)) / r over
    uniform directions u; along the path, exact on the chords between positions; sampled for the means, with what
    the last halving of steps added. Errors: UsageError for no two different ends, opposite ends of an arc, shapes
    that do not fit, an unknown module, or pairs where the classes of images are not known. Black et al. 2022,
    "Interpreting Neural Networks through the Polytope Lens", appendix A.
    """
    _require(positions, ball, pairs, checked, radius)
    tail = tail_at(subject, start, stop, select, device)
    ends, labels = two_ends(subject, tail, inputs)
    way = curve(ends[0], ends[1], kind)
    t = np.linspace(0, 1, positions)
    followed = follows_classes(subject, classes)
    found = along(tail, way, t, exact=exact, classes=followed, progress=progress)
    size = radius * float((ends[1] - ends[0]).norm())
    around = balls(tail, way(torch.from_numpy(t).to(tail.device)), size, points=ball, seed=seed)
    averaged = None
    if pairs:
        averaged = means(
            subject, layers=layers_of(subject, stop, select) if layers is None else layers, pairs=pairs, kind=kind,
            t=t, stop=stop, select=select, checked=min(checked, pairs), ball=ball, radius=radius, start=tail.start,
            seed=seed, device=device, progress=progress,
        )  # fmt: skip
    about = provenance(
        subject, tail, seed=seed, kind=kind, positions=positions, ball=ball, radius=radius, pairs=pairs,
        checked=min(checked, pairs), note=way.note,
    )  # fmt: skip
    return Path(about, way, found, around, averaged, labels, subject.classes, seed)


def two_ends(
    subject: Subject, tail: Tail, inputs: Sequence[str | int] | Tensor | None
) -> tuple[Tensor, tuple[str, str]]:
    """float64 (2, *shape): two activations in the space of a tail, and what they are called."""
    if isinstance(inputs, Tensor):
        labels = ["A", "B"]
        rows = inputs
    else:
        chosen = list(subject.default_examples[:2]) if inputs is None else list(inputs)
        batch, labels, _ = subject.inputs(chosen)
        rows = activations(subject, tail.start, batch)
    if len(rows) != 2:
        raise UsageError(f"a path has two ends, got {len(rows)}")
    return require_points(tail, rows, "an activation"), (labels[0], labels[1])


def _require(positions: int, ball: int, pairs: int, checked: int, radius: float) -> None:
    if positions < 3:
        raise UsageError(f"a path has three positions at least, got {positions}")
    if ball < 2:
        raise UsageError(f"a ball needs two points at least, got {ball}")
    if not radius > 0 or not np.isfinite(radius):
        raise UsageError(f"the radius of the balls is a positive share of the path, got {radius}")
    if pairs == 1 or pairs < 0:
        raise UsageError(f"a mean over pairs has two at least, got {pairs}", fix="pairs=0 leaves them out")
    if pairs and positions < TENTHS:
        raise UsageError(
            f"{positions} positions are too few for means over pairs",
            why="they look at tenths of a path",
            fix=f"take {TENTHS} positions or more, or pairs=0",
        )
    if checked < 0:
        raise UsageError(f"the number of checked pairs is not negative, got {checked}")
