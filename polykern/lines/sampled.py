"""Points of a line by dense float64: their codes and classes, and the crossings that lie between samples."""

import numpy as np
import torch
from torch import Tensor, nn

from polykern.arithmetic import ieee
from polykern.codes import Codes, packed
from polykern.counting import Footprint, points_within
from polykern.errors import UsageError
from polykern.halves import halved
from polykern.lines.networks import float64_tail, follows_classes, require_points
from polykern.lines.result import Crossings
from polykern.models import Subject
from polykern.selectors import Select
from polykern.tail import Meeting, Tail
from polykern_kernels import hamming, pack

LESS = "a later start, or more memory"
MEMORY = 1 << 30  # bytes that the activations of a batch may take


def sampled_crossings(
    network: Subject | Tail | nn.Module,
    a: Tensor,
    b: Tensor,
    *,
    samples: int = 1025,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    classes: bool | None = None,
    device: str | torch.device = "cpu",
) -> Crossings:
    """The crossings of a segment as equally spaced samples see them: of any network, smooth ones too.

    network  a `Subject`, a `Tail` or a model in eval mode
    a, b     float (*shape)   the ends of the segment, in the input space of `start`
    samples  points, both ends among them
    start, stop, select  as in `float64_tail`
    classes  also find where the argmax of the output changes; None: when the output is a vector
    device   where it is evaluated
    returns  Crossings with `samples` set; a change lies in the middle between the two samples that show it

    Never more than there are: of the n crossings of a neuron between two samples it sees n mod 2. So samples that
    hold all the earlier ones, 2^k + 1 of them, see no fewer, and the count of each neuron has the parity of its
    ends. What the last halving of the steps has gained (`gained`) says how much is missing. Evaluated in float64.
    Errors: UsageError when a shape does not fit, a point is not finite, a equals b, or classes are asked for where
    there are none; CorruptError naming a nonlinearity whose pre-activations hold NaN.
    """
    if samples < 2:
        raise UsageError(f"a segment needs two samples at least, got {samples}")
    tail = float64_tail(network, a, start=start, stop=stop, select=select, device=device)
    low, high = (require_points(tail, x[None], what) for x, what in ((a, "a"), (b, "b")))
    length = float((high - low).norm())
    if length == 0:
        raise UsageError("a and b are the same point", why="a segment without length crosses nothing")
    wanted = follows_classes(tail, classes)
    t = torch.linspace(0, 1, samples, dtype=torch.float64, device=tail.device)
    words, winners = evaluated(tail, on_line(low, high, t), classes=wanted)
    flips = words[1:] ^ words[:-1]
    step, word = flips.nonzero().unbind(1)
    which, lane = pack.unpack(flips[step, word, None].contiguous(), 32).nonzero().unbind(1)
    bit, step = 32 * word[which] + lane, step[which]
    middle = (t[1:] + t[:-1]) / 2
    up = (words[step + 1, bit // 32] >> (bit % 32)) & 1 == 1
    changes = np.zeros(0, np.int64)
    kept = np.zeros(0, np.int32)
    if winners is not None:
        row = winners.cpu().numpy().astype(np.int32)
        changes = np.flatnonzero(row[1:] != row[:-1])
        kept = row[np.concatenate([[0], changes + 1])]
    places = middle.cpu().numpy()
    coarse = hamming.aligned(words[:-2:2].contiguous(), words[2::2].contiguous()) if samples % 2 else None
    return Crossings(
        length, places[step.cpu().numpy()], bit.cpu().numpy(), up.cpu().numpy(),
        Codes(words[[0, -1]], tail.layout), places[changes], kept, None, samples=samples,
        gained=None if coarse is None else len(bit) - int(coarse.sum()),
    )  # fmt: skip


def on_line(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """float64 (n, *shape): the points a + t (b - a), both ends exactly.

    a, b  float64 (n or 1, *shape)   the ends of the lines
    t     float64 (n)                where on each
    """
    share = t.reshape(-1, *(1,) * (a.ndim - 1))
    return torch.where(share < 0.5, a + share * (b - a), b - (1 - share) * (b - a))


def evaluated(tail: Tail, points: Tensor, *, classes: bool) -> tuple[Tensor, Tensor | None]:
    """Packed codes int32 (n, words) of points, and their classes int64 (n) when these are wanted.

    tail    in float64
    points  float64 (n, *input_shape) on its device
    """
    if not len(points):
        none = torch.zeros(0, dtype=torch.int64, device=points.device)
        return none.new_zeros((0, tail.layout.words), dtype=torch.int32), none if classes else None
    seen = Footprint()
    parts = [_batch(tail, points[:2], classes, seen)]
    fit = points_within(MEMORY, seen.bytes(min(2, len(points))), 1, "a point", points.device)
    for part in points[2:].split(fit) if len(points) > 2 else ():
        parts += halved(lambda some: _batch(tail, some, classes, None), part, what="a point", fix=LESS)
    words = torch.cat([w for w, _ in parts])
    return words, torch.cat([c for _, c in parts if c is not None]) if classes else None


def _batch(tail: Tail, points: Tensor, classes: bool, seen: Footprint | None) -> tuple[Tensor, Tensor | None]:
    words: list[Tensor] = []

    def reach(met: Meeting) -> Tensor:
        if met.field is not None:
            words.append(packed(met.field, met.z))
        out: Tensor = met.proceed()
        if seen is not None:
            seen.see(met.z, out)
        return out

    with ieee():
        out = tail.run(points.clone(), reach, output=classes)  # the first module may overwrite its input
    every = [w.expand(len(points), -1).contiguous() for w in words]
    joined = pack.join(every, [f.bits for f in tail.layout.fields])
    return joined, out.expand(len(points), -1).argmax(1) if classes else None
