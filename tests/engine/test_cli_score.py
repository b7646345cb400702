"""`polykern score` and what it stands on: baselines, another clustering, parts of the rows, a blind test."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.cli.app import run
from polykern.clustering.compute import cluster
from polykern.clustering.reachability import reachability
from polykern.clustering.result import Clusters
from polykern.clustering.stability import recipe_of, resampled
from polykern.errors import UsageError
from polykern.store import Store
from tests.engine.stores import planted, written

ROWS = 400


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Clusters:
    folder = tmp_path_factory.mktemp("score")
    store = written(folder / "some.codes", planted(ROWS)[0])
    (clusters,) = cluster(store, folder / "some.clusters", min_cluster_size=12, min_samples=4)
    return clusters


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "whose.npy"
    np.save(path, planted(ROWS)[1])
    return path


@pytest.fixture
def asked(found: Clusters, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    def ask(*words: str) -> tuple[int, dict[str, Any], str]:
        code = run(["score", str(found.folder), "--json", *words])
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    return ask


def test_planted_classes_score_far_above_chance(asked: Callable[..., Any], classes: Path) -> None:
    code, said, _ = asked("--by", str(classes), "--repeats", "50")
    purity = said["scores"]["mean_purity"]
    assert (code, said["schema"]) == (0, "polykern-score/1")
    assert purity["interval"]["low"] > 0.95
    assert all(chance["high"] < 0.5 for chance in purity["baselines"].values())


def test_a_clustering_agrees_with_itself(asked: Callable[..., Any], found: Clusters, classes: Path) -> None:
    _, said, _ = asked("--by", str(classes), "--repeats", "2", "--against", str(found.folder))
    assert said["against"]["all_rows"]["ari"] == 1.0


def test_planted_clusters_come_again(asked: Callable[..., Any], classes: Path) -> None:
    _, said, _ = asked("--by", str(classes), "--repeats", "2", "--parts", "3")
    assert min(said["stability"]["mean"]) > 0.8
    assert said["stability"]["shared"] == [320] * 3


def test_the_parts_are_those_of_the_seed(found: Clusters) -> None:
    recipe = recipe_of(found, Store.open(found.store_path))
    one, same, other = (resampled(found, recipe, 3, share=0.17, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.jaccard, same.jaccard)
    assert not np.array_equal(one.jaccard, other.jaccard)


def test_the_recipe_of_a_clustering_makes_it_again(found: Clusters) -> None:
    recipe = recipe_of(found, Store.open(found.store_path))
    assert recipe.config([4], [12]) == found.about["config"]
    tree = reachability(recipe.rows(), recipe.metric, 4).tree
    assert tree.total == found.about["tree"]["weight"]


def test_a_blind_test_is_written_with_its_answers(asked: Callable[..., Any], classes: Path, tmp_path: Path) -> None:
    _, said, _ = asked("--by", str(classes), "--repeats", "2", "--intruders", str(tmp_path / "test"))
    with Path(said["questions"]).open(newline="") as file:
        questions = list(csv.reader(file))[1:]
    with (tmp_path / "test" / "answers.csv").open(newline="") as file:
        answers = list(csv.reader(file))[1:]
    assert len(questions) == len(answers) == 4
    assert "repeats = 2  # command line" in (tmp_path / "test" / "settings.toml").read_text()


def test_a_blind_test_is_graded(asked: Callable[..., Any], classes: Path, tmp_path: Path) -> None:
    words = "--by", str(classes), "--repeats", "2"
    asked(*words, "--intruders", str(tmp_path / "test"))
    graded = *words, "--graded", str(tmp_path / "test")
    code, said, _ = asked(*graded)
    assert (code, said["what"]) == (2, f"none of the 4 questions of {tmp_path / 'test'} is answered")
    path = tmp_path / "test" / "questions.csv"
    with path.open(newline="") as file:
        lines = list(csv.reader(file))
    with (tmp_path / "test" / "answers.csv").open(newline="") as file:
        right = [row["intruder"] for row in csv.DictReader(file)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([lines[0], *([*row[:-1], k] for row, k in zip(lines[1:], right, strict=True))])
    code, said, _ = asked(*graded)
    assert code == 0
    assert said["reader"] == {
        "asked": 4, "answered": 4, "right": 4, "share": 1.0,
        "chance": pytest.approx(1 / 6), "p": pytest.approx(6**-4),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--by", "mood"), "no column is called 'mood'"),
        (("--by", "nowhere.npy"), "nowhere.npy cannot be read"),
        (("--by", "doc", "--share", "nan"), "--share must be finite"),
        (("--by", "doc", "--parts", "2", "--share", "1.5"), "a share of 1.5 of 400 rows"),
        (("--by", "doc", "--parts", "2", "--share", "0.01"), "a share of 0.01 of 400 rows"),
        (("--by", "doc", "--intruders", "x", "--members", "399"), "no question can be asked"),
        (("--by", "doc", "--graded", "nowhere"), "cannot be read as the answers of a blind test"),
    ],
)
def test_what_does_not_fit_is_named(asked: Callable[..., Any], words: tuple[str, ...], says: str) -> None:
    code, said, _ = asked("--repeats", "2", *words)
    assert code == 2
    assert says in said["what"]


def test_another_store_is_refused(found: Clusters, tmp_path: Path) -> None:
    other = written(tmp_path / "other.codes", planted(ROWS, seed=1)[0])
    with pytest.raises(UsageError, match="was not made from"):
        recipe_of(found, other)


def test_classes_of_the_wrong_length_are_refused(asked: Callable[..., Any], tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros(3, np.int64))
    code, said, _ = asked("--by", str(tmp_path / "few.npy"))
    assert code == 2
    assert "no class for each of 400 rows" in said["what"]
