"""A blind test for people and models: of k + 1 rows, k are of one cluster; which one is not?

Chang, Boyd-Graber, Gerrish, Wang, Blei 2009, "Reading Tea Leaves: How Humans Interpret Topic Models". A reader who
sees nothing in the clusters is right once in k + 1; one who is right much more often sees what they have in common.
The questions and the answers are files of their own, so that the questions can be given away.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from polykern.errors import UsageError
from polykern.scores.tables import Integers, labelling
from polykern.store.disk import make_folder, put

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet runs text that begins with one of these


@dataclass(frozen=True)
class Question:
    """One question.

    cluster   of all rows but one
    rows      in the order shown
    intruder  place of the row of another cluster among them, from 0
    other     the cluster that it is of
    """

    cluster: int
    rows: tuple[int, ...]
    intruder: int
    other: int


@dataclass(frozen=True)
class Grade:
    """What a reader's answers are worth.

    asked     questions
    answered  of them
    right     of those
    chance    share that guessing gets right
    p         probability that guessing gets as many of the answers right, or more
    """

    asked: int
    answered: int
    right: int
    chance: float
    p: float

    @property
    def share(self) -> float:
        """Right of answered; nan when nothing is."""
        return self.right / self.answered if self.answered else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        share = self.share if self.answered else None
        return {name: getattr(self, name) for name in ("asked", "answered", "right", "chance", "p")} | {
            "share": share
        }


def questions(
    labels: ArrayLike,
    k: int = 5,
    *,
    each: int = 1,
    distance: ArrayLike | None = None,
    among: int | None = None,
    seed: int = 0,
) -> list[Question]:
    """Questions about every cluster of at least k rows.

    labels    int (n)   -1 is noise; at least two clusters
    k         rows of the cluster in a question
    each      questions a cluster
    distance  float (n)   of each row from the middle of its cluster
    among     members and intruders are drawn from the `among` rows of their clusters that are nearest by `distance`
              (of equal ones the smallest row); None: from all
    seed      the same seed gives the same questions

    The intruder's cluster is drawn evenly from the others, then a row of it. Questions are in random order.
    Errors: UsageError when there is nothing to ask or the arguments do not fit.
    """
    mine = labelling(labels)
    if k < 2 or each < 1 or (among is not None and among < k):
        raise UsageError(f"a question needs k >= 2, each >= 1 and among >= k, got {k}, {each}, {among}")
    if among is not None and distance is None:
        raise UsageError("among needs the distances that say who is near")
    reach = np.zeros(len(mine)) if distance is None else np.asarray(distance, np.float64)
    if reach.shape != mine.shape:
        raise UsageError(f"{len(reach)} distances for {len(mine)} rows")
    order = np.lexsort((np.arange(len(mine)), reach, mine))[int((mine < 0).sum()) :]
    clusters, starts = np.unique(mine[order], return_index=True)
    members = [part[:among] for part in np.split(order, starts[1:])] if len(order) else []
    large = [c for c, rows in enumerate(members) if len(rows) >= k]
    if len(members) < 2 or not large:
        raise UsageError(f"no question can be asked of {len(members)} clusters with {k} rows of one in each")
    rng = np.random.default_rng(seed)
    made = [_question(clusters, members, c, k, rng) for c in large for _ in range(each)]
    return [made[i] for i in rng.permutation(len(made))]


def write(
    folder: Path,
    asked: Sequence[Question],
    describe: Callable[[int], str],
    *,
    title: str = "Which one does not belong?",
) -> tuple[Path, Path]:
    """The questions as files, and the answers as others.

    folder    made when it is not there: questions.csv, questions.json, answers.csv, answers.json
    asked     of `questions`
    describe  what a person sees of a row: text, or the name of a picture
    title     of questions.json
    returns   the CSV of the questions, the CSV of the answers

    The questions name no cluster and no row. In the CSV, text that a spreadsheet would take for a formula begins
    with an apostrophe; the JSON holds it as it is. Errors: UsageError for questions of different lengths,
    ResourceError where the folder cannot be written.
    """
    shown = {len(q.rows) for q in asked}
    if len(shown) != 1:
        raise UsageError("the questions have different numbers of rows" if shown else "there are no questions")
    options = [f"option_{i + 1}" for i in range(shown.pop())]
    texts = [[describe(row) for row in q.rows] for q in asked]
    answers = [
        {
            "question": i + 1,
            "intruder": q.intruder + 1,
            "cluster": q.cluster,
            "other": q.other,
            "rows": list(q.rows),
        }
        for i, q in enumerate(asked)
    ]
    make_folder(folder)
    entries = [{"question": i + 1, "options": some} for i, some in enumerate(texts)]
    _json(folder / "questions.json", {"title": title, "questions": entries})
    _json(folder / "answers.json", {"answers": answers})
    lines = [[str(i + 1), *map(_harmless, some), ""] for i, some in enumerate(texts)]
    _csv(folder / "questions.csv", ["question", *options, "intruder"], lines)
    told = [[str(a[name]) for name in ("question", "intruder", "cluster", "other")] for a in answers]
    _csv(folder / "answers.csv", ["question", "intruder", "cluster", "other"], told)
    return folder / "questions.csv", folder / "answers.csv"


def grade(asked: Sequence[Question], given: Sequence[int | None]) -> Grade:
    """How many answers are right.

    asked  of `questions`
    given  place of the intruder in each, from 0; None for no answer

    `p` is exact (binomial) for questions of as many options each.
    Errors: UsageError for another number of answers, or for an answer that was no option.
    """
    if len(given) != len(asked):
        raise UsageError(f"{len(given)} answers to {len(asked)} questions")
    for number, (question, answer) in enumerate(zip(asked, given, strict=True), 1):
        if answer is not None and not 0 <= answer < len(question.rows):
            raise UsageError(
                f"the answer to question {number} is option {answer + 1} of {len(question.rows)}",
                fix=f"write a number from 1 to {len(question.rows)}, or nothing",
            )
    pairs = [(q.intruder, a) for q, a in zip(asked, given, strict=True) if a is not None]
    right = sum(place == a for place, a in pairs)
    chance = float(np.mean([1 / len(q.rows) for q in asked])) if asked else float("nan")
    p = float(binom.sf(right - 1, len(pairs), chance)) if pairs else 1.0
    return Grade(len(asked), len(pairs), right, chance, p)


def read_questions(path: Path) -> list[Question]:
    """The questions of `write` with their answers, out of its answers.json.

    Errors: UsageError when the file is none of these.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["answers"]
        return [Question(a["cluster"], tuple(a["rows"]), a["intruder"] - 1, a["other"]) for a in told]
    except (OSError, ValueError, KeyError, TypeError) as reason:
        raise UsageError(
            f"{path} cannot be read as the answers of a blind test",
            why=f"{type(reason).__name__}: {reason}",
            fix="polykern score --intruders writes them beside the questions",
        ) from reason


def read_answers(path: Path) -> list[int | None]:
    """The places of the intruders in a questions.csv that a reader filled in, from 0; None where nothing is.

    Errors: UsageError when it cannot be read, a number is not one, or the questions are not in their order.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark in front
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise UsageError(f"{path} cannot be read", why=str(reason)) from reason
    found: list[int | None] = []
    for number, row in enumerate(rows, 1):
        text = (row.get("intruder") or "").strip()
        if row.get("question") != str(number) or (text and not text.isdecimal()):
            raise UsageError(
                f"line {number + 1} of {path.name} is not question {number} with the number of an option"
            )
        found.append(int(text) - 1 if text else None)
    return found


def _question(
    clusters: Integers, members: Sequence[Integers], c: int, k: int, rng: np.random.Generator
) -> Question:
    own = rng.choice(members[c], k, replace=False)
    other = int(rng.integers(len(members) - 1))
    other += other >= c
    place = int(rng.integers(k + 1))
    rows = [int(row) for row in own]
    rows.insert(place, int(rng.choice(members[other])))
    return Question(int(clusters[c]), tuple(rows), place, int(clusters[other]))


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(path: Path, value: Any) -> None:
    put(path, [(json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()])


def _csv(path: Path, header: list[str], lines: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *lines])
    put(path, [text.getvalue().encode()])
