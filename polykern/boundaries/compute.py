"""`pk.complexity`: from a network to the measures of its complexity."""

from collections.abc import Callable, Iterable, Sequence

import torch

from polykern.boundaries.checkpoints import Checkpoint
from polykern.boundaries.local import require_radii
from polykern.boundaries.parts import initialisation, local, outliers, training, transitions
from polykern.boundaries.records import Part
from polykern.boundaries.result import Complexity
from polykern.boundaries.setting import Setting
from polykern.errors import UsageError
from polykern.findings import provenance
from polykern.models import Subject, digest, digits
from polykern.progress import Progress, silent
from polykern.selectors import Select

PARTS: dict[str, Callable[[Setting, Progress], Part]] = {
    "local": local.measured,
    "training": training.measured,
    "transitions": transitions.measured,
    "initialisation": initialisation.measured,
    "outliers": outliers.measured,
}
POINTS = 64
DIGITS = "digits"  # the subject whose training can be done again in seconds
LOOKED_AT = (0, 1, 3, 10, 30, 100, 300)  # steps of the digits network's training, and the last


def complexity(
    subject: Subject,
    parts: Sequence[str] | None = None,
    *,
    start: str | None = None,
    stop: str = "",
    select: Select = "*",
    checkpoints: Iterable[tuple[int, Checkpoint]] | None = None,
    points: int = POINTS,
    radii: Sequence[float] | None = None,
    directions: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    progress: Progress | None = None,
) -> Complexity:
    """Measures of how many boundaries a network has around data, along paths, over training and at initialisation.

    subject      the network with its examples
    parts        which, of

                 local           Humayun et al. 2024: local complexity by layer and radius around training
                                 points, test points and random ones, beside the untrained twin
                 training        the same at checkpoints
                 transitions     Novak et al. 2018: density of boundaries at training points against their
                                 slices, on closed paths, and norms of Jacobians, beside the untrained twin
                 initialisation  Hanin, Rolnick 2019: crossings of lines and the distance to the nearest
                                 boundary against the number of neurons, in random networks of their own
                 outliers        how well codes tell scaled and perturbed points from others

                 None: all, without training where no checkpoints are given and none are known
    start        module into whose input space the points are laid; None: the subject's own
    stop         module after whose output the code ends; "" the model's output
    select       which nonlinearities count (`polykern.selectors`); smooth ones do too, by their signs
    checkpoints  (step, model or state dict) of a training of the subject, read one at a time; None: of the digits
                 network, which is trained again with `seed`. The settings say whether that ends in the same weights
    points       of each set
    radii        of the neighbourhoods, L2; None: shares of the median distance of points. Of `training` the first
    directions   of the neighbourhoods; None: 25, or as many as there are dimensions
    seed         of points, directions, twins and random networks
    dtype        float64, or float32 for three times the speed
    progress     called with (stage, done, total)

    Counts are exact for signs in `dtype`. Errors: UsageError for a part that there is not, points that are no
    activations, a radius that is not positive, more directions than dimensions, a training that is not known.
    """
    chosen = _parts(subject, parts, checkpoints)
    if points < 3:
        raise UsageError(f"{points} points of each set are too few", fix="take 3 or more, better 64")
    if radii is not None:
        require_radii(radii)
    at = subject.default_start if start is None else start
    again: dict[str, bool] = {}
    if checkpoints is None and "training" in chosen and subject.name == DIGITS:
        after = (*LOOKED_AT, digits.steps())
        (progress or silent)("training", 0, len(after))
        kept = digits.checkpoints(seed, after)
        checkpoints = tuple(kept.items())
        again = {"trained_again_to_the_same_weights": digest(kept[digits.steps()]) == subject.weights}
    setting = Setting(
        subject, at, stop, select, points, None if radii is None else tuple(map(float, radii)), directions,
        checkpoints, seed, dtype,
    )  # fmt: skip
    found = {name: PARTS[name](setting, progress or silent) for name in chosen}
    about = provenance(
        subject, setting.trained.tail, seed=seed, parts=list(chosen), points=points,
        radii=None if radii is None else list(radii), directions=len(setting.axes),
        unit=setting.trained.unit, dtype=str(dtype).removeprefix("torch."), **again,
    )  # fmt: skip
    return Complexity(about, found)


def _parts(subject: Subject, parts: Sequence[str] | None, checkpoints: object) -> list[str]:
    if parts is None:
        known = checkpoints is not None or subject.name == DIGITS
        return [name for name in PARTS if name != "training" or known]
    for name in parts:
        if name not in PARTS:
            raise UsageError(f"complexity has no part {name!r}", fix=f"choose of {', '.join(PARTS)}")
    if not parts:
        raise UsageError("no part of complexity is asked for", fix=f"choose of {', '.join(PARTS)}")
    return list(dict.fromkeys(parts))
