"""Seven numbers of a layer on a text: how many of its gates are open, and how close tokens are to boundaries."""

from typing import NamedTuple

import torch
from torch import Tensor

from polykern.errors import UsageError


class SplineFeatures(NamedTuple):
    """Over the tokens of a text; share: of gates that are on, closest: distance to the nearest boundary."""

    share_mean: float
    share_min: float
    share_max: float
    share_std: float
    closest_min: float
    closest_mean: float
    closest_std: float


def spline_features(gates: Tensor, weight: Tensor) -> SplineFeatures:
    """The features of one layer of a language model on one text.

    gates    float (tokens, neurons)   pre-activations of the gates: of an ungated MLP, of all its neurons
    weight   float (neurons, width)    the weights that they are made with; without a bias of theirs, or with it in
             `gates`: |h_i| / ||w_i|| is the distance to a neuron's boundary either way
    returns  SplineFeatures, in float64; standard deviations with n - 1

    A layer gives seven numbers, thirty-two layers 224. Errors: UsageError when shapes do not fit, a weight is zero,
    or there are fewer than two tokens. Balestriero, Cosentino, Shekkizhar 2023, "Characterizing Large Language
    Model Geometry Helps Solve Toxicity Detection and Generation" (arXiv:2312.01648).
    """
    if gates.ndim != 2 or weight.ndim != 2 or gates.shape[1] != len(weight):
        raise UsageError(f"gates {list(gates.shape)} are not made with weights {list(weight.shape)}")
    if len(gates) < 2:
        raise UsageError(f"a text of {len(gates)} tokens has no standard deviation")
    h, length = gates.detach().double(), weight.detach().double().norm(dim=1)
    if not bool((length > 0).all()):
        raise UsageError(
            f"the weights of neuron {int((length == 0).int().argmax())} are zero, so it has no boundary"
        )
    share = (h > 0).double().mean(1)
    closest = (h.abs() / length).amin(1)
    parts = (share.mean(), share.amin(), share.amax(), share.std(), closest.amin(), closest.mean(), closest.std())
    return SplineFeatures(*torch.stack(parts).tolist())
