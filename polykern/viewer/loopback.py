"""What every server of polykern keeps to: this machine alone, under its own name, silent."""

import re
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from polykern.errors import ResourceError

LOOPBACK = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
}
_HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::(\d{1,5}))?")


def listening(handler: Callable[..., BaseHTTPRequestHandler], port: int = 0) -> ThreadingHTTPServer:
    """A server on 127.0.0.1, listening but not yet answering.

    handler  made for every request
    port     0 for any free one; the one taken is `server_address[1]`

    Raises ResourceError where the port is taken.
    """
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler)
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"port {port} cannot be opened", why=str(error), fix="--port 0 takes a free one"
        ) from None


class Guarded(BaseHTTPRequestHandler):
    """Answers only under the names 127.0.0.1 and localhost: no other site gets in through a name of its own."""

    server_version, sys_version = "polykern", ""

    def named_rightly(self) -> bool:
        """Whether the request names this server; any other is refused."""
        host = _HOST.fullmatch(self.headers.get("Host", ""))
        # without a port the name means port 80
        port = self.connection.getsockname()[1]
        if host is None or int(host[1] or 80) != port:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "another host's name")
            return False
        return True

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: requests are no news."""
