"""`pk.crossings`: from a network and the ends of segments to every boundary on them."""

import torch
from torch import Tensor, nn

from polykern.errors import UsageError
from polykern.lines.joints import Joints
from polykern.lines.networks import float64_tail, follows_classes, require_points
from polykern.lines.pieces import Cut
from polykern.lines.result import Crossings
from polykern.models import Subject
from polykern.progress import Progress
from polykern.selectors import Select
from polykern.tail import Tail

SEGMENTS = 16


def crossings(
    network: Subject | Tail | nn.Module,
    a: Tensor,
    b: Tensor,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    classes: bool | None = None,
    segments: int = SEGMENTS,
    device: str | torch.device = "cpu",
) -> Crossings:
    """Every boundary that the segment from a to b crosses, and where.

    network  a `Subject`, a `Tail` or a model in eval mode; piecewise linear
    a, b     float (*shape)   the ends of the segment, in the input space of `start`
    start    of a subject: module into whose input space the segment is laid; None: the subject's own
    stop     module after whose output the code ends; "" the model's output
    select   which nonlinearities make the code (`polykern.selectors`)
    classes  also find where the argmax of the output changes; None: when the output is a vector
    segments pieces to begin with; the result does not depend on it
    device   where the pieces are compressed
    returns  Crossings: t, bit and direction of each, the codes of both ends, changes of the class, switches of
             max-pools

    Exact in float64: every sign change of every pre-activation about its threshold, once, whatever operators of
    `polykern.tiles` lie before it (convolution, normalisation in eval mode, pools, residuals, concatenation, every
    piecewise-linear activation, one LayerNorm in front). The number of each neuron's crossings has the parity of
    the difference of its ends. A pre-activation that touches its threshold and turns back does not cross, one that
    is zero up to rounding is off. Errors: UsageError when an operator is not piecewise linear, a shape does not
    fit, a point is not finite, or a equals b.

    Hanin, Rolnick 2019, "Complexity of Linear Regions in Deep Networks"; Black et al. 2022, "Interpreting Neural
    Networks through the Polytope Lens", appendix A.
    """
    (found,) = crossings_of_lines(
        network, a[None], b[None], start=start, stop=stop, select=select, classes=classes, segments=segments,
        device=device,
    )  # fmt: skip
    return found


def crossings_of_lines(
    network: Subject | Tail | nn.Module,
    a: Tensor,
    b: Tensor,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    classes: bool | None = None,
    segments: int = SEGMENTS,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> list[Crossings]:
    """`crossings` of many segments at once; those of a path p are between p[:-1] and p[1:].

    a, b      float (lines, *shape)   the ends of each segment
    progress  called with (stage, done, total)
    returns   one Crossings a segment, in their order

    All else, and the errors, as for `crossings`.
    """
    if a.shape != b.shape:
        raise UsageError(f"the ends of segments have shapes {list(a.shape)} and {list(b.shape)}")
    if segments < 1:
        raise UsageError(f"a segment is cut into one piece at least, got {segments}")
    if not len(a):
        return []
    tail = float64_tail(network, a[0], start=start, stop=stop, select=select, device=device)
    a, b = require_points(tail, a, "a"), require_points(tail, b, "b")
    length = (b - a).flatten(1).norm(dim=1).cpu()
    if bool((length == 0).any()):
        where = f" in segment {int((length == 0).int().argmax())}" if len(a) > 1 else ""
        raise UsageError(f"a and b are the same point{where}", why="a segment without length crosses nothing")
    wanted = follows_classes(tail, classes)
    found = Cut(tail, a, b, classes=wanted, segments=segments).pieces(progress)
    return Joints(tail, a, b, found, classes=wanted).results(length)
