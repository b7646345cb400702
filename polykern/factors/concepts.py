"""What mask steering does to a classifier: the logit of a class under its mask, beside random masks."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern import statistics
from polykern.factors.steering import Mask, concept_bits, steer
from polykern.models import Subject, stacked
from polykern.points import codes_of
from polykern.progress import Progress
from polykern.statistics import Estimate
from polykern.tail import Tail

REPEATS = 5  # random masks a class


@dataclass(frozen=True, eq=False)
class Steered:
    """Classes steered towards, one after the other.

    classes   str (c)       their names
    bits      int64 (c)     bits that were forced
    change    float64 (c)   mean change of the class's logit, over images of other classes
    turned    float64 (c)   share of those images whose class it becomes
    random    float64 (c)   the mean change under random masks of the same size
    random_turned           float64 (c)
    effect    mean over images of change - random, with its interval over images
    identity  whether forcing every image's own code gave the same logits bit by bit
    tau       of the frequencies
    """

    classes: tuple[str, ...]
    bits: NDArray[np.int64]
    change: NDArray[np.float64]
    turned: NDArray[np.float64]
    random: NDArray[np.float64]
    random_turned: NDArray[np.float64]
    effect: Estimate
    identity: bool
    tau: float

    def numbers(self) -> dict[str, Any]:
        """For JSON."""
        means = {k: float(getattr(self, k).mean()) for k in ("bits", "change", "turned", "random", "random_turned")}
        return {"tau": self.tau, "classes": len(self.classes), **means, "effect": self.effect.as_dict(),
                "identity": self.identity}  # fmt: skip


def steered(
    subject: Subject, *, tau: float = 0.5, layer: str = "*", seed: int = 0,
    progress: Progress | None = None,
) -> Steered | None:  # fmt: skip
    """Steer a classifier's examples towards each of its classes.

    layer    nonlinearities whose bits are forced (`polykern.selectors`)
    tau      a bit is of a class where its frequency differs by more
    seed     of the halves and the random masks
    progress called with (stage, done, total)
    returns  None where the subject has no targets, no classes, or no class whose mask holds a bit

    Frequencies are those of one half of the examples, effects of the other. A random mask forces as many bits of
    the same layers to the same values in another order.
    """
    targets, tail = subject.examples.targets, Tail(subject.model, subject.sample, select=layer)
    if targets is None or subject.classes is None or tail.output_shape != (len(subject.classes),):
        return None
    inputs = stacked(subject.examples)
    order = np.random.default_rng(seed).permutation(len(targets))
    first, second = (torch.from_numpy(half) for half in np.array_split(order, 2))
    codes, target = codes_of(tail, inputs), np.asarray(targets)
    points = inputs[second]
    plain = steer(tail, points, Mask.none(tail.layout))
    own = steer(tail, points, Mask.own(codes[second]))
    rows: list[_Row] = []
    beyond = np.full((len(second), len(subject.classes)), np.nan)  # change of a logit less that of random masks
    for c, name in enumerate(subject.classes):
        if progress:
            progress("masks", c, len(subject.classes))
        concept, others = target[first] == c, np.flatnonzero(target[second] != c)
        if not 0 < concept.sum() < len(first) or not len(others):
            continue
        mask = concept_bits(codes[first], concept, tau=tau)
        if len(mask):
            row, beyond[others, c] = _row(name, tail, points[others], plain[others], mask, c, seed)
            rows.append(row)
    if not rows:
        return None
    known = ~np.isnan(beyond).all(1)
    effect = statistics.mean(np.nanmean(beyond[known], 1), seed=seed)
    bits, change, turned, random, random_turned = (
        np.array(c) for c in zip(*(row[1:] for row in rows), strict=True)
    )
    names = tuple(row.name for row in rows)
    return Steered(names, bits, change, turned, random, random_turned, effect, torch.equal(plain, own), tau)


class _Row(NamedTuple):
    """A class's line of `Steered`."""

    name: str
    bits: int
    change: float
    turned: float
    random: float
    random_turned: float


def _row(
    name: str, tail: Tail, points: Tensor, plain: Tensor, mask: Mask, c: int, seed: int
) -> tuple[_Row, NDArray[np.float64]]:
    """A class's mask beside random ones, and the change beyond theirs of every point."""
    drawn = [mask.shuffled(1000 * seed + REPEATS * c + k) for k in range(REPEATS)]
    changes = [_change(tail, points, m, plain, c) for m in (mask, *drawn)]
    logit, turned = (np.stack(part) for part in zip(*changes, strict=True))  # (1 + REPEATS, points) each
    means = [float(part.mean()) for part in (logit[0], turned[0], logit[1:], turned[1:])]
    return _Row(name, len(mask), *means), logit[0] - logit[1:].mean(0)


def _change(
    tail: Tail, points: Tensor, mask: Mask, plain: Tensor, c: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The change of a logit, and where its class is the largest that was not before."""
    out = steer(tail, points, mask)
    turned = (out.argmax(1) == c) & (plain.argmax(1) != c)
    return (out - plain)[:, c].double().numpy(), turned.numpy()
