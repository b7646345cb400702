"""Intruder tests: one row of another cluster in each question, answers apart, hostile text inert, grades."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from polykern.errors import ResourceError, UsageError
from polykern.scores import intruders

LABELS = np.repeat([0, 1, 2, -1], [12, 6, 3, 20])


def test_every_question_has_one_intruder() -> None:
    asked = intruders.questions(LABELS, 4, each=3)
    assert sorted(q.cluster for q in asked) == [0] * 3 + [1] * 3  # the third is too small to be asked about
    for q in asked:
        kinds = LABELS[list(q.rows)]
        assert len(set(q.rows)) == 5
        assert kinds[q.intruder] == q.other != q.cluster
        assert (np.delete(kinds, q.intruder) == q.cluster).all()
    assert {q.other for q in asked} <= {0, 1, 2}
    many = intruders.questions(LABELS, 4, each=100)
    assert {q.intruder for q in many} == set(range(5))
    assert {q.other for q in many if q.cluster == 0} == {1, 2}


def test_seeds() -> None:
    assert intruders.questions(LABELS, 4, seed=5) == intruders.questions(LABELS, 4, seed=5)
    assert intruders.questions(LABELS, 4, seed=5) != intruders.questions(LABELS, 4, seed=6)


def test_the_nearest_are_shown() -> None:
    distance = np.arange(len(LABELS))[::-1]
    asked = intruders.questions(LABELS, 3, each=20, distance=distance, among=4)
    last = {0: set(range(8, 12)), 1: set(range(14, 18)), 2: set(range(18, 21))}
    assert all(row in last[int(LABELS[row])] for q in asked for row in q.rows)


def test_the_files_keep_the_answers_apart(tmp_path: Path) -> None:
    asked = intruders.questions(LABELS, 4, each=2)
    texts = [f"row {i}" for i in range(len(LABELS))]
    questions, answers = intruders.write(tmp_path / "test", asked, lambda row: texts[row])
    assert sorted(p.name for p in (tmp_path / "test").iterdir()) == [
        "answers.csv", "answers.json", "questions.csv", "questions.json",
    ]  # fmt: skip
    with questions.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["question", *(f"option_{i}" for i in range(1, 6)), "intruder"]
    assert [[row[f"option_{i}"] for i in range(1, 6)] for row in rows] == [
        [texts[r] for r in q.rows] for q in asked
    ]
    assert {row["intruder"] for row in rows} == {""}
    shown = json.loads((tmp_path / "test" / "questions.json").read_text())
    assert [q["options"] for q in shown["questions"]] == [[texts[r] for r in q.rows] for q in asked]
    assert "cluster" not in json.dumps(shown)
    told = json.loads((tmp_path / "test" / "answers.json").read_text())["answers"]
    assert [a["intruder"] for a in told] == [q.intruder + 1 for q in asked]
    assert [tuple(a["rows"]) for a in told] == [q.rows for q in asked]
    with answers.open(newline="", encoding="utf-8") as file:
        assert [int(row["intruder"]) - 1 for row in csv.DictReader(file)] == [q.intruder for q in asked]


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "\rx", '"=x', "a,b\nc", "é\u202e", ""])
def test_hostile_text_is_text(tmp_path: Path, text: str) -> None:
    asked = intruders.questions(LABELS, 4)
    questions, _ = intruders.write(tmp_path, asked, lambda row: text)
    with questions.open(newline="", encoding="utf-8") as file:
        cell = next(csv.DictReader(file))["option_1"]
    assert cell.removeprefix("'") == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert (
        json.loads((tmp_path / "questions.json").read_text(encoding="utf-8"))["questions"][0]["options"][0] == text
    )


def test_answers_are_read_and_graded(tmp_path: Path) -> None:
    asked = intruders.questions(LABELS, 4, each=2)
    questions, _ = intruders.write(tmp_path, asked, str)
    assert intruders.read_answers(questions) == [None] * 4
    with questions.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    for line, place in zip(lines[1:], (asked[0].intruder, (asked[1].intruder + 1) % 5, None), strict=False):
        line[-1] = "" if place is None else f" {place + 1} "
    with questions.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    given = intruders.read_answers(questions)
    questions.write_bytes(b"\xef\xbb\xbf" + questions.read_bytes())  # as a spreadsheet saves it
    assert intruders.read_answers(questions) == given
    grade = intruders.grade(asked, given)
    assert (grade.asked, grade.answered, grade.right, grade.share, grade.chance) == (4, 2, 1, 0.5, 0.2)
    assert grade.p == pytest.approx(1 - 0.8**2)  # one right or two
    assert intruders.grade(intruders.read_questions(tmp_path / "answers.json"), [None] * 4).p == 1
    assert intruders.read_questions(tmp_path / "answers.json") == asked
    assert grade.as_dict()["share"] == 0.5
    assert intruders.grade(asked, [None] * 4).as_dict()["share"] is None
    questions.write_text("question,intruder\n1,what\n")
    with pytest.raises(UsageError, match=r"line 2 of questions.csv is not question 1"):
        intruders.read_answers(questions)
    with pytest.raises(UsageError, match=r"questions.csv cannot be read as the answers of a blind test"):
        intruders.read_questions(questions)
    with pytest.raises(UsageError, match=r"none.csv cannot be read"):
        intruders.read_answers(tmp_path / "none.csv")


def test_guessing_gets_the_share_of_chance() -> None:
    asked = intruders.questions(LABELS, 4, each=2000)
    guesses = np.random.default_rng(1).integers(0, 5, len(asked)).tolist()
    grade = intruders.grade(asked, guesses)
    assert abs(grade.share - grade.chance) < 4 * np.sqrt(0.16 / len(asked))


def test_messages(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no question can be asked of 1 clusters with 2 rows of one in each"):
        intruders.questions([0, 0, 0, -1], 2)
    with pytest.raises(UsageError, match="no question can be asked of 0 clusters"):
        intruders.questions([-1, -1], 2)
    with pytest.raises(UsageError, match="a question needs k >= 2"):
        intruders.questions(LABELS, 1)
    with pytest.raises(UsageError, match="among needs the distances"):
        intruders.questions(LABELS, 3, among=5)
    with pytest.raises(UsageError, match="2 distances for 41 rows"):
        intruders.questions(LABELS, 3, distance=[1, 2])
    asked = intruders.questions(LABELS, 4)
    with pytest.raises(UsageError, match="1 answers to 2 questions"):
        intruders.grade(asked, [0])
    with pytest.raises(UsageError, match="the answer to question 2 is option 6 of 5"):
        intruders.grade(asked, [0, 5])
    with pytest.raises(UsageError, match="there are no questions"):
        intruders.write(tmp_path, [], str)
    with pytest.raises(UsageError, match="different numbers of rows"):
        intruders.write(tmp_path, asked + intruders.questions(LABELS, 3), str)
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="file cannot be written"):
        intruders.write(tmp_path / "file", asked, str)
