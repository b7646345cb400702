"""Codes of points in the space of a module: the plain function beside `polykern.tracing.trace`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from polykern import products
from polykern.codes import Codes, joined, packed
from polykern.errors import UsageError
from polykern.halves import halved
from polykern.pools import INDEXED, note_choices
from polykern.selectors import Select
from polykern.tail import Meeting, Tail, tail_of

LEAST, MOST = 1 << 8, 1 << 16  # points of a forward pass
LESS = "a later start, or more memory"
ROOM = 1 << 28  # bytes of the pre-activations of a pass on a device


def codes_of(
    network: Tail | nn.Module,
    points: Tensor,
    *,
    select: Select = "*",
    batch: int | None = None,
    pools: bool = False,
) -> Codes:
    """The codes of points in the space of a start module.

    network  a `Tail`, which has a start of its own; or a model in eval mode, whose inputs the points are
    points   (n, *shape), any float dtype and device: they are copied to the network's
    select   with a model: which nonlinearities make the code (`polykern.selectors`); a Tail has chosen
    batch    points in one forward pass; None: 256, and as many as hide the launches on a CUDA device
    pools    also keep what the max-pools choose (`Codes.choices`)
    returns  the codes of the n points, on the network's device

    The passes end after the last selected nonlinearity, unless pools may follow it. On a CUDA device a narrow
    float32 Linear and the activation straight behind it in a Sequential are one pass (`polykern.products`). Errors:
    UsageError when a shape does not fit; CorruptError naming the nonlinearity whose pre-activations hold NaN.
    """
    tail = tail_of(network, points, select)
    if points.shape[1:] != tail.input_shape:
        raise UsageError(
            f"the points have shape {list(points.shape[1:])}, the input of {tail.start or 'the model'} has "
            f"{list(tail.input_shape)}"
        )
    if not len(points):
        empty = torch.empty(0, tail.layout.words, dtype=torch.int32, device=tail.device)
        return Codes(empty, tail.layout)
    return Codes.cat(
        done
        for part in points.split(batch or _at_once(tail))
        for done in halved(lambda some: _codes(tail, some, pools), part, what="a point", fix=LESS)
    )


def _at_once(tail: Tail) -> int:
    """Points of a forward pass."""
    if tail.device.type != "cuda":
        return LEAST
    units = sum(prod(f.shape) for f in tail.layout.fields)
    return max(LEAST, min(MOST, ROOM // (4 * max(1, units))))


def _codes(tail: Tail, points: Tensor, pools: bool) -> Codes:
    words: list[Tensor] = []
    choices: dict[str, Tensor] = {}
    calls: Counter[Any] = Counter()

    def reach(met: Meeting) -> Any:
        field, z = met.field, met.z
        if field is None:
            return met.proceed()
        if isinstance(z, products.Product):
            last = not pools and field == tail.layout.fields[-1]
            done = z.coded(field, met.activation, last=last)
            if done is not None:
                words.append(done[0])
                return done[1]
            z = z.value
        words.append(packed(field, z))
        return met.proceed()

    def called(func: Any, module: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if func in INDEXED:
            note_choices(choices, calls, module, func, args, kwargs)

    own = tail.taken(points)  # an in-place ReLU may overwrite them
    with products.waiting(tail.model) if products.wait(tail) else nullcontext():
        tail.run(own, reach, output=pools, called=called if pools else None)
    return joined(words, tail.layout, choices)
