"""The two distances of codes that searches know, by name.

    hamming  d(a, b) = popcount(a ^ b)
    jaccard  d(a, b) = 1 - |a & b| / |a | b|, and 0 between two codes without a one

A Hamming distance is an int32 count. A Jaccard distance is differing / union as correctly rounded float64; below
2**26 bits two different fractions stay different, so its order is exact too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check, hamming
from polykern_kernels._bits import WORD_BITS

METRICS = {"hamming": torch.int32, "jaccard": torch.float64}  # and the dtype of its distances
JACCARD_BITS = 1 << 26
FARTHEST = {"hamming": 2**31 - 1, "jaccard": 2.0}  # above every distance

Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]
Progress = Callable[[int, int], None]  # done, total


def check(op: str, name: str, words: Tensor, metric: str, axis: str = "rows") -> None:
    """words must be packed codes, as long as the metric can tell apart."""
    _check.tensor(op, name, words, _check.INT32, axis, "words")
    if metric not in METRICS:
        raise ValueError(f"{op}: metric must be {' | '.join(METRICS)}, got {metric!r}")
    if metric == "jaccard" and WORD_BITS * words.shape[1] > JACCARD_BITS:
        _check.fail(op, name, f"int32 ({axis}, at most {JACCARD_BITS // WORD_BITS}) for Jaccard distances", words)


def never(metric: str) -> float:
    """The largest number of a metric's dtype: a bound that cuts off nothing."""
    return FARTHEST[metric] if metric == "hamming" else float("inf")


def distances(code: Tensor, words: Tensor, metric: str) -> Tensor:
    """The distances of all rows from one code, by the definition: the reference."""
    same = code.expand_as(words).contiguous()
    differing = hamming.aligned(same, words, backend="reference")
    if metric == "hamming":
        return differing
    union = hamming.aligned(same | words, torch.zeros_like(words), backend="reference")
    return differing.double() / union.clamp(min=1)


def ones(words: Numbers, metric: str) -> Numbers:
    """int32 (n): set bits of contiguous codes, where the metric asks for them, else zeros."""
    from polykern_kernels._numba import hamming as loops

    out = np.zeros(len(words), np.int32)
    if metric == "jaccard":
        loops.ones(words.view(np.uint32), out)
    return out


def silent(done: int, total: int) -> None:
    """Progress that nobody wants to hear of."""
    return None
