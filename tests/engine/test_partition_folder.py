"""Partitions in folders: written as they are found, whole or not there at all, mapped from the files."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polykern.errors import CorruptError, ResourceError, UsageError
from polykern.store.sealed import sealed
from polykern.subdivision import Partition, compute, partition, pieces, tally
from polykern.subdivision.columns import SHAPES, Files
from polykern.subdivision.front import Faces, Front
from polykern.subdivision.pieces import Pieces
from polykern.tail import Tail
from tests.engine.test_partition import UNIT, WHOLE, branched, cut, he, require_codes, require_sound, subject


def require_equal(a: Partition, b: Partition) -> None:
    """The same faces and sides in the same order."""
    for name in SHAPES:
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype, name
        assert np.array_equal(x, y), name


def told(found: Partition) -> dict[str, Any]:
    """What does not depend on the clock."""
    return {k: v for k, v in found.summary().items() if k != "seconds"}


def test_a_folder_holds_what_memory_holds(tmp_path: Path) -> None:
    net = subject(he([2, 16, 16, 3], 1), torch.zeros(1, 2))
    here = partition(net, UNIT, window=WHOLE, classes=True)
    there = partition(net, UNIT, window=WHOLE, classes=True, out=tmp_path / "a")
    here.save(tmp_path / "b")
    require_equal(here, there)
    assert isinstance(there.corner, np.memmap)
    for name in (*SHAPES, "anchors"):
        assert (tmp_path / "a" / f"{name}.npy").read_bytes() == (tmp_path / "b" / f"{name}.npy").read_bytes()
    opened = Partition.open(tmp_path / "a", Tail(net.model, net.sample))
    require_equal(here, opened)
    assert told(opened) == told(here) == told(there)
    written = json.loads((tmp_path / "a/partition.json").read_text())
    assert told(opened) == {k: v for k, v in written.items() if k not in ("seconds", "files", "check")}
    assert torch.equal(opened.plane.e2, here.plane.e2)
    require_codes(opened, np.arange(0, len(opened), 9))
    assert all(torch.equal(x, y) for x, y in zip(opened.affine(3), here.affine(3), strict=True))
    with pytest.raises(UsageError, match="opened without its network"):
        Partition.open(tmp_path / "a").codes_at()
    opened.save(tmp_path / "a", overwrite=True)  # onto its own files
    require_equal(here, Partition.open(tmp_path / "a"))


def test_one_face_and_no_sides(tmp_path: Path) -> None:
    model = he([2, 3, 1])
    torch.nn.init.constant_(model.get_parameter("0.bias"), 1e6)
    found = partition(subject(model, torch.zeros(1, 2)), UNIT, window=WHOLE, out=tmp_path / "one")
    assert (len(found), len(found.what)) == (1, 0)
    assert Partition.open(tmp_path / "one").polygon(0).tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]


def watched(patch: pytest.MonkeyPatch) -> list[int]:
    """How many faces a front holds, each time that pieces are added."""
    held: list[int] = []

    class Watched(Front):
        def add(self, pieces: Pieces) -> Faces:
            done = super().add(pieces)
            held.append(len(self._open.area))
            return done

    patch.setattr(compute, "Front", Watched)
    return held


def adjacent(found: Partition) -> int:
    """Pairs of faces with a side that is longer than a rounding error."""
    long = found.lengths > 1e-9 * found.about["window"][2]
    return len(np.unique(np.sort(found.faces[long], 1), axis=0))


@pytest.mark.parametrize(("branches", "limit"), [(False, 6), (True, 12)])
def test_small_tiles_a_few_at_a_time_give_the_same_faces(
    branches: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any tiles, any number of them between two stitches; and what is held is a border."""
    net, anchors = branched() if branches else (subject(he([2, 16, 16, 3], 1), torch.zeros(1, 2)), UNIT)
    how: dict[str, Any] = {"zoom": 12 if branches else 2, "classes": True}
    want = partition(net, anchors, **how)
    held = watched(monkeypatch)
    for name, value in (("LIMIT", limit), ("BATCH", 2), ("BATCHES", 2)):
        monkeypatch.setattr(pieces, name, value)
    got = partition(net, anchors, **how)
    require_sound(got)
    assert got.about["pieces"] > 1.2 * len(got)
    assert len(held) > 10
    assert max(held) < 8 * len(got) ** 0.5
    assert held[-1] == 0
    for name in ("digest", "winner"):  # the same faces in another order
        assert np.array_equal(np.sort(getattr(want, name), 0), np.sort(getattr(got, name), 0))
    assert np.abs(np.sort(want.area) - np.sort(got.area)).max() < 1e-9 * want.area.sum()
    assert adjacent(want) == adjacent(got)
    for kind, length in want.layers.items():
        assert got.layers[kind] == pytest.approx(length, rel=1e-9, abs=1e-9)


def test_the_number_of_threads_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BATCH", 3)
    model, before = he([2, 20, 20, 1]), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = cut(model)
        torch.set_num_threads(3)
        require_equal(one, cut(model))
    finally:
        torch.set_num_threads(before)


# --- whole or not at all ---------------------------------------------------------------------------


def test_what_was_interrupted_is_no_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LIMIT", 8), ("BATCH", 2), ("BATCHES", 2)):
        monkeypatch.setattr(pieces, name, value)
    net, out = subject(he([2, 12, 12, 1]), torch.zeros(1, 2)), tmp_path / "cut"

    def interrupt(stage: str, done: int, total: int) -> None:
        if done > 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        partition(net, UNIT, window=WHOLE, out=out, progress=interrupt)
    assert (out / "corner.npy").stat().st_size > 1000
    with pytest.raises(UsageError, match="holds no finished partition"):
        Partition.open(out)
    found = partition(net, UNIT, window=WHOLE, out=out)  # what was not finished is begun again
    require_sound(found)
    require_equal(found, cut(net.model))
    for name in ("partition.json", "notes.txt"):
        (out / "partition.json").rename(out / name)
        with pytest.raises(UsageError, match="is not empty"):
            partition(net, UNIT, window=WHOLE, out=out)
        (out / name).rename(out / "partition.json")
    require_equal(found, partition(net, UNIT, window=WHOLE, out=out, overwrite=True))


def test_a_budget_leaves_a_folder_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LIMIT", 8), ("BATCH", 2), ("BATCHES", 2)):
        monkeypatch.setattr(pieces, name, value)
    net = subject(he([2, 12, 12, 1]), torch.zeros(1, 2))
    partition(net, UNIT, window=WHOLE, out=tmp_path / "some", regions=100)
    found = Partition.open(tmp_path / "some")
    assert not found.about["complete"]
    assert 0 < found.about["covered"] < 0.9
    assert abs(found.area.sum() / 4 - found.about["covered"]) < 1e-9
    assert found.faces.max() < len(found)
    assert len(partition(net, UNIT, window=WHOLE, seconds=1e-9)) < len(cut(net.model))


class Full:
    """A file of a disk without room."""

    def write(self, rows: Any) -> int:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        pass


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    found = cut(he([2, 6, 1]))
    with Files(tmp_path / "full") as files:
        files._open["ends"].close()
        files._open["ends"] = Full()  # type: ignore[assignment]
        with pytest.raises(ResourceError, match=r"ends\.npy cannot be written"):
            files.add(Faces(**{name: getattr(found, name) for name in SHAPES}))
    with pytest.raises(UsageError, match="holds no finished partition"):
        Partition.open(tmp_path / "full")


def test_damage_is_named(tmp_path: Path) -> None:
    cut(he([2, 6, 1])).save(tmp_path / "a")
    whole = (tmp_path / "a/area.npy").read_bytes()
    for damaged in (whole[:-8], whole[:100], b"", whole.replace(b"<f8", b"<f4")):
        (tmp_path / "a/area.npy").write_bytes(damaged)
        with pytest.raises(CorruptError, match=r"area\.npy"):
            Partition.open(tmp_path / "a")
    (tmp_path / "a/area.npy").write_bytes(whole)
    about = json.loads((tmp_path / "a/partition.json").read_text())
    (tmp_path / "a/partition.json").write_text(json.dumps(about | {"faces": 3}))
    with pytest.raises(CorruptError, match=r"partition\.json: cannot be read\n.* it was changed"):
        Partition.open(tmp_path / "a")
    del about["check"]
    for change, said in (({"schema": "other/1"}, "is 'other/1'"), ({"faces": 3}, "says 3")):
        (tmp_path / "a/partition.json").write_bytes(sealed(about | change))
        with pytest.raises(CorruptError, match=rf"partition\.json {said}"):
            Partition.open(tmp_path / "a")


def test_a_file_is_no_place_for_a_partition(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("thesis")
    found = cut(he([2, 6, 1]))
    with pytest.raises(UsageError, match="mine is not a folder"):
        found.save(tmp_path / "mine", overwrite=True)
    with pytest.raises(UsageError, match="something other than a page"):
        found.view(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "thesis"


# --- the document ---------------------------------------------------------------------------------


def test_the_document_describes_the_folder(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/FORMAT.md").read_text().partition("## `polykern-partition/1`")[2]
    rows = dict(re.findall(r"\| `(\w+)` \| (\w+ \([^)]*\)) \|", text))
    cut(he([2, 6, 3], 1), classes=True).save(tmp_path / "a")
    arrays = {path.stem: np.load(path) for path in (tmp_path / "a").glob("*.npy")}
    assert set(rows) == set(arrays) == {*SHAPES, "anchors"}
    for name, array in arrays.items():
        assert rows[name].startswith(f"{array.dtype} ("), name
        assert name == "anchors" or rows[name].count(",") == array.ndim - 1, name
    for key in json.loads((tmp_path / "a/partition.json").read_text()):
        assert f"`{key}`" in text, key


# --- numbers of long columns ------------------------------------------------------------------------


def test_counts_of_long_columns_are_those_of_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cut(he([2, 16, 16, 3], 1), classes=True)
    want = told(found), found.decision, [found.face_at(*p) for p in ((0.3, 0.4), (1.9, 0.1), (5.0, 5.0))]
    monkeypatch.setattr(tally, "BLOCK", 7)
    monkeypatch.setattr(tally, "MOST", 11)
    found = cut(he([2, 16, 16, 3], 1), classes=True)
    got = told(found), found.decision, [found.face_at(*p) for p in ((0.3, 0.4), (1.9, 0.1), (5.0, 5.0))]
    assert want[0]["adjacent_pairs"] == got[0]["adjacent_pairs"] == len(found.neighbours)
    assert want[0]["codes"] == got[0]["codes"] == len(np.unique(found.digest, axis=0))
    assert want[0]["boundary_length"] == pytest.approx(got[0]["boundary_length"], rel=1e-12)
    assert np.array_equal(want[1], got[1])
    assert want[2] == got[2]
    assert got[2][2] == -1
