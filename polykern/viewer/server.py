"""A read-only web server for a finished folder, reachable from this machine alone."""

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from polykern.errors import UsageError
from polykern.viewer.loopback import TYPES, Guarded, listening

PAGES = ("index.html", "viewer/index.html", "report/index.html")


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
    return listening(partial(_Handler, directory=str(root)), port)


def serve(folder: Path | str, port: int = 0) -> None:
    """Answers requests for `folder` until interrupted; arguments and errors as for `bound`."""
    with bound(folder, port) as server:
        server.serve_forever()


class _Handler(Guarded, SimpleHTTPRequestHandler):
    """GET and HEAD of plain files below one folder."""

    def do_GET(self) -> None:
        if self._allowed():
            super().do_GET()

    def do_HEAD(self) -> None:
        if self._allowed():
            super().do_HEAD()

    def _allowed(self) -> bool:
        if not self.named_rightly():
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
        return TYPES.get(Path(path).suffix, "application/octet-stream")
