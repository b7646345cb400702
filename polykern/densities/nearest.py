"""Classes by the nearest codes: what a code knows of an item.

Srivastava et al. 2014, "Understanding Locally Competitive Networks".
"""

import numpy as np
from numpy.typing import ArrayLike

from polykern.codes import Codes
from polykern.errors import UsageError
from polykern_kernels import neighbours


def retrieval(codes: Codes, classes: ArrayLike, k: int = 5) -> float:
    """The share of codes whose class is the commonest among their k nearest others.

    codes    of n items
    classes  int (n)
    k        neighbours; of equal distances the earlier item counts, of equally common classes the nearest one

    Exact, by Hamming distance. Errors: UsageError for fewer than k + 1 items.
    """
    known = np.asarray(classes)
    if len(codes) <= k or k < 1 or known.shape != (len(codes),):
        raise UsageError(f"{k} neighbours of {len(codes)} items with {len(known)} classes")
    index = neighbours.self_nearest(codes.words, k)[1].cpu().numpy()
    votes = known[index]
    same = votes[:, :, None] == votes[:, None, :]
    winner = (same.sum(2) * (k + 1) - np.arange(k)).argmax(1)  # the commonest, then the nearest
    return float((votes[np.arange(len(votes)), winner] == known).mean())
