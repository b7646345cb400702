"""The report of a clustering in Chromium, opened from a disk."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.clustering.result import Clusters
from polykern.report import clusters as report
from polykern.report.clusters import parts, scores, tokens
from polykern.report.script import visible
from polykern.store import Store
from tests.engine import clustered
from tests.engine.reported import Opened, made, planted

pytestmark = pytest.mark.browser
EVIL = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "\u202egnp.exe\u2066\x00\x1b[31m\u2028",
    '" onmouseover="window.pwned=1',
    "\u05e9\u05dc\u05d5\u05dd",
)
LONE = "a\ud800b"
Made = tuple[Path, Clusters, Store]
SIX = tuple(k / 21 for k in range(6, 0, -1))


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    found = Opened(page)
    yield found
    page.close()
    assert found.troubles == []
    assert found.requests
    assert all(url.startswith(("file:", "data:", "blob:")) for url in found.requests)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The page of a text report, and what it is of."""
    root = tmp_path_factory.mktemp("texts")
    result, of = made(root, planted(400, 0.2, SIX))
    return report.write(result, of, root / "out", found=scores.computed(result, of)), result, of


def test_the_overview(texts: Made, opened: Opened) -> None:
    path, result, _ = texts
    opened.open(path)
    tiles = opened.texts(".tiles .tile b")
    assert (tiles[0], tiles[2]) == ("6", "400")
    assert float(tiles[1].removesuffix("%")) == pytest.approx(result.noise / 4, abs=0.051)
    assert opened.texts(".clusters .row:not(.head) .c") == ["0", "1", "2", "3", "4", "5"]
    sizes = [int(t) for t in opened.texts(".clusters .row:not(.head) .size b")]
    assert sizes == result.members["size"].tolist()
    assert len(opened.texts(".score")) == 4
    assert "7 rounds" in opened.texts(".tiles")[0]
    assert opened.page.is_visible("footer summary")
    assert "store" in opened.page.text_content("footer summary")
    assert result.about["store"]["fingerprint"] in opened.texts("#provenance dd")
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_table_sorts_and_filters(texts: Made, opened: Opened) -> None:
    path, result, _ = texts
    opened.open(path)
    mean = result.members["mean_distance"]
    opened.page.click("button:text-is('mean dist.')")
    order = [int(t) for t in opened.texts(".row:not(.head) .c")]
    assert order == np.argsort(mean, kind="stable").tolist()
    assert opened.page.get_attribute(".head .mean", "aria-sort") == "ascending"
    opened.page.click("button:text-is('mean dist.')")
    assert [int(t) for t in opened.texts(".row:not(.head) .c")] == np.lexsort((np.arange(6), -mean)).tolist()
    opened.page.fill("#filter", "3")
    assert opened.texts(".row:not(.head) .c") == ["3"]
    names = opened.page.evaluate("polykern.load('names')")
    opened.page.fill("#filter", "THERAPY")
    wanted = {str(c) for c, list_ in enumerate(names) if any("therapy" in t.lower() for t in list_)}
    assert set(opened.texts(".row:not(.head) .c")) == wanted
    assert opened.page.get_attribute(".grid", "aria-rowcount") == str(len(wanted) + 1)
    opened.page.click(".row:not(.head) .size >> nth=0")
    opened.heading("Cluster")


def test_a_deep_link_shows_a_cluster(texts: Made, opened: Opened) -> None:
    path, result, of = texts
    opened.open(path, "#c=3")
    assert opened.page.title() == "Cluster 3 · net · clusters"
    record = opened.page.evaluate("polykern.record(3)")
    assert opened.texts(".tiles .tile b")[0] == str(result.members["size"][3])
    near = [int(t) for t in opened.texts(".near td:first-child")]
    assert near == [c for c, _ in record["near"]]
    lines = opened.texts("#group-random .example p")
    told = [of.context(one["row"]) for one in record["groups"]["random"]]
    assert [line.replace("↵", "\n") for line in lines] == ["".join(t.pieces) for t in told]
    assert opened.texts("#group-random mark") == [t.pieces[t.at].strip(" ").replace("\n", "↵") for t in told]
    units = opened.texts(".bits td.unit")
    layers = opened.texts(".bits td.layer")
    for (bit, *_), unit, layer in zip(record["bits"], units, layers, strict=True):
        k = int(bit >= of.layout.fields[1].offset)
        assert (layer, unit) == (f"layer.{k}", str(bit - of.layout.fields[k].offset))


def test_next_and_previous(texts: Made, opened: Opened) -> None:
    path, *_ = texts
    opened.open(path, "#c=2")
    opened.page.click("a.step >> nth=1")
    opened.heading("Cluster 3")
    opened.page.keyboard.press("ArrowLeft")
    opened.heading("Cluster 2")
    opened.page.keyboard.press("k")
    opened.heading("Cluster 1")
    opened.go("#c=5")
    opened.heading("Cluster 5")
    opened.page.keyboard.press("ArrowRight")  # there is none
    assert opened.page.get_attribute("a.step >> nth=1", "aria-disabled") == "true"
    opened.page.go_back()
    opened.heading("Cluster 1")
    opened.page.keyboard.press("Escape")
    opened.page.wait_for_selector(".clusters")
    opened.page.keyboard.press("r")
    opened.heading("Cluster")


@pytest.mark.parametrize(
    "address", ["#c=6", "#c=-1", "#c=1e3", "#c=__proto__", "#q=", "#%", "#constructor", "#c=00x"]
)
def test_a_wrong_address_shows_the_overview(texts: Made, opened: Opened, address: str) -> None:
    opened.open(texts[0], address)
    assert opened.page.is_visible(".clusters .grid")


def test_tokens_are_found(texts: Made, opened: Opened) -> None:
    path, result, of = texts
    opened.open(path)
    opened.page.keyboard.press("/")
    opened.page.keyboard.type("THE")
    opened.page.keyboard.press("Enter")
    opened.heading("tokens the|tokens THE")
    assert opened.texts("h3") == ["1 token with this name", "3 tokens that begin so"]
    cards = opened.texts(".posting h2")
    assert cards[0] == "␣the"
    assert set(cards[1:]) == {"␣Therapy", "␣theory", "ther"}
    here = result.labels[of.column("token") == 0]
    said = opened.texts(".posting .quiet")[0]
    clusters, many = np.unique(here[here >= 0], return_counts=True)
    plural = "" if len(clusters) == 1 else "s"
    told = f"{len(here)} rows: {many.sum()} in {len(clusters)} cluster{plural}, {len(here) - many.sum()} noise"
    assert said == told
    first = opened.page.evaluate(
        "[...document.querySelectorAll('.posting')[0].querySelectorAll('li')].map((e) => e.textContent)"
    )
    order = np.lexsort((clusters, -many))
    assert first == [f"cluster {clusters[k]}{many[k]}" for k in order][:8]
    opened.page.click(".posting li a >> nth=0")
    opened.heading(f"Cluster {clusters[order[0]]}")
    opened.page.fill("#find", "4")
    opened.page.press("#find", "Enter")
    opened.heading("Cluster 4")
    opened.go("#q=%EF%BF%BDnone")
    assert opened.texts("h3")[0] == "0 tokens with this name"


def test_shards_are_searched_as_one(tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prefix of every token finds what a scan finds, when a shard holds one token each."""
    monkeypatch.setattr(parts.Chunks.__init__, "__defaults__", (1,))
    words = ["a", "A", " a", "ab", "abc", "b", "ab ", "é", "😀", "😀x", "\uffee", "zz"]
    opened.open(report.write(*made(tmp_path, planted(), words=words), tmp_path / "out"))
    keys = [tokens.key(w) for w in words]
    for wanted in {k[:n] for k in keys for n in range(1, len(k) + 1)} | {"none", "~", "\uffff"}:
        found = opened.page.evaluate("(key) => polykern.found(key)", wanted)
        assert sorted(p["t"] for p in found["exact"]) == sorted(
            w for w, k in zip(words, keys, strict=True) if k == wanted
        )
        longer = [w for w, k in zip(words, keys, strict=True) if k != wanted and k.startswith(wanted)]
        assert sorted(p["t"] for p in found["longer"]) == sorted(longer)


def test_the_tree_opens_clusters(texts: Made, opened: Opened) -> None:
    opened.open(texts[0])
    canvas = opened.page.locator("canvas.icicle")
    canvas.scroll_into_view_if_needed()
    spot = opened.page.evaluate(
        """() => {
          const card = document.querySelector(".tree"), d = card.drawing, t = card.tree, i = t.nodeOf.get(2);
          const { from, to } = t.spans.rows, u = (from[i] + to[i]) / 2, box = d.box();
          const y = (t.high - (t.birth[i] + t.death[i]) / 2) / (t.high - t.low) * box.h + 8;
          return { x: 46 + u * box.w, y };
        }"""
    )
    canvas.hover(position=spot)
    assert opened.texts(".say")[0].startswith("cluster 2: ")
    canvas.click(position=spot)
    opened.heading("Cluster 2")
    opened.page.locator("canvas.icicle").focus()
    opened.page.keyboard.press("ArrowRight")
    said = opened.texts(".say")[0]
    walked = re.match(r"cluster (\d+): ", said)
    assert walked
    opened.page.keyboard.press("Enter")
    opened.heading(f"Cluster {walked[1]}")


def test_a_record_can_be_saved(texts: Made, opened: Opened, tmp_path: Path) -> None:
    opened.open(texts[0], "#c=1")
    record = opened.page.evaluate("polykern.record(1)")
    for button in ("save", "neuronpedia"):
        with opened.page.expect_download() as download:
            opened.page.click(f"#{button}")
        download.value.save_as(tmp_path / button)
    assert json.loads((tmp_path / "save").read_text()) == record
    feature = json.loads((tmp_path / "neuronpedia").read_text())
    assert feature["index"] == "1"
    groups = [one for group in record["groups"].values() for one in group]
    assert [a["tokens"][a["maxValueTokenIndex"]] for a in feature["activations"]] == [
        g["tokens"][g["at"]] for g in groups
    ]
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.click("#copy")
    opened.page.wait_for_selector("[role=status]:text-is('copied')")
    assert json.loads(opened.page.evaluate("navigator.clipboard.readText()")) == record


def test_noise_has_a_page(texts: Made, opened: Opened) -> None:
    opened.open(texts[0], "#noise")
    assert opened.texts(".tiles .tile b") == [str(texts[1].noise)]
    assert len(opened.texts("#group-outlying .example")) == 10


def shown(text: str) -> str:
    """As the page shows it: line ends and tabs have signs of their own."""
    return visible(text).replace("␊", "↵").replace("␉", "⇥")


def test_hostile_text_is_text(tmp_path: Path, opened: Opened) -> None:
    layers = [(EVIL[1], 20), (EVIL[2], 20)]
    result, of = made(
        tmp_path, planted(400, 0.2, SIX), model="".join(EVIL) + LONE, words=(*EVIL, LONE), layers=layers
    )
    path = report.write(
        result,
        of,
        tmp_path / "out",
        found={EVIL[0]: {"value": 0.5, "baselines": {EVIL[1]: {"mean": 0.1, "low": 0, "high": 1}}}},
    )
    opened.open(path)
    page = opened.page
    assert page.text_content("#name").startswith(visible(EVIL[0])[:20])
    assert opened.texts(".score p span") == [EVIL[0]]
    for address in ("#c=0", "#noise", "#q=%3C", "#q=%22", "#"):
        opened.go(address)
        assert page.evaluate("window.pwned") is None
        assert (
            page.evaluate("document.querySelectorAll('main script, main iframe, main object, main style').length")
            == 0
        )
        assert page.evaluate("[...document.images].length") == 0
        assert page.is_visible("footer summary")
    opened.go("#c=0")
    record = page.evaluate("polykern.record(0)")
    # the medoid stands first in the group of the nearest
    for name, group in record["groups"].items():
        rest = [g for g in group if g["row"] != record["medoid"]["row"]] if name in ("nearest", "all") else group
        if name in ("nearest", "all"):
            rest = [record["medoid"], *rest[: len(group) - 1]]
        assert opened.texts(f"#group-{name} .example p") == [shown("".join(g["tokens"])) for g in rest]
    assert opened.texts(".tokens code") == [shown(text) for _, text, _ in record["tokens"]]
    assert set(opened.texts(".bits td.layer")) <= {shown(name) for name, _ in layers}
    assert page.evaluate("window.pwned") is None


def test_what_hides_is_shown_as_in_python(texts: Made, opened: Opened) -> None:
    """Every character up to U+FFFF, and some behind."""
    opened.open(texts[0])
    codes = [*range(0x10000), 0x1F600, 0xE0001, 0x10FFFF]
    found = opened.page.evaluate("(codes) => codes.map((c) => polykern.shown(String.fromCodePoint(c)))", codes)
    assert found[10] == "↵"
    assert found[9] == "⇥"
    wrong = [hex(c) for c, text in zip(codes, found, strict=True) if c not in (9, 10) and text != visible(chr(c))]
    assert wrong == []


def test_photos_with_their_patch(tmp_path: Path, opened: Opened) -> None:
    result, of = made(
        tmp_path, planted(400, 0.2, SIX), kind="image", about={"grid": [4, 4], "classes": [*EVIL[:3]]}
    )
    opened.open(report.write(result, of, tmp_path / "out"), "#c=0")
    page = opened.page
    page.wait_for_function(
        "[...document.images].length && [...document.images].every((i) => i.complete && i.naturalWidth === 32)"
    )
    record = page.evaluate("polykern.record(0)")
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("#group-random .frame")].map((frame) => {
          const a = frame.getBoundingClientRect(), b = frame.querySelector(".patch").getBoundingClientRect();
          return [(b.left - a.left) / a.width, (b.top - a.top) / a.height, b.width / a.width, b.height / a.height];
        })"""
    )
    for box, one in zip(boxes, record["groups"]["random"], strict=True):
        row, column = divmod(one["pos"], 4)
        assert box == pytest.approx([column / 4, row / 4, 0.25, 0.25], abs=0.01)
    alts = page.evaluate("[...document.querySelectorAll('#group-random img')].map((i) => i.alt)")
    first = record["groups"]["random"][0]
    assert alts[0] == f"photo {first['doc']}, patch in row {first['pos'] // 4} column {first['pos'] % 4} of 4 x 4"
    page.keyboard.press("w")
    assert page.is_hidden("#group-random .frame >> nth=0")
    assert page.is_visible("#group-random .lens >> nth=0")
    place = page.evaluate("document.querySelector('#group-random .lens').style.backgroundPosition").split()
    row, column = (min(max(k - 1, 0), 1) for k in divmod(first["pos"], 4))
    assert place == [f"{100 * column}%", f"{100 * row}%"]
    page.keyboard.press("w")
    assert opened.texts("#group-random figcaption span:first-child") == [
        visible(g["label"]) for g in record["groups"]["random"]
    ]
    assert page.evaluate("window.pwned") is None


def test_a_small_screen_and_the_dark(texts: Made, opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 390, "height": 800})
    opened.page.emulate_media(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    for address in ("", "#c=0", "#noise", "#q=the"):
        opened.open(texts[0], address)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert opened.page.evaluate(ground) == "rgb(18, 21, 24)"
    opened.page.click("#theme")
    assert opened.page.evaluate(ground) == "rgb(245, 246, 248)"


def test_no_clusters_at_all(tmp_path: Path, opened: Opened) -> None:
    labels = np.full(50, -1)
    of = clustered.store(tmp_path / "a.codes", 50, groups=labels + 1)
    result = clustered.clustering(tmp_path / "a.clusters", of, labels)
    opened.open(report.write(result, of, tmp_path / "out"))
    assert opened.texts(".tiles .tile b")[:2] == ["0", "100%"]
    opened.go("#noise")
    opened.heading("Noise")


@pytest.mark.slow
def test_a_hundred_thousand_clusters(tmp_path: Path, opened: Opened) -> None:
    n, c = 250_000, 100_000
    labels = np.random.default_rng(3).permutation(np.concatenate((np.arange(c), np.sort(np.arange(n - c) // 3))))
    result, of = made(tmp_path, labels, layers=[("a", 64)], kind=None, shards=1)
    path = report.write(result, of, tmp_path / "out", examples=1, context=1)
    opened.open(path)
    page = opened.page
    assert opened.texts(".tiles .tile b")[0] == "100,000"
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    assert int(page.get_attribute("canvas.icicle", "data-drawn")) < 20_000
    before = len(opened.requests)
    opened.go("#c=98765")
    opened.heading("Cluster 98,765")
    assert opened.texts(".tiles .tile b")[0] == str(result.members["size"][98_765])
    assert len(opened.requests) - before <= 2
    sizes = {p: p.stat().st_size for p in path.parent.rglob("*.js")}
    assert max(sizes.values()) < 4 << 20
    read = {url.rpartition("/out/")[2].partition("#")[0] for url in opened.requests}
    assert sum(size for p, size in sizes.items() if str(p.relative_to(path.parent)) in read) < 6 << 20
