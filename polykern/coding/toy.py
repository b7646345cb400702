"""Features in fewer dimensions: the toy model of superposition, many instances at once.

    h = W x,   x' = ReLU(W^T h + b),   loss = sum_i I_i (x_i - x'_i)^2

x_i is 0, or with probability p uniform in 0 .. 1; W is (hidden, features), the importance I_i falls with i. Column
v_i is where feature i lies in the hidden space. Its capacity,

    c_i = (v_i . v_i)^2 / sum_j (v_i . v_j)^2,

is the share of a dimension that it has for itself: 1 alone, 1/2 in an antipodal pair, 0 where it is not
represented. The sum over all features is at most the number of dimensions. Elhage et al. 2022, "Toy Models of
Superposition"; Scherlis, Sachan, Jermyn, Benton, Shlegeris 2022, "Polysemanticity and Capacity in Neural Networks".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from polykern.errors import UsageError

Reals = NDArray[np.float64]
RATE = 1e-2  # of Adam, falling to 0 as a cosine
REPRESENTED = 0.5  # squared length of v_i from which a feature counts as represented
TESTED = 4096  # rows that the final loss is of
Told = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True, eq=False)
class Toys:
    """Trained instances.

    weights      float64 (instances, hidden, features)
    biases       float64 (instances, features)
    probability  float64 (instances)   that a feature is active
    importance   float64 (features)
    loss         float64 (instances)   over rows that were not trained on, as a share of what x' = 0 loses
    """

    weights: Reals
    biases: Reals
    probability: Reals
    importance: Reals
    loss: Reals

    @property
    def lengths(self) -> Reals:
        """float64 (instances, features): squared lengths of the v_i; 1 where a feature comes back as it went in."""
        found: Reals = (self.weights**2).sum(1)
        return found

    @property
    def represented(self) -> NDArray[np.int64]:
        """int64 (instances): features whose squared length is above 1/2."""
        found: NDArray[np.int64] = (self.lengths > REPRESENTED).sum(1)
        return found

    @property
    def per_dimension(self) -> Reals:
        """float64 (instances): the sum of squared lengths over the dimensions: features represented a dimension."""
        found: Reals = self.lengths.sum(1) / self.weights.shape[1]
        return found

    @property
    def capacities(self) -> Reals:
        """float64 (instances, features): the capacity of every feature."""
        return np.stack([capacities(w) for w in self.weights])

    @property
    def spectra(self) -> Reals:
        """float64 (instances, hidden): eigenvalues of the covariance of h, exact, the largest first.

        Features are independent with variance p / 3 - p^2 / 4.
        """
        variance = self.probability / 3 - self.probability**2 / 4
        covariance = variance[:, None, None] * (self.weights @ self.weights.swapaxes(1, 2))
        found: Reals = np.maximum(np.linalg.eigvalsh(covariance)[:, ::-1], 0)
        return found


def capacities(weights: ArrayLike) -> Reals:
    """float64 (features): c_i of the columns of W (hidden, features); 0 for a column of zeros."""
    w = np.asarray(weights, np.float64)
    gram = w.T @ w
    with np.errstate(invalid="ignore"):
        share = gram.diagonal() ** 2 / (gram**2).sum(1)
    found: Reals = np.where(gram.diagonal() > 0, share, 0.0)
    return found


def train(
    probability: ArrayLike,
    *,
    features: int,
    hidden: int,
    decay: float = 1.0,
    steps: int = 3000,
    batch: int = 256,
    seed: int = 0,
    told: Told | None = None,
) -> Toys:
    """Train an instance for each probability, all in one batched model.

    probability  float (instances)   that a feature is active, in 0 .. 1
    features     of the input
    hidden       dimensions
    decay        importance of feature i is decay^i
    steps        of Adam
    batch        rows a step, drawn anew, for each instance
    seed         of weights and rows
    told         hears of the steps

    float32; the same machine and torch give the same bits. Errors: UsageError for a probability outside 0 .. 1, or
    no features or dimensions.
    """
    p = np.asarray(probability, np.float64)
    if p.ndim != 1 or not len(p) or not ((p > 0) & (p <= 1)).all():
        raise UsageError("a feature is active with a probability above 0 and at most 1")
    if min(features, hidden, steps, batch) < 1 or not 0 < decay <= 1:
        raise UsageError(
            f"{features} features in {hidden} dimensions, importance {decay}^i, {steps} steps of {batch} rows",
            fix="take at least one of each, and a decay in 0 .. 1",
        )
    generator = torch.Generator().manual_seed(seed)
    active = torch.from_numpy(p).float()[:, None, None]
    importance = decay ** torch.arange(features, dtype=torch.float32)
    spread = (2 / (features + hidden)) ** 0.5  # Glorot and Bengio 2010
    with torch.enable_grad():
        w = (spread * torch.randn(len(p), hidden, features, generator=generator)).requires_grad_()
        b = torch.zeros(len(p), 1, features, requires_grad=True)
        optimiser = torch.optim.Adam([w, b], RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            x = _rows(active, batch, features, generator)
            optimiser.zero_grad()
            _losses(x, w, b, importance).sum().backward()
            optimiser.step()
            schedule.step()
            if told is not None and step % 100 == 0:
                told(step, steps)
    with torch.no_grad():
        x = _rows(active, TESTED, features, generator)
        loss = _losses(x, w, b, importance) / (importance * x.square()).sum(2).mean(1)
    return Toys(
        w.detach().double().numpy(), b.detach()[:, 0].double().numpy(), p, importance.double().numpy(),
        loss.double().numpy(),
    )  # fmt: skip


def _rows(active: Tensor, batch: int, features: int, generator: torch.Generator) -> Tensor:
    """float32 (instances, batch, features)."""
    drawn = torch.rand(2, len(active), batch, features, generator=generator)
    return drawn[0] * (drawn[1] < active)


def _losses(x: Tensor, w: Tensor, b: Tensor, importance: Tensor) -> Tensor:
    """float32 (instances): mean over rows."""
    out = torch.relu(torch.baddbmm(b, torch.bmm(x, w.mT), w))
    return (importance * (x - out).square()).sum(2).mean(1)
