"""Curves, balls and paths: against closed forms, plain loops in float64 and exact crossings."""

import csv
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import polykern as pk
from polykern.cli.app import run
from polykern.errors import UsageError
from polykern.heat import activations
from polykern.models import Subject
from polykern.paths import Curve, balls, crofton, curve
from polykern.paths.along import along, rays
from polykern.paths.curves import directions
from polykern.paths.evaluation import class_changes, evaluated
from polykern.paths.means import drawn_pairs, layers_of, means
from polykern.points import codes_of
from polykern.tail import Tail
from tests.engine.line_truth import mlp
from tests.engine.refusals import refused
from tests.worlds import random_network

GRID = np.linspace(0, 1, 21)


def _tail(widths: list[int], seed: int) -> Tail:
    model, _ = mlp(widths, seed)
    return Tail(model, torch.zeros(1, widths[0], dtype=torch.float64))


def _two(d: int, seed: int) -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return a, b


def _way(d: int, seed: int, length: float, kind: str = "slerp") -> Curve:
    a, b = _two(d, seed)
    return curve(length * a, length * b, kind)


# --- curves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["slerp", "lerp", "direction"])
def test_a_curve_ends_where_it_should(kind: str) -> None:
    a, b = _two(7, 3)
    points = curve(a, b, kind)(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert torch.equal(points[0], a)
    assert torch.equal(points[2], b)
    assert torch.linalg.matrix_rank(torch.stack([a, b, points[1]]), atol=1e-9) == 2  # in their plane


def test_slerp_of_equal_norms_is_a_circle_at_constant_speed() -> None:
    a, b = (3 * x / x.norm() for x in _two(5, 1))
    way = curve(a, b)
    points = way(torch.linspace(0, 1, 9, dtype=torch.float64))
    assert torch.allclose(points.norm(dim=1), torch.tensor(3.0, dtype=torch.float64))
    steps = (points[1:] - points[:-1]).norm(dim=1)
    assert torch.allclose(steps, torch.full_like(steps, 6 * math.sin(way.angle / 16)))
    assert way.angle == pytest.approx(math.acos(float(a @ b) / 9))


def test_the_norm_of_a_direction_curve_is_linear() -> None:
    a, b = _two(5, 2)
    norms = curve(a, 4 * b, "direction")(torch.tensor([0.25], dtype=torch.float64)).norm()
    assert float(norms) == pytest.approx(0.75 * float(a.norm()) + float(b.norm()))


def test_a_narrow_arc_is_its_chord_and_says_so() -> None:
    a, _ = _two(5, 2)
    way = curve(a, a + 1e-5 * torch.roll(a, 1))
    assert way.kind == "lerp"
    assert "angle" in way.note
    assert curve(a, 2 * a, "direction").kind == "lerp"


@pytest.mark.parametrize(
    ("a", "b", "kind", "said"),
    [
        ([1.0, 2.0], [1.0, 2.0], "slerp", "same point"),
        ([1.0, 2.0], [-2.0, -4.0], "slerp", "opposite"),
        ([1.0, 2.0], [-2.0, -4.0], "direction", "opposite"),
        ([0.0, 0.0], [1.0, 0.0], "slerp", "zero vector"),
        ([1.0, 2.0], [math.nan, 0.0], "lerp", "NaN"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "lerp", "shapes"),
        ([1.0, 2.0], [0.0, 1.0], "spline", "slerp, lerp, direction"),
    ],
)
def test_what_is_no_path_is_refused(a: list[float], b: list[float], kind: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        curve(torch.tensor(a), torch.tensor(b), kind)


def test_crofton_is_the_mean_of_a_coordinate() -> None:
    """c_d is E|u_1| of a uniform unit vector: 1, 2/pi, 1/2 in closed form, and by drawing."""
    assert [crofton(d) for d in (1, 2, 3)] == pytest.approx([1, 2 / math.pi, 0.5])
    drawn = directions((40,), 20_000, 0)[:, 0].abs()
    assert abs(float(drawn.mean()) - crofton(40)) < 5 * float(drawn.std()) / math.sqrt(len(drawn))
    with pytest.raises(UsageError, match="dimension"):
        crofton(0)


# --- balls --------------------------------------------------------------------------------------------


def _plain_balls(tail: Tail, positions: Tensor, radius: float, points: int) -> np.ndarray:
    around = directions(tail.input_shape, points, 5)
    found = np.zeros((len(tail.layout.fields), len(positions), points), np.int32)
    for p, x in enumerate(positions):
        codes = codes_of(tail, torch.cat([x[None], x + radius * around]))
        bits = codes.bits()
        for f, field in enumerate(tail.layout.fields):
            mine = bits[:, field.offset : field.offset + field.bits]
            found[f, p] = (mine[1:] != mine[:1]).sum(1)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_balls_of_random_networks_equal_plain_evaluation(seed: int) -> None:
    network = random_network(seed)
    tail = Tail(network.model, network.sample).to(torch.float64)
    positions = network.points(3, seed).double()
    found = balls(tail, positions, 0.5, points=40, seed=5)
    assert np.array_equal(found.flips, _plain_balls(tail, positions, 0.5, 40))
    assert found.flips.any()


def test_balls_go_on_where_points_cannot_be_carried() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 9, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.fc(torch.sort(x, 1).values))

    torch.manual_seed(0)
    tail = Tail(Sorted().eval(), torch.zeros(1, 4, dtype=torch.float64))
    positions = torch.randn(2, 4, dtype=torch.float64)
    assert np.array_equal(
        balls(tail, positions, 1.0, points=30, seed=5).flips, _plain_balls(tail, positions, 1.0, 30)
    )


def test_one_hyperplane_is_met_as_crofton_says() -> None:
    """A plane at distance h inside a ball of radius r in 3-space: a share (1 - h / r) / 2 lies beyond."""
    plane = nn.Linear(3, 1, dtype=torch.float64).requires_grad_(False)
    plane.weight.copy_(torch.tensor([[0.0, 0.0, 2.0]]))
    plane.bias.fill_(-2.0)
    tail = Tail(nn.Sequential(plane, nn.ReLU()).eval(), torch.zeros(1, 3, dtype=torch.float64))
    at = torch.tensor([[5.0, -3.0, 1.0 - h] for h in (0.0, 0.2, 0.6)], dtype=torch.float64)
    found = balls(tail, at, 0.5, points=4000)
    share = found.flips[0].mean(1)
    assert np.allclose(share, [0.5, 0.3, 0.0], atol=4 * math.sqrt(0.25 / 4000))
    assert np.array_equal(found.density, share / 0.5)


def test_bad_balls_are_refused() -> None:
    tail = _tail([3, 4, 2], 0)
    x = torch.zeros(1, 3, dtype=torch.float64)
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="radius"):
            balls(tail, x, bad)
    with pytest.raises(UsageError, match="two points"):
        balls(tail, x, 1.0, points=1)


# --- paths --------------------------------------------------------------------------------------------


def test_samples_never_exceed_exact_crossings_and_have_their_parity() -> None:
    tail = _tail([6, 30, 30, 20, 5], 3)
    way = _way(6, 4, 3.0)
    exact = along(tail, way, GRID, exact=True)
    sampled = along(tail, way, GRID, exact=False)
    assert exact.missed is None
    assert sampled.missed is not None
    assert 0 <= sampled.missed < 1
    short = exact.flips - sampled.flips
    assert (short >= 0).all()
    assert (short % 2 == 0).all()
    assert exact.flips.sum() >= exact.hamming
    assert exact.flips.sum() % 2 == exact.hamming % 2
    assert np.allclose(exact.length, sampled.length)
    assert exact.outputs is not None
    assert sampled.outputs is not None
    assert np.array_equal(exact.outputs, sampled.outputs)


def test_sampled_steps_equal_a_plain_loop() -> None:
    tail = _tail([6, 30, 20, 5], 7)
    way = curve(*_two(6, 8))
    found = along(tail, way, GRID, exact=False)
    fine = np.linspace(0, 1, 41)
    bits = codes_of(tail, way(torch.from_numpy(fine))).bits()
    changes = (bits[1:] != bits[:-1]).numpy()
    for f, field in enumerate(tail.layout.fields):
        mine = changes[:, field.offset : field.offset + field.bits].sum(1)
        assert np.array_equal(found.flips[f], mine.reshape(-1, 2).sum(1))
    turned = (bits != bits[:1]).sum(1)
    assert found.folding == pytest.approx(1 - int(turned.max()) / int(changes.sum()))
    assert found.hamming == int(turned[-1])
    coarse = int((bits[2::2] != bits[:-2:2]).sum())
    assert found.missed == 1 - coarse / changes.sum()


def test_classes_change_where_crossings_say() -> None:
    tail = _tail([6, 30, 30, 20, 5], 29)
    way = _way(6, 12, 10.0, "lerp")
    exact = along(tail, way, GRID, exact=True)
    sampled = along(tail, way, GRID, exact=False)
    assert len(exact.change) > 0
    assert exact.classes.tolist() == sampled.classes.tolist()
    assert np.abs(exact.change - sampled.change).max() < 1e-4
    for t, before, behind in zip(exact.change, exact.classes, exact.classes[1:], strict=False):
        outputs = evaluated(tail, way(torch.tensor([t - 1e-6, t + 1e-6], dtype=torch.float64)))[1]
        assert outputs is not None
        assert outputs.argmax(1).tolist() == [before, behind]
    assert exact.changing.sum() <= len(exact.change)
    assert exact.changing.any()


def test_bisection_closes_in_on_a_change() -> None:
    both = nn.Linear(1, 2, dtype=torch.float64).requires_grad_(False)
    both.weight.copy_(torch.tensor([[1.0], [0.0]]))
    both.bias.copy_(torch.tensor([0.0, 0.375]))
    tail = Tail(nn.Sequential(both, nn.ReLU()).eval(), torch.zeros(1, 1, dtype=torch.float64))
    change, classes = class_changes(tail, lambda t: t[:, None], np.array([0.0, 1.0]), np.array([1, 0]), 1e-9)
    assert change == pytest.approx([0.375], abs=1e-9)
    assert classes.tolist() == [1, 0]


def test_a_smooth_network_is_sampled_and_exactness_refused() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 12), nn.GELU(), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3)).double().eval()
    tail = Tail(model, torch.zeros(1, 4, dtype=torch.float64))
    way = curve(*_two(4, 3))
    assert along(tail, way, GRID).missed is not None
    with pytest.raises(UsageError, match="crossings"):
        along(tail, way, GRID, exact=True)


def test_a_ray_and_its_chords_agree() -> None:
    tail = _tail([6, 30, 20, 5], 5)
    x = 2 * torch.stack(_two(6, 6))
    s = np.linspace(0, 4, 17)
    s[0] = 1e-6
    for one, ray in zip(x, rays(tail, x, s, exact=True), strict=True):
        chords = along(tail, partial(_scaled, one), s, exact=True)
        assert np.array_equal(ray.flips, chords.flips)
        assert np.allclose(ray.length, chords.length)
        assert np.allclose(ray.change, chords.change)
        assert ray.classes.tolist() == chords.classes.tolist()
        assert ray.outputs is not None
        assert chords.outputs is not None
        assert np.array_equal(ray.outputs, chords.outputs)


def _scaled(x: Tensor, s: Tensor) -> Tensor:
    return s[:, None] * x


@pytest.mark.gpu
def test_a_device_gives_the_same_path() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    subject = pk.load("digits")
    here, there = (
        pk.path(subject, positions=12, ball=20, pairs=2, layers=["conv3"], device=d) for d in ("cpu", "cuda")
    )
    assert np.array_equal(here.along.flips, there.along.flips)
    assert np.array_equal(here.balls.flips, there.balls.flips)
    assert here.means is not None
    assert there.means is not None
    assert np.allclose(here.means.density, there.means.density)


# --- many pairs ---------------------------------------------------------------------------------------


def test_pairs_are_different_and_of_their_kind() -> None:
    targets = [0, 0, 1, 1, 1, 2]
    different, same = drawn_pairs(targets, 4, 0)
    label = np.array(targets)
    assert (label[different[:, 0]] != label[different[:, 1]]).all()
    assert (label[same[:, 0]] == label[same[:, 1]]).all()
    assert (same[:, 0] != same[:, 1]).all()
    for chosen in (different, same):
        assert len({frozenset(p) for p in chosen.tolist()}) == 4
    with pytest.raises(UsageError, match="4 pairs of images of same classes, not 5"):
        drawn_pairs(targets, 5, 0)


def test_means_are_those_of_the_paths() -> None:
    subject = pk.load("digits")
    layers = layers_of(subject)
    assert layers == ["conv1", "conv2", "conv3", "fc1"]
    assert layers_of(subject, most=2) == ["conv1", "fc1"]
    found = means(subject, layers=["conv1", "conv3"], pairs=3, kind="slerp", t=GRID, seed=2)
    a, b = found.pairs[1, 2]
    batch, _, _ = subject.inputs([int(a), int(b)])
    x = activations(subject, "conv3", batch).double()
    tail = Tail(subject.model, subject.sample, "conv3").to(torch.float64)
    one = along(tail, curve(x[0], x[1]), GRID, exact=False)
    assert np.array_equal(found.density[1, 1, 2], one.density)
    assert np.allclose(found.sem(), found.density.std(2, ddof=1) / math.sqrt(3))
    part = found.part(0, 0, "middle")
    inside = np.abs(found.middle - 0.5) <= 0.05 + 1e-12
    assert np.allclose(part, found.density[0, 0][:, inside].mean(1) / found.density[0, 0].mean(1))


# --- the call and the command -------------------------------------------------------------------------


def test_the_path_command_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "path"
    words = ["path", "--indices", "16", "0", "--positions", "12", "--ball", "20", "--pairs", "4", "--layer", "fc1"]
    words += ["--checked", "2", "--seed", "3", "--json"]
    assert run([*words, "--out", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    numbers = told["found"]["numbers"]
    assert json.loads((out / "path.json").read_text())["numbers"] == numbers
    with (out / "steps.csv").open(newline="") as f:
        steps = list(csv.DictReader(f))
    assert len(steps) == 11
    total = sum(float(r["density"]) * float(r["length"]) for r in steps)
    assert total == pytest.approx(numbers["crossings"])
    with (out / "positions.csv").open(newline="") as f:
        positions = list(csv.DictReader(f))
    assert np.mean([float(r["ball_density"]) for r in positions]) == pytest.approx(numbers["ball density"]["value"])
    assert {"path.png", "layers.png", "changes.csv", "means.csv", "pairs.csv"} <= {p.name for p in out.iterdir()}
    assert run([*words, "--out", str(out)]) == 2  # not empty
    again = tmp_path / "again"
    assert run([*words, "--out", str(again)]) == 0
    for name in ("path.json", "positions.csv", "means.csv"):
        assert (out / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["path", "--indices", "0", "0"], "same point"),
        (["path", "--start", "conv9"], "conv9"),
        (["path", "--kind", "cubic"], "cubic"),
        (["path", "--pairs", "1"], "two at least"),
        (["path", "--radius", "-1"], "radius"),
        (["path", "--positions", "2"], "three positions"),
        (["path", "--positions", "10", "--pairs", "2"], "too few for means over pairs"),
        (["path", "--ball", "1"], "two points"),
        (["path", "--indices", "0", "1", "--images", "a", "b"], "two ways"),
        (["ray", "--reach", "0"], "reach"),
        (["ray", "--reach", "1e-9"], "reaches to 0.05 at least"),
        (["ray", "--points", "1"], "three points"),
        (["ray", "--index", "4000"], "4000"),
        (["ray", "--start", "conv9"], "conv9"),
    ],
)
def test_bad_words_exit_with_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *words, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_pairs_need_classes_of_images() -> None:
    class Unknown:
        noun, targets = "point", None

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    subject = Subject(model, "small", "random", torch.zeros(1, 3), Unknown())  # type: ignore[arg-type]
    ends = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = pk.path(subject, ends, positions=5, ball=4)
    assert found.means is None
    assert found.along.outputs is None  # nobody said that they are scores of classes
    told = pk.path(subject, ends, positions=5, ball=4, classes=True)
    assert told.along.outputs is not None
    assert np.array_equal(told.along.flips, found.along.flips)
    with pytest.raises(UsageError, match="classes of its images"):
        pk.path(subject, ends, positions=11, ball=4, pairs=3)
    with pytest.raises(UsageError, match="two ends"):
        pk.path(subject, ends[:1])
    with pytest.raises(UsageError, match="shape"):
        pk.path(subject, ends[:, :2])
    for broken in (torch.nan, torch.inf):
        for call in (pk.path, pk.ray):
            with pytest.raises(UsageError, match="an activation holds NaN or infinity"):
                call(subject, ends * broken)
