"""Stages: modules into whose input spaces points are taken, each with the codes from there to the output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.heat import activations
from polykern.models import Subject
from polykern.points import codes_of
from polykern.tail import Tail

BATCH = 32  # items a pass


@dataclass(frozen=True)
class Place:
    """A stage.

    name    dotted name of the module; "" is the model itself
    fields  names of the nonlinearities behind its input, in order
    """

    name: str
    fields: tuple[str, ...]


def places(subject: Subject, names: Sequence[str] | None = None) -> list[Place]:
    """The stages of a network, in order.

    names  of modules; None: every child of the model that has parameters and nonlinearities behind its input; lists
           of modules are opened

    Errors: UsageError for a module that there is not, or that has no nonlinearity behind its input.
    """
    if names is not None:
        return [Place(name, _behind(subject, name)) for name in names]
    found = []
    for name, module in _children(subject.model, ""):
        if not any(True for _ in module.parameters()):
            continue
        try:
            found.append(Place(name, _behind(subject, name)))
        except UsageError:
            continue  # the classifier: nothing bends behind it
    if not found:
        raise UsageError(f"{subject.name} has no stages", fix="name modules")
    return sorted(found, key=lambda p: -len(p.fields))


def items(subject: Subject, batch: Tensor, place: Place) -> Tensor:
    """float32 (n, d): what reaches the stage, flat."""
    return activations(subject, place.name, batch).flatten(1)


def codes(subject: Subject, batch: Tensor, place: Place) -> Codes:
    """One code an item, from the stage to the output; those of later stages are its ends."""
    tail = Tail(subject.model, subject.sample, place.name)
    return codes_of(tail, activations(subject, place.name, batch), batch=BATCH)


def _behind(subject: Subject, name: str) -> tuple[str, ...]:
    return tuple(f.name for f in Tail(subject.model, subject.sample, name).layout.fields)


def _children(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield from _children(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
