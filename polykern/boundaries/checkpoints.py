"""Local complexity over the checkpoints of a training."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polykern.boundaries.local import axes_of, local_complexity
from polykern.errors import UsageError
from polykern.layout import Layout
from polykern.tail import Tail
from polykern.wrappers import moved

Checkpoint = nn.Module | Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Course:
    """Local complexities at the checkpoints of a training.

    steps   as the checkpoints say, in their order
    radius  L2
    layout  of the codes: the layers and their sizes
    counts  name of a set of points -> int32 (checkpoints, layers, n)
    """

    steps: tuple[int, ...]
    radius: float
    layout: Layout
    counts: dict[str, Tensor]


def course(
    network: Tail,
    checkpoints: Iterable[tuple[int, Checkpoint]],
    points: Mapping[str, Tensor],
    radius: float,
    *,
    directions: int | Tensor | None = None,
    seed: int = 0,
    also: Callable[[int, Tail], None] | None = None,
    **how: Any,
) -> Course:
    """The local complexity of the same points with the same directions at every checkpoint.

    network      a tail of the architecture; its own weights are not looked at
    checkpoints  (step, a module of this architecture, or a state dict of it), read one at a time
    points       name -> float (n, *shape): sets of points in the space of the tail's start, where they stay
    radius       L2
    also         called with the step and the tail of every checkpoint
    directions, seed, how  as in `local_complexity`

    Humayun et al. 2024 look at points of the training set, of the test set and random ones. Errors: UsageError for
    no checkpoints, weights that do not fit the architecture, a checkpoint that meets other nonlinearities; else as
    `local_complexity`.
    """
    axes = axes_of(network, directions, seed)
    steps: list[int] = []
    counts: dict[str, list[Tensor]] = {name: [] for name in points}
    for step, checkpoint in checkpoints:
        tail = _loaded(network, step, checkpoint)
        network.layout.require_same(tail.layout)
        steps.append(step)
        if also is not None:
            also(step, tail)
        for name, rows in points.items():
            counts[name].append(local_complexity(tail, rows, [radius], directions=axes, **how).counts[0])
    _require(steps)
    return Course(tuple(steps), radius, network.layout, {name: torch.stack(c) for name, c in counts.items()})


def _loaded(network: Tail, step: int, checkpoint: Checkpoint) -> Tail:
    names = {(f.module, f.call) for f in network.layout.fields}
    model = copy.deepcopy(checkpoint if isinstance(checkpoint, nn.Module) else network.model)
    if not isinstance(checkpoint, nn.Module):
        try:
            model.load_state_dict(checkpoint)
        except RuntimeError as error:
            raise UsageError(f"the weights of step {step} do not fit the network", why=str(error)) from error
    moved(model, network.device, network.dtype)
    return Tail(
        model, network.sample, network.start, stop=network.stop, select=lambda f: (f.module, f.call) in names
    )


def _require(steps: Sequence[int]) -> None:
    if not steps:
        raise UsageError(
            "the course of a training without checkpoints", fix="give pairs (step, model or state dict)"
        )
