"""The untrained twin of a network: the same architecture with weights that never saw data.

Batch normalisation decides what "untrained" means. As initialised (mean 0, variance 1) it does nothing, and a
network without biases is then positively homogeneous: its codes do not change along rays. With statistics measured
on data and everything else random, boundaries lie where the data are. Both are controls, and they differ.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from polykern.errors import UsageError
from polykern.models.subject import Subject, stacked
from polykern.seeds import reproducible

IMAGES, BATCH = 64, 16  # that BatchNorm is measured on, and of a pass


def untrained(
    subject: Subject, *, calibrated: bool = False, seed: int = 0, inputs: Tensor | None = None
) -> Subject:
    """The subject with random weights.

    subject     its examples, classes and start stay; the given model is left as it is
    calibrated  measure the statistics of every BatchNorm, 16 inputs at a time, weights untouched; without it they
                are as initialised
    seed        of the weights
    inputs      (n, *shape) that the statistics are measured on; None: the first 64 examples

    Every module that can do so draws its parameters anew (`reset_parameters`), as torch initialises them. Errors:
    UsageError naming a parameter that no module can draw, or where there is no BatchNorm to calibrate.
    """
    model = copy.deepcopy(subject.model)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if calibrated and not norms:
        raise UsageError(f"{subject.name} has no BatchNorm whose statistics could be measured")
    with reproducible(seed), torch.no_grad():
        _drawn(model)
        if calibrated:
            with measuring(model, norms):
                first = range(min(IMAGES, len(subject.examples)))
                for batch in (stacked(subject.examples, first) if inputs is None else inputs).split(BATCH):
                    model(batch)
    state = "BatchNorm measured on its examples" if calibrated else "BatchNorm as initialised"
    note = f"random weights{', ' + state if norms else ''}: NOT a trained network"
    return Subject(
        model, f"{subject.name}-untrained", note, subject.sample, subject.examples, classes=subject.classes,
        default_start=subject.default_start, default_examples=subject.default_examples, training=subject.training,
    )  # fmt: skip


@contextmanager
def measuring(model: nn.Module, norms: Sequence[nn.Module]) -> Iterator[None]:
    """A context in which the BatchNorms average their statistics over all batches; dropout stays off."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # type: ignore[assignment]  # the plain average
        norm.train()
    try:
        yield
    finally:
        model.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _drawn(model: nn.Module) -> None:
    """Draw all parameters anew, in the order of the modules."""
    known: set[int] = set()
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            known.update(id(p) for p in module.parameters())
    for name, parameter in model.named_parameters():
        if id(parameter) not in known:
            raise UsageError(
                f"the parameter {name} cannot be drawn anew",
                why="its module has no reset_parameters",
                fix="give an untrained network of your own",
            )
