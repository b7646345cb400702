"""A read-only web server for a finished folder, reachable from this machine alone."""

import re
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from polykern.errors import ResourceError, UsageError

LOOPBACK = "127.0.0.1"
PAGES = ("index.html", "viewer/index.html", "report/index.html")
_HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::(\d{1,5}))?")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
}


def bound(folder: Path | str, port: int = 0) -> ThreadingHTTPServer:
    """A server of `folder` on 127.0.0.1, listening but not yet answering.

    folder  a viewer or a report, or a heat map or a clustering with one in it
    port    0 for any free one; the one taken is `server_address[1]`

    Answers GET and HEAD for files below the folder (links out of it, dot files and listings are refused) and only
    under the names 127.0.0.1 and localhost, so that no other site can reach it through a name of its own.
    Raises UsageError without a page to show, ResourceError where the port is taken.
    """
    root = Path(folder).resolve()
    if not any((root / page).is_file() for page in PAGES):
        raise UsageError(f"{folder} holds no page", fix="name the folder of a finished heat map or report")
    try:
        return ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, directory=str(root)))
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"port {port} cannot be opened", why=str(error), fix="--port 0 takes a free one"
        ) from None


def serve(folder: Path | str, port: int = 0) -> None:
    """Answers requests for `folder` until interrupted; arguments and errors as for `bound`."""
    with bound(folder, port) as server:
        server.serve_forever()


class _Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of plain files below one folder."""

    server_version, sys_version = "polykern", ""

    def do_GET(self) -> None:
        if self._allowed():
            super().do_GET()

    def do_HEAD(self) -> None:
        if self._allowed():
            super().do_HEAD()

    def _allowed(self) -> bool:
        host = _HOST.fullmatch(self.headers.get("Host", ""))
        # without a port the name means port 80
        port = self.connection.getsockname()[1]
        if host is None or int(host[1] or 80) != port:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "another host's name")
            return False
        root = Path(self.directory)
        wanted = Path(self.translate_path(self.path))
        if wanted == root and not (root / "index.html").is_file():
            self.send_response(HTTPStatus.FOUND)
            page = next(page for page in PAGES if (root / page).is_file())
            self.send_header("Location", f"/{page.removesuffix('index.html')}")
            self.end_headers()
            return False
        inside = wanted.resolve().is_relative_to(root)
        hidden = any(part.startswith(".") for part in wanted.relative_to(root).parts)
        if not inside or hidden:
            self.send_error(HTTPStatus.NOT_FOUND)
            return False
        return True

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def guess_type(self, path: Any) -> str:
        return _TYPES.get(Path(path).suffix, "application/octet-stream")

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: a viewer's requests are no news."""
