"""A residual autoencoder of scikit-learn's handwritten digits, trained in seconds.

Two residual blocks encode 64 pixels into a code of 48 ReLU units, two decode it. Marshall and Kirchner 2024 used a
ResNet autoencoder of larger pictures; these are the pictures that need no download.
"""

from collections import OrderedDict
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.models._cache import State
from polykern.models.digits import BATCH, EPOCHS, SIDE, TRAIN, distorted, keep, load, steps
from polykern.seeds import reproducible

WIDTH, CODE = 128, 48  # of the residual stream, of the code
RATE = 4e-3


class Block(nn.Module):
    """x + W2 relu(W1 x + b1) + b2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        added: Tensor = self.outer(self.inner(x).relu())
        return x + added


def network(dropout: float = 0.0) -> nn.Sequential:
    """The untrained autoencoder: (n, 1, 8, 8) in 0..1 -> (n, 64).

    dropout  share of the 48 units of the code that training leaves out; 0: there is no such module
    """
    layers: list[tuple[str, nn.Module]] = [
        ("flatten", nn.Flatten()), ("stem", nn.Linear(SIDE**2, WIDTH)), ("block1", Block(WIDTH)),
        ("block2", Block(WIDTH)), ("squeeze", nn.Linear(WIDTH, CODE)), ("code", nn.ReLU()),
        ("expand", nn.Linear(CODE, WIDTH)), ("block3", Block(WIDTH)), ("block4", Block(WIDTH)),
        ("out", nn.Linear(WIDTH, SIDE**2)),
    ]  # fmt: skip
    if dropout:
        layers.insert(6, ("dropout", nn.Dropout(dropout)))
    return nn.Sequential(OrderedDict(layers))


def checkpoints(
    seed: int, after: Collection[int], epochs: int = EPOCHS, *, dropout: float = 0.0
) -> dict[int, State]:
    """Weights of the autoencoder after some steps of one training: step -> weights.

    seed     of initial weights, order and distortions
    after    numbers of steps, 0 (as initialised) to `polykern.models.digits.steps(epochs)`
    epochs   passes over the 1,500 training images, each time distorted a little
    dropout  as of `network`

    Mean squared error, Adam, one cycle of the rate. The same machine and torch give the same bits.
    """
    kept: dict[int, State] = {}
    images = load()[0][:TRAIN]
    with reproducible(seed):
        model = network(dropout)
        optimiser = torch.optim.Adam(model.parameters(), RATE / 2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps(epochs))
        done = 0
        keep(kept, done, after, model)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(TRAIN), BATCH):
                seen = distorted(images[rows])
                optimiser.zero_grad()
                F.mse_loss(model(seen), seen.flatten(1)).backward()
                optimiser.step()
                schedule.step()
                done += 1
                keep(kept, done, after, model)
    return kept
