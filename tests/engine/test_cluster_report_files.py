"""The report of a clustering: which files it writes, what it refuses, hostile text, photos, scores, the command."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from polykern.cli import report as command
from polykern.cli.app import run
from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.report import clusters as report
from polykern.report.clusters import page, photos, scores, tokens
from tests.engine import clustered
from tests.engine.reported import contents, embedded, made, part, planted, records


def test_nothing_else_is_written(tmp_path: Path) -> None:
    result, of = made(tmp_path, planted())
    before = contents(tmp_path)
    assert report.write(result, of, tmp_path / "deep" / "out") == tmp_path / "deep" / "out" / "index.html"
    after = {k: v for k, v in contents(tmp_path).items() if not k.startswith("deep/out/")}
    assert after == before
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    result, of = made(tmp_path, planted())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="other than a report"):
        report.write(result, of, tmp_path / "out")
    assert contents(tmp_path / "out") == {"index.html": b"mine"}


@pytest.mark.parametrize("stage", ["_records", "_describe", "_page"])
def test_an_interrupted_report_is_none(tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill would leave behind has no index.html, and what a Ctrl-C leaves is nothing."""
    result, of = made(tmp_path, planted())
    report.write(result, of, tmp_path / "out")
    whole = contents(tmp_path / "out")
    seen: list[list[str]] = []

    def interrupted(*_: object, **__: object) -> None:
        (left,) = tmp_path.glob(".report-*")
        seen.append(list(contents(left)))
        raise KeyboardInterrupt

    monkeypatch.setattr(page, stage, interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.write(result, of, tmp_path / "out")
    assert "index.html" not in seen[0]
    assert contents(tmp_path / "out") == whole
    assert not list(tmp_path.glob(".report-*"))


def test_the_page_is_written_last(tmp_path: Path) -> None:
    result, of = made(tmp_path, planted())
    out = report.write(result, of, tmp_path / "out").parent
    times = {p.name: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert times["index.html"] == max(times.values())


@pytest.mark.parametrize("change", ["rows", "store"])
def test_another_store_is_refused(tmp_path: Path, change: str) -> None:
    result, _ = made(tmp_path, planted())
    n = 241 if change == "rows" else 240
    other = clustered.store(tmp_path / "b.codes", n, about={"model": {"name": "x"}}, groups=np.zeros(n, int))
    with pytest.raises(MismatchError, match="another store"):
        report.write(result, other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("examples", "context", "says"),
    [(0, 20, "0 examples a group"), (1001, 20, "1001 examples a group"), (5, -1, "a context of -1 tokens")],
)
def test_numbers_out_of_range(tmp_path: Path, examples: int, context: int, says: str) -> None:
    result, of = made(tmp_path, planted())
    with pytest.raises(UsageError, match=says):
        report.write(result, of, tmp_path / "out", examples=examples, context=context)


EVIL = ("</script><script>alert(1)</script>", "<!--<script>", "\u202e\u2028\u0000", "\ud800x", '"><img src=x>')


def test_no_file_holds_markup_of_the_data(tmp_path: Path) -> None:
    labels = planted()
    of = clustered.store(tmp_path / "a.codes", words=EVIL, groups=labels + 1, layers=[(EVIL[0], 20)])
    result = clustered.clustering(tmp_path / "a.clusters", of, labels, model="".join(EVIL[:3]))
    out = report.write(result, of, tmp_path / "out").parent
    for path in (out / "data").rglob("*.js"):
        assert re.fullmatch(r'polykern\.part\(\[[ "\[\],\w/+=.-]*\]\);\n', path.read_text(encoding="ascii"))
    text = (out / "index.html").read_text(encoding="utf-8")
    assert text.count("<script") == len(page.SCRIPTS) + 1
    assert text.count("</script>") == len(page.SCRIPTS) + 1
    assert "<!--" not in text
    assert re.findall(
        r"Content-Security-Policy\" content=\"default-src 'none'; script-src 'nonce-[0-9a-f]{32}'", text
    )
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|https?://(?!www\.w3)",
        "".join((out / name).read_text(encoding="utf-8") for name in page.SCRIPTS),
    )
    assert not re.search("[\u2028\u202e\u0000]", text)


# --- photos, scores, words ---------------------------------------------------------------------------


def test_photos_and_their_classes(tmp_path: Path) -> None:
    from PIL import Image

    labels = planted()
    result, of = made(tmp_path, labels, kind="image", about={"grid": [4, 4], "classes": ["cat", "dog", "bird"]})
    report.write(result, of, tmp_path / "out", examples=3)
    assert embedded(tmp_path / "out")["grid"] == [4, 4]
    assert embedded(tmp_path / "out")["words"] == "classes"
    names = {0: "cat", 1: "dog", 2: "bird"}
    for record in records(tmp_path / "out"):
        for one in (one for group in record["groups"].values() for one in group):
            assert one["label"] == names.get(one["token"], f"class {one['token']}")
            kind, data = part(tmp_path / "out", photos.key(one["doc"]))
            assert kind == "image/png"
            with Image.open(io.BytesIO(data)) as kept, Image.open(io.BytesIO(of.image(one["doc"]))) as real:
                assert np.array_equal(np.asarray(kept), np.asarray(real))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, clustered.photo(1)[:90]])
def test_a_broken_photo_is_left_out(data: bytes) -> None:
    assert photos.small(data) is None


def test_a_large_photo_becomes_small() -> None:
    from PIL import Image

    found = photos.small(clustered.photo(3, 600))
    assert found is not None
    kind, data = found
    with Image.open(io.BytesIO(data)) as image:
        assert (kind, image.size) == ("image/jpeg", (224, 224))


def test_rows_without_items(tmp_path: Path) -> None:
    result, of = made(tmp_path, planted(), kind=None)
    report.write(result, of, tmp_path / "out")
    (first, *_) = records(tmp_path / "out")
    assert "tokens" not in first
    assert set(first["groups"]["nearest"][0]) == {"row", "d", "p", "o"}


def test_long_pieces_are_cut() -> None:
    assert tokens.cut("x" * 300) == "x" * 256 + "\u2026"
    assert tokens.cut("x" * 256) == "x" * 256
    assert [tokens.key(t) for t in (" The", "\n", "", "ÅB ")] == ["the", "\n", "", "åb"]


def test_what_tokens_are_called() -> None:
    assert tokens.agreed([("ing", "ing"), (" the", " the"), ("a", "b")]) == ["ing", " the", "a"]
    assert tokens.agreed([(" if", "\n   if"), (" the", " the"), (" ", " ")]) == ["if", "the", " "]
    assert tokens.agreed([("The", "the"), (" Cat", " Cat"), ("X", "y")]) == ["the", "cat", "x"]


def test_scores_become_charts() -> None:
    interval = {"mean": 0.2, "low": 0.1, "high": 0.3}
    drawn = scores.charts({"purity": {"value": 0.9, "baselines": {"shuffled": interval, "broken": {"mean": 1}}},
                           "mean_entropy": 2.5, "nothing": None, "text": "x", "nan": float("nan")})  # fmt: skip
    assert drawn == [
        {
            "name": "purity", "value": 0.9, "interval": None, "baselines": [{"name": "shuffled", **interval}],
            "low": 0.0, "high": 1.0,
        },
        {"name": "mean entropy, bits", "value": 2.5, "interval": None, "baselines": [], "low": 0.0, "high": 2.5},
    ]  # fmt: skip
    assert scores.charts(None) == []


def test_the_scores_of_a_clustering(tmp_path: Path) -> None:
    result, of = made(tmp_path, planted())
    found = scores.computed(result, of)
    drawn = {one["name"]: one for one in scores.charts(found)}
    assert set(drawn) == {
        "mean purity", "mean purity by row", "at least 0.9 pure", "mean entropy, bits",
    }  # fmt: skip
    report.write(result, of, tmp_path / "out", found=found)
    shares = [r["tokens"][0][2] / r["size"] for r in records(tmp_path / "out")]
    assert drawn["mean purity"]["value"] == pytest.approx(np.mean(shares), rel=1e-5)
    assert [b["name"] for b in drawn["mean purity"]["baselines"]] == ["shuffled classes", "random clusters"]
    assert scores.computed(*made(tmp_path / "plain", planted(), kind=None)) is None


# --- the command line ----------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, planted())
    assert run(["report", str(tmp_path / "a.clusters"), "--examples", "4", "--context", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["page"] == str(tmp_path / "a.clusters" / "report" / "index.html")
    assert (found["schema"], found["clusters"], found["rows"]) == ("polykern-report/1", 3, 240)
    assert len(records(tmp_path / "a.clusters" / "report")[0]["groups"]["random"]) == 4


@pytest.mark.parametrize("text", ["[1]", "{", None])
def test_scores_that_are_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "scores.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CorruptError) as caught:
        command._scores(str(path))
    assert caught.value.exit_code == 3


def test_scores_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, planted())
    (tmp_path / "said.json").write_text(
        '{"schema": "polykern-score/1", "by": "kind", "scores": {"mean_purity": 0.5}}'
    )
    said = [str(tmp_path / "a.clusters"), "--scores", str(tmp_path / "said.json"), "--out", str(tmp_path / "out")]
    assert run(["report", *said, "-q"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'index.html'}\n"
    data = embedded(tmp_path / "out")
    assert [s["value"] for s in data["scores"]] == [0.5]
    assert data["scored"].startswith("by kind; ")


# --- colours ---------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    full = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    shares = [int(full[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    r, g, b = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", [0, 1, 2])
def test_text_stands_out(theme: int) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for marks."""
    style = (Path(page.__file__).parent / "assets" / "report.css").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"\{([^{}]*)\}", style) if "--ground: " in b]
    assert len(blocks) == 3
    of = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", blocks[theme]))

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(of[a]), luminance(of[b])))
        return (high + 0.05) / (low + 0.05)

    for ink in ("ink", "quiet", "accent"):
        for ground in ("ground", "panel", "soft"):
            assert contrast(ink, ground) >= 4.5, (ink, ground)
    assert contrast("mark-ink", "mark") >= 4.5
    for mark in ("dot", "ring", "tree-lit", "tree-here"):
        assert contrast(mark, "panel") >= 3, mark
