"""Packing: pre-activations to packed spline codes, and back; codes of rows to rows of neurons.

    bit[k * units + u] = x[u] > threshold[k]        (threshold-major)

Bit j of a code is bit j % 32 of word j // 32; padding bits are zero. Exact: x and the threshold are compared as
the real numbers they are. A threshold that x's dtype cannot hold is rounded down to it, which leaves every
comparison as it was (x > t exactly when x > the largest value of the dtype that is <= t). +0 and -0 are equal,
infinities are ordinary values, NaN raises. The bit is taken from the pre-activation: outputs of GELU or
SiLU underflow (Black et al. 2022, "Interpreting Neural Networks through the Polytope Lens").
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polykern_kernels import _check
from polykern_kernels._bits import WORD_BITS, spread, words_for
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import backends, choose

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# --- contract -----------------------------------------------------------------------------------


def signs(
    x: Tensor, thresholds: Tensor | Sequence[float] | None = None, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Packed codes of pre-activations, and how many bits are set.

    x           float32|float64|bfloat16|float16 (rows, units)   pre-activations
    thresholds  K numbers; or float (K, units), one for each unit (JumpReLU); None is [0.0]
    backend     "triton" | "cpu" | "reference"; None takes the first that can run
    returns     int32 (rows, words)   codes of K * units bits
                int32 (rows)          ones in each code

    Exact. Raises ValueError when the arguments do not fit, and when x holds NaN, naming how many. On CUDA
    tensors the NaN are counted by the kernel and the counter is read at the end of the call.
    """
    op = "pack.signs"
    _check.tensor(op, "x", x, FLOATS, "rows", "units")
    floor = round_down(_table(op, x, thresholds), x.dtype).to(x.device)
    words, ones, nans = choose(op, IMPLS["signs"], backend, x).run(x.detach(), floor)
    if int(nans):
        raise ValueError(f"{op}: x holds {int(nans)} NaN, and NaN has no sign")
    return words, ones


def unpack(words: Tensor, bits: int, *, backend: str | None = None) -> Tensor:
    """The bits of packed codes.

    words    int32 (rows, words)   packed codes
    bits     bits of a code
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  bool (rows, bits)

    Exact. Raises ValueError when `words` does not hold `bits` bits.
    """
    _check.codes("pack.unpack", "words", words, bits)
    return choose("pack.unpack", IMPLS["unpack"], backend, words).run(words, bits)  # type: ignore[no-any-return]


def join(parts: Sequence[Tensor], bits: Sequence[int], *, backend: str | None = None) -> Tensor:
    """Codes of consecutive fields as one code, without padding between them.

    parts    int32 (rows, words) each   packed fields; padding bits are zero
    bits     bits of each field
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int32 (rows, words for the sum of bits)

    Exact. Raises ValueError when the arguments do not fit.
    """
    op = "pack.join"
    if not parts or len(parts) != len(bits):
        raise ValueError(f"{op}: needs a number of bits a part, got {len(parts)} and {len(bits)}")
    for i, (part, count) in enumerate(zip(parts, bits, strict=True)):
        _check.codes(op, f"parts[{i}]", part, count)
        _check.sized(op, f"parts[{i}]", part, torch.int32, len(parts[0]), part.shape[1])
    _check.same_device(op, **{f"part {i}": part for i, part in enumerate(parts)})
    return choose(op, IMPLS["join"], backend, *parts).run(parts, bits)  # type: ignore[no-any-return]


def transpose(words: Tensor, bits: int, *, backend: str | None = None) -> Tensor:
    """Neuron-major bits: for every bit of the codes the rows that have it.

    words    int32 (rows, words)   packed codes
    bits     bits of a code
    backend  "triton" | "cpu" | "reference"; None takes the first that can run
    returns  int32 (bits, words for rows)   bit r of row j is bit j of code r; padding bits are zero

    Exact, and its own inverse. Raises ValueError when `words` does not hold `bits` bits.
    """
    _check.codes("pack.transpose", "words", words, bits)
    return choose("pack.transpose", IMPLS["transpose"], backend, words).run(words, bits)  # type: ignore[no-any-return]


def round_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The largest numbers of a float dtype that are not above `values`; zeros are +0.

    values   float64, any shape
    dtype    float32, float64, bfloat16 or float16
    returns  dtype, the same shape
    """
    near = values.to(dtype)
    pattern = order_keys(near) - (near.double() > values).to(_PATTERN[dtype])
    return order_keys(pattern.view(dtype)).view(dtype) + 0.0


def order_keys(values: Tensor) -> Tensor:
    """Integers in the order of the floats, -0 just below +0; applied to the keys it gives the patterns back.

    values   float16|bfloat16|float32|float64, any shape
    returns  int16|int32|int64, the same shape
    """
    pattern = patterns(values)
    info = torch.iinfo(pattern.dtype)
    return pattern ^ ((pattern >> (info.bits - 1)) & info.max)


def patterns(values: Tensor) -> Tensor:
    """The bits of floats as signed integers of their size."""
    return values.view(_PATTERN[values.dtype])


def cost(rows: int, units: int, itemsize: int, thresholds: int = 1) -> Cost:
    """`signs`: read the pre-activations once, write the codes and their counts once."""
    return Cost(bytes=rows * (units * itemsize + 4 * words_for(thresholds * units) + 4))


def cost_unpack(rows: int, bits: int) -> Cost:
    """`unpack`: read the words once, write a byte a bit."""
    return Cost(bytes=rows * (4 * words_for(bits) + bits))


def cost_join(rows: int, bits: Sequence[int]) -> Cost:
    """`join`: read every part once, write the code once."""
    return Cost(bytes=4 * rows * (sum(map(words_for, bits)) + words_for(sum(bits))))


def cost_transpose(rows: int, bits: int) -> Cost:
    """`transpose`: read the words once, write the words of the transposed once."""
    return Cost(bytes=4 * (rows * words_for(bits) + bits * words_for(rows)))


_PATTERN = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def _table(op: str, x: Tensor, thresholds: Tensor | Sequence[float] | None) -> Tensor:
    """float64 (K, 1) or (K, units) on the CPU."""
    given = [0.0] if thresholds is None else thresholds
    table = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach()
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not len(table) or table.shape[1] not in (1, x.shape[1]):
        _check.fail(op, "thresholds", f"K >= 1 numbers or (K, {x.shape[1]})", table)
    if table.isnan().any():
        raise ValueError(f"{op}: thresholds hold NaN")
    return table


# --- reference: a bit a number, 32 of them shifted into a word ---------------------------------------


def _signs_reference(x: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    on = (x.double()[:, None, :] > floor.double()).flatten(1)
    return words_of(on), on.sum(1, dtype=torch.int32), x.isnan().sum()


def words_of(on: Tensor) -> Tensor:
    """bool (rows, bits) -> int32 (rows, words); the obvious way."""
    rows, bits = on.shape
    shape = (rows, words_for(bits), WORD_BITS)
    padded = torch.zeros(shape, dtype=torch.int32, device=on.device)
    padded.flatten(1)[:, :bits] = on
    shifts = torch.arange(WORD_BITS, dtype=torch.int32, device=on.device)
    return (padded << shifts).sum(2, dtype=torch.int32)


def _unpack_reference(words: Tensor, bits: int) -> Tensor:
    return spread(words).flatten(1)[:, :bits].bool()


def _join_reference(parts: Sequence[Tensor], bits: Sequence[int]) -> Tensor:
    fields = [_unpack_reference(part, count) for part, count in zip(parts, bits, strict=True)]
    return words_of(torch.cat(fields, 1))


def _transpose_reference(words: Tensor, bits: int) -> Tensor:
    return words_of(_unpack_reference(words, bits).T)


# --- cpu: numba, `_numba.pack` -----------------------------------------------------------------------


def _signs_cpu(x: Tensor, floor: Tensor) -> tuple[Tensor, Tensor, int]:
    from polykern_kernels._numba import pack as loops

    words = torch.empty((len(x), words_for(len(floor) * x.shape[1])), dtype=torch.int32)
    ones = torch.empty(len(x), dtype=torch.int32)
    infinity = patterns(torch.tensor(torch.inf, dtype=x.dtype)).numpy()[()]
    nans = loops.signs(
        patterns(x.contiguous()).numpy(),
        order_keys(floor).contiguous().numpy(),
        infinity,
        words.numpy().view(np.uint32),
        ones.numpy(),
    )
    return words, ones, nans


def _unpack_cpu(words: Tensor, bits: int) -> Tensor:
    octets = words.contiguous().numpy().view(np.uint8)
    on = np.unpackbits(octets, axis=1, count=bits, bitorder="little")
    return torch.from_numpy(on.view(np.bool_))


def _join_cpu(parts: Sequence[Tensor], bits: Sequence[int]) -> Tensor:
    from polykern_kernels._numba import pack as loops

    out = torch.zeros((len(parts[0]), words_for(sum(bits))), dtype=torch.int32)
    start = 0
    for part, count in zip(parts, bits, strict=True):
        loops.place(part.contiguous().numpy().view(np.uint32), start, out.numpy().view(np.uint32))
        start += count
    return out


def _transpose_cpu(words: Tensor, bits: int) -> Tensor:
    from polykern_kernels._numba import pack as loops

    out = torch.empty((bits, words_for(len(words))), dtype=torch.int32)
    loops.transpose(words.contiguous().numpy().view(np.uint32), out.numpy().view(np.uint32))
    return out


IMPLS = {
    "signs": backends("pack", "signs", cpu=_signs_cpu, reference=_signs_reference),
    "unpack": backends("pack", "unpack", cpu=_unpack_cpu, reference=_unpack_reference),
    "join": backends("pack", "join", cpu=_join_cpu, reference=_join_reference),
    "transpose": backends("pack", "transpose", cpu=_transpose_cpu, reference=_transpose_reference),
}
