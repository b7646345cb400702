"""The files that hold arrays: safetensors whose data begin at a multiple of 4096 bytes.

8 bytes little-endian length of the header, the header (JSON, blanks behind it), then the arrays one behind the
other without a gap. `__metadata__` says which file of which store it is, so that files that changed places are
noticed.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.store.manifest import SCHEMA, Manifest
from polykern.store.records import SHARDS, Record
from polykern.store.sealed import parsed

ALIGNMENT = 4096  # bytes: a page, and what direct reads ask for
MAX_HEADER = 16 << 20
SIZES = {"U64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1}
STORED = {"U64": "<u8", "I64": "<i8", "F32": "<f4", "I32": "<i4", "F16": "<f2", "BF16": "<i2", "U8": "u1"}
ITEMS_OF = {
    "text": {"piece_ends": "I64", "document_ends": "I64", "tokens": "I32", "document": "I32", "utf8": "U8"},
    "image": {"png_ends": "I64", "document": "I32", "png": "U8"},
}
BEHIND = "activations."  # prefix of the names of kept activations

Arrays = Mapping[str, tuple[str, NDArray[Any]]]  # name -> (dtype as in the header, array)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one array lies: dtype as in the header, shape, first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def metadata(what: str, shard: int, row0: int, rows: int, config_hash: str) -> dict[str, str]:
    """`__metadata__`: which file of which store it is."""
    place = {"part": what, "shard": str(shard), "row0": str(row0), "rows": str(rows)}
    return {"schema": SCHEMA, **place, "config_hash": config_hash}


def columns(manifest: Manifest, rows: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of the arrays of a shard, in their order: wide elements first."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {"codes": ("U64", (rows, manifest.words64))}
    found |= {name: ("I32", (rows,)) for name in manifest.columns}
    described = manifest.as_dict()["activations"]
    for name in sorted(described, key=lambda k: -SIZES[described[k]["dtype"]]):
        found[BEHIND + name] = (described[name]["dtype"], (rows, *manifest.activations[name].shape))
    return found


def head(shapes: Mapping[str, tuple[str, tuple[int, ...]]], said: Mapping[str, str]) -> bytes:
    """The bytes in front of the data of a file that holds arrays of these shapes, in this order."""
    table: dict[str, Any] = {"__metadata__": dict(said)}
    at = 0
    for name, (dtype, shape) in shapes.items():
        size = math.prod(shape) * SIZES[dtype]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(table, separators=(",", ":")).encode("ascii")
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def stream(arrays: Arrays, said: Mapping[str, str]) -> Iterator[memoryview]:
    """The bytes of a file that holds these arrays, in this order, in pieces."""
    yield memoryview(head({name: (dtype, a.shape) for name, (dtype, a) in arrays.items()}, said))
    for dtype, array in arrays.values():
        if array.size:
            yield np.ascontiguousarray(array, STORED[dtype]).data.cast("B")


def read_head(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The arrays in a file and its `__metadata__`; ValueError says what is wrong with its header."""
    with path.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        length = int.from_bytes(f.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ValueError(f"has a header of {length} bytes in a file of {size}")
        text = f.read(length)
    if (8 + length) % ALIGNMENT:
        raise ValueError(f"its data begin at {8 + length}, not at a multiple of {ALIGNMENT}")
    table = parsed(text)
    said = table.pop("__metadata__", None)
    if not isinstance(said, dict) or not all(isinstance(v, str) for v in said.values()):
        raise ValueError("has no __metadata__")
    found, at = {}, 0
    for name, entry in table.items():
        tensor, end = _tensor(name, entry, at, 8 + length)
        found[name], at = tensor, end
    if 8 + length + at != size:
        raise ValueError(f"holds {size} bytes, its header describes {8 + length + at}")
    return found, said


def _tensor(name: str, entry: Any, at: int, base: int) -> tuple[Tensor, int]:
    """The array of one entry, which must begin at byte `at` of the data; and where it ends."""
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is no entry of a header")
    dtype, shape, ends = (entry.get(k) for k in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not isinstance(shape, list) or not isinstance(ends, list) or len(ends) != 2:
        raise ValueError(f"{name} lacks dtype, shape or data_offsets")
    if not all(type(x) is int and 0 <= x < 1 << 63 for x in (*shape, *ends)) or len(shape) > 16:
        raise ValueError(f"{name} has sizes that are no sizes")
    begin, end = ends
    if begin != at or end < begin:
        raise ValueError(f"{name} does not begin where the array before it ends")
    if dtype in SIZES and math.prod(shape) * SIZES[dtype] != end - begin:
        raise ValueError(f"{name} has {end - begin} bytes, {dtype} {shape} has others")
    return Tensor(dtype, tuple(shape), base + begin), end


def check_head(path: Path, record: Record, manifest: Manifest, what: str) -> dict[str, Tensor]:
    """The arrays in a file, after its header was held against the record and the manifest.

    what  "shards" or "items"

    Errors: ValueError says what does not agree.
    """
    found, said = read_head(path)
    for key, value in metadata(what, record.shard, record.row0, record.rows, manifest.config_hash).items():
        if said.get(key) != value:
            raise ValueError(f"says of itself that its {key} is {said.get(key)!r}, not {value!r}")
    if what == SHARDS:
        for name, (dtype, shape) in columns(manifest, record.rows).items():
            _require(found, name, dtype, shape)
    else:
        for name, dtype in ITEMS_OF[manifest.items or "text"].items():
            length = found[name].shape[:1] if name in found else ()
            _require(found, name, dtype, length)
    return found


def _require(found: Mapping[str, Tensor], name: str, dtype: str, shape: tuple[int, ...]) -> None:
    tensor = found.get(name)
    if tensor is None:
        raise ValueError(f"holds no {name}")
    if (tensor.dtype, tensor.shape) != (dtype, shape):
        raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}")


def mapped(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Read-only memory maps of the arrays in a file; BF16 as int16, unknown dtypes left out."""
    with path.open("rb") as f:
        whole = np.asarray(np.memmap(f, np.uint8, "r"))
    found = {}
    for name, t in tensors.items():
        if t.dtype in SIZES:
            part = whole[t.offset : t.offset + math.prod(t.shape) * SIZES[t.dtype]]
            found[name] = part.view(STORED[t.dtype]).reshape(t.shape)
    return found
