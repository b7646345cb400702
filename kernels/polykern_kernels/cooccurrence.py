"""How often two bits are on together: the second moments of spline codes.

    total[i, j] = number of codes whose bits i and j are both 1,      total[i, i] = ones of bit i

Over rows of neurons (`pack.transpose`) it is a Hamming distance: with |i| the ones of bit i and d(i, j) the number
of codes in which the two bits differ, total[i, j] = (|i| + |j| - d(i, j)) / 2, so whatever is fast for distances is
fast here. Exact: integers in int64, the same on every backend. Totals are sums over codes: those of chunks, of
processes and of machines add up to the total of all. Padding bits are zero and never count.

With n codes and p = total / n, the covariance of bits i and j is p[i, j] - p[i, i] p[j, j] (Marshall and Kirchner
2024, "Understanding polysemanticity in neural networks through coding theory").
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from polykern_kernels import _check, hamming, pack
from polykern_kernels._bits import words_for
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl, choose, cpu_objection

# --- contract -----------------------------------------------------------------------------------


def counts(words: Tensor, bits: int, *, backend: str | None = None) -> Tensor:
    """How often two bits are on together.

    words    int32 (rows, words)   packed codes
    bits     bits of a code
    backend  "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int64 (bits, bits)    symmetric; its diagonal holds the ones of each bit

    Exact. Memory: the result, and a few blocks beside it. Raises ValueError when `words` does not hold `bits` bits.
    """
    op = "cooccurrence.counts"
    _check.codes(op, "words", words, bits)
    total = torch.zeros((bits, bits), dtype=torch.int64, device=words.device)
    choose(op, IMPLS, backend, words).run(total, words)
    return total


def add(total: Tensor, words: Tensor, *, backend: str | None = None) -> None:
    """More codes into a total, in place.

    total    int64 (bits, bits)    what `counts` gave, or sums of such; zeros to begin with
    words    int32 (rows, words)   packed codes, on total's device
    backend  "b1" | "dot" | "triton" | "cpu" | "reference"; None takes the first that can run

    Exact: after any cut into chunks the total is that of all codes. The half above the diagonal is read, both are
    written. Raises ValueError when the arguments do not fit.
    """
    op = "cooccurrence.add"
    _check.tensor(op, "total", total, _check.INT64, "bits", "bits")
    if total.shape[0] != total.shape[1]:
        _check.fail(op, "total", f"int64[{total.shape[1]}, {total.shape[1]}]", total)
    _check.codes(op, "words", words, len(total))
    _check.same_device(op, total=total, words=words)
    choose(op, IMPLS, backend, total, words).run(total, words)


def cost(rows: int, bits: int) -> Cost:
    """`counts`: read the codes once, write the total once, count each pair of bits over the rows once."""
    pairs = bits * (bits + 1) // 2
    return Cost(bytes=4 * rows * words_for(bits) + 8 * bits * bits, popcounts=pairs * words_for(rows))


# --- reference: a product of zeros and ones; its sums are below 2**53, which float64 holds ---------------


def _add_reference(total: Tensor, words: Tensor) -> None:
    on = pack.unpack(words, len(total), backend="reference").double()
    total += (on.T @ on).long()


# --- b1, dot, triton: distances of neurons by the way of `hamming` that has this name, a block at a time ---------

_ROWS = 1 << 20  # codes at a time: twice their number fits int32, and their neurons take bits / 8 MiB
_BLOCK = 4096  # neurons on a side: 64 MiB of distances


def _add_distances(backend: str, total: Tensor, words: Tensor) -> None:
    bits = len(total)
    for chunk in _chunks(words, _ROWS):
        neurons = pack.transpose(chunk, bits)
        ones = hamming.aligned(neurons, torch.zeros_like(neurons))
        for i in range(0, bits, _BLOCK):
            for j in range(i, bits, _BLOCK):
                left, right = slice(i, i + _BLOCK), slice(j, j + _BLOCK)
                differing = hamming.pairwise(neurons[left], neurons[right], backend=backend)
                total[left, right] += (ones[left, None] + ones[right] - differing) >> 1
                if j > i:
                    total[right, left] = total[left, right].T


def _chunks(words: Tensor, rows: int) -> Iterator[Tensor]:
    return iter(words.split(rows) if len(words) and words.shape[1] else ())


# --- cpu: numba, `_numba.cooccurrence` -------------------------------------------------------------------

_NEAR = 1 << 14  # codes at a time: 2 KiB a neuron, so that the neurons of a pair of blocks stay in L2


def _add_cpu(total: Tensor, words: Tensor) -> None:
    from polykern_kernels._numba import cooccurrence as loops

    sums = total.contiguous()
    blocks = -(-len(total) // loops.SIDE)
    pairs = torch.triu_indices(blocks, blocks).T.contiguous().numpy()
    for chunk in _chunks(words, _NEAR):
        neurons = pack.transpose(chunk, len(total), backend="cpu")
        loops.add(neurons.numpy(), pairs, sums.numpy())
    loops.mirror(pairs, sums.numpy())
    if sums is not total:
        total.copy_(sums)


_BY_NAME = {impl.name: impl for impl in hamming.IMPLS["pairwise"]}
IMPLS = (
    *(Impl(name, partial(_add_distances, name), _BY_NAME[name].objection) for name in ("b1", "dot", "triton")),
    Impl("cpu", _add_cpu, cpu_objection),
    Impl("reference", _add_reference, _BY_NAME["reference"].objection),
)
