"""The folder of a heat map while it is being made: maps on disk, finished bands, resume.

A band of rows is written into the memory-mapped .npy files and flushed, and only then recorded: by the file of its
sightings, written beside and renamed. A run that was interrupted goes on with the first band that is not recorded
and gives the same bytes. Several processes may write bands of one folder. A folder of another run is refused.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.maps.census import Sightings
from polykern.maps.result import SCHEMA
from polykern.store.disk import leftovers, make_folder, put, remove, reserve, told
from polykern.store.inventory import account, read

COUNT_LIMIT = np.iinfo(np.uint16).max
PROGRESS, PARTS = "progress.json", "parts"


class MapFolder:
    """Where a heat map grows.

    root      the folder, made when missing
    config    what determines the map; a folder of another config is refused (exit 6)
    shape     (resolution, fields)
    classes   whether there is a class map
    audited   int64 (k, 2): upper left pixels of the audited blocks
    """

    def __init__(
        self,
        root: Path,
        config: Mapping[str, Any],
        shape: tuple[int, int],
        *,
        classes: bool,
        overwrite: bool = False,
    ) -> None:
        self.root, self.config = root, dict(config)
        self.resolution, self.fields = shape
        self.classes = classes
        self.state = self._admitted(overwrite)

    @property
    def finished(self) -> bool:
        """Whether map.json says that the map is complete."""
        return bool(self.state.get("complete"))

    @property
    def bands(self) -> set[int]:
        """First rows of the bands that are on disk, whoever wrote them."""
        return {int(p.stem) for p in (self.root / PARTS).glob("*.npz") if p.stem.isdecimal()}

    def begin(self, engine: Mapping[str, Any], audited: int, side: int) -> None:
        """Lay the files out and record which engine makes the map."""
        n = self.resolution
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "right": (np.uint16, (n, n - 1)),
            "down": (np.uint16, (n - 1, n)),
            "layers": (np.uint16, (self.fields, n - 1, n - 1)),
            "margin": (np.float32, (n, n)),
            "smoothed": (np.float32, (n - 1, n - 1)),
        }
        if self.classes:
            shapes["classes"] = (np.int16, (n, n))
        shapes[f"{PARTS}/audit"] = (np.int64, (audited, side, side, 2))
        self.state = {"config": self.config}
        self._record()  # whose the files are, before there are any
        # of the run that is replaced
        remove(self.root.glob("anchor-[012].png"))
        remove([] if self.classes else [self.root / "classes.npy"])
        remove(sorted((self.root / PARTS).glob("*.npz")))
        make_folder(self.root / PARTS)
        for name, (dtype, shape) in shapes.items():
            path = self.root / f"{name}.npy"
            with told(path):
                flush(np.lib.format.open_memmap(path, "w+", dtype, shape))
            reserve(path)
        self.state = {"config": self.config, "engine": dict(engine)}
        self._record()

    def array(self, name: str) -> NDArray[Any]:
        """One of the maps, writable; raises CorruptError where its file does not open any more."""
        with _sound(self.root / f"{name}.npy") as path:
            found: NDArray[Any] = np.load(path, mmap_mode="r+", allow_pickle=False)
        return found

    def write(
        self,
        row: int,
        right: NDArray[np.int32],
        down: NDArray[np.int32],
        classes: NDArray[np.int32] | None,
        margin: NDArray[np.float32],
        sightings: Sightings,
        uncertain: int,
    ) -> None:
        """Write a band (fields, height, n) that begins at `row`, then record it."""
        n, height = self.resolution, margin.shape[0]
        below = min(height, n - 1 - row)  # rows that have one below
        split = {"right": right[:, :, : n - 1], "down": down[:, :below]}
        for name, part in split.items():
            total = _counted(part.sum(0))
            out = self.array(name)
            out[row : row + total.shape[0]] = total
            flush(out)
        layers = self.array("layers")
        layers[:, row : row + below] = _counted(split["right"][:, :below] + split["down"][:, :, : n - 1])
        flush(layers)
        for name, values in (("margin", margin), ("classes", classes)):
            if values is not None:
                out = self.array(name)
                out[row : row + height] = values
                flush(out)
        record = io.BytesIO()
        np.savez(record, *(s.numpy() for s in sightings), np.int64(uncertain))
        put(self.root / PARTS / f"{row:06d}.npz", [record.getbuffer()])

    def sightings(self) -> tuple[list[Sightings], int]:
        """What `write` was given for every band, in order, and the sum of uncertain bits."""
        found, uncertain = [], 0
        for row in sorted(self.bands):
            with _sound(self.root / PARTS / f"{row:06d}.npz") as path, np.load(path, allow_pickle=False) as part:
                digest, marks, counts = (torch.from_numpy(part[f"arr_{k}"]) for k in range(3))
                found.append((digest, marks, counts))
                uncertain += int(part["arr_3"])
        return found, uncertain

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write map.json, last, and drop what only the making needed."""
        held = [*self.root.glob("*.npy"), *self.root.glob("anchor-[012].png")]
        put(self.root / "map.json", [account(provenance, self.root, held)])
        self._drop()

    def _drop(self) -> None:
        """Remove what only the making needed, as far as it is there."""
        parts = self.root / PARTS
        if parts.is_dir() and not parts.is_symlink():
            remove(p for p in sorted(parts.iterdir()) if p.is_file())
            with told(parts):
                parts.rmdir()
        remove([self.root / PROGRESS])

    def _admitted(self, overwrite: bool) -> dict[str, Any]:
        """The state of the folder; refuses one that holds something else."""
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is not a folder")
        make_folder(self.root)
        known = self.root / "map.json", self.root / PROGRESS
        held = next((k for k in known if k.exists()), None)
        if overwrite and held is not None:
            remove([*known, *leftovers(self.root), *leftovers(self.root / PARTS)])
            return {}
        if held is None:
            if set(self.root.iterdir()) - set(leftovers(self.root)) and not overwrite:
                raise MismatchError(
                    f"{self.root} is not empty and holds no heat map", fix="name another --out folder"
                )
            remove(leftovers(self.root))
            return {}
        state = _read(held)
        theirs = state["config"]
        differs = [k for k in sorted({*theirs, *self.config}) if theirs.get(k) != self.config.get(k)]
        if differs:
            raise MismatchError(
                f"{self.root} holds another run's heat map",
                why="; ".join(f"{k}: {theirs.get(k)!r} there, {self.config.get(k)!r} here" for k in differs[:4]),
                fix="name another --out folder, or --overwrite",
            )
        remove([*leftovers(self.root), *leftovers(self.root / PARTS)])
        if held.name != PROGRESS and (self.root / PROGRESS).exists():
            self._drop()  # a run that was killed behind its last step
        return state

    def _record(self) -> None:
        put(self.root / PROGRESS, [json.dumps(self.state).encode()])


def fingerprint(array: NDArray[Any]) -> str:
    """sha256 of an array's dtype, shape and bytes."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def _counted(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """The counts, refused when uint16 cannot hold them."""
    most = int(counts.max(initial=0))
    if most > COUNT_LIMIT:
        raise UsageError(
            f"{most} bits change between two pixels, more than {COUNT_LIMIT}",
            why="the maps are uint16",
            fix="raise the resolution or zoom in",
        )
    return counts


def _read(path: Path) -> dict[str, Any]:
    try:
        state = read(path)
    except CorruptError as reason:
        raise CorruptError(
            f"{path} cannot be read", why=reason.why or reason.what, fix="--overwrite, or another folder"
        ) from reason
    if not isinstance(state.get("config"), dict) or state.get("schema", SCHEMA) != SCHEMA:
        raise CorruptError(f"{path} is not a heat map's", fix="name another --out folder")
    return state


@contextmanager
def _sound(path: Path) -> Iterator[Path]:
    """A context in which whatever a damaged file can do to NumPy's parser names it."""
    try:
        yield path
    except Exception as reason:
        if isinstance(reason, OSError | MemoryError) and not isinstance(reason, FileNotFoundError):
            raise  # not the file's fault
        raise CorruptError(
            f"{path} cannot be read", why=f"{type(reason).__name__}: {reason}", fix="--overwrite makes the map anew"
        ) from reason


def flush(array: NDArray[Any]) -> None:
    """Flush a memory map; its pages leave memory with the last reference."""
    assert isinstance(array, np.memmap)
    with told(Path(array.filename or "")):
        array.flush()
