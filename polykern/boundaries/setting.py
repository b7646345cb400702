"""What the parts of `pk.complexity` share: the two networks, the sets of points in their spaces, the directions."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.boundaries.checkpoints import Checkpoint
from polykern.boundaries.local import axes_of
from polykern.errors import UsageError
from polykern.heat import activations
from polykern.models import Subject, stacked
from polykern.models.subject import Examples
from polykern.models.untrained import untrained
from polykern.selectors import Select
from polykern.tail import Tail

LEVEL, RESAMPLES = 0.95, 2000  # of bootstrap intervals
RANDOM = "random"


@dataclass(frozen=True, eq=False)
class Space:
    """The space in front of a module of a network, with points in it.

    name    "trained", "untrained"
    tail    from the module on, in the dtype that signs are taken in
    sets    "training" and "test", or "examples" where nobody knows what it was trained on, and "random", uniform
            between the smallest and the largest number among the others -> float64 (n, *shape)
    labels  name of a set -> int64 (n), where classes are known
    unit    median distance between the points of the last set before the random ones, L2
    scored  whether the output is a score of every class, so that its softmax means something
    """

    name: str
    tail: Tail
    sets: dict[str, Tensor]
    labels: dict[str, NDArray[np.int64]]
    unit: float
    scored: bool

    @property
    def learned(self) -> str:
        """The set that the network was trained on, or what stands for it."""
        return next(iter(self.sets))


@dataclass(frozen=True, eq=False)
class Setting:
    """What `pk.complexity` was asked for.

    subject      the network that is looked at
    start, stop, select  which nonlinearities
    points       of each set
    radii        L2, or None: shares of a space's unit
    directions   in the neighbourhood of a point
    checkpoints  (step, weights) of a training of the network, or None
    seed         of everything random
    dtype        signs are taken in
    """

    subject: Subject
    start: str
    stop: str
    select: Select
    points: int
    radii: tuple[float, ...] | None
    directions: int | None
    checkpoints: Iterable[tuple[int, Checkpoint]] | None
    seed: int
    dtype: torch.dtype

    @cached_property
    def trained(self) -> Space:
        """The space of the subject itself."""
        return self._space("trained", self.subject)

    @cached_property
    def untrained(self) -> Space:
        """The same space of its twin with random weights; BatchNorms are measured on examples."""
        norms = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.subject.model.modules())
        return self._space("untrained", untrained(self.subject, calibrated=norms, seed=self.seed))

    @cached_property
    def axes(self) -> Tensor:
        """float64 (directions, dimensions): the directions around every point, the same for both networks."""
        return axes_of(self.trained.tail, self.directions, self.seed)

    def _space(self, name: str, subject: Subject) -> Space:
        tail = Tail(subject.model, subject.sample, self.start, stop=self.stop, select=self.select)
        known = {"examples": subject.examples}
        if subject.training is not None:
            known = {"training": subject.training, "test": subject.examples}
        sets: dict[str, Tensor] = {}
        labels: dict[str, NDArray[np.int64]] = {}
        for k, (what, examples) in enumerate(known.items()):
            rows = drawn(examples, self.points, self.seed + k)
            sets[what] = reaching(subject, self.start, examples, rows)
            if examples.targets is not None:
                labels[what] = np.array(examples.targets, np.int64)[rows]
        usual, every = sets[next(reversed(sets))], torch.cat(list(sets.values()))
        low, high = every.min(), every.max()
        generator = torch.Generator().manual_seed(self.seed)
        sets[RANDOM] = low + (high - low) * torch.rand(usual.shape, generator=generator, dtype=torch.float64)
        unit = float(torch.pdist(usual.flatten(1)).median())
        if not unit > 0:
            raise UsageError(f"the points of {subject.name} are all the same", fix="take more, or another start")
        scored = subject.classes is not None and tail.output_shape == (len(subject.classes),)
        return Space(name, tail.to(self.dtype, tail.device), sets, labels, unit, scored)

    def radii_of(self, space: Space, shares: tuple[float, ...]) -> tuple[float, ...]:
        """The radii asked for, L2, or these shares of the space's unit."""
        return self.radii or tuple(share * space.unit for share in shares)


def drawn(examples: Examples, count: int, seed: int) -> NDArray[np.int64]:
    """Numbers of at most `count` examples, drawn without replacement, ascending."""
    if len(examples) < 3:
        raise UsageError(f"{len(examples)} examples are too few to compare points", fix="give a subject with more")
    rng = np.random.default_rng(seed)
    return np.sort(rng.permutation(len(examples))[:count]).astype(np.int64)


def reaching(subject: Subject, start: str, examples: Examples, rows: NDArray[np.int64]) -> Tensor:
    """float64 (n, *shape): what reaches the module `start` from numbered examples.

    Errors: UsageError where these are whole numbers, tokens for one.
    """
    found = activations(subject, start, stacked(examples, rows.tolist()))
    if not found.is_floating_point():
        raise UsageError(
            f"what reaches {start or subject.name!r} are {str(found.dtype).removeprefix('torch.')} numbers",
            why="between tokens there are no points",
            fix="start at a module whose input is activations; polykern layers MODEL lists them",
        )
    return found.to(torch.float64)
