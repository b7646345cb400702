"""A finished heat map opens as it was written; a damaged one is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polykern.errors import CorruptError
from polykern.maps import blocks
from polykern.maps.result import HeatMap

Build = Callable[..., Path]


def test_opens_read_only(heat_map_folder: Build) -> None:
    result = HeatMap.open(heat_map_folder(n=37))
    assert result.resolution == 37
    assert result.step == 20.0 / 37
    assert result.window == (-5.0, -5.5, 20.0)
    assert result.fields == ("inception5a.relu", "inception5b.relu", "fc")
    for array in (result.right, result.down, result.layers, result.smoothed, result.classes, result.margin):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_counts_are_flips_right_and_down(heat_map_folder: Build) -> None:
    result = HeatMap.open(heat_map_folder(n=37))
    for i, j in ((0, 0), (3, 35), (35, 35)):
        assert result.counts[i, j] == int(result.right[i, j]) + int(result.down[i, j])
    assert result.counts.dtype == np.uint16
    assert result.counts.any()
    np.testing.assert_array_equal(result.counts, result.layers.sum(0))
    np.testing.assert_array_equal(result.count_rows(7, 99), result.counts[7:])


def test_counts_past_sixteen_bits_do_not_wrap(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=5)
    np.save(folder / "right.npy", np.full((5, 4), 40_000, np.uint16))
    np.save(folder / "down.npy", np.full((4, 5), 40_001, np.uint16))
    counts = HeatMap.open(folder).counts
    assert counts.dtype == np.uint32
    assert (counts == 80_001).all()


def test_anchors_in_order(heat_map_folder: Build) -> None:
    folder = heat_map_folder(labels=("one", "two", "three"))
    result = HeatMap.open(folder)
    assert [a.label for a in result.anchors] == ["one", "two", "three"]
    b = result.anchors[1]
    assert (b.u, b.v, b.class_) == (9.0, 0.0, 1)
    assert b.column == pytest.approx((9.0 + 5.0) / result.step - 0.5)
    assert b.row == pytest.approx(5.5 / result.step - 0.5)
    assert b.thumbnail == folder / "anchor-1.png"


def test_class_names(heat_map_folder: Build) -> None:
    result = HeatMap.open(heat_map_folder())
    assert [result.class_name(k) for k in (-1, 1, 3)] == ["none", "coffee mug", "class 3"]


def test_without_classes(heat_map_folder: Build) -> None:
    result = HeatMap.open(heat_map_folder(classes=None))
    assert result.classes is None
    assert result.class_name(0) == "class 0"


@pytest.mark.parametrize("name", ["map.json", "right.npy", "down.npy", "layers.npy", "smoothed.npy"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_damage_names_the_file(heat_map_folder: Build, name: str, damage: str) -> None:
    path = heat_map_folder(n=9) / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -1 if damage == "cut" else 0])
    with pytest.raises(CorruptError, match=name):
        HeatMap.open(path.parent)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("right", np.zeros((9, 8), np.int32)),
        ("right", np.zeros((8, 9), np.uint16)),
        ("down", np.zeros((8, 9), ">u2")),
        ("layers", np.zeros((2, 8, 8), np.uint16)),
        ("smoothed", np.zeros((8, 8), np.float64)),
        ("smoothed", np.asfortranarray(np.zeros((8, 8), np.float32))),
        ("classes", np.zeros((9, 9), np.int64)),
        ("margin", np.zeros((8, 8), np.float32)),
        ("margin", np.array([[{}]], object)),
    ],
)
def test_another_dtype_or_shape_is_refused(heat_map_folder: Build, name: str, array: Any) -> None:
    folder = heat_map_folder(n=9)
    np.save(folder / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(CorruptError, match=f"{name}.npy"):
        HeatMap.open(folder)


def test_bytes_after_an_array_are_refused(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9)
    with (folder / "down.npy").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptError, match=r"down.npy: has bytes after"):
        HeatMap.open(folder)


def test_an_archive_is_no_array(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9)
    with (folder / "down.npy").open("wb") as file:
        np.savez(file, np.zeros((8, 9), np.uint16))
    with pytest.raises(CorruptError, match=r"down.npy"):
        HeatMap.open(folder)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("schema",), "polykern-heatmap/2", "schema"),
        (("complete",), False, "resume"),
        (("model",), None, "model or plane"),
        (("model", "name"), 3, "model.name"),
        (("model", "layers"), [], "model.layers"),
        (("model", "classes"), ["a", 1], "model.classes"),
        (("plane", "resolution"), 1, "resolution"),
        (("plane", "resolution"), True, "resolution"),
        (("plane", "step"), 0.1, "step"),
        (("plane", "window"), {"u": 0}, "window"),
        (("plane", "anchors"), [], "anchors"),
        (("plane", "anchors", 0, "pixel"), [0], "pixel"),
        (("plane", "anchors", 0, "u"), None, "position"),
        (("plane", "anchors", 0, "u"), float("nan"), "NaN is no number"),
        (("plane", "anchors", 0, "label"), None, "label"),
        (("plane", "anchors", 0, "thumbnail"), "../anchor-0.png", "thumbnail"),
        (("plane", "anchors", 0, "thumbnail"), "/etc/passwd", "thumbnail"),
        (("audit",), [], "audit"),
    ],
)
def test_a_wrong_provenance_is_refused(heat_map_folder: Build, where: Any, value: Any, words: str) -> None:
    path = heat_map_folder(n=9) / "map.json"
    whole = json.loads(path.read_text())
    part = whole
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    path.write_text(json.dumps(whole))
    with pytest.raises(CorruptError, match=words) as caught:
        HeatMap.open(path.parent)
    assert "map.json" in str(caught.value)
    assert caught.value.exit_code == 3


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 45), st.integers(0, 2**32 - 1))
def test_blocks_conserve_counts(height: int, width: int, block: int, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 1 << 16, (height, width)).astype(np.uint16)
    sums = blocks.sums(lambda a, b: array[a:b], array.shape, block)
    peaks = blocks.maxima(lambda a, b: array[a:b], array.shape, block)
    least = blocks.minima(lambda a, b: array[a:b], array.shape, block, np.uint16)
    assert sums.shape == (-(-height // block), -(-width // block))
    assert int(sums.sum(dtype=np.uint64)) == int(array.sum(dtype=np.uint64))
    assert blocks.areas(array.shape, block).sum() == height * width
    for (i, j), s in np.ndenumerate(sums):
        part = array[i * block : (i + 1) * block, j * block : (j + 1) * block]
        assert (s, peaks[i, j], least[i, j]) == (part.sum(dtype=np.uint32), part.max(), part.min())


def test_blocks_read_in_stripes() -> None:
    array = np.arange(1300 * 5, dtype=np.uint32).reshape(1300, 5)
    read = []

    def rows(start: int, stop: int) -> Any:
        read.append(stop - start)
        return array[start:stop]

    assert int(blocks.sums(rows, array.shape, 3).sum(dtype=np.uint64)) == int(array.sum(dtype=np.uint64))
    assert max(read) <= blocks.STRIPE
    assert sum(read) == 1300
