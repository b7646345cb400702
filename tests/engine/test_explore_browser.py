"""The page of an exploration in Chromium: what it draws and says are the engine's numbers, wherever one goes."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.explore import Exploration, Tile
from polykern.explore.evaluation import Values
from polykern.maps.compute import compute
from polykern.maps.result import HeatMap
from polykern.plane import Grid, Window
from polykern.report.script import visible
from tests.engine.explored import recipe, served

pytestmark = pytest.mark.browser
EVIL = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "\u202egnp.exe\u2066\x00\x1b[31m",
    '" onmouseover="window.pwned=1',
)
COMMAND = ["polykern", "heatmap", "--model", "a b; rm -rf.py:net"]


@pytest.fixture(scope="module")
def exploration() -> Exploration:
    thumbnail = np.full((20, 30, 3), 99, np.uint8)
    about = {
        "name": "".join(EVIL),
        "classes": list(EVIL),
        "labels": list(EVIL[:3]),
        "anchor_classes": [0, 1, 2],
        "pictures": [thumbnail] * 3,
    }
    return Exploration(recipe(about=about), command=COMMAND)


@pytest.fixture(scope="module")
def port(exploration: Exploration) -> Iterator[int]:
    with served(exploration) as port:
        yield port


class Opened:
    """A page, what it asked for and what it complained about."""

    def __init__(self, page: Any, exploration: Exploration, port: int) -> None:
        self.page, self.exploration, self.home = page, exploration, f"http://127.0.0.1:{port}/"
        self.requests: list[str] = []
        self.troubles: list[str] = []
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("console", self.heard)
        page.on("pageerror", lambda e: self.troubles.append(str(e)))

    def heard(self, message: Any) -> None:
        if "willReadFrequently" not in message.text:  # advice to the tests that read the canvas
            self.troubles.append(message.text)

    def open(self, address: str = "") -> None:
        self.page.goto(self.home + address)
        self.settle()

    def settle(self) -> None:
        """Until every tile asked for is here and drawn."""
        self.page.evaluate(
            """async () => {
              for (let k = 0; k < 4; k++) {
                await polykern.settled();
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              }
            }"""
        )

    def text(self, id: str) -> str:
        return str(self.page.text_content(f"#{id}"))

    def under(self, x: float, y: float) -> tuple[int, Tile, int, int]:
        """Level, tile, row and column in it, below a point of the screen."""
        level, wx, wy = self.page.evaluate(
            """([x, y]) => {
              const box = document.getElementById("map").getBoundingClientRect();
              const p = polykern.world(x - box.left, y - box.top);
              return [polykern.levelOf(), p.x, p.y];
            }""",
            [x, y],
        )
        row, column = (int(np.floor(p * 256 * 2.0**level)) for p in (wy, wx))
        return level, Tile(level, row // 256, column // 256), row % 256, column % 256

    def values(self, tile: Tile) -> Values:
        found = self.exploration.evaluation.values([tile], lambda: True)
        assert found
        return found[0]


@pytest.fixture
def opened(browser: Any, exploration: Exploration, port: int) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1000, "height": 640})
    found = Opened(page, exploration, port)
    yield found
    page.close()
    assert found.troubles == []
    assert found.requests
    assert all(url.startswith((found.home, "data:", "blob:")) for url in found.requests)


def require_readout(opened: Opened, x: float, y: float) -> None:
    """What the page says under the pointer is what the engine gives there."""
    opened.page.mouse.move(x, y)
    level, tile, row, column = opened.under(x, y)
    values = opened.values(tile)
    count = int(values.counts[row, column])
    assert values.classes is not None
    step = opened.exploration.pyramid.step(level)
    opened.page.wait_for_selector(f"#at-count:text-is('{count:,}')", timeout=10_000)
    assert opened.text("where") == "Under the pointer"
    assert float(opened.text("at-density")) == float(f"{count / (2 * step):.5g}")
    assert opened.text("at-class") == visible(EVIL[int(values.classes[row, column])])
    assert opened.text("level").startswith(f"{level} · zoom ")
    window = opened.exploration.pyramid.window
    u, v = float(opened.text("at-u")), float(opened.text("at-v"))
    assert u == pytest.approx(window.u + (256 * tile.column + column + 0.5) * step, abs=0.7 * step)
    assert v == pytest.approx(window.v + (256 * tile.row + row + 0.5) * step, abs=0.7 * step)


def test_the_readout_is_exact_wherever_one_goes(opened: Opened) -> None:
    opened.open()
    mouse = opened.page.mouse
    require_readout(opened, 300, 300)
    mouse.move(350, 300)
    mouse.wheel(0, -480)  # in, about the pointer
    opened.settle()
    before = opened.under(350, 300)
    require_readout(opened, 350, 300)
    mouse.down()
    mouse.move(250, 340, steps=4)  # the point under the pointer comes along
    mouse.up()
    opened.settle()
    after = opened.under(250, 340)
    assert before[:2] == after[:2]
    assert abs(before[2] - after[2]) <= 1
    assert abs(before[3] - after[3]) <= 1
    require_readout(opened, 250, 340)
    for _ in range(12):
        mouse.dblclick(320, 260)
    opened.settle()
    assert opened.under(320, 260)[0] >= 12
    require_readout(opened, 320, 260)


def test_the_canvas_shows_the_colours_of_the_counts(opened: Opened) -> None:
    opened.open("#0.2,0.3,2,gray,density,linear,0")
    low, high = opened.page.evaluate(
        "(() => { const s = polykern.styleOf(polykern.levelOf()); return [s.low, s.high]; })()"
    )
    read = """([level, row, column]) => {
      const n = 256 * 2 ** level, p = polykern.screen((column + 0.5) / n, (row + 0.5) / n);
      return [...document.getElementById("map").getContext("2d").getImageData(p.x, p.y, 1, 1).data];
    }"""
    level, tile = opened.under(300, 300)[:2]
    counts = opened.values(tile).counts
    step, seen = opened.exploration.pyramid.step(level), set()
    for count in range(int(counts.max()) + 1):
        for row, column in np.argwhere(counts == count)[:3].tolist():
            spot = [level, 256 * tile.row + row, 256 * tile.column + column]
            red, green, blue, alpha = opened.page.evaluate(read, spot)
            assert (red, alpha) == (green, 255) == (blue, 255)
            assert abs(red - 255 * min(1.0, (count / (2 * step) - low) / (high - low))) <= 1.5
            seen.add(red)
    assert len(seen) > 1


def test_the_range_of_the_colours_stays_while_one_pans(opened: Opened) -> None:
    opened.open("#0,0,8")
    ask = "polykern.styleOf(polykern.levelOf()).id"
    before = opened.page.evaluate(ask)
    opened.page.focus("#map")
    for _ in range(8):
        opened.page.keyboard.press("ArrowRight")
    opened.settle()
    assert opened.page.evaluate(ask) == before
    opened.page.click("#refit")
    opened.settle()
    fitted = opened.page.evaluate(ask)
    assert fitted != before
    opened.page.check("#lock")
    opened.page.focus("#map")
    for _ in range(6):
        opened.page.keyboard.press("+")
    opened.settle()
    assert opened.page.evaluate(ask) == fitted
    opened.page.uncheck("#lock")
    opened.settle()
    assert opened.page.evaluate(ask) != fitted


def test_a_coarse_tile_stands_in_until_the_exact_one_is_there(opened: Opened) -> None:
    opened.open()
    opened.page.evaluate("polykern.want = () => {}")  # from here on nothing arrives
    opened.page.mouse.dblclick(300, 300)
    opened.page.mouse.move(310, 310)
    opened.page.wait_for_selector("#at-count:text-is('…')")
    seen = opened.page.evaluate(
        """() => {
          const map = document.getElementById("map");
          const all = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
          return new Set(new Uint32Array(all.buffer)).size;
        }"""
    )
    assert seen > 10


def test_the_address_holds_the_view(opened: Opened) -> None:
    opened.open("#0.25,-0.5,1000,batlow,class,log,3")
    chosen = [opened.page.input_value(f"#{k}") for k in ("colours", "view", "scale", "clip")]
    assert chosen == ["batlow", "class", "log", "3"]
    assert opened.text("level").endswith("zoom 1000")
    assert (float(opened.text("at-u")), float(opened.text("at-v"))) == (0.25, -0.5)
    opened.page.focus("#map")
    for key in ("c", "s", "v", "+"):
        opened.page.keyboard.press(key)
    opened.page.wait_for_url("**,1500,gray,density,power,3")
    address = opened.page.url.partition("/#")[2]
    assert [float(x) for x in address.split(",")[:2]] == pytest.approx([0.25, -0.5], rel=1e-15)
    opened.page.keyboard.press("0")
    opened.page.wait_for_url("**,1,gray,density,power,3")
    opened.page.focus("#command")  # a text, whose keys are its own
    for key in ("c", "s", "+"):
        opened.page.keyboard.press(key)
    opened.page.focus("#map")
    opened.page.keyboard.press("s")
    opened.page.wait_for_url("**,1,gray,density,linear,3")


@pytest.mark.parametrize(
    "address", ["#", "#a,b,c", "#1,2,-3,jet", "#1e999,0,1", "#0,0,1,__proto__,constructor,x,99"]
)
def test_a_wrong_address_does_no_harm(opened: Opened, address: str) -> None:
    opened.open(address)
    chosen = [opened.page.input_value(f"#{k}") for k in ("colours", "view", "scale", "clip")]
    assert chosen == ["inferno", "density", "linear", "2"]


def test_the_deepest_level_is_named_and_the_last(opened: Opened) -> None:
    deepest = opened.exploration.pyramid.deepest
    opened.open(f"#0,0,{2.0**deepest * 1e6}")
    opened.page.wait_for_selector("#notice:text('The deepest level')")
    assert opened.text("level").startswith(f"{deepest} · ")
    require_readout(opened, 300, 300)
    assert opened.text("progress").split(" · ")[0] in ("1 of 1", "2 of 2", "4 of 4")


def test_the_command_makes_the_file_of_the_view(opened: Opened, tmp_path: Path) -> None:
    opened.open("#0.4,0.2,3")
    words = shlex.split(opened.page.input_value("#command"))
    assert words[: len(COMMAND)] == COMMAND
    options = words[len(COMMAND) :]
    assert (options[0], options[4], options[6:]) == ("--window", "--resolution", ["--out", "view"])
    u, v, side = map(float, options[1:4])
    resolution = int(options[5])
    given = recipe()
    grid = Grid(given.grid.plane, Window(u, v, side), resolution)
    made: HeatMap = compute(replace(given, grid=grid), tmp_path / "view")
    level, tile = opened.under(300, 300)[:2]
    pyramid = opened.exploration.pyramid
    assert grid.step == pytest.approx(pyramid.step(level), rel=1e-12)
    offset = [round((a - b) / pyramid.step(level)) for a, b in ((v, pyramid.window.v), (u, pyramid.window.u))]
    top, left = 256 * tile.row - offset[0], 256 * tile.column - offset[1]
    rows, columns = (slice(max(0, a), min(resolution - 1, a + 256)) for a in (top, left))
    counts = opened.values(tile).counts[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    assert counts.size > 256 * 64
    assert np.array_equal(made.counts[rows, columns], counts)


def test_hostile_text_is_text(opened: Opened) -> None:
    opened.open("#0,0,2,inferno,class")
    page = opened.page
    assert page.evaluate("window.pwned") is None
    assert page.text_content("#name") == visible("".join(EVIL))
    assert page.evaluate("document.querySelectorAll('script:not([src])').length") == 1
    assert page.evaluate("[...document.images].every((i) => i.src.startsWith('data:image/png'))")
    assert page.evaluate("document.images.length") == 3
    labels = page.evaluate("[...document.querySelectorAll('#anchors b')].map((e) => e.textContent)")
    assert [text.split("  ", 1)[1] for text in labels] == [visible(c) for c in EVIL[:3]]
    shown = page.evaluate("[...document.querySelectorAll('#legend span')].map((e) => e.textContent)")
    assert shown
    assert set(shown) <= {visible(c) for c in EVIL}
    page.click("#anchors li:nth-child(2) button")
    opened.settle()
    u, v = opened.exploration.pyramid.plane.uv[1].tolist()
    assert float(opened.text("at-u")) == pytest.approx(u, abs=1e-3)
    assert float(opened.text("at-v")) == pytest.approx(v, abs=1e-3)
    assert page.evaluate("window.pwned") is None


def test_two_pages_do_not_disturb_each_other(opened: Opened, browser: Any, port: int) -> None:
    opened.page.goto(opened.home + "#0.1,0.1,5")
    other = browser.new_page(viewport={"width": 400, "height": 700})
    try:
        second = Opened(other, opened.exploration, port)
        second.open("#-0.3,0.2,40")
        opened.settle()
        for one in (opened, second):
            done, _, total = one.text("progress").partition(" of ")
            assert done == total
        require_readout(second, 150, 200)
        width = other.evaluate("document.documentElement.scrollWidth")
        assert width <= 400  # a small screen scrolls one way only
        assert second.troubles == []
    finally:
        other.close()


def test_a_server_that_is_gone_is_named(browser: Any) -> None:
    exploration = Exploration(recipe())
    page = browser.new_page(viewport={"width": 600, "height": 500})
    try:
        with served(exploration) as port:
            found = Opened(page, exploration, port)
            found.open()
        page.mouse.dblclick(100, 100)
        page.mouse.dblclick(100, 100)
        page.wait_for_selector("#notice:text('The server does not answer')")
    finally:
        page.close()
