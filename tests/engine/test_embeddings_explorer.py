"""The explorer of neurons: its parts say what the embeddings say; in Chromium nothing of a stranger runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polykern as pk
from polykern.cli.app import run
from polykern.errors import UsageError
from polykern.neurons import embeddings
from polykern.neurons.explorer import write
from tests.engine import languages
from tests.engine.folders import told
from tests.engine.reported import Opened, contents, embedded, part

EVIL = ("</script><script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", "\u202egnp.exe\x1b[31m")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> pk.Embeddings:
    """Of a small model, whose tokens then get hostile texts."""
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    text = "\n".join(" ".join(rng.choice(["the", "inner", "thin", "rain", "9"], 30)) for _ in range(12))
    (folder / "a.txt").write_text(text)
    made = embeddings(languages.small(), [str(folder)], top=12, length=24, share=0.5, importance=1)
    piece = [EVIL[k % 3] if k % 5 == 0 else p for k, p in enumerate(made.piece)]
    return pk.Embeddings(made.about, made.layers, made.token, piece, made.start)


@pytest.fixture(scope="module")
def page(found: pk.Embeddings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(found, tmp_path_factory.mktemp("out") / "explorer")


def test_every_feature_of_every_neuron_is_there(found: pk.Embeddings, page: Path) -> None:
    about = embedded(page.parent)
    for k, layer in enumerate(found.layers):
        records = [r for c in range(len(about["firsts"][k])) for r in part(page.parent, f"neurons/{k}/{c}")]
        assert [r["n"] for r in records] == list(range(len(layer.value)))
        for n, r in enumerate(records):
            assert [f["members"] for f in r["features"]] == sorted(
                (f["members"] for f in r["features"]), reverse=True
            )
            assert sum(f["members"] for f in r["features"]) == r["size"] == layer.features.size[n]
            for number, f in enumerate(r["features"]):
                inside = np.flatnonzero(layer.features.label[n] == number)
                values = {round(float(layer.activation[n, e]), 3) for e in inside}
                assert {round(e["value"], 3) for e in f["examples"]} <= values
                for e in f["examples"]:
                    assert len(e["tokens"]) == len(e["shares"])
                    assert e["shares"][e["at"]] == max(e["shares"])
                assert all(0 <= j[0] < len(layer.value) and j[0] != n for j in f["similar"])


def test_a_part_is_small(page: Path) -> None:
    assert max(p.stat().st_size for p in (page.parent / "data").rglob("*.js")) < 200_000


def test_equal_embeddings_give_equal_bytes_and_a_foreign_folder_is_refused(
    found: pk.Embeddings, page: Path, tmp_path: Path
) -> None:
    again = write(found, tmp_path / "explorer")
    assert contents(again.parent) == contents(page.parent)
    write(found, tmp_path / "explorer")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("kept")
    with pytest.raises(UsageError, match="something other than an explorer"):
        write(found, tmp_path / "mine")


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    seen = browser.new_page(viewport={"width": 1280, "height": 900})
    held = Opened(seen)
    yield held
    seen.close()
    assert held.troubles == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in held.requests)


@pytest.mark.browser
def test_pages_search_and_back_in_a_browser(found: pk.Embeddings, page: Path, opened: Opened) -> None:
    opened.open(page)
    assert opened.texts("table.rank tbody tr td:first-child") == [x.name for x in found.layers]
    shown = np.random.default_rng(1).permutation(len(found.layers[1].value))[:10].tolist()
    before = shown[-2]
    for n in shown:
        opened.page.evaluate(f"location.hash = 'n=1/{n}'")
        opened.page.wait_for_selector(f"h1:text-is('Neuron {n}')")
        assert len(opened.texts("[role=tab]")) == found.layers[1].features.count[n]
    opened.page.click("#weigh")
    assert opened.page.locator("ol.weighed .passage:not(.unweighed)").count() == 1
    blue = opened.page.evaluate("getComputedStyle(document.querySelector('.weighed .peak')).backgroundColor")
    opened.page.click("#weigh")
    assert opened.page.locator("ol.weighed").count() == 0
    red = opened.page.evaluate("getComputedStyle(document.querySelector('.peak')).backgroundColor")
    assert opened.page.get_attribute("#weigh", "aria-pressed") == "false"
    assert blue != red
    opened.page.click("#back")
    opened.page.wait_for_selector(f"h1:text-is('Neuron {before}')")
    opened.page.fill("#find", "<img src=x onerror=window.pwned=1>")
    opened.page.press("#find", "Enter")
    opened.page.wait_for_selector("main[data-view=q]")
    opened.page.click("#random")
    opened.page.wait_for_selector("main[data-view=n]")
    opened.page.evaluate("location.hash = 'l=0'")
    opened.page.wait_for_selector("main[data-view=l]")
    counts = [int(t) for t in opened.texts("table.rank tbody tr td:nth-child(2)")]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == found.layers[0].features.count.max()
    assert opened.page.evaluate("window.pwned") is None
    assert opened.page.evaluate("document.querySelectorAll('main img, main script').length") == 0


def test_the_command_writes_the_folder_and_its_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("the thin rain in the inner theatre, then another. " * 20)
    out = tmp_path / "out"
    words = ["embeddings", "--model", f"{languages.__file__}:small", "--corpus", str(tmp_path / "a.txt")]
    assert run([*words, "--length", "16", "--top", "5", "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["page"] == str(out / "explorer" / "index.html")
    assert said["found"] == told(out / "embeddings.json")
    assert pk.Embeddings.open(out).numbers() == said["found"]["numbers"]
    assert len((out / "neurons.csv").read_text().splitlines()) == 1 + 2 * 128
    assert run([*words, "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run(["embeddings", "--model", "minilm", "--out", str(tmp_path / "none")]) == 2
    assert "no text to read" in capsys.readouterr().err
