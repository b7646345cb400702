"""A finished partition: its faces, their sides, and what can be read off them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern import tiles
from polykern.carrier import NotCarried
from polykern.codes import Codes
from polykern.errors import CorruptError, UsageError
from polykern.plane import Plane
from polykern.points import codes_of
from polykern.store import Problem
from polykern.store.inventory import FILES, read
from polykern.subdivision import tally
from polykern.subdivision.columns import ABOUT, ANCHORS, SHAPES, Files, mapped
from polykern.subdivision.front import Faces
from polykern.tail import Tail

SCHEMA = "polykern-partition/1"


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """A window of a plane cut into faces, a convex polygon and one affine map each; n faces, m sides between two.

    about   what it is of and how it was made, as in partition.json
    plane   the plane; `tail` the network from its input space on, None where a folder was opened without it
    first   int64 (n + 1)     first corner of each face
    corner  float64 (c, 2)    (u, v) of the corners, L2 units, the least first, in the sense that turns u to v
    area    float64 (n)       L2 units squared
    digest  int64 (n, 2)      fingerprint of the code; faces that differ by a max-pool's choice only share it
    winner  int32 (n)         class, -1 without classes
    faces   int64 (m, 2)      the faces on the left and on the right of a side
    ends    float64 (m, 2, 2) (u, v) of where it begins and ends
    what    int32 (m)         field of the nonlinearity it is a boundary of; -1: a max-pool's choice or a
                              nonlinearity that was not selected; -2: another class

    The columns of a folder are mapped from its files and need no memory of their own.
    """

    about: dict[str, Any]
    plane: Plane
    tail: Tail | None
    first: NDArray[np.int64]
    corner: NDArray[np.float64]
    area: NDArray[np.float64]
    digest: NDArray[np.int64]
    winner: NDArray[np.int32]
    faces: NDArray[np.int64]
    ends: NDArray[np.float64]
    what: NDArray[np.int32]

    @classmethod
    def open(cls, folder: Path | str, tail: Tail | None = None) -> "Partition":
        """The partition in a folder, its columns mapped from the files.

        tail  the network, where codes or maps of faces are wanted

        Raises UsageError where the folder holds no finished partition, CorruptError where a file does not fit.
        """
        root = Path(folder)
        if not (root / ABOUT).is_file():
            raise UsageError(f"{root} holds no finished partition", fix="polykern partition --out makes one")
        about = read(root / ABOUT)
        if about.get("schema") != SCHEMA:
            raise CorruptError(f"{root / ABOUT} is {about.get('schema')!r}", why=f"this version reads {SCHEMA}")
        if wrong := _objection(about):
            raise CorruptError(f"{root / ABOUT}: {wrong}")
        try:
            plane = Plane.through(torch.from_numpy(np.load(root / ANCHORS, allow_pickle=False)))
        except Exception as error:  # whatever a header can do to NumPy's parser
            raise CorruptError(f"{root / ANCHORS}: cannot be read", why=str(error)) from error
        about.pop(FILES, None)  # of these files, which another folder will not have
        columns = mapped(root)
        if len(columns["area"]) != about["faces"] or columns["first"][-1] != len(columns["corner"]):
            raise CorruptError(
                f"{root} holds {len(columns['area']):,} faces", why=f"{ABOUT} says {about['faces']:,}"
            )
        return cls(about=about, plane=plane, tail=tail, **columns)

    def __len__(self) -> int:
        return len(self.area)

    def __repr__(self) -> str:
        part = "" if self.about["complete"] else f", {self.about['covered']:.1%} of the window"
        return f"Partition({len(self):,} faces, {self.codes:,} codes{part})"

    @cached_property
    def codes(self) -> int:
        """Distinct codes, by fingerprint."""
        return tally.distinct(self.digest)

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """float64 (n, 2): (u, v) of a point inside each face, the mean of its corners."""
        return self._centres(np.arange(len(self)))

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """float64 (m): length of each side, L2 units."""
        return tally.lengths(self.ends)

    @cached_property
    def layers(self) -> dict[str, float]:
        """Length of boundary in the window, L2 units, by module and call of the nonlinearity.

        "classes" is where the class changes, "other" max-pools and what was not selected.
        """
        names = [*(f"{f['module']}#{f['call']}" for f in self.about["layers"]), "classes", "other"]
        return dict(zip(names, tally.boundary(self.what, self.ends, len(names)).tolist(), strict=True))

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """int64 (k, 2): pairs of faces that share a side, the smaller first, each pair once."""
        return np.unique(np.sort(self.faces, 1), axis=0)

    @cached_property
    def decision(self) -> NDArray[np.int64]:
        """int64 (k): the sides at which the class changes; none without classes."""
        return tally.decision(self.winner, self.faces)

    def objection(self) -> Problem | None:
        """What no digest can know: corners and sides that are out of range; None where all are in it."""
        n = len(self)
        if self.first[0] != 0 or (np.diff(self.first) < 1).any() or self.first[-1] != len(self.corner):
            return Problem("first.npy", "does not ascend from 0 to the number of corners")
        if self.faces.size and not 0 <= int(self.faces.min()) <= int(self.faces.max()) < n:
            return Problem("faces.npy", f"names faces that are not within 0 .. {n - 1}")
        return None

    def polygon(self, face: int) -> NDArray[np.float64]:
        """float64 (corners, 2): the corners of a face."""
        return np.asarray(self.corner[self.first[face] : self.first[face + 1]])

    def face_at(self, u: float, v: float) -> int:
        """The face that a point of the plane is in, -1 outside of all."""
        return tally.face_at(self.first, self.corner, u, v)

    def codes_at(self, faces: NDArray[np.int64] | None = None) -> Codes:
        """The codes of faces (all of them), from a point inside each: dense float64."""
        uv = self.centres if faces is None else self._centres(faces)
        return codes_of(self._network().to(torch.float64), self.plane.points(torch.from_numpy(uv)))

    def affine(self, face: int) -> tuple[Tensor, Tensor]:
        """The affine map of a face: float64 (*output_shape, 2) A and float64 (*output_shape) c with

            output(u, v) = A (u, v) + c      in the whole face

        The value and the derivatives at a point inside of it, carried through the network in float64. Raises
        UsageError where what stands behind the last boundary is not piecewise linear.
        """
        at = torch.from_numpy(self._centres(np.array([face])))
        network = self._network().to(torch.float64)
        try:
            ((value, du, dv),) = tiles.affine(network, self.plane.points(at), self.plane.e1, self.plane.e2)
        except NotCarried as reason:
            raise UsageError(
                f"the output is not affine in a face: {reason}", fix="name a module as stop"
            ) from reason
        slopes = torch.stack([du, dv], -1)
        return slopes, value - slopes @ at[0]

    def plot(self, path: Path | str) -> Path:
        """Write a picture: .png, or .svg where it is small enough to open; gives the path."""
        from polykern.subdivision import drawing

        return drawing.draw(self, Path(path))

    def view(self, folder: Path | str) -> Path:
        """Write a page to pan and zoom, which opens from a disk; gives the page, `folder`/index.html."""
        from polykern.subdivision import page

        return page.write(self, folder)

    def summary(self) -> dict[str, Any]:
        """partition.json: `about`, and the numbers that a person asks for first."""
        return {
            **self.about,
            "faces": len(self),
            "codes": self.codes,
            "adjacent_pairs": tally.pairs(self.faces),
            "area": {"sum": float(self.area.sum()), "median": float(np.median(self.area))},
            "boundary_length": self.layers,
            "decision_length": float(tally.lengths(self.ends[self.decision]).sum()),
        }

    def save(self, folder: Path | str, *, overwrite: bool = False) -> list[Path]:
        """Write the columns and, last, partition.json into a folder; returns the files.

        Raises UsageError where the folder holds something else.
        """
        with Files(Path(folder), overwrite=overwrite) as files:
            files.add(Faces(**{name: getattr(self, name) for name in SHAPES}))
            files.close()
            return files.finish(self.plane.anchors.numpy(), self.summary())

    def _centres(self, faces: NDArray[np.int64]) -> NDArray[np.float64]:
        return tally.centres(self.first, self.corner, faces)

    def _network(self) -> Tail:
        if self.tail is None:
            raise UsageError("this partition was opened without its network", fix="Partition.open(folder, tail)")
        return self.tail


def _objection(about: dict[str, Any]) -> str:
    """Why a partition.json says too little to be read; empty when it does not."""
    kinds = {"faces": int, "complete": bool, "covered": float, "layers": list, "window": list, "model": dict}
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            return f"{name} is missing or of another type"
    if not all(isinstance(f, dict) and {"module", "call"} <= f.keys() for f in about["layers"]):
        return "a layer has no module or no call"
    return ""
