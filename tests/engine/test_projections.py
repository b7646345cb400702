"""Along loops: simulated codes have the slope of theory, ReLU networks a slope of 2 inside of their polytopes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import polykern as pk
from polykern.cli.app import run
from polykern.errors import UsageError
from polykern.models import Example
from polykern.points import codes_of
from polykern.spectra import projections
from polykern.spectra.probes import probes
from polykern.spectra.variogram import circle, gaussian, power_law_code, variogram
from polykern.tail import Tail
from tests.engine.folders import told
from tests.worlds import random_network

LAGS = np.geomspace(3e-3, 3e-2, 8)  # between the 1000th harmonic and the first


@pytest.mark.parametrize("alpha", [1.5, 2.0, 2.5, 3.0, 4.0])
def test_a_simulated_code_is_as_rough_as_theory_says(alpha: float) -> None:
    found = variogram(power_law_code(alpha), LAGS, places=4).slope(LAGS[0], LAGS[-1])
    assert found == pytest.approx(min(alpha - 1, 2), abs=0.25)


def test_projections_keep_the_order_of_roughness() -> None:
    slopes = [
        variogram(power_law_code(a), LAGS, places=64, projections=gaussian(2000, seed=1)).slope(LAGS[0], LAGS[-1])
        for a in (1.5, 2.0, 2.5, 3.0)
    ]
    assert slopes == sorted(slopes)


def test_the_variogram_of_a_circle_is_its_chord() -> None:
    code = power_law_code(1.0, m=1)
    found = variogram(code, [0.1, 0.25, 0.5], places=8)
    assert found.values == pytest.approx((2 * np.sin(np.pi * np.array([0.1, 0.25, 0.5]))) ** 2 / 2)


def test_the_circle_goes_through_its_three_points() -> None:
    a, b, c = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = circle(a, b, c)
    turns = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    points = at(turns)
    for p in (a, b, c):
        assert float((points - p).flatten(1).norm(dim=1).min()) < 1e-3
    assert torch.allclose(at(torch.zeros(1))[0], a)
    with pytest.raises(UsageError, match="no circle"):
        circle(a, b, 2 * b - a)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_a_relu_network_is_smooth_inside_of_its_polytopes(seed: int) -> None:
    network = random_network(seed)
    points = torch.randn(3, *network.sample.shape[1:], generator=torch.Generator().manual_seed(seed))
    subject = pk.Subject(network.model, "net", "of a test", network.sample, Points(points))  # type: ignore[arg-type]
    found = projections(subject, places=64, repeats=2, seed=seed)
    inside = [x.slope_inside for x in found.loops.values()]
    assert inside[0] is not None
    assert all(s is None or s >= 1.95 for s in inside)
    lengths = [x.polytope.value for x in found.loops.values()]
    assert all(x.probes is None for x in found.loops.values())  # points without classes
    assert lengths == sorted(lengths, reverse=True)  # more layers in front, shorter polytopes


class Points:
    """Three points as examples."""

    noun, targets = "point", None

    def __init__(self, points: torch.Tensor) -> None:
        self.points = points

    def __len__(self) -> int:
        return len(self.points)

    def at(self, index: int) -> Example:
        return Example(self.points[index], str(index), None)


def test_neurons_that_are_classes_are_purer_than_random_directions() -> None:
    """Eight classes of 50 rows, a neuron each that alone is on for its class."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(8), 50)
    values = np.eye(8)[classes] + 0.05 * rng.standard_normal((400, 8))
    found = probes(values, classes, np.arange(400), most=8)
    neurons, drawn = ([p for p in found.every if p.family == family] for family in ("neurons", "random"))
    assert [p.number for p in neurons] == list(range(8))
    for p in neurons:
        assert p.strongest == pytest.approx(1 - found.chance)
        assert set(p.examples) <= set(np.flatnonzero(classes == p.number).tolist())
        first = np.argmax(values[:, p.number])
        assert p.examples[0] == first
    assert 1 / 8 < found.chance < 0.35  # the commonest of 8 classes among 20 random rows
    assert found.mean("neurons", "line").value < found.mean("random", "line").value  # one cut in a line, not eight
    assert found.mean("random", "strongest").value > 0.5  # the largest class of a random direction stands apart
    test = found.test("line")
    assert test is not None
    assert test.t > 0
    assert len(drawn) == 8


def test_directions_without_meaning_are_no_purer_than_chance() -> None:
    rng = np.random.default_rng(1)
    values, classes = rng.standard_normal((2500, 6)), rng.integers(0, 5, 2500)
    found = probes(values, classes, np.arange(2500) // 2, most=4, seed=3)
    assert found.rows == 2000
    assert len(found.every) == 8
    for family in ("neurons", "random"):
        for measure in ("strongest", "line"):
            assert abs(found.mean(family, measure).value) < 0.05


def test_one_direction_is_drawn_without_an_interval(tmp_path: Path) -> None:
    subject = pk.load("digits")
    found = projections(subject, select="relu4", directions=1, repeats=1, places=2)
    assert (tmp_path / "a.png") == found.plot(tmp_path / "a.png", "probes")
    (one,) = found.loops.values()
    assert np.isnan(one.probes.mean("neurons", "line").low)  # type: ignore[union-attr]


def test_polytopes_in_front_of_a_layer_are_those_of_its_codes() -> None:
    network = random_network(0)
    points = torch.randn(3, *network.sample.shape[1:], generator=torch.Generator().manual_seed(0))
    subject = pk.Subject(network.model, "net", "of a test", network.sample, Points(points))  # type: ignore[arg-type]
    tail = Tail(network.model, network.sample, "").to(torch.float64)
    at = circle(*points)
    t = torch.from_numpy(np.random.default_rng(4).random(2048))
    codes = [codes_of(tail, at(x)) for x in (t, (t + 2.0**-16) % 1)]
    found = projections(subject, places=2, repeats=1, seed=4).loops
    names = [f.name for f in tail.layout.fields]
    assert list(found) == names
    assert found[names[0]].polytope.value == float("inf")
    for k, name in enumerate(names[1:], 1):
        here, there = (c.field(*names[:k]) for c in codes)
        crossed = float(here.aligned(there).double().mean()) * 2**16
        assert found[name].polytope.value == pytest.approx(1 / crossed if crossed else float("inf"))


def test_the_command_follows_the_digits_along_a_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "loop"
    assert (
        run(["projections", "--out", str(out), "--places", "8", "--repeats", "1", "--directions", "3", "--json"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)["found"]
    assert said == told(out / "projections.json")
    assert list(said["numbers"]) == ["relu1", "relu2", "relu3", "relu4"]
    assert said["numbers"]["relu4"]["slope_inside_polytopes"] > 1.95
    assert len((out / "curves.csv").read_text().splitlines()) == 1 + 4 * 4096
    scored = (out / "probes.csv").read_text().splitlines()
    assert scored[0] == "site,family,number,strongest,line,examples"
    assert len(scored) == 1 + 4 * 2 * 3
    mine = [float(r.split(",")[3]) for r in scored[1:] if r.startswith("relu4,random")]
    chance = said["numbers"]["relu4"]["probes"]["strongest"]["random"]["value"]
    assert chance == pytest.approx(np.mean(mine))
    assert run(["projections", "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
