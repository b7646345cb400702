"""The viewer's folder: exact values in its tiles, inert text in its page, and a server for this machine alone."""

import base64
import http.client
import json
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polykern import viewer
from polykern.errors import ResourceError, UsageError
from polykern.maps.result import HeatMap
from polykern.report.script import json_for_script, visible, visible_all
from polykern.viewer import tiles

Build = Callable[..., Path]
EVIL = "</script><script>window.pwned=1</script><!--<script><img src=x onerror=window.pwned=1>&\u2028\u202e"


def read_tile(path: Path) -> Any:
    """The array a tile holds, unpacked the way its format says."""
    found = re.fullmatch(r"polykern\.tile\((.*)\);\n", path.read_text())
    assert found
    key, kind, h, w, text = json.loads(found[1])
    assert key == path.stem
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(-1, h * w)
    return np.ascontiguousarray(planes.T).view(f"<{kind}").reshape(h, w)


def read_level(folder: Path, view: str, level: int) -> Any:
    """All tiles of a level, put together."""
    rows: dict[int, dict[int, Any]] = {}
    for path in (folder / "tiles").glob(f"{view}-{level}-*.js"):
        row, column = map(int, path.stem.split("-")[2:])
        rows.setdefault(row, {})[column] = read_tile(path)
    return np.block([[rows[r][c] for c in sorted(rows[r])] for r in sorted(rows)])


def page_data(folder: Path) -> Any:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', (folder / "index.html").read_text()
    )
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("n", [2, 37, 514, 1100])
def test_tiles_hold_every_count(heat_map_folder: Build, n: int) -> None:
    folder = heat_map_folder(n=n, lines=12)
    result = HeatMap.open(folder)
    viewer.write(result, folder / "viewer")
    counts = result.counts.astype(np.uint64)
    last = page_data(folder / "viewer")["last"]
    assert last == {2: 0, 37: 0, 514: 1, 1100: 2}[n]
    for level in range(last + 1):
        got = read_level(folder / "viewer", "sum", level)
        k = 1 << level
        edge = np.arange(0, n - 1, k)
        np.testing.assert_array_equal(got, np.add.reduceat(np.add.reduceat(counts, edge, 0), edge, 1))
        if level:
            peaks = np.maximum.reduceat(np.maximum.reduceat(counts, edge, 0), edge, 1)
            np.testing.assert_array_equal(read_level(folder / "viewer", "max", level), peaks)
    np.testing.assert_array_equal(read_level(folder / "viewer", "class", 0), result.classes)
    for k, layer in enumerate(result.layers):
        total = read_level(folder / "viewer", f"layer{k}", last).sum(dtype=np.uint64)
        assert int(total) == int(layer.sum(dtype=np.uint64))


def test_smoothed_density_is_kept(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=37)
    result = HeatMap.open(folder)
    viewer.write(result, folder / "viewer")
    np.testing.assert_array_equal(read_level(folder / "viewer", "smooth", 0), result.smoothed)


def test_counts_past_sixteen_bits_are_kept(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=600, lines=0)
    np.save(folder / "right.npy", np.full((600, 599), 65_535, np.uint16))
    np.save(folder / "down.npy", np.full((599, 600), 65_535, np.uint16))
    viewer.write(HeatMap.open(folder), folder / "viewer")
    assert (read_level(folder / "viewer", "sum", 0) == 131_070).all()
    assert read_level(folder / "viewer", "sum", 1)[0, 0] == 4 * 131_070


def test_a_boundless_map_has_a_range(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9, lines=0)
    viewer.write(HeatMap.open(folder), folder / "viewer")
    view = page_data(folder / "viewer")["views"][0]
    assert view["ranges"] == [{"low": [0.0] * 6, "high": [0.0] * 6, "least": None}]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_majorities_take_what_two_of_four_share(height: int, width: int, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 4, (height, width)).astype(np.uint16)
    got = tiles.majorities(array)
    assert got.shape == (-(-height // 2), -(-width // 2))
    for (i, j), value in np.ndenumerate(got):
        four = [array[min(2 * i + a, height - 1), min(2 * j + b, width - 1)] for a in (0, 1) for b in (0, 1)]
        assert four.count(value) == max(map(four.count, four))


def test_profiles_read_the_map_along_the_edges(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=200)
    result = HeatMap.open(folder)
    viewer.write(result, folder / "viewer")
    profile = page_data(folder / "viewer")["profiles"][0]
    a, b = result.anchors[:2]
    assert profile["length"] == pytest.approx(9.0)
    columns = np.floor(np.linspace(a.column, b.column, len(profile["counts"]))).astype(int)
    assert profile["counts"] == result.counts[int(a.row), columns].tolist()
    assert set(profile["classes"]) <= {0, 1, 2}
    assert profile["classes"][0] == 0
    assert profile["classes"][-1] == 1


def test_profiles_are_empty_outside_the_window(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=50, window=(2.0, 1.0, 4.0))
    viewer.write(HeatMap.open(folder), folder / "viewer")
    profiles = page_data(folder / "viewer")["profiles"]
    assert set(profiles[0]["counts"]) == {None}
    assert None in profiles[1]["counts"]
    assert any(c is not None for c in profiles[1]["counts"])


def test_the_page_lets_nothing_in(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9, name=EVIL, classes=(EVIL,) * 3, labels=(EVIL,) * 3, fields=(EVIL,))
    page = viewer.write(HeatMap.open(folder), folder / "viewer").read_text()
    nonce = re.search(r"script-src 'nonce-([0-9a-f]{32})'", page)
    assert nonce
    assert "default-src 'none'" in page
    assert "<img" not in page
    assert "<!--" not in page
    assert page.count("<script") == 10
    assert len(re.findall(rf'<script src="\w+\.js" nonce="{nonce[1]}">', page)) == 9
    assert not re.search(r"https?:|\son\w+=[\"']|javascript:", page)
    assert page_data(folder / "viewer")["name"] == visible(EVIL)


def test_the_scripts_make_no_markup_and_ask_nobody() -> None:
    scripts = list((Path(viewer.__file__).parent / "assets").glob("*.js"))
    assert len(scripts) == 9
    for path in scripts:
        text = path.read_text()
        banned = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|fetch\(|XMLHttp|import\("
        assert not re.search(banned, text), path.name
        assert "http" not in text
        assert len(text.splitlines()) <= 400


def test_the_same_map_gives_the_same_viewer(heat_map_folder: Build, tmp_path: Path) -> None:
    result = HeatMap.open(heat_map_folder(n=37))
    for name in ("one", "two"):
        viewer.write(result, tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert files
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_viewer_is_replaced_and_a_stranger_refused(heat_map_folder: Build, tmp_path: Path) -> None:
    result = HeatMap.open(heat_map_folder(n=9))
    viewer.write(result, tmp_path / "viewer")
    (tmp_path / "viewer" / "tiles" / "old.js").write_text("")
    viewer.write(result, tmp_path / "viewer")
    assert not (tmp_path / "viewer" / "tiles" / "old.js").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="something other"):
        viewer.write(result, tmp_path / "mine")
    with pytest.raises(UsageError, match="something other"):
        viewer.write(result, tmp_path / "mine" / "thesis.tex")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_failure_leaves_nothing_behind(
    heat_map_folder: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = HeatMap.open(heat_map_folder(n=9))
    monkeypatch.setattr(tiles, "write_tile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        viewer.write(result, tmp_path / "out" / "viewer")
    assert list((tmp_path / "out").iterdir()) == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_for_script_is_json_without_markup(value: Any) -> None:
    text = json_for_script(value)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_json_for_script_has_no_nan() -> None:
    assert json_for_script({"a": [float("nan"), float("inf"), 1.5]}) == '{"a": [null, null, 1.5]}'
    assert json.loads(json_for_script("\ud800")) == "\ud800"


@given(st.text(alphabet=st.characters()))
def test_visible_text_hides_nothing(text: str) -> None:
    shown = visible(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]", shown)
    assert visible(shown) == shown
    plain = "".join(c for c in text if c.isalnum())
    assert plain == "".join(c for c in text if visible(c) == c and c.isalnum())


def test_visible_shows_what_was_there() -> None:
    assert visible("a\x00b\n\u202ec\ud800\x85") == "a␀b␊[U+202E]c\ufffd[U+0085]"
    assert visible("Zürich 漢字 \U0001f600") == "Zürich 漢字 \U0001f600"
    assert visible_all({"\x01": ["\x02", 3]}) == {"␁": ["␂", 3]}


@contextmanager
def served(folder: Path) -> Iterator[int]:
    with viewer.bound(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, path: str, host: str | None = None, method: str = "GET") -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_the_server_answers_this_machine_alone(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9)
    page = viewer.write(HeatMap.open(folder), folder / "viewer")
    (folder.parent / "secret.txt").write_text("secret")
    (folder / ".hidden").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    with served(folder) as port:
        status, body, headers = ask(port, "/viewer/index.html")
        assert (status, body) == (200, page.read_bytes())
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert ask(port, "/viewer/", f"localhost:{port}")[0] == 200
        assert ask(port, "/viewer/tiles.js")[2]["Content-Type"].startswith("text/javascript")
        assert ask(port, "/right.npy")[1] == (folder / "right.npy").read_bytes()
        status, _, headers = ask(port, "/")
        assert (status, headers["Location"]) == (302, "/viewer/")
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "127.0.0.1",
            f"127.0.0.1:{port + 1}",
            f"127.0.0.1.evil:{port}",
        ):
            assert ask(port, "/viewer/index.html", host)[0] == 421, host
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/.hidden", "/link.txt", "/viewer/tiles/", "/none"):
            assert ask(port, path)[0] == 404, path
        assert ask(port, "/viewer/index.html", method="POST")[0] == 501
        assert ask(port, "/viewer/index.html", method="HEAD")[:2] == (200, b"")


@pytest.mark.parametrize("name", ["viewer", "report"])
def test_the_server_finds_the_page_in_a_result(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "index.html").write_text("<!doctype html>")
    with served(tmp_path) as port:
        status, _, headers = ask(port, "/")
        assert (status, headers["Location"]) == (302, f"/{name}/")
        assert ask(port, f"/{name}/")[1] == b"<!doctype html>"


def test_the_server_refuses_a_folder_without_a_page(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no page"):
        viewer.bound(tmp_path)


def test_a_taken_port_is_named(heat_map_folder: Build) -> None:
    folder = heat_map_folder(n=9)
    viewer.write(HeatMap.open(folder), folder / "viewer")
    with viewer.bound(folder / "viewer") as server:
        port = int(server.server_address[1])
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(ResourceError, match=f"port {port}"):
            viewer.bound(folder / "viewer", port)
