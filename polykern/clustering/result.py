"""A finished clustering on disk, opened read-only and checked (`polykern-clusters/1`).

Row i of every array over points is row i of the store that was clustered. Label -1 is noise; clusters are
numbered from 0 by decreasing size. `clusters.json` is written last and holds the size and the XXH3-128 of every
other file, so a folder without it is not finished and a folder with it is whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import CorruptError
from polykern.store.disk import put
from polykern.store.sealed import digest, sealed, unsealed

SCHEMA = "polykern-clusters/1"
ABOUT = "clusters.json"
MAX_JSON = 64 << 20  # bytes
FILES: Mapping[str, Mapping[str, str]] = {
    "points": {"label": "<i4", "probability": "<f4", "outlier_score": "<f4", "core": "<f8"},
    "trees": {
        "mst_source": "<i8", "mst_target": "<i8", "mst_weight": "<f8",
        "condensed_parent": "<i8", "condensed_child": "<i8", "condensed_lambda": "<f8", "condensed_size": "<i8",
        "selected": "<i8",
    },
    "members": {
        "size": "<i8", "persistence": "<f8", "medoid": "<i8", "mean_distance": "<f4",
        "distance": "<f4", "order": "<i8", "starts": "<i8",
    },
}  # fmt: skip

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of the rows of a store: n rows, c clusters.

    folder   where they lie
    about    the whole of clusters.json
    points   label int32 (n), probability float32 (n), outlier_score float32 (n), core float64 (n)
    trees    mst_source, mst_target int64 (n-1), mst_weight float64 (n-1): the minimum spanning tree of mutual
             reachability; condensed_parent, _child, _lambda, _size: the condensed tree as hdbscan writes it, rows
             below n, n its root; selected int64 (c): the node that is cluster 0 .. c-1
    members  size int64 (c), persistence float64 (c), medoid int64 (c) a row, mean_distance float32 (c) to it,
             distance float32 (n) of every row to its medoid, -1 for noise; order int64 (n): rows by (label,
             distance, row), noise last; starts int64 (c+1): cluster k is order[starts[k] : starts[k+1]]
    """

    folder: Path
    about: dict[str, Any]
    points: Arrays
    trees: Arrays
    members: Arrays

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = False) -> "Clusters":
        """The clustering in `folder`.

        verify  also hash every file

        Errors: CorruptError naming the file that is missing, damaged or of another format.
        """
        root = Path(folder)
        about = _about(root / ABOUT)
        parts = {name: _part(root / f"{name}.safetensors", about, name, verify) for name in FILES}
        found = cls(root, about, **parts)
        wrong = found._objection()
        if wrong:
            raise CorruptError(f"{root}: {wrong}", fix="make it again, with --overwrite")
        return found

    def __len__(self) -> int:
        return len(self.points["label"])

    def __repr__(self) -> str:
        return f"Clusters({len(self):,} rows, {self.count:,} clusters, {self.noise:,} rows of noise)"

    @property
    def count(self) -> int:
        """c: the number of clusters."""
        return len(self.members["size"])

    @cached_property
    def noise(self) -> int:
        """Rows that belong to no cluster."""
        return len(self) - int(self.members["starts"][-1])

    @property
    def labels(self) -> NDArray[np.int32]:
        """int32 (n): the cluster of every row, -1 for noise."""
        return self.points["label"]

    def rows(self, cluster: int) -> NDArray[np.int64]:
        """int64 (size): the rows of one cluster, nearest to its medoid first; -1: the rows of noise, ascending."""
        starts, order = self.members["starts"], self.members["order"]
        if cluster < 0:
            return order[starts[-1] :]
        return order[starts[cluster] : starts[cluster + 1]]

    @property
    def store_path(self) -> str:
        """Folder or URL of the store when it was clustered."""
        path = str(self.about["store"]["path"])
        return path if "://" in path else str((self.folder / path).resolve())

    def _objection(self) -> str:
        """Why the arrays do not fit each other; empty when they do."""
        n, c = len(self.points["label"]), len(self.members["size"])
        lengths = {
            **{f"points.{k}": (len(v), n) for k, v in self.points.items()},
            **{f"members.{k}": (len(self.members[k]), c) for k in ("persistence", "medoid", "mean_distance")},
            "members.starts": (len(self.members["starts"]), c + 1),
            "members.order": (len(self.members["order"]), n),
            "members.distance": (len(self.members["distance"]), n),
            "trees.selected": (len(self.trees["selected"]), c),
            "counts.rows": (self.about.get("counts", {}).get("rows", -1), n),
        }
        return "; ".join(
            f"{name} has {got} entries of {want}" for name, (got, want) in lengths.items() if got != want
        )


def write(folder: Path, about: Mapping[str, Any], points: Arrays, trees: Arrays, members: Arrays) -> Clusters:
    """Write a clustering into a folder that exists, clusters.json last, and open it.

    about                   everything of clusters.json but `schema`, `complete` and `files`
    points, trees, members  as in `Clusters`

    A reader sees nothing or all of it.
    """
    from safetensors.numpy import save

    listed = []
    for name, arrays in (("points", points), ("trees", trees), ("members", members)):
        typed = {key: np.ascontiguousarray(arrays[key], dtype) for key, dtype in FILES[name].items()}
        size, mark = put(folder / f"{name}.safetensors", [save(typed, {"schema": SCHEMA})])
        listed.append({"name": f"{name}.safetensors", "bytes": size, "xxh3_128": mark})
    put(folder / ABOUT, [sealed({"schema": SCHEMA, "complete": True, **about, "files": listed})])
    return Clusters.open(folder)


def _about(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON:
            raise CorruptError(f"{path}: larger than {MAX_JSON >> 20} MiB")
        found = unsealed(path.read_bytes())
    except FileNotFoundError:
        raise CorruptError(
            f"{path}: not there",
            why="a finished clustering is a folder with a clusters.json in it",
            fix="run the same `polykern cluster` command again: it goes on where it stopped",
        ) from None
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path}: cannot be read", why=str(error)) from None
    if found.get("schema") != SCHEMA:
        raise CorruptError(f"{path}: schema is not {SCHEMA}")
    tables = ("store", "model", "parameters", "counts", "tree", "timings", "versions")
    wrong = next((name for name in tables if not isinstance(found.get(name), dict)), None)
    if wrong is not None:
        raise CorruptError(f"{path}: {wrong} is missing")
    return found


def _part(path: Path, about: Mapping[str, Any], name: str, verify: bool) -> Arrays:
    """The arrays of one file, as memory maps where the library gives them."""
    from safetensors import SafetensorError, safe_open

    entries = about.get("files")
    known = [f for f in entries if isinstance(f, dict)] if isinstance(entries, list) else []
    entry = next((f for f in known if f.get("name") == path.name), None)
    if entry is None:
        raise CorruptError(f"{path.parent / ABOUT}: {path.name} is not listed")
    try:
        size = path.stat().st_size
        if size != entry.get("bytes"):
            raise CorruptError(f"{path}: {size} bytes, {entry.get('bytes')} were written")
        if verify and digest(path.read_bytes()) != entry.get("xxh3_128"):
            raise CorruptError(f"{path}: its bytes have changed since it was written")
        with safe_open(path, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in FILES[name]}
    except FileNotFoundError:
        raise CorruptError(f"{path}: not there") from None
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"{path}: cannot be read", why=str(error)) from None
    wrong = next((k for k, a in arrays.items() if a.dtype != np.dtype(FILES[name][k]) or a.ndim != 1), None)
    if wrong is not None:
        raise CorruptError(f"{path}: {wrong} is {arrays[wrong].dtype} {list(arrays[wrong].shape)}")
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
