"""Representational flow: what becomes near, and what far, between two stages of a network.

Of pairs that are far at the first stage, how many are near at the second, and the other way round, with near and
far split at the median; for pairs within classes and between them. Black et al. 2022, "Representational flow".
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from polykern.densities.result import Pairs, Reals, Stage
from polykern.errors import UsageError
from polykern.statistics import Estimate, spearman

QUADRANTS = ("stays_near", "diverges", "converges", "stays_far")


@dataclass(frozen=True)
class Flow:
    """From one stage to another.

    correlation  Spearman's of the pairs' distances at the two, 95 % interval
    within       shares of the pairs within classes in each of QUADRANTS
    between      shares of the pairs between classes
    """

    correlation: Estimate
    within: dict[str, float]
    between: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def flow(found: Pairs, first: str, last: str, *, network: str = "trained", by: str = "distance") -> Flow:
    """The flow between two stages of a result.

    found    of `pk.pairs`
    first    name of a stage
    last     name of a later one
    network  of `found.networks`
    by       "distance", Euclidean; "hamming", of the codes from each stage on; "jaccard"

    Errors: UsageError for names that there are not.
    """
    if by not in ("distance", "hamming", "jaccard"):
        raise UsageError(f"no distance {by!r}", fix="choose distance, hamming or jaccard")
    a, b = (_values(_stage(found, network, name), by) for name in (first, last))
    far = [x > np.median(x) for x in (a, b)]
    quadrant = 2 * far[0].astype(int) + far[1]
    same = _stage(found, network, first).pairs.same
    shares: list[dict[str, float]] = [
        dict(zip(QUADRANTS, (np.bincount(quadrant[k], minlength=4) / max(1, k.sum())).tolist(), strict=True))
        for k in (same, ~same)
    ]
    return Flow(spearman(a, b, seed=found.about["seed"]), *shares)


def _values(stage: Stage, by: str) -> Reals:
    return stage.hamming.sum(0).astype(np.float64) if by == "hamming" else np.asarray(getattr(stage, by))


def _stage(found: Pairs, network: str, name: str) -> Stage:
    stages = {s.name: s for s in found.networks.get(network, ())}
    if name not in stages:
        raise UsageError(f"no stage {name!r} of {network!r}", fix=f"choose one of {', '.join(stages) or 'none'}")
    return stages[name]
