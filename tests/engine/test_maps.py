"""The map driver: bands, resume, census, density, audit."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from polykern.block import Block
from polykern.dense import DenseEngine
from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.heat import activations, heatmap
from polykern.maps import audit, blocks, census, density
from polykern.maps.compute import Recipe, compute
from polykern.maps.result import HeatMap
from polykern.models.yours import from_function
from polykern.plane import Grid, Plane, Window
from polykern.tail import Tail
from polykern_kernels import digest
from tests.engine.dense_truth import truth

MAPS = ("right", "down", "layers", "margin", "smoothed", "classes")


def recipe(resolution: int = 150, engine: str = "tiles", sigma: float = 2.0, seed: int = 0) -> Recipe:
    torch.manual_seed(11)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 4)
    ).eval()
    tail = Tail(net, torch.zeros(1, 1, 8, 8))
    anchors = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    plane = Plane.through(anchors)
    grid = Grid(plane, plane.window(), resolution)
    return Recipe(tail, grid, sigma, engine=engine, seed=seed, audited=0.05, classes=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> HeatMap:
    return compute(recipe(), tmp_path_factory.mktemp("maps") / "tiles")


def test_the_whole_map_is_the_dense_one(finished: HeatMap) -> None:
    given = recipe()
    true = truth(given.tail, given.grid, Block(0, 0, 149, 149))
    codes = true.codes
    assert np.array_equal(finished.right, (codes[:, :-1] != codes[:, 1:]).sum(-1).numpy())
    assert np.array_equal(finished.down, (codes[:-1] != codes[1:]).sum(-1).numpy())
    assert finished.classes is not None
    assert np.array_equal(finished.classes, true.output.argmax(-1).numpy())
    assert np.array_equal(finished.layers.sum(0), (true.right + true.down).numpy())
    assert finished.margin is not None
    assert (finished.margin <= true.z.abs().amin(-1).numpy() * (1 + 1e-6)).all()
    distinct = len(torch.unique(codes.flatten(0, 1), dim=0))
    assert finished.provenance["polytopes"]["distinct"] == distinct
    report = finished.provenance["audit"]
    assert (report["wrong_bits"], report["density_relative_error"]) == (0, 0.0)
    assert report["points"] >= 0.05 * 150**2 - 64


@pytest.mark.parametrize("engine", ["float64", "float32", "anchored", "auto"])
def test_every_engine_draws_the_same_map(engine: str, finished: HeatMap, tmp_path: Path) -> None:
    other = compute(recipe(engine=engine), tmp_path / engine)
    differing = int((other.right != finished.right).sum() + (other.down != finished.down).sum())
    assert differing <= (0 if engine in ("float64", "auto") else 20)
    assert other.provenance["arithmetic"]["reason"]


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path, finished: HeatMap) -> None:
    class Stop(Exception):
        pass

    def interrupt(stage: str, done: int, total: int) -> None:
        if done > 0:
            raise Stop

    with pytest.raises(Stop):
        compute(recipe(), tmp_path / "map", progress=interrupt)
    assert len(list((tmp_path / "map" / "parts").glob("*.npz"))) == 1
    done: list[int] = []
    compute(recipe(), tmp_path / "map", progress=lambda stage, at, total: done.append(at))
    assert done[0] != 0, "the finished band was made again"
    for name in MAPS:
        ours, theirs = (folder / f"{name}.npy" for folder in (tmp_path / "map", finished.folder))
        assert ours.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "map" / "parts").exists()


@pytest.mark.parametrize("name", ["right.npy", "parts/audit.npy", "parts/000000.npz"])
def test_damage_in_an_unfinished_map_is_named(tmp_path: Path, name: str) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(recipe(), tmp_path, progress=interrupt)
    (tmp_path / name).write_bytes(b"\x93NUMPY cut off")
    with pytest.raises(CorruptError, match=f"{name} cannot be read"):
        compute(recipe(), tmp_path)


def test_nothing_of_the_map_that_is_replaced_stays(tmp_path: Path) -> None:
    small = replace(recipe(9), classes=True, about={"pictures": [np.zeros((2, 2, 3), np.uint8)] * 3})
    compute(small, tmp_path)
    assert {"classes.npy", "anchor-0.png", "anchor-1.png", "anchor-2.png"} <= {p.name for p in tmp_path.iterdir()}
    compute(replace(small, classes=False, about={}), tmp_path, overwrite=True)
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".png" or p.stem == "classes"]


def test_scanlines_are_taken_where_no_classes_are_wanted(tmp_path: Path) -> None:
    given = recipe(40, "scanline")
    first = replace(given, tail=Tail(given.tail.model, given.tail.sample, select="1"), classes=False)
    found, true = (compute(replace(first, engine=e), tmp_path / e) for e in ("scanline", "float64"))
    assert found.provenance["arithmetic"]["engine"] == "scanline"
    assert np.array_equal(found.right, true.right)
    with pytest.raises(UsageError, match=r"no classes(.|\n)*--no-classes"):
        compute(replace(first, classes=True), tmp_path / "classes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": -1.0}, "sigma is a number of pixels from 0, got -1"),
        ({"sigma": math.nan}, "sigma is a number"),
        ({"sigma": math.inf}, "sigma is a number"),
        ({"grid": replace(recipe().grid, resolution=70_000)}, r"within 2 \.\. 65536, got 70000"),
    ],
)
def test_maps_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(recipe(), **change)  # type: ignore[arg-type]


def test_more_classes_than_a_map_tells_apart_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 32769, bias=False))\n"
    )
    subject = from_function(f"{tmp_path / 'net.py'}:net")
    with pytest.raises(UsageError, match="32,769 classes are more than a map tells apart"):
        heatmap(subject, torch.randn(3, 2), out=tmp_path / "out", classes=True)
    assert heatmap(subject, torch.randn(3, 2), out=tmp_path / "out", resolution=4).classes is None


def test_a_start_that_is_called_by_keyword(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.up, self.down = torch.nn.Linear(2, 3), torch.nn.Linear(3, 4)\n"
        "    def forward(self, x):\n"
        "        return self.down(input=self.up(x)).relu()\n"
        "def net():\n    return Net(), torch.zeros(1, 2)\n"
    )
    subject = from_function(f"{tmp_path / 'net.py'}:net")
    x = torch.randn(70, 2)
    up = subject.model.get_submodule("up")
    assert torch.equal(activations(subject, "down", x), torch.cat([up(part) for part in x.split(64)]))
    assert heatmap(subject, out=tmp_path / "out", start="down", resolution=4).resolution == 4


def test_a_finished_map_is_opened_not_made_again(finished: HeatMap) -> None:
    def never(stage: str, done: int, total: int) -> None:
        raise AssertionError("made again")

    again = compute(recipe(), finished.folder, progress=never)
    assert again.provenance == finished.provenance


def test_another_run_is_refused_and_nothing_is_lost(finished: HeatMap) -> None:
    before = (finished.folder / "map.json").read_bytes()
    with pytest.raises(MismatchError, match="resolution: 150 there, 151 here"):
        compute(recipe(151), finished.folder)
    assert (finished.folder / "map.json").read_bytes() == before


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MismatchError, match="holds no heat map"):
        compute(recipe(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        compute(recipe(), tmp_path / "file")


def test_smoothing_in_stripes_is_smoothing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 9, (90, 89)).astype(np.uint16)
    down = rng.integers(0, 9, (89, 90)).astype(np.uint16)
    monkeypatch.setattr(blocks, "STRIPE", 7)
    out = np.empty((89, 89), np.float32)
    density.smoothed(right, down, 0.5, 3.0, out)
    raw = (right[:89].astype(np.float32) + down[:, :89]) / np.float32(1.0)
    assert np.array_equal(out, gaussian_filter(raw, 3.0, mode="reflect", truncate=4.0))


def test_the_triangle_is_where_the_anchors_are() -> None:
    plane = Plane.through(torch.tensor([[0.0, 0.0], [7.5, 0.0], [0.0, 7.5]]))
    grid = Grid(plane, Window(0.0, 0.0, 8.0), 8)
    inside = density.triangle(grid, 0, 7)
    i, j = np.mgrid[0:7, 0:7]
    assert np.array_equal(inside, i + j + 1 < 7.5)


def test_the_census_of_a_chessboard() -> None:
    """Squares of side s on an n x n grid: every sub-grid sees all of them, so nothing is extrapolated."""
    n, s = 64, 8
    i, j = np.mgrid[0:n, 0:n] // s
    digest = np.stack([i * 1000 + j, i + j], -1).astype(np.int64)
    found = census.polytopes([census.sightings(digest[a : a + 16], a) for a in range(0, n, 16)])
    assert found.distinct == (n // s) ** 2
    assert found.estimate == pytest.approx(found.distinct)
    assert found.reliable
    assert found.single_pixel_share == 0


def test_the_census_flags_a_grid_that_is_too_coarse() -> None:
    digest = np.arange(2 * 32 * 32).reshape(32, 32, 2)
    found = census.polytopes([census.sightings(digest, 0)])
    assert found.distinct == 32 * 32
    assert not found.reliable
    assert found.single_pixel_share == 1
    quarter, sixteenth = 256, 64
    assert found.estimate == pytest.approx((8 * 1024 - 6 * quarter + sixteenth) / 3)


def test_the_audit_counts_the_bits_that_are_wrong() -> None:
    """Fingerprints off by one key, by two, and maps off by some flips are found."""
    given = recipe(64)
    tail = given.tail.to(torch.float64)
    spots = audit.places(64, 0.05, seed=1)
    true = [truth(given.tail, given.grid, b) for b in spots]
    found = torch.stack([t.fingerprints for t in true]).numpy().copy()
    right, down = np.zeros((64, 63), np.uint16), np.zeros((63, 64), np.uint16)
    for b, t in zip(spots, true, strict=True):
        area = slice(b.row, b.row + b.height), slice(b.column, b.column + b.width)
        right[area], down[area] = t.right.numpy(), t.down.numpy()
    clean = audit.audit(tail, given.grid, spots, found, right, down, 3)
    assert (clean.wrong_bits, clean.wrong_bits_are, clean.uncertain_bits) == (0, "exact", 3)
    keys = digest.keys(given.tail.layout.bits).numpy()
    found[0, 0, 0] += keys[5]
    found[0, 2, 1] -= keys[7]
    one = audit.audit(tail, given.grid, spots, found, right, down, 0)
    assert (one.wrong_bits, one.wrong_bits_are) == (2, "exact")
    found[0, 3, 3] += keys[5] - keys[9]
    assert audit.audit(tail, given.grid, spots, found, right, down, 0).wrong_bits_are == "at least"


def test_the_audit_runs_where_the_map_was_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def engine(tail: Tail, dtype: torch.dtype, *, device: str, memory_budget: int, classes: bool) -> DenseEngine:
        asked.append((device, memory_budget))
        return DenseEngine(tail, dtype, memory_budget=memory_budget, classes=classes)

    monkeypatch.setattr(audit, "DenseEngine", engine)
    compute(replace(recipe(40), memory=48 << 20), tmp_path / "map")
    assert asked == [("cpu", 48 << 20)]
    given, spots = recipe(40), audit.places(40, 0.05, seed=0)
    nothing = np.zeros((len(spots), 8, 8, 2), np.int64)
    maps = np.zeros((40, 39), np.uint16), np.zeros((39, 40), np.uint16)
    for device in ("cuda:1", "cpu"):
        audit.audit(given.tail, given.grid, spots, nothing, *maps, 0, device=device, memory=1 << 30)
    assert asked[1:] == [("cuda:1", 1 << 30), ("cpu", audit.MEMORY)]


@pytest.mark.gpu
def test_a_map_and_its_audit_on_a_gpu_are_the_cpus(finished: HeatMap, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = compute(replace(recipe(), device="cuda"), tmp_path / "map")
    assert np.array_equal(there.right, finished.right)
    assert np.array_equal(there.down, finished.down)
    assert {**there.provenance["audit"], "uncertain_bits": 0} == {
        **finished.provenance["audit"],
        "uncertain_bits": 0,
    }


def test_sum_along_a_row_bounds_and_matches_the_ends(finished: HeatMap) -> None:
    """Flips along a path have the parity of the ends' distance and are no fewer."""
    given = recipe()
    codes = truth(given.tail, given.grid, Block(0, 0, 149, 149)).codes
    for row in range(0, 150, 7):
        walked = int(finished.right[row].sum(dtype=np.int64))
        ends = int((codes[row, 0] != codes[row, -1]).sum())
        assert walked >= ends
        assert (walked - ends) % 2 == 0


def test_density_is_counts_over_length(finished: HeatMap) -> None:
    step = finished.step
    mean = float(finished.counts.mean()) / (2 * step)
    assert math.isclose(finished.provenance["density"]["mean"], mean, rel_tol=1e-9)
