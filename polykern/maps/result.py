"""A finished heat map on disk, opened read-only and checked (`polykern-heatmap/1`).

Pixel (row i, column j) of an n x n map sits at u = window.u + (j + 1/2) step, v = window.v + (i +
1/2) step. Cell (i, j) of the (n-1) x (n-1) count map spans the pixel centres (i, j) to (i+1, j+1);
its count is the flips from pixel (i, j) to its right neighbour plus those to the one below, so
count / (2 step) is a density per L2.
"""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import CorruptError
from polykern.store.inventory import read
from polykern.store.mapped import mapped_array

SCHEMA = "polykern-heatmap/1"
MAX_RESOLUTION = 1 << 16
SECTIONS = ("arithmetic", "smoothing", "audit", "polytopes", "density", "timings", "versions", "config")

Uint16 = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Anchor:
    """One of the three inputs a plane goes through.

    label       its name
    class_      its class index, None when unknown
    u, v        plane coordinates, L2 units
    row, column fractional pixel; outside 0 .. n-1 when the window leaves the anchor out
    thumbnail   a PNG in the folder, None without one
    """

    label: str
    class_: int | None
    u: float
    v: float
    row: float
    column: float
    thumbnail: Path | None


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A density map with everything measured on it; arrays are read-only memory maps.

    folder      where it lies
    provenance  the whole of map.json
    right       uint16 (n, n-1)        flips to the right neighbour
    down        uint16 (n-1, n)        flips to the neighbour below
    layers      uint16 (L, n-1, n-1)   the counts split by field of the code
    smoothed    float32 (n-1, n-1)     density after the Gaussian, per unit L2
    classes     int16 (n, n) | None    argmax of the output
    margin      float32 (n, n) | None  smallest distance of a pre-activation to its threshold
    """

    folder: Path
    provenance: dict[str, Any]
    right: Uint16
    down: Uint16
    layers: Uint16
    smoothed: NDArray[np.float32]
    classes: NDArray[np.int16] | None
    margin: NDArray[np.float32] | None

    @classmethod
    def open(cls, folder: Path | str) -> "HeatMap":
        """The heat map in `folder`; raises CorruptError naming the file that is missing or damaged."""
        root = Path(folder)
        provenance = _provenance(root / "map.json")
        n = provenance["plane"]["resolution"]
        fields = len(provenance["model"]["layers"])
        small = (n - 1, n - 1)
        return cls(
            folder=root,
            provenance=provenance,
            right=mapped_array(root / "right.npy", np.uint16, (n, n - 1)),
            down=mapped_array(root / "down.npy", np.uint16, (n - 1, n)),
            layers=mapped_array(root / "layers.npy", np.uint16, (fields, *small)),
            smoothed=mapped_array(root / "smoothed.npy", np.float32, small),
            classes=_optional(root / "classes.npy", np.int16, (n, n)),
            margin=_optional(root / "margin.npy", np.float32, (n, n)),
        )

    @property
    def resolution(self) -> int:
        """n: pixels along one side."""
        return int(self.provenance["plane"]["resolution"])

    @property
    def step(self) -> float:
        """Distance of neighbouring pixels, L2 units."""
        return float(self.provenance["plane"]["step"])

    @property
    def window(self) -> tuple[float, float, float]:
        """(u, v, side): the corner of row 0, column 0 and the side of the window, L2 units."""
        box = self.provenance["plane"]["window"]
        return float(box["u"]), float(box["v"]), float(box["side"])

    @cached_property
    def anchors(self) -> tuple[Anchor, ...]:
        """The three inputs, in the order A, B, C."""
        return tuple(
            Anchor(
                label=a["label"],
                class_=a.get("class"),
                u=float(a["u"]),
                v=float(a["v"]),
                row=float(a["pixel"][0]),
                column=float(a["pixel"][1]),
                thumbnail=self.folder / a["thumbnail"] if a.get("thumbnail") else None,
            )
            for a in self.provenance["plane"]["anchors"]
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The name of every field of the code, in the order of `layers`."""
        return tuple(str(f["module"]) for f in self.provenance["model"]["layers"])

    def class_name(self, index: int) -> str:
        """What class `index` is called; `class 7` without names, `none` below 0."""
        names = self.provenance["model"].get("classes") or ()
        if index < 0:
            return "none"
        return str(names[index]) if index < len(names) else f"class {index}"

    @cached_property
    def counts(self) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """(n-1, n-1) flips right plus flips down: uint16 where every sum fits, else uint32. Exact."""
        whole = self.count_rows(0, self.resolution - 1)
        return whole.astype(np.uint16) if int(whole.max()) <= 0xFFFF else whole

    def count_rows(self, start: int, stop: int) -> NDArray[np.uint32]:
        """uint32 (stop - start, n-1): rows of the counts, without reading the rest. Exact."""
        stop = min(stop, self.resolution - 1)
        rows = self.right[start:stop].astype(np.uint32)
        rows += self.down[start:stop, :-1]
        return rows


def _provenance(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CorruptError(f"{path}: not there", why="a heat map is a folder with a map.json in it")
    found = read(path)
    wrong = _objection(found)
    if wrong:
        raise CorruptError(f"{path}: {wrong}")
    return found


def _objection(found: dict[str, Any]) -> str:
    """Why a parsed map.json is no finished heat map; empty when it is one."""
    if found.get("schema") != SCHEMA:
        return f"schema is not {SCHEMA}"
    if found.get("complete") is not True:
        return "the run has not finished; run the same command again to resume it"
    model, plane = found.get("model"), found.get("plane")
    if not isinstance(model, dict) or not isinstance(plane, dict):
        return "model or plane is missing"
    for section in SECTIONS:
        if not isinstance(found.get(section, {}), dict):
            return f"{section} is no table"
    return _model_objection(model) or _plane_objection(plane)


def _model_objection(model: dict[str, Any]) -> str:
    layers, classes = model.get("layers"), model.get("classes")
    if not isinstance(model.get("name"), str):
        return "model.name is no string"
    if not isinstance(layers, list) or not layers:
        return "model.layers is no list of layers"
    for layer in layers:
        if not isinstance(layer, dict) or not isinstance(layer.get("module"), str):
            return "a layer has no module name"
    if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
        return "model.classes is no list of names"
    return ""


def _plane_objection(plane: dict[str, Any]) -> str:
    n, box, anchors = plane.get("resolution"), plane.get("window"), plane.get("anchors")
    if not isinstance(n, int) or isinstance(n, bool) or not 2 <= n <= MAX_RESOLUTION:
        return f"plane.resolution is not within 2 .. {MAX_RESOLUTION}"
    if not isinstance(box, dict) or not all(_finite(box.get(k)) for k in ("u", "v", "side")):
        return "plane.window lacks u, v or side"
    if not _finite(plane.get("step")) or not plane["step"] > 0:
        return "plane.step is not positive"
    if not math.isclose(plane["step"] * n, box["side"], rel_tol=1e-9):
        return "plane.step times the resolution is not the window's side"
    if not isinstance(anchors, list) or len(anchors) != 3:
        return "plane.anchors are not three"
    for a in anchors:
        pixel = a.get("pixel") if isinstance(a, dict) else None
        if not isinstance(pixel, list) or len(pixel) != 2:
            return "an anchor has no pixel"
        if not all(_finite(x) for x in (a.get("u"), a.get("v"), *pixel)):
            return "an anchor's position is no number"
        if not isinstance(a.get("label"), str) or not isinstance(a.get("class"), int | None):
            return "an anchor's label or class is of the wrong kind"
        if not _plain_name(a.get("thumbnail")):
            return "an anchor's thumbnail is not the plain name of a PNG"
    return ""


def _finite(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _plain_name(x: object) -> bool:
    """None, or the name of a PNG with no way out of its folder."""
    return x is None or (isinstance(x, str) and bool(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,80}\.png", x)))


def _optional(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any] | None:
    return mapped_array(path, dtype, shape) if path.exists() else None
