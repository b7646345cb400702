"""The page of a partition in Chromium, opened from a disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.errors import UsageError
from polykern.report.script import visible
from polykern.subdivision import Partition, page
from tests.engine.test_partition import cut, he
from tests.engine.test_viewer_browser import EVIL, Opened

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    found = Opened(browser.new_page(viewport={"width": 1280, "height": 800}))
    yield found
    found.page.close()
    assert found.troubles == []
    assert found.requests
    assert all(url.startswith(("file:", "data:")) for url in found.requests)


@pytest.fixture(scope="module")
def found() -> Partition:
    return cut(he([2, 24, 24, 3], 1), classes=True)


def pixel(opened: Opened, u: float, v: float) -> list[int]:
    """Red, green, blue of the canvas at a point of the plane."""
    drawn: list[int] = opened.page.evaluate(
        """([u, v]) => {
          const p = polykern.screen(u, v), r = window.devicePixelRatio;
          const g = document.getElementById("map").getContext("2d");
          return [...g.getImageData(p.x * r, p.y * r, 1, 1).data].slice(0, 3);
        }""",
        [u, v],
    )
    return drawn


def test_the_page_holds_every_face_and_side(found: Partition, opened: Opened, tmp_path: Path) -> None:
    found.view(tmp_path / "page")
    opened.open(tmp_path / "page")
    faces, sides, area, kinds = opened.page.evaluate(
        """async () => {
          const faces = [], kinds = {};
          let sides = 0, area = 0;
          for (const c of polykern.cells) {
            const cell = await polykern.load(c.key);
            faces.push(...(cell.face ?? []));
            for (const a of cell.area ?? []) area += a;
            for (const k of cell.what ?? []) kinds[k] = (kinds[k] ?? 0) + 1;
            sides += cell.what?.length ?? 0;
          }
          return [faces, sides, area, kinds];
        }"""
    )
    assert sorted(faces) == list(range(len(found)))
    assert sides == len(found.what)
    assert area == pytest.approx(float(found.area.sum()), rel=1e-5)
    kind, number = np.unique(found.what, return_counts=True)
    assert {int(k) - 2: n for k, n in kinds.items()} == dict(zip(kind.tolist(), number.tolist(), strict=True))


def test_the_readout_is_of_the_face_under_the_cursor(found: Partition, opened: Opened, tmp_path: Path) -> None:
    found.view(tmp_path / "page")
    opened.open(tmp_path / "page")
    for face in np.argsort(found.area)[-9::3].tolist():
        u, v = found.centres[face]
        x, y = opened.at(u, v)
        opened.page.mouse.move(x, y)
        opened.page.wait_for_selector(f"#at-face:text-is('{face:,}')")
        assert opened.page.text_content("#at-class") == f"class {found.winner[face]}"
        assert opened.page.text_content("#at-corners") == str(len(found.polygon(face)))
        assert float((opened.page.text_content("#at-area") or "").split()[0]) == pytest.approx(
            found.area[face], rel=1e-4
        )
        code = "".join(f"{int(lane) % 2**64:016x}" for lane in found.digest[face])
        assert opened.page.text_content("#at-code") == code
    opened.page.mouse.move(*opened.at(-0.05, 1.0))
    opened.page.wait_for_selector("#at-face:text-is('–')")


def test_layers_can_be_hidden_and_faces_tinted(found: Partition, opened: Opened, tmp_path: Path) -> None:
    found.view(tmp_path / "page")
    opened.open(tmp_path / "page")
    side = int(np.flatnonzero(found.what == 0)[np.argmax(found.lengths[found.what == 0])])
    middle = found.ends[side].mean(0).tolist()
    opened.page.evaluate("([u, v]) => { Object.assign(polykern.at, { u, v }); polykern.zoom(30); }", middle)
    opened.settle()
    seen = [pixel(opened, *middle)]
    opened.page.select_option("#fill", "none")
    opened.settle()
    seen.append(pixel(opened, *middle))
    opened.page.uncheck("#kinds input >> nth=0")
    opened.settle()
    seen.append(pixel(opened, *middle))
    assert seen[2] == [255, 255, 255]
    assert seen[0] != seen[1] != seen[2]
    assert seen[1][0] < seen[1][2] - 20  # the layer's blue
    names = opened.page.evaluate("[...document.querySelectorAll('#kinds span')].map((e) => e.textContent)")
    assert names == ["1", "3", "class changes"]


def test_what_is_small_is_not_asked_for(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "FULL", 0.01)
    monkeypatch.setattr(page, "DETAIL", 4)
    found = cut(he([2, 24, 24, 3], 1))
    found.view(tmp_path / "page")
    cells = len(list((tmp_path / "page/cells").iterdir()))
    opened.open(tmp_path / "page")
    asked = {url for url in opened.requests if "/cells/" in url}
    assert 3 < len(asked) < cells
    opened.page.focus("#map")
    for key in ("+", "+", "+", "+", "+", "+", "ArrowRight", "0"):
        opened.page.keyboard.press(key)
        opened.settle()
    assert len(asked) < len({url for url in opened.requests if "/cells/" in url}) < cells
    assert opened.page.text_content("#where") == "At the centre"


def test_hostile_text_is_text(opened: Opened, tmp_path: Path) -> None:
    found = cut(he([2, 12, 3], 1), classes=True)
    found.about["model"] |= {"name": "".join(EVIL), "note": EVIL[1]}
    found.about.update(labels=list(EVIL[:3]), class_names=list(EVIL[1:4]))
    found.about["layers"][0]["module"] = EVIL[0]
    found.view(tmp_path / "page")
    opened.open(tmp_path / "page")
    page_ = opened.page
    assert page_.evaluate("window.pwned") is None
    assert page_.text_content("#name") == "Partition: " + visible("".join(EVIL))
    assert page_.evaluate("document.querySelectorAll('script:not([src])').length") == 1
    names = page_.evaluate("[...document.querySelectorAll('#kinds span')].map((e) => e.textContent)")
    assert names[0] == visible(EVIL[0])
    legend = page_.evaluate("[...document.querySelectorAll('#legend span')].map((e) => e.textContent)")
    assert set(legend) <= {visible(text) for text in EVIL[1:4]}
    assert len(legend) > 1
    assert page_.evaluate("window.pwned") is None


def test_other_folders_and_too_many_faces_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = cut(he([2, 6, 1]))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="something other than a page"):
        found.view(tmp_path)
    assert found.view(tmp_path / "page") == found.view(tmp_path / "page") == tmp_path / "page/index.html"
    monkeypatch.setattr(page, "MOST", 3)
    with pytest.raises(UsageError, match="a page of"):
        found.view(tmp_path / "page")
