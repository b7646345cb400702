"""The folder of a heat map while it is being made: maps on disk, finished bands, resume.

A band of rows is written into the memory-mapped .npy files and flushed, and only then recorded: by the file of its
sightings, written beside and renamed. A run that was interrupted goes on with the first band that is not recorded
and gives the same bytes. Several processes may write bands of one folder. A folder of another run is refused.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.maps.census import Sightings
from polykern.maps.result import SCHEMA

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
        return {int(p.stem) for p in (self.root / PARTS).glob("*.npz")}

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
        (self.root / PARTS).mkdir(exist_ok=True)
        for part in (self.root / PARTS).iterdir():  # of a run that is overwritten
            part.unlink()
        shapes[f"{PARTS}/audit"] = (np.int64, (audited, side, side, 2))
        for name, (dtype, shape) in shapes.items():
            np.lib.format.open_memmap(self.root / f"{name}.npy", "w+", dtype, shape).flush()
        self.state = {"config": self.config, "engine": dict(engine)}
        _replace(self.root / PROGRESS, json.dumps(self.state))

    def array(self, name: str) -> NDArray[Any]:
        """One of the maps, writable."""
        found: NDArray[Any] = np.load(self.root / f"{name}.npy", mmap_mode="r+", allow_pickle=False)
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
        with _replacing(self.root / PARTS / f"{row:06d}.npz", "wb") as f:
            np.savez(f, *(s.numpy() for s in sightings), np.int64(uncertain))

    def sightings(self) -> tuple[list[Sightings], int]:
        """What `write` was given for every band, in order, and the sum of uncertain bits."""
        found, uncertain = [], 0
        for row in sorted(self.bands):
            with np.load(self.root / PARTS / f"{row:06d}.npz", allow_pickle=False) as part:
                digest, marks, counts = (torch.from_numpy(part[f"arr_{k}"]) for k in range(3))
                found.append((digest, marks, counts))
                uncertain += int(part["arr_3"])
        return found, uncertain

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write map.json, last, and drop what only the making needed."""
        _replace(self.root / "map.json", json.dumps(provenance, indent=1))
        for part in (self.root / PARTS).iterdir():
            part.unlink()
        (self.root / PARTS).rmdir()
        (self.root / PROGRESS).unlink()

    def _admitted(self, overwrite: bool) -> dict[str, Any]:
        """The state of the folder; refuses one that holds something else."""
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is not a folder")
        self.root.mkdir(parents=True, exist_ok=True)
        known = self.root / "map.json", self.root / PROGRESS
        held = next((k for k in known if k.exists()), None)
        if overwrite and held is not None:
            for k in known:
                k.unlink(missing_ok=True)
            return {}
        if held is None:
            if any(self.root.iterdir()) and not overwrite:
                raise MismatchError(
                    f"{self.root} is not empty and holds no heat map", fix="name another --out folder"
                )
            return {}
        state = _read(held)
        theirs = state.get("config", {})
        differs = [k for k in sorted({*theirs, *self.config}) if theirs.get(k) != self.config.get(k)]
        if differs:
            raise MismatchError(
                f"{self.root} holds another run's heat map",
                why="; ".join(f"{k}: {theirs.get(k)!r} there, {self.config.get(k)!r} here" for k in differs[:4]),
                fix="name another --out folder, or --overwrite",
            )
        return state


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
        state = json.loads(path.read_text())
    except (OSError, ValueError) as reason:
        raise CorruptError(
            f"{path} cannot be read", why=str(reason), fix="--overwrite, or another folder"
        ) from reason
    if not isinstance(state, dict) or state.get("schema", SCHEMA) != SCHEMA:
        raise CorruptError(f"{path} is not a heat map's", fix="name another --out folder")
    return state


def _replace(path: Path, text: str) -> None:
    with _replacing(path, "w") as f:
        f.write(text)


@contextmanager
def _replacing(path: Path, mode: str) -> Iterator[IO[Any]]:
    """A file to write beside; then it is synced and renamed: readers see the old file or the new one."""
    beside = path.with_suffix(".tmp")
    with beside.open(mode) as f:
        yield f
        f.flush()
        os.fsync(f.fileno())
    beside.replace(path)


def flush(array: NDArray[Any]) -> None:
    """Flush a memory map; its pages leave memory with the last reference."""
    array.flush()  # type: ignore[attr-defined]
