"""Rows: the pre-activations of one nonlinearity, a row for each place of each example, with their codes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.codes import Codes, packed
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.models import Subject, stacked
from polykern.progress import Progress
from polykern.tail import Meeting, Tail

BATCH = 64  # examples in one pass


@dataclass(frozen=True, eq=False)
class Rows:
    """What one nonlinearity was given, place by place.

    tail     the network, with the one nonlinearity selected
    z        float64 (n, units)    pre-activations
    item     int64 (n)             the example of each row
    place    int64 (n)             its place within the example: row-major position, token; 0 where there is one
    codes    of the rows, one bit a unit and threshold
    classes  None | int64 (n)      the right class of the row's example
    """

    tail: Tail
    z: NDArray[np.float64]
    item: NDArray[np.int64]
    place: NDArray[np.int64]
    codes: Codes
    classes: NDArray[np.int64] | None

    @property
    def values(self) -> NDArray[np.float64]:
        """float64 (n, units): ReLU(pre-activation), which is what is factorised."""
        return np.maximum(self.z, 0.0)


def rows_of(
    subject: Subject,
    layer: str | None = None,
    *,
    most: int = 20_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Rows:
    """The rows of one nonlinearity over all examples of a subject.

    layer    its name or a glob that fits it alone; None: the last one that has places, else the last one
    most     rows; of more, as many are drawn without replacement
    seed     of the draw
    progress called with (stage, done, total)

    Pre-activations (n, channels, height, width) give a row for each position, (n, tokens, units) one for each
    token, (n, units) one for each example. Errors: UsageError for a layer that there is not, or a glob that fits
    several; CorruptError where pre-activations hold NaN.
    """
    tail = Tail(subject.model, subject.sample, select=_chosen(subject) if layer is None else layer)
    if len(tail.layout.fields) > 1:
        names = [f.name for f in tail.layout.fields]
        raise UsageError(f"{layer!r} fits {len(names)} nonlinearities", fix=f"name one of {', '.join(names[:8])}")
    [field] = list(tail.layout.fields)
    count, parts = len(subject.examples), []
    for first in range(0, count, BATCH):
        inputs = stacked(subject.examples, range(first, min(count, first + BATCH)))
        parts.append(_flat(_met(tail, inputs)))
        if progress:
            progress("activations", min(count, first + BATCH), count)
    z = torch.cat(parts)
    places = z.shape[0] // count
    kept = np.arange(len(z))
    if len(z) > most:
        kept = np.sort(np.random.default_rng(seed).choice(len(z), most, replace=False))
    rows = z[torch.from_numpy(kept)]
    alone = replace(field, shape=(rows.shape[1],), offset=0)
    targets = subject.examples.targets
    item = kept // places
    return Rows(
        tail,
        rows.double().numpy(),
        item,
        kept % places,
        Codes(packed(alone, rows), Layout.of([alone])),
        None if targets is None else np.asarray(targets, np.int64)[item],
    )


def _chosen(subject: Subject) -> str | Callable[[Field], bool]:
    fields = Tail(subject.model, subject.sample).layout.fields
    wide = [f for f in fields if len(f.shape) > 1]
    name = (wide or fields)[-1].name
    return lambda f: f.name == name


def _met(tail: Tail, inputs: Tensor) -> Tensor:
    """The pre-activations of the one selected nonlinearity."""
    seen: list[Tensor] = []

    def reach(met: Meeting) -> Any:
        if met.field is not None:
            seen.append(met.z.detach().clone())
        return met.proceed()

    tail.run(inputs.clone(), reach, output=False)
    return seen[0]


def _flat(z: Tensor) -> Tensor:
    """(n * places, units)."""
    if z.ndim > 3:
        return z.flatten(2).transpose(1, 2).flatten(0, 1)  # channels lie in front of positions
    return z.flatten(0, -2)
