"""What mask steering does to a classifier: the logit of a class under the mask of that class, beside random masks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern import statistics
from polykern.factors.steering import Mask, concept_bits, steer
from polykern.models import Subject
from polykern.points import codes_of
from polykern.statistics import Estimate
from polykern.tail import Tail

REPEATS = 5  # random masks a class
Progress = Callable[[str, int, int], None]


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
    progress: Progress = lambda stage, done, total: None,
) -> Steered | None:  # fmt: skip
    """Steer a classifier's examples towards each of its classes.

    layer    nonlinearities whose bits are forced (`polykern.selectors`)
    tau      a bit is of a class where its frequency differs by more
    seed     of the halves and the random masks
    returns  None where the subject has no targets, no classes, or no class whose mask holds a bit

    Frequencies are those of one half of the examples, effects of the other. A random mask forces as many bits of the
    same layers to the same values in another order.
    """
    targets, tail = subject.examples.targets, Tail(subject.model, subject.sample, select=layer)
    if targets is None or subject.classes is None or tail.output_shape != (len(subject.classes),):
        return None
    inputs = torch.stack([subject.examples.at(k).input for k in range(len(subject.examples))])
    target = np.asarray(targets)
    order = np.random.default_rng(seed).permutation(len(target))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    codes = codes_of(tail, inputs)
    points = inputs[second]
    plain = steer(
        tail, points, Mask(tail.layout, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    )
    own = steer(tail, points, Mask.own(codes[torch.from_numpy(second)]))
    rows, differences = [], np.full((len(second), len(subject.classes)), np.nan)
    for c, name in enumerate(subject.classes):
        progress("masks", c, len(subject.classes))
        concept = target[first] == c
        if not 0 < concept.sum() < len(first):
            continue
        mask = concept_bits(codes[torch.from_numpy(first)], concept, tau=tau)
        others = torch.from_numpy(np.flatnonzero(target[second] != c))
        if not len(mask) or not len(others):
            continue
        changes = [_change(tail, points[others], m, plain[others], c) for m in
                   (mask, *(mask.shuffled(1000 * seed + REPEATS * c + k) for k in range(REPEATS)))]  # fmt: skip
        logit, turned = (np.stack(part) for part in zip(*changes, strict=True))  # (1 + REPEATS, others) each
        differences[others.numpy(), c] = logit[0] - logit[1:].mean(0)
        rows.append((name, len(mask), logit[0].mean(), turned[0].mean(), logit[1:].mean(), turned[1:].mean()))
    if not rows:
        return None
    names, bits, *reals = zip(*rows, strict=True)
    known = ~np.isnan(differences).all(1)
    effect = statistics.mean(np.nanmean(differences[known], 1), seed=seed)
    return Steered(
        tuple(names), np.array(bits), *(np.array(r) for r in reals), effect, torch.equal(plain, own), tau
    )


def _change(
    tail: Tail, points: torch.Tensor, mask: Mask, plain: torch.Tensor, c: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The change of a logit, and where its class is the largest that was not before."""
    out = steer(tail, points, mask)
    turned = (out.argmax(1) == c) & (plain.argmax(1) != c)
    return (out - plain)[:, c].double().numpy(), turned.numpy()
