"""What the estimator takes as X, and the rows it becomes.

"hamming" and "jaccard" are between sets of bits. `polykern.codes.Codes` say themselves what their bits are. In a
matrix

    bool, and any numbers that are all 0 or 1   are bits, a column each
    uint8, int32, uint32, uint64 otherwise      are packed words: bit j of a row is bit j % width of word j // width
                                                (`np.packbits(bitorder="little")`, `Codes.words`)

which is no contradiction: words that are all 0 or 1 are as far from each other as the bits they would be.
"euclidean" and "cosine" are between rows of real numbers: float32 and float64 as they are, others as float64.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.clustering.dendrogram import known
from polykern.clustering.reachability import METRICS
from polykern.clustering.space import REAL
from polykern.codes import Codes
from polykern.errors import UsageError

WORDS = ("uint8", "int32", "uint32", "uint64")
_BITS = "take bits (X > 0), packed words of uint8, int32, uint32 or uint64, or metric='euclidean' for real numbers"


def is_codes(X: Any) -> bool:
    """Whether X is codes, or several to be put one behind the other."""
    return isinstance(X, Codes) or (isinstance(X, list | tuple) and bool(X) and isinstance(X[0], Codes))


def rows_of_codes(X: Any, metric: str) -> tuple[Tensor, int]:
    """The words of codes, or of several of one layout.

    returns  int32 (n, words), and the bits of a code

    Raises UsageError for other metrics, for different layouts and for codes with choices of max-pools.
    """
    known("metric", metric, METRICS)
    if metric in REAL:
        raise UsageError(f"codes have no {metric} distance", fix="take metric='hamming' or 'jaccard'")
    codes = X if isinstance(X, Codes) else Codes.cat(X)
    if codes.choices:
        raise UsageError(
            "codes with choices of max-pools", fix="take Codes(codes.words, codes.layout), without them"
        )
    _require_two(len(codes))
    return codes.words, codes.layout.bits


def rows_of_tensor(X: Tensor, metric: str) -> Tensor:
    """A matrix that lies on an accelerator, as it is: int32 words, or float32|float64 points."""
    known("metric", metric, METRICS)
    kinds = (torch.float32, torch.float64) if metric in REAL else (torch.int32,)
    if X.ndim != 2 or not X.shape[1] or X.dtype not in kinds:
        wanted = " or ".join(str(k)[6:] for k in kinds)
        raise UsageError(f"X on {X.device} must be {wanted} (n, width) for {metric}, got {X.dtype} {list(X.shape)}")
    if X.is_floating_point() and not bool(X.isfinite().all()):
        raise UsageError("X contains NaN or infinity")
    _require_two(len(X))
    return X


def rows_of_array(X: NDArray[Any], metric: str) -> Tensor:
    """A checked matrix as rows: int32 (n, words), or float32|float64 (n, width) for real numbers.

    Raises UsageError for numbers that are neither bits nor words.
    """
    if metric in REAL:
        kind = X.dtype if X.dtype in (np.float32, np.float64) else np.float64
        return torch.from_numpy(np.array(X, dtype=kind, order="C"))
    if X.dtype == np.bool_ or (X.dtype.kind in "iuf" and bool(((X == 0) | (X == 1)).all())):
        return _words(np.packbits(X != 0, axis=1, bitorder="little"))
    if X.dtype.name not in WORDS:
        raise UsageError(f"metric={metric!r} is between bits, got {X.dtype} other than 0 and 1", fix=_BITS)
    return _words(X.astype(X.dtype.newbyteorder("<")).view(np.uint8))


def _words(octets: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, bytes) -> int32 (n, words), zero behind the last byte."""
    padded = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 4)))
    return torch.from_numpy(np.ascontiguousarray(padded).view("<i4").astype(np.int32))


def _require_two(rows: int) -> None:
    if rows < 2:
        raise UsageError(f"{rows} sample{'s' * (rows != 1)}: a clustering needs at least 2 rows")
