"""The arrays of a shard, made of what a writer is given and held against the manifest."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.store import shard as files_of
from polykern.store.manifest import Manifest

Column = NDArray[Any] | Tensor
INT32 = np.iinfo(np.int32)


def arrays(
    manifest: Manifest, codes: Codes, columns: Mapping[str, Column], kept: Mapping[str, Tensor]
) -> files_of.Arrays:
    """Name -> (dtype, array) of everything in a shard; raises UsageError for what the manifest does not hold."""
    manifest.layout.require_same(codes.layout)
    if codes.choices:
        raise UsageError("a store holds no choices of max-pools", fix="leave them out of the codes")
    for what, given, wanted in (
        ("columns", columns, manifest.columns),
        ("activations", kept, manifest.activations),
    ):
        if set(given) != set(wanted):
            raise UsageError(f"{what} are {sorted(given)}, the store holds {sorted(wanted)}")
    found: dict[str, tuple[str, NDArray[Any]]] = {}
    for name, (dtype, shape) in files_of.columns(manifest, len(codes)).items():
        if name == "codes":
            found[name] = dtype, _words64(codes)
        elif name in columns:
            found[name] = dtype, column(name, columns[name], shape)
        else:
            key = name.removeprefix(files_of.BEHIND)
            found[name] = dtype, _activation(key, kept[key], manifest.activations[key].dtype, shape)
    return found


def _words64(codes: Codes) -> NDArray[np.uint64]:
    """uint64 (n, words of 64 bits): the same bits, little-endian."""
    words = codes.words.cpu().contiguous().numpy()
    if words.shape[1] % 2:
        words = np.pad(words, ((0, 0), (0, 1)))
    return words.astype("<i4", copy=False).view("<u8")


def column(name: str, values: Column, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """int32 of this shape: the values of a column; UsageError for what is no integers, or too large for it."""
    given = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if given.shape != shape or given.dtype.kind not in "iu":
        raise UsageError(f"column {name} is {given.dtype} {list(given.shape)}, not integers {list(shape)}")
    if given.size and (given.min() < INT32.min or given.max() > INT32.max):
        raise UsageError(f"column {name} holds {given.min()} .. {given.max()}, more than int32")
    return given.astype(np.int32)


def _activation(name: str, values: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> NDArray[Any]:
    if values.dtype != dtype or tuple(values.shape) != shape:
        raise UsageError(
            f"activations of {name} are {values.dtype} {list(values.shape)}, the store holds {dtype} {list(shape)}"
        )
    given = values.detach().cpu().contiguous()
    found: NDArray[Any] = (given.view(torch.int16) if dtype == torch.bfloat16 else given).numpy()
    return found
