"""Knock-outs of planted copies, distances of known words, networks trained with dropout, and the command."""

import csv
import json
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import polykern as pk
from polykern.cli.app import run
from polykern.coding import knockout
from polykern.coding.classes import class_codes
from polykern.coding.training import KINDS, of_output
from polykern.errors import UsageError
from polykern.models import digits
from polykern.spectra import fit
from tests.engine.folders import told
from tests.engine.refusals import refused

CLASSES = 10


def copies(number: int) -> knockout.Score:
    """Accuracy of a read-out whose ten classes have that many neurons each, all of which say the same."""
    code = torch.eye(CLASSES).repeat(1, number)
    read = code.T  # (units, classes)

    def score(mask: Tensor) -> float:
        return of_output(code * mask @ read, torch.arange(CLASSES))

    return score


# --- knock-outs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_class_is_lost_with_the_last_of_its_copies(number: int) -> None:
    """Expected: all copies of a class are among the failed ones; class 0 is guessed when nothing is left of it."""
    units, repeats = CLASSES * number, 600
    found = knockout.curves(copies(number), units, repeats=repeats)
    for k, share in enumerate(knockout.SHARES):
        failed = round(share * units)
        lost = comb(units - number, failed - number) / comb(units, failed) if failed >= number else 0.0
        expected = 1 - (CLASSES - 1) / CLASSES * lost
        assert found[:, k].mean() == pytest.approx(expected, abs=4 * 0.5 / (CLASSES * repeats) ** 0.5)
    assert (np.diff(found, axis=1) <= 0).all()  # the failed neurons of a smaller share fail first


def test_copies_make_a_code_robust() -> None:
    areas = [knockout.area(knockout.curves(copies(k), CLASSES * k, repeats=50)).mean() for k in (1, 2, 4, 8)]
    assert areas == sorted(areas)
    assert areas[0] == pytest.approx(0.55, abs=0.01)  # one in ten is guessed right when all is lost


def test_the_area_is_that_under_the_lines() -> None:
    assert knockout.area(np.ones(11)) == pytest.approx(1)
    assert knockout.area(1 - np.array(knockout.SHARES)) == pytest.approx(0.5)
    both = knockout.area([np.ones(11), np.zeros(11)])
    assert both.tolist() == pytest.approx([1, 0])


def test_a_reconstruction_worse_than_the_mean_explains_nothing() -> None:
    truth = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    assert of_output(truth, truth) == 1
    assert of_output(truth.mean(0).expand(2, 2), truth) == 0
    assert of_output(-5 * truth, truth) == 0
    assert of_output(truth + 0.5, truth) == pytest.approx(1 - 4 * 0.25 / 4)


# --- words of classes ----------------------------------------------------------------------------


def test_the_words_of_planted_classes() -> None:
    words = np.array([[0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    classes = np.repeat([3, 5, 9], 5)
    bits = np.repeat(words, 5, 0)
    bits[[0, 5, 10], [5, 0, 2]] ^= True  # one bit of one code of each class: the majority does not mind
    tested, truth = words.copy(), np.array([3, 5, 9])
    tested[0, 0] ^= True
    found = class_codes(bits, classes, tested, truth)
    assert found.least == 3
    assert found.mean == pytest.approx((3 + 6 + 3) / 3)
    assert found.radius == pytest.approx(1 / 3)
    assert found.decoded == 1
    tested[0, 1] ^= True  # two of three bits towards the word of class 5
    assert class_codes(bits, classes, tested, truth).decoded == pytest.approx(2 / 3)


def test_codes_without_classes_are_refused() -> None:
    bits = np.zeros((4, 3), bool)
    with pytest.raises(UsageError, match="no distance between classes"):
        class_codes(bits, np.zeros(4, np.int64), bits, np.zeros(4, np.int64))
    with pytest.raises(UsageError, match="no distance between classes"):
        class_codes(bits, np.array([0, 0, 1, 1]), bits, np.array([0, 1, 2, 0]))


# --- networks ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> pk.Redundancy:
    return pk.redundancy(dropouts=[0.5, 0], seeds=2, epochs=4, repeats=5)


def test_numbers_of_a_network_are_those_of_its_own_training(found: pk.Redundancy) -> None:
    network = next(n for n in found.networks if (n.dropout, n.seed) == (0.5, 1))
    last = digits.steps(4)
    model = digits.network()
    model.load_state_dict(digits.checkpoints(1, [last], 4, dropout=0.5)[last])
    images, labels = digits.load()
    with torch.no_grad():
        code = model[:11](images)
        right = model.eval()(images)[digits.TRAIN :].argmax(1).eq(labels[digits.TRAIN :])
    assert network.last == last
    assert network.score == pytest.approx(float(right.double().mean()))
    spectrum = network.spectra[last, "relu4"]
    assert spectrum is not None
    want = np.linalg.eigvalsh(np.cov(code.double().numpy().T, ddof=0))[::-1]
    assert np.abs(spectrum.values - want).max() < 1e-5 * want[0]
    assert found.alpha(network) == pytest.approx(fit(want, *KINDS["digits"].ranks).alpha, abs=1e-4)
    assert spectrum.rows == 1797 >= 10 * 128
    bits = (code > 0).numpy()
    counted = class_codes(bits[:1500], labels[:1500].numpy(), bits[1500:], labels[1500:].numpy())
    assert network.classes == counted


def test_dropout_makes_the_code_robust(found: pk.Redundancy) -> None:
    growth = found.growth("area")
    assert growth == (2, 2, 2)
    areas = found.measures()["area"]
    assert areas.shape == (2, 2)
    assert found.numbers()["area"]["change"]["0.5"]["value"] == pytest.approx((areas[1] - areas[0]).mean())
    assert found.dropouts == [0, 0.5]


def test_dropout_of_nothing_is_the_usual_training() -> None:
    plain, none, half = (
        digits.checkpoints(0, [24], 1, **how)[24] for how in ({}, {"dropout": 0.0}, {"dropout": 0.5})
    )
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    assert plain.keys() == half.keys()
    assert not all(torch.equal(plain[name], half[name]) for name in plain)


def test_the_command_studies_the_autoencoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["redundancy", "--model", "autoencoder", "--dropout", "0", "--dropout", "0.3", "--seeds", "1"]
    assert run([*words, "--epochs", "2", "--repeats", "2", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["found"]
    assert said == told(out / "redundancy.json")
    assert said["schema"] == "polykern-redundancy/1"
    rows = list(csv.DictReader((out / "exponents.csv").read_text().splitlines()))
    assert {(r["step"], r["layer"]) for r in rows} == {
        (step, layer) for step in ("0", "30", "48") for layer in KINDS["autoencoder"].layers
    }
    networks = list(csv.DictReader((out / "networks.csv").read_text().splitlines()))
    assert [float(n["area"]) for n in networks] == [n["area"]["value"] for n in said["numbers"]["networks"]]
    curve = [float(r["score"]) for r in csv.DictReader((out / "knockouts.csv").read_text().splitlines())]
    areas = knockout.area(np.array(curve).reshape(2, 2, 11)).mean(1)
    assert areas.tolist() == pytest.approx([float(n["area"]) for n in networks])
    assert {p.name for p in out.glob("*.png")} == {"redundancy.png", "layers.png"}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--dropout", "1"], "dropout of"),
        (["--dropout", "0.5", "--dropout", "0.5"], "dropout of"),
        (["--model", "googlenet"], "redundancy is not studied on 'googlenet'"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    words: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert what in refused(capsys, "redundancy", *words, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
