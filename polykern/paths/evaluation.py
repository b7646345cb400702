"""Points through a network: codes and outputs, what changes in the balls around them, where the class changes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.anchored.points import Anchored
from polykern.arithmetic import Arithmetic, ieee
from polykern.carrier import NotCarried
from polykern.codes import Codes, joined, packed
from polykern.counting import has_classes, placed
from polykern.errors import UsageError
from polykern.halves import halved
from polykern.models import Subject
from polykern.paths.curves import directions
from polykern.selectors import Select
from polykern.tail import Meeting, Tail
from polykern_kernels import hamming

HELD = 1 << 22  # float64 of the widest layer of a batch: 32 MiB
CLOSE = 1e-4  # of a path's parameter: how closely a change of the class is bracketed
LESS = "a later start, or more memory"
POINTS = 150  # on the sphere around a position

Place = Callable[[Tensor], Tensor]  # float64 (n) -> points float64 (n, *shape)


@dataclass(frozen=True, eq=False)
class Balls:
    """Boundaries between positions and points of the sphere around each.

    flips   int32 (fields, n, points)   bits that differ from the position's, of each nonlinearity
    radius  of the sphere, L2
    """

    flips: NDArray[np.int32]
    radius: float

    @property
    def density(self) -> NDArray[np.float64]:
        """float64 (n): local isotropic density, mean over directions of d_H(c(x), c(x + r u)) / r."""
        return np.asarray(self.flips.sum(0).mean(1) / self.radius)

    @property
    def error(self) -> NDArray[np.float64]:
        """float64 (n): its standard error, from the spread over directions."""
        each = self.flips.sum(0)
        return np.asarray(each.std(1, ddof=1) / np.sqrt(each.shape[1]) / self.radius)


def tail_at(
    subject: Subject, start: str | None, stop: str = "", select: Select = "*", device: str | torch.device = "cpu"
) -> Tail:
    """The subject from a start on (None: its own), in float64 on the device."""
    at = subject.default_start if start is None else start
    return placed(Tail(subject.model, subject.sample, at, stop=stop, select=select), torch.float64, device)


def follows_classes(subject: Subject, classes: bool | None) -> bool:
    """Whether the argmax of the output is a class: as said, else where the subject or its images name classes."""
    known = subject.classes is not None or subject.examples.targets is not None
    return known if classes is None else classes


def evaluated(tail: Tail, points: Tensor, *, outputs: bool = True) -> tuple[Codes, Tensor | None]:
    """Codes of points and their outputs.

    tail     in any dtype; the points are evaluated in it
    points   float (n, *input_shape)
    outputs  whether these are wanted
    returns  codes of the n points, and outputs (n, classes), or None where the output is not a vector
    """
    wanted = outputs and has_classes(tail)
    parts = [
        done
        for part in points.split(batch(tail))
        for done in halved(lambda some: _one(tail, some, wanted), part, what="a point", fix=LESS)
    ]
    rows = [out for _, out in parts if out is not None]
    return Codes.cat(c for c, _ in parts), torch.cat(rows) if rows else None


def batch(tail: Tail) -> int:
    """Points that run together."""
    return max(1, HELD // max(tail.input_shape.numel(), *(f.units for f in tail.layout.fields)))


def _one(tail: Tail, points: Tensor, wanted: bool) -> tuple[Codes, Tensor | None]:
    words: list[Tensor] = []

    def reach(met: Meeting) -> Tensor:
        if met.field is not None:
            words.append(packed(met.field, met.z).expand(len(points), -1))
        out: Tensor = met.proceed()
        return out

    with ieee():
        own = points.to(tail.device, tail.dtype, copy=True)  # the first module may overwrite its input
        out = tail.run(own, reach, output=wanted)
    return joined(words, tail.layout, {}), out.expand(len(points), -1) if wanted else None


def balls(tail: Tail, positions: Tensor, radius: float, *, points: int = POINTS, seed: int = 0) -> Balls:
    """The flips in a ball around every position, with the same directions for all.

    tail       in float64
    positions  float64 (n, *input_shape)
    radius     L2 units of the space, positive
    points     directions, uniform on the sphere
    seed       of the directions

    Each ball is a group about its centre (`polykern.anchored`): the centre in float64, differences in float32, and
    up to the first nonlinearity the products with the directions once for all positions of a batch. Networks that
    cannot be followed so are evaluated point by point in float64. Black et al. 2022, appendix A.
    """
    if not radius > 0 or not np.isfinite(radius):
        raise UsageError(f"the radius of a ball is positive, got {radius}")
    if points < 2:
        raise UsageError(f"a ball needs two points at least, got {points}")
    rows = directions(tail.input_shape, points, seed).to(tail.device)
    try:
        flips = _around(tail, positions, rows, radius)
    except NotCarried:
        flips = _plainly(tail, positions, rows, radius)
    return Balls(flips.cpu().numpy(), radius)


def _around(tail: Tail, positions: Tensor, rows: Tensor, radius: float) -> Tensor:
    """int32 (fields, n, points), anchored."""
    arithmetic, most = Arithmetic("float32", tail.model), batch(tail)
    columns = []
    for axes in rows.split(most):
        at = radius * torch.eye(len(axes), dtype=torch.float64, device=axes.device)
        parts = [
            _flips(tail, Anchored.along(centres, axes, at, arithmetic))
            for centres in positions.split(max(1, most // len(axes)))
        ]
        columns.append(torch.cat(parts, 1))
    return torch.cat(columns, 2)


def _flips(tail: Tail, points: Anchored) -> Tensor:
    groups, each = len(points.anchor), points.points
    rows: list[Tensor] = []

    def reach(met: Meeting) -> Anchored | Tensor:
        z = met.z
        if met.field is not None and isinstance(z, Anchored):
            centres = packed(met.field, z.anchor).repeat_interleave(each, 0)
            rows.append(hamming.aligned(packed(met.field, z.full()), centres).view(groups, each))
        elif met.field is not None:
            rows.append(torch.zeros(groups, each, dtype=torch.int32, device=points.device))
        out: Anchored | Tensor = met.proceed()
        return out

    with ieee():
        tail.run(points, reach, output=False)
    return torch.stack(rows)


def _plainly(tail: Tail, positions: Tensor, rows: Tensor, radius: float) -> Tensor:
    """int32 (fields, n, points), every point by itself."""
    found = []
    for centre in positions:
        codes, _ = evaluated(tail, torch.cat([centre[None], centre + radius * rows]), outputs=False)
        found.append(codes[[0] * len(rows)].aligned_by_field(codes[1:]))
    return torch.stack(found, 1)


def class_changes(
    tail: Tail, place: Place, t: NDArray[np.float64], classes: NDArray[np.int64], close: float = CLOSE
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Where the class changes between samples of a path, by bisection.

    tail     in float64
    place    the path
    t        float64 (n), sorted: the samples
    classes  int64 (n): their classes
    close    a change is bracketed this closely
    returns  float64 (k) where, and int64 (k + 1) the classes in turn

    One change between two samples of different classes is found, none between samples of one class.
    """
    step = np.flatnonzero(classes[1:] != classes[:-1])
    low, high = t[step].copy(), t[step + 1].copy()
    while len(step) and (high - low).max() > close:
        middle = (low + high) / 2
        outputs = evaluated(tail, place(torch.from_numpy(middle).to(tail.device)))[1]
        assert outputs is not None
        same = outputs.argmax(1).cpu().numpy() == classes[step]
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return (low + high) / 2, classes[np.concatenate([[0], step + 1])]
