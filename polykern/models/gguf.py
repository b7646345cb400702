"""Weights in GGUF files: their table, and the tensors they hold, made float32.

A tensor is cut into blocks of 32 values that share a scale: Q8_0 is scale (float16) and 32 signed bytes, value =
scale * q; Q4_1 is scale and minimum (float16) and 32 half bytes, value = scale * q + minimum, the low halves first.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import CorruptError

MAGIC, VERSIONS = b"GGUF", (2, 3)
LIMIT = 1 << 24  # entries of a table, values of a list
F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8
BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_1: (32, 20), Q8_0: (32, 34)}  # values and bytes of a block
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, LIST = 8, 9


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies: its shape, its kind of blocks, its first byte."""

    shape: tuple[int, ...]
    kind: int
    offset: int


class Gguf:
    """A GGUF file, mapped into memory.

    path    the file
    about   what it says about itself: name -> number, text or list
    names   of the tensors

    Errors: CorruptError when it is no GGUF file or cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.about, self._entries = self._table()
        except (struct.error, ValueError, IndexError) as error:
            raise CorruptError(f"{path} is no sound GGUF file", why=str(error)) from error

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tensors."""
        return tuple(self._entries)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32, its last axis the one that runs fastest in the file.

        Raises CorruptError for a kind of blocks that is not known, or when the file ends before it.
        """
        entry = self._entries[name]
        if entry.kind not in BLOCKS:
            raise CorruptError(f"{self.path}: {name} is of the unknown kind {entry.kind}")
        values, size = BLOCKS[entry.kind]
        whole, rest = divmod(math.prod(entry.shape), values)
        if rest:
            raise CorruptError(f"{self.path}: {name} has {list(entry.shape)} values, not blocks of {values}")
        count = whole * size
        if entry.offset + count > len(self._bytes):
            raise CorruptError(f"{self.path} ends before {name}")
        raw = np.frombuffer(self._bytes, np.uint8, count, entry.offset)
        return _values(raw, entry.kind).reshape(entry.shape)

    def _table(self) -> tuple[Mapping[str, Any], dict[str, Entry]]:
        if self._bytes[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = 4
        version, tensors, facts = self._number("<I"), self._number("<Q"), self._number("<Q")
        if version not in VERSIONS or tensors > LIMIT or facts > LIMIT:
            raise ValueError(f"version {version} with {tensors} tensors and {facts} facts")
        about = {self._text(): self._value(self._number("<I")) for _ in range(facts)}
        found = []
        for _ in range(tensors):
            name, axes = self._text(), self._number("<I")
            if axes > 8:
                raise ValueError(f"{name} has {axes} axes")
            shape = tuple(self._number("<Q") for _ in range(axes))[::-1]
            found.append((name, shape, self._number("<I"), self._number("<Q")))
        step = about.get("general.alignment", 32)
        if not isinstance(step, int) or step < 1:
            raise ValueError(f"its data are aligned to {step!r}")
        base = -(-self._at // step) * step
        return about, {name: Entry(shape, kind, base + offset) for name, shape, kind, offset in found}

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._bytes, self._at)
        self._at += struct.calcsize(form)
        return value

    def _text(self) -> str:
        size = self._number("<Q")
        if size > LIMIT or self._at + size > len(self._bytes):
            raise ValueError(f"a text of {size} bytes")
        self._at += size
        return self._bytes[self._at - size : self._at].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind != LIST:
            if kind not in SCALARS:
                raise ValueError(f"a value of kind {kind}")
            return self._number(SCALARS[kind])
        inner, count = self._number("<I"), self._number("<Q")
        if count > LIMIT or inner == LIST:
            raise ValueError(f"a list of {count} values of kind {inner}")
        return [self._value(inner) for _ in range(count)]


def _values(raw: NDArray[np.uint8], kind: int) -> NDArray[np.float32]:
    if kind == F32:
        return raw.view("<f4").astype(np.float32)
    if kind == F16:
        return raw.view("<f2").astype(np.float32)
    rows = raw.reshape(-1, BLOCKS[kind][1])
    scale = rows[:, :2].copy().view("<f2").astype(np.float32)
    if kind == Q8_0:
        return scale * rows[:, 2:].view(np.int8)
    minimum = rows[:, 2:4].copy().view("<f2").astype(np.float32)
    halves = np.concatenate([rows[:, 4:] & 15, rows[:, 4:] >> 4], 1)
    return scale * halves.astype(np.float32) + minimum
