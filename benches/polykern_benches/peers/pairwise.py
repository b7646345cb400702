"""Distances of all pairs: `run(a, b)` gives int32 (n, m), as `hamming.pairwise` does; codes have 32 bits a word."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_benches.peers._wanted import octets, on_cpu
from polykern_kernels import pack
from polykern_kernels._dispatch import Impl


def _numkong(a: Tensor, b: Tensor) -> Tensor:
    import numkong

    rows = np.asarray(octets(a))
    packed = numkong.hammings_pack(np.asarray(octets(b)), dtype="uint1")
    return _int32(numkong.hammings_packed(rows, packed))


def _numkong_symmetric(a: Tensor, b: Tensor) -> Tensor:
    """Of one set with itself; below the diagonal nothing is promised, and it is zero here."""
    import numkong

    return _int32(numkong.hammings_symmetric(np.asarray(octets(a)), dtype="uint1")).triu()


def _simsimd(a: Tensor, b: Tensor) -> Tensor:
    import simsimd

    rows, columns = np.asarray(octets(a)), np.asarray(octets(b))
    found: Any = simsimd.cdist(rows, columns, "hamming", dtype="bin8", threads=torch.get_num_threads())
    return torch.from_numpy(np.array(found)).to(torch.int32)


def products(a: Tensor, b: Tensor) -> Tensor:
    """|a| + |b| - 2 a b, by a product of int8: exact, on any device."""
    x, y = (pack.unpack(codes, 32 * codes.shape[1]).to(torch.int8) for codes in (a, b))
    ones = x.sum(1, dtype=torch.int32)[:, None] + y.sum(1, dtype=torch.int32)
    library: Any = torch
    return ones - 2 * library._int_mm(x, y.T)  # type: ignore[no-any-return]


def _same_set(a: Tensor, b: Tensor) -> str | None:
    return on_cpu("numkong", NUMKONG)(a, b) or (None if a is b else "takes one set, and its pairs")


NUMKONG = "numkong==7.8.6"
PEERS = (
    Impl("numkong", _numkong, on_cpu("numkong", NUMKONG)),
    Impl("numkong-symmetric", _numkong_symmetric, _same_set),
    Impl("simsimd", _simsimd, on_cpu("simsimd", "simsimd==6.5.16")),
    Impl("torch-int8", products, lambda *args: None),
)


def _int32(found: Any) -> Tensor:
    return torch.from_numpy(np.asarray(found).view(np.int32))
