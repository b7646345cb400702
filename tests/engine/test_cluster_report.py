"""The report of a clustering: every number against brute force, what it writes and what it refuses."""

import base64
import gzip
import io
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray

from polykern.cli import report as command
from polykern.cli.talk import Talk
from polykern.clustering.result import Clusters
from polykern.errors import MismatchError, UsageError
from polykern.report import clusters as report
from polykern.report.clusters import bits, examples, near, page, parts, photos, scores, tokens
from polykern.report.clusters.source import Source
from polykern.store import Store
from tests.engine import clustered

KINDS = {"i4": np.int32, "u4": np.uint32, "f4": np.float32}


def planted(n: int = 240, noise: float = 0.25, groups: Sequence[float] = (0.5, 0.3, 0.2)) -> NDArray[np.int64]:
    """Labels of a few clusters, numbered by decreasing size, with noise."""
    rng = np.random.default_rng(7)
    found = rng.choice(len(groups), n, p=groups)
    found[rng.random(n) < noise] = -1
    return found


def made(root: Path, labels: NDArray[np.int64], **more: Any) -> tuple[Clusters, Store]:
    """A store with a clustering beside it."""
    of = clustered.store(root / "a.codes", len(labels), groups=labels + 1, **more)
    return clustered.clustering(root / "a.clusters", of, labels), of


def part(folder: Path, key: str) -> Any:
    """What a part holds, unpacked as the page does it."""
    text = (folder / "data" / f"{key}.js").read_text(encoding="ascii")
    name, head, packed = json.loads(text.removeprefix("polykern.part(").removesuffix(");\n"))
    assert name == key
    data = base64.b64decode(packed)
    if isinstance(head, str):
        return head, data
    plain = zlib.decompress(data)
    if head is None:
        return json.loads(plain)
    columns, at = {}, 0
    for column, kind, n in head:
        planes = np.frombuffer(plain, np.uint8, 4 * n, at).reshape(4, n)
        columns[column] = np.ascontiguousarray(planes.T).view(KINDS[kind]).ravel()
        at += 4 * n
    assert at == len(plain)
    return columns


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def records(folder: Path) -> list[dict[str, Any]]:
    """The exported records."""
    with gzip.open(folder / "export" / "clusters.jsonl.gz", "rt", encoding="ascii") as lines:
        return [json.loads(line) for line in lines]


def test_the_numbers_of_every_cluster(tmp_path: Path) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    report.write(result, of, tmp_path / "out")
    codes = of.rows().codes
    ones = codes.bits().numpy()
    token = of.column("token")
    medoids = result.members["medoid"]
    apart = codes.distances().numpy()
    found = records(tmp_path / "out")
    assert [r["c"] for r in found] == list(range(result.count))
    for c, record in enumerate(found):
        mine = labels == c
        p, q = ones[mine].mean(0), ones[~mine].mean(0)
        best = np.argsort(-np.abs(p - q), kind="stable")[:16]
        assert [b for b, _, _ in record["bits"]] == best.tolist()
        assert [v for _, *v in record["bits"]] == [pytest.approx([p[b], q[b]], rel=1e-5) for b in best]
        for field, layer in zip(of.layout.fields, record["layers"], strict=True):
            here = slice(field.offset, field.offset + field.bits)
            fixed = int((p[here] == p[here].round()).sum())
            wanted = [p[here].mean(), q[here].mean(), np.abs(p - q)[here].mean(), fixed]
            assert layer == pytest.approx(wanted, rel=1e-5)
        assert record["size"] == mine.sum()
        assert record["max"] == apart[medoids[c]][mine].max()
        assert record["mean"] == pytest.approx(apart[medoids[c]][mine].mean(), rel=1e-5)
        ids, many = np.unique(token[mine], return_counts=True)
        assert sorted((i, n) for i, _, n in record["tokens"]) == list(zip(ids, many, strict=True))
        assert all(clustered.WORDS[i] == text for i, text, _ in record["tokens"])
        share = many / many.sum()
        assert record["entropy"] == pytest.approx(-(share * np.log2(share)).sum(), rel=1e-5)
        others = sorted((apart[medoids[c], medoids[k]], k) for k in range(result.count) if k != c)
        assert [(d, k) for k, d in record["near"]] == others[:8]


def test_the_examples_stand_in_their_context(tmp_path: Path) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    report.write(result, of, tmp_path / "out", examples=5, context=7)
    for record in records(tmp_path / "out"):
        assert set(record["groups"]) == {"nearest", "random", "boundary"}
        for group in record["groups"].values():
            assert len(group) == 5
            for one in group:
                assert labels[one["row"]] == record["c"]
                told = of.context(one["row"], before=7, after=7)
                assert (one["tokens"], one["at"]) == (told.pieces, told.at)
                assert one["d"] == result.members["distance"][one["row"]]


def test_which_examples(tmp_path: Path) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    source = Source(result, of, 6, 20, 3)
    groups = examples.chosen(source, 0)
    members = np.flatnonzero(labels == 0)
    away, sure = result.members["distance"][members], result.points["probability"][members]
    assert groups["nearest"].tolist() == members[np.lexsort((members, away))][:6].tolist()
    assert groups["boundary"].tolist() == members[np.lexsort((members, -away, sure))][:6].tolist()
    assert len(set(groups["random"])) == 6
    assert set(groups["random"]) <= set(members)
    assert groups["random"].tolist() == examples.chosen(source, 0)["random"].tolist()
    assert groups["random"].tolist() != examples.chosen(Source(result, of, 6, 20, 4), 0)["random"].tolist()
    whole = examples.chosen(Source(result, of, 60, 20, 3), 2)
    assert {k: sorted(v) for k, v in whole.items()} == {"all": np.flatnonzero(labels == 2).tolist()}
    lost = np.flatnonzero(labels < 0)
    outlying = lost[np.lexsort((lost, -result.points["outlier_score"][lost]))][:6]
    assert examples.chosen(source, -1)["outlying"].tolist() == outlying.tolist()


@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_the_postings(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    monkeypatch.setattr(tokens, "PIECE", piece)
    monkeypatch.setattr(tokens, "BATCH", 10 * piece)
    report.write(result, of, tmp_path / "out")
    found = part(tmp_path / "out", "tokens/0")
    assert [p["k"] for p in found] == sorted(p["k"] for p in found)
    assert {p["t"]: p["k"] for p in found} == {w: w.strip().lower() or w for w in clustered.WORDS}
    token = of.column("token")
    for posting in found:
        here = labels[token == posting["id"]]
        assert posting["t"] == clustered.WORDS[posting["id"]]
        assert (posting["n"], posting["noise"]) == (len(here), (here < 0).sum())
        clusters, many = np.unique(here[here >= 0], return_counts=True)
        assert posting["c"] == len(clusters)
        pairs = sorted(zip(clusters, many, strict=True), key=lambda pair: (-pair[1], pair[0]))
        assert [tuple(pair) for pair in posting["top"]] == pairs


def test_shards_of_postings_are_found_by_their_first_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.Chunks.__init__, "__defaults__", (64,))
    result, of = made(tmp_path, planted())
    report.write(result, of, tmp_path / "out")
    firsts = embedded(tmp_path / "out")["shards"]
    assert len(firsts) == len(clustered.WORDS)
    assert firsts == [part(tmp_path / "out", f"tokens/{k}")[0]["k"] for k in range(len(firsts))]


def embedded(folder: Path) -> dict[str, Any]:
    """The data block of the page."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_the_tree(tmp_path: Path) -> None:
    labels = planted(400, groups=(0.3, 0.25, 0.2, 0.15, 0.1))
    result, of = made(tmp_path, labels)
    report.write(result, of, tmp_path / "out")
    tree = part(tmp_path / "out", "tree")
    assert tree["parent"].tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3]
    assert tree["label"].tolist() == [-1] * 4 + [0, 1, 2, 3, 4]
    assert tree["size"][4:].tolist() == result.members["size"].tolist()
    assert tree["size"][0] == 400
    assert tree["birth"].tolist() == [60, 40, 40, 38, 38, 38, 38, 36, 36]
    assert tree["death"].tolist() == [40, 38, 38, 36, 36, 36, 36, 34, 34]
    assert tree["left"][0] == (labels >= 0).sum()


def test_few_at_a_time_gives_the_same_bytes(tmp_path: Path) -> None:
    result, of = made(tmp_path, planted())
    report.write(result, of, tmp_path / "one")
    report.write(result, of, tmp_path / "two", memory=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    report.write(result.folder, None, tmp_path / "one", seed=1)  # from the folder, over the first
    assert contents(tmp_path / "one").keys() == contents(tmp_path / "two").keys()
    assert contents(tmp_path / "one") != contents(tmp_path / "two")


def test_the_columns(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    result, of = made(tmp_path, planted())
    report.write(result, of, tmp_path / "out")
    columns, found = load_file(tmp_path / "out" / "export" / "columns.safetensors"), records(tmp_path / "out")
    assert columns["size"].tolist() == [r["size"] for r in found]
    assert columns["bits"].tolist() == [[b for b, _, _ in r["bits"]] for r in found]
    assert columns["near"].tolist() == [[k for k, _ in r["near"]] for r in found]
    index = part(tmp_path / "out", "index")
    assert all(np.array_equal(index[k], columns[k].astype(index[k].dtype)) for k in index)
    assert set(index) == {"size", "persistence", "mean", "max", "share", "entropy"}


def test_the_nearest_by_the_metric_of_the_clustering(tmp_path: Path) -> None:
    labels = planted(groups=(0.4, 0.3, 0.2, 0.1))
    of = clustered.store(tmp_path / "a.codes", len(labels), groups=labels + 1)
    result = clustered.clustering(tmp_path / "a.clusters", of, labels, metric="jaccard")
    distances, indices = near.nearest(Source(result, of, 5, 5, 0))
    ones = of.rows(result.members["medoid"]).codes.bits().numpy()
    for c in range(4):
        wanted = sorted((1 - (ones[c] & ones[k]).sum() / (ones[c] | ones[k]).sum(), k) for k in range(4) if k != c)
        assert indices[c].tolist() == [k for _, k in wanted]
        assert distances[c] == pytest.approx([d for d, _ in wanted])


def test_the_nearest_by_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    points[7] = points[3]
    wide = np.linalg.norm(points[:, None].astype(np.float64) - points, axis=-1)
    wanted = [[k for _, k in sorted((wide[i, k], k) for k in range(30) if k != i)[:4]] for i in range(30)]
    for block in (1 << 24, 1, 70):
        monkeypatch.setattr(near, "BLOCK", block)
        distances, indices = near._euclidean(points, 4)
        assert indices.tolist() == wanted
        assert np.allclose(distances, np.take_along_axis(wide, indices, 1), rtol=1e-12)


def test_codes_of_some_layers_alone(tmp_path: Path) -> None:
    """Distances are those of the layers that were clustered; all layers are told."""
    result, of = made(tmp_path, planted())
    result.about["store"]["fields"] = [of.layout.fields[1].name]
    report.write(result, of, tmp_path / "out")
    medoids = of.rows(result.members["medoid"], [of.layout.fields[1].name]).codes
    apart = medoids.distances().numpy()
    found = records(tmp_path / "out")
    assert [sorted(r["near"]) for r in found] == [[[k, apart[c, k]] for k in range(3) if k != c] for c in range(3)]
    assert all(len(r["layers"]) == 2 for r in found)
    data = embedded(tmp_path / "out")
    assert (data["bits"], data["clustered"]) == (70, 30)


@pytest.mark.parametrize("memory", [1, 4 * 70 * 2, 1 << 30])
def test_counts_fit_the_memory(tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    result, of = made(tmp_path, planted(groups=(0.3, 0.2, 0.2, 0.2, 0.1)))
    ranges, counted = [], bits.counted

    def spied(source: Source, first: int, last: int, progress: Any) -> Any:
        ranges.append((first, last))
        return counted(source, first, last, progress)

    monkeypatch.setattr(bits, "counted", spied)
    report.write(result, of, tmp_path / "out", memory=memory)
    most = max(1, memory // (4 * 70))
    assert ranges == [(k, min(5, k + most)) for k in range(0, 5, most)]


# --- files -----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("examples", "context"), [(0, 20), (1001, 20), (5, -1)])
def test_numbers_out_of_range(tmp_path: Path, examples: int, context: int) -> None:
    result, of = made(tmp_path, planted())
    with pytest.raises(UsageError):
        report.write(result, of, tmp_path / "out", examples=examples, context=context)


EVIL = ("</script><script>alert(1)</script>", "<!--<script>", "\u202e\u2028\u0000", "\ud800x", '"><img src=x>')


def test_no_file_holds_markup_of_the_data(tmp_path: Path) -> None:
    labels = planted()
    of = clustered.store(tmp_path / "a.codes", words=EVIL[:3] + EVIL[4:], groups=labels + 1, layers=[(EVIL[0], 20)])
    result = clustered.clustering(tmp_path / "a.clusters", of, labels, model="".join(EVIL[:3]))
    out = report.write(result, of, tmp_path / "out").parent
    for path in (out / "data").rglob("*.js"):
        assert re.fullmatch(r'polykern\.part\(\[[ "\[\],\w/+=.-]*\]\);\n', path.read_text(encoding="ascii"))
    text = (out / "index.html").read_text(encoding="utf-8")
    assert text.count("<script") == len(page.SCRIPTS) + 1
    assert text.count("</script>") == len(page.SCRIPTS) + 1
    assert "<!--" not in text
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
    made = scores.charts({"purity": {"value": 0.9, "baselines": {"shuffled": interval, "broken": {"mean": 1}}},
                          "mean_entropy": 2.5, "nothing": None, "text": "x", "nan": float("nan")})  # fmt: skip
    assert made == [
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
    app = typer.Typer()
    app.command()(command.command)
    said = [str(tmp_path / "a.clusters"), "--examples", "4", "--context", "3", "--json"]
    app(said, obj=Talk(json=True), standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["page"] == str(tmp_path / "a.clusters" / "report" / "index.html")
    assert (found["schema"], found["clusters"], found["rows"]) == ("polykern-report/1", 3, 240)
    assert len(records(tmp_path / "a.clusters" / "report")[0]["groups"]["random"]) == 4


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
