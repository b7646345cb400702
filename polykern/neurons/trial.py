"""`pk.latents`: sparse autoencoders of a hidden layer with and without the loss of neuron embeddings.

Three of every seed: without the loss, with it, and without it at a lower sparsity, which has about as many active
latents a row as the loss leaves: what the loss does beyond making the code denser. Foote 2024, "Tackling
Polysemanticity with Neuron Embeddings", workshop abstract.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.autoencoders import SparseAutoencoder
from polykern.errors import UsageError
from polykern.findings import Findings, Picture, Table, provenance
from polykern.heat import activations
from polykern.models import Subject, load, stacked
from polykern.neurons.clusters import CUT, METRICS, Linkage
from polykern.neurons.latent import Latents, Quality
from polykern.neurons.neurons import Neurons
from polykern.neurons.result import Layer
from polykern.neurons.tensors import READ, latent_features, neuron_features
from polykern.neurons.trained import STEPS, trained
from polykern.progress import Progress, silent
from polykern.statistics import Estimate

CONDITIONS = ("plain", "loss", "denser")
MEASURES = ("error", "held_error", "l0", "dead", "mean_distance", "clusters", "examples")


@dataclass(frozen=True, eq=False)
class Run:
    """One autoencoder.

    condition    of `CONDITIONS`
    seed         of its training
    measures     of `MEASURES`: error of what is rebuilt, as a share of the variance, of all rows and of those that
                 were not learned on; latents active on a row; share of latents that no row makes fire; and means
                 over latents with two examples or more: their mean_distance, clusters, examples
    layer        its latents
    """

    condition: str
    seed: int
    measures: dict[str, float]
    layer: Layer


@dataclass(frozen=True, eq=False)
class LatentTrial(Findings):
    """Autoencoders with and without the loss, and the neurons of the layer they read.

    runs     of every condition and seed
    neurons  the layer itself
    """

    runs: list[Run]
    neurons: Layer

    SCHEMA: ClassVar[str] = "polykern-latents/1"

    def of(self, condition: str, measure: str) -> NDArray[np.float64]:
        """float64 (seeds): a measure of every run of a condition."""
        return np.array([r.measures[measure] for r in self.runs if r.condition == condition])

    def numbers(self) -> dict[str, Any]:
        told: dict[str, Any] = {c: {m: _interval(self.of(c, m)).as_dict() for m in MEASURES} for c in CONDITIONS}
        for other in ("plain", "denser"):
            told[f"loss minus {other}"] = {
                m: _interval(self.of("loss", m) - self.of(other, m)).as_dict() for m in MEASURES
            }
        return told | {"neurons": _measures(self.neurons)}

    def tables(self) -> dict[str, Table]:
        size = [len(r.layer.value) for r in self.runs]
        f = [r.layer.features for r in self.runs]
        runs: Table = {
            "condition": [r.condition for r in self.runs], "seed": [r.seed for r in self.runs],
            **{m: [r.measures[m] for r in self.runs] for m in MEASURES},
        }  # fmt: skip
        latents: Table = {
            "condition": np.repeat([r.condition for r in self.runs], size),
            "seed": np.repeat([r.seed for r in self.runs], size),
            "latent": np.concatenate([np.arange(n) for n in size]),
            "examples": np.concatenate([x.size for x in f]),
            "clusters": np.concatenate([x.count for x in f]),
            **{m: np.concatenate([x.metrics[:, k] for x in f]) for k, m in enumerate(METRICS)},
        }
        return {"runs": runs, "latents": latents}

    def pictures(self) -> dict[str, Picture]:
        from polykern.neurons import figure

        return {"latents": Picture(1350, 520, lambda sheet: figure.trial(sheet, self))}


def latents(
    model: str | Subject = "digits",
    *,
    module: str = "fc1",
    expansion: int = 8,
    sparsity: float = 0.2,
    strength: float = 10.0,
    denser: float = 0.1,
    steps: int = STEPS,
    seeds: Sequence[int] = (0, 1, 2),
    top: int = 100,
    share: float = 0.75,
    cut: float = CUT,
    linkage: Linkage = "average",
    progress: Progress | None = None,
) -> LatentTrial:
    """Sparse autoencoders of a hidden layer, trained with and without the loss of neuron embeddings.

    model      a subject that knows what it was trained on
    module     nn.Linear with a ReLU behind it: the autoencoders read its ReLU's output
    expansion  latents for every neuron
    sparsity   weight of the sum of activations, rows being of variance 1
    strength   weight of the loss of neuron embeddings
    denser     sparsity of the control without the loss
    steps      of each training
    seeds      of the trainings, at least two; each condition has one with each
    top, share, cut, linkage  as in `latent_features`
    progress   hears ("autoencoders", done, total)

    Learned on the training examples, looked at on these and the others together. Intervals are Student's, over
    seeds. The same seeds, machine and torch give the same bits. Errors: UsageError for a module that is no linear
    one, a model without training examples, or numbers that do not fit.
    """
    subject = load(model) if isinstance(model, str) else model
    if len(seeds) < 2 or expansion < 1 or steps < 1:
        raise UsageError(
            f"{len(seeds)} seeds, {expansion}-fold, {steps} steps", fix="take two seeds or more, the rest >= 1"
        )
    neurons, h, learned_on = _hidden(subject, module)
    x = (h @ neurons.weight.T + neurons.bias).relu()
    how: dict[str, Any] = {"top": top, "share": share, "cut": cut, "linkage": linkage}
    weights = {"plain": (sparsity, 0.0), "loss": (sparsity, strength), "denser": (denser, 0.0)}
    tell, runs = progress or silent, list[Run]()
    for seed in seeds:
        for condition, (thin, strong) in weights.items():
            tell("autoencoders", len(runs), len(seeds) * len(weights))
            sae = trained(
                x[:learned_on], expansion * x.shape[1], sparsity=thin, strength=strong, steps=steps, seed=seed
            )
            runs.append(_run(condition, seed, sae, x, learned_on, how))
    settings = {
        "module": module, "expansion": expansion, "sparsity": sparsity, "strength": strength, "denser": denser,
        "steps": steps, "seeds": list(seeds), "rows": len(x), "learned_on": learned_on, **how,
    }  # fmt: skip
    return LatentTrial(provenance(subject, seed=seeds[0], **settings), runs, neuron_features(neurons, h, **how))


def _run(condition: str, seed: int, sae: SparseAutoencoder, x: Tensor, learned_on: int, how: dict[str, Any]) -> Run:
    layer = latent_features(sae, x, **how)
    held = Quality(Latents(sae, READ))
    held.add({READ: x[learned_on:]})
    quality = layer.autoencoder or {}
    measures = {"error": quality["error"], "held_error": held.numbers()["error"], "l0": quality["l0"]}
    return Run(condition, seed, {**measures, **_measures(layer)}, layer)


def _measures(layer: Layer) -> dict[str, float]:
    f, several = layer.features, layer.features.size >= 2
    means = {"mean_distance": f.metrics[:, METRICS.index("mean_distance")], "clusters": f.count, "examples": f.size}
    return {
        "dead": float(layer.dead.mean()),
        **{name: float(v[several].mean()) if several.any() else float("nan") for name, v in means.items()},
    }


def _hidden(subject: Subject, module: str) -> tuple[Neurons, Tensor, int]:
    """The neurons, what they receive of the training examples and then of the others, how many the first are."""
    if subject.training is None:
        raise UsageError(f"{subject.name} does not know what it was trained on", fix="take digits")
    found: Any = dict(subject.model.named_modules()).get(module)
    if not isinstance(found, nn.Linear):
        raise UsageError(f"{subject.name} has no linear module {module!r}", fix="polykern layers MODEL lists them")
    inputs = torch.cat([stacked(subject.training), stacked(subject.examples)])
    h = activations(subject, module, inputs).float()
    bias = torch.zeros(len(found.weight)) if found.bias is None else found.bias.detach()
    return Neurons(module, "relu", module, module, found.weight.detach(), bias), h, len(subject.training)


def _interval(values: NDArray[np.float64]) -> Estimate:
    """The mean with Student's interval, level 0.95."""
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5)
    value = float(values.mean())
    return Estimate(value, value - half, value + half, 0.95)
