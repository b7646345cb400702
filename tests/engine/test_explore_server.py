"""The server of an exploration: its page, its tiles, and everything it refuses."""

import http.client
import json
import re
import socket
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import pytest
import torch

from polykern.dense import DenseEngine
from polykern.errors import ResourceError
from polykern.explore import Exploration, Tile, bound, server
from polykern.report.script import visible
from tests.engine.explored import frames, recipe, served

EVIL = "</script><script>window.pwned=1</script><!--<img src=x onerror=window.pwned=1>&\u2028\u202e"
PAGE = "0123456789abcdef"


class Live:
    """An exploration and the port it is answered on."""

    def __init__(self, exploration: Exploration, port: int) -> None:
        self.exploration, self.port = exploration, port

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Host": f"127.0.0.1:{self.port}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def tiles(self, tiles: list[Any], **changed: Any) -> tuple[int, bytes, Any]:
        body = {"token": self.exploration.token, "page": PAGE, "tiles": tiles, **changed}
        return self.ask("/tiles", "POST", json.dumps(body).encode())

    def works(self) -> bool:
        return self.ask("/")[0] == 200 and self.tiles([[6, 20, 20]])[0] == 200


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    exploration = Exploration(
        recipe(about={"name": EVIL, "classes": [EVIL] * 4, "labels": [EVIL] * 3, "weights": "0f" * 32}),
        command=["polykern", "heatmap", "--model", "a b.py:net"],
    )
    with served(exploration) as port:
        yield Live(exploration, port)


def test_the_page_and_what_it_loads(live: Live) -> None:
    status, body, headers = live.ask("/")
    page = body.decode()
    assert status == 200
    assert live.ask("/index.html")[1] == body
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    scripts = re.findall(r'<script src="(\w+\.js)" nonce="[0-9a-f]{32}">', page)
    styles = re.findall(r'<link rel="stylesheet" href="(\w+\.css)" nonce', page)
    assert (len(scripts), len(styles)) == (9, 2)
    for name in (*scripts, *styles):
        status, _, headers = live.ask(f"/{name}")
        assert status == 200
        assert headers["Content-Type"] == f"text/{'javascript' if name.endswith('js') else 'css'}; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"
    status, body, headers = live.ask("/gestures.js", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_the_page_lets_nothing_in(live: Live) -> None:
    page = live.ask("/")[1].decode()
    assert "default-src 'none'" in page
    assert "<img" not in page
    assert "<!--" not in page
    assert page.count("<script") == 10
    assert not re.search(r"https?:|\son\w+=[\"']|javascript:", page)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    data = json.loads(found[1])
    assert [a["label"] for a in data["anchors"]] == [visible(EVIL)] * 3
    assert [c["name"] for c in data["classes"]] == [visible(EVIL)] * 4
    assert len({c["colour"] for c in data["classes"]}) == 4
    assert data["command"] == "polykern heatmap --model 'a b.py:net'"
    assert data["deepest"] == live.exploration.pyramid.deepest


def test_the_scripts_make_no_markup_and_ask_only_their_server() -> None:
    asked: list[str] = []
    for path in (resources.files("polykern.explore") / "assets").iterdir():
        text = path.read_text()
        assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(|new Function|https?://", text), path
        asked += re.findall(r"fetch\(([^,]*),", text)
    assert asked == ['"tiles"']


def test_tiles_are_what_the_engine_gives(live: Live) -> None:
    asked = [[2, 1, 1], [2, -1, 2], [0, 0, 0]]
    status, body, headers = live.tiles(asked)
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    found = frames(body)
    assert [f["tile"] for f in found] == asked
    given = recipe()
    dense = DenseEngine(given.tail.to(torch.float64), torch.float64)
    pyramid = live.exploration.pyramid
    for got in found:
        tile = Tile(*got["tile"])
        (true,) = dense.blocks(pyramid.grid(tile.level), [pyramid.block(tile)])
        assert np.array_equal(got["counts"], (true.right + true.down).sum(0))
        assert true.classes is not None
        assert np.array_equal(got["classes"], true.classes)
    assert frames(live.tiles(asked[:1])[1])[0]["seconds"] == found[0]["seconds"]  # kept


def test_what_lies_beyond_float64_is_refused_in_words(live: Live) -> None:
    deepest = live.exploration.pyramid.deepest
    status, body, _ = live.tiles([[deepest + 1, 0, 0], [deepest + 2, 0, 0]])
    assert status == 400
    error = json.loads(body)["error"]
    assert error["what"] == f"there is no level {deepest + 1}"
    assert error["fix"] == f"levels are -6 .. {deepest}"
    status, body, _ = live.tiles([[deepest, 2**45, 0], [6, 3, 3]])  # one of the two can be had
    assert status == 200
    far, near = frames(body)
    assert "so far from the anchors" in far["error"]["what"]
    assert near["tile"] == [6, 3, 3]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1.evil:{}"])
def test_another_hosts_name_is_refused(live: Live, host: str) -> None:
    host = host.format(live.port)
    assert live.ask("/", Host=host)[0] == 421
    assert live.ask("/tiles", "POST", b"{}", Host=host)[0] == 421
    assert live.ask("/", "HEAD", Host=host)[0] == 421
    assert live.ask("/", Host=f"localhost:{live.port}")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/none", "/../pyproject.toml", "/%2e%2e/pyproject.toml", "/index.html.j2", "//etc/passwd", "/tiles", "/."],
)
def test_there_is_nothing_else_to_get(live: Live, path: str) -> None:
    assert live.ask(path)[0] == 404
    if path != "/tiles":
        assert live.ask(path, "POST", b"{}")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 30000,
        {"page": "x"}, {"page": 7}, {"page": PAGE.upper()}, {"tiles": None}, {"tiles": 3}, {"tiles": [[0, 0]]},
        {"tiles": [[0, 0, 0.5]]}, {"tiles": [[0, True, 0]]}, {"tiles": [["0", 0, 0]]}, {"tiles": [[0, 0, 10**400]]},
        {"tiles": [[2, 0, 0]] * 513}, {"tiles": [[99, 0, 0]]}, {"tiles": [[-99, 0, 0]]},
    ],
    ids=str,
)  # fmt: skip
def test_a_broken_request_is_refused(live: Live, body: Any) -> None:
    if isinstance(body, dict):
        whole = {"token": live.exploration.token, "page": PAGE, "tiles": [[0, 0, 0]], **body}
        body = json.dumps(whole).encode()
    status, answer, _ = live.ask("/tiles", "POST", body)
    assert status == 400
    assert json.loads(answer)["error"]["what"]
    assert live.works()


def test_tiles_are_for_the_page_alone(live: Live) -> None:
    for token in ("", "0" * 32, None, 5, "ü"):
        assert live.tiles([[0, 0, 0]], token=token)[0] == 403
    assert live.works()


def test_a_request_that_is_too_large_is_not_read(live: Live) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as wire:
        wire.sendall(
            f"POST /tiles HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nContent-Length: 65537\r\n\r\n".encode()
        )
        assert wire.recv(64).startswith(b"HTTP/1.0 413 ")
    assert live.works()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (b"POST /tiles HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"411"),
        (b"POST /tiles HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: -5\r\n\r\n", b"411"),
        (b"POST /tiles HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 9e9\r\n\r\n", b"411"),
        (b"PUT / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"501"),
        (b"GET /%s HTTP/1.1\r\n\r\n" % (b"a" * 70000), b"414"),
        (b"\x16\x03\x01 rubbish of all kinds\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
    ],
)
def test_broken_http_is_refused(live: Live, words: bytes, code: bytes) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as wire:
        wire.sendall(words % live.port if b"%d" in words else words)
        wire.shutdown(socket.SHUT_WR)
        assert code in wire.makefile("rb").read()[:400]
    assert live.works()


def test_a_page_that_hangs_up_does_no_harm(live: Live) -> None:
    body = json.dumps({"token": live.exploration.token, "page": "f" * 16, "tiles": [[3, 1, 1], [3, 1, 2]]}).encode()
    head = f"POST /tiles HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for text in (head + body, head + body[:10], head[:30]):
        with socket.create_connection(("127.0.0.1", live.port), timeout=60) as wire:
            wire.sendall(text)
    assert live.works()


def test_the_limits_hold_a_whole_screen() -> None:
    """The widest view there is, in the longest numbers there are, fits one request."""
    tiles = [[36, -(2**44), 2**44 + k] for k in range(server.MOST_TILES)]
    body = json.dumps({"token": "0" * 32, "page": PAGE, "tiles": tiles}).encode()
    assert len(body) <= server.MOST_BYTES
    assert len(server.asked(body, "0" * 32)[1]) == server.MOST_TILES


def test_a_taken_port_is_named(live: Live) -> None:
    with pytest.raises(ResourceError, match=f"port {live.port}"):
        bound(live.exploration, live.port)
