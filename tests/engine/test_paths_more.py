"""Attacks and their ways; residual streams that are scaled or interpolated."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import polykern as pk
from polykern.cli.app import run
from polykern.errors import UsageError
from polykern.paths.attacks import attack, beside, neighbours
from polykern.paths.means import Means
from polykern.paths.perturbation import WAYS
from polykern.points import codes_of
from polykern.streams import plateaus, rescaled
from polykern.tail import Tail

# --- attacks ------------------------------------------------------------------------------------------


def test_an_attack_on_a_linear_model_ends_in_the_known_corner() -> None:
    model = nn.Linear(3, 2, bias=False).requires_grad_(False)
    model.weight.copy_(torch.tensor([[1.0, -2.0, 3.0], [0.0, 1.0, -1.0]]))
    x = torch.tensor([[0.5, 0.5, 0.5]])
    slope = torch.tensor([-1.0, 3.0, -4.0])  # of the other class's lead
    way = attack(model, x, torch.tensor([0]), radius=0.1, steps=5)
    assert torch.equal(way[0], x)
    assert torch.allclose(way[-1] - x, 0.1 * slope.sign())
    way = attack(model, x, torch.tensor([0]), radius=0.2, norm="l2", steps=5)
    assert torch.allclose(way[-1] - x, 0.2 * slope / slope.norm(), atol=1e-6)


def test_an_attack_stays_in_its_ball_and_raises_the_loss() -> None:
    subject = pk.load("digits")
    x, _, _ = subject.inputs(list(range(8)))
    with torch.no_grad():
        classes = subject.model(x).argmax(1)
    for norm in ("linf", "l2"):
        way = attack(subject.model, x, classes, radius=0.3, norm=norm, steps=6)
        away = (way - x).flatten(2)
        reached = away.abs().amax(2) if norm == "linf" else away.norm(dim=2)
        assert float(reached.max()) <= 0.3 * (1 + 1e-5)
        with torch.no_grad():
            loss = [nn.functional.cross_entropy(subject.model(p), classes) for p in way]
        assert loss[-1] > loss[0]
    assert not any(p.requires_grad or p.grad is not None for p in subject.model.parameters())


def test_neighbours_and_points_beside() -> None:
    pool = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.2, 0.0], [0.0, 3.0]], dtype=torch.float64)
    classes = torch.tensor([0, 0, 1, 0])
    found = neighbours(pool[:1], classes[:1], pool, classes)
    assert found.tolist() == [[1.0, 0.0]]  # the nearest has another class
    assert beside(pool[:1], found, torch.tensor([0.5], dtype=torch.float64)).tolist() == [[0.5, 0.0]]
    with pytest.raises(UsageError, match="class 1"):
        neighbours(pool[2:3], classes[2:3], pool, classes)


@pytest.mark.parametrize(
    ("radius", "norm", "steps", "said"),
    [
        (0.0, "linf", 5, "a positive radius and one step at least, got 0.0 and 5"),
        (1.0, "l7", 5, "no norm is called 'l7'"),
        (1.0, "l2", 0, "a positive radius and one step at least, got 1.0 and 0"),
    ],
)
def test_bad_attacks_are_refused(radius: float, norm: str, steps: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        attack(nn.Linear(2, 2), torch.zeros(1, 2), torch.tensor([0]), radius=radius, norm=norm, steps=steps)


def test_an_attack_that_crosses_nothing_is_written(tmp_path: Path) -> None:
    found = pk.adversarial(pk.load("digits"), images=2, steps=1, radius=1e-12)
    assert not found.flips.any()
    found.save(tmp_path)
    told = json.loads((tmp_path / "adversarial.json").read_text())["numbers"]["adversarial over"]["all"]["random"]
    assert (told["ratio"]["value"], told["wilcoxon"]["p"]) == (None, 1.0)


def test_ways_are_counted_between_their_points() -> None:
    found = pk.adversarial(pk.load("digits"), images=3, steps=4, radius=0.2)
    assert found.length.shape == (len(WAYS), 3)
    assert np.allclose(found.length[:3], found.length[0])
    assert (found.length[3] >= found.length[0] - 1e-12).all()
    sampled = pk.adversarial(pk.load("digits"), images=3, steps=4, radius=0.2, exact=False)
    short = found.flips - sampled.flips
    assert (short >= 0).all()
    assert (short % 2 == 0).all()
    assert found.flips.sum() > 0
    straight, stepwise = found.flips[0].sum(0), found.flips[3].sum(0)
    assert ((straight - stepwise) % 2 == 0).all()  # both ways join the same two codes


def test_the_adversarial_command_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["adversarial", "--count", "4", "--steps", "3", "--radius", "0.3", "--json", "--out", str(out)]
    assert run(words) == 0
    numbers = json.loads(capsys.readouterr().out)["found"]["numbers"]
    with (out / "images.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    density = [float(r["crossings_random"]) / float(r["length_random"]) for r in rows]
    assert numbers["density"]["random"]["value"] == pytest.approx(np.mean(density))
    assert (out / "adversarial.png").exists()
    assert run(["adversarial", "--norm", "l7", "--out", str(tmp_path / "no")]) == 2


# --- residual streams ---------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        out: Tensor = self.out(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v)
        return out


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width, eps=1e-14), Attention(width)
        self.ln_2, self.act = nn.LayerNorm(width, eps=1e-14), nn.GELU()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.down(self.act(self.up(self.ln_2(x))))
        return out


def _transformer() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(12) for _ in range(3))).eval().requires_grad_(False)
    return model, torch.randn(2, 5, 12)


def test_layernorm_takes_the_factor_away_in_the_block_itself_only() -> None:
    model, x = _transformer()
    found = rescaled(model, x, "1", "attn", scales=(0.1, 0.5, 1.0, 2.0, 10.0))
    assert found.fields == ("0.act", "1.act", "2.act")
    assert not found.share[:2].any()  # before it, and in it
    assert found.share[2, 0] > 0
    assert found.share[2, 4] > 0
    assert not found.share[:, 2].any()  # a factor of one


def test_a_frozen_layernorm_does_not() -> None:
    model, x = _transformer()
    found = rescaled(model, x, "1", "attn", scales=(0.1, 1.0, 10.0), norms="frozen")
    assert not found.share[0].any()
    assert found.share[1, 0] > 0
    assert found.share[1, 2] > 0
    assert not found.share[:, 1].any()
    before = model(x)
    rescaled(model, x, "2", "attn", scales=(3.0,))
    assert torch.equal(model(x), before)  # no hook stays


def test_scaling_refuses_what_is_not_there() -> None:
    model, x = _transformer()
    with pytest.raises(UsageError, match="attention"):
        rescaled(model, x, "1", "attention")
    with pytest.raises(UsageError, match="positive"):
        rescaled(model, x, "1", "attn", scales=(1.0, -1.0))


def test_plateaus_equal_a_plain_loop() -> None:
    model, x = _transformer()
    tail = Tail(model, x[:1], "1")
    a, b = x[0], x[1]
    found = plateaus(tail, a, b, "*.ln_2", steps=10)
    assert found.fields == ("1.act", "2.act")
    wide = model.double()
    points = a.double().repeat(11, 1, 1)
    points[:, -1] += torch.linspace(0, 1, 11, dtype=torch.float64)[:, None] * (b[-1] - a[-1]).double()
    bits = codes_of(Tail(nn.Sequential(*list(wide)[1:]).eval(), points[:1]), points).bits().view(11, 2, 5, 48)
    assert np.array_equal(found.flips, (bits[1:, :, -1] != bits[:-1, :, -1]).sum(2).T.numpy())
    block = wide[1]
    assert isinstance(block, Block)
    middle = points + block.attn(block.ln_1(points))
    step = (middle[1:, -1] - middle[:-1, -1]).norm(dim=1)
    assert np.allclose(found.lengths[0], step.numpy())
    assert np.allclose(found.density[0], found.flips[0] / step.numpy())
    with pytest.raises(UsageError, match="MLPs"):
        plateaus(tail, a, b, "*.ln_9")
    with pytest.raises(UsageError, match="same residual"):
        plateaus(tail, a, a, "*.ln_2")


def test_balls_and_paths_are_compared_each_and_in_the_mean() -> None:
    rng = np.random.default_rng(0)
    both = rng.random((2, 6, 24)) + np.linspace(0, 1, 24)
    found = Means(
        ("x",), np.linspace(0.01, 0.99, 50), np.ones((1, 2, 6, 50)), np.zeros((1, 2, 6, 50), np.bool_), np.zeros(1),
        np.zeros((2, 6, 2), np.int64), both,
    )  # fmt: skip
    each = [spearmanr(a, b).statistic for a, b in zip(*both, strict=True)]  # pyright: ignore[reportAttributeAccessIssue]
    assert np.allclose(found.agreements(), each)
    mean = found.agreement_of_means()
    assert mean.value == pytest.approx(spearmanr(*both.mean(1)).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    assert mean.low < mean.value <= mean.high
    told = found.numbers(0)["rank correlation of ball and path density"]
    assert (told["pairs"], told["least"]) == (6, min(found.agreements()))
    assert told["of the means over pairs"] == mean.as_dict()
