"""Factorisations of activations: directions in the space of a layer's units.

    NMF   X ~ W H,  W, H >= 0,  least |X - W H|^2      (Lee, Seung 1999)
    PCA   the axes of greatest variance about the mean, each in both senses

scikit-learn factorises on the CPU: init "nndsvda", coordinate descent, 400 rounds. `backend="torch"` is the same
start and the same updates, all rows at once (HALS: Cichocki, Phan 2009), on any device; its objective is within 1%
of scikit-learn's (measured in the tests), its components are not the same bits.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.errors import UsageError

Reals = NDArray[np.float64]
ROUNDS = 400
TOLERANCE = 1e-6  # of the objective, over 10 rounds: where HALS ends
TINY = 1e-300
BACKENDS = ("sklearn", "torch")


@dataclass(frozen=True, eq=False)
class Factors:
    """A factorisation of rows.

    components  float64 (k, units)   directions; not of unit length
    weights     float64 (n, k)       of the rows
    mean        float64 (units)      what was taken from the rows first; 0 for NMF
    error       |X - mean - W H|^2
    backend     "sklearn" | "torch"
    """

    components: Reals
    weights: Reals
    mean: Reals
    error: float
    backend: str


def nmf(
    rows: Reals,
    components: int = 64,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
    backend: str | None = None,
    device: str | torch.device = "cpu",
) -> Factors:
    """Non-negative factors of rows.

    rows        float (n, units) >= 0
    components  1 ... min(n, units)
    rounds      at most
    seed        of the SVD that scikit-learn starts from
    backend     None: "torch" on a CUDA device, else "sklearn"
    device      of "torch"

    Errors: UsageError for negative rows, more components than rows or units, or rows that are all zero.
    """
    x = _checked(rows, components)
    if (x < 0).any():
        raise UsageError(
            f"NMF of negative numbers: {int((x < 0).sum())} of {x.size}, least {x.min():.4g}",
            fix="factorise ReLU(pre-activations), or take PCA",
        )
    if not x.any():
        raise UsageError("NMF of rows that are all zero", why="no unit is ever on", fix="choose another layer")
    named = backend or ("torch" if torch.device(device).type == "cuda" else "sklearn")
    if named not in BACKENDS:
        raise UsageError(f"no backend {backend!r} of NMF", fix=f"choose one of {', '.join(BACKENDS)}")
    if named == "torch":
        w, h = (t.cpu().numpy() for t in _hals(torch.from_numpy(x).to(device), components, rounds))
    else:
        w, h = _sklearn(x, components, rounds, seed)
    return Factors(h, w, np.zeros(x.shape[1]), float(((x - w @ h) ** 2).sum()), named)


def pca(rows: Reals, components: int = 64) -> Factors:
    """Principal axes of rows, each followed by its opposite: 2 `components` directions of unit length.

    rows        float (n, units)
    components  1 ... min(n, units)

    The sign that comes first is the one in which the largest coefficient is positive. Errors as in `nmf`.
    """
    from sklearn.decomposition import PCA

    x = _checked(rows, components)
    found: Any = PCA(components, svd_solver="full").fit(x)
    axes = found.components_
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    w = (x - found.mean_) @ axes.T
    both = np.stack([axes, -axes], 1).reshape(-1, x.shape[1])
    weights = np.stack([w.clip(0), (-w).clip(0)], 2).reshape(len(x), -1)
    return Factors(both, weights, found.mean_, float(((x - found.mean_ - w @ axes) ** 2).sum()), "sklearn")


def _checked(rows: Reals, components: int) -> Reals:
    x = np.asarray(rows, np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise UsageError(f"rows are finite numbers (n, units), got {list(x.shape)}")
    if not 1 <= components <= min(x.shape):
        raise UsageError(
            f"{components} components of {x.shape[0]} rows of {x.shape[1]} units",
            why="there are no more than the lesser of the two",
            fix=f"take {min(x.shape)} or fewer, or more examples",
        )
    return x


def _sklearn(x: Reals, components: int, rounds: int, seed: int) -> tuple[Reals, Reals]:
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the objective is given with the result
        make: Any = NMF
        model = make(components, init="nndsvda", solver="cd", max_iter=rounds, random_state=seed)
        w = model.fit_transform(x)
    return w, model.components_


def _hals(x: Tensor, components: int, rounds: int) -> tuple[Tensor, Tensor]:
    """Hierarchical alternating least squares from nndsvda: one column of W, one row of H at a time, exactly."""
    w, h = _nndsvda(x, components)
    before, total = float("inf"), float((x * x).sum())
    for k in range(rounds):
        _columns(w, x @ h.T, h @ h.T)
        _columns(h.T, x.T @ w, w.T @ w)
        if k % 10 == 9:
            error = float(((x - w @ h) ** 2).sum())
            if before - error <= TOLERANCE * max(error, 1e-12 * total):
                break
            before = error
    return w, h


def _columns(w: Tensor, cross: Tensor, gram: Tensor) -> None:
    """Update the columns of w (n, k) in turn, in place: cross (n, k) = X H^T, gram (k, k) = H H^T."""
    for j in range(w.shape[1]):
        steep = gram[j, j].clamp_min(TINY)  # a component that has died stays where it is
        w[:, j] = (w[:, j] + (cross[:, j] - w @ gram[:, j]) / steep).clamp_min_(0)


def _nndsvda(x: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Non-negative double SVD, zeros filled with the mean: Boutsidis, Gallopoulos 2008."""
    u, s, v = _largest(x, components)
    w, h = torch.zeros_like(u), torch.zeros_like(v.T)
    for j in range(components):
        left, right = u[:, j], v[:, j]
        sides = [(left.clamp_min(0), right.clamp_min(0)), ((-left).clamp_min(0), (-right).clamp_min(0))]
        sizes = [float(a.norm() * b.norm()) for a, b in sides]
        a, b = sides[int(sizes[1] > sizes[0])]
        if max(sizes) > 0:
            scale = (s[j] * max(sizes)).sqrt()
            w[:, j], h[j] = scale * a / a.norm(), scale * b / b.norm()
    mean = x.mean()
    return torch.where(w < 1e-6, mean, w), torch.where(h < 1e-6, mean, h)


def _largest(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest singular triplets, from the Gram matrix of the shorter side: (n, k), (k), (units, k)."""
    wide = x.shape[0] < x.shape[1]
    value, vector = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    s, near = value.flip(0)[:k].clamp_min(0).sqrt(), vector.flip(1)[:, :k]
    far = (x.T if wide else x) @ near / s.clamp_min(TINY)
    return (near, s, far) if wide else (far, s, near)
