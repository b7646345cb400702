"""Exact partitions: faces tile the window, counts are other tools', codes are dense float64's, maps agree."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import polykern as pk
from polykern.block import Block
from polykern.cli.app import run
from polykern.dense import DenseEngine
from polykern.errors import UsageError
from polykern.heat import prepare
from polykern.plane import Window
from polykern.subdivision import Partition, drawing, partition
from polykern_kernels import digest
from tests.engine.folders import names
from tests.worlds import random_lines, random_network

UNIT = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])  # three points of the plane itself
WHOLE = Window(0.0, 0.0, 2.0)  # [-1, 1]^2


def he(widths: list[int], seed: int = 0, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A network of the plane, its weights Gaussian after He."""
    rng = np.random.default_rng(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layer = nn.Linear(fan_in, fan_out)
        weight, bias = rng.normal(size=(fan_out, fan_in)) * np.sqrt(2 / fan_in), 0.1 * rng.normal(size=fan_out)
        layer.weight.data, layer.bias.data = torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
        layers += [layer, act()]
    return nn.Sequential(*layers[:-1]).eval()


def subject(model: nn.Module, sample: Tensor) -> pk.Subject:
    return pk.Subject(model, "net", "of a test", sample, examples=None)  # type: ignore[arg-type]  # points are given


def cut(model: nn.Module, **how: Any) -> Partition:
    """The partition of [-1, 1]^2 by a network of the plane."""
    return partition(subject(model, torch.zeros(1, 2)), UNIT, window=WHOLE, **how)


def following(found: Partition) -> NDArray[np.int64]:
    """int64 (corners): the corner behind each corner."""
    after = np.arange(1, len(found.corner) + 1)
    after[found.first[1:] - 1] = found.first[:-1]
    return after


def require_sound(found: Partition) -> None:
    """Faces tile the window, each side has two, corners turn, and Euler's relation holds."""
    side = found.about["window"][2]
    assert found.about["complete"]
    assert found.about["unmatched"] == {"seams": 0, "sides": 0}
    assert abs(found.area.sum() / side**2 - 1) < 1e-9
    after = found.corner[following(found)]
    shoelace = found.corner[:, 0] * after[:, 1] - after[:, 0] * found.corner[:, 1]
    own = np.add.reduceat(shoelace, found.first[:-1]) / 2
    assert np.abs(own - found.area).max() < 1e-9 * side**2  # outlines are what the pieces are
    assert (found.faces[:, 0] != found.faces[:, 1]).all()


def require_codes(found: Partition, faces: NDArray[np.int64]) -> None:
    """Dense float64 gives a point inside of each face its code."""
    codes = found.codes_at(faces)
    prints = digest.fingerprints(codes.words, codes.layout.bits)
    assert torch.equal(prints, torch.from_numpy(found.digest[faces]))


def euler(found: Partition) -> int:
    """V - E + F of the faces within their window; corners nearer than 1e-8 of it are one."""
    u, v, side = found.about["window"]
    corner = np.round((found.corner - (u, v)) / side, 8)
    points = np.unique(corner, axis=0)
    index = {tuple(p): k for k, p in enumerate(points.tolist())}
    number = np.array([index[tuple(c)] for c in corner.tolist()])
    edges = set()
    for a, b in zip(number.tolist(), number[following(found)].tolist(), strict=True):
        # other faces' corners may lie on a side
        line = points[b] - points[a]
        along = (points - points[a]) @ line / (line @ line)
        off = np.abs((points - points[a]) @ np.array([-line[1], line[0]])) / np.hypot(*line)
        on = np.flatnonzero((off < 1e-7) & (along > -1e-9) & (along < 1 + 1e-9))
        chain = on[np.argsort(along[on])].tolist()
        edges |= {(min(p, q), max(p, q)) for p, q in pairwise(chain)}
    return len(points) - len(edges) + len(found)


def test_lines_of_one_layer_are_an_arrangement() -> None:
    for n in (1, 2, 5, 9):
        world = random_lines(n, seed=n)
        found = partition(subject(world.model, torch.zeros(1, 2)), UNIT, window=Window(-1e4, -1e4, 2e4))
        assert len(found) == world.regions == found.codes
        require_sound(found)
        assert euler(found) == 1


@pytest.mark.parametrize(
    ("width", "depth", "faces"), [(16, 3, 930), (32, 3, 3897), pytest.param(64, 3, 14353, marks=pytest.mark.slow)]
)
def test_counts_are_those_that_other_tools_found(width: int, depth: int, faces: int) -> None:
    """Networks of He's weights in [-1, 1]^2, counted by five programs that agree (regioncam, affinitree, ...)."""
    model = he([2, *[width] * depth, 1])
    found = cut(model)
    assert len(found) == faces == found.codes
    require_sound(found)
    if faces < 1000:
        assert euler(found) == 1


def test_adjacent_faces_differ_in_one_neuron() -> None:
    found = cut(he([2, 12, 12, 1]))
    bits = found.codes_at().bits().numpy()
    assert len(np.unique(bits, axis=0)) == len(found)
    differing = bits[found.faces[:, 0]] ^ bits[found.faces[:, 1]]
    assert (differing.sum(1) == 1).all()
    assert (differing.argmax(1) // 12 == found.what).all()  # and it is one of the layer that the side says


class Branched(nn.Module):
    """A convolution, a residual, a branch that is put beside, both pools, a batch norm, three kinds of kinks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(8 * 3 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(x)))
        z = nn.functional.leaky_relu(self.second(y) + y)
        pooled = torch.cat([nn.functional.max_pool2d(z, 2), nn.functional.avg_pool2d(z, 2)], 1)
        return nn.functional.hardtanh(self.last(pooled.flatten(1)), -1.0, 1.0)


def branched() -> tuple[pk.Subject, Tensor]:
    torch.manual_seed(3)
    model = Branched()
    model.train()
    with torch.no_grad():
        model(torch.randn(64, 1, 6, 6))
    return subject(model.eval(), torch.zeros(1, 1, 6, 6)), torch.randn(3, 1, 6, 6)


def test_any_graph_is_followed_and_faces_have_their_codes() -> None:
    net, anchors = branched()
    found = partition(net, anchors, zoom=2)
    require_sound(found)
    assert len(found) > 500
    assert (found.what == -1).any()  # max-pools
    assert found.codes < len(found)  # two choices of a pool may share a code
    rng = np.random.default_rng(0)
    some = rng.choice(len(found), 400, replace=False)
    some = some[found.area[some] > 1e-12 * found.about["window"][2] ** 2]
    require_codes(found, some)


def test_the_map_of_the_same_window_agrees() -> None:
    net, anchors = branched()
    found = partition(net, anchors, zoom=4)
    recipe = prepare(net, anchors, zoom=4, resolution=48, engine="tiles")
    (dense,) = DenseEngine(recipe.tail, torch.float64, classes=False).blocks(recipe.grid, [Block(0, 0, 47, 47)])
    rows, columns = torch.meshgrid(torch.arange(47), torch.arange(47), indexing="ij")
    at = recipe.grid.uv(rows.flatten(), columns.flatten()).numpy()
    face = np.array([found.face_at(u, v) for u, v in at.tolist()])
    assert (face >= 0).all()
    edge = 1e-9 * found.about["window"][2]
    near = np.array([distance(found, f, p) < edge for f, p in zip(face.tolist(), at, strict=True)])
    assert near.sum() < 3
    assert np.array_equal(found.digest[face[~near]], np.asarray(dense.digest).reshape(-1, 2)[~near])


def distance(found: Partition, face: int, point: NDArray[np.float64]) -> float:
    """How far a point inside a face is from its nearest side."""
    corners = found.corner[found.first[face] : found.first[face + 1]]
    edge = np.roll(corners, -1, 0) - corners
    area = edge[:, 0] * (point - corners)[:, 1] - edge[:, 1] * (point - corners)[:, 0]
    return float((area / np.hypot(edge[:, 0], edge[:, 1])).min())


@pytest.mark.parametrize("seed", range(10))
def test_random_networks(seed: int) -> None:
    net = random_network(seed)
    points = net.points(3, seed)
    model = subject(net.model, net.sample)
    found = partition(model, points, zoom=8, regions=20_000)
    require_sound(found)
    big = np.flatnonzero(found.area > 1e-10 * found.about["window"][2] ** 2)[:200]
    require_codes(found, big)


def test_classes_cut_faces() -> None:
    model = he([2, 12, 3])
    plain, classes = cut(model), cut(model, classes=True)
    require_sound(classes)
    assert len(classes) > len(plain)
    assert classes.codes == plain.codes
    with torch.no_grad():
        points = classes.plane.points(torch.from_numpy(classes.centres))
        assert np.array_equal(model.double()(points).argmax(1).numpy(), classes.winner)
    assert classes.winner.min() >= 0 > plain.winner.max()


def test_a_budget_that_runs_out_leaves_what_was_done() -> None:
    found = cut(he([2, 32, 32, 32, 1]), regions=200)
    assert not found.about["complete"]
    assert 0 < found.about["covered"] < 1
    assert abs(found.area.sum() / 4 - found.about["covered"]) < 1e-9
    assert "of the window" in repr(found)


def test_refusals() -> None:
    smooth = nn.Sequential(nn.Linear(2, 4), nn.GELU(), nn.Linear(4, 4), nn.ReLU()).eval()
    with pytest.raises(UsageError, match=r"no exact partition of this network.*smooth"):
        cut(smooth)
    with pytest.raises(UsageError, match="behind a LayerNorm"):
        cut(nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU()).eval())
    with pytest.raises(UsageError, match="a budget of 0 regions"):
        cut(he([2, 4, 1]), regions=0)


# --- files, pictures, the command ----------------------------------------------------------------


def test_the_command_writes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cut"
    assert run(["partition", "--model", "digits", "--zoom", "200", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "polykern-partition-result/1"
    told = json.loads((out / "partition.json").read_text())
    assert said["partition"] == told
    assert told["schema"] == "polykern-partition/1"
    assert told["faces"] == len(np.load(out / "area.npy")) > 100
    assert told["complete"]
    assert set(said["files"]) == names(out) | {"viewer/index.html"}
    assert abs(sum(told["boundary_length"].values()) - _length(np.load(out / "ends.npy"))) < 1e-9
    svg = (out / "partition.svg").read_text()
    assert svg.count("<polygon") == told["faces"]
    assert (out / "partition.png").stat().st_size > 20_000
    assert run(["partition", "--model", "digits", "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_the_command_says_when_a_budget_ran_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["partition", "--model", "digits", "--zoom", "12", "--classes", "--no-figures", "--no-viewer", "--json"]
    assert run([*how, "--regions", "100", "--out", str(tmp_path / "some")]) == 0
    said = capsys.readouterr()
    assert "the budget ran out" in said.err
    told = json.loads(said.out)
    assert not told["partition"]["complete"]
    assert 0 < told["partition"]["covered"] < 1
    assert {Path(name).suffix for name in told["files"]} == {".npy", ".json"}


def _length(ends: NDArray[np.float64]) -> float:
    return float(np.hypot(*(ends[:, 1] - ends[:, 0]).T).sum())


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cut(he([2, 12, 3], 1), classes=True)
    found.about["model"]["name"] = "<script>alert(1)</script>"
    text = found.plot(tmp_path / "new" / "a.svg").read_text()
    assert "<script" not in text
    assert text.count("<polygon") == len(found)
    assert text.count("<polyline") == len(found.what)
    assert text.count('stroke-width="1.6"') == len(found.decision) > 0
    assert found.plot(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"end the name with \.png or \.svg"):
        found.plot(tmp_path / "a.gif")
    monkeypatch.setattr(drawing, "DRAWN", 10)
    with pytest.raises(UsageError, match="shows nothing"):
        found.plot(tmp_path / "a.png")
