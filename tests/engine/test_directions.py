"""`pk.directions` and its command: numbers against slow references, folders that hold them, bad input refused."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import polykern as pk
from polykern.cli.app import run
from polykern.errors import UsageError
from polykern.factors import compute, concepts
from polykern.factors.concepts import steered
from polykern.factors.rows import rows_of
from polykern.models.generated import Noise
from polykern.points import codes_of
from polykern.tail import Tail
from polykern_kernels import pack
from tests.engine.folders import names

SMALL: dict[str, Any] = {"layer": "relu4", "components": 5, "permutations": 40}


@pytest.fixture(scope="module")
def digits() -> pk.Subject:
    return pk.load("digits")


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """Fewer repeats of baselines and fewer random masks than a figure takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "REPEATS", 2)
        patch.setattr(concepts, "REPEATS", 2)
        yield


@pytest.fixture(scope="module")
def found(digits: pk.Subject) -> pk.Directions:
    return pk.directions(digits, **SMALL, taus=(0.3,))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


# --- rows ---------------------------------------------------------------------------------------------


def test_rows_of_a_feature_map_are_its_places(digits: pk.Subject) -> None:
    rows = rows_of(digits, "relu3")
    inputs = torch.stack([digits.examples.at(k).input for k in range(len(digits.examples))])
    model = digits.model
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        z = model[:6](inputs)  # up to conv3
    assert rows.z.shape == (297 * 16, 64)
    for k in (0, 5, 16, 4000):
        place = divmod(int(rows.place[k]), 4)
        assert torch.allclose(
            torch.from_numpy(rows.z[k]).float(), z[rows.item[k], :, place[0], place[1]], atol=1e-5
        )
    assert (rows.item * 16 + rows.place == np.arange(297 * 16)).all()
    assert rows.classes is not None
    assert (rows.classes == np.asarray(digits.examples.targets)[rows.item]).all()
    assert torch.equal(pack.unpack(rows.codes.words, 64), torch.from_numpy(rows.z > 0))
    few = rows_of(digits, "relu3", most=100, seed=2)
    assert len(few.z) == len(few.codes) == 100
    assert (few.z == rows.z[few.item * 16 + few.place]).all()
    assert rows_of(digits).tail.layout.fields[0].name == "relu3"


def test_rows_of_tokens_are_tokens() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 2))
    subject = pk.Subject(model, "tokens", "of a test", torch.zeros(1, 3, 5), Noise((3, 5), 0))
    rows = rows_of(subject)
    first = subject.examples.at(1).input
    with torch.no_grad():
        assert rows.z[3:6] == pytest.approx(model[0](first).numpy(), abs=1e-6)
    assert rows.place[:4].tolist() == [0, 1, 2, 0]
    assert rows.classes is None
    assert (rows.values == np.maximum(rows.z, 0)).all()


# --- findings -----------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_parts(digits: pk.Subject, found: pk.Directions) -> None:
    rows = rows_of(digits, "relu4")
    labels = pk.HDBSCAN(10).fit_predict(rows.codes)
    assert (found.labels == labels).all()
    numbers = found.numbers()
    assert numbers["clusters"] == labels.max() + 1
    assert numbers["noise"] == (labels < 0).mean()
    assert [len(f.vectors) for f in found.families] == [5, 10, 128, 5]
    inside = np.flatnonzero(labels >= 0)
    for family in found.families:
        values = rows.values - (rows.values.mean(0) if family.name == "pca" else 0)
        for k in (0, len(family.vectors) - 1):
            lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(family.vectors[k])
            near = np.divide(values @ family.vectors[k], lengths, out=np.zeros(len(values)), where=lengths > 0)
            assert family.cosines[:, k] == pytest.approx(near, abs=1e-9)
            nearest = sorted(inside, key=lambda i: -family.cosines[i, k])[: round(0.01 * len(inside))]
            assert family.clustered.purity[k] == np.bincount(labels[nearest]).max() / len(nearest)
        assert family.lines
        for k, p in family.lines[:3]:
            along = values @ family.vectors[k]
            strong = [i for i in np.argsort(-along, kind="stable")[: round(0.1 * len(along))] if labels[i] >= 0]
            assert p.points == len(strong)
    for family in found.families:
        told = numbers["families"][family.name]["boundaries_and_purity_spearman"]
        purity = family.clustered.purity
        if np.ptp(purity) == 0:
            assert told is None
        else:
            ranks: Any = spearmanr(family.crossed, purity)
            assert told["value"] == pytest.approx(ranks.statistic)
    neurons = found.families[2]
    assert (neurons.crossed <= 1).all()
    assert neurons.crossed.sum() == ((rows.z.min(0) <= 0) & (rows.z.max(0) > 0)).sum()


def test_dictionaries_are_scored_on_other_examples(found: pk.Directions) -> None:
    names = [name for name, _ in found.dictionaries]
    assert names == ["boolean", "nmf", "pca", "topk", "kmeans", "kmeans, equal length"]
    unions, equal = found.dictionaries[0][1], found.dictionaries[-1][1]
    assert unions.length is not None
    assert equal.features == min(2 ** np.ceil(unions.length), 297 - 59)
    assert all(len(s.errors) == 59 for _, s in found.dictionaries)  # every fifth of 297


def test_steering_by_hand(digits: pk.Subject) -> None:
    found = steered(digits, tau=0.4, layer="relu4", seed=3)
    assert found is not None
    assert found.identity
    order = np.random.default_rng(3).permutation(297)
    first, second = order[:149], order[149:]
    target = np.asarray(digits.examples.targets)
    inputs = torch.stack([digits.examples.at(k).input for k in range(297)])
    tail = Tail(digits.model, digits.sample, select="relu4")
    bits = pack.unpack(codes_of(tail, inputs).words, 128).numpy()
    apart = bits[first][target[first] == 2].mean(0) - bits[first][target[first] != 2].mean(0)
    forced = np.flatnonzero(np.abs(apart) > 0.4)
    model = digits.model
    assert isinstance(model, nn.Sequential)
    x = inputs[second[target[second] != 2]]
    with torch.no_grad():
        z = model[:10](x)
        hidden = z.relu()
        for j in forced:
            hidden[:, j] = z[:, j] if apart[j] > 0 else 0.0
        change = (model[11](hidden) - model(x))[:, 2].mean()
    k = found.classes.index("2")
    assert found.bits[k] == len(forced)
    assert found.change[k] == pytest.approx(float(change), abs=1e-4)


def test_there_is_no_steering_without_classes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 2))
    assert steered(pk.Subject(model, "net", "of a test", torch.zeros(1, 5), Noise((5,), 0))) is None


def test_the_same_seed_gives_the_same_bytes(digits: pk.Subject, tmp_path: Path) -> None:
    how: dict[str, Any] = {**SMALL, "families": ["nmf", "random"], "seed": 4, "taus": ()}
    for name in ("a", "b"):
        pk.directions(digits, **how).save(tmp_path / name, pictures=False)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


# --- the command --------------------------------------------------------------------------------------


def test_the_command_writes_what_it_finds(
    found: pk.Directions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["directions", "--layer", "relu4", "--components", "5", "--permutations", "40", "--tau", "0.3"]
    assert run([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    about = json.loads((tmp_path / "out" / "directions.json").read_text())
    assert told["ok"]
    assert told["found"]["numbers"] == about["numbers"]
    assert about["schema"] == "polykern-directions/1"
    assert about["numbers"]["rows"] == 297
    numbers = found.numbers()
    assert about["numbers"]["families"]["nmf"]["clusters"] == numbers["families"]["nmf"]["clusters"]
    table = read(tmp_path / "out" / "directions.csv")
    nmf = [r for r in table if r["family"] == "nmf"]
    assert [float(r["purity"]) for r in nmf] == found.families[0].clustered.purity.tolist()
    assert [int(r["boundaries"]) for r in nmf] == found.families[0].crossed.tolist()
    assert [int(r["cluster"]) for r in read(tmp_path / "out" / "rows.csv")] == found.labels.tolist()
    near = read(tmp_path / "out" / "cosines-nmf.csv")
    assert [float(r["nmf2"]) for r in near] == found.families[0].cosines[:, 2].tolist()
    for name in ("directions", "purity", "boundaries", "line", "dictionaries", "steered"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
    assert names(tmp_path / "out") == set(told["files"])
    assert run([*words, "--out", str(tmp_path / "out")]) == 2  # not empty


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "relu9"], "no nonlinearity is called 'relu9'"),
        (["--layer", "relu*"], "fits 4 nonlinearities"),
        (["--layer", "relu4", "--components", "129"], "129 components of 297 rows of 128 units"),
        (["--layer", "relu4", "--components", "0"], "0 components"),
        (["--layer", "relu4", "--rows", "20", "--components", "21"], "21 components of 20 rows"),
        (["--layer", "relu4", "--min-cluster-size", "140"], "HDBSCAN finds no clusters"),
        (["--layer", "relu4", "--min-cluster-size", "300"], "min_cluster_size 300 of 297 rows"),
        (["--family", "ica"], "--family has no 'ica'"),
        (["--selection", "best"], "--selection has no 'best'"),
        (["--backend", "cuml"], "--backend has no 'cuml'"),
        (["--top", "2"], "--top is a share"),
        (["--tau", "1.5"], "--tau is a difference"),
        (["--permutations", "0"], "--permutations must be positive"),
    ],
)
def test_bad_input_is_refused_in_a_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["directions", "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert not (tmp_path / "out").exists()


def test_bad_calls_are_refused(digits: pk.Subject) -> None:
    with pytest.raises(UsageError, match="no family of directions 'ica'"):
        pk.directions(digits, families=["ica"])
    with pytest.raises(UsageError, match="no family of directions"):
        pk.directions(digits, families=[])
    with pytest.raises(UsageError, match="no backend"):
        pk.directions(digits, "relu4", components=3, backend="cuml")
    broken: list[dict[str, Any]] = [{"top": 0.0}, {"top": 1.5}, {"permutations": 0}, {"rows": 0}]
    for how in broken:
        with pytest.raises(UsageError, match="take a share in 0"):
            pk.directions(digits, "relu4", **how)


def test_torch_factorises_by_name(digits: pk.Subject) -> None:
    how: dict[str, Any] = {**SMALL, "families": ["nmf"], "dictionaries": False, "taus": ()}
    one, other = (pk.directions(digits, **how, backend=b).families[0] for b in ("sklearn", "torch"))
    assert other.told["backend"] == "torch"
    assert other.told["unexplained"] <= 1.01 * one.told["unexplained"]
