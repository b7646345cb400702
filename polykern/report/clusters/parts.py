"""Packed parts of a page: scripts that hand over their data when the page asks for them.

A part is deflated and in base64, so nothing in it can be read as markup or as script, and a page that was opened
from a disk can load it. Text inside a part is exact; it is made fit to be seen where it is shown.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.report.script import json_for_script

CHUNK = 1 << 18  # bytes of JSON a chunk holds at most, unless one entry alone is larger
KINDS = {"i": "i4", "u": "u4", "f": "f4"}

Columns = Mapping[str, NDArray[Any]]


def write_json(folder: Path, key: str, text: str) -> None:
    """A part of JSON.

    folder  of the page's data
    key     name of the part; `folder`/KEY.js is written
    text    JSON as `compact` gives it
    """
    _write(folder, key, None, _deflated(text.encode("ascii")))


def write_columns(folder: Path, key: str, columns: Columns) -> None:
    """A part of named columns: integers as int32 or uint32, floats as float32, byte plane by plane.

    folder, key  as for `write_json`
    columns      name -> array (any length), integers within 32 bits

    Errors: OverflowError for an integer that 32 bits cannot hold.
    """
    heads, planes = [], []
    for name, values in columns.items():
        kind = KINDS[values.dtype.kind]
        if values.dtype.kind != "f" and values.size:
            limits = np.iinfo(np.dtype(kind))
            if int(values.min()) < limits.min or int(values.max()) > limits.max:
                raise OverflowError(f"{key}: {name} does not fit {kind}")
        plain = np.ascontiguousarray(values, f"<{kind}")
        heads.append([name, kind, len(plain)])
        planes.append(plain.view(np.uint8).reshape(len(plain), 4).T.tobytes())
    _write(folder, key, heads, _deflated(b"".join(planes)))


def write_bytes(folder: Path, key: str, kind: str, data: bytes) -> None:
    """A part of bytes that are packed already, a photo: `kind` is what they are, image/png or image/jpeg."""
    _write(folder, key, kind, base64.b64encode(data).decode("ascii"))


def compact(value: Any) -> str:
    """`value` as JSON in ASCII without blanks; NaN and infinity are refused with ValueError."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def rounded(x: float) -> float | None:
    """Six significant digits, which is what a page shows at most; None for what is no number."""
    return float(f"{x:.6g}") if math.isfinite(x) else None


class Chunks:
    """A long list of JSON entries, written a chunk at a time.

    folder  of the page's data
    name    chunk i is the part NAME/i
    limit   bytes of JSON a chunk holds

    `firsts` says how many entries lie before each chunk, `names` what the first entry of each is called.
    """

    def __init__(self, folder: Path, name: str, limit: int = CHUNK) -> None:
        self.folder, self.name, self.limit = folder, name, limit
        self.firsts: list[int] = []
        self.names: list[str] = []
        self.count = 0
        self._waiting: list[str] = []
        self._bytes = 0

    def add(self, text: str, name: str = "") -> None:
        """The next entry, JSON as `compact` gives it."""
        if self._bytes and self._bytes + len(text) > self.limit:
            self._emit()
        if not self._waiting:
            self.firsts.append(self.count)
            self.names.append(name)
        self._waiting.append(text)
        self._bytes += len(text) + 1
        self.count += 1

    def close(self) -> None:
        """Write what is left."""
        if self._waiting:
            self._emit()

    def _emit(self) -> None:
        write_json(self.folder, f"{self.name}/{len(self.firsts) - 1}", f"[{','.join(self._waiting)}]")
        self._waiting, self._bytes = [], 0


def _deflated(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def _write(folder: Path, key: str, head: Any, text: str) -> None:
    path = folder / f"{key}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"polykern.part({json_for_script([key, head, text])});\n", encoding="ascii")
