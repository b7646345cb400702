"""A browser, a file of networks, and result folders whose every number is known: lines laid on a grid."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.cli_nets import NETS

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running Chromium; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def nets(tmp_path: Path) -> str:
    """The name of a file of the user's own with small networks, good and bad."""
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return str(path)


def build(
    folder: Path,
    n: int = 37,
    lines: int = 30,
    fields: Sequence[str] = ("inception5a.relu", "inception5b.relu", "fc"),
    classes: Sequence[str] | None = ("banana", "coffee mug", "projector"),
    name: str = "made-up net",
    labels: Sequence[str] = ("A", "B", "C"),
    thumbnails: bool = True,
    window: tuple[float, float, float] = (-5.0, -5.5, 20.0),
) -> Path:
    """A finished `polykern-heatmap/1` folder of an arrangement of random lines; pixels step apart."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(n)
    u0, v0, side = window
    step = side / n
    axis = (np.arange(n) + 0.5) * step
    right = np.zeros((len(fields), n, n - 1), np.uint16)
    down = np.zeros((len(fields), n - 1, n), np.uint16)
    for k in range(lines):
        angle, shift = rng.uniform(0, np.pi), rng.normal(0, side / 5)
        bit = np.add.outer(
            (axis + v0 - 2) * np.sin(angle), (axis + u0 - 4) * np.cos(angle)
        ) > shift  # fmt: skip
        right[k % len(fields)] += bit[:, 1:] != bit[:, :-1]
        down[k % len(fields)] += bit[1:] != bit[:-1]
    anchors = np.array([[0.0, 0.0], [9.0, 0.0], [4.0, 7.0]])
    away = np.hypot(*(np.stack(np.meshgrid(axis + u0, axis + v0))[:, None] - anchors.T[:, :, None, None]))
    _save(folder, right, down, away, step, classes is not None)
    pixels = (anchors[:, ::-1] - [v0, u0]) / step - 0.5
    provenance = _provenance(n, step, window, fields, right, down, name, classes)
    provenance["plane"]["anchors"] = [
        {
            "label": labels[k], "class": k if classes else None, "u": float(anchors[k, 0]),
            "v": float(anchors[k, 1]), "pixel": pixels[k].tolist(),
            "thumbnail": f"anchor-{k}.png" if thumbnails else None,
        }
        for k in range(3)
    ]  # fmt: skip
    if thumbnails:
        _thumbnails(folder)
    (folder / "map.json").write_text(json.dumps(provenance))
    return folder


def _save(folder: Path, right: Any, down: Any, away: Any, step: float, classes: bool) -> None:
    from scipy.ndimage import gaussian_filter

    total_right, total_down = right.sum(0).astype(np.uint16), down.sum(0).astype(np.uint16)
    split = (right[:, :-1, :] + down[:, :, :-1]).astype(np.uint16)
    density = split.sum(0).astype(np.float32) / np.float32(2 * step)
    arrays = {
        "right": total_right, "down": total_down, "layers": split,
        "smoothed": gaussian_filter(density, 1.5, mode="reflect"),
        "margin": np.abs(np.sin(away[0] * 3)).astype(np.float32),
    }  # fmt: skip
    if classes:
        arrays["classes"] = away.argmin(0).astype(np.int16)
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array, allow_pickle=False)


def _thumbnails(folder: Path) -> None:
    from PIL import Image

    ramp = np.add.outer(np.arange(48), np.arange(64))
    for k in range(3):
        pixels = np.stack([np.roll(ramp * 2, 17 * (c + k), axis=1) for c in range(3)], 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"anchor-{k}.png")


def _provenance(
    n: int, step: float, window: tuple[float, float, float], fields: Sequence[str], right: Any,
    down: Any, name: str, classes: Sequence[str] | None,
) -> dict[str, Any]:  # fmt: skip
    flips = right[:, :-1, :].sum((1, 2)) + down[:, :, :-1].sum((1, 2))
    density = float(flips.sum()) / (n - 1) ** 2 / (2 * step)
    return {
        "schema": "polykern-heatmap/1",
        "complete": True,
        "model": {
            "name": name, "weights": "0f" * 16, "start": "inception5a", "stop": None, "bits": 4096,
            "layers": [
                {"module": f, "call": 0, "kind": "relu", "shape": [64], "thresholds": [0.0],
                 "bits": 64, "offset": 64 * k, "flips": int(flips[k])}
                for k, f in enumerate(fields)
            ],
            "classes": list(classes) if classes else None, "note": "",
        },
        "plane": {
            "unit": "L2 in the input space of inception5a", "anchors": [],
            "window": dict(zip(("u", "v", "side"), window, strict=True)),
            "resolution": n, "step": step,
        },
        "arithmetic": {"engine": "tiles", "reason": "piecewise linear", "dtype": "float64",
                       "margin": "exact"},
        "smoothing": {"sigma": 1.5, "mode": "reflect"},
        "audit": {"points": 16, "bits": 65536, "wrong_bits": 0, "wrong_bits_per_point": 0.0,
                  "density_relative_error": 0.0, "uncertain_bits": 0},
        "polytopes": {"distinct": 300, "estimate": 310.0, "error": 4.0, "reliable": True,
                      "single_pixel_share": 0.1},
        "density": {"mean": density, "max": 9.0, "inside_triangle": 3.0, "outside_triangle": 2.0},
        "timings": {"codes": 0.5}, "seed": 0, "versions": {"polykern": "0.1.0"}, "config": {},
    }  # fmt: skip


@pytest.fixture
def heat_map_folder(tmp_path: Path) -> Build:
    """heat_map_folder(n=..., ...) -> the folder of a made-up finished heat map."""
    made = 0

    def at(**choices: Any) -> Path:
        nonlocal made
        made += 1
        return build(tmp_path / f"map-{made}", **choices)

    return at
