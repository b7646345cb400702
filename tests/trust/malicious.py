"""Files made to do harm: pickles that run, archives that swell, headers that lie, tables that nest without an end.

`files` writes every one of them; what a pickle would run makes the file `ran`.
"""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

RAN = "ran"
SWOLLEN = 1 << 28  # bytes that come out of an archive


class Running:
    """An object whose pickle makes a file where it is read."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path(RAN),)


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    held = io.BytesIO()
    save(held)
    return held.getvalue()


def _torch(**how: Any) -> bytes:
    return _saved(lambda file: torch.save({"weight": Running(), "W_enc": torch.zeros(2, 2)}, file, **how))


def _other_storage() -> bytes:
    """A checkpoint whose tensor says that its storage is larger than it is."""
    good = zipfile.ZipFile(io.BytesIO(_saved(lambda file: torch.save({"weight": torch.zeros(4)}, file))))
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as out:
        for name in good.namelist():
            out.writestr(name, b"\0" if "/data/" in name else good.read(name))
    return held.getvalue()


def _bomb(name: str) -> bytes:
    """An archive of 256 MiB of zeros in a quarter of a MiB."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as out, out.open(name, "w") as inner:
        inner.write(_npy((1 << 40,)))
        for _ in range(SWOLLEN >> 20):
            inner.write(bytes(1 << 20))
    return held.getvalue()


def _npy(shape: Any, descr: str = "<f8", data: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def _safetensors(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _entry(begin: int, end: int, shape: Any = (2, 2), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def _png(width: int, height: int) -> bytes:
    """A picture of these sides whose pixels are missing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", __import__("zlib").crc32(body))


def gguf(facts: bytes = b"", counts: tuple[int, int] = (1, 0), tensor: bytes = b"") -> bytes:
    """A GGUF file of version 3: how many tensors and facts it says it has, and what it has."""
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + facts + tensor + bytes(96)


def text(word: bytes) -> bytes:
    """A text of a GGUF file."""
    return struct.pack("<Q", len(word)) + word


CONTENTS: dict[str, Callable[[], bytes]] = {
    "a pickle in a checkpoint": lambda: _torch(),
    "a pickle of old": lambda: _torch(_use_new_zipfile_serialization=False),
    "a storage that is too small": _other_storage,
    "a bomb of a checkpoint": lambda: _bomb("archive/data.pkl"),
    "objects": lambda: _saved(lambda file: np.save(file, np.array([Running()], object), allow_pickle=True)),
    "objects in an archive": lambda: _saved(lambda f: np.savez(f, arr_0=np.array([Running()], object))),
    "a bomb of arrays": lambda: _bomb("arr_0.npy"),
    "a giant array": lambda: _npy((1 << 40,)),
    "an array beyond 64 bits": lambda: _npy((1 << 62, 1 << 62)),
    "an array of a negative shape": lambda: _npy((-1,)),
    "an array that is cut off": lambda: _npy((1000,)),
    "a header that is code": lambda: _npy(f"__import__('pathlib').Path({RAN!r}).touch()"),
    "arrays with names": lambda: _npy((2,), "[('a', 'O')]"),
    "numbers that are complex": lambda: _npy((4,), "<c16"),
    "tensors that overlap": lambda: _safetensors({"W_enc": _entry(0, 16), "b_enc": _entry(8, 24)}),
    "a gigantic header": lambda: _safetensors({}, length=1 << 62),
    "a name twice": lambda: _safetensors(b'{"W_enc":%s,"W_enc":%s}' % ((json.dumps(_entry(0, 16)).encode(),) * 2)),
    "tensors behind the end": lambda: _safetensors({"W_enc": _entry(0, 1 << 60, (1 << 29, 1 << 29))}),
    "tensors of negative offsets": lambda: _safetensors({"W_enc": _entry(-16, 0)}),
    "tensors whose size overflows": lambda: _safetensors({"W_enc": _entry(0, 0, (1 << 32, 1 << 32))}),
    "a header nested without end": lambda: _safetensors(b"[" * 100_000),
    "a model in GGUF": lambda: gguf(tensor=text(b"a") + struct.pack("<IQIQ", 1, 4, 0, 0)),
    "GGUF of endless tables": lambda: gguf(counts=(1 << 24, 1 << 24)),
    "GGUF that is cut off": lambda: b"GGUF\x03\0",
    "JSON nested without end": lambda: b"[" * 200_000,
    "JSON objects nested without end": lambda: b'{"answers":' * 100_000,
    "JSON of endless digits": lambda: b'{"answers": ' + b"9" * 10_000 + b"}",
    "JSON that is a list": lambda: b"[1, 2]",
    "TOML nested without end": lambda: b"a = " + b"[" * 100_000,
    "a table in tables": lambda: b".".join([b"a"] * 5000) + b" = 1",
    "a picture of endless sides": lambda: _png(1 << 20, 1 << 20),
    "a picture without pixels": lambda: _png(8, 8),
    "an archive that swells": lambda: gzip.compress(bytes(SWOLLEN)),
    "an archive that is cut off": lambda: gzip.compress(bytes(99))[:-9],
    "bytes": lambda: bytes(range(256)) * 8,
    "nothing": lambda: b"",
}
