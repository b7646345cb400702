"""Channel capacities of a code, approximately: how many bits it could carry, and how many it spends on redundancy.

    Gaussian surrogate  1/2 sum_i log2(1 + lambda_i / sigma^2)   responses with these eigenvalues, noise sigma on
                                                                 every neuron
    white               the same power spread evenly: the most that it carries with that noise (water-filling)
    binary symmetric    N (1 - H(e))                             N bits, each flipped with probability e
    entropy of a code   sum_i H(p_i), less what pairs of bits tell of each other

Marshall and Kirchner 2024, "Understanding polysemanticity in neural networks through coding theory"; Cover, Thomas
2006, "Elements of Information Theory", chapters 7 and 9.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from polykern.errors import UsageError


class CodeEntropy(NamedTuple):
    """Bits of a binary code.

    independent  sum of the entropies of its bits: an upper bound of its entropy
    redundancy   mutual information along the best tree of pairs, so that
    tree         independent - redundancy is an upper bound too, and a tighter one (Chow and Liu 1968)
    """

    independent: float
    redundancy: float
    tree: float


def gaussian(spectrum: ArrayLike, sigma: float) -> float:
    """Bits a use of the Gaussian channel: eigenvalues of the responses, noise of standard deviation sigma."""
    return float(0.5 * np.log2(1 + np.asarray(spectrum, np.float64) / _noise(sigma) ** 2).sum())


def white(spectrum: ArrayLike, sigma: float) -> float:
    """The same power spread evenly over all neurons: water-filling for equal noise, the most it can carry."""
    values = np.asarray(spectrum, np.float64)
    return gaussian(np.full(len(values), values.mean()), sigma)


def binary_symmetric(bits: int, flipped: float) -> float:
    """Capacity of so many bits, each of which is flipped with a probability in 0 .. 1."""
    if not 0 <= flipped <= 1:
        raise UsageError(f"a bit is flipped with a probability in 0 .. 1, got {flipped}")
    return bits * (1 - float(entropy(np.array([flipped]))[0]))


def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits of a binary variable with probability p, element by element; 0 at 0 and 1."""
    q = np.stack([p, 1 - p])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(q > 0, -q * np.log2(q), 0.0)
    return np.asarray(terms.sum(0))


def code_entropy(total: Tensor, rows: int) -> CodeEntropy:
    """Bounds of the entropy of a code from how often its bits are on together.

    total  int64 (bits, bits)   of `polykern_kernels.cooccurrence`
    rows   codes that were counted

    Of the plug-in probabilities, which few rows bias. Errors: UsageError for no rows.
    """
    if rows < 1:
        raise UsageError("no codes to take the entropy of")
    both = total.double().cpu().numpy() / rows
    p = both.diagonal()
    alone = entropy(p)
    information = mutual_information(both)
    return CodeEntropy(float(alone.sum()), r := _tree(information), float(alone.sum()) - r)


def mutual_information(both: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (bits, bits): bits that two bits tell of each other, from the probability that both are on."""
    p = both.diagonal()
    joint = (both, p[:, None] - both, p[None] - both, 1 - p[:, None] - p[None] + both)
    with np.errstate(divide="ignore", invalid="ignore"):
        together = sum(np.where(j > 0, -j * np.log2(j), 0.0) for j in joint)
    alone = entropy(p)
    found: NDArray[np.float64] = np.maximum(alone[:, None] + alone[None] - together, 0)
    return found


def _tree(information: NDArray[np.float64]) -> float:
    """The weight of the heaviest spanning tree (Prim)."""
    n = len(information)
    best, outside, total = information[0].copy(), np.ones(n, bool), 0.0
    outside[0] = False
    for _ in range(n - 1):
        k = int(np.where(outside, best, -1).argmax())
        total += float(best[k])
        outside[k] = False
        best = np.maximum(best, information[k])
    return total


def _noise(sigma: float) -> float:
    if not (sigma > 0 and np.isfinite(sigma)):
        raise UsageError(f"noise has a positive standard deviation, got {sigma}")
    return sigma
