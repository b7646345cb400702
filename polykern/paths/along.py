"""Boundaries along a path, step by step: every one of them, or as samples see them."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.carrier import NotCarried
from polykern.counting import has_classes
from polykern.errors import UsageError
from polykern.lines import Crossings, crossings_of_lines, space_folding
from polykern.paths.evaluation import Place, class_changes, evaluated
from polykern.progress import Progress
from polykern.tail import Tail

FEW = 1 << 15  # bits of a code up to which crossings are listed unless one asks for it


@dataclass(frozen=True, eq=False)
class Along:
    """What a path crosses between its positions.

    t        float64 (n)            where the positions are
    length   float64 (n - 1)        L2, of the chord of each step
    flips    int64 (fields, n - 1)  crossings of each nonlinearity in each step
    hamming  bits in which the two ends of the path differ
    folding  how far the codes turn back towards the first, from 0 to 1, over the points that were evaluated
             (`polykern.space_folding`)
    outputs  float64 (n, classes)   of the network at the positions; None where it is not a vector
    change   float64 (k)            where the class changes
    classes  int64 (k + 1)          the classes in turn; empty without classes
    missed   share of the sampled crossings that the last halving of steps brought to light; None: all are listed
    """

    t: NDArray[np.float64]
    length: NDArray[np.float64]
    flips: NDArray[np.int64]
    hamming: int
    folding: float
    outputs: NDArray[np.float64] | None
    change: NDArray[np.float64]
    classes: NDArray[np.int64]
    missed: float | None

    @property
    def density(self) -> NDArray[np.float64]:
        """float64 (n - 1): crossings per unit of length in each step."""
        return np.asarray(self.flips.sum(0) / self.length)

    @property
    def middle(self) -> NDArray[np.float64]:
        """float64 (n - 1): t in the middle of each step."""
        return (self.t[1:] + self.t[:-1]) / 2

    @property
    def changing(self) -> NDArray[np.bool_]:
        """bool (n - 1): whether the class changes in a step."""
        return np.histogram(np.clip(self.change, self.t[0], self.t[-1]), self.t)[0] > 0


def along(
    tail: Tail,
    place: Place,
    t: NDArray[np.float64],
    *,
    exact: bool | None = None,
    classes: bool = True,
    progress: Progress | None = None,
) -> Along:
    """What a path crosses between positions.

    tail      in float64
    place     the path: float64 (n) -> points
    t         float64 (n), sorted, two or more
    exact     True: every crossing of the chords between positions (`polykern.crossings`), of piecewise-linear
              networks; False: from codes at the positions and half way between them; None: exactly where that is
              possible and the code has at most 32,768 bits
    classes   follow the argmax of the output where it is a vector
    progress  called with (stage, done, total)

    Sampled counts never exceed the exact ones: of n crossings of a neuron between two samples n mod 2 are seen.
    Errors: UsageError where `exact` is asked for and the network is not piecewise linear.
    """
    points = place(torch.from_numpy(t).to(tail.device))
    if listed(tail, points[0], points[1], exact):
        return _exact(tail, points, t, classes, progress)
    return _sampled(tail, place, t, classes)


def listed(tail: Tail, a: Tensor, b: Tensor, exact: bool | None) -> bool:
    """Whether crossings are listed: as `exact` says; None: where a short code's can be, tried from a to b."""
    if exact is not None:
        return exact
    if tail.layout.bits > FEW:
        return False
    try:
        crossings_of_lines(tail, a[None], b[None], classes=False, segments=1)
    except UsageError as reason:
        if isinstance(reason.__cause__, NotCarried):
            return False
        raise
    return True


def rays(
    tail: Tail,
    x: Tensor,
    s: NDArray[np.float64],
    *,
    exact: bool | None = None,
    classes: bool = True,
    progress: Progress | None = None,
) -> list[Along]:
    """What the rays s x cross between scales, one for each x; all else as for `along`.

    x  float64 (rays, *input_shape)
    s  float64 (n), sorted, positive
    """
    if listed(tail, s[0] * x[0], s[1] * x[0], exact):
        wanted = classes and has_classes(tail)
        found = crossings_of_lines(tail, s[0] * x, s[-1] * x, classes=wanted, progress=progress)
        return [_binned(tail, one, line, s, wanted) for one, line in zip(x, found, strict=True)]
    sampled = []
    for one in x:
        sampled.append(_sampled(tail, partial(_scaled, one), s, classes))
        if progress:
            progress("rays", len(sampled), len(x))
    return sampled


def _scaled(x: Tensor, s: Tensor) -> Tensor:
    return s.reshape(-1, *(1,) * x.ndim) * x


def _binned(tail: Tail, x: Tensor, line: Crossings, s: NDArray[np.float64], wanted: bool) -> Along:
    """The crossings of a ray between its scales."""
    codes, outputs = evaluated(tail, _scaled(x, torch.from_numpy(s).to(tail.device)), outputs=wanted)
    at = np.clip(s[0] + line.t * (s[-1] - s[0]), s[0], s[-1])
    fields = len(tail.layout.fields)
    return Along(
        t=s,
        length=np.diff(s) * float(x.norm()),
        flips=np.stack([np.histogram(at[line.field == f], s)[0] for f in range(fields)]),
        hamming=int(codes[0].aligned(codes[-1])),
        folding=space_folding(codes),
        outputs=None if outputs is None else outputs.cpu().numpy(),
        change=s[0] + line.change * (s[-1] - s[0]),
        classes=line.classes.astype(np.int64),
        missed=None,
    )


def _exact(tail: Tail, points: Tensor, t: NDArray[np.float64], wanted: bool, progress: Progress | None) -> Along:
    wanted = wanted and has_classes(tail)
    found = crossings_of_lines(
        tail, points[:-1], points[1:], classes=wanted, segments=1, progress=progress
    )  # fmt: skip
    codes, outputs = evaluated(tail, points, outputs=wanted)
    change, classes = np.zeros(0), np.zeros(0, np.int64)
    if wanted:
        low, wide = t[:-1], np.diff(t)
        change = np.concatenate([a + c.change * w for c, a, w in zip(found, low, wide, strict=True)])
        classes = np.concatenate([found[0].classes[:1], *(c.classes[1:] for c in found)]).astype(np.int64)
    return Along(
        t=t,
        length=np.array([c.length for c in found]),
        flips=np.stack([c.counts for c in found], 1),
        hamming=int(codes[0].aligned(codes[-1])),
        folding=space_folding(codes),
        outputs=None if outputs is None else outputs.cpu().numpy(),
        change=change,
        classes=classes,
        missed=None,
    )


def _sampled(tail: Tail, place: Place, t: NDArray[np.float64], wanted: bool) -> Along:
    fine = np.insert(t, range(1, len(t)), (t[1:] + t[:-1]) / 2)
    points = place(torch.from_numpy(fine).to(tail.device))
    codes, outputs = evaluated(tail, points, outputs=wanted)
    steps = codes[:-1].aligned_by_field(codes[1:]).cpu().numpy().astype(np.int64)
    flips = steps.reshape(len(steps), -1, 2).sum(2)
    coarse = int(codes[:-2:2].aligned(codes[2::2]).sum())
    change, classes = np.zeros(0), np.zeros(0, np.int64)
    if outputs is not None:
        change, classes = class_changes(tail, place, fine, outputs.argmax(1).cpu().numpy())
    return Along(
        t=t,
        length=(points[2::2] - points[:-2:2]).flatten(1).norm(dim=1).cpu().numpy(),
        flips=flips,
        hamming=int(codes[0].aligned(codes[-1])),
        folding=space_folding(codes),
        outputs=None if outputs is None else outputs[::2].cpu().numpy(),
        change=change,
        classes=classes,
        missed=1 - coarse / int(flips.sum()) if flips.any() else 0.0,
    )
