"""`pk.complexity` and its command: parts equal what the measures give, folders hold it, bad input is refused."""

import csv
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import polykern as pk
from polykern.boundaries import Familiar, densities, frame, local_complexity
from polykern.boundaries.checkpoints import Checkpoint
from polykern.boundaries.local import vertices
from polykern.boundaries.parts import initialisation, outliers, transitions
from polykern.cli.app import run
from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.models.generated import Noise
from polykern.points import codes_of
from polykern.tail import Tail
from polykern_kernels import pack
from tests.engine.folders import names

SMALL: dict[str, Any] = {"points": 12, "directions": 3, "radii": [0.5]}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer slices, paths and points than a figure takes."""
    for module, sizes in (
        (transitions, {"PLANES": 5, "CIRCLES": 4, "STEPS": 48, "PLACES": 16}),
        (outliers, {"REFERENCE": 80, "POINTS": 40}),
    ):
        for name, size in sizes.items():
            monkeypatch.setattr(module, name, size)


def classifier(act: type[nn.Module] = nn.ReLU) -> pk.Subject:
    """A network of six inputs and three classes, its examples noise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), act(), nn.Linear(30, 20), act(), nn.Linear(20, 3))
    return pk.Subject(model, "net", "of a test", torch.zeros(1, 6), Noise((6,), 0), ("a", "b", "c"))


# --- parts ---------------------------------------------------------------------------------------


def test_local_complexities_are_those_of_the_measure() -> None:
    subject = classifier()
    found = pk.complexity(subject, ["local"], **SMALL, seed=3)
    assert found.about["settings"]["directions"] == 3
    numbers = found.numbers()["local"]
    assert set(numbers["trained"]) == set(numbers["untrained"]) == {"examples", "random"}
    rows = np.sort(np.random.default_rng(3).permutation(1000)[:12])
    x = torch.stack([subject.examples.at(int(k)).input for k in rows])
    counts = local_complexity(subject.model, x, [0.5], directions=3, seed=3).counts[0]
    assert numbers["trained"]["examples"]["0.5"]["value"] == counts.sum(0).double().mean()
    table = found.tables()["local"]
    layers = [r for r in zip(*table.values(), strict=True) if r[:2] == ("trained", "examples")]
    assert [r[5] for r in layers] == [counts.double().sum(0).mean(), *counts.double().mean(1)]
    assert numbers["trained"] != numbers["untrained"]
    random = [r for r in zip(*table.values(), strict=True) if r[:2] == ("trained", "random")]
    assert [r[3] for r in random] == ["all layers", "1", "3"]


def test_a_course_says_how_far_it_went() -> None:
    subject = classifier()
    first = {name: value.clone() for name, value in subject.model.state_dict().items()}
    grown = {name: value * (3 if "0." in name else 1) for name, value in first.items()}
    weights: list[tuple[int, Checkpoint]] = [(0, first), (5, subject.model), (9, grown)]
    found = pk.complexity(subject, ["training"], checkpoints=iter(weights), **SMALL)
    change = found.numbers()["training"]["examples"]
    assert change["first"]["value"] > 0
    assert change["last_over_first"]["value"] == change["last"]["value"] / change["first"]["value"]
    assert (
        change["last_over_first"]["low"] <= change["last_over_first"]["value"] <= change["last_over_first"]["high"]
    )
    table = found.tables()["training"]
    each = [v for s, p, name, v in zip(*(table[k] for k in ("step", "points", "layer", "value")), strict=True)
            if (p, name) == ("examples", "all layers")]  # fmt: skip
    assert each[0] == each[1] == change["first"]["value"]
    assert min(each) == change["least"]["value"]
    with pytest.raises(UsageError, match="the training of net is not known"):
        pk.complexity(subject, ["training"], **SMALL)


@pytest.mark.slow
def test_the_digits_network_has_a_training() -> None:
    """The last checkpoint is the kept network, and accuracy goes from chance to nearly all."""
    subject = pk.load("digits")
    found = pk.complexity(subject, ["training"], points=24, directions=1, radii=[0.1], dtype=torch.float32)
    accuracy = found.tables()["accuracy"]
    at = {(s, p): v for s, p, v in zip(*(accuracy[k] for k in ("step", "points", "value")), strict=True)}
    assert at[0, "training"] < 0.4
    assert min(at[720, "training"], at[720, "test"]) > 0.9
    assert found.about["settings"]["trained_again_to_the_same_weights"]
    last = found.numbers()["training"]["test"]["last"]
    rows = np.sort(np.random.default_rng(1).permutation(297)[:24])
    x = subject.inputs([int(k) for k in rows])[0]
    own = local_complexity(subject.model, x, [0.1], directions=1, dtype=torch.float32)
    assert (last["step"], last["value"]) == (720, own.total.double().mean())


def test_boundaries_at_initialisation_grow_with_the_neurons_whatever_the_depth() -> None:
    found = pk.complexity(classifier(), ["initialisation"], **SMALL)
    numbers = found.numbers()["initialisation"]
    assert numbers["r2"] > 0.99
    slope = numbers["slope"]
    assert 0 < slope["low"] < slope["value"] < slope["high"]
    depths = [numbers[f"depth {d}"] for d in (1, 2, 3, 4)]
    assert max(d["low"] for d in depths) < min(d["high"] for d in depths)  # the intervals have a common part
    assert numbers["exponent"]["low"] < -1 < numbers["exponent"]["high"]
    table = found.tables()["initialisation"]
    assert sorted(set(table["neurons"])) == [16, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    chosen = [k for k, what in enumerate(table["what"]) if what == "crossings"]
    x, y = (np.array([table[key][k] for k in chosen], float) for key in ("neurons", "value"))
    assert abs(np.polyfit(x, y, 1)[0] - slope["value"]) < 1e-12
    assert abs(np.corrcoef(x, y)[0, 1] ** 2 - numbers["r2"]) < 1e-12


def test_networks_at_initialisation_are_he(rng: torch.Generator) -> None:
    network = initialisation.he_network(400, 2, 100, 0.3, rng)
    first, second = network[0], network[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    with torch.no_grad():
        assert abs(float(first.weight.std()) / (2 / 100) ** 0.5 - 1) < 0.02
        assert abs(float(second.weight.std()) / (2 / 400) ** 0.5 - 1) < 0.02
        assert abs(float(torch.cat([first.bias, second.bias]).std()) / 0.3 - 1) < 0.1


def test_one_layer_has_as_many_polytopes_as_zaslavsky_says() -> None:
    """n generic planes in space: n over 0, 1, 2, 3, summed. Every polytope has a corner, and is looked at there."""
    torch.manual_seed(5)
    for n, regions in ((3, 8), (4, 15), (6, 42), (9, 130)):
        layer = nn.Linear(3, n).double()
        weight, bias = layer.weight.detach(), layer.bias.detach()
        around = torch.cartesian_prod(*[torch.tensor([-1e-7, 1e-7], dtype=torch.float64)] * 3)
        corners = [torch.linalg.solve(weight[[*c]], (around - bias[[*c]]).T).T for c in combinations(range(n), 3)]
        codes = codes_of(nn.Sequential(layer, nn.ReLU()).eval(), torch.cat(corners))
        assert len(codes.words.unique(dim=0)) == regions


def test_transitions_tell_paths_apart() -> None:
    """One layer of parallel boundaries across the first axis: only movement along it crosses any."""
    layer = nn.Linear(6, 64)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(6)[:1].expand(64, 6))
        layer.bias.copy_(torch.linspace(-4, 4, 64))
    subject = pk.Subject(
        nn.Sequential(layer, nn.ReLU(), nn.Linear(64, 3)), "planes", "of a test", torch.zeros(1, 6), Noise((6,), 0)
    )
    found = pk.complexity(subject, ["transitions"], points=20, seed=2)
    numbers = found.numbers()["transitions"]["trained"]
    crossed = numbers["paths"]["any points"]
    assert (
        0 < crossed["low"] < crossed["high"] < 63 / 8
    )  # 63 gaps of 8 / 63, and no path goes straight along the axis
    jacobian = numbers["jacobians"]["output"]["examples"]
    assert jacobian["low"] < jacobian["value"] < jacobian["high"]
    assert set(found.tables()) == {"slices", "paths", "jacobians"}
    assert set(found.tables()["jacobians"]["output"]) == {"output"}  # no classes, so no probabilities


# --- out of distribution -------------------------------------------------------------------------


def coded(bits: Tensor) -> Codes:
    layout = Layout.of([Field("a", 0, "relu", (bits.shape[1],), (0.0,), 0)])
    return Codes(pack.signs(bits.float())[0], layout)


def test_the_familiar_is_what_training_codes_have(rng: torch.Generator) -> None:
    train = torch.rand(9, 75, generator=rng) < torch.linspace(0, 1, 75)
    other = torch.rand(14, 75, generator=rng) < 0.5
    familiar = Familiar.of(coded(train))
    assert familiar.constant == sum(len(set(column.tolist())) == 1 for column in train.T) > 0
    nearest = [min(int((row ^ t).sum()) for t in train) for row in other]
    assert familiar.distances(coded(other)).tolist() == nearest
    unseen = [sum(bit not in column for bit, column in zip(row, train.T.tolist(), strict=True)) / 75
              for row in other.tolist()]  # fmt: skip
    assert familiar.unseen(coded(other)).tolist() == unseen
    assert float(familiar.unseen(coded(train)).sum()) == 0
    with pytest.raises(UsageError, match="without training points"):
        Familiar.of(coded(train[:0]))


def test_densities_are_means_over_vertices() -> None:
    subject = classifier()
    tail = Tail(subject.model, subject.sample).to(torch.float64)
    x, axes = torch.randn(7, 6, dtype=torch.float64), frame(4, 6)
    codes = codes_of(tail, x)
    found = densities(tail, x, codes, axes, 0.3)
    for k in range(7):
        around = codes_of(tail, vertices(x[k : k + 1], axes, 0.3)[0])
        assert abs(float(found[k]) - float(around.distances(codes[k]).double().mean()) / 0.3) < 1e-12


def by_hand(act: type[nn.Module]) -> float:
    """The area under the ROC curve of the code distance at scale 5: pairs of points in order."""
    subject = classifier(act)
    rows = np.sort(np.random.default_rng(0).permutation(1000)[:120])
    x = torch.stack([subject.examples.at(int(k)).input for k in rows]).double()
    tail = Tail(subject.model, subject.sample).to(torch.float64)
    train = codes_of(tail, x[::2]).bits()
    usual, scaled = (
        [min(int((row ^ t).sum()) for t in train) for row in codes_of(tail, scale * x[1::2][:40]).bits()]
        for scale in (1, 5)
    )
    return float(np.mean([(b > a) + (b == a) / 2 for a in usual for b in scaled]))


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
def test_scaled_points_are_told_by_their_scores(act: type[nn.Module]) -> None:
    found = pk.complexity(classifier(act), ["outliers"], **SMALL)
    numbers = found.numbers()["outliers"]
    areas = numbers["auroc"]
    assert set(areas) == {"distance", "unseen", "density", "euclidean", "confidence"}
    assert set(areas["unseen"]) == {f"scaled {s}" for s in ("0.2", "0.5", "2", "5")} | {
        f"noise {s}" for s in ("0.1", "0.3", "1")
    }
    assert areas["euclidean"]["scaled 5"]["value"] > 0.99
    assert abs(areas["distance"]["scaled 5"]["value"] - by_hand(act)) < 1e-12
    for score in areas.values():
        for area in score.values():
            assert 0 <= area["low"] <= area["value"] <= area["high"] <= 1


# --- folder and command --------------------------------------------------------------------------


def test_a_folder_holds_the_numbers_and_a_seed_gives_the_same(tmp_path: Path) -> None:
    subject = classifier()
    parts = ["local", "transitions", "outliers"]
    found = pk.complexity(subject, parts, **SMALL, seed=1)
    files = [p.name for p in found.save(tmp_path / "a")]
    assert files == ["local.csv", "slices.csv", "paths.csv", "jacobians.csv", "outliers.csv", "outlier_scores.csv",
                     "local.png", "transitions.png", "outliers.png", "complexity.json"]  # fmt: skip
    whole = json.loads((tmp_path / "a" / "complexity.json").read_text())
    assert whole["schema"] == "polykern-complexity/1"
    assert whole["numbers"]["local"] == found.numbers()["local"]
    with (tmp_path / "a" / "outliers.csv").open(newline="") as f:
        for row in csv.DictReader(f):
            area = whole["numbers"]["outliers"]["auroc"][row["score"]][row["condition"]]
            assert float(row["value"]) == area["value"]
    again = pk.complexity(subject, parts, **SMALL, seed=1)
    assert again.numbers() == found.numbers()
    assert pk.complexity(subject, parts, **SMALL, seed=2).numbers() != found.numbers()


def test_the_command_writes_a_folder(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["complexity", "--model", f"{nets}:net", "--points", "8", "--directions", "2", "--out", str(out)]
    assert run([*words, "--part", "local", "--part", "transitions", "--radius", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "polykern-findings/1"
    assert told["found"]["schema"] == "polykern-complexity/1"
    assert set(told["files"]) == names(out)
    assert json.loads((out / "complexity.json").read_text())["numbers"] == told["found"]["numbers"]
    assert run([*words, "--part", "outliers", "--overwrite", "--no-figures", "--quiet"]) == 0
    assert "AUROC of unseen" in capsys.readouterr().out
    assert run([*words, "--part", "local"]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--radius", "0"], "--radius must be positive, got 0"),
        (["--directions", "7"], "7 orthonormal directions in a space of 6 dimensions"),
        (["--part", "depth"], "--part has no 'depth'"),
        (["--part", "training"], "is not known"),
        (["--points", "2"], "2 points of each set are too few"),
        (["--dtype", "bfloat16"], "--dtype has no 'bfloat16'"),
    ],
)
def test_bad_words_are_refused(
    nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(["complexity", "--model", f"{nets}:net", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tokens_are_no_points() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer = nn.Embedding(9, 4), nn.Linear(4, 5)

        def forward(self, tokens: Tensor) -> Tensor:
            return torch.relu(self.layer(self.table(tokens))).mean(1)

    class Tokens(Noise):
        def at(self, index: int) -> Any:
            return super().at(index)._replace(input=torch.arange(3) + index % 5)

    subject = pk.Subject(Reader(), "reader", "of a test", torch.zeros(1, 3, dtype=torch.int64), Tokens((3,), 0))
    with pytest.raises(UsageError, match="are int64 numbers\nbetween tokens there are no points"):
        pk.complexity(subject, ["local"], **SMALL)
    found = pk.complexity(subject, ["local"], start="layer", **SMALL)
    assert found.about["start"] == "layer"
