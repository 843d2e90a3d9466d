"""A loopback HTTP server with switchable faults, for tests of downloads."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Request:
    """A request and its response."""

    path: str
    range: str | None
    if_range: str | None
    status: int = 0
    sent: int = 0


@dataclass
class Server:
    """Files by path, and how the server misbehaves; change the attributes between requests.

    Attributes
    ----------
    ranges
        Honour Range and If-Range.
    errors, status
        The first `errors` requests are answered with `status`.
    page
        Answer everything with an HTML page and status 200.
    truncate, truncations
        Close the connection after `truncate` bytes of body, in the first `truncations` requests.
    length
        Announce the size of the body.
    content_range
        Sent with status 206 in the place of the true one.
    stall
        Fall silent after that many bytes of body.
    pause
        Seconds between pieces of 16 KiB.
    requests
        Log, in order of arrival.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"first"'
    ranges: bool = True
    errors: int = 0
    status: int = 500
    page: bool = False
    truncate: int | None = None
    truncations: int = 1_000_000
    length: bool = True
    content_range: str | None = None
    stall: int | None = None
    pause: float = 0.0
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextlib.contextmanager
def serving(**attributes: object) -> Iterator[Server]:
    """Run a `Server` on a free port of 127.0.0.1 for the duration of the block."""
    server = Server(**attributes)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, server)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.address = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            http.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, server: Server) -> None:
    request = Request(handler.path, handler.headers.get("Range"), handler.headers.get("If-Range"))
    server.requests.append(request)
    number = len(server.requests)
    body = server.files.get(handler.path.lstrip("/"))
    headers: dict[str, str] = {}
    if number <= server.errors:
        request.status, body = server.status, b"broken"
    elif server.page:
        request.status, body = 200, b"<!DOCTYPE html>\n<html><title>Please log in</title></html>"
    elif body is None:
        request.status, body = 404, b"not here"
    else:
        request.status = 200
        headers = {"ETag": server.etag} if server.etag else {}
        asked = re.fullmatch(r"bytes=(\d+)-", request.range or "")
        if asked and server.ranges and request.if_range in (None, server.etag):
            first, size = int(asked[1]), len(body)
            request.status = 206 if first < size else 416
            headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}" if first < size else f"bytes */{size}"
            body = body[first:]
    handler.send_response(request.status)
    if request.status == 206 and server.content_range is not None:
        headers["Content-Range"] = server.content_range
    if server.length:
        headers["Content-Length"] = str(len(body))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    end = server.truncate if server.truncate is not None and number <= server.truncations else len(body)
    with contextlib.suppress(ConnectionError):
        _send(handler, server, request, body[:end])


def _send(handler: BaseHTTPRequestHandler, server: Server, request: Request, body: bytes) -> None:
    step = 1 << 14
    for start in range(0, len(body), step):
        if server.stall is not None and start >= server.stall:
            server.closing.wait(20)
            return
        request.sent += handler.wfile.write(body[start : start + step])
        if server.pause:
            server.closing.wait(server.pause)
