"""Folders of findings: every number is there, the JSON comes last, equal input gives equal bytes."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import polykern as pk
from polykern.errors import UsageError
from polykern.findings import Findings, Picture, Table, provenance
from polykern.models.untrained import untrained
from polykern.report import charts
from polykern.tail import Tail


@dataclass(frozen=True, eq=False)
class Lengths(Findings):
    """Of a test."""

    x: Any
    SCHEMA: ClassVar[str] = "polykern-lengths/1"

    def numbers(self) -> dict[str, Any]:
        return {"mean": self.x.mean(), "nothing": float("nan"), "most": np.int64(3)}

    def tables(self) -> dict[str, Table]:
        return {"lengths": {"k": np.arange(len(self.x)), "x": self.x, "who": ["a,\n"] * len(self.x)}}

    def pictures(self) -> dict[str, Picture]:
        def draw(figure: Any) -> None:
            left, right = charts.panels(figure, ["one", "$two"], columns=2, heading="Lengths", note="L2")
            charts.line(left, range(len(self.x)), self.x, low=self.x - 1, high=self.x + 1, label="x")
            charts.named(left, "k", "length (L2)")
            charts.legend(left)
            both = np.array([[1.0, 2.0]])
            charts.bars(right, ["all"], ["a", "b"], both, both - 0.1, both + 0.1)

        return {"lengths": Picture(900, 420, draw)}


@pytest.fixture(scope="module")
def found() -> Lengths:
    subject = pk.load("digits")
    return Lengths(
        provenance(subject, Tail(subject.model, subject.sample), seed=0, pairs=3), np.array([0.1, 1 / 3])
    )


def test_a_folder_holds_every_number(found: Lengths, tmp_path: Path) -> None:
    files = found.save(tmp_path / "out")
    assert [p.name for p in files] == ["lengths.csv", "lengths.png", "lengths.json"]
    with files[0].open(newline="") as f:
        head, *rows = csv.reader(f)
    assert head == ["k", "x", "who"]
    assert [float(r[1]) for r in rows] == found.x.tolist()
    assert rows[0][2] == "a,\n"
    said = json.loads(files[2].read_text())
    assert said["schema"] == "polykern-lengths/1"
    assert said["numbers"] == {"mean": found.x.mean(), "nothing": None, "most": 3}
    assert (said["model"]["name"], said["seed"], said["bits"]) == ("digits", 0, 5248)


def test_equal_findings_give_equal_bytes(found: Lengths, tmp_path: Path) -> None:
    first, second = (found.save(tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_what_is_there_is_not_overwritten(found: Lengths, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(UsageError, match="is not empty"):
        found.save(tmp_path)
    assert found.save(tmp_path, overwrite=True, pictures=False)
    assert (tmp_path / "mine").read_text() == "kept"


def test_a_figure_there_is_not(found: Lengths, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of lengths"):
        found.plot(tmp_path / "a.png", "widths")
    with pytest.raises(UsageError, match=r"end the name with \.png"):
        found.plot(tmp_path / "a.pdf")


def test_an_untrained_twin_has_other_weights_and_leaves_the_model_alone() -> None:
    subject = pk.load("digits")
    twin, again, other = (untrained(subject, seed=s) for s in (0, 0, 1))
    assert twin.weights == again.weights != other.weights
    assert pk.load("digits").weights == subject.weights != twin.weights
    with pytest.raises(UsageError, match="no BatchNorm"):
        untrained(subject, calibrated=True)
