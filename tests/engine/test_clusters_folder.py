"""The folder of a finished clustering: what was written is read; what is damaged is named."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from polykern.clustering.result import ABOUT, FILES, Clusters, write
from polykern.errors import CorruptError
from polykern.store.sealed import sealed, unsealed

ROWS, COUNT = 10, 2
SIZES = {
    "mst_source": ROWS - 1, "mst_target": ROWS - 1, "mst_weight": ROWS - 1,
    "condensed_parent": 12, "condensed_child": 12, "condensed_lambda": 12, "condensed_size": 12,
    "selected": COUNT, "size": COUNT, "persistence": COUNT, "medoid": COUNT, "mean_distance": COUNT,
}  # fmt: skip


def parts() -> dict[str, dict[str, NDArray[Any]]]:
    """Every array of a clustering of ten rows: clusters of five and three, two rows of noise."""
    draw = np.random.default_rng(0)
    made = {
        name: {key: draw.integers(0, 5, SIZES.get(key, ROWS)).astype(dtype) for key, dtype in arrays.items()}
        for name, arrays in FILES.items()
    }
    made["points"]["label"] = np.array([0, 1, 0, -1, 1, 0, 0, 1, -1, 0], np.int32)
    made["members"]["order"] = np.array([5, 0, 2, 6, 9, 4, 1, 7, 3, 8])
    made["members"]["starts"] = np.array([0, 5, 8])
    return made


def about(rows: int = ROWS) -> dict[str, Any]:
    tables: dict[str, Any] = {name: {} for name in ("model", "parameters", "tree", "timings", "versions")}
    return {"store": {"path": "../some.codes"}, "counts": {"rows": rows}, **tables}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, about(), **parts())
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    found = Clusters.open(folder, verify=True)
    for name, arrays in parts().items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(getattr(found, name)[key], array)
    assert (len(found), found.count, found.noise) == (ROWS, COUNT, 2)
    assert found.rows(0).tolist() == [5, 0, 2, 6, 9]
    assert found.rows(1).tolist() == [4, 1, 7]
    assert found.rows(-1).tolist() == [3, 8]
    assert found.store_path == str((folder / "../some.codes").resolve())
    assert not list(folder.glob("*.tmp"))


def test_a_store_behind_a_url_stays_there(tmp_path: Path) -> None:
    write(tmp_path, {**about(), "store": {"path": "s3://bucket/some.codes"}}, **parts())
    assert Clusters.open(tmp_path).store_path == "s3://bucket/some.codes"


def test_the_same_arrays_give_the_same_bytes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    again = tmp_path_factory.mktemp("again")
    write(again, about(), **parts())
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def extended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


def removed(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", [*FILES, "clusters"])
@pytest.mark.parametrize("damage", [truncated, extended, flipped, removed, emptied])
def test_damage_is_named(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    path = folder / (ABOUT if name == "clusters" else f"{name}.safetensors")
    damage(path)
    with pytest.raises(CorruptError, match=path.name.replace(".", r"\.")):
        Clusters.open(folder, verify=True)


def test_files_that_changed_places_are_named(folder: Path) -> None:
    points, trees = folder / "points.safetensors", folder / "trees.safetensors"
    one, other = points.read_bytes(), trees.read_bytes()
    points.write_bytes(other)
    trees.write_bytes(one)
    with pytest.raises(CorruptError, match=r"points\.safetensors"):
        Clusters.open(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "polykern-clusters/9"}, "schema is not"),
        ({"store": None}, "store is missing"),
        ({"files": []}, "points.safetensors is not listed"),
        ({"counts": {"rows": 11}}, "counts.rows has 11 entries of 10"),
    ],
)
def test_an_account_that_is_wrong_is_named(folder: Path, change: dict[str, Any], says: str) -> None:
    path = folder / ABOUT
    path.write_bytes(sealed({**unsealed(path.read_bytes()), **change}))
    with pytest.raises(CorruptError) as caught:
        Clusters.open(folder)
    assert says in str(caught.value)


def test_arrays_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    made = parts()
    made["members"]["starts"] = np.array([0, 5])
    with pytest.raises(CorruptError, match=r"members\.starts has 2 entries of 3"):
        write(tmp_path, about(), **made)


def test_the_page_about_formats_names_every_array() -> None:
    whole = (Path(__file__).parents[2] / "docs/FORMAT.md").read_text(encoding="utf-8")
    page = whole.partition("## `polykern-clusters/1`")[2]
    table = [line.split("|")[2:4] for line in page.splitlines() if re.match(r"\| \w* ?\| `", line)]
    said = {name: kind.split()[0] for names, kind in table for name in re.findall(r"`(\w+)`", names)}
    kinds = {"<i4": "I32", "<i8": "I64", "<f4": "F32", "<f8": "F64"}
    assert said == {key: kinds[dtype] for arrays in FILES.values() for key, dtype in arrays.items()}
