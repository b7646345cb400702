"""Preconditions of the public operations, with one form of message.

`hamming.pairwise: a must be int32 (rows, words), got int64[2, 3]@cpu`
"""

import torch
from torch import Tensor

from polykern_kernels._bits import words_for
from polykern_kernels._dispatch import describe

INT32 = (torch.int32,)
INT64 = (torch.int64,)


def tensor(op: str, name: str, x: Tensor, dtypes: tuple[torch.dtype, ...], *axes: str) -> None:
    """x must have one of the dtypes and as many axes as are named."""
    if x.dtype not in dtypes or x.ndim != len(axes):
        kinds = "|".join(str(d).removeprefix("torch.") for d in dtypes)
        fail(op, name, f"{kinds} ({', '.join(axes)})", x)


def sized(op: str, name: str, x: Tensor, dtype: torch.dtype, *shape: int) -> None:
    """x must have exactly this dtype and shape."""
    if x.dtype != dtype or tuple(x.shape) != shape:
        fail(op, name, f"{str(dtype).removeprefix('torch.')}{list(shape)}", x)


def codes(op: str, name: str, words: Tensor, bits: int, axis: str = "rows") -> None:
    """words must be packed codes of so many bits."""
    tensor(op, name, words, INT32, axis, "words")
    if bits < 0 or words.shape[1] != words_for(bits):
        fail(op, name, f"int32 ({axis}, {words_for(max(bits, 0))}) for {bits} bits", words)


def within(op: str, name: str, index: Tensor, n: int, what: str) -> None:
    """index must hold numbers of 0 ... n - 1; `what` says of what these are."""
    if index.numel() and not (int(index.min()) >= 0 and int(index.max()) < n):
        fail(op, name, what, index)


def same_device(op: str, **tensors: Tensor) -> None:
    """All tensors must lie on one device."""
    if len({x.device for x in tensors.values()}) > 1:
        shown = ", ".join(f"{name} {describe(x)}" for name, x in tensors.items())
        raise ValueError(f"{op}: the arguments must lie on one device, got {shown}")


def fail(op: str, name: str, contract: str, x: Tensor) -> None:
    """Raise the one form of message."""
    raise ValueError(f"{op}: {name} must be {contract}, got {describe(x)}")
