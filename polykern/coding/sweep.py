"""`pk.superposition`: the toy model from dense to sparse features, and the coding theory of what it learns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from polykern.coding.result import NOISE, over_seeds
from polykern.coding.toy import Toys, train
from polykern.errors import UsageError
from polykern.findings import RECORDED, Findings, Picture, Table
from polykern.progress import Progress, silent
from polykern.spectra import capacity, powerlaw
from polykern.statistics import Estimate
from polykern.versions import recorded

Reals = NDArray[np.float64]
PROBABILITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.025, 0.01)
MEASURES = (
    "features_a_dimension", "represented", "capacity", "capacity_of_represented", "alpha", "participation_ratio",
    "unused_capacity", "loss",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Superposition(Findings):
    """Instances of the toy model, several at each probability of a feature.

    toys       all instances, ordered by probability from dense to sparse
    instances  at each probability
    """

    toys: Toys
    instances: int

    SCHEMA: ClassVar[str] = "polykern-superposition/1"

    @property
    def probabilities(self) -> list[float]:
        """From dense to sparse."""
        found: list[float] = self.toys.probability[:: self.instances].tolist()
        return found

    def measures(self) -> dict[str, Reals]:
        """float64 (probabilities, instances) each.

        features_a_dimension     sum of squared lengths over dimensions
        represented              features with a squared length above 1/2
        capacity                 sum over features, at most the number of dimensions
        capacity_of_represented  mean over these; nan for none
        alpha                    of the exact spectrum of the hidden code, over all ranks
        participation_ratio      of the same
        unused_capacity          share of the capacity of evenly spread power that it gives up, at a noise of 0.1
        loss                     share of what the answer 0 loses
        """
        toys, hidden = self.toys, self.toys.weights.shape[1]
        spectra, strong = toys.spectra, toys.lengths > 0.5
        scale = NOISE * np.sqrt(spectra.mean(1))
        with np.errstate(invalid="ignore"):
            of_represented = np.where(strong, toys.capacities, 0).sum(1) / strong.sum(1)
        every = {
            "features_a_dimension": toys.per_dimension,
            "represented": toys.represented.astype(np.float64),
            "capacity": toys.capacities.sum(1),
            "capacity_of_represented": of_represented,
            "alpha": np.array([_alpha(s, hidden) for s in spectra]),
            "participation_ratio": np.array([powerlaw.participation_ratio(s) for s in spectra]),
            "unused_capacity": np.array(
                [1 - capacity.gaussian(s, x) / capacity.white(s, x) for s, x in zip(spectra, scale, strict=True)]
            ),
            "loss": toys.loss,
        }
        return {name: values.reshape(-1, self.instances) for name, values in every.items()}

    def means(self) -> dict[str, list[Estimate]]:
        """By measure: the mean over instances at every probability, with its t interval."""
        return {name: [over_seeds(row) for row in values] for name, values in self.measures().items()}

    @property
    def begins(self) -> float | None:
        """The largest probability at which there are more represented features than dimensions; None for none."""
        more = self.measures()["represented"].mean(1) > self.toys.weights.shape[1]
        return float(np.asarray(self.probabilities)[more][0]) if more.any() else None

    def numbers(self) -> dict[str, Any]:
        """By measure and probability."""
        told: dict[str, Any] = {
            name: {f"{p:g}": e.as_dict() for p, e in zip(self.probabilities, row, strict=True)}
            for name, row in self.means().items()
        }
        return {"superposition_begins_at": self.begins, **told}

    def tables(self) -> dict[str, Table]:
        toys = self.toys
        instances, features = toys.lengths.shape
        number = np.tile(np.arange(self.instances), len(self.probabilities))
        return {
            "instances": {
                "probability": toys.probability,
                "instance": number,
                **{name: values.ravel() for name, values in self.measures().items()},
            },
            "features": {
                "probability": np.repeat(toys.probability, features),
                "instance": np.repeat(number, features),
                "feature": np.tile(np.arange(features), instances),
                "importance": np.tile(toys.importance, instances),
                "squared_length": toys.lengths.ravel(),
                "capacity": toys.capacities.ravel(),
            },
            "eigenvalues": {
                "probability": np.repeat(toys.probability, toys.spectra.shape[1]),
                "instance": np.repeat(number, toys.spectra.shape[1]),
                "rank": np.tile(np.arange(1, toys.spectra.shape[1] + 1), instances),
                "eigenvalue": toys.spectra.ravel(),
            },
        }

    def pictures(self) -> dict[str, Picture]:
        from polykern.coding import sharing

        return {"superposition": Picture(1300, 900, lambda sheet: sharing.superposition(sheet, self))}


def superposition(
    probabilities: Sequence[float] = PROBABILITIES,
    *,
    features: int = 40,
    hidden: int = 10,
    decay: float = 0.9,
    instances: int = 3,
    steps: int = 3000,
    batch: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Superposition:
    """The toy model of superposition, from dense to sparse features.

    probabilities  that a feature is active, above 0 and at most 1: 1 - sparsity
    features       of the input
    hidden         dimensions that they share
    decay          importance of feature i is decay^i
    instances      at each probability, which differ in their first weights and rows
    steps, batch   of the training; all instances are trained at once
    seed           of everything random
    progress       called with (stage, done, total)

    The spectrum of the hidden code is exact, by the weights and the known variance of features. Elhage et al. 2022,
    "Toy Models of Superposition"; Marshall and Kirchner 2024. Errors: UsageError for what gives no model, or the
    same probability twice.
    """
    chosen = sorted((float(p) for p in probabilities), reverse=True)
    if instances < 1 or len(set(chosen)) < len(chosen) or hidden < 2:
        raise UsageError(
            f"{instances} instances in {hidden} dimensions at probabilities {list(probabilities)}",
            fix="take different probabilities, one instance or more, two dimensions or more",
        )
    tell = progress or silent
    toys = train(
        np.repeat(chosen, instances), features=features, hidden=hidden, decay=decay, steps=steps, batch=batch,
        seed=seed, told=lambda done, total: tell("steps", done, total),
    )  # fmt: skip
    tell("steps", steps, steps)
    about = {
        "model": {"name": "toy model of superposition", "note": "h = W x, x' = ReLU(W^T h + b)"},
        "seed": seed,
        "settings": {
            "probabilities": chosen, "features": features, "hidden": hidden, "decay": decay, "instances": instances,
            "steps": steps, "batch": batch,
        },
        "versions": recorded(*RECORDED),
    }  # fmt: skip
    return Superposition(about, toys, instances)


def _alpha(spectrum: Reals, hidden: int) -> float:
    """Over all ranks; nan where a dimension is not used."""
    return powerlaw.fit(spectrum, 1, hidden).alpha if powerlaw.positive(spectrum) == hidden else float("nan")
