"""Where the columns of a partition go as they are found: memory, or the files of a folder.

A file is a .npy whose header has room for any number of rows: rows are appended, and the header is written again
when their number is known. A folder holds a partition when its partition.json, written last, is there.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from polykern.errors import CorruptError, UsageError
from polykern.store.disk import leftovers, make_folder, put, remove, sync_folder, told
from polykern.store.inventory import account
from polykern.store.mapped import mapped_array
from polykern.subdivision.front import Faces

ABOUT, ANCHORS = "partition.json", "anchors.npy"
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "first": ("<i8", ()),
    "corner": ("<f8", (2,)),
    "area": ("<f8", ()),
    "digest": ("<i8", (2,)),
    "winner": ("<i4", ()),
    "faces": ("<i8", (2,)),
    "ends": ("<f8", (2, 2)),
    "what": ("<i4", ()),
}
HEADER = 128  # bytes: a multiple of 64, and of the length of every row

Arrays = dict[str, NDArray[Any]]


class Columns(Protocol):
    """Something that takes faces and gives all of them back."""

    def add(self, found: Faces) -> None:
        """Put faces and sides behind those that are there."""
        ...

    def close(self) -> Arrays:
        """All of them by name."""
        ...


class Memory:
    """Columns as arrays in memory."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in SHAPES}
        self._parts["first"].append(np.zeros(1, np.int64))

    def add(self, found: Faces) -> None:
        """Put faces and sides behind those that are there."""
        for name, rows in _rows(found, int(self._parts["first"][-1][-1])):
            if len(rows):
                self._parts[name].append(rows)

    def close(self) -> Arrays:
        """All of them by name; the parts are given up one column after the other."""
        found = {}
        for name, (dtype, shape) in SHAPES.items():
            found[name] = np.concatenate([np.zeros((0, *shape), dtype), *self._parts.pop(name)])
        return found


class Files:
    """Columns as the files of a folder.

    folder     made when it is not there
    overwrite  replace a partition that is there, finished or not

    Raises UsageError where the folder holds something else, ResourceError when the disk is full or fails.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.folder = folder
        require_free(folder, overwrite=overwrite)
        make_folder(folder)
        # without its manifest what is there is no partition
        remove([*leftovers(folder), folder / ABOUT, folder / ANCHORS, *(folder / f"{name}.npy" for name in SHAPES)])
        self._open: dict[str, BinaryIO] = {}
        self._closing = ExitStack()  # closes every file, whatever happens to one of them
        self._count = dict.fromkeys(SHAPES, 0)
        self._last = 0  # corners so far
        try:
            for name in SHAPES:
                with told(self._path(name)):
                    self._open[name] = self._closing.enter_context(self._path(name).open("xb"))
                    self._open[name].write(_header(name, 0))
            self._append("first", np.zeros(1, np.int64))
        except BaseException:
            self.__exit__()
            raise

    def add(self, found: Faces) -> None:
        """Put faces and sides behind those that are there."""
        for name, rows in _rows(found, self._last):
            self._append(name, rows)
        self._last += len(found.corner)

    def close(self) -> Arrays:
        """All of them by name, mapped from the files, which are whole and will last."""
        for name, file in self._open.items():
            with told(self._path(name)), file:
                file.seek(0)
                file.write(_header(name, self._count[name]))
                file.flush()
                os.fsync(file.fileno())
        sync_folder(self.folder)
        return mapped(self.folder)

    def finish(self, anchors: NDArray[np.float64], about: Mapping[str, Any]) -> list[Path]:
        """Write the anchors of the plane and, last, partition.json, which holds `about`; gives all files."""
        put(
            self.folder / ANCHORS,
            [_header_of("<f8", anchors.shape), np.ascontiguousarray(anchors, "<f8").data.cast("B")],
        )
        held = [*(self._path(name) for name in SHAPES), self.folder / ANCHORS]
        put(self.folder / ABOUT, [account(about, self.folder, held)])
        return [*held, self.folder / ABOUT]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._closing.close()

    def _append(self, name: str, rows: NDArray[Any]) -> None:
        dtype, _ = SHAPES[name]
        with told(self._path(name)):
            self._open[name].write(np.ascontiguousarray(rows, dtype).data.cast("B") if rows.size else b"")
        self._count[name] += len(rows)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def require_free(folder: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a folder holds something, unless it may go or is a partition that was not finished."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", fix="name another one")
    held = {path.name for path in set(folder.iterdir()) - set(leftovers(folder))} if folder.exists() else set()
    if held - {ANCHORS, *(f"{name}.npy" for name in SHAPES)} and not overwrite:
        raise UsageError(f"{folder} is not empty", fix="name another folder, or --overwrite")


def mapped(folder: Path) -> Arrays:
    """The columns of a folder, mapped from its files; raises CorruptError naming a file that does not fit."""
    found: Arrays = {}
    for name, (dtype, shape) in SHAPES.items():
        found[name] = mapped_array(folder / f"{name}.npy", dtype, (None, *shape))
    n, m = len(found["area"]), len(found["what"])
    lengths = {"first": n + 1, "digest": n, "winner": n, "faces": m, "ends": m}
    wrong = next((name for name, length in lengths.items() if len(found[name]) != length), None)
    if wrong is not None:
        raise CorruptError(f"{folder / wrong}.npy: holds {len(found[wrong]):,} rows", why=f"not {lengths[wrong]:,}")
    return found


def _rows(found: Faces, last: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """The rows that faces add to each column; `last` is where their first corner goes."""
    for name in SHAPES:
        yield name, found.first[1:] + last if name == "first" else getattr(found, name)


def _header(name: str, rows: int) -> bytes:
    dtype, shape = SHAPES[name]
    return _header_of(dtype, (rows, *shape))


def _header_of(dtype: str, shape: tuple[int, ...]) -> bytes:
    """A .npy header of HEADER bytes, version 1.0."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {tuple(map(int, shape))}, }}"
    magic = np.lib.format.magic(1, 0)
    room = HEADER - len(magic) - 2
    return magic + room.to_bytes(2, "little") + text.encode().ljust(room - 1) + b"\n"
