"""Figures: what they are made of is exact, and every map that opens can be drawn."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polykern.errors import UsageError
from polykern.maps.result import HeatMap
from polykern.report import charts, colours, figures, pictures, wording

Build = Callable[..., Path]
ALL = ["density.png", "boundaries.png", "classes.png", "margin.png"]


@pytest.mark.parametrize("n", [3, 37])
def test_every_figure_is_written(heat_map_folder: Build, tmp_path: Path, n: int) -> None:
    written = figures.write(HeatMap.open(heat_map_folder(n=n)), tmp_path / "out")
    assert [p.name for p in written] == ALL
    for path in written:
        with Image.open(path) as image:
            assert image.width == 1600
            assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_only_what_was_measured_is_drawn(heat_map_folder: Build, tmp_path: Path) -> None:
    folder = heat_map_folder(classes=None, thumbnails=False)
    (folder / "margin.npy").unlink()
    assert [p.name for p in figures.write(HeatMap.open(folder), tmp_path)] == ALL[:2]


def test_anchors_outside_the_window(heat_map_folder: Build, tmp_path: Path) -> None:
    folder = heat_map_folder(window=(2.0, 1.0, 4.0))
    assert len(figures.write(HeatMap.open(folder), tmp_path)) == 4


@pytest.mark.parametrize("text", ["$x^{$", "\\frac{", "\u202eabc\x00\x1b", "漢字 \U0001f600", "_" * 500])
def test_text_of_strangers_is_drawn_as_it_stands(heat_map_folder: Build, tmp_path: Path, text: str) -> None:
    folder = heat_map_folder(n=9, name=text, classes=(text,) * 3, labels=(text,) * 3, fields=(text, text))
    assert len(figures.write(HeatMap.open(folder), tmp_path)) == 4


def test_an_unreadable_thumbnail_is_left_out(heat_map_folder: Build, tmp_path: Path) -> None:
    folder = heat_map_folder()
    (folder / "anchor-0.png").write_bytes(b"GIF89a")
    assert pictures.thumbnail(folder / "anchor-0.png", 64) is None
    assert pictures.thumbnail(folder / "anchor-1.png", 32) is not None
    assert len(figures.write(HeatMap.open(folder), tmp_path)) == 4


def test_density_picture_conserves_the_mean(heat_map_folder: Build) -> None:
    result = HeatMap.open(heat_map_folder(n=1100))
    field = pictures.density(result, 200)
    weights = np.minimum(field.block, 1099 - field.block * np.arange(len(field.values)))
    mean = float(np.einsum("i,ij,j", weights, field.values.astype(float), weights)) / 1099**2
    assert mean == pytest.approx(float(result.smoothed.mean(dtype=float)), rel=1e-5)
    assert field.block == 5
    assert field.low < field.high


def test_boundary_colours_are_the_layer_with_most_flips(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9, lines=0)
    layers = np.zeros((3, 8, 8), np.uint16)
    layers[0, 2, 2], layers[2, 2, 2], layers[1, 5, 6] = 1, 3, 7
    right = np.zeros((9, 8), np.uint16)
    right[:8] = layers.sum(0)
    for name, array in {"layers": layers, "right": right}.items():
        np.save(folder / f"{name}.npy", array)
    picture = pictures.boundaries(HeatMap.open(folder), 100)
    base = colours.depths(3)
    light = 255 - picture.pixels.astype(float)
    assert light.any(2).sum() == 2
    for (i, j), layer in {(2, 2): 2, (5, 6): 1}.items():
        # a colour mixed with white keeps the proportions of its distance to white
        missing = 1 - base[layer]
        np.testing.assert_allclose(light[i, j] / light[i, j].max(), missing / missing.max(), atol=0.01)
    strength = light[[5, 2], [6, 2]].max(1) / (255 * (1 - base[[1, 2]]).max(1))
    assert strength[0] > strength[1] > 0.3  # seven flips, four flips
    assert picture.note.startswith("3.12% of the cells")
    assert [name.split()[-1] for name, _ in picture.legend] == ["9.1%", "64%", "27%"]


def test_a_crowded_map_compares_layers_with_their_mean(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9, lines=0, fields=("wide", "narrow"))
    layers = np.stack([np.full((8, 8), 50), np.ones((8, 8))]).astype(np.uint16)
    layers[1, 3, 3] = 9
    right = np.zeros((9, 8), np.uint16)
    right[:8] = layers.sum(0)
    np.save(folder / "layers.npy", layers)
    np.save(folder / "right.npy", right)
    picture = pictures.boundaries(HeatMap.open(folder), 100)
    assert "its own mean" in picture.note
    wide, narrow = picture.pixels[0, 0].astype(int), picture.pixels[3, 3].astype(int)
    assert wide[2] > wide[0]  # blue, the first layer
    assert narrow[0] > narrow[2]  # red, though the wide layer flips five times as often


def test_class_picture_takes_majorities_and_names_the_largest(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=40)
    classes = np.arange(1600, dtype=np.int16).reshape(40, 40) // 80  # twenty bands of two rows
    classes[:20] = -1
    classes[:20, :4] = 5
    np.save(folder / "classes.npy", classes)
    result = HeatMap.open(folder)
    shares = pictures.class_shares(result)
    assert [c.index for c in shares[:2]] == [-1, 5]
    assert [c.name for c in shares[:2]] == ["none", "class 5"]
    assert shares[0].share == 20 * 36 / 1600
    assert len(shares) == pictures.LEGEND
    everything = pictures.class_shares(result, most=99)
    assert sum(c.share for c in everything) == pytest.approx(1)
    picture = pictures.classes(result, 4)
    assert picture.block == 10
    expected = [round(255 * x) for x in colours.rgb(shares[0].colour)]
    assert picture.pixels[0, 0].tolist() == expected  # 60 of 100 pixels


@pytest.mark.parametrize("name", colours.NAMES)
def test_colour_tables_rise_in_lightness(name: str) -> None:
    table = colours.table(name).astype(float)
    assert table.shape == (256, 3)
    assert len(colours.hexadecimal(name)) == 1536
    light = table @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > -1).all()
    assert light[-1] - light[0] > 150


def test_unknown_colours_are_refused() -> None:
    with pytest.raises(UsageError, match="inferno"):
        colours.table("jet")


@pytest.mark.parametrize(("length", "wanted"), [(1, 1), (9.99, 5), (4.9, 2), (0.02, 0.02), (1999, 1000)])
def test_scale_bars_are_round(length: float, wanted: float) -> None:
    assert figures.nice(length) == pytest.approx(wanted)


def test_wording_says_what_was_audited(heat_map_folder: Build) -> None:
    folder = heat_map_folder()
    result = HeatMap.open(folder)
    assert "0 wrong of 65,536 bits" in wording.audit(result)
    assert dict(wording.rows(result))["engine"] == "tiles, float64, piecewise linear"
    whole = json.loads((folder / "map.json").read_text())
    whole["audit"] = {"bits": None}
    (folder / "map.json").write_text(json.dumps(whole))
    assert wording.audit(HeatMap.open(folder)) == "not audited"


def test_pictures_stay_within_a_stripe_of_memory(heat_map_folder: Build) -> None:
    result = HeatMap.open(heat_map_folder(n=1100))
    tracemalloc.start()
    try:
        pictures.boundaries(result, 100)
        pictures.classes(result, 100)
        pictures.density(result, 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1100 * 1100 * 8  # bytes; half of a float64 map and its copy


def test_names_without_what_all_of_them_have() -> None:
    blocks = [f"encoder.layer.{k}.intermediate.act" for k in (0, 10)]
    assert wording.apart(blocks) == ["layer.0", "layer.10"]
    assert wording.apart(["relu1", "relu2"]) == ["relu1", "relu2"]
    assert wording.apart(["a.b", "a.b.c"]) == ["a.b", "a.b.c"]
    assert wording.apart(["one.name"]) == ["one.name"]
    assert wording.apart([]) == []


def test_an_interval_beside_its_value_is_drawn_up_to_it(tmp_path: Path) -> None:
    """Percentiles of resamples need not hold the value; matplotlib refuses lengths below 0."""
    value, low, high = (np.array([[x], [1.0]]) for x in (1.0, 1.2, 1.5))
    ends: list[np.ndarray] = []

    def draw(figure: Any) -> None:
        (axes,) = charts.panels(figure, ["one"], columns=1, heading="Bars")
        charts.bars(axes, ["a", "b"], [""], value, low, high)
        ends.extend(line.get_ydata() for line in axes.lines)

    figures.plot(tmp_path / "bars.png", 400, 300, draw)
    assert [e.tolist() for e in ends] == [[1.0, 1.0], [1.5, 1.0]]
