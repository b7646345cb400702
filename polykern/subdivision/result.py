"""A finished partition: its faces, their sides, and what can be read off them."""

import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.plane import Plane
from polykern.points import codes_of
from polykern.store.disk import make_folder, put
from polykern.tail import Tail

SCHEMA = "polykern-partition/1"
ABOUT = "partition.json"
ARRAYS = ("first", "corner", "area", "digest", "winner", "faces", "ends", "what")


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """A window of a plane cut into faces, a convex polygon and one affine map each; n faces, m sides between two.

    about   what it is of and how it was made, as in partition.json
    plane   the plane; `tail` the network from its input space on
    first   int64 (n + 1)     first corner of each face
    corner  float64 (c, 2)    (u, v) of the corners, L2 units, in the sense that turns u to v
    area    float64 (n)       L2 units squared
    digest  int64 (n, 2)      fingerprint of the code; faces that differ by a max-pool's choice only share it
    winner  int32 (n)         class, -1 without classes
    faces   int64 (m, 2)      the faces on the left and on the right of a side
    ends    float64 (m, 2, 2) (u, v) of where it begins and ends
    what    int32 (m)         field of the nonlinearity it is a boundary of; -1: a max-pool's choice, a class, or a
                              nonlinearity that was not selected
    """

    about: dict[str, Any]
    plane: Plane
    tail: Tail
    first: NDArray[np.int64]
    corner: NDArray[np.float64]
    area: NDArray[np.float64]
    digest: NDArray[np.int64]
    winner: NDArray[np.int32]
    faces: NDArray[np.int64]
    ends: NDArray[np.float64]
    what: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.area)

    def __repr__(self) -> str:
        part = "" if self.about["complete"] else f", {self.about['covered']:.1%} of the window"
        return f"Partition({len(self):,} faces, {self.codes:,} codes{part})"

    @cached_property
    def codes(self) -> int:
        """Distinct codes, by fingerprint."""
        return len(np.unique(self.digest.view("i8,i8")))

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """float64 (n, 2): (u, v) of a point inside each face, the mean of its corners."""
        return np.add.reduceat(self.corner, self.first[:-1]) / np.diff(self.first)[:, None]

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """float64 (m): length of each side, L2 units."""
        return np.asarray(np.hypot(*(self.ends[:, 1] - self.ends[:, 0]).T))

    @property
    def layers(self) -> dict[str, float]:
        """Length of boundary in the window, by module and call of the nonlinearity; the rest as "other"."""
        names = [*(f"{f['module']}#{f['call']}" for f in self.about["layers"]), "other"]
        total = np.bincount(self.what % len(names), self.lengths, len(names))
        return dict(zip(names, total.tolist(), strict=True))

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """int64 (k, 2): pairs of faces that share a side, the smaller first, each pair once."""
        return np.unique(np.sort(self.faces, 1), axis=0)

    def face_at(self, u: float, v: float) -> int:
        """The face that a point of the plane is in, -1 outside of all."""
        edge = self.corner[self._following] - self.corner
        side = edge[:, 0] * (v - self.corner[:, 1]) - edge[:, 1] * (u - self.corner[:, 0])
        inside = np.flatnonzero(np.minimum.reduceat(side, self.first[:-1]) >= 0)
        return int(inside[0]) if len(inside) else -1

    def codes_at(self, faces: NDArray[np.int64] | None = None) -> Codes:
        """The codes of faces (all of them), from a point inside each: dense float64."""
        uv = self.centres if faces is None else self.centres[faces]
        return codes_of(self.tail.to(torch.float64), self.plane.points(torch.from_numpy(uv)))

    @cached_property
    def _following(self) -> NDArray[np.int64]:
        """int64 (c): the corner behind each corner."""
        after = np.arange(1, len(self.corner) + 1)
        after[self.first[1:] - 1] = self.first[:-1]
        return after

    def summary(self) -> dict[str, Any]:
        """partition.json: `about`, and the numbers that a person asks for first."""
        return {
            **self.about,
            "faces": len(self),
            "codes": self.codes,
            "adjacent_pairs": len(self.neighbours),
            "area": {"sum": float(self.area.sum()), "median": float(np.median(self.area))},
            "boundary_length": self.layers,
        }

    def save(self, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
        """Write the arrays and, last, partition.json into a folder; returns the files.

        Raises UsageError where the folder holds something else.
        """
        root = Path(folder)
        if root.exists() and any(root.iterdir()) and not overwrite:
            raise UsageError(f"{root} is not empty", fix="name another folder, or --overwrite")
        make_folder(root)
        written = []
        for name in ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            path = root / f"{name}.npy"
            put(path, [_npy(array)])
            written.append(path)
        put(root / ABOUT, [json.dumps(self.summary(), indent=1).encode() + b"\n"])
        return [*written, root / ABOUT]


def _npy(array: NDArray[Any]) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=False)
    return held.getvalue()
