"""The server of an exploration: a page, and tiles for it, for this machine alone.

    GET  /        the page; what it loads lies beside it
    POST /tiles   {"token", "page", "tiles": [[level, row, column], ...]} -> frames as they are finished

A page that asks again is no longer answered what it asked before. Nothing is read from a disk.
"""

import hmac
import json
import re
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from polykern.errors import PolykernError, UsageError
from polykern.explore import frames
from polykern.explore.exploration import Exploration
from polykern.explore.pyramid import Pyramid, Tile
from polykern.report.pages import PAGE
from polykern.report.script import json_for_script
from polykern.viewer.loopback import TYPES, Guarded, listening

MOST_TILES = 512  # of one view: a 4K screen shows about 150
MOST_BYTES = 1 << 16  # of a request
MOST = 2**53  # of a row or a column: what JSON holds exactly
_PAGE = re.compile(r"[0-9a-f]{16}")


def bound(exploration: Exploration, port: int = 0) -> ThreadingHTTPServer:
    """A server of `exploration` on 127.0.0.1, listening but not yet answering.

    port  0 for any free one; the one taken is `server_address[1]`

    Answers only under the names 127.0.0.1 and localhost, and tiles only to its own page.
    Raises ResourceError where the port is taken.
    """
    return listening(partial(_Handler, exploration=exploration), port)


def asked(text: bytes, token: str) -> tuple[str, list[Tile]]:
    """The page and the tiles that a request's body asks for.

    Raises PermissionError without the token, ValueError where the body is broken.
    """
    given = json.loads(text)
    if not isinstance(given, dict):
        raise ValueError("no object")
    if not hmac.compare_digest(str(given.get("token")).encode(), token.encode()):
        raise PermissionError("the token is another one's: load the page again")
    page, tiles = given.get("page"), given.get("tiles")
    if not isinstance(page, str) or not _PAGE.fullmatch(page):
        raise ValueError("page must be 16 hexadecimal digits")
    if not isinstance(tiles, list) or len(tiles) > MOST_TILES:
        raise ValueError(f"tiles must be a list of at most {MOST_TILES}")
    return page, [_tile(t) for t in tiles]


def _tile(given: Any) -> Tile:
    whole = isinstance(given, list) and len(given) == 3 and all(type(x) is int for x in given)
    if not whole or max(map(abs, given)) > MOST:
        raise ValueError("a tile is [level, row, column]")
    return Tile(*given)


class _Handler(Guarded):
    """Requests of one exploration."""

    timeout = 60  # seconds that a request may dawdle

    def __init__(self, *args: Any, exploration: Exploration) -> None:
        self.exploration = exploration
        super().__init__(*args)

    def do_GET(self) -> None:
        self._file(body=True)

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_POST(self) -> None:
        if not self.named_rightly():
            return
        if urlsplit(self.path).path != "/tiles":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,18}", length):
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return
        if int(length) > MOST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            page, tiles = asked(self.rfile.read(int(length)), self.exploration.token)
        except PermissionError as error:
            self._refuse(HTTPStatus.FORBIDDEN, UsageError(str(error)))
        except (ValueError, RecursionError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, UsageError("the request cannot be read", why=str(error)))
        else:
            self._tiles(page, tiles)

    def _tiles(self, page: str, tiles: list[Tile]) -> None:
        """Stream what can be had of the tiles; a request of which nothing can be had is refused as a whole."""
        found = {tile: _objection(self.exploration.pyramid, tile) for tile in tiles}
        refused = {tile: no for tile, no in found.items() if no}
        if refused and len(refused) == len(found):
            self._refuse(HTTPStatus.BAD_REQUEST, next(iter(refused.values())))
            return
        scheduler = self.exploration.scheduler
        view = scheduler.view(page, [tile for tile in found if tile not in refused])
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            for tile, no in refused.items():
                self.wfile.write(frames.refusal(tile, no))
            for answer in scheduler.answers(view):
                self.wfile.write(_bytes(answer))
        except OSError:  # the page went on, or is gone
            self.close_connection = True
        finally:
            scheduler.leave(view)

    def _file(self, *, body: bool) -> None:
        if not self.named_rightly():
            return
        name = urlsplit(self.path).path.removeprefix("/") or PAGE
        content = self.exploration.files.get(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send(HTTPStatus.OK, TYPES[PurePosixPath(name).suffix], content if body else b"", len(content))

    def _refuse(self, status: HTTPStatus, error: PolykernError) -> None:
        content = json_for_script({"error": frames.told(error)}).encode("ascii")
        self._send(status, TYPES[".json"], content, len(content))

    def _send(self, status: HTTPStatus, kind: str, content: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.end_headers()
        self.wfile.write(content)


def _objection(pyramid: Pyramid, tile: Tile) -> UsageError | None:
    try:
        pyramid.require(tile)
    except UsageError as no:
        return no
    return None


def _bytes(answer: tuple[Tile, bytes | PolykernError] | None) -> bytes:
    if answer is None:
        return frames.PULSE
    tile, result = answer
    return frames.refusal(tile, result) if isinstance(result, PolykernError) else result
