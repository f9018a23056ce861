"""The page while a search runs: served to this machine only, newer whenever the record is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from nas.report.page import packed, page
from nas.storage import StudyError

HOST = "127.0.0.1"

Document = Callable[[], dict[str, Any]]


def serve_page(
    document: Document, port: int, live_seconds: float, say: Callable[[str], Any]
) -> None:
    """Serves until it is interrupted.

    Args:
        document: what the page shows, as it stands now.
        port: of 127.0.0.1; 0 takes a free one.
        live_seconds: how often a page asks again.
        say: told the address.

    Raises:
        StudyError: the port is taken.
    """
    handler = type("Handler", (_Handler,), {"source": _Source(document), "seconds": live_seconds})
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except OSError as problem:
        raise StudyError(f"port {port}: {problem.strerror}; choose another --port") from None
    with server:
        say(f"http://{HOST}:{server.server_port}/ (stop with Ctrl-C)")
        server.serve_forever()


class _Source:
    """One reader of the record, whoever asks."""

    def __init__(self, document: Document) -> None:
        self._document, self._lock = document, Lock()

    def __call__(self) -> dict[str, Any]:
        with self._lock:
            return self._document()


class _Handler(BaseHTTPRequestHandler):
    source: _Source
    seconds: float

    def do_GET(self) -> None:
        """The page, or the document alone when it is another one than the page has."""
        if self.path == "/":
            self._send(200, "text/html; charset=utf-8", page(self.source(), self.seconds))
        elif self.path == "/document":
            self._send_document()
        else:
            self._send(404, "text/plain; charset=utf-8", "there is / and /document")

    def _send_document(self) -> None:
        document = self.source()
        written = document.pop("written")
        tag = f'"{hashlib.sha256(packed(document).encode()).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            self.end_headers()
            return
        text = packed({**document, "written": written})
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
