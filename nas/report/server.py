"""The page while a search runs: served to this machine only, newer whenever the record is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from nas.record.storage import StudyError
from nas.report.page import packed, page

HOST = "127.0.0.1"
_HOSTS = ("", HOST, "localhost")  # of an address with a port

Document = Callable[[], dict[str, Any]]
Stamp = Callable[[], Any]

_SHARE = 10  # a document is made again after so many times what it took: the search needs the cores


def serve_page(
    document: Document, stamp: Stamp, port: int, live_seconds: float, say: Callable[[str], Any]
) -> None:
    """Serves until it is interrupted.

    Args:
        document: makes what the page shows, as it stands now.
        stamp: another value than before when there is something new, and cheap.
        port: of 127.0.0.1; 0 takes a free one.
        live_seconds: how often a page asks again.
        say: told the address.

    Raises:
        StudyError: the port is taken.
    """
    handler = type(
        "Handler", (_Handler,), {"source": _Source(document, stamp), "seconds": live_seconds}
    )
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except OSError as problem:
        raise StudyError(f"port {port}: {problem.strerror}; choose another --port") from None
    with server:
        say(f"http://{HOST}:{server.server_port}/ (stop with Ctrl-C)")
        server.serve_forever()


class _Source:
    """The newest document, made once whoever asks, and not all the time."""

    def __init__(self, document: Document, stamp: Stamp) -> None:
        self._document, self._stamp, self._lock = document, stamp, Lock()
        self._made: dict[str, Any] = {}
        self._stamped: Any = None
        self._again_at = 0.0

    def __call__(self) -> dict[str, Any]:
        with self._lock:
            began = time.monotonic()
            if began >= self._again_at and (stamp := self._stamp()) != self._stamped:
                self._made, self._stamped = self._document(), stamp
                self._again_at = began + _SHARE * (time.monotonic() - began)
            return self._made


class _Handler(BaseHTTPRequestHandler):
    source: _Source
    seconds: float

    def do_GET(self) -> None:
        """The page, or the document alone when it is another one than the page has."""
        if (self.headers.get("Host") or HOST).rpartition(":")[0] not in _HOSTS:
            # Another site's name that was made to point here: its scripts may read nothing.
            self._send(403, "text/plain; charset=utf-8", f"ask for http://{HOST}")
        elif self.path == "/":
            self._send(200, "text/html; charset=utf-8", page(self.source(), self.seconds))
        elif self.path == "/document":
            self._send_document()
        else:
            self._send(404, "text/plain; charset=utf-8", "there is / and /document")

    def _send_document(self) -> None:
        text = packed(self.source())
        tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            self.end_headers()
            return
        self._send(200, "text/plain; charset=utf-8", text, {"ETag": tag})

    def _send(self, status: int, kind: str, text: str, heads: dict[str, str] | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        heads = {"Content-Type": kind, "Content-Length": str(len(content)), **(heads or {})}
        for name, value in heads.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal is the user's."""
