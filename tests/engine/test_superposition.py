"""The toy model of superposition: capacities by their definition, known optima, the transition, the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import polykern as pk
from polykern.cli.app import run
from polykern.coding.toy import Toys, capacities, train
from polykern.errors import UsageError
from tests.engine.folders import told
from tests.engine.refusals import refused


def test_capacity_is_its_definition() -> None:
    w = np.random.default_rng(0).normal(size=(3, 7))
    w[:, 4] = 0
    for i, c in enumerate(capacities(w)):
        own = sum(w[k, i] ** 2 for k in range(3))
        shared = sum(sum(w[k, i] * w[k, j] for k in range(3)) ** 2 for j in range(7))
        assert c == pytest.approx(own**2 / shared if own else 0.0)


def test_capacities_of_known_arrangements() -> None:
    assert capacities(np.eye(4)) == pytest.approx(np.ones(4))
    assert capacities([[1.0, -1.0]]) == pytest.approx([0.5, 0.5])
    turns = 2 * np.pi * np.arange(5) / 5
    assert capacities([np.cos(turns), np.sin(turns)]) == pytest.approx(np.full(5, 2 / 5))  # the pentagon
    for seed in range(20):
        w = np.random.default_rng(seed).normal(size=(4, 11))
        assert capacities(w).sum() <= 4 + 1e-12


def best(toys: Toys) -> int:
    """The instance with the least loss."""
    return int(toys.loss.argmin())


def test_sparse_features_share_a_dimension_in_antipodal_pairs() -> None:
    toys = train([0.01] * 6, features=4, hidden=2, steps=1200, seed=1)
    k = best(toys)
    w = toys.weights[k]
    assert toys.lengths[k] == pytest.approx(np.ones(4), abs=0.1)
    assert toys.capacities[k] == pytest.approx(np.full(4, 0.5), abs=0.05)
    cosines = w.T @ w / np.sqrt(np.outer(toys.lengths[k], toys.lengths[k]))
    assert cosines.min(1) == pytest.approx(-np.ones(4), abs=0.02)
    assert np.sort(cosines, 1)[:, 1:3] == pytest.approx(np.zeros((4, 2)), abs=0.15)
    assert toys.loss[k] < 0.05


def test_dense_features_are_those_of_the_principal_axes() -> None:
    """All features active: the ReLU is idle, and the best map keeps the most important, of others the means."""
    decay, features, hidden = 0.7, 6, 2
    toys = train([1.0] * 3, features=features, hidden=hidden, decay=decay, steps=1500, seed=0)
    k = best(toys)
    assert toys.lengths[k] == pytest.approx([1, 1, 0, 0, 0, 0], abs=0.03)
    assert toys.weights[k].T @ toys.weights[k] == pytest.approx(np.diag([1, 1, 0, 0, 0, 0.0]), abs=0.05)
    assert toys.biases[k] == pytest.approx([0, 0, 0.5, 0.5, 0.5, 0.5], abs=0.05)
    importance = decay ** np.arange(features)
    optimum = importance[hidden:].sum() / 12 / (importance.sum() / 3)  # variance 1/12 of a mean square of 1/3
    assert toys.loss[k] == pytest.approx(optimum, rel=0.05)


def test_the_spectrum_is_that_of_hidden_rows() -> None:
    rng = np.random.default_rng(2)
    w, p = rng.normal(size=(2, 3, 5)), np.array([0.2, 1.0])
    toys = Toys(w, np.zeros((2, 5)), p, np.ones(5), np.zeros(2))
    for k in range(2):
        x = rng.random((200_000, 5)) * (rng.random((200_000, 5)) < p[k])
        sampled = np.linalg.eigvalsh(np.cov((x @ w[k].T).T))[::-1]
        assert toys.spectra[k] == pytest.approx(sampled, rel=0.03)


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    one, same, other = (train([0.5, 0.1], features=3, hidden=2, steps=20, seed=s) for s in (3, 3, 4))
    assert np.array_equal(one.weights, same.weights)
    assert not np.array_equal(one.weights, other.weights)


def test_sparsity_brings_superposition() -> None:
    found = pk.superposition([0.02, 1, 0.1], features=12, hidden=3, decay=0.8, instances=2, steps=1000)
    assert found.probabilities == [1, 0.1, 0.02]
    a_dimension = found.measures()["features_a_dimension"]
    assert a_dimension[0] == pytest.approx([1, 1], abs=0.05)
    assert (np.diff(a_dimension.mean(1)) > 0.2).all()
    assert found.begins == 0.1
    assert (np.diff(found.measures()["capacity_of_represented"].mean(1)) < 0).all()
    assert (found.measures()["capacity"] <= 3 + 1e-9).all()
    dense = found.measures()["alpha"][0]
    assert dense == pytest.approx([0, 0], abs=0.08)  # three features of one variance: a flat spectrum


def test_the_command_writes_every_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["superposition", "--probability", "1", "--probability", "0.2", "--features", "5", "--hidden", "2"]
    assert run([*words, "--instances", "2", "--steps", "30", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["found"]
    assert said == told(out / "superposition.json")
    rows = list(csv.DictReader((out / "features.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 5
    dense = [float(r["squared_length"]) for r in rows if r["probability"] == "1.0"]
    assert said["numbers"]["features_a_dimension"]["1"]["value"] == pytest.approx(sum(dense) / 2 / 2)
    assert (out / "superposition.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--probability", "0"], "above 0 and at most 1"),
        (["--probability", "0.5", "--probability", "0.5"], "take different probabilities"),
        (["--decay", "2"], "a decay in 0 .. 1"),
    ],
)
def test_what_is_no_model_is_one_line(
    words: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert what in refused(capsys, "superposition", *words, "--out", str(tmp_path / "out"))


def test_no_instances_are_refused() -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        train([], features=3, hidden=2)
