"""What a line or a point needs of a network: a tail in float64, and points that fit it."""

import torch
from torch import Tensor, nn

from polykern.counting import has_classes, placed
from polykern.errors import UsageError
from polykern.models import Subject
from polykern.selectors import Select
from polykern.tail import Tail


def float64_tail(
    network: Subject | Tail | nn.Module,
    point: Tensor,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    device: str | torch.device = "cpu",
) -> Tail:
    """The tail of whatever stands for a network, in float64.

    network  a `Subject`; a `Tail`, which has a start, a stop and a selection of its own; or a model in eval mode
    point    float (*shape)   one point of the space: what a model by itself is called with first
    start    of a subject: module into whose input space the points are; None: the subject's own
    stop     module after whose output the code ends
    select   which nonlinearities make the code (`polykern.selectors`)
    device   where it is evaluated
    errors   UsageError when a Tail is given with another start, or a model with one
    """
    if isinstance(network, Tail):
        if (start or network.start) != network.start or stop or select != "*":
            raise UsageError("a Tail has its own start, stop and selection", fix="make another Tail")
        return placed(network, torch.float64, device)
    if isinstance(network, Subject):
        at = network.default_start if start is None else start
        return placed(Tail(network.model, network.sample, at, stop=stop, select=select), torch.float64, device)
    if start:
        raise UsageError(
            f"a model by itself has no input to reach {start!r} with",
            fix="pass a Subject, or Tail(model, sample, start)",
        )
    parameter = next(network.parameters(), point)
    sample = point.detach()[None].to(parameter.device, parameter.dtype, copy=True)
    return placed(Tail(network, sample, stop=stop, select=select), torch.float64, device)


def require_points(tail: Tail, points: Tensor, what: str) -> Tensor:
    """A float64 copy of points float (n, *input_shape) on the tail's device.

    Raises UsageError naming `what` when they have another shape or dtype, or hold NaN or infinity.
    """
    if points.shape[1:] != tail.input_shape:
        raise UsageError(
            f"{what} has shape {list(points.shape[1:])}, the input of {tail.start or 'the model'} has "
            f"{list(tail.input_shape)}"
        )
    if not points.is_floating_point():
        raise UsageError(
            f"{what} is {str(points.dtype)[6:]}, not floating point",
            why="there is no way between whole numbers",
            fix="start at a later module, or give numbers with a fraction",
        )
    if not bool(points.isfinite().all()):
        raise UsageError(f"{what} holds NaN or infinity")
    return points.detach().to(tail.device, torch.float64, copy=True)


def follows_classes(tail: Tail, wanted: bool | None) -> bool:
    """Whether the argmax of the output is followed: as wanted; None: where it is a vector.

    Raises UsageError where it is wanted of an output that is none.
    """
    if wanted and not has_classes(tail):
        raise UsageError("the output is not a vector, so it has no class", fix="classes=False")
    return has_classes(tail) if wanted is None else wanted
