"""The networks of the study: trained with dropout on their hidden code, seen layer by layer at some steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.errors import UsageError
from polykern.models import digits, reconstruction

LOOKED_AT = (0, 30, 100)  # steps of the autoencoder's training, and the last


@dataclass(frozen=True)
class Kind:
    """A network that can be studied.

    note         one sentence a person reads
    code         name of the module whose outputs are dropped and knocked out
    layers       names of the modules whose outputs have spectra
    ranks        window of the power law, the same for every network, so that exponents can be compared; it ends
                 within half of the code's rank, which is 80 or more of 128 units, and 38 or more of 48
    over_time    whether spectra are taken during the training, or at its end alone
    score        what is measured when neurons fail
    network      (dropout) -> the untrained network
    checkpoints  (seed, steps, epochs, dropout=) -> step -> weights
    """

    note: str
    code: str
    layers: tuple[str, ...]
    ranks: tuple[int, int]
    over_time: bool
    score: str
    network: Callable[..., nn.Sequential]
    checkpoints: Callable[..., dict[int, Any]]


KINDS = {
    "digits": Kind(
        "the digits network with dropout on relu4, its last hidden layer", "relu4", ("relu4",), (11, 32), False,
        "accuracy", digits.network, digits.checkpoints,
    ),
    "autoencoder": Kind(
        "a residual autoencoder of scikit-learn's digits with dropout on its code of 48 units", "code",
        ("stem", "block1", "block2", "code", "expand", "block3", "block4"), (11, 18), True,
        "share of variance reconstructed", reconstruction.network, reconstruction.checkpoints,
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    layers  (step, name) -> float32 (1797, units)   outputs for all images, undistorted, nothing dropped
    score   of a mask over the units of the code, on the 297 test images
    """

    dropout: float
    seed: int
    layers: dict[tuple[int, str], Tensor]
    score: Callable[[Tensor], float]


def kind(name: str) -> Kind:
    """The network of a name; UsageError where there is none."""
    if name not in KINDS:
        raise UsageError(f"redundancy is not studied on {name!r}", fix=f"choose one of {', '.join(KINDS)}")
    return KINDS[name]


def trained(of: Kind, dropout: float, seed: int, epochs: int) -> Trained:
    """Train one network and run it on all images."""
    last = digits.steps(epochs)
    after = sorted({*(s for s in LOOKED_AT if s < last), last}) if of.over_time else [last]
    images, labels = digits.load()
    layers: dict[tuple[int, str], Tensor] = {}
    model = of.network()  # without dropout, which has no weights
    for step, weights in of.checkpoints(seed, after, epochs, dropout=dropout).items():
        model.load_state_dict(weights)
        model.requires_grad_(False).eval()
        x = images
        for name, module in model.named_children():
            x = module(x)
            if name in of.layers:
                layers[step, name] = x.detach()
    names = [name for name, _ in model.named_children()]
    rest = model[names.index(of.code) + 1 :]
    code = layers[last, of.code][digits.TRAIN :]
    truth = labels[digits.TRAIN :] if of.score == "accuracy" else images[digits.TRAIN :].flatten(1)
    return Trained(dropout, seed, layers, lambda mask: of_output(rest(code * mask), truth))


def of_output(out: Tensor, truth: Tensor) -> float:
    """The share of right classes where the truth is int64 (n), else the share of variance that is explained.

    A reconstruction float (n, k) that is worse than the mean of the truth explains 0.
    """
    if truth.ndim == 1:
        return float(out.argmax(1).eq(truth).double().mean())
    wrong = (out.double() - truth.double()).square().sum()
    return max(0.0, float(1 - wrong / (truth.double() - truth.double().mean(0)).square().sum()))


def labels() -> NDArray[np.int64]:
    """int64 (1797): the digit of every image; the first 1500 were trained on."""
    found: NDArray[np.int64] = digits.load()[1].numpy()
    return found
