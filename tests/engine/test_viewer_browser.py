"""The viewer in Chromium, opened from a disk."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern import viewer
from polykern.maps.result import HeatMap
from polykern.report.script import visible

pytestmark = pytest.mark.browser
Build = Callable[..., Path]
EVIL = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "\u202egnp.exe\u2066\x00\x1b[31m",
    '" onmouseover="window.pwned=1',
)


class Opened:
    """A page, what it asked for and what it complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.troubles: list[str] = []
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("console", self.heard)
        page.on("pageerror", lambda e: self.troubles.append(str(e)))
        page.on("dialog", self.interrupted)

    def heard(self, message: Any) -> None:
        if "willReadFrequently" not in message.text:  # advice to the tests that read the canvas
            self.troubles.append(message.text)

    def interrupted(self, dialog: Any) -> None:
        self.troubles.append("dialog")
        dialog.dismiss()

    def open(self, folder: Path, address: str = "") -> None:
        self.page.goto((folder / "index.html").resolve().as_uri() + address)
        self.settle()

    def settle(self) -> None:
        """Until every tile asked for is here and drawn."""
        self.page.evaluate(
            """async () => {
              for (let k = 0; k < 3; k++) {
                await polykern.settled();
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              }
            }"""
        )

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Screen position of a map position."""
        spot = self.page.evaluate(
            """([x, y]) => {
              const p = polykern.screen(x, y), box = document.getElementById("map").getBoundingClientRect();
              return [p.x + box.left, p.y + box.top];
            }""",
            [x, y],
        )
        return spot[0], spot[1]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    found = Opened(page)
    yield found
    page.close()
    assert found.troubles == []
    assert found.requests
    assert all(url.startswith(("file:", "data:", "blob:")) for url in found.requests)


@pytest.mark.parametrize("n", [37, 1100])
def test_the_page_holds_every_count(heat_map_folder: Build, opened: Opened, n: int) -> None:
    folder = heat_map_folder(n=n)
    result = HeatMap.open(folder)
    viewer.write(result, folder / "viewer")
    opened.open(folder / "viewer")
    total, most = opened.page.evaluate(
        """async () => {
          const pk = polykern, across = Math.ceil(pk.data.side / pk.data.tile);
          let total = 0, most = 0;
          for (let r = 0; r < across; r++) {
            for (let c = 0; c < across; c++) {
              const tile = await pk.load(pk.keyOf("sum", 0, r, c));
              for (const v of tile.values) { total += v; most = Math.max(most, v); }
            }
          }
          return [total, most];
        }"""
    )
    assert total == int(result.counts.sum(dtype=np.uint64))
    assert most == int(result.counts.max())


@pytest.mark.parametrize("spot", [(0, 0), (511, 512), (700, 3), (1098, 1098)])
def test_the_readout_is_exact(heat_map_folder: Build, opened: Opened, spot: tuple[int, int]) -> None:
    folder = heat_map_folder(n=1100, lines=300)
    result = HeatMap.open(folder)
    assert result.classes is not None
    viewer.write(result, folder / "viewer")
    row, column = spot
    opened.open(folder / "viewer", f"#{column},{row},8,viridis")
    opened.page.mouse.move(*opened.at(column + 0.4, row + 0.3))
    count = int(result.counts[row, column])
    density = float(f"{count / (2 * result.step):.5g}")
    opened.page.wait_for_selector(f"#at-pixel:text-is('row {row}, column {column}')")
    opened.page.wait_for_selector(f"#at-count:text-is('{count:,}')")
    assert float(opened.page.text_content("#at-density")) == density
    smooth = float(opened.page.text_content("#at-smooth"))
    assert smooth == pytest.approx(float(result.smoothed[row, column]), rel=1e-4)
    u, v = map(float, opened.page.text_content("#at-plane").split(", "))
    assert u == pytest.approx(-5.0 + (column + 0.9) * result.step, abs=0.02 * result.step)
    assert v == pytest.approx(-5.5 + (row + 0.8) * result.step, abs=0.02 * result.step)
    opened.page.wait_for_selector(f"#at-class:text-is('{result.class_name(int(result.classes[row, column]))}')")


def test_the_canvas_shows_the_colours_of_the_counts(heat_map_folder: Build, opened: Opened) -> None:
    folder = heat_map_folder(n=37, lines=80)
    result = HeatMap.open(folder)
    viewer.write(result, folder / "viewer")
    opened.open(folder / "viewer", "#18,18,16,gray,sum,linear,0")
    most = int(result.counts.max())
    lowest = int(result.counts.min())
    read = "([x, y]) => [...document.getElementById('map').getContext('2d').getImageData(x, y, 1, 1).data]"
    for row, column in ((2, 3), (30, 5), (35, 20), (20, 33)):
        spot = opened.page.evaluate(
            "([x, y]) => { const p = polykern.screen(x, y); return [p.x, p.y]; }", [column + 0.5, row + 0.5]
        )
        red, green, blue, alpha = opened.page.evaluate(read, spot)
        wanted = 255 * (int(result.counts[row, column]) - lowest) / (most - lowest)
        assert (red, alpha) == (green, 255) == (blue, 255)
        assert abs(red - wanted) <= 1.5


def test_hostile_text_is_text(heat_map_folder: Build, opened: Opened) -> None:
    name = "".join(EVIL)
    folder = heat_map_folder(n=37, name=name, classes=EVIL[:3], labels=(*EVIL[3:], EVIL[0]), fields=EVIL[:2])
    viewer.write(HeatMap.open(folder), folder / "viewer")
    opened.open(folder / "viewer", "#18,18,16,inferno,class")
    page = opened.page
    assert page.evaluate("window.pwned") is None
    assert page.text_content("#name") == visible(name)
    assert page.title().startswith(visible(name).split("\u2400")[0][:20])
    assert page.evaluate("document.querySelectorAll('script:not([src])').length") == 1
    assert page.evaluate("[...document.images].every((i) => i.src.startsWith('data:image/png'))")
    assert page.text_content("footer summary").startswith("engine tiles")
    assert page.text_content("#provenance dd") == visible(name)
    shown = page.evaluate("[...document.querySelectorAll('#legend span')].map((e) => e.textContent)")
    assert set(shown) == {visible(c) for c in EVIL[:3]}
    labels = page.evaluate("[...document.querySelectorAll('#anchors b')].map((e) => e.textContent)")
    assert [text.split("  ", 1)[1] for text in labels] == [visible(c) for c in (*EVIL[3:], EVIL[0])]
    layers = page.evaluate("[...document.querySelectorAll('#view optgroup option')].map((e) => e.textContent)")
    assert layers == [visible(c) for c in EVIL[:2]]
    assert page.evaluate("window.pwned") is None


def test_a_click_on_an_edge_opens_its_profile(heat_map_folder: Build, opened: Opened) -> None:
    folder = heat_map_folder(n=200)
    result = HeatMap.open(folder)
    viewer.write(result, folder / "viewer")
    opened.open(folder / "viewer")
    b, c = result.anchors[1:]
    assert opened.page.is_hidden("#profile")
    opened.page.mouse.click(*opened.at((b.column + c.column) / 2, (b.row + c.row) / 2))
    opened.page.wait_for_selector("#profile-title:has-text('from B to C, 8.602 L2')")
    drawn = "document.getElementById('profile-plot').dataset.samples"
    assert opened.page.evaluate(drawn) == str(np.ceil(np.hypot(5, 7) / result.step).astype(int) + 1)
    assert "highest" in opened.page.get_attribute("#profile-plot", "aria-label")
    opened.page.keyboard.press("Escape")
    assert opened.page.is_hidden("#profile")


def test_the_address_holds_the_view(heat_map_folder: Build, opened: Opened) -> None:
    folder = heat_map_folder(n=200)
    viewer.write(HeatMap.open(folder), folder / "viewer")
    opened.open(folder / "viewer", "#40,60,6,batlow,smooth,log,3")
    state = "JSON.stringify([polykern.at.x, polykern.at.y, polykern.at.zoom, polykern.choice.colours])"
    assert json.loads(opened.page.evaluate(state)) == [40, 60, 6, "batlow"]
    chosen = [opened.page.input_value(f"#{k}") for k in ("view", "colours", "scale", "clip")]
    assert chosen == ["smooth", "batlow", "log", "3"]
    opened.page.focus("#map")
    for key in ("ArrowRight", "c", "s", "+"):
        opened.page.keyboard.press(key)
    opened.page.wait_for_url("**#53.33,60.00,9,gray,smooth,power,3")
    assert opened.page.text_content("#where") == "At the centre"


@pytest.mark.parametrize(
    "address", ["#", "#a,b,c", "#1,2,-3,jet", "#1e999,0,1", "#5,5,1,__proto__,constructor,x,99"]
)
def test_a_wrong_address_does_no_harm(heat_map_folder: Build, opened: Opened, address: str) -> None:
    folder = heat_map_folder(n=37)
    viewer.write(HeatMap.open(folder), folder / "viewer")
    opened.open(folder / "viewer", address)
    assert opened.page.input_value("#colours") == "inferno"
    assert opened.page.input_value("#view") == "sum"


def test_the_view_can_be_saved(heat_map_folder: Build, opened: Opened, tmp_path: Path) -> None:
    from PIL import Image

    folder = heat_map_folder(n=200)
    viewer.write(HeatMap.open(folder), folder / "viewer")
    opened.open(folder / "viewer")
    with opened.page.expect_download() as download:
        opened.page.click("#save")
    download.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as image:
        assert image.width > 900
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 100


def test_every_view_draws(heat_map_folder: Build, opened: Opened) -> None:
    folder = heat_map_folder(n=1100)
    viewer.write(HeatMap.open(folder), folder / "viewer")
    opened.open(folder / "viewer", "#600,600,0.5,inferno")
    read = """() => {
      const map = document.getElementById("map"), w = map.width, h = map.height;
      const seen = map.getContext("2d").getImageData(w * 0.25, h * 0.25, w / 2, h / 2).data;
      return new Set(new Uint32Array(seen.buffer)).size;
    }"""
    options = opened.page.evaluate("[...document.getElementById('view').options].map((o) => o.value)")
    assert options == ["sum", "max", "smooth", "class", "layer0", "layer1", "layer2"]
    for value in options:
        opened.page.select_option("#view", value)
        opened.settle()
        assert opened.page.evaluate(read) > 2, value
    opened.page.select_option("#view", "sum")
    opened.page.check("#overlay")
    opened.settle()
    assert opened.page.is_visible("#legend")
