"""Fingerprints of codes: equal codes have equal fingerprints, and different ones almost surely differ.

    fingerprint(code)[l] = sum over set bits j of key(j, l)  modulo 2**64,  l = 0, 1
    key(j, l) = output 2 j + l of SplitMix64 seeded with 0

Two 64-bit lanes. The sum is additive over bits: the fingerprint of a code is the sum of those of its fields
at their offsets, so a code that is never held in memory can be named. Exact: integer arithmetic that wraps,
the same on every backend. For random keys two different codes collide with probability 2**-128.
SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
"""

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._bits import WORD_BITS, spread, words_for
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose

LANES = 2

# --- contract -----------------------------------------------------------------------------------


def keys(
    bits: int,
    *,
    offset: int = 0,
    device: torch.device | str = "cpu",
    backend: str | None = None,
) -> Tensor:
    """The keys of consecutive bits.

    bits     number of bits
    offset   position of the first bit in its code
    device   where the keys are wanted
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int64 (bits, 2)   the two lanes' keys, uint64 patterns

    Exact. Raises ValueError when bits or offset is negative.
    """
    if bits < 0 or offset < 0:
        raise ValueError(f"digest.keys: bits and offset must be >= 0, got {bits}, {offset}")
    out = torch.empty((bits, LANES), dtype=torch.int64, device=device)
    choose("digest.keys", IMPLS["keys"], backend, out).run(out, offset)
    return out


def fingerprints(words: Tensor, bits: int, *, offset: int = 0, backend: str | None = None) -> Tensor:
    """The fingerprint of every row.

    words    int32 (rows, words)   packed codes or packed fields; padding bits are zero
    bits     bits of a row
    offset   position of the row's first bit in the whole code
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int64 (rows, 2)       sums of keys modulo 2**64

    Exact. Raises ValueError when `words` does not hold `bits` bits.
    """
    op = "digest.fingerprints"
    if bits < 0 or offset < 0:
        raise ValueError(f"{op}: bits and offset must be >= 0, got {bits}, {offset}")
    _check.codes(op, "words", words, bits)
    chosen = choose(op, IMPLS["fingerprints"], backend, words)
    return chosen.run(words, bits, offset)  # type: ignore[no-any-return]


def distinct(fingerprints: Tensor, *, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """The different fingerprints and how often each occurs.

    fingerprints  int64 (rows, 2)
    backend       "triton" | "cpu" | "reference"; None takes the first that can run. On CUDA tensors
                  "triton" is torch's radix sort: nothing here is left for a kernel of our own
    returns       int64 (d, 2)   ascending by lane 0, then lane 1, as signed integers
                  int64 (d)      rows that have this fingerprint

    Exact. Raises ValueError when the argument does not fit.
    """
    op = "digest.distinct"
    _check.tensor(op, "fingerprints", fingerprints, _check.INT64, "rows", "2")
    if fingerprints.shape[1] != LANES:
        _check.fail(op, "fingerprints", "int64 (rows, 2)", fingerprints)
    return choose(op, IMPLS["distinct"], backend, fingerprints).run(fingerprints)  # type: ignore[no-any-return]


def cost(rows: int, bits: int) -> Cost:
    """`fingerprints`: read the codes once, write two words of 64 bits a row."""
    return Cost(bytes=rows * (4 * words_for(bits) + 8 * LANES))


# --- reference: SplitMix64 as published, one key a bit ---------------------------------------------

_GAMMA = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as int64: 2**64 / golden ratio
_MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical shift right of uint64 patterns."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _keys_reference(out: Tensor, offset: int) -> None:
    first = LANES * offset + 1
    counter = torch.arange(first, first + out.numel(), device=out.device)
    x = counter * _GAMMA
    x = (x ^ _shifted(x, 30)) * _MIX[0]
    x = (x ^ _shifted(x, 27)) * _MIX[1]
    out.copy_((x ^ _shifted(x, 31)).view_as(out))


def _fingerprints_reference(words: Tensor, bits: int, offset: int) -> Tensor:
    on = spread(words).flatten(1)[:, :bits].bool()
    key = keys(bits, offset=offset, device=words.device, backend="reference")
    return torch.where(on[:, :, None], key, 0).sum(1)


def _distinct_reference(fingerprints: Tensor) -> tuple[Tensor, Tensor]:
    unique, counts = torch.unique(fingerprints, dim=0, return_counts=True)
    return unique, counts


# --- cpu: numba, `_numba.digest` ---------------------------------------------------------------------


def _keys_cpu(out: Tensor, offset: int) -> None:
    from polykern_kernels._numba import digest as loops

    loops.keys(out.numpy().view(np.uint64), offset)


def _fingerprints_cpu(words: Tensor, bits: int, offset: int) -> Tensor:
    from polykern_kernels._numba import digest as loops

    out = torch.empty((len(words), LANES), dtype=torch.int64)
    padded = words.shape[1] * WORD_BITS  # a word always meets 32 keys
    key = keys(padded, offset=offset, backend="cpu").T.contiguous()
    loops.fingerprints(words.contiguous().numpy().view(np.uint32), key.numpy(), out.numpy())
    return out


def _distinct_cpu(fingerprints: Tensor) -> tuple[Tensor, Tensor]:
    order = np.lexsort((fingerprints[:, 1].numpy(), fingerprints[:, 0].numpy()))
    rows = fingerprints.numpy()[order]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (rows[1:] != rows[:-1]).any(1)
    first = np.flatnonzero(fresh)
    counts = np.diff(first, append=len(rows))
    return torch.from_numpy(rows[first]), torch.from_numpy(counts)


IMPLS = {
    "keys": backends("digest", "keys", cpu=_keys_cpu, reference=_keys_reference),
    "fingerprints": backends("digest", "fingerprints", cpu=_fingerprints_cpu, reference=_fingerprints_reference),
    "distinct": backends("digest", "distinct", cpu=_distinct_cpu, reference=_distinct_reference),
}
