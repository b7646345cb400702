"""Rays: homogeneous networks cross nothing, s = 1 is the activation, peaks and changes where they were planted."""

import csv
import itertools
import json
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
from polykern.models.subject import Example
from polykern.paths import Ray
from polykern.paths.evaluation import evaluated
from polykern.tail import Tail
from tests.engine.wordnets import wordnet


class Drawn:
    """Random images."""

    noun = "image"
    targets = None

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        self.images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)).abs()

    def __len__(self) -> int:
        return len(self.images)

    def at(self, index: int) -> Example:
        return Example(self.images[index], f"image {index}", None)

    def read(self, path: Path) -> Example:
        raise UsageError(f"no file {path}")


def _normed() -> Subject:
    """Convolutions without biases between BatchNorms."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    examples = Drawn((2, 6, 6), 24)
    return Subject(model, "normed", "random: NOT a trained network", torch.zeros(1, 2, 6, 6), examples)


@pytest.fixture(scope="module")
def found() -> Ray:
    return pk.ray(_normed(), images=6, noise=3, points=100, classes=True)


def test_without_biases_nothing_is_crossed(found: Ray) -> None:
    """BatchNorm as initialised leaves the network positively homogeneous up to its last layer."""
    for direction in ("images", "gaussian", "absolute"):
        beam = found.beam("untrained", direction)
        assert not beam.density.any()
        assert np.isnan(beam.peaks).all()


def test_measured_statistics_bring_an_interior_peak(found: Ray) -> None:
    beam = found.beam("calibrated")
    assert beam.density.any(1).all()
    assert ((beam.peaks > 0.2) & (beam.peaks < 1.5)).all()
    assert beam.numbers(0)["exact"]
    again = pk.ray(_normed(), images=6, noise=0, points=100, exact=False, classes=True).beam("calibrated")
    for exact, sampled in zip(beam.rays, again.rays, strict=True):
        short = exact.flips - sampled.flips
        assert (short >= 0).all()
        assert (short % 2 == 0).all()
        assert exact.classes.tolist() == sampled.classes.tolist()
        assert np.allclose(exact.change, sampled.change, atol=1e-4)


def test_a_planted_shell_is_the_peak() -> None:
    """Units x_i > 1 all meet the ray through (1, 1, ...) / 2 at s = 2, and that through 1.25 (1, 1, ...) at 0.8."""
    first, last = nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 2).requires_grad_(False)
    first.weight.copy_(torch.eye(8))
    first.bias.fill_(-1.0)
    last.weight.copy_(torch.stack([torch.ones(8), torch.zeros(8)]))
    last.bias.copy_(torch.tensor([0.0, 4.0]))
    model = nn.Sequential(first, nn.ReLU(), last)
    subject = Subject(model, "shell", "made", torch.zeros(1, 8), Drawn((8,), 3))
    x = torch.stack([torch.full((8,), 0.5), torch.full((8,), 1.25)])
    (beam,) = pk.ray(subject, x, noise=0, controls=False, classes=True).beams
    assert np.abs(beam.peaks - [2.0, 0.8]).max() < 0.011  # a step
    assert [int(r.flips.sum()) for r in beam.rays] == [8, 8]
    for ray, scale in zip(beam.rays, (0.5, 1.25), strict=True):
        assert ray.change == pytest.approx([1.5 / scale])  # 8 (s x - 1) = 4
        assert ray.classes.tolist() == [1, 0]


def test_the_scale_one_is_the_activation_bit_for_bit() -> None:
    subject = pk.load("digits")
    batch, _, _ = subject.inputs([3])
    found = pk.ray(subject, [3], start="conv3", images=1, noise=0, controls=False)
    (ray,) = found.beams[0].rays
    assert ray.t[100] == 1.0
    x = activations(subject, "conv3", batch)
    tail = Tail(subject.model, subject.sample, "conv3")
    outputs = evaluated(tail, ray.t[100] * x)[1]
    assert outputs is not None
    assert ray.outputs is not None
    with torch.no_grad():
        assert torch.equal(outputs, subject.model(batch))
    assert ray.outputs[100].argmax() == int(subject.model(batch).argmax())


def test_noise_has_the_norm_of_the_images(found: Ray) -> None:
    lengths = {b.direction: np.mean([r.length.sum() for r in b.rays]) for b in found.beams if b.network == "itself"}
    assert lengths["gaussian"] == pytest.approx(lengths["images"], rel=1e-6)
    assert lengths["absolute"] == pytest.approx(lengths["images"], rel=1e-6)


def test_the_ray_command_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ray"
    words = [
        "ray",
        "--index",
        "0",
        "--index",
        "5",
        "--rays",
        "3",
        "--noise",
        "2",
        "--points",
        "50",
        "--start",
        "conv3",
    ]
    assert run([*words, "--json", "--out", str(out)]) == 0
    numbers = json.loads(capsys.readouterr().out)["found"]["numbers"]
    assert json.loads((out / "ray.json").read_text())["numbers"] == numbers
    assert set(numbers) == {"itself", "untrained", "classes along the rays"}  # digits has no BatchNorm
    with (out / "rays.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [int(r["crossings"]) for r in rows][:3] == numbers["itself"]["images"]["crossings"]
    assert len(rows) == 2 * (3 + 2 + 2)
    assert {"ray.png", "directions.png", "density.csv", "changes.csv", "outputs-0.csv"} <= {
        p.name for p in out.iterdir()
    }


def test_a_zero_activation_has_no_ray() -> None:
    subject = pk.load("digits")
    zero: Tensor = torch.zeros(1, 1, 8, 8)
    with pytest.raises(UsageError, match="is zero"):
        pk.ray(subject, zero, noise=0, controls=False)


def _named(names: tuple[str, ...] | None) -> Subject:
    torch.manual_seed(31)
    first = nn.Linear(8, 48)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(48, 4))
    first.bias.data *= 4
    return Subject(model, "named", "random: NOT a trained network", torch.zeros(1, 8), Drawn((8,), 24), names)


def test_classes_that_follow_each_other_are_compared(tmp_path: Path) -> None:
    folder, synsets = wordnet(tmp_path / "wordnet"), tmp_path / "synsets.txt"
    subject = _named(("dog", "cat", "couch", "unicorn"))
    found = pk.ray(subject, images=12, noise=0, controls=False, wordnet=folder)
    related = found.related
    assert related is not None
    turns = [r.classes.tolist() for r in found.beams[0].rays]
    pairs = [(a, b) for turn in turns for a, b in itertools.pairwise(turn)]
    known = [(a, b) for a, b in pairs if 3 not in (a, b)]
    assert len(known) > 2
    assert list(zip(related.before.tolist(), related.after.tolist(), strict=True)) == known
    assert related.distance.tolist() == [2 if {a, b} == {0, 1} else 4 for a, b in known]
    assert (related.matched, related.left_out) == (3, len(pairs) - len(known))
    assert found.numbers()["relatedness"]["changes"] == len(known)
    assert found.tables()["relatedness"]["before"][0] == subject.classes[known[0][0]]  # type: ignore[index]
    synsets.write_text("n00000020\nn00000030\nn00000050\nn00000060\n")
    again = pk.ray(subject, images=12, noise=0, controls=False, wordnet=folder, synsets=synsets).related
    assert again is not None
    assert (again.matched, again.left_out) == (4, 0)


def test_classes_without_names_are_not_compared(tmp_path: Path) -> None:
    folder = wordnet(tmp_path / "wordnet")
    with pytest.raises(UsageError, match="no named classes"):
        pk.ray(_named(None), wordnet=folder)
    with pytest.raises(UsageError, match="not followed"):
        pk.ray(_named(("a", "b", "c", "d")), wordnet=folder, classes=False)
    with pytest.raises(UsageError, match="compared in WordNet"):
        pk.ray(_named(None), synsets=folder)
