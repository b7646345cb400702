"""Hamming distances of packed codes.

    distance(a, b) = sum over words w of popcount(a[w] ^ b[w])

Exact: an integer count, the same on every backend; it fits int32 for codes up to 2**31 - 1 bits. Padding
bits are zero in every code and never count. In the polytope lens the distance is the number of neurons
whose hyperplanes separate two points (Black et al. 2022, "Interpreting Neural Networks through the Polytope
Lens").
"""

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._bits import spread
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose

# --- contract -----------------------------------------------------------------------------------


def pairwise(a: Tensor, b: Tensor, *, backend: str | None = None) -> Tensor:
    """All pairwise distances.

    a        int32 (n, words)   packed codes
    b        int32 (m, words)   packed codes, on a's device
    backend  "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int32 (n, m)       bits that differ

    Exact. Raises ValueError when the arguments do not fit.
    """
    _check_two("hamming.pairwise", a, b)
    return choose("hamming.pairwise", IMPLS["pairwise"], backend, a, b).run(a, b)  # type: ignore[no-any-return]


def aligned(a: Tensor, b: Tensor, *, backend: str | None = None) -> Tensor:
    """The distance of each row of a from the same row of b.

    a        int32 (n, words)   packed codes
    b        int32 (n, words)   packed codes, on a's device
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int32 (n)          bits that differ

    Exact. Raises ValueError when the arguments do not fit.
    """
    _check_two("hamming.aligned", a, b)
    if len(a) != len(b):
        _check.fail("hamming.aligned", "b", f"int32[{len(a)}, {a.shape[1]}]", b)
    return choose("hamming.aligned", IMPLS["aligned"], backend, a, b).run(a, b)  # type: ignore[no-any-return]


def neighbours(words: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """The distance of every pixel of a raster from its right and from its lower neighbour.

    words    int32 (height, width, words)   packed codes
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int32 (height, width - 1)      bits that differ from the right neighbour
             int32 (height - 1, width)      bits that differ from the lower neighbour

    Exact. Raises ValueError when `words` is something else or has no pixel.
    """
    op = "hamming.neighbours"
    _check.tensor(op, "words", words, _check.INT32, "height", "width", "words")
    if not (words.shape[0] and words.shape[1]):
        _check.fail(op, "words", "int32 (height >= 1, width >= 1, words)", words)
    return choose(op, IMPLS["neighbours"], backend, words).run(words)  # type: ignore[no-any-return]


def cost(n: int, m: int, words: int) -> Cost:
    """`pairwise`: read each code once, write each distance once, count each pair's words."""
    return Cost(bytes=4 * (n * words + m * words + n * m), popcounts=n * m * words)


def cost_aligned(n: int, words: int) -> Cost:
    """`aligned`: read both codes, write a distance, count the words."""
    return Cost(bytes=4 * n * (2 * words + 1), popcounts=n * words)


def cost_neighbours(height: int, width: int, words: int) -> Cost:
    """`neighbours`: read each code once, write both distances, count both pairs' words."""
    pairs = height * (width - 1) + (height - 1) * width
    return Cost(bytes=4 * (height * width * words + pairs), popcounts=pairs * words)


def _check_two(op: str, a: Tensor, b: Tensor) -> None:
    for name, x in (("a", a), ("b", b)):
        _check.tensor(op, name, x, _check.INT32, "rows", "words")
    _check.same_device(op, a=a, b=b)
    if a.shape[1] != b.shape[1]:
        _check.fail(op, "b", f"int32 (rows, {a.shape[1]})", b)


# --- reference: unpack every bit and compare ------------------------------------------------------


def _aligned_reference(a: Tensor, b: Tensor) -> Tensor:
    return (spread(a) != spread(b)).sum(dim=(-2, -1), dtype=torch.int32)


def _pairwise_reference(a: Tensor, b: Tensor) -> Tensor:
    return _aligned_reference(a[:, None], b[None])


def _neighbours_reference(words: Tensor) -> tuple[Tensor, Tensor]:
    right = _aligned_reference(words[:, :-1], words[:, 1:])
    return right, _aligned_reference(words[:-1], words[1:])


# --- cpu: numba, `_numba.hamming` ------------------------------------------------------------------


def _pairwise_cpu(a: Tensor, b: Tensor) -> Tensor:
    from polykern_kernels._numba import hamming as loops

    out = torch.empty((len(a), len(b)), dtype=torch.int32)
    if out.numel() and a.shape[1]:
        loops.pairwise(a.contiguous().numpy(), b.contiguous().numpy(), out.numpy())
        return out
    return out.zero_()


def _aligned_cpu(a: Tensor, b: Tensor) -> Tensor:
    from polykern_kernels._numba import hamming as loops

    out = torch.empty(len(a), dtype=torch.int32)
    loops.aligned(_unsigned(a), _unsigned(b), out.numpy())
    return out


def _neighbours_cpu(words: Tensor) -> tuple[Tensor, Tensor]:
    from polykern_kernels._numba import hamming as loops

    height, width = words.shape[:2]
    right = torch.empty((height, width - 1), dtype=torch.int32)
    down = torch.empty((height - 1, width), dtype=torch.int32)
    loops.neighbours(_unsigned(words), right.numpy(), down.numpy())
    return right, down


def _unsigned(words: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    return words.contiguous().numpy().view(np.uint32)


IMPLS = {
    "pairwise": backends(
        "hamming", "pairwise", cpu=_pairwise_cpu, reference=_pairwise_reference, b1=True, dot=True
    ),
    "aligned": backends("hamming", "aligned", cpu=_aligned_cpu, reference=_aligned_reference),
    "neighbours": backends("hamming", "neighbours", cpu=_neighbours_cpu, reference=_neighbours_reference),
}
