"""Dictionaries of codes: features whose combinations are codes, in place of one cluster for each.

    boolean   unions of sets of neurons (`polykern.factors.boolean`)
    nmf, pca  factors of the 0/1 matrix
    topk      a sparse autoencoder (`polykern.factors.autoencoder`)
    kmeans    one centre a row: clusters as a 1-sparse dictionary

Each is learned on some rows and rebuilds others: bits of rows it never saw that come back wrong. The *length* of an
encoding is the sum of the entropies of its binary features, bits a row: k-means of equal length has 2^length
centres. Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens", future directions:
overcomplete bases of codes rather than clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polykern.errors import UsageError
from polykern.factors.autoencoder import sparse
from polykern.factors.boolean import cover, covering
from polykern.factors.factorisation import nmf, pca

Reals = NDArray[np.float64]
Bits = NDArray[np.bool_]
METHODS = ("boolean", "nmf", "pca", "topk", "kmeans")


@dataclass(frozen=True, eq=False)
class Dictionary:
    """Features of codes.

    method    of `METHODS`
    features  float64 (k, bits)   what a feature adds to the bits
    mean      float64 (bits)      what is there without any
    encode    bool (n, bits) -> float64 (n, k): how much of each feature a row has
    """

    method: str
    features: Reals
    mean: Reals
    encode: Callable[[Bits], Reals] = field(repr=False)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def supports(self) -> Bits:
        """bool (k, bits): neurons of each feature: those with more than half of its greatest weight."""
        top = np.abs(self.features).max(1, keepdims=True)
        found: Bits = (np.abs(self.features) > top / 2) & (top > 0)
        return found

    def decode(self, encoding: Reals) -> Bits:
        """bool (n, bits): mean + encoding @ features > 1/2."""
        found: Bits = self.mean + encoding @ self.features > 0.5
        return found


@dataclass(frozen=True)
class Score:
    """What a dictionary does on rows that it was not learned on.

    method    of the dictionary;  features  how many
    error     wrong bits a row, mean;  errors  int64 (n): of each row
    active    features a row has, mean
    length    bits of a row's encoding, from the rows it was learned on; None where it is made of real numbers
    purity    mean over features: share of its activation on rows of its commonest class; None without classes
    overlap   mean over pairs of features: Jaccard of their neurons
    """

    method: str
    features: int
    error: float
    errors: NDArray[np.int64]
    active: float
    length: float | None
    purity: float | None
    overlap: float

    def numbers(self) -> dict[str, Any]:
        """For JSON, without the errors of single rows."""
        return {k: getattr(self, k) for k in ("features", "error", "active", "length", "purity", "overlap")}


def dictionary(
    bits: ArrayLike, features: int, *, method: str = "boolean", active: int = 4, seed: int = 0
) -> Dictionary:
    """A dictionary of codes.

    bits      bool (n, bits)   rows; `polykern_kernels.pack.unpack` gives those of packed codes
    features  of "nmf", "pca", "boolean" at most min(n, bits), of "kmeans" at most n
    method    "boolean" | "nmf" | "pca" | "topk" | "kmeans"
    active    features that a row of "topk" may have
    seed      of everything random

    Errors: UsageError for another method, or numbers that do not fit.
    """
    x = np.asarray(bits)
    if x.ndim != 2 or x.dtype != bool or not len(x):
        raise UsageError(f"bits are bool (n >= 1, bits), got {x.dtype} {list(x.shape)}")
    if method not in METHODS:
        raise UsageError(f"no dictionary {method!r}", fix=f"choose one of {', '.join(METHODS)}")
    real, none = x.astype(np.float64), np.zeros(x.shape[1])
    if method == "boolean":
        sets = cover(x, features, seed=seed).features
        return Dictionary(method, sets.astype(np.float64), none, lambda b: covering(b, sets).astype(np.float64))
    if method == "nmf":
        parts = nmf(real, features, seed=seed).components
        return Dictionary(method, parts, none, lambda b: _least_squares(b, parts))
    if method == "pca":
        found = pca(real, features)
        axes = found.components[::2]
        return Dictionary(method, axes, found.mean, lambda b: (b - found.mean) @ axes.T)
    if method == "topk":
        net = sparse(real, features, active=min(active, features), seed=seed)
        weights, mean = (t.double().numpy() for t in (net.decoder, net.mean))
        return Dictionary(method, weights, mean, lambda b: net.encode(b.astype(np.float64)))
    return _centres(x, features, seed)


def score(found: Dictionary, learned: Bits, held: Bits, classes: ArrayLike | None = None) -> Score:
    """A dictionary on rows that it was not learned on.

    learned  bool (n, bits)   rows it was learned on: they give the length of its encoding
    held     bool (m, bits)   other rows
    classes  None | int (m)   of the other rows
    """
    encoding = found.encode(held)
    errors = (found.decode(encoding) != held).sum(1)
    length = float(_entropy((found.encode(learned) > 0).mean(0)).sum()) if found.method == "boolean" else None
    if found.method == "kmeans":
        length = float(np.log2(max(1, len(found))))
    return Score(
        found.method, len(found), float(errors.mean()), errors, float((encoding != 0).sum(1).mean()), length,
        None if classes is None else _purity(encoding, np.asarray(classes)), _overlap(found.supports),
    )  # fmt: skip


def agreement(supports: Bits, planted: Bits) -> float:
    """Mean F1 of planted sets of bits and the features that fit them best, one to one; both bool (k, bits)."""
    from scipy.optimize import linear_sum_assignment

    both = supports.astype(np.float64) @ planted.T
    f1 = 2 * both / np.maximum(1, supports.sum(1)[:, None] + planted.sum(1)[None])
    rows, columns = linear_sum_assignment(-f1)
    return float(f1[rows, columns].sum() / len(planted))


def _centres(bits: Bits, features: int, seed: int) -> Dictionary:
    from sklearn.cluster import KMeans

    if not 1 <= features <= len(bits):
        raise UsageError(f"{features} centres of {len(bits)} rows", fix=f"take {len(bits)} or fewer")
    make: Any = KMeans
    model = make(features, n_init=1, random_state=seed).fit(bits.astype(np.float64))
    middle = (model.cluster_centers_ > 0.5).astype(np.float64)

    def nearest(rows: Bits) -> Reals:
        apart = rows.sum(1)[:, None] + middle.sum(1)[None] - 2 * rows.astype(np.float64) @ middle.T
        one: Reals = np.eye(features)[apart.argmin(1)]
        return one

    return Dictionary("kmeans", middle, np.zeros(bits.shape[1]), nearest)


def _least_squares(bits: Bits, parts: Reals, rounds: int = 200) -> Reals:
    """float64 (n, k) >= 0: least squares of rows by given parts, coordinate by coordinate."""
    w = np.zeros((len(bits), len(parts)))
    cross, gram = bits.astype(np.float64) @ parts.T, parts @ parts.T
    for _ in range(rounds):
        before = w.copy()
        for j in range(len(parts)):
            if gram[j, j] > 0:
                w[:, j] = np.maximum(0.0, w[:, j] + (cross[:, j] - w @ gram[:, j]) / gram[j, j])
        if np.abs(w - before).max() < 1e-6:
            break
    return w


def _entropy(share: Reals) -> Reals:
    both = np.clip(np.stack([share, 1 - share]), 1e-300, 1)
    found: Reals = -(both * np.log2(both)).sum(0)
    return found


def _purity(encoding: Reals, classes: NDArray[Any]) -> float:
    number = np.unique(classes, return_inverse=True)[1]
    amount = np.abs(encoding)
    by_class = np.stack([amount[number == c].sum(0) for c in range(number.max() + 1)])
    total = by_class.sum(0)
    return float((by_class.max(0)[total > 0] / total[total > 0]).mean()) if (total > 0).any() else float("nan")


def _overlap(supports: Bits) -> float:
    if len(supports) < 2:
        return 0.0
    both = supports.astype(np.float64) @ supports.T
    size = supports.sum(1)
    either = np.maximum(1, size[:, None] + size[None] - both)
    return float((both / either)[np.triu_indices(len(supports), 1)].mean())
